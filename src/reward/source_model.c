/* The model and the adapter that a spec names. */
#include <string.h>

#include "base/file.h"
#include "model/gguf_check.h"
#include "reward/source.h"

static int wrong_use(struct genarm_error *err, const char *path, const char *what) {
    return error_at(err, error_set(err, GENARM_EINVAL, "%s", what), "%s", path);
}

int source_model_load(struct source_model *out, const struct arm_spec *spec, const struct genarm_model *base,
              const struct genarm_source_params *params, struct genarm_error *err) {
    struct source_model m = {.model = base};
    bool is_adapter = false;
    int rc = file_is_adapter(spec->path, &is_adapter, err);
    if (rc != GENARM_OK) {
        if (err && !file_exists(spec->path)) { /* what is no path may be meant for another part of the form */
            err->hint[0] = '\0';
        }
        return error_hint(err, rc, "is the path right? a reward is [KIND:]" PART_FORM
                          ", KIND being rm, arm, ratio, rank, cmd or openai");
    }
    if (is_adapter && spec->adapter) {
        return wrong_use(err, spec->path, "this is an adapter, before '+' there must be a model");
    }
    if (is_adapter && !base) {
        return wrong_use(err, spec->path, "this is an adapter and there is no base model to put it on");
    }
    if (!is_adapter) {
        rc = genarm_model_load(&m.own, spec->path, &params->model, err);
        m.model = m.own;
    }
    const char *adapter = is_adapter ? spec->path : spec->adapter;
    if (rc == GENARM_OK && adapter) {
        rc = genarm_adapter_load(&m.adapter, m.model, adapter, err);
    }
    if (rc != GENARM_OK) {
        source_model_free(&m);
        return rc;
    }
    *out = m;
    return GENARM_OK;
}

void source_model_free(struct source_model *m) {
    genarm_adapter_free(m->adapter);
    genarm_model_free(m->own);
    *m = (struct source_model){0};
}

const char *source_model_template(const struct source_model *m, const struct genarm_source_params *params) {
    struct genarm_adapter_info info = {0};
    if (m->adapter) {
        genarm_adapter_get_info(m->adapter, &info);
    }
    return info.template_name ? info.template_name : params->template_name;
}
