/* arm: and ratio: log-probabilities of a response under an ARM, by an engine whose sequence 0 is the ARM and, for a ratio,
 * sequence 1 its reference: both see the same tokens, so one forward pass reads the weights for both. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "guide/combine.h"
#include "model/spell.h"
#include "reward/source.h"

enum {
    DEFAULT_CTX_MAX = 4096,
    TEXT_MAX_BYTES = 1 << 30, /* of a response */
    LOGITS_MAX = 8 << 20, /* floats of the logits that are held at once, as far as there is a choice */
};

struct policy_source {
    const struct genarm_source_params *params;
    struct source_model arm;
    bool ratio, mean;
    struct engine *engine;
    int32_t adapter, n_ctx; /* adapter: index in the engine */
    int32_t *tokens;        /* [n_ctx] prompt and response of the last sample */
    int32_t n_cached;       /* leading tokens that the engine holds */
    int64_t n_evaluated;
    int32_t chunk;          /* response tokens whose logits are held at once */
    struct row *rows;       /* [n_ctx * sequences] */
    float *logits;          /* [n_vocab, chunk * sequences] */
};

static int32_t n_seq(const struct policy_source *p) { return p->ratio ? 2 : 1; }

/* ---- scoring ---- */

/* Makes p->tokens prompt and response; what the engine holds stays as far as it is the same. */
static void put(struct policy_source *p, const int32_t *prompt, int32_t n_prompt, const int32_t *response, int32_t n) {
    int32_t same = 0;
    while (same < p->n_cached && same < n_prompt + n &&
           p->tokens[same] == (same < n_prompt ? prompt[same] : response[same - n_prompt])) {
        same++;
    }
    p->n_cached = same;
    memcpy(p->tokens, prompt, (size_t)n_prompt * sizeof *prompt);
    memcpy(p->tokens + n_prompt, response, (size_t)n * sizeof *response);
}

/* Feeds the tokens at positions [p->n_cached or first, end) and takes the logits of those from `first` on. */
static int feed(struct policy_source *p, int32_t first, int32_t end, struct genarm_error *err) {
    const int32_t start = p->n_cached < first ? p->n_cached : first;
    int32_t n = 0;
    for (int32_t seq = 0; seq < n_seq(p); seq++) {
        for (int32_t pos = start; pos < end; pos++) {
            p->rows[n++] = (struct row){.token = p->tokens[pos],
                                        .seq = seq,
                                        .pos = pos,
                                        .adapter = seq == 0 ? p->adapter : ENGINE_NO_ADAPTER,
                                        .output = pos >= first};
        }
    }
    const int rc = engine_forward(p->engine, p->rows, n, p->logits, err);
    p->n_evaluated += n;
    p->n_cached = rc == GENARM_OK ? end : 0;
    return rc;
}

/* Sum over n response tokens, which start at position `start`, of log pi_r, minus log pi_ref for a ratio. */
static int sum_logp(struct policy_source *p, int32_t start, int32_t n, double *sum, struct genarm_error *err) {
    const size_t n_vocab = (size_t)p->arm.model->hp.n_vocab;
    *sum = 0;
    for (int32_t c0 = 0, c1; c0 < n; c0 = c1) {
        c1 = c0 + p->chunk < n ? c0 + p->chunk : n;
        const int rc = feed(p, start + c0 - 1, start + c1 - 1, err); /* a token is predicted one position before */
        if (rc != GENARM_OK) {
            return rc;
        }
        for (int32_t seq = 0; seq < n_seq(p); seq++) {
            for (int32_t c = c0; c < c1; c++) {
                const float *l = p->logits + (size_t)(seq * (c1 - c0) + c - c0) * n_vocab;
                const double logp = (double)(l[p->tokens[start + c]] - log_sum_exp(l, n_vocab));
                *sum += seq == 0 ? logp : -logp;
            }
        }
    }
    return GENARM_OK;
}

static int score_tokens(struct policy_source *p, const int32_t *prompt, int32_t n_prompt, const int32_t *response,
                        int32_t n, double *value, struct genarm_error *err) {
    if (n == 0) {
        return error_set(err, GENARM_EINVAL, "a response without a token has no reward");
    }
    if (n_prompt > p->n_ctx || n > p->n_ctx - n_prompt) {
        const int rc = error_set(err, GENARM_ECONTEXT, "prompt and response have %d and %d tokens, the context %d",
                                 n_prompt, n, p->n_ctx);
        return error_hint(err, rc, "raise the context size (-c)");
    }
    put(p, prompt, n_prompt, response, n);
    double sum = 0;
    const int rc = sum_logp(p, n_prompt, n, &sum, err);
    *value = p->mean ? sum / n : sum;
    return rc;
}

/* The tokens that the response was drawn as, if they are known and are its text in this vocabulary: cutting the text anew may
 * give others, whose probability is another. *n is 0 where they are not. */
static int drawn_tokens(int32_t **out, int32_t *n, const struct genarm_model *model, const char *name,
                        const struct genarm_sample *s, struct genarm_error *err) {
    const bool ended = s->n_tokens > 0 && genarm_token_ends(model, s->tokens[s->n_tokens - 1]);
    const size_t n_text = s->n_tokens - ended;
    *n = 0;
    for (size_t i = 0; i < s->n_tokens; i++) {
        if (s->tokens[i] < 0 || s->tokens[i] >= model->hp.n_vocab) {
            return GENARM_OK;
        }
    }
    struct buf text;
    buf_init(&text, TEXT_MAX_BYTES);
    int rc = s->n_tokens > INT32_MAX / 2 ? GENARM_OK : spell_sample(&text, model, s->tokens, n_text, err);
    bool same = rc == GENARM_OK && text.data && strcmp(text.data, s->response) == 0;
    if (rc == GENARM_OK && text.data && !same) { /* what generates takes it off */
        response_unlead(&text, template_lead(name));
        same = strcmp(text.data, s->response) == 0;
    }
    if (same) {
        *out = malloc((s->n_tokens + 1) * sizeof **out);
        rc = *out ? GENARM_OK : error_nomem(err, "a response");
    }
    if (rc == GENARM_OK && *out) {
        memcpy(*out, s->tokens, s->n_tokens * sizeof **out);
        *n = (int32_t)(n_text + (ended && s->finished));
        if (s->finished && !ended && genarm_token_eos(model) >= 0) {
            (*out)[(*n)++] = genarm_token_eos(model);
        }
    }
    buf_deinit(&text);
    return rc;
}

static int score_one(void *self, const struct genarm_sample *s, double *value, struct genarm_error *err) {
    struct policy_source *p = self;
    int32_t *prompt = NULL, *response = NULL, n_prompt = 0, n = 0;
    const char *name = source_model_template(&p->arm, p->params);
    int rc = template_tokens(&prompt, &n_prompt, p->arm.model, name, s->messages, s->n_messages, err);
    if (rc == GENARM_OK && s->tokens) {
        rc = drawn_tokens(&response, &n, p->arm.model, name, s, err);
    }
    if (rc == GENARM_OK && !response) {
        rc = response_tokens(&response, &n, p->arm.model, name, s->messages, s->n_messages, s->response, s->finished, err);
    }
    if (rc == GENARM_OK) {
        rc = score_tokens(p, prompt, n_prompt, response, n, value, err);
    }
    free(prompt);
    free(response);
    return rc;
}

/* ---- making ---- */

static void policy_free(void *self) {
    struct policy_source *p = self;
    if (p) {
        engine_free(p->engine);
        free(p->tokens);
        free(p->rows);
        free(p->logits);
        source_model_free(&p->arm);
        free(p);
    }
}

static int64_t n_evaluated(const void *self) {
    const struct policy_source *p = self;
    return p->n_evaluated;
}

static const struct source_vtable policy_vtable = {.score_one = score_one, .n_evaluated = n_evaluated, .free = policy_free};

static int check_arm(const struct policy_source *p, const struct arm_spec *spec, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (p->arm.adapter && p->arm.adapter->info.head) {
        rc = error_set(err, GENARM_EINVAL, "this is a reward model of whole responses, no ARM");
        rc = error_hint(err, error_at(err, rc, "%s", p->arm.adapter->path), "say rm: in the place of arm:");
    } else if (!p->arm.adapter && p->ratio) {
        rc = error_set(err, GENARM_EINVAL, "a model without an adapter has no reference");
        rc = error_hint(err, error_at(err, rc, "%s", spec->path), "arm: or arm-mean: needs none");
    }
    return rc;
}

static int start_engine(struct policy_source *p, struct genarm_error *err) {
    const struct engine_params params = {.n_seq = n_seq(p),
                                         .n_ctx = p->n_ctx,
                                         .n_batch = p->params->n_batch,
                                         .n_threads = p->params->n_threads,
                                         .kv_type = GENARM_KV_F32}; /* few sequences: exactness costs little */
    int rc = engine_new(&p->engine, p->arm.model, &params, err);
    p->adapter = ENGINE_NO_ADAPTER;
    if (rc == GENARM_OK && p->arm.adapter) {
        p->adapter = engine_add_adapter(p->engine, p->arm.adapter, err);
        rc = p->adapter < 0 ? p->adapter : GENARM_OK;
    }
    return rc;
}

static int start(struct policy_source *p, const struct source_spec *spec, const struct genarm_model *base,
                 struct genarm_error *err) {
    int rc = source_model_load(&p->arm, &spec->part, base, p->params, err);
    rc = rc == GENARM_OK ? check_arm(p, &spec->part, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    const struct hparams *hp = &p->arm.model->hp;
    const int32_t n_most = hp->n_ctx_train < DEFAULT_CTX_MAX ? hp->n_ctx_train : DEFAULT_CTX_MAX;
    const int32_t n_wanted = LOGITS_MAX / hp->n_vocab / n_seq(p);
    p->n_ctx = p->params->n_ctx ? p->params->n_ctx : n_most;
    p->chunk = n_wanted < 1 ? 1 : n_wanted < p->n_ctx ? n_wanted : p->n_ctx;
    p->tokens = calloc((size_t)p->n_ctx, sizeof *p->tokens);
    p->rows = calloc((size_t)p->n_ctx * (size_t)n_seq(p), sizeof *p->rows);
    p->logits = malloc((size_t)hp->n_vocab * (size_t)p->chunk * (size_t)n_seq(p) * sizeof *p->logits);
    if (!p->tokens || !p->rows || !p->logits) {
        return error_nomem(err, "a reward source");
    }
    return start_engine(p, err);
}

int policy_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
               const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    struct policy_source *p = calloc(1, sizeof *p);
    if (!p) {
        return error_nomem(err, "a reward source");
    }
    p->params = params;
    p->ratio = spec->kind == SOURCE_RATIO || spec->kind == SOURCE_RATIO_MEAN;
    p->mean = spec->kind == SOURCE_ARM_MEAN || spec->kind == SOURCE_RATIO_MEAN;
    const int rc = start(p, spec, base, err);
    if (rc != GENARM_OK) {
        policy_free(p);
        return rc;
    }
    *vtable = &policy_vtable;
    *self = p;
    return GENARM_OK;
}
