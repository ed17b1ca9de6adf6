/* Value guidance: see genarm/value.h. */
#include "genarm/value.h"

#include "guide/session.h"

struct genarm_value_params genarm_value_default_params(void) {
    return (struct genarm_value_params){.weight = 1.0f, .n_candidates = 10};
}

int genarm_guide_set_value(struct genarm_guide *guide, const struct genarm_value_params *params, struct genarm_error *err) {
    (void)guide;
    (void)params;
    return error_set(err, GENARM_EUNSUPPORTED, "value guidance is not there yet");
}

void genarm_session_get_work(const struct genarm_session *s, struct genarm_work *out) {
    (void)s;
    *out = (struct genarm_work){0};
}
