/* See setup.h. */
#include "setup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/file.h"
#include "model/gguf_check.h"
#include "preferences.h"
#include "tell.h"

struct genarm_model *setup_find_model(const struct setup *s, const char *path) {
    struct genarm_model_info info;
    genarm_model_get_info(s->base, &info);
    if (same_file(info.path, path)) {
        return s->base;
    }
    for (size_t i = 0; i < s->n_arms; i++) {
        if (s->models[i] && same_file(s->arms[i].path, path)) {
            return s->models[i];
        }
    }
    return NULL;
}

/* The model of ARM i: one loaded before where it is the same file, else newly loaded. */
static int arm_model(const struct genarm_model **out, struct setup *s, size_t i, const struct model_args *args,
                     struct genarm_error *err) {
    *out = setup_find_model(s, s->arms[i].path);
    if (*out) {
        return 0;
    }
    const struct genarm_model_params params = model_params_from(args);
    int code = genarm_model_load(&s->models[i], s->arms[i].path, &params, err);
    *out = s->models[i];
    return code;
}

/* TEMPLATE of --arm-template NAME=TEMPLATE, or NULL. */
static const char *arm_template(const struct guide_args *args, const char *name) {
    const char *found = NULL;
    size_t n = strlen(name);
    for (size_t i = 0; i < args->arm_templates.n; i++) {
        if (strncmp(args->arm_templates.items[i], name, n) == 0 && args->arm_templates.items[i][n] == '=') {
            found = args->arm_templates.items[i] + n + 1;
        }
    }
    return found;
}

bool minus_reference(const struct guide_args *args, const char *name) {
    for (size_t i = 0; i < args->minus_references.n; i++) {
        const char *text = args->minus_references.items[i];
        if (strcmp(text, name) == 0 || strcmp(text, "all") == 0) {
            return true;
        }
    }
    return false;
}

static int load_arm(struct setup *s, size_t i, const struct model_args *model, const struct guide_args *args,
                    struct genarm_error *err) {
    const struct arm_spec *spec = &s->arms[i];
    struct genarm_arm_params params = {
        .name = spec->name, .weight = spec->weight, .template_name = arm_template(args, spec->name),
        .minus_reference = minus_reference(args, spec->name)};
    bool is_adapter = false;
    int code = file_is_adapter(spec->path, &is_adapter, err);
    if (code) {
        if (!file_exists(spec->path)) { /* what is no path may be meant for another part of the form */
            err->hint[0] = '\0';
        }
        return error_hint(err, code, "is the path right? --arm takes " ARM_FORM);
    }
    if (is_adapter && spec->adapter) {
        return usage_error(err, spec->path, "this is an adapter, before '+' there must be a model");
    }
    if (is_adapter) {
        params.model = s->base;
    } else {
        code = arm_model(&params.model, s, i, model, err);
    }
    const char *adapter = is_adapter ? spec->path : spec->adapter;
    if (code == 0 && adapter) {
        code = genarm_adapter_load(&s->adapters[i], params.model, adapter, err);
    }
    params.adapter = s->adapters[i];
    if (code == 0) {
        code = genarm_guide_add_arm(s->guide, &params, err);
    }
    return error_at(err, code, "--arm %s", spec->name);
}

static bool is_arm(const struct setup *s, const char *name, size_t n) {
    for (size_t j = 0; j < s->n_arms; j++) {
        if (strncmp(s->arms[j].name, name, n) == 0 && strlen(s->arms[j].name) == n) {
            return true;
        }
    }
    return false;
}

/* Those that --arm-template and --minus-reference speak of. */
static int check_arm_names(const struct setup *s, const struct guide_args *args, struct genarm_error *err) {
    for (size_t i = 0; i < args->arm_templates.n; i++) {
        const char *text = args->arm_templates.items[i], *equals = strchr(text, '=');
        if (!equals) {
            return usage_error(err, "--arm-template", "\"%s\" is not NAME=TEMPLATE", text);
        }
        if (!is_arm(s, text, (size_t)(equals - text))) {
            return usage_error(err, "--arm-template", "no --arm is called \"%.*s\"", (int)(equals - text), text);
        }
    }
    for (size_t i = 0; i < args->minus_references.n; i++) {
        const char *text = args->minus_references.items[i];
        if (strcmp(text, "all") != 0 && !is_arm(s, text, strlen(text))) {
            return usage_error(err, "--minus-reference", "no --arm is called \"%s\"", text);
        }
    }
    return 0;
}

/* Reads --arm and the names of others, before anything is loaded. */
static int read_arms(struct setup *s, const struct guide_args *args, struct genarm_error *err) {
    size_t n = args->arms.n;
    s->arms = calloc(n + 1, sizeof *s->arms);
    s->models = calloc(n + 1, sizeof(struct genarm_model *));
    s->adapters = calloc(n + 1, sizeof(struct genarm_adapter *));
    if (!s->arms || !s->models || !s->adapters) {
        return error_nomem(err, "reward models");
    }
    for (size_t i = 0; i < n; i++) {
        int code = arm_spec_parse(&s->arms[i], args->arms.items[i], file_exists, err);
        if (code) {
            return error_at(err, code, "--arm %s", args->arms.items[i]);
        }
        s->n_arms = i + 1;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(s->arms[i].name, s->arms[j].name) == 0) {
                return error_hint(err,
                                  usage_error(err, "--arm", "two reward models are called \"%s\"", s->arms[i].name),
                                  "give each a name: --arm NAME=PATH");
            }
        }
    }
    return check_arm_names(s, args, err);
}

int setup_load(struct setup *s, const struct model_args *model, const struct guide_args *args, int32_t n_slots,
               struct genarm_error *err) {
    struct genarm_guide_params params = genarm_guide_default_params();
    *s = (struct setup){0};
    if (args->keys != args->values) {
        return usage_error(err, "-ctk", "keys and values are stored alike: the type of -ctv must be the same (or that of "
                           "LLAMA_ARG_CACHE_TYPE_K and LLAMA_ARG_CACHE_TYPE_V, where an option is not given)");
    }
    int code = read_arms(s, args, err);
    if (code == 0) {
        code = load_model(&s->base, model, err);
    }
    params.n_slots = n_slots;
    params.n_ctx = args->n_ctx;
    params.n_batch = args->n_batch;
    params.n_threads = model->n_threads > 0 ? model->n_threads : 0;
    params.kv_type = (enum genarm_kv_type)args->keys;
    params.no_sharing = args->no_sharing;
    params.template_name = args->chat_template;
    if (code == 0 && args->lora) {
        code = error_at(err, genarm_adapter_load(&s->lora, s->base, args->lora, err), "--lora");
    }
    params.base_adapter = s->lora;
    if (code == 0) {
        code = genarm_guide_new(&s->guide, s->base, &params, err);
    }
    for (size_t i = 0; i < s->n_arms && code == 0; i++) {
        code = load_arm(s, i, model, args, err);
    }
    return code ? code : preferences_set(s, &args->preferences, err);
}

int setup_steer(struct setup *s, const struct steer_args *args, int32_t n_logprobs, struct genarm_error *err) {
    return steer_load(&s->steer, args, n_logprobs, s->guide, s->base, err);
}

int setup_session(struct genarm_session **out, const struct setup *s, const struct genarm_sampling *sampling,
                  struct genarm_error *err) {
    struct genarm_session *session;
    int code = genarm_session_new(&session, s->guide, sampling, err);
    if (code) {
        return code;
    }
    code = steer_session(&s->steer, session, err);
    if (code == 0 && s->drafts) {
        code = genarm_session_set_draft(session, &s->draft, err);
    }
    if (code) {
        genarm_session_free(session);
        return code;
    }
    *out = session;
    return 0;
}

void setup_free(struct setup *s) {
    steer_free(&s->steer);
    genarm_guide_free(s->guide);
    for (size_t i = s->n_arms; i-- > 0;) {
        genarm_adapter_free(s->adapters[i]);
    }
    for (size_t i = s->n_arms; i-- > 0;) {
        genarm_model_free(s->models[i]);
        arm_spec_deinit(&s->arms[i]);
    }
    genarm_model_free(s->draft_model);
    genarm_adapter_free(s->lora);
    genarm_model_free(s->base);
    free(s->draft_weights);
    free(s->adapters);
    free(s->models);
    free(s->arms);
    *s = (struct setup){0};
}

const char *setup_model_name(const struct setup *s) {
    struct genarm_model_info info;
    genarm_model_get_info(s->base, &info);
    const char *slash = strrchr(info.path, '/');
    return slash ? slash + 1 : info.path;
}

struct genarm_sampling sampling_from(const struct sampling_args *args) {
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.temperature = (float)args->temperature;
    sampling.top_k = args->top_k;
    sampling.top_p = (float)args->top_p;
    sampling.min_p = (float)args->min_p;
    sampling.seed = (uint64_t)args->seed;
    if (args->seed < 0) {
        uint32_t drawn = 0; /* short enough to type */
        if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
            drawn = (uint32_t)getpid();
        }
        sampling.seed = drawn;
    }
    return sampling;
}
