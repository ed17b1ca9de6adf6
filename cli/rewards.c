/* See rewards.h. */
#include "rewards.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "settings.h"
#include "tell.h"
#include "terminal.h"

/* ---- loading ---- */

int rewards_check(const struct option_list *texts, bool weighted, struct genarm_error *err) {
    struct source_spec *specs = calloc(texts->n + 1, sizeof *specs);
    int code = specs ? 0 : error_nomem(err, "arguments");
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        code = source_spec_parse(&specs[i], texts->items[i], file_exists, err);
        if (code) {
            code = code == GENARM_EINVAL ? CLI_USAGE : code;
            if (err) {
                err->code = code;
            }
            error_at(err, code, "--reward %s", texts->items[i]);
        } else if (!weighted && (specs[i].part.weight < 1 || specs[i].part.weight > 1)) {
            code = usage_error(err, "--reward", "\"%s\": a weight has no meaning here", texts->items[i]);
            error_hint(err, code, "a command that ends in ':' and a number needs a blank behind it");
        }
        for (size_t j = 0; j < i && code == 0; j++) {
            if (strcmp(specs[i].part.name, specs[j].part.name) == 0) {
                code = usage_error(err, "--reward", "two rewards are called \"%s\"", specs[i].part.name);
                error_hint(err, code, "give each a name: --reward NAME=PATH");
            }
        }
    }
    for (size_t i = 0; i < texts->n && specs; i++) {
        source_spec_deinit(&specs[i]);
    }
    free(specs);
    return code;
}

int keep_spec(const char *option, const char *output, const struct source_spec *spec, struct genarm_error *err) {
    const enum source_kind kind = spec->kind;
    const bool program = kind == SOURCE_CMD || kind == SOURCE_OPENAI;
    const int code = program ? 0 : keep_input(option, output, spec->part.path, err);
    return code || program || kind == SOURCE_RANK ? code : keep_input(option, output, spec->part.adapter, err);
}

int keep_rewards(const char *option, const char *output, const struct option_list *specs, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < specs->n && code == 0; i++) {
        struct source_spec spec = {0};
        if (source_spec_parse(&spec, specs->items[i], file_exists, NULL) == GENARM_OK) {
            code = keep_spec(option, output, &spec, err);
        }
        source_spec_deinit(&spec);
    }
    return code;
}

/* "KIND:NAME[#LABEL][:WEIGHT]" */
static json_t *model_setting(const struct source_spec *spec) {
    const struct arm_spec *part = &spec->part;
    const bool label = spec->kind == SOURCE_RANK && part->adapter;
    return json_sprintf("%s:%s%s%s:%.9g", source_kind_name(spec->kind), part->name, label ? "#" : "", label ? part->adapter : "",
                        (double)part->weight);
}

int rewards_add_setting(json_t *settings, const char *option, const char *text, struct genarm_error *err) {
    struct source_spec spec = {0};
    const bool is_model = source_spec_parse(&spec, text, file_exists, NULL) == GENARM_OK && spec.kind != SOURCE_CMD &&
                          spec.kind != SOURCE_OPENAI;
    json_t *list = json_object_get(settings, option);
    if (!list) {
        json_object_set_new(settings, option, json_array());
        list = json_object_get(settings, option);
    }
    int code = json_array_append_new(list, is_model ? model_setting(&spec) : text_json(text)) == 0
                   ? 0
                   : error_nomem(err, "settings");
    if (code == 0 && is_model) {
        code = settings_add_file_of(settings, "the file of", spec.part.name, spec.part.path, err);
    }
    if (code == 0 && is_model && spec.part.adapter && spec.kind != SOURCE_RANK) {
        code = settings_add_file_of(settings, "the adapter of", spec.part.name, spec.part.adapter, err);
    }
    source_spec_deinit(&spec);
    return code;
}

static int stop(void *user) {
    (void)user;
    return interrupt_signal();
}

struct genarm_judge_params chat_params_from(const struct chat_args *args) {
    return (struct genarm_judge_params){.prompt = args->prompt,
                                        .cache = args->cache,
                                        .key_env = args->key_env,
                                        .n_parallel = args->n_parallel,
                                        .n_retries = args->n_retries,
                                        .max_tokens = args->max_tokens,
                                        .body = args->body};
}

int rewards_load(struct reward_set *s, const struct reward_args *args, bool weighted, const bool *answered,
                 struct genarm_model *base, const struct model_args *model, const struct guide_args *guide,
                 struct genarm_error *err) {
    struct genarm_source_params params = genarm_source_default_params();
    int code = rewards_check(&args->specs, weighted, err);
    s->sources = code ? NULL : calloc(args->specs.n + 1, sizeof(struct genarm_source *));
    if (code == 0 && !s->sources) {
        code = error_nomem(err, "rewards");
    }
    params.n_ctx = guide->n_ctx;
    params.n_batch = guide->n_batch;
    params.n_threads = model->n_threads > 0 ? model->n_threads : 0;
    params.template_name = guide->chat_template;
    params.model = model_params_from(model);
    params.timeout = args->timeout;
    params.stop = stop;
    params.judge = chat_params_from(&args->chat);
    for (size_t i = 0; i < args->specs.n && code == 0; i++) {
        params.judge.answered = answered && answered[i];
        code = genarm_source_new(&s->sources[i], args->specs.items[i], base, &params, err);
        s->n += code == 0;
    }
    return code;
}

void rewards_free(struct reward_set *s) {
    for (size_t i = 0; i < s->n; i++) {
        genarm_source_free(s->sources[i]);
    }
    free(s->sources);
    *s = (struct reward_set){0};
}

const char *rewards_name(const struct reward_set *s, size_t i) {
    return genarm_source_name(s->sources[i]);
}

/* ---- scoring ---- */

int rewards_compute(const struct reward_set *s, const struct genarm_sample *samples, size_t n, double *values,
                    struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < s->n && code == 0; i++) {
        code = genarm_source_score(s->sources[i], samples, n, values + i * n, err);
    }
    return code;
}

int rewards_finish(const struct reward_set *s, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < s->n && code == 0; i++) {
        code = genarm_source_finish(s->sources[i], err);
    }
    return code;
}

int check_refused(const struct genarm_judge_stats *s, const char *name, struct genarm_error *err) {
    if (s->n_refused == 0 || s->n_cached > 0 || s->n_answered > 0) {
        return 0;
    }
    const int code = error_set(err, GENARM_EIO, "%s: the server has refused all of %lld requests", name, (long long)s->n_refused);
    return error_hint(err, code, "are the key and the model's name right, and does the server take max_tokens, temperature and "
                      "logprobs (--judge-body)?");
}

int rewards_check_refused(const struct reward_set *s, struct genarm_error *err) {
    struct genarm_judge_stats stats;
    int code = 0;
    for (size_t i = 0; i < s->n && code == 0; i++) {
        genarm_source_get_judge_stats(s->sources[i], &stats);
        code = check_refused(&stats, rewards_name(s, i), err);
    }
    return code;
}

void note_cut(const struct genarm_judge_stats *s, const char *name, const struct chat_args *args) {
    if (s->n_cut > 0) {
        note("%lld replies of %s were cut at --judge-max-tokens %d", (long long)s->n_cut, name, args->max_tokens);
    }
}

void rewards_note_cut(const struct reward_set *s, const struct chat_args *args) {
    struct genarm_judge_stats stats;
    for (size_t i = 0; i < s->n; i++) {
        genarm_source_get_judge_stats(s->sources[i], &stats);
        note_cut(&stats, rewards_name(s, i), args);
    }
}

json_t *rewards_json(const struct reward_set *s, const double *values, size_t stride) {
    json_t *object = json_object();
    for (size_t i = 0; i < s->n && object; i++) {
        const double value = values[i * stride];
        json_object_set_new(object, rewards_name(s, i), isnan(value) ? json_null() : json_rounded(value, 6));
    }
    return object;
}
