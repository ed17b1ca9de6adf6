#include "bench/contest.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/progress.h"
#include "base/rng.h"
#include "bench/machine.h"

enum { SETTLE_US = 200000 /* until the threads of the other side have stopped polling */, DEPTH_SEED = 1 };

int32_t contest_context(const struct contest_test *test) {
    /* A prompt needs room for the token that it is answered with, generation for the one before the clock runs. */
    return test->n_depth + test->n_prompt + test->n_gen + 2;
}

static int32_t smallest_vocabulary(const struct genarm_guide *g) {
    int32_t n = g->policies[0].model->hp.n_vocab;
    for (int32_t i = 1; i < g->n_policies; i++) {
        n = g->policies[i].model->hp.n_vocab < n ? g->policies[i].model->hp.n_vocab : n;
    }
    return n;
}

/* ---- turns ---- */

/* n_depth tokens that are always the same, then n others. */
static void make_prompt(struct contest *c, int32_t n_depth, int32_t n) {
    struct rng rng;
    rng_seed(&rng, DEPTH_SEED);
    for (int32_t i = 0; i < n_depth + n; i++) {
        if (i == n_depth) {
            rng_seed(&rng, DEPTH_SEED + ++c->n_turns);
        }
        c->tokens[i] = (int32_t)(rng_next(&rng) % (uint64_t)c->n_vocab);
    }
}

static void settle(struct contest *c, int32_t who) {
    if ((who == CONTEST_LIBLLAMA) != (c->last == CONTEST_LIBLLAMA) && c->guide->threads->n > 1) {
        usleep(SETTLE_US);
    }
    c->last = who;
}

/* The first n_arms ARMs count, by their own weight unless it is 0. */
static int choose_arms(struct contest *c, int32_t n_arms, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t i = 0; i < genarm_guide_n_arms(c->guide) && rc == GENARM_OK; i++) {
        const float own = c->guide->policies[i + 1].weight;
        rc = genarm_session_set_weight(c->session, i, i >= n_arms ? 0 : own != 0 ? own : 1, err);
    }
    return rc;
}

static int ask(const struct contest *c, struct genarm_error *err) {
    return c->stop && c->stop() != 0 ? error_set(err, GENARM_ECANCELED, "stopped") : GENARM_OK;
}

/* A prompt is evaluated in the batches that one step would make of it. */
static int step(struct contest *c, int32_t n, struct genarm_error *err) {
    const int32_t n_batch = c->guide->params.n_batch;
    int32_t left = 0;
    int rc = genarm_session_prefill(c->session, 0, &left, err);
    while (rc == GENARM_OK && left > n_batch) {
        rc = ask(c, err);
        rc = rc == GENARM_OK ? genarm_session_prefill(c->session, n_batch, &left, err) : rc;
    }
    for (int32_t i = 0, token; i < n && rc == GENARM_OK; i++) {
        rc = ask(c, err);
        rc = rc == GENARM_OK ? genarm_session_step(c->session, &token, err) : rc;
    }
    return rc;
}

static int time_guide(struct contest *c, int32_t n_arms, const struct contest_test *t, double *seconds,
                      struct genarm_error *err) {
    const int32_t n_before = t->n_gen && t->n_depth == 0 ? 1 : t->n_depth;
    int rc = choose_arms(c, n_arms, err);
    make_prompt(c, n_before, t->n_prompt);
    if (rc == GENARM_OK && n_before > 0) {
        rc = genarm_session_prompt_tokens(c->session, c->tokens, (size_t)n_before, err);
        rc = rc == GENARM_OK ? step(c, 1, err) : rc;
    }
    if (rc == GENARM_OK && t->n_prompt > 0) {
        rc = genarm_session_prompt_tokens(c->session, c->tokens, (size_t)(n_before + t->n_prompt), err);
    }
    settle(c, n_arms);
    const double start = clock_seconds();
    rc = rc == GENARM_OK ? step(c, t->n_prompt > 0 ? 1 : t->n_gen, err) : rc;
    *seconds = clock_seconds() - start;
    return rc;
}

static int time_rival(struct contest *c, const struct contest_test *t, double *seconds, struct genarm_error *err) {
    const int32_t n_before = t->n_gen && t->n_depth == 0 ? 1 : t->n_depth;
    int32_t token = 0;
    make_prompt(c, n_before, t->n_prompt);
    const int32_t n_same = c->n_kept < n_before ? c->n_kept : n_before;
    int32_t n_held = rival_keep(&c->rival, n_same) ? n_same : 0;
    c->n_kept = 0; /* unless all goes well */
    int rc = GENARM_OK;
    if (n_held < n_before) {
        rc = rival_decode(&c->rival, c->tokens + n_held, n_before - n_held, &token, err);
    }
    if (rc == GENARM_OK && t->n_gen > 0) {
        rc = rival_decode(&c->rival, &token, 1, &token, err);
    }
    settle(c, CONTEST_LIBLLAMA);
    const double start = clock_seconds();
    if (rc == GENARM_OK && t->n_prompt > 0) {
        rc = rival_decode(&c->rival, c->tokens + n_before, t->n_prompt, &token, err);
    }
    for (int32_t i = 0; i < t->n_gen && rc == GENARM_OK; i++) {
        rc = rival_decode(&c->rival, &token, 1, &token, err);
    }
    *seconds = clock_seconds() - start;
    c->n_kept = rc == GENARM_OK ? n_before : 0;
    return rc;
}

static int time_turn(struct contest *c, int32_t who, const struct contest_test *test, double *seconds,
                     struct genarm_error *err) {
    return who == CONTEST_LIBLLAMA ? time_rival(c, test, seconds, err) : time_guide(c, who, test, seconds, err);
}

int contest_rounds(struct contest *c, const struct contest_test *test, int32_t warm_up, int32_t n_rounds, double *seconds,
                   void (*each)(void *user), void *user, struct genarm_error *err) {
    for (int32_t r = -warm_up; r < n_rounds; r++) {
        for (int32_t i = 0; i < contest_n(c); i++) {
            double time = 0;
            const int rc = time_turn(c, i - 1, test, &time, err);
            if (rc != GENARM_OK) {
                return rc;
            }
            if (r >= 0) {
                seconds[i * n_rounds + r] = time;
            }
            if (each) {
                each(user);
            }
        }
    }
    return GENARM_OK;
}

/* ---- both sides ---- */

int contest_open(struct contest *c, struct genarm_guide *guide, int32_t n_prompt, double before, int (*stop)(void),
                 struct genarm_error *err) {
    const struct contest_test probe = {.n_prompt = n_prompt};
    struct genarm_sampling likeliest = genarm_sampling_default();
    double seconds;
    likeliest.temperature = 0;
    *c = (struct contest){.guide = guide, .last = CONTEST_LIBLLAMA, .n_vocab = smallest_vocabulary(guide), .stop = stop};
    int rc = genarm_session_new(&c->session, guide, &likeliest, err);
    c->tokens = rc == GENARM_OK ? calloc((size_t)guide->params.n_ctx, sizeof *c->tokens) : NULL;
    if (rc == GENARM_OK && !c->tokens) {
        rc = error_nomem(err, "a prompt");
    }
    if (rc == GENARM_OK) {
        rc = time_turn(c, genarm_guide_n_arms(guide), &probe, &seconds, err);
    }
    c->guide_bytes = machine_resident() - before;
    if (rc == GENARM_OK) {
        rc = rival_open(&c->rival, guide, stop, err);
    }
    if (rc == GENARM_OK) {
        rc = time_turn(c, CONTEST_LIBLLAMA, &probe, &seconds, err);
    }
    c->rival_bytes = machine_resident() - before - c->guide_bytes;
    return rc;
}

void contest_close(struct contest *c) {
    rival_close(&c->rival);
    genarm_session_free(c->session);
    free(c->tokens);
    *c = (struct contest){0};
}

/* ---- what must be read ---- */

/* Of embeddings that are not the head as well, a row is read. */
static double weight_bytes(const struct genarm_model *m) {
    const struct weights *w = &m->weights;
    const bool apart = w->token_embd && w->token_embd != w->output;
    return (double)m->size - (apart ? (double)ggml_nbytes(w->token_embd) : 0);
}

static double cache_bytes(const struct contest *c, const struct genarm_model *m, const struct contest_test *t) {
    const double n_before = (double)(t->n_depth ? t->n_depth : 1) + 1 + (double)t->n_gen / 2;
    const size_t column = ggml_row_size(engine_kv_type(c->guide->params.kv_type), hparams_n_embd_kv(&m->hp));
    return 2 * (double)column * n_before * (double)m->hp.n_layer;
}

double contest_bytes(const struct contest *c, int32_t who, const struct contest_test *test) {
    const struct genarm_guide *g = c->guide;
    const int32_t n_policies = who == CONTEST_LIBLLAMA ? 1 : who + 1;
    double bytes = 0;
    for (int32_t i = 0; i < n_policies; i++) {
        const struct policy *p = &g->policies[i];
        bool first = true; /* of its model */
        if (p->model->engine == GENARM_ENGINE_LLAMA) {
            return 0;
        }
        for (int32_t j = 0; j < i; j++) {
            first = first && g->policies[j].engine != p->engine;
        }
        bytes += (first ? weight_bytes(p->model) : 0) + cache_bytes(c, p->model, test);
        bytes += p->adapter && who != CONTEST_LIBLLAMA ? (double)p->adapter->n_params * sizeof(float) : 0;
    }
    return bytes;
}
