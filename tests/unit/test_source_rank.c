/* Rewards by classifiers: a tiny BERT against its formulas written out here, a tiny Qwen3 reranker against our own engine's
 * hidden states; files that are no classifiers are refused before libllama sees them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "engine/engine.h"
#include "genarm/source.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

enum { EMBD = 16, HEADS = 2, HEAD = EMBD / HEADS, FF = 24, LAYERS = 2, CTX = 32, OUT = 2, MAX_WEIGHTS = 40 };
static const double norm_eps = 1e-5;

/* WordPiece as in GGUF: words start with U+2581. */
#define WORD "\xE2\x96\x81"
static const char *tokens[] = {"[PAD]",     "[UNK]",  "[CLS]",    "[SEP]",    "[MASK]", WORD "name", WORD "a",
                               WORD "bird", WORD ".", WORD "the", WORD "owl", "s",      WORD "cod",  WORD ","};
enum { VOCAB = sizeof tokens / sizeof *tokens, CLS = 2, SEP = 3 };

/* ---- the file ---- */

struct bert {
    struct ggml_context *ctx;
    struct gguf_context *gguf;
};

static void add_weight(struct bert *b, struct rng *rng, const char *name, int64_t ne0, int64_t ne1, float mean, float size) {
    struct ggml_tensor *t = ggml_new_tensor(b->ctx, GGML_TYPE_F32, ne1 ? 2 : 1, (int64_t[]){ne0, ne1});
    for (int64_t i = 0; i < ggml_nelements(t); i++) {
        ((float *)t->data)[i] = mean + size * (2 * (float)rng_uniform(rng) - 1);
    }
    ggml_set_name(t, name);
    gguf_add_tensor(b->gguf, t);
}

/* NAME.weight and NAME.bias. */
static void add_linear(struct bert *b, struct rng *rng, const char *name, int64_t n_in, int64_t n_out) {
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    add_weight(b, rng, full, n_in, n_out, 0, 0.5f);
    snprintf(full, sizeof full, "%s.bias", name);
    add_weight(b, rng, full, n_out, 0, 0, 0.3f);
}

static void add_norm(struct bert *b, struct rng *rng, const char *name) {
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    add_weight(b, rng, full, EMBD, 0, 1, 0.3f);
    snprintf(full, sizeof full, "%s.bias", name);
    add_weight(b, rng, full, EMBD, 0, 0, 0.3f);
}

static void set_metadata(struct gguf_context *g, const char *const *labels, size_t n_labels) {
    gguf_set_val_str(g, "general.architecture", "bert");
    gguf_set_val_u32(g, "bert.block_count", LAYERS);
    gguf_set_val_u32(g, "bert.context_length", CTX);
    gguf_set_val_u32(g, "bert.embedding_length", EMBD);
    gguf_set_val_u32(g, "bert.feed_forward_length", FF);
    gguf_set_val_u32(g, "bert.attention.head_count", HEADS);
    gguf_set_val_f32(g, "bert.attention.layer_norm_epsilon", (float)norm_eps);
    gguf_set_val_bool(g, "bert.attention.causal", false);
    gguf_set_val_u32(g, "bert.pooling_type", 4);
    if (n_labels) {
        gguf_set_arr_str(g, "bert.classifier.output_labels", (const char **)(uintptr_t)labels, n_labels);
    }
    gguf_set_val_str(g, "tokenizer.ggml.model", "bert");
    gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens, VOCAB);
    gguf_set_val_u32(g, "tokenizer.ggml.token_type_count", 2);
    gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", CLS);
    gguf_set_val_u32(g, "tokenizer.ggml.seperator_token_id", SEP);
    gguf_set_val_u32(g, "tokenizer.ggml.unknown_token_id", 1);
    gguf_set_val_u32(g, "tokenizer.ggml.padding_token_id", 0);
    gguf_set_val_u32(g, "tokenizer.ggml.mask_token_id", 4);
    gguf_set_val_bool(g, "tokenizer.ggml.add_bos_token", true);
    gguf_set_val_bool(g, "tokenizer.ggml.add_eos_token", true);
}

static void bert_new(struct bert *b, int n_out) {
    static const char *const labels[] = {"bad", "good"};
    struct rng rng;
    char name[64];
    rng_seed(&rng, 5);
    b->ctx = ggml_init((struct ggml_init_params){.mem_size = 1 << 20});
    b->gguf = gguf_init_empty();
    set_metadata(b->gguf, labels, n_out > 1 ? (size_t)n_out : 0);
    add_weight(b, &rng, "token_embd.weight", EMBD, VOCAB, 0, 1);
    add_weight(b, &rng, "token_types.weight", EMBD, 2, 0, 0.5f);
    add_weight(b, &rng, "position_embd.weight", EMBD, CTX, 0, 0.5f);
    add_norm(b, &rng, "token_embd_norm");
    for (int i = 0; i < LAYERS; i++) {
        static const char *const square[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "blk.%d.%s", i, square[k]);
            add_linear(b, &rng, name, EMBD, EMBD);
        }
        snprintf(name, sizeof name, "blk.%d.attn_output_norm", i);
        add_norm(b, &rng, name);
        snprintf(name, sizeof name, "blk.%d.ffn_up", i);
        add_linear(b, &rng, name, EMBD, FF);
        snprintf(name, sizeof name, "blk.%d.ffn_down", i);
        add_linear(b, &rng, name, FF, EMBD);
        snprintf(name, sizeof name, "blk.%d.layer_output_norm", i);
        add_norm(b, &rng, name);
    }
    add_linear(b, &rng, "cls", EMBD, EMBD);
    add_linear(b, &rng, "cls.output", EMBD, n_out);
}

static const char *bert_write(struct bert *b, const char *path) {
    remove(path);
    assert_true(gguf_write_to_file(b->gguf, path, false));
    return path;
}

static void bert_free(struct bert *b) {
    gguf_free(b->gguf);
    ggml_free(b->ctx);
}

/* ---- its formulas (Devlin et al. 2019, with the classifier on the pooled first token) ---- */

static const float *weight(const struct bert *b, const char *prefix, int layer, const char *name) {
    char full[96];
    if (layer >= 0) {
        snprintf(full, sizeof full, "blk.%d.%s%s", layer, prefix, name);
    } else {
        snprintf(full, sizeof full, "%s%s", prefix, name);
    }
    const struct ggml_tensor *t = ggml_get_tensor(b->ctx, full);
    assert_non_null(t);
    return t->data;
}

static void linear(const struct bert *b, const char *name, int layer, const double *x, int n_in, double *y, int n_out) {
    const float *w = weight(b, name, layer, ".weight"), *bias = weight(b, name, layer, ".bias");
    for (int o = 0; o < n_out; o++) {
        y[o] = (double)bias[o];
        for (int i = 0; i < n_in; i++) {
            y[o] += (double)w[o * n_in + i] * x[i];
        }
    }
}

static void norm(const struct bert *b, const char *name, int layer, double *x) {
    const float *w = weight(b, name, layer, ".weight"), *bias = weight(b, name, layer, ".bias");
    double mean = 0, var = 0;
    for (int i = 0; i < EMBD; i++) {
        mean += x[i] / EMBD;
    }
    for (int i = 0; i < EMBD; i++) {
        var += (x[i] - mean) * (x[i] - mean) / EMBD;
    }
    for (int i = 0; i < EMBD; i++) {
        x[i] = (x[i] - mean) / sqrt(var + norm_eps) * (double)w[i] + (double)bias[i];
    }
}

static void attention(const struct bert *b, int layer, double (*x)[EMBD], int n) {
    double q[CTX][EMBD], k[CTX][EMBD], v[CTX][EMBD], out[EMBD], p[CTX];
    for (int t = 0; t < n; t++) {
        linear(b, "attn_q", layer, x[t], EMBD, q[t], EMBD);
        linear(b, "attn_k", layer, x[t], EMBD, k[t], EMBD);
        linear(b, "attn_v", layer, x[t], EMBD, v[t], EMBD);
    }
    for (int t = 0; t < n; t++) {
        double mixed[EMBD] = {0};
        for (int h = 0; h < HEADS; h++) {
            double sum = 0;
            for (int u = 0; u < n; u++) {
                double dot = 0;
                for (int i = 0; i < HEAD; i++) {
                    dot += q[t][h * HEAD + i] * k[u][h * HEAD + i];
                }
                p[u] = exp(dot / sqrt(HEAD));
                sum += p[u];
            }
            for (int u = 0; u < n; u++) {
                for (int i = 0; i < HEAD; i++) {
                    mixed[h * HEAD + i] += p[u] / sum * v[u][h * HEAD + i];
                }
            }
        }
        linear(b, "attn_output", layer, mixed, EMBD, out, EMBD);
        for (int i = 0; i < EMBD; i++) {
            x[t][i] += out[i]; /* q, k and v of all tokens are computed already */
        }
        norm(b, "attn_output_norm", layer, x[t]);
    }
}

static void feed_forward(const struct bert *b, int layer, double *x) {
    double up[FF], down[EMBD];
    linear(b, "ffn_up", layer, x, EMBD, up, FF);
    for (int i = 0; i < FF; i++) {
        up[i] = 0.5 * up[i] * (1 + erf(up[i] / sqrt(2)));
    }
    linear(b, "ffn_down", layer, up, FF, down, EMBD);
    for (int i = 0; i < EMBD; i++) {
        x[i] += down[i];
    }
    norm(b, "layer_output_norm", layer, x);
}

static void classify(const struct bert *b, const int *ids, int n, double *out, int n_out) {
    const float *words = weight(b, "token_embd", -1, ".weight"), *places = weight(b, "position_embd", -1, ".weight");
    const float *types = weight(b, "token_types", -1, ".weight"); /* libllama gives all tokens the first type */
    double x[CTX][EMBD], pooled[EMBD];
    for (int t = 0; t < n; t++) {
        for (int i = 0; i < EMBD; i++) {
            x[t][i] = (double)words[ids[t] * EMBD + i] + (double)places[t * EMBD + i] + (double)types[i];
        }
        norm(b, "token_embd_norm", -1, x[t]);
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        attention(b, layer, x, n);
        for (int t = 0; t < n; t++) {
            feed_forward(b, layer, x[t]);
        }
    }
    linear(b, "cls", -1, x[0], EMBD, pooled, EMBD);
    for (int i = 0; i < EMBD; i++) {
        pooled[i] = tanh(pooled[i]);
    }
    linear(b, "cls.output", -1, pooled, EMBD, out, n_out);
}

/* ---- BERT ---- */

static const struct genarm_message talk[] = {{"user", "A cod"}, {"assistant", "The owl."}, {"user", "Name a bird."}};
static const struct genarm_sample samples[] = {{talk, 3, "The owls.", true, NULL, 0},
                                               {talk, 1, "Cod, cod", false, NULL, 0},
                                               {talk, 3, "?", true, NULL, 0},
                                               {talk, 3, "", true, NULL, 0},
                                               {talk, 3, "The owls.", true, NULL, 0}};
static const int ids[][12] = {{CLS, 5, 6, 7, 8, SEP, SEP, 9, 10, 11, 8, SEP},
                              {CLS, 6, 12, SEP, SEP, 12, 13, 12, SEP},
                              {CLS, 5, 6, 7, 8, SEP, SEP, 1, SEP},
                              {CLS, 5, 6, 7, 8, SEP, SEP, SEP},
                              {CLS, 5, 6, 7, 8, SEP, SEP, 9, 10, 11, 8, SEP}};
static const int n_ids[] = {12, 9, 9, 8, 12};
enum { N = sizeof samples / sizeof *samples };

static struct genarm_source_params one_thread(void) {
    struct genarm_source_params p = genarm_source_default_params();
    p.n_threads = 1;
    return p;
}

static struct genarm_source *open_rank(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static struct genarm_source *open_rank(const char *fmt, ...) {
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    const struct genarm_source_params p = one_thread();
    char spec[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(spec, sizeof spec, fmt, args);
    va_end(args);
    must(genarm_source_new(&s, spec, NULL, &p, &err), &err);
    return s;
}

static void test_a_bert_classifier_gives_what_its_formulas_give(void **state) {
    (void)state;
    static const char *const labels[] = {"bad", "good"};
    for (int n_out = 1; n_out <= OUT; n_out++) {
        struct bert b;
        bert_new(&b, n_out);
        const char *path = bert_write(&b, temp_path("bert.gguf"));
        for (int o = 0; o < n_out; o++) {
            struct genarm_source *s = open_rank("rank:%s%s%s", path, n_out > 1 ? "#" : "", n_out > 1 ? labels[o] : "");
            struct genarm_error err = {0};
            double values[N], right[OUT];
            must(genarm_source_score(s, samples, N, values, &err), &err);
            for (int i = 0; i < N; i++) {
                classify(&b, ids[i], n_ids[i], right, n_out);
                if (fabs(values[i] - right[o]) > 5e-3) { /* libllama's attention rounds keys to f16 */
                    fail_msg("output %d of %d, sample %d: %g, not %g", o, n_out, i, values[i], right[o]);
                }
            }
            assert_true(values[0] == values[N - 1] && fabs(values[0] - values[1]) > 1e-2);
            assert_string_equal(genarm_source_name(s), "bert");
            genarm_source_free(s);
        }
        bert_free(&b);
    }
}

static void refused(const char *suffix, const char *path, int code, const char *text) {
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    const struct genarm_source_params p = one_thread();
    char spec[600];
    snprintf(spec, sizeof spec, "rank:%s%s", path, suffix);
    const int rc = genarm_source_new(&s, spec, NULL, &p, &err);
    if (rc != code || s || !strstr(err.what, text)) {
        fail_msg("%s: %d \"%s\"", text, rc, err.what);
    }
    assert_string_equal(err.where, path);
}

static void test_which_output_must_be_said(void **state) {
    (void)state;
    struct bert b;
    bert_new(&b, OUT);
    const char *path = bert_write(&b, temp_path("two.gguf"));
    refused("", path, GENARM_EINVAL, "which of the outputs is the reward: bad, good");
    refused("#great", path, GENARM_EINVAL, "there is no output \"great\", there are: bad, good");
    bert_free(&b);
}

static void test_a_text_beyond_the_context_is_an_error(void **state) {
    (void)state;
    struct bert b;
    bert_new(&b, 1);
    struct genarm_source *s = open_rank("rank:%s", bert_write(&b, temp_path("short.gguf")));
    struct genarm_error err = {0};
    double value = 5;
    char text[512] = "";
    for (int i = 0; i < 40; i++) {
        strcat(text, "owl ");
    }
    for (int n = 20; n <= 40; n++) { /* a token each, and 8 others */
        text[4 * n] = '\0';
        const struct genarm_sample sample = {talk, 3, text, true, NULL, 0};
        const int expected = n <= CTX - 8 ? GENARM_OK : GENARM_ECONTEXT;
        assert_int_equal(genarm_source_score(s, &sample, 1, &value, &err), expected);
        text[4 * n] = 'o';
    }
    const struct genarm_message nobody[] = {{"system", "x"}};
    assert_int_equal(genarm_source_score(s, &(struct genarm_sample){nobody, 1, "owl", true, NULL, 0},
                                     1, &value, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "no message of a user"));
    genarm_source_free(s);
    bert_free(&b);
}

static void test_files_that_are_no_classifiers_are_refused(void **state) {
    (void)state;
    struct edit e;
    struct bert b;
    bert_new(&b, 1);
    const char *good = bert_write(&b, temp_path("good.gguf")), *bad = temp_path("bad.gguf");
    edit_open(&e, good);
    edit_remove(&e, "cls.output.weight");
    refused("", edit_save(&e, bad), GENARM_EUNSUPPORTED, "this is no classifier");
    edit_open(&e, good);
    edit_add(&e, "cls.output.weight", GGML_TYPE_F32, EMBD, 3);
    refused("", edit_save(&e, bad), GENARM_EFORMAT, "3 outputs");
    edit_open(&e, good);
    edit_remove(&e, "blk.1.ffn_up.weight");
    refused("", edit_save(&e, bad), GENARM_EFORMAT, "libllama cannot load it: ");
    edit_open(&e, good);
    edit_remove(&e, "token_embd.weight");
    refused("", edit_save(&e, bad), GENARM_EFORMAT, "token_embd.weight is missing");
    static const char *const keys[] = {"bert.embedding_length", "bert.attention.head_count", "bert.block_count",
                                       "bert.feed_forward_length", "bert.context_length"};
    for (int i = 0; i < 5; i++) {
        for (int missing = 0; missing < 2; missing++) {
            edit_open(&e, good);
            gguf_remove_key(e.gguf, keys[i]);
            if (!missing) {
                gguf_set_val_u32(e.gguf, keys[i], 0);
            }
            refused("", edit_save(&e, bad), GENARM_EFORMAT, keys[i]);
        }
    }
    edit_open(&e, good);
    gguf_set_val_u32(e.gguf, "bert.attention.head_count", 3);
    refused("", edit_save(&e, bad), GENARM_EFORMAT, "3 heads do not divide");
    edit_open(&e, good);
    gguf_set_val_f32(e.gguf, "bert.attention.layer_norm_epsilon", -1);
    refused("", edit_save(&e, bad), GENARM_EFORMAT, "layer_norm_epsilon is -1");
    edit_open(&e, good);
    gguf_set_val_str(e.gguf, "tokenizer.ggml.model", "rwkv");
    refused("", edit_save(&e, bad), GENARM_EUNSUPPORTED, "rwkv");
    refused("", golden_path("llama.gguf"), GENARM_EUNSUPPORTED, "no classifiers \"llama\"");
    refused("", golden_path("qwen3.gguf"), GENARM_EUNSUPPORTED, "this is no classifier");
    edit_open(&e, good); /* a special token that the vocabulary does not have: libllama would look up a row that is not there */
    gguf_remove_key(e.gguf, "tokenizer.ggml.bos_token_id");
    struct genarm_source *s = open_rank("rank:%s", edit_save(&e, bad));
    struct genarm_error err = {0};
    double value;
    assert_int_equal(genarm_source_score(s, samples, 1, &value, &err), GENARM_EFORMAT);
    genarm_source_free(s);
    bert_free(&b);
}

/* ---- Qwen3 ---- */

static const char *const answers[] = {"yes", "no", "maybe"};

static const char *write_reranker(int n_out, bool with_template, float *head) {
    struct edit e;
    edit_open(&e, golden_path("qwen3.gguf"));
    const int64_t n_embd = edit_tensor(&e, "output_norm.weight")->ne[0];
    float *w = edit_add(&e, "cls.output.weight", GGML_TYPE_F32, n_embd, n_out);
    for (int64_t i = 0; i < n_embd * n_out; i++) {
        w[i] = head[i] = sinf((float)i * 1.7f) / 2;
    }
    gguf_set_val_u32(e.gguf, "qwen3.pooling_type", 4);
    gguf_set_arr_str(e.gguf, "qwen3.classifier.output_labels", (const char **)(uintptr_t)answers, (size_t)n_out);
    if (with_template) {
        gguf_set_val_str(e.gguf, "tokenizer.chat_template.rerank", "Q: {query}\nD: {document}\n{}");
    }
    return edit_save(&e, temp_path("reranker.gguf"));
}

/* Softmax of head times the last hidden state, by our own engine. */
static void rerank(const struct genarm_model *model, const char *text, const float *head, int n_out, double *out) {
    struct engine *engine = NULL;
    struct genarm_error err = {0};
    int32_t t[400];
    struct row rows[400];
    const int32_t n = genarm_tokenize(model, text, strlen(text), false, true, t, 400);
    const int32_t n_embd = model->hp.n_embd;
    float *hidden = malloc((size_t)n_embd * sizeof *hidden);
    double sum = 0;
    assert_true(n > 0);
    for (int32_t i = 0; i < n; i++) {
        rows[i] = (struct row){.token = t[i], .pos = i, .adapter = ENGINE_NO_ADAPTER, .output = i == n - 1};
    }
    const struct engine_params p = {.n_seq = 1, .n_ctx = 400, .n_threads = 1, .hidden = true, .kv_type = GENARM_KV_F32};
    must(engine_rows_new(&engine, model, &p, &err), &err);
    must(engine_forward(engine, rows, n, hidden, &err), &err);
    for (int o = 0; o < n_out; o++) {
        out[o] = 0;
        for (int32_t i = 0; i < n_embd; i++) {
            out[o] += (double)head[o * n_embd + i] * (double)hidden[i];
        }
        out[o] = exp(out[o]);
        sum += out[o];
    }
    for (int o = 0; o < n_out; o++) {
        out[o] /= sum;
    }
    engine_free(engine);
    free(hidden);
}

static void test_a_reranker_reads_its_template(void **state) {
    (void)state;
    static const char long_text[] = "The owl, the owl, the owl, the owl, the owl, the owl, the owl, the owl, the owl";
    struct genarm_model *model = golden_model("qwen3.gguf");
    float *head = malloc(3 * (size_t)model->hp.n_embd * sizeof *head);
    const char *path = write_reranker(3, true, head);
    const struct genarm_sample some[] = {{talk, 3, "{query} owl", true, NULL, 0}, {talk, 1, long_text, true, NULL, 0}};
    for (int n_batch = 7; n_batch < 600; n_batch += 505) { /* in pieces, and as a whole */
        for (int o = 0; o < 3; o++) {
            struct genarm_source *s = NULL;
            struct genarm_error err = {0};
            struct genarm_source_params p = one_thread();
            char spec[600], texts[2][400];
            double values[2], right[3];
            p.n_batch = n_batch;
            snprintf(spec, sizeof spec, "rank:%s%s%s", path, o ? "#" : "", o ? answers[o] : ""); /* the first by default */
            must(genarm_source_new(&s, spec, NULL, &p, &err), &err);
            must(genarm_source_score(s, some, 2, values, &err), &err);
            snprintf(texts[0], sizeof texts[0], "Q: Name a bird.\nD: {query} owl\n{}");
            snprintf(texts[1], sizeof texts[1], "Q: A cod\nD: %s\n{}", long_text);
            for (int i = 0; i < 2; i++) {
                rerank(model, texts[i], head, 3, right);
                assert_true(fabs(values[i] - right[o]) < 2e-3);
            }
            assert_true(fabs(values[0] - values[1]) > 1e-3);
            genarm_source_free(s);
        }
    }
    free(head);
    genarm_model_free(model);
}

static void test_a_probability_of_one_output_is_refused(void **state) {
    (void)state;
    float head[4096];
    refused("", write_reranker(1, true, head), GENARM_EUNSUPPORTED, "always 1");
    refused("", write_reranker(2, false, head), GENARM_EINVAL, "which of the outputs");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bert_classifier_gives_what_its_formulas_give),
        cmocka_unit_test(test_which_output_must_be_said),
        cmocka_unit_test(test_a_text_beyond_the_context_is_an_error),
        cmocka_unit_test(test_files_that_are_no_classifiers_are_refused),
        cmocka_unit_test(test_a_reranker_reads_its_template),
        cmocka_unit_test(test_a_probability_of_one_output_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
