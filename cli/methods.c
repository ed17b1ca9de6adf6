/* See methods.h. */
#include "methods.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "genarm/value.h"
#include "settings.h"
#include "tell.h"

enum { DEFAULT_BEST_OF = 16, DEFAULT_CANDIDATES = 10, DEFAULT_ROLLOUT = 20, DEFAULT_ROLLOUT_INDIRECT = 5 };

const char *method_name(enum method_kind kind) {
    static const char *const names[] = {
#define METHOD_NAME(id, name) name,
        METHODS(METHOD_NAME)
#undef METHOD_NAME
    };
    return names[kind];
}

static bool looks_ahead(enum method_kind kind) { return kind == METHOD_ARGS || kind == METHOD_TRANSFER_Q; }

static int32_t or_default(int32_t given, int32_t fallback) { return given ? given : fallback; }

static int32_t rollout(const struct method_args *args) {
    return or_default(args->rollout, args->indirect ? DEFAULT_ROLLOUT_INDIRECT : DEFAULT_ROLLOUT);
}

/* ---- options ---- */

/* Which options say something to which methods. */
static int check_given(const struct method_args *a, const struct reward_args *rewards, struct genarm_error *err) {
    const struct {
        const char *option;
        bool given;
        const char *of; /* methods */
        bool allowed;
    } rules[] = {
        {"--best-of", a->best_of != 0, "best-of-n", a->kind == METHOD_BEST_OF_N},
        {"--candidates", a->candidates != 0, "args or transfer-q", looks_ahead((enum method_kind)a->kind)},
        {"--rollout", a->rollout != 0, "transfer-q", a->kind == METHOD_TRANSFER_Q},
        {"--baseline", a->baseline != NULL, "transfer-q", a->kind == METHOD_TRANSFER_Q},
        {"--indirect", a->indirect, "transfer-q", a->kind == METHOD_TRANSFER_Q},
        {"--indirect-beta", a->beta > 0, "transfer-q --indirect", a->kind == METHOD_TRANSFER_Q && a->indirect},
        {"--reward", rewards->specs.n > 0, "best-of-n, args or transfer-q", a->kind != METHOD_GUIDED},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (rules[i].given && !rules[i].allowed) {
            const int code = usage_error(err, rules[i].option, "it is for --method %s, and this is %s", rules[i].of,
                                         method_name((enum method_kind)a->kind));
            return error_hint(err, code, a->kind == METHOD_GUIDED ? "say --method NAME as well; --arm steers with ARMs" : "");
        }
    }
    return 0;
}

static int read_specs(struct method *m, const struct option_list *texts, struct genarm_error *err) {
    m->specs = calloc(texts->n + 1, sizeof *m->specs);
    if (!m->specs) {
        return error_nomem(err, "arguments");
    }
    for (size_t i = 0; i < texts->n; i++) {
        int code = source_spec_parse(&m->specs[i], texts->items[i], file_exists, err);
        if (code) {
            code = code == GENARM_EINVAL ? CLI_USAGE : code;
            if (err) {
                err->code = code;
            }
            return error_at(err, code, "--reward %s", texts->items[i]);
        }
        m->n_specs++;
    }
    return 0;
}

/* What looks ahead does so with one reward model. */
static int check_value(const struct method *m, bool drafts, struct genarm_error *err) {
    const char *name = method_name(m->kind);
    if (m->n_specs != 1) {
        const int code = usage_error(err, "--reward", "--method %s looks ahead with one reward model, not with %zu", name,
                                     m->n_specs);
        return error_hint(err, code, "give --reward [rm:][NAME=]PATH[+ADAPTER][:WEIGHT] once: what genarm train --loss bt made");
    }
    if (m->specs[0].kind != SOURCE_RM) {
        const int code = usage_error(err, "--reward", "--method %s asks at every token, which only a reward model (rm:) can "
                                     "answer, not %s:", name, source_kind_name(m->specs[0].kind));
        return error_hint(err, code, "--method best-of-n takes any kind; an ARM steers with --arm");
    }
    if (drafts) {
        return usage_error(err, "--method", "tokens of %s cannot be drafted: leave out -md, --draft-arm and --spec-type", name);
    }
    return 0;
}

int method_read(struct method *m, const struct method_args *args, const struct reward_args *rewards,
                const struct guide_args *guide, bool drafts, struct genarm_error *err) {
    *m = (struct method){.kind = (enum method_kind)args->kind, .n_samples = 1};
    int code = check_given(args, rewards, err);
    code = code ? code : read_specs(m, &rewards->specs, err);
    if (code == 0 && m->kind == METHOD_BEST_OF_N) {
        m->n_samples = or_default(args->best_of, DEFAULT_BEST_OF);
        if (m->n_specs == 0) {
            code = usage_error(err, "--reward", "--method best-of-n keeps the answer of the highest reward: say which one");
            error_hint(err, code, "--reward " REWARD_FORM);
        }
    } else if (code == 0 && looks_ahead(m->kind)) {
        code = check_value(m, drafts, err);
    }
    if (code == 0 && args->indirect && !args->baseline && !guide->lora) {
        code = usage_error(err, "--indirect", "the baseline is the base itself: there is nothing to weigh it against");
        error_hint(err, code, "give what was aligned with another reward: --baseline FILE.gguf");
    }
    return code;
}

/* ---- loading ---- */

/* The reward model of every token. A model that the guide has is not loaded again. */
static int load_value(struct method *m, const struct setup *setup, const struct genarm_source_params *params,
                      struct genarm_error *err) {
    const struct arm_spec *part = &m->specs[0].part;
    struct genarm_model *known = part->adapter ? setup_find_model(setup, part->path) : NULL;
    if (!known) {
        const int code = source_model_load(&m->value, part, setup->base, params, err);
        return error_at(err, code, "--reward %s", part->name);
    }
    m->value.model = known;
    return error_at(err, genarm_adapter_load(&m->value.adapter, known, part->adapter, err), "--reward %s", part->name);
}

static int set_value(struct method *m, const struct method_args *args, const struct setup *setup,
                     const struct model_args *model, const struct guide_args *guide, struct genarm_error *err) {
    struct genarm_source_params params = genarm_source_default_params();
    params.template_name = guide->chat_template;
    params.model = model_params_from(model);
    int code = load_value(m, setup, &params, err);
    if (code == 0 && !m->value.adapter) {
        code = usage_error(err, "--reward", "%s is a model: its adapter with a head is missing", m->specs[0].part.path);
        error_hint(err, code, "--reward MODEL+ADAPTER, or an adapter of the base alone");
    }
    if (code == 0 && args->baseline) {
        code = error_at(err, genarm_adapter_load(&m->baseline, setup->base, args->baseline, err), "--baseline");
    }
    if (code) {
        return code;
    }
    struct genarm_value_params value = genarm_value_default_params();
    value.model = m->value.model;
    value.adapter = m->value.adapter;
    value.template_name = source_model_template(&m->value, &params);
    value.weight = m->specs[0].part.weight;
    value.n_candidates = or_default(args->candidates, DEFAULT_CANDIDATES);
    value.n_rollout = m->kind == METHOD_TRANSFER_Q ? rollout(args) : 0;
    value.baseline = m->baseline;
    value.indirect = args->indirect;
    value.beta = args->beta > 0 ? (float)args->beta : value.beta;
    return error_at(err, genarm_guide_set_value(setup->guide, &value, err), "--method %s", method_name(m->kind));
}

int method_load(struct method *m, const struct method_args *args, const struct reward_args *rewards, const struct setup *setup,
                const struct model_args *model, const struct guide_args *guide, struct genarm_error *err) {
    switch (m->kind) {
    case METHOD_GUIDED:
        return 0;
    case METHOD_BEST_OF_N:
        return rewards_load(&m->rewards, rewards, true, NULL, setup->base, model, guide, err);
    case METHOD_ARGS:
    case METHOD_TRANSFER_Q:
        return set_value(m, args, setup, model, guide, err);
    }
    return 0;
}

void method_free(struct method *m, struct setup *setup) {
    genarm_guide_free(setup->guide);
    setup->guide = NULL;
    rewards_free(&m->rewards);
    genarm_adapter_free(m->baseline);
    source_model_free(&m->value);
    for (size_t i = 0; i < m->n_specs; i++) {
        source_spec_deinit(&m->specs[i]);
    }
    free(m->specs);
    *m = (struct method){0};
}

/* ---- files and settings ---- */

int method_keep_inputs(const struct method *m, const struct method_args *args, const char *option, const char *output,
                       struct genarm_error *err) {
    int code = keep_input(option, output, args->baseline, err);
    for (size_t i = 0; i < m->n_specs && code == 0; i++) {
        code = keep_spec(option, output, &m->specs[i], err);
    }
    return code;
}

static int describe_rewards(const struct method *m, json_t *settings, struct genarm_error *err) {
    json_t *list = json_array();
    int code = 0;
    for (size_t i = 0; i < m->n_specs && code == 0; i++) {
        const struct source_spec *spec = &m->specs[i];
        json_t *item = json_pack("{s:s, s:o, s:f}", "kind", source_kind_name(spec->kind), "name", text_json(spec->part.name),
                                 "weight", (double)spec->part.weight);
        code = item ? settings_add_file(item, "file", spec->part.path, err) : error_nomem(err, "settings");
        if (code == 0 && spec->part.adapter) {
            code = settings_add_file(item, "adapter", spec->part.adapter, err);
        }
        json_array_append_new(list, item);
    }
    if (json_object_set_new(settings, "--reward", list) != 0 && code == 0) {
        code = error_nomem(err, "settings");
    }
    return code;
}

int method_describe(const struct method *m, const struct method_args *args, json_t *settings, struct genarm_error *err) {
    bool ok = true;
    if (m->kind == METHOD_BEST_OF_N) {
        ok = json_object_set_new(settings, "--best-of", json_integer(m->n_samples)) == 0;
    }
    if (looks_ahead(m->kind)) {
        ok = json_object_set_new(settings, "--candidates", json_integer(or_default(args->candidates, DEFAULT_CANDIDATES))) == 0;
    }
    if (ok && m->kind == METHOD_TRANSFER_Q) {
        ok = json_object_set_new(settings, "--rollout", json_integer(rollout(args))) == 0;
    }
    if (ok && args->indirect) {
        const struct genarm_value_params value = genarm_value_default_params();
        ok = json_object_set_new(settings, "--indirect-beta", json_real(args->beta > 0 ? args->beta : (double)value.beta)) == 0;
    }
    int code = ok ? 0 : error_nomem(err, "settings");
    if (code == 0 && args->baseline) {
        code = settings_add_file(settings, "--baseline", args->baseline, err);
    }
    return code || m->n_specs == 0 ? code : describe_rewards(m, settings, err);
}
