/* See rewards.h. */
#include "rewards.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* ---- loading ---- */

static int read_specs(struct reward_set *s, const struct option_list *texts, struct genarm_error *err) {
    for (size_t i = 0; i < texts->n; i++) {
        int code = arm_spec_parse(&s->specs[i], texts->items[i], file_exists, err);
        if (code) {
            return error_at(err, code, "--reward %s", texts->items[i]);
        }
        s->n = i + 1;
        if (s->specs[i].weight < 1 || s->specs[i].weight > 1) {
            return usage_error(err, "--reward", "\"%s\": a weight has no meaning here", texts->items[i]);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(s->specs[i].name, s->specs[j].name) == 0) {
                return error_hint(err,
                                  usage_error(err, "--reward", "two reward models are called \"%s\"", s->specs[i].name),
                                  "give each a name: --reward NAME=PATH");
            }
        }
    }
    return 0;
}

static int load_adapter(struct reward_set *s, size_t i, struct genarm_model *base, const struct model_args *args,
                        const struct genarm_model **model, struct genarm_error *err) {
    const struct arm_spec *spec = &s->specs[i];
    struct genarm_model_params params = genarm_model_default_params();
    bool is_adapter = false;
    int code = file_is_adapter(spec->path, &is_adapter, err);
    if (code) {
        return error_hint(err, code, "--reward takes " REWARD_FORM);
    }
    if (is_adapter == (spec->adapter != NULL)) {
        return usage_error(err, spec->path, is_adapter ? "this is an adapter, before '+' there must be a model"
                                                       : "this is a model: its adapter is missing, MODEL+ADAPTER");
    }
    if (!is_adapter) {
        params.device = args->device;
        params.n_gpu_layers = args->n_gpu_layers;
        code = genarm_model_load(&s->models[i], spec->path, &params, err);
    }
    *model = is_adapter ? base : s->models[i];
    return code ? code : genarm_adapter_load(&s->adapters[i], *model, is_adapter ? spec->path : spec->adapter, err);
}

static int load_one(struct reward_set *s, size_t i, struct genarm_model *base, const struct model_args *args,
                    const struct guide_args *guide, struct genarm_error *err) {
    struct genarm_reward_params params = genarm_reward_default_params();
    struct genarm_adapter_info info;
    const struct genarm_model *model = NULL;
    int code = load_adapter(s, i, base, args, &model, err);
    if (code) {
        return code;
    }
    genarm_adapter_get_info(s->adapters[i], &info);
    params.n_ctx = guide->n_ctx;
    params.n_batch = guide->n_batch;
    params.n_threads = args->n_threads > 0 ? args->n_threads : 0;
    params.template_name = info.template_name ? NULL : guide->chat_template;
    return genarm_reward_new(&s->rewards[i], model, s->adapters[i], &params, err);
}

int rewards_load(struct reward_set *s, const struct option_list *texts, struct genarm_model *base,
                 const struct model_args *model, const struct guide_args *guide, struct genarm_error *err) {
    const size_t n = texts->n + 1;
    s->specs = calloc(n, sizeof *s->specs);
    s->models = calloc(n, sizeof(struct genarm_model *));
    s->adapters = calloc(n, sizeof(struct genarm_adapter *));
    s->rewards = calloc(n, sizeof(struct genarm_reward *));
    if (!s->specs || !s->models || !s->adapters || !s->rewards) {
        return error_nomem(err, "reward models");
    }
    int code = read_specs(s, texts, err);
    for (size_t i = 0; i < s->n && code == 0; i++) {
        code = error_at(err, load_one(s, i, base, model, guide, err), "--reward %s", s->specs[i].name);
    }
    return code;
}

void rewards_free(struct reward_set *s) {
    for (size_t i = 0; i < s->n; i++) {
        genarm_reward_free(s->rewards[i]);
        genarm_adapter_free(s->adapters[i]);
        genarm_model_free(s->models[i]);
        arm_spec_deinit(&s->specs[i]);
    }
    free(s->rewards);
    free(s->adapters);
    free(s->models);
    free(s->specs);
    *s = (struct reward_set){0};
}

/* ---- scoring ---- */

int rewards_compute(const struct reward_set *s, const struct genarm_message *messages, size_t n_messages,
                    const char *response, bool open, double *values, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < s->n && code == 0; i++) {
        code = genarm_reward_text(s->rewards[i], messages, n_messages, response, !open, &values[i], err);
    }
    return code;
}

json_t *rewards_json(const struct reward_set *s, const double *values) {
    json_t *object = json_object();
    for (size_t i = 0; i < s->n && object; i++) {
        json_object_set_new(object, s->specs[i].name, json_rounded(values[i], 6));
    }
    return object;
}
