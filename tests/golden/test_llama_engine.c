/* The engine of libllama: what it must do that libllama's memories do not, and policies of both engines in one guide. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "genarm/genarm.h"
#include "guide/guide.h"
#include "model/model.h"
#include "support/edit.h"
#include "support/foreign.h"
#include "support/golden.h"
#include "support/libllama.h"
#include "support/temp.h"

/* Tokens of a sequence: more than the 256 cells that libllama has at least for a window, of 8 here. */
enum { N = 320, CTX = 512 };

/* Whole caches, a window's caches, a recurrent state. */
static const char *const kinds[] = {"llama", "gemma3", "mamba"};

static struct genarm_model *load(const char *path, enum genarm_engine engine) {
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    struct genarm_model_params params = genarm_model_default_params();
    params.engine = engine;
    must(genarm_model_load(&model, path, &params, &err), &err);
    return model;
}

static struct genarm_model *load_kind(const char *kind) {
    if (strcmp(kind, "llama") == 0) {
        return load(golden_path("llama.gguf"), GENARM_ENGINE_LLAMA);
    }
    const char *path = temp_path("foreign.gguf");
    return load(strcmp(kind, "gemma3") == 0 ? foreign_gemma3(path) : foreign_mamba(path), GENARM_ENGINE_AUTO);
}

static struct engine *start(const struct genarm_model *model, int32_t n_seq) {
    struct engine *e = NULL;
    struct genarm_error err = {0};
    const struct engine_params params = {.n_seq = n_seq, .n_ctx = CTX, .n_batch = 16, .n_threads = 1, .kv_type = GENARM_KV_F32};
    must(engine_new(&e, model, &params, &err), &err);
    return e;
}

static int32_t token_at(int32_t pos) { return 20 + pos * 37 % 200; }

/* Feeds positions [from, to) of a sequence; every row's logits to out [n_vocab, to - from]. */
static void feed(struct engine *e, int32_t seq, int32_t adapter, int32_t from, int32_t to, float *out) {
    struct row rows[N];
    struct genarm_error err = {0};
    for (int32_t p = from; p < to; p++) {
        rows[p - from] = (struct row){.token = token_at(p), .seq = seq, .pos = p, .adapter = adapter, .output = out != NULL};
    }
    must(engine_forward(e, rows, to - from, out, &err), &err);
}

static float *new_logits(const struct engine *e) { return calloc((size_t)N * (size_t)e->model->hp.n_vocab, sizeof(float)); }

static void expect_close(const char *what, const struct engine *e, const float *got, const float *want, int32_t n,
                         float limit) {
    float most = 0.0f;
    for (size_t i = 0; i < (size_t)n * (size_t)e->model->hp.n_vocab; i++) {
        const float d = fabsf(got[i] - want[i]);
        most = d > most || isnan(d) ? d : most;
    }
    if (!(most <= limit)) {
        fail_msg("%s: %s: logits differ by %g", e->model->architecture, what, (double)most);
    }
}

/* A fresh sequence gives `want`; `test` does something to engine and sequence before position `at` is fed again. */
static void for_kinds(void (*test)(struct engine *e, const float *want, float *got)) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct genarm_model *model = load_kind(kinds[i]);
        struct engine *e = start(model, 3);
        float *want = new_logits(e), *got = new_logits(e);
        assert_string_equal(e->vtable->name, "llama");
        feed(e, 2, ENGINE_NO_ADAPTER, 0, N, want);
        test(e, want, got);
        free(want);
        free(got);
        engine_free(e);
        genarm_model_free(model);
    }
}

static void check_libllama(struct engine *e, const float *want, float *got) {
    enum { SHORT = 60 };
    int32_t tokens[SHORT];
    for (int32_t p = 0; p < SHORT; p++) {
        tokens[p] = token_at(p);
    }
    float *theirs = libllama_logits(e->model->path, NULL, NULL, 0, tokens, SHORT);
    expect_close("libllama alone", e, theirs, want, SHORT, 1e-3f);
    free(theirs);
    (void)got;
}

static void test_logits_are_those_of_libllama_alone(void **state) {
    (void)state;
    for_kinds(check_libllama);
}

static void check_steps(struct engine *e, const float *want, float *got) {
    const size_t V = (size_t)e->model->hp.n_vocab;
    feed(e, 0, ENGINE_NO_ADAPTER, 0, 5, got);
    for (int32_t p = 5, to; p < N; p = to) {
        to = p < 250 ? p + 35 : p + 1;
        feed(e, 0, ENGINE_NO_ADAPTER, p, to, got + (size_t)p * V);
    }
    expect_close("token by token", e, got, want, N, 1e-3f);
}

static void test_token_by_token_equals_one_batch(void **state) {
    (void)state;
    for_kinds(check_steps);
}

/* Far back, past the window, also twice; and by the one token that a prompt which is known already repeats. */
static void check_rewound(struct engine *e, const float *want, float *got) {
    const size_t V = (size_t)e->model->hp.n_vocab;
    static const int32_t places[] = {N - 1, 67, 200, 3, 11, 0};
    struct genarm_error err = {0};
    feed(e, 0, ENGINE_NO_ADAPTER, 0, N, NULL);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const int32_t at = places[i];
        const struct row other = {.token = 77, .seq = 0, .pos = at, .adapter = ENGINE_NO_ADAPTER};
        must(engine_forward(e, &other, 1, NULL, &err), &err); /* what is forgotten again */
        feed(e, 0, ENGINE_NO_ADAPTER, at, N, got);
        expect_close("rewound", e, got, want + (size_t)at * V, N - at, 1e-3f);
    }
}

static void test_rewound_sequence_continues_as_a_fresh_one(void **state) {
    (void)state;
    for_kinds(check_rewound);
}

static void check_copied(struct engine *e, const float *want, float *got) {
    const size_t V = (size_t)e->model->hp.n_vocab;
    struct genarm_error err = {0};
    feed(e, 1, ENGINE_NO_ADAPTER, 0, 9, NULL); /* is forgotten */
    for (int32_t n = N - 1; n > 0; n -= 113) {
        must(engine_copy_prefix(e, 2, 1, n, &err), &err);
        feed(e, 1, ENGINE_NO_ADAPTER, n, N, got);
        expect_close("copied", e, got, want + (size_t)n * V, N - n, 1e-3f);
    }
    feed(e, 2, ENGINE_NO_ADAPTER, N - 1, N, got);
    expect_close("the original", e, got, want + (size_t)(N - 1) * V, 1, 1e-3f);
}

static void test_copied_prefix_continues_as_the_original(void **state) {
    (void)state;
    for_kinds(check_copied);
}

static void check_saved(struct engine *e, const float *want, float *got) {
    const size_t V = (size_t)e->model->hp.n_vocab;
    struct genarm_error err = {0};
    struct buf saved;
    buf_init(&saved, 1 << 24);
    must(engine_save(e, 2, N - 1, &saved, &err), &err);
    struct engine *other = start(e->model, 1);
    static const int32_t places[] = {N - 1, 12};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const int32_t at = places[i];
        must(engine_load(other, 0, at, saved.data, saved.len, &err), &err);
        feed(other, 0, ENGINE_NO_ADAPTER, at, N, got);
        expect_close("loaded", e, got, want + (size_t)at * V, N - at, 1e-3f);
    }
    assert_int_equal(engine_load(other, 0, N - 1, saved.data, 10, &err), GENARM_EFORMAT);
    saved.data[8] ^= 1;
    assert_int_equal(engine_load(other, 0, N - 1, saved.data, saved.len, &err), GENARM_EMISMATCH);
    saved.data[8] ^= 1;
    memset(saved.data + saved.len - 40, 0xFF, 40); /* whatever libllama makes of it */
    saved.len -= 8;
    must(engine_load(other, 0, N - 1, saved.data, saved.len, &err), &err);
    feed(other, 0, ENGINE_NO_ADAPTER, N - 1, N, got);
    expect_close("cut off", e, got, want + (size_t)(N - 1) * V, 1, 1e-3f);
    engine_free(other);
    buf_deinit(&saved);
}

static void test_saved_sequence_continues_in_another_engine(void **state) {
    (void)state;
    for_kinds(check_saved);
}

/* Of one layer the cache does not depend on what came before: shifted is then as if the rest had been fed alone. */
static void test_shifted_sequence_is_the_one_without_the_middle(void **state) {
    (void)state;
    struct edit edit;
    edit_open(&edit, golden_path("llama.gguf"));
    gguf_set_val_u32(edit.gguf, "llama.block_count", 1);
    const char *names[64];
    size_t n = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(edit.tensors); t; t = ggml_get_next_tensor(edit.tensors, t)) {
        int layer;
        if (sscanf(t->name, "blk.%d.", &layer) == 1 && layer > 0) {
            names[n++] = t->name;
        }
    }
    while (n > 0) {
        edit_remove(&edit, names[--n]);
    }
    struct genarm_model *model = load(edit_save(&edit, temp_path("one-layer.gguf")), GENARM_ENGINE_LLAMA);
    struct engine *e = start(model, 2);
    struct genarm_error err = {0};
    float *want = new_logits(e), *got = new_logits(e);
    struct row rows[N];
    int32_t n_rows = 0;
    for (int32_t p = 0; p < N; p++) {
        if (p < 4 || p >= 14) {
            rows[n_rows] = (struct row){.token = token_at(p), .seq = 1, .pos = n_rows, .adapter = ENGINE_NO_ADAPTER};
            n_rows++;
        }
    }
    rows[n_rows - 1].output = true;
    must(engine_forward(e, rows, n_rows, want, &err), &err);
    feed(e, 0, ENGINE_NO_ADAPTER, 0, N - 1, NULL);
    must(engine_shift(e, 0, 4, 10, &err), &err);
    rows[n_rows - 1].seq = 0;
    must(engine_forward(e, &rows[n_rows - 1], 1, got, &err), &err);
    expect_close("shifted", e, got, want, 1, 1e-3f);
    free(want);
    free(got);
    engine_free(e);
    genarm_model_free(model);
}

/* Where libllama does not shift what it has, a sequence without its middle continues as if it had been fed anew, and the one
 * beside it as before. Frees the model. */
static void check_fed_again(struct genarm_model *model) {
    enum { KEEP = 4, DROP = 10, END = 40 };
    struct engine *e = start(model, 4);
    struct genarm_error err = {0};
    struct row rows[END];
    int32_t n = 0;
    float *want = new_logits(e), *got = new_logits(e);
    for (int32_t p = 0; p < END; p++) {
        if (p < KEEP || p >= KEEP + DROP) {
            rows[n] = (struct row){.token = token_at(p), .seq = 3, .pos = n, .adapter = ENGINE_NO_ADAPTER};
            n++;
        }
    }
    rows[n - 1].output = true;
    must(engine_forward(e, rows, n, want, &err), &err);
    feed(e, 1, ENGINE_NO_ADAPTER, 0, END - 1, NULL);
    feed(e, 0, ENGINE_NO_ADAPTER, 0, END - 1, NULL);
    must(engine_shift(e, 0, KEEP, DROP, &err), &err);
    rows[n - 1].seq = 0;
    must(engine_forward(e, &rows[n - 1], 1, got, &err), &err);
    expect_close("shifted", e, got, want, 1, 1e-3f);
    feed(e, 1, ENGINE_NO_ADAPTER, END - 1, END, got);
    feed(e, 2, ENGINE_NO_ADAPTER, 0, END, want);
    expect_close("beside it", e, got, want + (size_t)(END - 1) * (size_t)model->hp.n_vocab, 1, 1e-3f);
    free(want);
    free(got);
    engine_free(e);
    genarm_model_free(model);
}

/* A state that knows no places. */
static void test_recurrent_model_is_fed_what_follows_a_forgotten_middle(void **state) {
    (void)state;
    check_fed_again(load_kind("mamba"));
}

/* A shift by libllama would scale every key of every sequence once more. */
static void test_a_shift_under_yarn_touches_no_other_sequence(void **state) {
    (void)state;
    check_fed_again(load(golden_path("llama-yarn.gguf"), GENARM_ENGINE_LLAMA));
}

/* Positions that hold what is no number reach rows that look past them, until they are cleared; other sequences go on. */
static void test_a_cleared_sequence_leaves_nothing_behind(void **state) {
    (void)state;
    enum { PROMPT = 70, OTHER = 30, BAD = 280 };
    struct edit edit;
    edit_open(&edit, golden_path("llama.gguf"));
    struct ggml_tensor *embeddings = edit_tensor(&edit, "token_embd.weight");
    assert_int_equal(embeddings->type, GGML_TYPE_F32);
    memcpy(edit_add(&edit, "output.weight", GGML_TYPE_F32, embeddings->ne[0], embeddings->ne[1]), embeddings->data,
           ggml_nbytes(embeddings));
    for (int64_t i = 0; i < embeddings->ne[0]; i++) {
        ((float *)embeddings->data)[BAD * embeddings->ne[0] + i] = NAN;
    }
    struct genarm_model *model = load(edit_save(&edit, temp_path("nan.gguf")), GENARM_ENGINE_LLAMA);
    static const enum genarm_kv_type types[] = {GENARM_KV_F32, GENARM_KV_F16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct engine *e = NULL;
        struct genarm_error err = {0};
        const struct engine_params params = {.n_seq = 3, .n_ctx = CTX, .n_batch = 128, .n_threads = 1, .kv_type = types[i]};
        must(engine_new(&e, model, &params, &err), &err);
        float *want = new_logits(e), *got = new_logits(e);
        feed(e, 2, ENGINE_NO_ADAPTER, 0, PROMPT, want);
        feed(e, 1, ENGINE_NO_ADAPTER, 0, OTHER, NULL);
        struct row bad[PROMPT];
        for (int32_t p = 0; p < PROMPT; p++) {
            bad[p] = (struct row){.token = BAD, .pos = p, .adapter = ENGINE_NO_ADAPTER, .output = p == PROMPT - 1};
        }
        must(engine_forward(e, bad, PROMPT, got, &err), &err);
        assert_true(isnan(got[0]));
        engine_clear(e, 0);
        feed(e, 0, ENGINE_NO_ADAPTER, 0, PROMPT, got);
        expect_close("cleared", e, got, want, PROMPT, 1e-3f);
        feed(e, 1, ENGINE_NO_ADAPTER, OTHER, PROMPT, got);
        const float *want_other = want + (size_t)OTHER * (size_t)model->hp.n_vocab;
        expect_close("beside it", e, got, want_other, PROMPT - OTHER, 0.1f); /* f16 rounds otherwise in another batch */
        free(want);
        free(got);
        engine_free(e);
    }
    genarm_model_free(model);
}

static void test_a_sequence_is_seen_through_one_adapter(void **state) {
    (void)state;
    struct genarm_model *model = load(golden_path("llama.gguf"), GENARM_ENGINE_LLAMA);
    struct genarm_adapter *adapter = golden_adapter(model, "llama.lora.gguf");
    struct engine *e = start(model, 2);
    struct genarm_error err = {0};
    must(engine_add_adapter(e, adapter, &err), &err);
    float *base = new_logits(e), *got = new_logits(e);
    feed(e, 1, ENGINE_NO_ADAPTER, 0, N, base);
    feed(e, 0, 0, 0, 10, NULL);
    const struct row next = {.token = 30, .seq = 0, .pos = 10, .adapter = ENGINE_NO_ADAPTER};
    assert_int_equal(engine_forward(e, &next, 1, NULL, &err), GENARM_EINVAL);
    feed(e, 0, ENGINE_NO_ADAPTER, 0, N, got); /* anew it may be */
    expect_close("without the adapter", e, got, base, N, 1e-3f);
    free(base);
    free(got);
    engine_free(e);
    genarm_adapter_free(adapter);
    genarm_model_free(model);
}

/* ---- guides ---- */

static const struct genarm_message hello = {"user", "How are you, and what is the time?"};

static int add_score(const struct genarm_token_score *score, void *user) {
    *(double *)user += (double)score->guided;
    return 0;
}

/* A session with a prompt under base and ARM. */
static struct genarm_session *guided(struct genarm_guide **g, struct genarm_model *base, struct genarm_model *arm_model,
                                     struct genarm_adapter *arm) {
    struct genarm_guide_params params = genarm_guide_default_params();
    struct genarm_session *s;
    struct genarm_error err = {0};
    params.n_ctx = 128;
    params.n_threads = 1;
    params.kv_type = GENARM_KV_F32;
    must(genarm_guide_new(g, base, &params, &err), &err);
    const struct genarm_arm_params p = {.name = "a", .model = arm_model, .adapter = arm, .weight = 0.8f};
    must(genarm_guide_add_arm(*g, &p, &err), &err);
    must(genarm_session_new(&s, *g, NULL, &err), &err);
    must(genarm_session_prompt(s, &hello, 1, &err), &err);
    return s;
}

/* log-probability of a fixed answer under base and ARM. */
static double guided_score(struct genarm_model *base, struct genarm_model *arm_model, struct genarm_adapter *arm) {
    struct genarm_guide *g;
    struct genarm_session *s = guided(&g, base, arm_model, arm);
    struct genarm_error err = {0};
    int32_t answer[24];
    double sum = 0;
    for (int32_t i = 0; i < 24; i++) {
        answer[i] = token_at(i);
    }
    must(genarm_session_score(s, answer, 24, add_score, &sum, &err), &err);
    genarm_session_free(s);
    genarm_guide_free(g);
    return sum;
}

static void test_policies_of_both_engines_guide_each_other(void **state) {
    (void)state;
    struct genarm_model *models[2];
    struct genarm_adapter *adapters[2];
    for (int i = 0; i < 2; i++) {
        models[i] = load(golden_path("llama.gguf"), i ? GENARM_ENGINE_LLAMA : GENARM_ENGINE_GENARM);
        adapters[i] = golden_adapter(models[i], "llama.lora.gguf");
    }
    const double own = guided_score(models[0], models[0], adapters[0]);
    for (int base = 0; base < 2; base++) {
        for (int arm = 0; arm < 2; arm++) {
            assert_true(fabs(guided_score(models[base], models[arm], adapters[arm]) - own) < 1e-3);
        }
    }
    for (int i = 0; i < 2; i++) {
        genarm_adapter_free(adapters[i]);
        genarm_model_free(models[i]);
    }
}

/* ---- models ---- */

static void test_the_engine_is_chosen_by_what_the_model_needs(void **state) {
    (void)state;
    struct genarm_model_info info;
    struct genarm_model *model = load_kind("gemma3");
    genarm_model_get_info(model, &info);
    assert_int_equal(info.engine, GENARM_ENGINE_LLAMA);
    assert_string_equal(info.architecture, "gemma3");
    assert_int_equal(info.n_layer, 6);
    assert_int_equal(info.n_embd, 32);
    assert_int_equal(info.n_ctx_train, 1024);
    assert_int_equal(info.n_head, 4);
    struct genarm_model_part parts[2];
    assert_int_equal(genarm_model_get_parts(model, parts, 2), 1);
    assert_int_equal(parts[0].n_layers, 6);
    assert_true(parts[0].head && parts[0].embeddings);
    assert_int_equal(parts[0].size, info.size);
    genarm_model_free(model);

    struct genarm_model *other = NULL;
    struct genarm_error err = {0};
    struct genarm_model_params params = genarm_model_default_params();
    params.engine = GENARM_ENGINE_GENARM;
    assert_int_equal(genarm_model_load(&other, foreign_gemma3(temp_path("foreign.gguf")), &params, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "gemma3"));
    model = load(golden_path("llama.gguf"), GENARM_ENGINE_AUTO);
    other = load(golden_path("llama.gguf"), GENARM_ENGINE_LLAMA);
    assert_int_equal(model->engine, GENARM_ENGINE_GENARM);
    assert_string_equal(model->fingerprint, other->fingerprint);
    genarm_model_free(model);
    genarm_model_free(other);
}

static void test_an_architecture_that_nobody_knows_is_an_error_that_names_it(void **state) {
    (void)state;
    struct edit edit;
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    edit_open(&edit, foreign_gemma3(temp_path("foreign.gguf")));
    gguf_set_val_str(edit.gguf, "general.architecture", "gemma99");
    gguf_set_val_u32(edit.gguf, "gemma99.context_length", 64);
    gguf_set_val_u32(edit.gguf, "gemma99.embedding_length", 32);
    gguf_set_val_u32(edit.gguf, "gemma99.block_count", 6);
    assert_int_equal(genarm_model_load(&model, edit_save(&edit, temp_path("unknown.gguf")), NULL, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "gemma99"));
    edit_open(&edit, foreign_gemma3(temp_path("foreign.gguf")));
    edit_remove(&edit, "blk.3.attn_q.weight");
    assert_int_equal(genarm_model_load(&model, edit_save(&edit, temp_path("missing.gguf")), NULL, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "blk.3.attn_q.weight"));
    edit_open(&edit, foreign_gemma3(temp_path("foreign.gguf")));
    gguf_set_val_u32(edit.gguf, "gemma3.block_count", 0);
    assert_int_equal(genarm_model_load(&model, edit_save(&edit, temp_path("none.gguf")), NULL, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "gemma3.block_count"));
}

static void test_a_model_with_fused_maps_is_run_by_libllama(void **state) {
    (void)state;
    static const char parts[] = "qkv";
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    for (int l = 0; l < 2; l++) {
        struct ggml_tensor *apart[3];
        char name[64];
        int64_t n_rows = 0;
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "blk.%d.attn_%c.weight", l, parts[i]);
            n_rows += (apart[i] = edit_tensor(&e, name))->ne[1];
        }
        snprintf(name, sizeof name, "blk.%d.attn_qkv.weight", l);
        char *fused = edit_add(&e, name, apart[0]->type, apart[0]->ne[0], n_rows);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(apart[i]->type, apart[0]->type);
            memcpy(fused, apart[i]->data, ggml_nbytes(apart[i]));
            fused += ggml_nbytes(apart[i]);
            edit_remove(&e, apart[i]->name);
        }
    }
    struct genarm_model *models[] = {load(golden_path("llama.gguf"), GENARM_ENGINE_LLAMA),
                                     load(edit_save(&e, temp_path("fused.gguf")), GENARM_ENGINE_AUTO)};
    struct engine *engines[2];
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        engines[i] = start(models[i], 1);
        logits[i] = new_logits(engines[i]);
        feed(engines[i], 0, ENGINE_NO_ADAPTER, 0, N, logits[i]);
    }
    assert_int_equal(models[1]->engine, GENARM_ENGINE_LLAMA);
    expect_close("fused", engines[0], logits[1], logits[0], N, 1e-3f);
    for (int i = 0; i < 2; i++) {
        free(logits[i]);
        engine_free(engines[i]);
        genarm_model_free(models[i]);
    }
}

/* What libllama asserts, it would end the process for. */
static void test_metadata_that_libllama_aborts_on_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *keys[4];
        uint32_t values[4];
        int code;
        const char *error;
    } cases[] = {
        {{"expert_count"}, {8}, GENARM_EFORMAT, "llama.expert_used_count: 0 of 8"},
        {{"expert_count", "expert_used_count"}, {8, 9}, GENARM_EFORMAT, "llama.expert_used_count: 9 of 8"},
        {{"expert_used_count"}, {2}, GENARM_EFORMAT, "llama.expert_used_count: 2 of 0"},
        {{"expert_count", "expert_used_count"}, {5000, 2}, GENARM_EUNSUPPORTED, "llama.expert_count is 5000"},
        {{"expert_count", "expert_used_count", "expert_group_count"}, {8, 2, 8}, GENARM_EFORMAT, "8 experts in 8 groups"},
        {{"expert_count", "expert_used_count", "expert_group_count"}, {8, 2, 3}, GENARM_EFORMAT, "8 experts in 3 groups"},
        {{"expert_count", "expert_used_count", "expert_group_count"}, {8, 2, 4}, GENARM_EFORMAT, "0 of 4 groups"},
        {{"expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count"}, {8, 2, 4, 4}, GENARM_EFORMAT,
         "4 of 4 groups"},
        {{"expert_group_count"}, {2}, GENARM_EFORMAT, "0 experts in 2 groups"},
        {{"nextn_predict_layers"}, {100}, GENARM_EFORMAT, "llama.nextn_predict_layers is 100"},
    };
    struct genarm_model *model = NULL;
    struct genarm_model_params params = genarm_model_default_params();
    struct genarm_error err = {0};
    struct edit edit;
    params.engine = GENARM_ENGINE_LLAMA;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        edit_open(&edit, golden_path("llama.gguf"));
        for (int k = 0; k < 4 && cases[i].keys[k]; k++) {
            char key[64];
            snprintf(key, sizeof key, "llama.%s", cases[i].keys[k]);
            gguf_set_val_u32(edit.gguf, key, cases[i].values[k]);
        }
        const int rc = genarm_model_load(&model, edit_save(&edit, temp_path("odd.gguf")), &params, &err);
        if (rc != cases[i].code || !strstr(err.what, cases[i].error)) {
            fail_msg("got %d \"%s\", expected \"%s\"", rc, err.what, cases[i].error);
        }
    }
    edit_open(&edit, golden_path("llama.gguf"));
    gguf_set_val_str(edit.gguf, "llama.rope.scaling.type", "dynamic");
    assert_int_equal(genarm_model_load(&model, edit_save(&edit, temp_path("odd.gguf")), NULL, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "llama.rope.scaling.type: dynamic"));
}

/* ---- adapters ---- */

/* An adapter of one map. */
static const char *write_lora(const char *file, const char *map, int64_t n_in, int64_t n_out, int64_t rank, float b) {
    char name[80];
    struct gguf_context *g = gguf_init_empty();
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = 1 << 20});
    struct ggml_tensor *both[] = {ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_in, rank),
                                  ggml_new_tensor_2d(ctx, GGML_TYPE_F32, rank, n_out)};
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.lora_%c", map, "ab"[i]);
        ggml_set_name(both[i], name);
        for (int64_t k = 0; k < ggml_nelements(both[i]); k++) {
            ggml_get_data_f32(both[i])[k] = i ? b * (float)(k % 5 - 2) : 0.1f * (float)(k % 7 - 3);
        }
        gguf_add_tensor(g, both[i]);
    }
    gguf_set_val_str(g, "general.architecture", "gemma3");
    gguf_set_val_str(g, "general.type", "adapter");
    gguf_set_val_str(g, "adapter.type", "lora");
    gguf_set_val_f32(g, "adapter.lora.alpha", 4.0f);
    const char *path = temp_path(file);
    assert_true(gguf_write_to_file(g, path, false));
    gguf_free(g);
    ggml_free(ctx);
    return path;
}

static void test_adapters_of_foreign_models_are_checked_and_used(void **state) {
    (void)state;
    struct genarm_model *model = load_kind("gemma3");
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info info;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&adapter, model, write_lora("good.gguf", "blk.2.attn_q.weight", 32, 64, 3, 0.2f), &err), &err);
    genarm_adapter_get_info(adapter, &info);
    assert_int_equal(info.rank, 3);
    assert_string_equal(info.targets, "q");
    assert_int_equal(info.n_params, 3 * (32 + 64));
    struct engine *e = start(model, 2);
    must(engine_add_adapter(e, adapter, &err), &err);
    float *base = new_logits(e), *adapted = new_logits(e);
    feed(e, 0, ENGINE_NO_ADAPTER, 0, N, base);
    feed(e, 1, 0, 0, N, adapted);
    assert_true(fabsf(base[5 * e->model->hp.n_vocab + 3] - adapted[5 * e->model->hp.n_vocab + 3]) > 1e-4f);
    free(base);
    free(adapted);
    engine_free(e);
    genarm_adapter_free(adapter);
    adapter = NULL;
    assert_int_equal(genarm_adapter_load(&adapter, model, write_lora("bad.gguf", "blk.2.attn_q.weight", 30, 64, 3, 0.2f), &err),
                     GENARM_EMISMATCH);
    assert_int_equal(genarm_adapter_load(&adapter, model, write_lora("bad.gguf", "blk.9.attn_q.weight", 32, 64, 3, 0.2f), &err),
                     GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "blk.9.attn_q.weight"));
    assert_int_equal(genarm_adapter_load(&adapter, model, write_lora("bad.gguf", "blk.2.attn_q.weight", 32, 64, 3, INFINITY),
                                         &err), GENARM_EFORMAT);
    genarm_model_free(model);
}

static void fill(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = 0.1f * (float)(i * 7 % 11 - 5);
    }
}

/* Our own graph has them not. */
static void test_libllama_runs_adapters_of_embeddings_and_head(void **state) {
    (void)state;
    static const char *const maps[] = {"token_embd.weight", "output.weight"};
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    const int64_t n_embd = edit_tensor(&e, "token_embd.weight")->ne[0], n_vocab = edit_tensor(&e, "token_embd.weight")->ne[1];
    fill(edit_add(&e, "output.weight", GGML_TYPE_F32, n_embd, n_vocab), n_embd * n_vocab);
    const char *path = edit_save(&e, temp_path("untied.gguf"));
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct genarm_adapter *adapter = NULL;
        struct genarm_adapter_info info;
        struct genarm_error err = {0};
        edit_open(&e, write_lora("maps.gguf", maps[i], n_embd, i ? n_vocab : n_embd, 2, 0.2f));
        if (i == 0) { /* rows are looked up: the other way round */
            fill(edit_add(&e, "token_embd.weight.lora_a", GGML_TYPE_F32, 2, n_vocab), 2 * n_vocab);
        }
        gguf_set_val_str(e.gguf, "general.architecture", "llama");
        const char *file = edit_save(&e, temp_path("maps.gguf"));
        struct genarm_model *own = load(path, GENARM_ENGINE_GENARM), *model = load(path, GENARM_ENGINE_LLAMA);
        assert_int_equal(genarm_adapter_load(&adapter, own, file, &err), GENARM_EUNSUPPORTED);
        assert_non_null(strstr(err.hint, "--engine llama"));
        must(genarm_adapter_load(&adapter, model, file, &err), &err);
        genarm_adapter_get_info(adapter, &info);
        assert_int_equal(info.rank, 2);
        assert_string_equal(info.targets, i ? "output" : "token_embd");
        struct engine *engine = start(model, 2);
        must(engine_add_adapter(engine, adapter, &err), &err);
        float *base = new_logits(engine), *adapted = new_logits(engine);
        feed(engine, 0, ENGINE_NO_ADAPTER, 0, N, base);
        feed(engine, 1, 0, 0, N, adapted);
        assert_memory_not_equal(base, adapted, sizeof *base * (size_t)n_vocab);
        free(base);
        free(adapted);
        engine_free(engine);
        genarm_adapter_free(adapter);
        genarm_model_free(own);
        genarm_model_free(model);
    }
}

/* What a session that was saved under the adapter of one file says to that of another. */
static int load_under(struct genarm_model *model, const char *saved, const char *adapter_path) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&adapter, model, adapter_path, &err), &err);
    struct genarm_session *s = guided(&g, model, model, adapter);
    const int rc = genarm_session_load(s, saved, &err);
    assert_true(rc == GENARM_OK || strstr(err.what, "another adapter of the reward model a"));
    genarm_session_free(s);
    genarm_guide_free(g);
    genarm_adapter_free(adapter);
    return rc;
}

static void test_sessions_of_other_foreign_adapters_are_refused(void **state) {
    (void)state;
    struct genarm_model *model = load_kind("gemma3");
    struct genarm_adapter *adapter = NULL;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct edit e;
    int32_t token;
    const char *first = write_lora("first.gguf", "blk.2.attn_q.weight", 32, 64, 3, 0.2f), *saved = temp_path("foreign.session");
    must(genarm_adapter_load(&adapter, model, first, &err), &err);
    struct genarm_session *s = guided(&g, model, model, adapter);
    must(genarm_session_step(s, &token, &err), &err);
    must(genarm_session_save(s, saved, NULL, &err), &err);
    genarm_session_free(s);
    genarm_guide_free(g);
    genarm_adapter_free(adapter);
    must(load_under(model, saved, first), NULL);
    assert_int_equal(load_under(model, saved, write_lora("other.gguf", "blk.2.attn_q.weight", 32, 64, 3, 0.3f)),
                     GENARM_EMISMATCH);
    assert_int_equal(load_under(model, saved, write_lora("other.gguf", "blk.3.attn_q.weight", 32, 64, 3, 0.2f)),
                     GENARM_EMISMATCH);
    edit_open(&e, first);
    gguf_set_val_f32(e.gguf, "adapter.lora.alpha", 5.0f);
    assert_int_equal(load_under(model, saved, edit_save(&e, temp_path("other.gguf"))), GENARM_EMISMATCH);
    genarm_model_free(model);
}

static void test_what_needs_our_graph_says_so(void **state) {
    (void)state;
    struct genarm_model *model = load_kind("gemma3");
    struct genarm_error err = {0};
    struct genarm_trainer *trainer = NULL;
    const char *const pairs[] = {"none.jsonl"};
    assert_int_equal(genarm_trainer_new(&trainer, model, pairs, 1, temp_path("out.gguf"), NULL, NULL, &err),
                     GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "gemma3"));
    assert_true(err.hint[0] != '\0');
    assert_int_equal(genarm_adapter_to_peft(model, "none.gguf", temp_path("peft"), NULL, &err), GENARM_EUNSUPPORTED);
    struct engine *e = NULL;
    assert_int_equal(engine_new(&e, model, &(struct engine_params){.n_seq = 1, .n_ctx = 16, .hidden = true}, &err),
                     GENARM_EUNSUPPORTED);
    assert_int_equal(engine_new(&e, model, &(struct engine_params){.n_seq = 1000, .n_ctx = 16}, &err), GENARM_EUNSUPPORTED);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_libllama_alone),
        cmocka_unit_test(test_token_by_token_equals_one_batch),
        cmocka_unit_test(test_rewound_sequence_continues_as_a_fresh_one),
        cmocka_unit_test(test_copied_prefix_continues_as_the_original),
        cmocka_unit_test(test_saved_sequence_continues_in_another_engine),
        cmocka_unit_test(test_shifted_sequence_is_the_one_without_the_middle),
        cmocka_unit_test(test_recurrent_model_is_fed_what_follows_a_forgotten_middle),
        cmocka_unit_test(test_a_shift_under_yarn_touches_no_other_sequence),
        cmocka_unit_test(test_a_cleared_sequence_leaves_nothing_behind),
        cmocka_unit_test(test_a_sequence_is_seen_through_one_adapter),
        cmocka_unit_test(test_policies_of_both_engines_guide_each_other),
        cmocka_unit_test(test_the_engine_is_chosen_by_what_the_model_needs),
        cmocka_unit_test(test_an_architecture_that_nobody_knows_is_an_error_that_names_it),
        cmocka_unit_test(test_a_model_with_fused_maps_is_run_by_libllama),
        cmocka_unit_test(test_metadata_that_libllama_aborts_on_is_refused),
        cmocka_unit_test(test_adapters_of_foreign_models_are_checked_and_used),
        cmocka_unit_test(test_libllama_runs_adapters_of_embeddings_and_head),
        cmocka_unit_test(test_sessions_of_other_foreign_adapters_are_refused),
        cmocka_unit_test(test_what_needs_our_graph_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
