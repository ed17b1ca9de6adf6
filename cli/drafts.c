/* See drafts.h. */
#include "drafts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_check.h"
#include "tell.h"

/* The name of the model that only drafts, as a reward model of weight 0: what messages call it. */
static const char draft_name[] = "--model-draft";

/* ---- options ---- */

/* NAME[:WEIGHT] of one --draft-arm, into weights [1 + n_arms]; *given: there is a WEIGHT. A name may hold colons. */
static int read_arm(const struct setup *s, const char *text, float *weights, bool *given, struct genarm_error *err) {
    int32_t i = genarm_guide_find_arm(s->guide, text);
    float weight = -1;
    const char *colon = strrchr(text, ':');
    if (i < 0 && colon) {
        char *name = strndup(text, (size_t)(colon - text)), *end;
        if (!name) {
            return error_nomem(err, "a name");
        }
        i = genarm_guide_find_arm(s->guide, name);
        free(name);
        weight = strtof(colon + 1, &end);
        if (i >= 0 && (end == colon + 1 || *end || !isfinite(weight) || weight <= 0)) {
            return usage_error(err, "--draft-arm", "\"%s\" is not a finite weight above 0", colon + 1);
        }
    }
    if (i < 0 || (size_t)i >= s->n_arms) {
        return error_hint(err, usage_error(err, "--draft-arm", "no --arm is called \"%s\"", text),
                          "give NAME of --arm NAME=PATH, or NAME:WEIGHT");
    }
    *given = *given || weight > 0;
    weights[i + 1] = weight > 0 ? weight : s->arms[i].weight > 0 ? s->arms[i].weight : 1;
    return 0;
}

/* Makes a draft as sharp as the mixture: what those that do not draft weigh there goes to those that do, in proportion. An ARM
 * relative to its reference adds as much as it takes away. */
static void scale_weights(const struct setup *s, const struct guide_args *guide, float *weights, size_t n) {
    float wanted = 1, sum = 0;
    for (size_t i = 0; i < s->n_arms; i++) {
        wanted += minus_reference(guide, s->arms[i].name) ? 0 : s->arms[i].weight;
    }
    for (size_t i = 0; i < n; i++) {
        sum += weights[i];
    }
    for (size_t i = 0; i < n && wanted > 0; i++) {
        weights[i] *= wanted / sum;
    }
}

static int check_args(const struct draft_args *args, struct genarm_error *err) {
    const bool by_policy = args->model || args->arms.n > 0;
    if (by_policy && args->type != 0) {
        return usage_error(err, "--spec-type", "tokens are drafted by -md and --draft-arm, or looked up, not both");
    }
    if (args->n_min > args->n_max) {
        return usage_error(err, "--draft-min", "at least %d tokens are more than --draft-max %d", args->n_min, args->n_max);
    }
    return 0;
}

/* ---- loading ---- */

/* The model of -md becomes the last reward model, with weight 0. */
static int add_model(struct setup *s, const struct model_args *model, const char *path, struct genarm_error *err) {
    struct genarm_arm_params params = {.name = draft_name, .model = setup_find_model(s, path), .weight = 0};
    bool is_adapter = false;
    int code = file_is_adapter(path, &is_adapter, err);
    if (code == 0 && is_adapter) {
        code = error_hint(err, usage_error(err, draft_name, "%s is an adapter, not a model", path),
                          "name it with --arm, with weight 0 if it is not to steer, and draft with --draft-arm");
    }
    if (code == 0 && !params.model) {
        const struct genarm_model_params how = model_params_from(model);
        code = genarm_model_load(&s->draft_model, path, &how, err);
        params.model = s->draft_model;
    }
    if (code) {
        return code;
    }
    code = genarm_guide_add_arm(s->guide, &params, err);
    if (code) {
        err->where[0] = '\0'; /* it is no ARM to whom gave it */
    }
    return error_at(err, code, "%s", draft_name);
}

int drafts_load(struct setup *s, const struct model_args *model, const struct guide_args *guide, const struct draft_args *args,
                struct genarm_error *err) {
    int code = check_args(args, err);
    if (code || (!args->model && args->arms.n == 0 && args->type == 0)) {
        return code;
    }
    s->draft = genarm_draft_default_params();
    s->draft.n_max = args->n_max;
    s->draft.n_min = args->n_min;
    s->draft.n_lookup = args->n_lookup;
    s->drafts = true;
    if (args->type != 0) {
        return 0;
    }
    if (args->model) {
        code = add_model(s, model, args->model, err);
    }
    const size_t n_arms = (size_t)genarm_guide_n_arms(s->guide);
    bool given = false;
    s->draft_weights = code ? NULL : calloc(n_arms + 1, sizeof *s->draft_weights);
    if (code == 0 && !s->draft_weights) {
        code = error_nomem(err, "a draft");
    }
    for (size_t i = 0; i < args->arms.n && code == 0; i++) {
        code = read_arm(s, args->arms.items[i], s->draft_weights, &given, err);
    }
    if (code == 0 && args->model) {
        s->draft_weights[n_arms] = 1;
    }
    if (code == 0 && !given) {
        scale_weights(s, guide, s->draft_weights, n_arms + 1);
    }
    s->draft.weights = s->draft_weights;
    return code;
}

/* ---- what came of it ---- */

void drafts_add_json(json_t *object, const struct setup *s, const struct genarm_session *session) {
    struct genarm_draft_stats stats;
    if (s->drafts && object) {
        genarm_session_get_draft_stats(session, &stats);
        json_object_set_new(object, "drafted_tokens", json_integer(stats.n_drafted));
        json_object_set_new(object, "accepted_tokens", json_integer(stats.n_accepted));
    }
}

void drafts_note(const struct setup *s, const struct genarm_session *session) {
    struct genarm_draft_stats stats;
    char pays[64] = "";
    if (!s->drafts) {
        return;
    }
    genarm_session_get_draft_stats(session, &stats);
    if (stats.n_drafted == 0) {
        note("speculation: nothing was drafted");
        return;
    }
    if (stats.break_even >= 1) {
        snprintf(pays, sizeof pays, "; drafting does not pay here");
    } else if (!isnan(stats.break_even)) {
        snprintf(pays, sizeof pays, "; drafting pays from %.0f %%", 100 * stats.break_even);
    }
    note("speculation: %lld tokens drafted, %lld accepted, %.0f %% of those tested; %.2f tokens a pass%s",
         (long long)stats.n_drafted, (long long)stats.n_accepted, 100 * (double)stats.n_accepted / (double)stats.n_tested,
         (double)(stats.n_passes + stats.n_accepted) / (double)stats.n_passes, pays);
}
