/* rank: a classifier or reranker. Query and document are the last message of the user and the response, joined as llama.cpp's
 * server joins them: by the file's template "rerank", else BOS query EOS SEP document EOS as far as the vocabulary adds
 * those. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/llama_guard.h"
#include "reward/classifier.h"
#include "reward/source.h"

enum { TEXT_MAX = 256 << 20 };

struct rank {
    struct classifier c;
    const char *template_text; /* with {query} and {document}; NULL: none */
    int32_t output;            /* whose value is the reward */
    float *outputs;            /* [c.n_out] */
    int32_t *tokens;           /* [c.n_ctx] of a text under way */
    int32_t n;
    int64_t n_evaluated;
};

/* ---- a text ---- */

static int too_long(const struct rank *r, int32_t n, struct genarm_error *err) {
    return error_set(err, GENARM_ECONTEXT, "prompt and response have %d tokens or more, the classifier's context is %d", n,
                     r->c.n_ctx);
}

static int push(struct rank *r, int32_t token, struct genarm_error *err) {
    if (r->n == r->c.n_ctx) {
        return too_long(r, r->n + 1, err);
    }
    if (token < 0 || token >= r->c.n_vocab) {
        return error_set(err, GENARM_EFORMAT, "the vocabulary adds a special token %d that it does not have", token);
    }
    r->tokens[r->n++] = token;
    return GENARM_OK;
}

static int push_text(struct rank *r, const char *text, bool special, struct genarm_error *err) {
    const size_t len = strlen(text);
    if (len > TEXT_MAX) {
        return error_set(err, GENARM_EINVAL, "the text is too long");
    }
    int32_t dummy;
    const int32_t left = r->c.n_ctx - r->n;
    const int32_t n = guard_tokenize(r->c.vocab, text, (int32_t)len, left ? r->tokens + r->n : &dummy, left, special);
    if (n == GUARD_FAILED) {
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised: %s", guard_reason());
    }
    if (n < 0) {
        return too_long(r, r->n - n, err);
    }
    for (int32_t i = 0; i < n; i++) {
        const int32_t token = r->tokens[r->n + i];
        if (token < 0 || token >= r->c.n_vocab) {
            return error_set(err, GENARM_EFORMAT, "the tokenizer gives a token %d that the vocabulary does not have", token);
        }
    }
    r->n += n;
    return GENARM_OK;
}

static int push_pair(struct rank *r, const char *query, const char *document, struct genarm_error *err) {
    const struct llama_vocab *v = r->c.vocab;
    const int32_t sep = llama_vocab_sep(v), eos = llama_vocab_eos(v) != LLAMA_TOKEN_NULL ? llama_vocab_eos(v) : sep;
    int rc = llama_vocab_get_add_bos(v) ? push(r, llama_vocab_bos(v), err) : GENARM_OK;
    rc = rc == GENARM_OK ? push_text(r, query, false, err) : rc;
    rc = rc == GENARM_OK && llama_vocab_get_add_eos(v) ? push(r, eos, err) : rc;
    rc = rc == GENARM_OK && llama_vocab_get_add_sep(v) ? push(r, sep, err) : rc;
    rc = rc == GENARM_OK ? push_text(r, document, false, err) : rc;
    return rc == GENARM_OK && llama_vocab_get_add_eos(v) ? push(r, eos, err) : rc;
}

/* The template as a whole, as what stands beside {query} and {document} may share tokens with them. */
static int push_template(struct rank *r, const char *query, const char *document, struct genarm_error *err) {
    static const char *const names[] = {"{query}", "{document}"};
    const char *const texts[] = {query, document};
    struct buf b;
    int rc = GENARM_OK;
    buf_init(&b, TEXT_MAX);
    for (const char *t = r->template_text; *t && rc == GENARM_OK;) {
        int which = 0;
        while (which < 2 && strncmp(t, names[which], strlen(names[which])) != 0) {
            which++;
        }
        rc = which < 2 ? buf_puts(&b, texts[which], err) : buf_append(&b, t, 1, err);
        t += which < 2 ? strlen(names[which]) : 1;
    }
    rc = rc == GENARM_OK ? push_text(r, b.data ? b.data : "", true, err) : rc;
    buf_deinit(&b);
    return rc;
}

/* ---- scoring ---- */

static int score_one(void *self, const struct genarm_sample *s, double *value, struct genarm_error *err) {
    struct rank *r = self;
    const char *query = NULL;
    for (size_t i = 0; i < s->n_messages; i++) {
        query = strcmp(s->messages[i].role, "user") == 0 ? s->messages[i].content : query;
    }
    if (!query) {
        return error_set(err, GENARM_EINVAL, "the prompt has no message of a user, which a classifier reads");
    }
    r->n = 0;
    int rc = r->template_text ? push_template(r, query, s->response, err) : push_pair(r, query, s->response, err);
    if (rc == GENARM_OK && r->n == 0) {
        rc = error_set(err, GENARM_EINVAL, "an empty prompt and response have no reward");
    }
    rc = rc == GENARM_OK ? classifier_run(&r->c, r->tokens, r->n, r->outputs, err) : rc;
    if (rc == GENARM_OK) {
        r->n_evaluated += r->n;
        *value = (double)r->outputs[r->output];
    }
    return rc;
}

/* ---- making ---- */

static int list_labels(const struct rank *r, const char *wanted, struct genarm_error *err) {
    struct buf names;
    buf_init(&names, 200);
    for (int32_t i = 0; i < r->c.n_out; i++) {
        const char *label = llama_model_cls_label(r->c.model, (uint32_t)i);
        if (buf_printf(&names, NULL, "%s%s", i ? ", " : "", label ? label : "?") != GENARM_OK) {
            break; /* the first ones tell enough */
        }
    }
    const int rc = wanted ? error_set(err, GENARM_EINVAL, "there is no output \"%s\", there are: %s", wanted, names.data)
                          : error_set(err, GENARM_EINVAL, "which of the outputs is the reward: %s", names.data);
    buf_deinit(&names);
    return error_hint(err, rc, "say rank:PATH#LABEL");
}

/* A reranker's first output is its score, as llama.cpp's server has it. */
static int choose_output(struct rank *r, const char *label, struct genarm_error *err) {
    if (!label) {
        return r->c.n_out == 1 || r->template_text ? GENARM_OK : list_labels(r, NULL, err);
    }
    for (int32_t i = 0; i < r->c.n_out; i++) {
        const char *name = llama_model_cls_label(r->c.model, (uint32_t)i);
        if (name && strcmp(name, label) == 0) {
            r->output = i;
            return GENARM_OK;
        }
    }
    return list_labels(r, label, err);
}

static void rank_free(void *self) {
    struct rank *r = self;
    if (r) {
        classifier_close(&r->c);
        free(r->outputs);
        free(r->tokens);
        free(r);
    }
}

static int64_t n_evaluated(const void *self) {
    const struct rank *r = self;
    return r->n_evaluated;
}

static const struct source_vtable rank_vtable = {.score_one = score_one, .n_evaluated = n_evaluated, .free = rank_free};

int rank_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
             const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    (void)base;
    struct rank *r = calloc(1, sizeof *r);
    if (!r) {
        return error_nomem(err, "a reward source");
    }
    int rc = classifier_open(&r->c, spec->part.path, params, err);
    if (rc == GENARM_OK) {
        r->template_text = llama_model_chat_template(r->c.model, "rerank");
        rc = error_at(err, choose_output(r, spec->part.adapter, err), "%s", spec->part.path);
    }
    if (rc == GENARM_OK) {
        r->outputs = calloc((size_t)r->c.n_out, sizeof *r->outputs);
        r->tokens = calloc((size_t)r->c.n_ctx, sizeof *r->tokens);
        rc = r->outputs && r->tokens ? GENARM_OK : error_nomem(err, "a reward source");
    }
    if (rc != GENARM_OK) {
        rank_free(r);
        return rc;
    }
    *vtable = &rank_vtable;
    *self = r;
    return GENARM_OK;
}
