/* What the tests of sessions share: a tiny model with three adapters, guides of it, and answers. Failures fail the running
 * cmocka test. */
#ifndef SUPPORT_SESSION_CASE_H
#define SUPPORT_SESSION_CASE_H

#include "guide/session.h"

struct session_case {
    struct genarm_model *model;
    struct genarm_adapter *first, *second, *conditioned; /* the last one has three objectives; NULL with libllama */
};

int session_case_setup(void **state);
int session_case_teardown(void **state);

extern const struct genarm_message case_hello[1];

struct genarm_guide_params case_params(int32_t n_ctx, enum genarm_kv_type kv_type);

struct case_arm {
    struct genarm_adapter *adapter;
    float weight;
    const char *template_name;
};

/* ARMs "a", "b", … on the model. */
struct genarm_guide *case_guide(struct genarm_model *model, const struct case_arm *arms, int n_arms,
                                struct genarm_guide_params params);
/* The first adapter as ARM "a" of weight 1. */
struct genarm_guide *case_guide_first(const struct session_case *f, int32_t n_ctx, enum genarm_kv_type kv_type);

struct genarm_session *case_session(struct genarm_guide *g, uint64_t seed);
void case_prompt(struct genarm_session *s, const struct genarm_message *messages, size_t n);
void case_answer(struct genarm_session *s, int32_t *tokens, int n);

/* Answers until n tokens were given, forgetting whenever the context is full; all policies must hold the same newest tokens. */
void case_answer_on(struct genarm_session *s, int32_t keep, int32_t *tokens, int n);

void case_end(struct genarm_guide *g, struct genarm_session *s);

#endif
