/* See answer_record.h. */
#include "answer_record.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/progress.h"
#include "drafts.h"
#include "logprobs.h"
#include "preferences.h"
#include "tell.h"

int answer_record_start(struct answer_record *a, const struct setup *s, struct genarm_session *session,
                        const struct genarm_message *messages, size_t n_messages, int32_t n_predict, struct genarm_error *err) {
    *a = (struct answer_record){.setup = s};
    if (s->steer.n_logprobs >= 0 && !(a->logprobs = json_array())) {
        return error_nomem(err, "log-probabilities");
    }
    int code = genarm_session_prompt(session, messages, n_messages, err);
    a->n_prompt = code ? 0 : genarm_session_n_prompt(session);
    return code ? code : answer_start(&a->r, s->base, session, s->steer.stop, n_predict, err);
}

void answer_record_deinit(struct answer_record *a) {
    answer_deinit(&a->r);
    json_decref(a->logprobs);
    *a = (struct answer_record){0};
}

void answer_record_shifts(struct answer_record *a, const struct shift_args *args) {
    a->r.shift = args->on;
    a->r.keep = args->keep;
}

/* What came of a step for one answer. */
static int take(struct answer_record *a, int32_t token, double now, struct genarm_error *err) {
    int code = a->failure.code;
    if (code == 0 && a->logprobs) {
        code = logprobs_append(a->logprobs, a->setup, a->r.session, &a->failure);
    }
    code = code ? code : answer_push(&a->r, token, now, &a->failure);
    if (code == GENARM_ENOMEM) {
        *err = a->failure;
        return code;
    }
    return code ? answer_end(&a->r, FINISH_FAILED, err) : 0;
}

int answer_records_step(struct answer_record **answers, size_t n, struct genarm_error *err) {
    struct genarm_session **sessions = calloc(n + 1, sizeof(struct genarm_session *));
    struct genarm_error *failures = calloc(n + 1, sizeof *failures);
    int32_t *tokens = calloc(n + 1, sizeof *tokens);
    int code = sessions && failures && tokens ? 0 : error_nomem(err, "a step");
    for (size_t i = 0; i < n && code == 0; i++) {
        sessions[i] = answers[i]->r.session;
    }
    if (code == 0) {
        code = genarm_sessions_step_each(sessions, n, tokens, failures, err);
    }
    double now = clock_seconds();
    for (size_t i = 0; i < n && code == 0; i++) {
        answers[i]->failure = failures[i];
        code = take(answers[i], tokens[i], now, err);
    }
    free(tokens);
    free(failures);
    free(sessions);
    return code;
}

static json_t *tokens_json(const struct answer_record *a) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->r.n_tokens && list; i++) {
        json_array_append_new(list, json_integer(a->r.tokens[i]));
    }
    return list;
}

static json_t *weights_json(const struct answer_record *a, const struct setup *s) {
    json_t *object = json_object();
    for (size_t i = 0; i < s->n_arms && object; i++) {
        json_object_set_new(object, s->arms[i].name, json_rounded((double)genarm_session_weight(a->r.session, (int32_t)i), 6));
    }
    return object;
}

json_t *work_json(const struct genarm_work *work) {
    return json_pack("{s:I, s:I, s:I, s:I}", "base", (json_int_t)work->base, "arms", (json_int_t)work->arms, "value",
                     (json_int_t)work->value, "rollout", (json_int_t)work->rollout);
}

json_t *seconds_json(double seconds) { return json_rounded(seconds, 6); }

json_t *answer_record_json(const struct answer_record *a, const struct setup *s, uint64_t seed) {
    json_t *timings = json_pack("{s:i, s:o, s:i, s:o, s:o}", "prompt_tokens", (int)a->n_prompt, "prompt_ms",
                                json_rounded(1e3 * (a->r.first - a->r.started), 3), "predicted_tokens", (int)a->r.n_tokens,
                                "predicted_ms", json_rounded(1e3 * (a->r.last - a->r.first), 3), "predicted_per_second",
                                json_rounded(answer_rate(&a->r), 3));
    drafts_add_json(timings, s, a->r.session);
    json_t *stop = a->r.stopped_by < 0 ? NULL : text_json(genarm_stop_text(s->steer.stop, a->r.stopped_by));
    struct genarm_work work;
    genarm_session_get_work(a->r.session, &work);
    return json_pack("{s:o, s:o, s:o, s:o*, s:I, s:s, s:o*, s:O*, s:o, s:o, s:o, s:o, s:o}", "response",
                     json_stringn(a->r.text.data, a->r.text.len), "tokens", tokens_json(a), "arms", weights_json(a, s),
                     "preferences", preferences_json(s, a->r.session), "seed", (json_int_t)seed, "finish_reason",
                     finish_name(a->r.finish), "stop", stop, "logprobs", a->logprobs, "logprob",
                     json_rounded(a->r.logprob, 6), "evaluated", work_json(&work), "seconds", seconds_json(a->seconds), "model",
                     text_json(setup_model_name(s)), "timings", timings);
}
