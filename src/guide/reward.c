/* A trajectory-level reward model: an engine of hidden states, the tokens that it holds, and the head's product with the
 * last of them. */
#include "guide/reward.h"

#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "genarm/reward.h"

enum { DEFAULT_CTX_MAX = 4096 };

struct genarm_reward {
    const struct genarm_model *model;
    const float *head; /* [n_embd] the adapter's */
    char *template_name;
    struct engine *engine;
    int32_t adapter, n_ctx;
    int32_t *tokens;  /* [n_ctx] prompt and response */
    int32_t n_cached; /* leading tokens that the engine holds */
    int64_t n_evaluated;
    struct row *rows; /* [n_ctx] */
    float *hidden;    /* [n_embd] */
};

struct genarm_reward_params genarm_reward_default_params(void) { return (struct genarm_reward_params){.n_batch = 512}; }

int reward_check(const struct genarm_model *model, const struct genarm_adapter *adapter, struct genarm_error *err) {
    if (adapter->model != model) {
        return error_set(err, GENARM_EINVAL, "the reward model's adapter was loaded for another model");
    }
    int rc = model_need_graph(model, "a reward model with a head", err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!adapter->info.head) {
        rc = error_at(err, error_set(err, GENARM_EINVAL, "the adapter has no head that rewards whole responses"), "%s",
                      adapter->path);
        return error_hint(err, rc, "train a reward model with --loss bt; an ARM rewards tokens: --arm PATH or --reward arm:PATH");
    }
    return GENARM_OK;
}

double reward_of(const float *head, const float *hidden, int32_t n_embd) {
    double sum = 0;
    for (int32_t i = 0; i < n_embd; i++) {
        sum += (double)head[i] * (double)hidden[i];
    }
    return sum;
}

static int check_params(const struct genarm_reward_params *p, struct genarm_error *err) {
    if (p->n_ctx < 0 || p->n_batch < 1 || p->n_threads < 0) {
        return error_set(err, GENARM_EINVAL, "context %d, batch %d, %d threads: out of range", p->n_ctx, p->n_batch,
                         p->n_threads);
    }
    return GENARM_OK;
}

static int start_engine(struct genarm_reward *r, const struct genarm_adapter *adapter,
                        const struct genarm_reward_params *p, struct genarm_error *err) {
    const struct engine_params params = {.n_seq = 1,
                                         .n_ctx = r->n_ctx,
                                         .n_batch = p->n_batch,
                                         .n_threads = p->n_threads,
                                         .hidden = true,
                                         .kv_type = GENARM_KV_F32}; /* one sequence: exactness costs little */
    int rc = engine_new(&r->engine, r->model, &params, err);
    if (rc == GENARM_OK) {
        r->adapter = engine_add_adapter(r->engine, adapter, err);
        rc = r->adapter < 0 ? r->adapter : GENARM_OK;
    }
    return rc;
}

int genarm_reward_new(struct genarm_reward **out, const struct genarm_model *model, const struct genarm_adapter *adapter,
                      const struct genarm_reward_params *params, struct genarm_error *err) {
    const struct genarm_reward_params p = params ? *params : genarm_reward_default_params();
    const int32_t n_most = model->hp.n_ctx_train < DEFAULT_CTX_MAX ? model->hp.n_ctx_train : DEFAULT_CTX_MAX;
    const char *template_name = p.template_name ? p.template_name : adapter->info.template_;
    int rc = check_params(&p, err);
    rc = rc == GENARM_OK ? reward_check(model, adapter, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    struct genarm_reward *r = calloc(1, sizeof *r);
    if (!r) {
        return error_nomem(err, "a reward model");
    }
    *r = (struct genarm_reward){.model = model, .head = adapter->info.head, .n_ctx = p.n_ctx ? p.n_ctx : n_most};
    r->template_name = template_name ? strdup(template_name) : NULL;
    r->tokens = calloc((size_t)r->n_ctx, sizeof *r->tokens);
    r->rows = calloc((size_t)r->n_ctx, sizeof *r->rows);
    r->hidden = calloc((size_t)model->hp.n_embd, sizeof *r->hidden);
    if (!r->tokens || !r->rows || !r->hidden || (template_name && !r->template_name)) {
        rc = error_nomem(err, "a reward model");
    }
    rc = rc == GENARM_OK ? start_engine(r, adapter, &p, err) : rc;
    if (rc != GENARM_OK) {
        genarm_reward_free(r);
        return rc;
    }
    *out = r;
    return GENARM_OK;
}

void genarm_reward_free(struct genarm_reward *r) {
    if (r) {
        engine_free(r->engine);
        free(r->template_name);
        free(r->tokens);
        free(r->rows);
        free(r->hidden);
        free(r);
    }
}

int64_t genarm_reward_n_evaluated(const struct genarm_reward *r) { return r->n_evaluated; }

/* ---- scoring ---- */

/* Puts n tokens at positions from `first` on; what the engine holds stays as far as it is the same. */
static void put(struct genarm_reward *r, int32_t first, const int32_t *tokens, int32_t n) {
    int32_t same = 0;
    while (same < n && first + same < r->n_cached && r->tokens[first + same] == tokens[same]) {
        same++;
    }
    if (same < n && first + same < r->n_cached) {
        r->n_cached = first + same;
    }
    memcpy(r->tokens + first, tokens, (size_t)n * sizeof *tokens);
}

/* Feeds what the engine does not hold of the n tokens, at least the last one, and takes its hidden state. */
static int feed(struct genarm_reward *r, int32_t n, struct genarm_error *err) {
    const int32_t first = r->n_cached < n ? r->n_cached : n - 1;
    for (int32_t pos = first; pos < n; pos++) {
        r->rows[pos - first] =
            (struct row){.token = r->tokens[pos], .pos = pos, .adapter = r->adapter, .output = pos == n - 1};
    }
    int rc = engine_forward(r->engine, r->rows, n - first, r->hidden, err);
    r->n_evaluated += n - first;
    r->n_cached = rc == GENARM_OK ? n : first;
    return rc;
}

static int check_tokens(const struct genarm_reward *r, const int32_t *tokens, size_t n, struct genarm_error *err) {
    if (n == 0) {
        return error_set(err, GENARM_EINVAL, "a response without a token has no reward");
    }
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= r->model->hp.n_vocab) {
            return error_set(err, GENARM_EINVAL, "token %d is outside the vocabulary of %d", tokens[i],
                             r->model->hp.n_vocab);
        }
    }
    return GENARM_OK;
}

int genarm_reward_tokens(struct genarm_reward *r, const struct genarm_message *messages, size_t n_messages,
                         const int32_t *tokens, size_t n_tokens, double *reward, struct genarm_error *err) {
    int32_t *prompt = NULL, n_prompt = 0;
    int rc = check_tokens(r, tokens, n_tokens, err);
    if (rc == GENARM_OK) {
        rc = template_tokens(&prompt, &n_prompt, r->model, r->template_name, messages, n_messages, err);
    }
    if (rc == GENARM_OK && (n_prompt > r->n_ctx || n_tokens > (size_t)(r->n_ctx - n_prompt))) {
        rc = error_set(err, GENARM_ECONTEXT, "prompt and response have %d and %zu tokens, the context %d", n_prompt,
                       n_tokens, r->n_ctx);
        error_hint(err, rc, "raise the context size (-c)");
    }
    if (rc == GENARM_OK) {
        put(r, 0, prompt, n_prompt);
        put(r, n_prompt, tokens, (int32_t)n_tokens);
        rc = feed(r, n_prompt + (int32_t)n_tokens, err);
    }
    if (rc == GENARM_OK) {
        *reward = reward_of(r->head, r->hidden, r->model->hp.n_embd);
    }
    free(prompt);
    return rc;
}

int genarm_reward_text(struct genarm_reward *r, const struct genarm_message *messages, size_t n_messages,
                       const char *response, bool whole, double *reward, struct genarm_error *err) {
    int32_t *tokens = NULL, n = 0;
    int rc = response_tokens(&tokens, &n, r->model, r->template_name, messages, n_messages, response, whole, err);
    if (rc == GENARM_OK) {
        rc = genarm_reward_tokens(r, messages, n_messages, tokens, (size_t)n, reward, err);
    }
    free(tokens);
    return rc;
}
