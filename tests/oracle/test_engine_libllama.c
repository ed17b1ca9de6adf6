/* libllama as oracle on the default model: base and adapter rows of one step against two contexts of libllama, three
 * prompts, 32 steps each. Exact logits are libllama's in F32, of all steps at once when their tokens are known: nothing rounds
 * there, whatever is computed together, and weights are read once and not once for each token.
 *
 * With F32 weights and an f32 cache nothing rounds, and every way of computing has to give libllama's logits. With other
 * weights libllama itself rounds: activations to F16 or Q8, in its own order. So
 *   - the plain graph, the same ggml nodes as libllama's, has to agree with it, and
 *   - the fast nodes, which round less or elsewhere, have to be as near as libllama is to the exact logits: those of the
 *     same weights dequantised to F32.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cores.h"
#include "base/threads.h"
#include "bench/random_adapter.h"
#include "engine/engine.h"
#include "guide/combine.h"
#include "ops/cpu.h"
#include "support/golden.h"

enum { PROMPTS = 3, STEPS = 32, CTX = 128, SIDES = 2 /* base, adapted */ };

static const char *const prompts[PROMPTS] = {
    "<|im_start|>user\nHow do I keep bread fresh for a week?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nName three rivers.<|im_end|>\n<|im_start|>assistant\n",
    "The quick brown fox",
};

/* ---- how far logits are off ---- */

struct distance {
    float largest;    /* |difference| of two logits */
    double kl;        /* largest KL(want || got) of a step */
    double kl_sum;    /* over all steps */
    int top_changed;  /* steps where the likeliest token differs by more than a near tie */
    int n;
};

static int32_t best(const float *x, int32_t n) {
    int32_t b = 0;
    for (int32_t i = 1; i < n; i++) {
        b = x[i] > x[b] ? i : b;
    }
    return b;
}

static void compare(struct distance *d, const float *got, const float *want, int32_t n) {
    const double zg = (double)log_sum_exp(got, (size_t)n), zw = (double)log_sum_exp(want, (size_t)n);
    double kl = 0.0;
    for (int32_t i = 0; i < n; i++) {
        const float difference = fabsf(got[i] - want[i]);
        d->largest = difference > d->largest || isnan(difference) ? difference : d->largest;
        kl += exp((double)want[i] - zw) * (((double)want[i] - zw) - ((double)got[i] - zg));
    }
    d->kl = kl > d->kl || isnan(kl) ? kl : d->kl;
    d->kl_sum += kl;
    d->n++;
    const int32_t bg = best(got, n), bw = best(want, n);
    d->top_changed += bg != bw && want[bw] - want[bg] > 0.02f;
}

static void say(const char *file, const char *what, const struct distance *d) {
    print_message("%-36s %-28s max |difference| %.2g, KL max %.2g mean %.2g, top-1 changed %d of %d\n", file, what,
                  (double)d->largest, d->kl, d->kl_sum / d->n, d->top_changed, d->n);
}

/* ---- libllama ---- */

struct oracle {
    struct llama_model *model;
    struct llama_adapter_lora *lora;
    struct llama_context *ctx[SIDES];
};

static struct llama_context *oracle_context(struct llama_model *model, enum ggml_type cache) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = CTX;
    p.n_batch = p.n_ubatch = CTX;
    p.n_threads = p.n_threads_batch = 1;
    p.flash_attn_type = cache == GGML_TYPE_F32 ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_ENABLED;
    p.type_k = p.type_v = cache;
    struct llama_context *ctx = llama_init_from_model(model, p);
    assert_non_null(ctx);
    return ctx;
}

/* With a cache in f32 it computes exactly: flash attention would round. */
static void oracle_open(struct oracle *o, const char *path, const char *adapter, enum ggml_type cache) {
    struct llama_model_params p = llama_model_default_params();
    p.use_extra_bufts = false; /* weights in ggml's own layout, as ours */
    o->model = llama_model_load_from_file(path, p);
    assert_non_null(o->model);
    o->lora = llama_adapter_lora_init(o->model, adapter);
    assert_non_null(o->lora);
    for (int s = 0; s < SIDES; s++) {
        o->ctx[s] = oracle_context(o->model, cache);
    }
    float scale = 1.0f;
    assert_int_equal(llama_set_adapters_lora(o->ctx[1], &o->lora, 1, &scale), 0);
}

static void oracle_close(struct oracle *o) {
    for (int s = 0; s < SIDES; s++) {
        llama_free(o->ctx[s]);
    }
    llama_model_free(o->model);
}

/* n tokens from position pos on; logits are kept from the token `from` of them on. Returns what libllama does. */
static int oracle_run(const struct oracle *o, int side, const int32_t *tokens, int32_t n, int32_t pos, int32_t from) {
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int32_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = pos + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i >= from;
    }
    const int rc = llama_decode(o->ctx[side], batch);
    llama_batch_free(batch);
    return rc;
}

/* ---- all of them on the same tokens ---- */

struct fixture {
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct engine *fast, *plain; /* plain may be NULL */
    struct oracle libllama;      /* of the same file, one step after the other; model may be NULL */
    struct oracle exact;         /* of its weights in F32 */
    struct distance plain_libllama, fast_libllama, fast_exact, libllama_exact; /* got, want */
    float *plain_logits; /* [n_vocab, SIDES], of a step */
    float *fast_logits, *libllama_logits; /* [n_vocab, SIDES, 1 + STEPS], of a prompt */
    char adapter_path[64], exact_path[64];
    struct threads *threads;
};

static int engine_step(struct engine *e, const int32_t *tokens, int32_t n, int32_t pos, float *logits, struct genarm_error *err) {
    struct row rows[SIDES * CTX];
    for (int32_t s = 0; s < SIDES; s++) {
        for (int32_t i = 0; i < n; i++) {
            rows[s * n + i] = (struct row){.token = tokens[i], .seq = s, .pos = pos + i,
                                           .adapter = s == 0 ? ENGINE_NO_ADAPTER : 0, .output = i == n - 1};
        }
    }
    return engine_forward(e, rows, SIDES * n, logits, err);
}

/* What is computed at once: each part by a thread of its own, which waits for no other before it is done. */
enum { PART_FAST, PART_PLAIN, PART_LIBLLAMA, PART_EXACT = PART_LIBLLAMA + SIDES, N_PARTS = PART_EXACT + SIDES };

struct parts {
    struct fixture *f;
    const int32_t *tokens;
    int32_t n, pos, from;
    float *fast; /* [n_vocab, SIDES] of PART_FAST */
    bool wanted[N_PARTS];
    int rc[N_PARTS];
    struct genarm_error err[N_PARTS];
    atomic_int next;
};

static void run_parts(int ith, void *user) {
    struct parts *p = user;
    (void)ith;
    for (int i; (i = atomic_fetch_add(&p->next, 1)) < N_PARTS;) {
        if (!p->wanted[i]) {
            continue;
        }
        if (i < PART_LIBLLAMA) {
            struct engine *e = i == PART_FAST ? p->f->fast : p->f->plain;
            p->rc[i] = engine_step(e, p->tokens, p->n, p->pos, i == PART_FAST ? p->fast : p->f->plain_logits, &p->err[i]);
        } else {
            const bool exact = i >= PART_EXACT;
            const struct oracle *o = exact ? &p->f->exact : &p->f->libllama;
            p->rc[i] = oracle_run(o, i - (exact ? PART_EXACT : PART_LIBLLAMA), p->tokens, p->n, p->pos, p->from);
        }
    }
}

static void compute(struct parts *p) {
    threads_run(p->f->threads, run_parts, p);
    for (int i = 0; i < N_PARTS; i++) {
        must(p->rc[i], &p->err[i]); /* here: a test fails in its own thread only */
    }
}

/* Runs n tokens. Returns the one that follows greedily on a side. */
static int32_t run_step(struct fixture *f, const int32_t *tokens, int32_t n, int32_t pos, int32_t step, int side) {
    const int32_t n_vocab = f->model->hp.n_vocab;
    const size_t first = (size_t)step * SIDES * (size_t)n_vocab;
    float *fast = f->fast_logits + first, *libllama = f->libllama_logits + first;
    const bool both = f->libllama.model;
    struct parts parts = {.f = f, .tokens = tokens, .n = n, .pos = pos, .from = n - 1, .fast = fast,
                          .wanted = {[PART_FAST] = true, [PART_PLAIN] = f->plain, [PART_LIBLLAMA] = both,
                                     [PART_LIBLLAMA + 1] = both}};
    compute(&parts);
    for (int s = 0; s < SIDES && both; s++) {
        memcpy(libllama + s * n_vocab, llama_get_logits_ith(f->libllama.ctx[s], -1), (size_t)n_vocab * sizeof *libllama);
        compare(&f->fast_libllama, fast + s * n_vocab, libllama + s * n_vocab, n_vocab);
        if (f->plain) {
            compare(&f->plain_libllama, f->plain_logits + s * n_vocab, libllama + s * n_vocab, n_vocab);
        }
    }
    return best((both ? libllama : fast) + side * n_vocab, n_vocab);
}

/* The steps that were run against the exact ones; the first is that of token n_prompt - 1. */
static void compare_exact(struct fixture *f, const int32_t *tokens, int32_t n_prompt) {
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct parts parts = {.f = f, .tokens = tokens, .n = n_prompt + STEPS, .from = n_prompt - 1,
                          .wanted = {[PART_EXACT] = true, [PART_EXACT + 1] = true}};
    compute(&parts);
    for (int s = 0; s < SIDES; s++) {
        for (int32_t step = 0; step <= STEPS; step++) {
            const float *exact = llama_get_logits_ith(f->exact.ctx[s], n_prompt - 1 + step);
            const size_t at = (size_t)(step * SIDES + s) * (size_t)n_vocab;
            compare(&f->fast_exact, f->fast_logits + at, exact, n_vocab);
            if (f->libllama.model) {
                compare(&f->libllama_exact, f->libllama_logits + at, exact, n_vocab);
            }
        }
    }
}

static void forget(const struct oracle *o) {
    for (int s = 0; s < SIDES && o->model; s++) {
        llama_memory_clear(llama_get_memory(o->ctx[s]), true);
    }
}

/* Follows libllama's greedy answer, or where it does not run along, ours; that of the adapter for every other prompt. */
static void follow(struct fixture *f, int prompt) {
    int32_t tokens[CTX];
    const int32_t n = genarm_tokenize(f->model, prompts[prompt], strlen(prompts[prompt]), true, true, tokens, CTX);
    assert_in_range(n, 1, CTX - STEPS - 1);
    forget(&f->libllama);
    forget(&f->exact);
    tokens[n] = run_step(f, tokens, n, 0, 0, prompt % SIDES);
    for (int32_t step = 1; step <= STEPS; step++) {
        const int32_t pos = n + step - 1;
        tokens[pos + 1] = run_step(f, tokens + pos, 1, pos, step, prompt % SIDES);
    }
    compare_exact(f, tokens, n);
}

static struct engine *new_engine(const struct fixture *f, bool plain, enum genarm_kv_type kv_type) {
    const struct engine_params params = {.n_seq = SIDES, .n_ctx = CTX, .n_threads = 1, .plain = plain, .kv_type = kv_type};
    struct engine *e;
    struct genarm_error err = {0};
    must(engine_rows_new(&e, f->model, &params, &err), &err);
    must(engine_add_adapter(e, f->adapter, &err), &err);
    return e;
}

static void open_model(struct fixture *f, const char *path) {
    struct genarm_error err = {0};
    *f = (struct fixture){0};
    snprintf(f->adapter_path, sizeof f->adapter_path, "/tmp/genarm-oracle-%d.gguf", (int)getpid());
    snprintf(f->exact_path, sizeof f->exact_path, "/tmp/genarm-oracle-exact-%d.gguf", (int)getpid());
    must(genarm_model_load(&f->model, path, NULL, &err), &err);
    must(random_adapter_write(f->adapter_path, f->model, 8, (1u << LINEAR_COUNT) - 1, 0.01f, 7, &err), &err);
    must(genarm_adapter_load(&f->adapter, f->model, f->adapter_path, &err), &err);
    must(threads_new(&f->threads, cores_usable() < N_PARTS ? cores_usable() : N_PARTS, &err), &err);
    const size_t n = SIDES * (size_t)f->model->hp.n_vocab;
    f->plain_logits = calloc(n, sizeof *f->plain_logits);
    f->fast_logits = calloc(n * (1 + STEPS), sizeof *f->fast_logits);
    f->libllama_logits = calloc(n * (1 + STEPS), sizeof *f->libllama_logits);
    assert_true(f->plain_logits && f->fast_logits && f->libllama_logits);
}

static void close_model(struct fixture *f) {
    engine_free(f->fast);
    if (f->plain) {
        engine_free(f->plain);
    }
    if (f->libllama.model) {
        oracle_close(&f->libllama);
    }
    oracle_close(&f->exact);
    genarm_adapter_free(f->adapter);
    genarm_model_free(f->model);
    threads_free(f->threads);
    free(f->plain_logits);
    free(f->fast_logits);
    free(f->libllama_logits);
    unlink(f->adapter_path);
    unlink(f->exact_path);
}

static void dequantise(const char *path, const char *to) {
    struct llama_model_quantize_params p = llama_model_quantize_default_params();
    p.ftype = LLAMA_FTYPE_ALL_F32;
    p.allow_requantize = true;
    assert_int_equal(llama_model_quantize(path, to, &p), 0);
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

/* ---- tests ---- */

static void model_path(char path[512], const char *type) {
    snprintf(path, 512, "%s/SmolLM2-135M-Instruct-%s.gguf", GENARM_MODEL_DIR, type);
}

static void test_f32_rows_equal_libllama(void **state) {
    (void)state;
    struct fixture f;
    char path[512];
    model_path(path, "F32");
    open_model(&f, path);
    f.fast = new_engine(&f, false, GENARM_KV_F32);
    oracle_open(&f.exact, path, f.adapter_path, GGML_TYPE_F32);
    for (int p = 0; p < PROMPTS; p++) {
        follow(&f, p);
    }
    say("F32", "rows against libllama", &f.fast_exact);
    close_model(&f);
    assert_true(f.fast_exact.largest <= 1e-3f);
    assert_true(f.fast_exact.kl <= 1e-5);
    assert_int_equal(f.fast_exact.top_changed, 0);
}

static void test_rounded_rows_are_as_near_as_libllama(void **state) {
    const char *type = *state;
    struct fixture f;
    char path[512], exact[512];
    model_path(path, type);
    open_model(&f, path);
    model_path(exact, "F32");
    if (strcmp(type, "Q4_1") != 0) { /* of which the F32 file was made, by dequantising as here */
        dequantise(path, f.exact_path);
        memcpy(exact, f.exact_path, sizeof f.exact_path);
    }
    f.fast = new_engine(&f, false, GENARM_KV_F16);
    f.plain = new_engine(&f, true, GENARM_KV_F16);
    oracle_open(&f.libllama, path, f.adapter_path, GGML_TYPE_F16);
    oracle_open(&f.exact, exact, f.adapter_path, GGML_TYPE_F32);
    for (int p = 0; p < PROMPTS; p++) {
        follow(&f, p);
    }
    say(type, "plain rows against libllama", &f.plain_libllama);
    say(type, "rows against libllama", &f.fast_libllama);
    say(type, "rows against exact", &f.fast_exact);
    say(type, "libllama against exact", &f.libllama_exact);
    close_model(&f);
    assert_true(f.plain_libllama.largest <= 0.05f);
    assert_true(f.plain_libllama.kl <= 1e-3);
    assert_int_equal(f.plain_libllama.top_changed, 0);
    /* in 16 bits or bf16 instead of 8 bits it is much nearer; F16 is, anyway */
    const double share = cpu_few_int16(NULL) || cpu_few_bf16() || strcmp(type, "F16") == 0 ? 0.5 : 1.1;
    assert_true(f.fast_exact.kl_sum <= share * f.libllama_exact.kl_sum);
    assert_true(f.fast_exact.kl <= 2 * f.libllama_exact.kl);
}

/* Exact weights, and keys and values of 8 bits. */
static void test_a_cache_of_8_bits_is_as_near_as_libllamas(void **state) {
    (void)state;
    struct fixture f;
    char path[512];
    model_path(path, "F32");
    open_model(&f, path);
    f.fast = new_engine(&f, false, GENARM_KV_Q8_0);
    f.plain = new_engine(&f, true, GENARM_KV_Q8_0);
    setenv("LLAMA_ATTN_ROT_DISABLE", "1", 1); /* else it mixes the numbers of a head before it rounds them; we do not */
    oracle_open(&f.libllama, path, f.adapter_path, GGML_TYPE_Q8_0);
    unsetenv("LLAMA_ATTN_ROT_DISABLE");
    oracle_open(&f.exact, path, f.adapter_path, GGML_TYPE_F32);
    for (int p = 0; p < PROMPTS; p++) {
        follow(&f, p);
    }
    say("F32, cache Q8_0", "plain rows against libllama", &f.plain_libllama);
    say("F32, cache Q8_0", "rows against libllama", &f.fast_libllama);
    say("F32, cache Q8_0", "rows against exact", &f.fast_exact);
    say("F32, cache Q8_0", "libllama against exact", &f.libllama_exact);
    close_model(&f);
    assert_true(f.plain_libllama.largest <= 0.05f);
    assert_true(f.plain_libllama.kl <= 1e-3);
    assert_true(f.fast_exact.kl_sum <= 1.1 * f.libllama_exact.kl_sum);
    assert_true(f.fast_exact.kl <= 2 * f.libllama_exact.kl);
    assert_true(f.fast_exact.kl_sum > 0); /* 8 bits do show */
}

#define ROUNDED(type)                                                                                                  \
    {type " rows are as near to exact as libllama", test_rounded_rows_are_as_near_as_libllama, NULL, NULL,             \
     (void *)(uintptr_t)type}

int main(void) {
    llama_log_set(quiet, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_rows_equal_libllama),
        ROUNDED("F16"),
        ROUNDED("Q8_0"),
        ROUNDED("Q4_1"),
        cmocka_unit_test(test_a_cache_of_8_bits_is_as_near_as_libllamas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
