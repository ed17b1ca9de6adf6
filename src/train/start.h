/* What every run of training starts with: the adapter under training, that of its reference, how long texts may be, where
 * its result goes. */
#ifndef TRAIN_START_H
#define TRAIN_START_H

#include "genarm/train.h"
#include "train/lora.h"

/* Makes the adapter that the options ask for: a fresh one, conditioned on objectives where they have some, or a copy of
 * p->init_adapter. Rank, alpha and targets of `p`, which options_copy made, become those in effect. */
int start_adapter(struct trainable *t, struct genarm_train_params *p, const struct genarm_model *model, bool head,
                  struct genarm_error *err);

/* Loads p->reference_adapter; without one *t stays as it is, zeroed: the reference is the model alone. */
int start_reference(struct trainable *t, const struct genarm_train_params *p, const struct genarm_model *model,
                    struct genarm_error *err);

/* Cuts the maximum length to the model's context; the log has a warning where it is not the default. */
void start_max_length(struct genarm_train_params *p, const struct genarm_model *model);

/* The log has a warning where the learning rate would grow to the end. */
void start_warmup(const struct genarm_train_params *p, int64_t n_updates);

/* An adapter can be written to this path, as far as can be told before there is one. */
int start_check_output(const char *output, struct genarm_error *err);

/* Where the adapter of an epoch, from 1, is kept: "arm.gguf" becomes "arm.epoch1.gguf"; malloc'ed. NULL: no memory. */
char *start_epoch_output(const char *output, int32_t epoch);

/* Sees that a file can be written there, without writing it. */
int start_try_output(const char *path, struct genarm_error *err);

/* Sees that the adapter can be written, not only after the whole run, makes the folder of the checkpoint beside it, and takes
 * that for this run alone until start_release. *lock was -1. */
int start_output(int *lock, const char *output, const char *folder, struct genarm_error *err);

/* Gives the folder back, and removes it where it is empty. A lock of -1 is fine. */
void start_release(int lock, const char *folder);

#endif
