/* Objectives: what the preference of a conditioned adapter weighs against one another (PARM, Lin et al., ICML 2025).
 *
 * The change of a map is linear in the preference a, on the simplex of k objectives:
 *
 *     dW(a) = s (B1 W1 A1 + B2 (sum_i a_i T_i) A2)                                                  (PARM, eq. 5)
 *
 * so it is a stack of ordinary LoRA parts of which k are scaled: A = [A1; A2; ...; A2] and, at the even preference a_i = 1 / k,
 * B = [B1 W1, B2 T_1 / k, ..., B2 T_k / k]. That is how the file holds it, as a plain adapter of rank r1 + k r2: any reader
 * of LoRA has the even preference, to the bit, and another one multiplies the columns of objective i by k a_i.
 */
#ifndef MODEL_OBJECTIVES_H
#define MODEL_OBJECTIVES_H

#include <gguf.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { OBJECTIVES_MAX = 16, OBJECTIVES_NAME_MAX = 64 /* bytes */ };

struct objectives {
    char *names[OBJECTIVES_MAX]; /* [n] owned */
    int32_t n;                   /* 0: the adapter is a plain one */
    int32_t rank;                /* r2: slots of each objective; all n * rank of them are a map's last */
};

/* A preference among some objectives. */
struct objective_weights {
    float weights[OBJECTIVES_MAX]; /* [n] >= 0, their sum is 1 */
    float factors[OBJECTIVES_MAX]; /* [n] of the slots: 1 where the preference is even */
};

/* GENARM_EINVAL unless it is 1 to 64 bytes of UTF-8 without spaces, control characters and any of ,=:@/ */
int objectives_check_name(const char *name, struct genarm_error *err);

/* Adds a name that passes and is new. */
int objectives_add(struct objectives *o, const char *name, struct genarm_error *err);
void objectives_deinit(struct objectives *o); /* safe on a zeroed struct */

/* Index of a name of n bytes; -1: there is none. */
int32_t objectives_find(const struct objectives *o, const char *name, size_t n);

/* From and to the metadata genarm.objectives and genarm.objectives.rank. Without the keys *o stays as it is. */
int objectives_read(struct objectives *o, const struct gguf_context *g, struct genarm_error *err);
void objectives_write(struct gguf_context *g, const struct objectives *o);

/* All objectives alike. */
void objectives_prefer_evenly(struct objective_weights *p, const struct objectives *o);

/* From n weights >= 0 in the order of the objectives, which are divided by their sum. On failure *p is as before. */
int objectives_prefer(struct objective_weights *p, const struct objectives *o, const float *weights, size_t n,
                      struct genarm_error *err);

/* Multiplies the slots of each objective among the `rank` slots of a map, slots[i * stride], by its factor. */
void objectives_weigh(const struct objectives *o, const float *factors, int64_t rank, float *slots, size_t stride);

#endif
