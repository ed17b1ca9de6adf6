/* The reading of --arm [NAME=]PATH[+ADAPTER][:WEIGHT]. */
#ifndef CLI_ARMS_H
#define CLI_ARMS_H

#include <stdbool.h>

#include "base/error.h"

#define ARM_FORM "[NAME=]PATH[+ADAPTER][:WEIGHT]"

struct arm_spec {
    char *name;    /* given, or the file's base name without its extension */
    char *path;    /* an adapter of the base, or a model */
    char *adapter; /* on the model at `path`; NULL: none */
    float weight;  /* 1 unless given */
};

/* Paths may contain '=', '+' and ':' themselves: among the readings of a text, the one whose files exist is taken, the
 * one with the most parts first; if there is none, the one with a name, a weight and "+" after ".gguf".
 * Errors: CLI_USAGE for a weight that is negative or not finite and for an empty part. */
int arm_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err);
void arm_spec_deinit(struct arm_spec *spec);

#endif
