/* See answer.h. */
#include "guide/answer.h"

#include <stdlib.h>

#include "base/progress.h"
#include "guide/session.h"
#include "model/spell.h"

enum { TEXT_MAX_BYTES = 1 << 28 };

const char *finish_name(enum finish finish) {
    static const char *const names[] = {"running", "stop", "length", "context", "interrupted", "error"};
    return names[finish];
}

int answer_start(struct answer *r, const struct genarm_model *model, struct genarm_session *session,
                   const struct genarm_stop *stop, int32_t n_predict, struct genarm_error *err) {
    *r = (struct answer){.model = model, .session = session, .stop = stop, .n_predict = n_predict, .keep = -1, .stopped_by = -1,
                         .lead = session->lead};
    buf_init(&r->text, TEXT_MAX_BYTES);
    r->started = r->first = r->last = clock_seconds();
    const int rc = buf_puts(&r->text, "", err);
    return rc == GENARM_OK && n_predict == 0 ? answer_end(r, FINISH_LENGTH, err) : rc;
}

void answer_deinit(struct answer *r) {
    free(r->tokens);
    buf_deinit(&r->text);
    *r = (struct answer){0};
}

int answer_end(struct answer *r, enum finish finish, struct genarm_error *err) {
    r->finish = finish;
    const int rc = text_end(&r->tail, &r->text, err);
    r->n_shown = r->text.len;
    return rc;
}

int text_push_token(struct text_tail *u, const struct genarm_model *model, int32_t token, struct buf *out,
                    struct genarm_error *err) {
    struct buf bytes;
    buf_init(&bytes, TEXT_MAX_BYTES);
    int rc = spell_bytes(&bytes, model, token, false, err);
    rc = rc == GENARM_OK && bytes.len > 0 ? text_push(u, bytes.data, bytes.len, out, err) : rc;
    buf_deinit(&bytes);
    return rc;
}

/* Text that was added after the first `before` bytes: whether a stop text is complete, which ends the answer before it. */
static int find_stop(struct answer *r, size_t before, struct genarm_error *err) {
    r->n_shown = genarm_stop_find(r->stop, r->text.data, r->text.len, before, &r->stopped_by);
    if (r->stopped_by < 0) {
        return GENARM_OK;
    }
    r->text.data[r->text.len = r->n_shown] = '\0';
    r->tail.n = 0; /* what comes after the stop text */
    return answer_end(r, FINISH_STOP, err);
}

static int append(struct answer *r, int32_t token, struct genarm_error *err) {
    if ((r->n_tokens & (r->n_tokens - 1)) == 0) { /* full: the capacity is the next power of two */
        int32_t *tokens = realloc(r->tokens, sizeof *tokens * (r->n_tokens ? 2 * r->n_tokens : 1));
        if (!tokens) {
            return error_nomem(err, "an answer");
        }
        r->tokens = tokens;
    }
    r->tokens[r->n_tokens++] = token;
    return GENARM_OK;
}

/* Makes room in a full context where that is wanted; what is kept may fill it all the same, which ends the answer and is no
 * failure. */
static int make_room(struct answer *r, struct genarm_error *err) {
    struct genarm_error found = {0};
    const int rc = r->shift ? genarm_session_shift(r->session, r->keep, &found) : GENARM_ECONTEXT;
    if (rc == GENARM_ECONTEXT) {
        return answer_end(r, FINISH_CONTEXT, err);
    }
    if (rc != GENARM_OK && err) {
        *err = found;
    }
    return rc;
}

int answer_push(struct answer *r, int32_t token, double now, struct genarm_error *err) {
    const size_t before = r->text.len;
    int rc = append(r, token, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    r->logprob += (double)r->session->logp[token];
    r->last = now;
    r->first = r->n_tokens == 1 ? now : r->first;
    r->n_first = (size_t)r->session->n_handed == r->n_tokens ? r->n_tokens : r->n_first;
    if (genarm_token_ends(r->model, token)) {
        return answer_end(r, FINISH_STOP, err);
    }
    rc = text_push_token(&r->tail, r->model, token, &r->text, err);
    if (r->lead > 0) {
        r->lead = response_unlead(&r->text, r->lead);
    }
    rc = rc == GENARM_OK ? find_stop(r, before, err) : rc;
    if (rc != GENARM_OK || r->finish != FINISH_RUNNING) {
        return rc;
    }
    if (r->n_predict >= 0 && r->n_tokens >= (size_t)r->n_predict) {
        return answer_end(r, FINISH_LENGTH, err);
    }
    return genarm_session_n_left(r->session) > 0 ? GENARM_OK : make_room(r, err);
}

double answer_rate(const struct answer *r) {
    return r->n_tokens > r->n_first && r->last > r->first ? (double)(r->n_tokens - r->n_first) / (r->last - r->first) : 0;
}
