/* See logprobs.h. */
#include "logprobs.h"

#include "model/spell.h"
#include "tell.h"


static json_t *token_json(const struct setup *s, const struct genarm_token_logprob *t) {
    json_t *arms = json_object();
    for (size_t i = 0; i < s->n_arms && arms; i++) {
        json_object_set_new(arms, s->arms[i].name, json_rounded((double)t->arms[i], 6));
    }
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "id", (int)t->token, "text", spell_token_json(s->base, t->token), "guided",
                     json_rounded((double)t->guided, 6), "base", json_rounded((double)t->base, 6), "arms", arms);
}

int logprobs_append(json_t *list, const struct setup *s, const struct genarm_session *session, struct genarm_error *err) {
    size_t n;
    const struct genarm_token_logprob *all = genarm_session_logprobs(session, &n);
    json_t *token = token_json(s, &all[0]), *top = json_array();
    bool ok = token && top;
    for (size_t i = 1; i < n && ok; i++) {
        ok = json_array_append_new(top, token_json(s, &all[i])) == 0;
    }
    ok = ok && (s->steer.n_logprobs == 0 || json_object_set(token, "top", top) == 0);
    json_decref(top);
    ok = ok && json_array_append(list, token) == 0;
    json_decref(token);
    return ok ? 0 : error_nomem(err, "log-probabilities");
}
