/* Reading what names a reward: [NAME=]PATH[+ADAPTER][:WEIGHT] and, before it, the kind of a source. */
#ifndef REWARD_SPEC_H
#define REWARD_SPEC_H

#include <stdbool.h>

#include "base/error.h"

#define PART_FORM "[NAME=]PATH[+ADAPTER][:WEIGHT]"

struct arm_spec {
    char *name;    /* given, or the file's base name without its extension */
    char *path;    /* an adapter of the base, or a model */
    char *adapter; /* on the model at `path`; NULL: none */
    float weight;  /* finite; 1 unless given */
};

/* Paths may contain '=', '+' and ':' themselves: among the readings of a text, the one whose files exist is taken, the
 * one with the most parts first; if there is none, the one with a name, a weight and "+" after ".gguf".
 * GENARM_EINVAL: a weight that is not finite, an empty part. */
int part_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err);
void arm_spec_deinit(struct arm_spec *spec); /* safe on a zeroed struct */

/* The kinds of sources: id, prefix. SOURCE_RM is also what no prefix means. */
#define SOURCE_KINDS(X)                                                                                                \
    X(SOURCE_RM, "rm")                                                                                                 \
    X(SOURCE_ARM, "arm")                                                                                               \
    X(SOURCE_ARM_MEAN, "arm-mean")                                                                                     \
    X(SOURCE_RATIO, "ratio")                                                                                           \
    X(SOURCE_RATIO_MEAN, "ratio-mean")                                                                                 \
    X(SOURCE_RANK, "rank")                                                                                             \
    X(SOURCE_CMD, "cmd")                                                                                               \
    X(SOURCE_OPENAI, "openai")

enum source_kind {
#define SOURCE_KIND_ENUM(id, prefix) id,
    SOURCE_KINDS(SOURCE_KIND_ENUM)
#undef SOURCE_KIND_ENUM
};

struct source_spec {
    enum source_kind kind;
    struct arm_spec part; /* of a rank source, path is the GGUF and adapter the label; of a cmd source, path is the command
                             and the default name; of an openai source, path is the model and the default name, adapter the
                             base URL */
};

/* The same with a kind before it. "rank:" has [#LABEL] in the place of [+ADAPTER]. Of "cmd:[NAME=]COMMAND[:WEIGHT]", NAME
 * consists of letters, digits and any of "_.-", and WEIGHT is what follows the last ':' when that is a number; so it is of
 * "openai:[NAME=]MODEL@BASE_URL[:WEIGHT]", but for a number that can be the URL's port. */
int source_spec_parse(struct source_spec *out, const char *text, bool (*exists)(const char *path),
                      struct genarm_error *err);
void source_spec_deinit(struct source_spec *spec); /* safe on a zeroed struct */

const char *source_kind_name(enum source_kind kind);

#endif
