/* See answer.h. */
#include "answer.h"

#include <stdlib.h>

#include "base/progress.h"
#include "drafts.h"
#include "logprobs.h"
#include "preferences.h"

enum { TEXT_MAX_BYTES = 1 << 28 };

const char *finish_name(enum finish finish) {
    static const char *const names[] = {"running", "stop", "length", "context", "interrupted"};
    return names[finish];
}

int answer_start(struct answer *a, const struct setup *s, struct genarm_session *session,
                 const struct genarm_message *messages, size_t n_messages, int32_t n_predict,
                 struct genarm_error *err) {
    *a = (struct answer){.setup = s, .model = s->base, .session = session, .n_predict = n_predict, .stop = -1};
    buf_init(&a->text, TEXT_MAX_BYTES);
    a->started = a->first = a->last = clock_seconds();
    int code = buf_puts(&a->text, "", err);
    if (code == 0 && s->steer.n_logprobs >= 0) {
        a->logprobs = json_array();
        code = a->logprobs ? 0 : error_nomem(err, "log-probabilities");
    }
    if (code == 0) {
        code = genarm_session_prompt(session, messages, n_messages, err);
    }
    if (code) {
        return code;
    }
    a->n_prompt = genarm_session_n_prompt(session);
    return n_predict == 0 ? answer_end(a, FINISH_LENGTH, err) : 0;
}

void answer_deinit(struct answer *a) {
    free(a->tokens);
    json_decref(a->logprobs);
    buf_deinit(&a->text);
    *a = (struct answer){0};
}

int answer_end(struct answer *a, enum finish finish, struct genarm_error *err) {
    a->finish = finish;
    const int code = text_end(&a->tail, &a->text, err);
    a->n_shown = a->text.len;
    return code;
}

/* Text that was added after the first `before` bytes: whether a stop text is complete, which ends the answer before it. */
static int find_stop(struct answer *a, size_t before, struct genarm_error *err) {
    a->n_shown = genarm_stop_find(a->setup->steer.stop, a->text.data, a->text.len, before, &a->stop);
    if (a->stop < 0) {
        return 0;
    }
    a->text.data[a->text.len = a->n_shown] = '\0';
    a->tail.n = 0; /* what comes after the stop text */
    return answer_end(a, FINISH_STOP, err);
}

static int push(struct answer *a, int32_t token, double now, struct genarm_error *err) {
    if ((a->n_tokens & (a->n_tokens - 1)) == 0) { /* full: the capacity is the next power of two */
        int32_t *tokens = realloc(a->tokens, sizeof *tokens * (a->n_tokens ? 2 * a->n_tokens : 1));
        if (!tokens) {
            return error_nomem(err, "an answer");
        }
        a->tokens = tokens;
    }
    a->tokens[a->n_tokens++] = token;
    a->last = now;
    if (a->n_tokens == 1) {
        a->first = now;
    }
    const size_t before = a->text.len;
    int code = a->logprobs ? logprobs_append(a->logprobs, a->setup, a->session, err) : 0;
    if (code == 0 && genarm_token_ends(a->model, token)) {
        return answer_end(a, FINISH_STOP, err);
    }
    code = code ? code : text_push_token(&a->tail, a->model, token, &a->text, err);
    code = code ? code : find_stop(a, before, err);
    if (code || a->finish != FINISH_RUNNING) {
        return code;
    }
    if (a->n_predict >= 0 && a->n_tokens >= (size_t)a->n_predict) {
        return answer_end(a, FINISH_LENGTH, err);
    }
    if (genarm_session_n_left(a->session) > 0) {
        return 0;
    }
    code = a->shift.on ? genarm_session_shift(a->session, a->shift.keep, err) : GENARM_ECONTEXT;
    return code == GENARM_ECONTEXT ? answer_end(a, FINISH_CONTEXT, err) : code; /* what is kept may fill it */
}

int answers_step(struct answer **answers, size_t n, struct genarm_error *err) {
    struct genarm_session **sessions = calloc(n + 1, sizeof(struct genarm_session *));
    int32_t *tokens = calloc(n + 1, sizeof *tokens);
    int code = sessions && tokens ? 0 : error_nomem(err, "a step");
    for (size_t i = 0; i < n && code == 0; i++) {
        sessions[i] = answers[i]->session;
    }
    if (code == 0) {
        code = genarm_sessions_step(sessions, n, tokens, err);
    }
    double now = clock_seconds();
    for (size_t i = 0; i < n && code == 0; i++) {
        code = push(answers[i], tokens[i], now, err);
    }
    free(tokens);
    free(sessions);
    return code;
}

double answer_rate(const struct answer *a) {
    return a->n_tokens > 1 && a->last > a->first ? (double)(a->n_tokens - 1) / (a->last - a->first) : 0;
}

static json_t *tokens_json(const struct answer *a) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_tokens && list; i++) {
        json_array_append_new(list, json_integer(a->tokens[i]));
    }
    return list;
}

static json_t *weights_json(const struct answer *a, const struct setup *s) {
    json_t *object = json_object();
    for (size_t i = 0; i < s->n_arms && object; i++) {
        json_object_set_new(object, s->arms[i].name, json_rounded((double)genarm_session_weight(a->session, (int32_t)i), 6));
    }
    return object;
}

json_t *answer_json(const struct answer *a, const struct setup *s, uint64_t seed) {
    json_t *timings = json_pack("{s:i, s:o, s:i, s:o, s:o}", "prompt_tokens", (int)a->n_prompt, "prompt_ms",
                                json_rounded(1e3 * (a->first - a->started), 3), "predicted_tokens", (int)a->n_tokens,
                                "predicted_ms", json_rounded(1e3 * (a->last - a->first), 3), "predicted_per_second",
                                json_rounded(answer_rate(a), 3));
    drafts_add_json(timings, s, a->session);
    json_t *stop = a->stop < 0 ? NULL : text_json(genarm_stop_text(s->steer.stop, a->stop));
    return json_pack("{s:o, s:o, s:o, s:o*, s:I, s:s, s:o*, s:O*, s:o, s:o}", "response",
                     json_stringn(a->text.data, a->text.len), "tokens", tokens_json(a), "arms", weights_json(a, s),
                     "preferences", preferences_json(s, a->session), "seed", (json_int_t)seed, "finish_reason",
                     finish_name(a->finish), "stop", stop, "logprobs", a->logprobs, "model",
                     text_json(setup_model_name(s)), "timings", timings);
}
