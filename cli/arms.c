/* See arms.h. */
#include "arms.h"

#include "options.h"

int arm_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err) {
    struct arm_spec spec = {0};
    int code = part_spec_parse(&spec, text, exists, err);
    if (code) {
        arm_spec_deinit(&spec);
        if (err && code == GENARM_EINVAL) {
            err->code = CLI_USAGE;
        }
        return code == GENARM_EINVAL ? CLI_USAGE : code;
    }
    *out = spec;
    return 0;
}
