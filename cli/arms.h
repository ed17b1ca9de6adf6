/* The reading of --arm [NAME=]PATH[+ADAPTER][:WEIGHT]. */
#ifndef CLI_ARMS_H
#define CLI_ARMS_H

#include "reward/spec.h"

#define ARM_FORM PART_FORM

/* As part_spec_parse, with CLI_USAGE for what it refuses. */
int arm_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err);

#endif
