/* Tokens a second of several answers at once: guided decoding, base + 1 ARM, through sessions with their mixing and drawing,
 * against one at a time, and against libllama unguided with as many sequences in one batch (without drawing), as its own
 * batched-bench has it. Then prompts that start together and share most of their tokens, with and without sharing.
 *
 * Everything is interleaved in one process, round by round, so that drifts of the machine hit all alike; a cell is the
 * median over the rounds. Both sides get the same number of threads and a persistent thread pool.
 *
 *     bench_batch [MODEL.gguf ...]
 */
#include <ggml-cpu.h>
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/progress.h"
#include "bench/random_adapter.h"
#include "bench/samples.h"
#include "guide/share.h"
#include "random_model.h"

enum { MAX_AT_ONCE = 16, N_SIZES = 4, WORDS = 60, SHARED_WORDS = 128, CTX = 256, STEPS = 12, ROUNDS = 5, FEW_ROUNDS = 3 };
enum { SETTLE_US = 200000 /* until the threads of the side before have stopped polling */ };
static const int sizes[N_SIZES] = {1, 4, 8, MAX_AT_ONCE};
static const double BAR_ONE = 4.0, BAR_LLAMA = 1 / 1.2; /* of MAX_AT_ONCE at once */

struct subject {
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct genarm_guide *guide;
    struct llama_model *llama;
    struct llama_context *ctx;
    struct ggml_threadpool *pool;
    struct llama_batch batch;
    int32_t n_threads, n_steps, n_words, n_prompt;
};

static void die(const struct genarm_error *err) {
    fprintf(stderr, "bench_batch: %s: %s\n", err->where, err->what);
    exit(1);
}

static void need(int rc, const struct genarm_error *err) {
    if (rc != GENARM_OK) {
        die(err);
    }
}

static void open_llama(struct subject *s, const char *path) {
    s->llama = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = CTX * MAX_AT_ONCE;
    p.n_seq_max = MAX_AT_ONCE;
    p.n_batch = MAX_AT_ONCE * 2 * WORDS;
    p.n_threads = p.n_threads_batch = s->n_threads;
    s->ctx = s->llama ? llama_init_from_model(s->llama, p) : NULL;
    struct ggml_threadpool_params tp = ggml_threadpool_params_default(s->n_threads);
    s->pool = ggml_threadpool_new(&tp);
    if (!s->ctx || !s->pool) {
        fprintf(stderr, "bench_batch: libllama cannot open %s\n", path);
        exit(1);
    }
    llama_attach_threadpool(s->ctx, s->pool, s->pool);
    s->batch = llama_batch_init(MAX_AT_ONCE * 2 * WORDS, 0, 1);
}

static void open_ours(struct subject *s, const char *path) {
    struct genarm_error err;
    char adapter[64];
    snprintf(adapter, sizeof adapter, "/tmp/genarm-bench-%d.gguf", (int)getpid());
    need(genarm_model_load(&s->model, path, NULL, &err), &err);
    const unsigned qkv = 1u << LINEAR_Q | 1u << LINEAR_K | 1u << LINEAR_V;
    need(random_adapter_write(adapter, s->model, 8, qkv, 0.01f, 1, &err), &err);
    need(genarm_adapter_load(&s->adapter, s->model, adapter, &err), &err);
    unlink(adapter);
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_slots = MAX_AT_ONCE;
    params.n_ctx = CTX;
    params.n_threads = s->n_threads;
    params.template_name = "raw:{system}{prompt}";
    need(genarm_guide_new(&s->guide, s->model, &params, &err), &err);
    need(genarm_guide_add_arm(s->guide, &(struct genarm_arm_params){.name = "arm", .model = s->model, .adapter = s->adapter,
                                                                    .weight = 1}, &err), &err);
}

static void close_subject(struct subject *s) {
    llama_batch_free(s->batch);
    llama_free(s->ctx);
    llama_model_free(s->llama);
    ggml_threadpool_free(s->pool);
    genarm_guide_free(s->guide);
    genarm_adapter_free(s->adapter);
    genarm_model_free(s->model);
}

/* ---- sessions ---- */

/* n sessions whose prompts share nothing, or the given system message. */
static void ask(struct subject *s, const char *system, struct genarm_session **sessions, int n) {
    struct genarm_error err;
    for (int i = 0; i < n; i++) {
        char text[16 + 8 * WORDS];
        const struct genarm_message messages[] = {{"system", system}, {"user", text}};
        int length = snprintf(text, sizeof text, "%c%d", 'A' + i, i);
        for (int w = 0; w < (*system ? WORDS / 4 : s->n_words); w++) {
            length += snprintf(text + length, sizeof text - (size_t)length, " word");
        }
        struct genarm_sampling sampling = genarm_sampling_default();
        sampling.seed = (uint64_t)i;
        need(genarm_session_new(&sessions[i], s->guide, &sampling, &err), &err);
        need(genarm_session_prompt(sessions[i], messages, 2, &err), &err);
    }
    s->n_prompt = genarm_session_n_prompt(sessions[0]);
}

static void step(struct genarm_session **sessions, int n) {
    int32_t tokens[MAX_AT_ONCE];
    struct genarm_error err;
    need(genarm_sessions_step(sessions, (size_t)n, tokens, &err), &err);
}

static void leave(struct genarm_session **sessions, int n) {
    for (int i = 0; i < n; i++) {
        genarm_session_free(sessions[i]);
    }
}

/* Tokens a second of n answers at once. */
static double ours(struct subject *s, int n) {
    struct genarm_session *sessions[MAX_AT_ONCE];
    ask(s, "", sessions, n);
    step(sessions, n); /* the prompts */
    step(sessions, n);
    const double start = clock_seconds();
    for (int t = 0; t < s->n_steps; t++) {
        step(sessions, n);
    }
    const double seconds = clock_seconds() - start;
    leave(sessions, n);
    return n * s->n_steps / seconds;
}

/* ms until MAX_AT_ONCE prompts that share their system message all have a token. */
static double prompts(struct subject *s, bool sharing) {
    struct genarm_session *sessions[MAX_AT_ONCE];
    char system[8 * SHARED_WORDS] = "";
    for (int w = 0; w < SHARED_WORDS; w++) {
        strcat(system, w % 2 ? " more" : " said");
    }
    slots_forget(s->guide);
    s->guide->params.no_sharing = !sharing;
    ask(s, system, sessions, MAX_AT_ONCE);
    const double start = clock_seconds();
    step(sessions, MAX_AT_ONCE);
    const double seconds = clock_seconds() - start;
    leave(sessions, MAX_AT_ONCE);
    s->guide->params.no_sharing = false;
    return 1e3 * seconds;
}

/* ---- libllama ---- */

/* Positions [pos, pos + n_tokens) of n sequences; logits after the last. */
static void decode(struct subject *s, int n, int32_t pos, int32_t n_tokens) {
    struct llama_batch *b = &s->batch;
    b->n_tokens = 0;
    for (int seq = 0; seq < n; seq++) {
        for (int32_t i = pos; i < pos + n_tokens; i++) {
            const int32_t at = b->n_tokens++;
            b->token[at] = 100 + (seq * 37 + i) % 1000;
            b->pos[at] = i;
            b->n_seq_id[at] = 1;
            b->seq_id[at][0] = seq;
            b->logits[at] = i == pos + n_tokens - 1;
        }
    }
    if (llama_decode(s->ctx, *b) != 0) {
        fprintf(stderr, "bench_batch: llama_decode failed\n");
        exit(1);
    }
    (void)llama_get_logits_ith(s->ctx, -1);
}

static double theirs(struct subject *s, int n) {
    llama_memory_clear(llama_get_memory(s->ctx), false);
    decode(s, n, 0, s->n_prompt);
    decode(s, n, s->n_prompt, 1);
    const double start = clock_seconds();
    for (int32_t t = 1; t <= s->n_steps; t++) {
        decode(s, n, s->n_prompt + t, 1);
    }
    return n * s->n_steps / (clock_seconds() - start);
}

/* ---- the table ---- */

static void bench(const char *path, int32_t n_threads) {
    struct subject s = {.n_threads = n_threads};
    struct genarm_model_info info;
    double a[N_SIZES][ROUNDS], b[N_SIZES][ROUNDS], one = 0;
    open_ours(&s, path);
    open_llama(&s, path);
    genarm_model_get_info(s.model, &info);
    const bool large = info.n_params > 500000000;
    const int n_rounds = large ? FEW_ROUNDS : ROUNDS;
    s.n_steps = large ? STEPS / 3 : STEPS;
    s.n_words = large ? WORDS / 4 : WORDS;
    for (int r = -1; r < n_rounds; r++) { /* one round to warm up */
        const int to = r < 0 ? 0 : r;
        for (int i = 0; i < N_SIZES; i++) {
            usleep(SETTLE_US);
            a[i][to] = ours(&s, sizes[i]);
            usleep(SETTLE_US);
            b[i][to] = theirs(&s, sizes[i]);
        }
    }
    const double with = prompts(&s, true), without = prompts(&s, false); /* long, and far apart: once will do */
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (int i = 0; i < N_SIZES; i++) {
        const double x = samples_median(a[i], (size_t)n_rounds), y = samples_median(b[i], (size_t)n_rounds);
        one = i == 0 ? x : one;
        printf("| %s | %d | %.1f | %.1f | %.2f | %.2f |", name, sizes[i], y, x, x / y, x / one);
        if (i < N_SIZES - 1) {
            printf("  |\n");
            continue;
        }
        printf(" %.0f instead of %.0f (%.2fx) |\n", with, without, with / without);
        printf("\n%s: %d at once are %.2f times one at a time (bar %.2f: %s), %.2f of libllama unguided (bar %.2f: %s)\n\n", name,
               sizes[i], x / one, BAR_ONE, x / one >= BAR_ONE ? "met" : "missed", x / y, BAR_LLAMA,
               x / y >= BAR_LLAMA ? "met" : "missed");
    }
    fflush(stdout);
    close_subject(&s);
}

/* Models of another size, made when they are not there. */
static void bench_random(enum ggml_type type, int32_t n_threads) {
    char path[4096];
    snprintf(path, sizeof path, GENARM_MODEL_DIR "/random-1.1B-%s.gguf", ggml_type_name(type));
    if (access(path, R_OK) != 0) {
        random_model_write(path, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf", type);
    }
    bench(path, n_threads);
}

int main(int argc, char **argv) {
    const char *const defaults[] = {GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F16.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q8_0.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf"};
    const enum ggml_type random[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K};
    const int32_t n_threads = cores_usable();
    printf("Answers at once, tokens a second of all of them: medians, %d threads. Last column: ms until %d prompts that share a\n"
           "system message of %d words all have a token, with that computed once instead of for each.\n\n",
           n_threads, MAX_AT_ONCE, SHARED_WORDS);
    printf("| model | at once | libllama unguided | genarm base + 1 ARM | to libllama | to one at a time | prompts |\n"
           "|---|---|---|---|---|---|---|\n");
    for (int i = 1; i < argc; i++) {
        bench(argv[i], n_threads);
    }
    for (size_t i = 0; argc == 1 && i < sizeof defaults / sizeof *defaults; i++) {
        bench(defaults[i], n_threads);
    }
    for (size_t i = 0; argc == 1 && i < sizeof random / sizeof *random; i++) {
        bench_random(random[i], n_threads);
    }
    return 0;
}
