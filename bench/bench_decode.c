/* Time of one decoding step, and of a long prompt: the row engine with 0 to 3 adapters against libllama unguided on the same
 * model, the default one and one of random weights that is eight times as large (made once: 4 GB in the folder of models).
 *
 * Everything is interleaved in one process, round by round, so that drifts of the machine hit all alike; a cell is the
 * median over the rounds. Both sides get the same number of threads and a persistent thread pool.
 *
 *     bench_decode [MODEL.gguf ...]
 */
#include <ggml-cpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/progress.h"
#include "bench/random_adapter.h"
#include "engine/engine.h"
#include "peak.h"
#include "random_model.h"

enum { PROMPT = 68, LONG_PROMPT = 512, STEPS = 12, ROUNDS = 9, CTX = 576, MAX_ARMS = 3, N_CELLS = MAX_ARMS + 2 };
enum { SETTLE_US = 200000 /* until the threads of the side before have stopped polling */ };

struct subject {
    struct genarm_model *model;
    struct genarm_adapter *adapters[MAX_ARMS];
    struct engine *engine;
    struct llama_model *llama;
    struct llama_context *ctx;
    struct ggml_threadpool *pool;
    float *logits;
    int32_t n_threads, n_steps;
};

static void die(const struct genarm_error *err) {
    fprintf(stderr, "bench_decode: %s: %s\n", err->where, err->what);
    exit(1);
}

static void open_llama(struct subject *s, const char *path) {
    s->llama = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = CTX;
    p.n_threads = p.n_threads_batch = s->n_threads;
    s->ctx = s->llama ? llama_init_from_model(s->llama, p) : NULL;
    struct ggml_threadpool_params tp = ggml_threadpool_params_default(s->n_threads);
    s->pool = ggml_threadpool_new(&tp);
    if (!s->ctx || !s->pool) {
        fprintf(stderr, "bench_decode: libllama cannot open %s\n", path);
        exit(1);
    }
    llama_attach_threadpool(s->ctx, s->pool, s->pool);
}

static void open_ours(struct subject *s, const char *path) {
    struct genarm_error err;
    char adapter[64];
    snprintf(adapter, sizeof adapter, "/tmp/genarm-bench-%d.gguf", (int)getpid());
    if (genarm_model_load(&s->model, path, NULL, &err) != GENARM_OK) {
        die(&err);
    }
    const struct engine_params params = {.n_seq = MAX_ARMS + 1, .n_ctx = CTX, .n_threads = s->n_threads};
    if (engine_rows_new(&s->engine, s->model, &params, &err) != GENARM_OK) {
        die(&err);
    }
    const unsigned qkv = 1u << LINEAR_Q | 1u << LINEAR_K | 1u << LINEAR_V;
    for (int i = 0; i < MAX_ARMS; i++) {
        if (random_adapter_write(adapter, s->model, 8, qkv, 0.01f, (uint64_t)i, &err) != GENARM_OK ||
            genarm_adapter_load(&s->adapters[i], s->model, adapter, &err) != GENARM_OK ||
            engine_add_adapter(s->engine, s->adapters[i], &err) < 0) {
            die(&err);
        }
    }
    unlink(adapter);
    s->logits = calloc((MAX_ARMS + 1) * (size_t)s->model->hp.n_vocab, sizeof *s->logits);
}

static void close_subject(struct subject *s) {
    llama_free(s->ctx);
    llama_model_free(s->llama);
    ggml_threadpool_free(s->pool);
    engine_free(s->engine);
    for (int i = 0; i < MAX_ARMS; i++) {
        genarm_adapter_free(s->adapters[i]);
    }
    genarm_model_free(s->model);
    free(s->logits);
}

static void ours(struct subject *s, int n_arms, int32_t pos, int32_t n) {
    struct row rows[(MAX_ARMS + 1) * LONG_PROMPT];
    int32_t n_rows = 0;
    struct genarm_error err;
    for (int32_t seq = 0; seq <= n_arms; seq++) {
        for (int32_t i = 0; i < n; i++) {
            rows[n_rows++] = (struct row){.token = 100 + (pos + i) % 1000, .seq = seq, .pos = pos + i, .adapter = seq - 1,
                                          .output = i == n - 1};
        }
    }
    if (engine_forward(s->engine, rows, n_rows, s->logits, &err) != GENARM_OK) {
        die(&err);
    }
}

static void theirs(struct subject *s, int32_t pos, int32_t n) {
    llama_token tokens[LONG_PROMPT];
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = 100 + (pos + i) % 1000;
    }
    if (llama_decode(s->ctx, llama_batch_get_one(tokens, n)) != 0) {
        fprintf(stderr, "bench_decode: llama_decode failed\n");
        exit(1);
    }
    (void)llama_get_logits_ith(s->ctx, -1);
}

/* ms per step; cell 0 is libllama, cell k + 1 ours with k ARMs */
static double measure(struct subject *s, int cell) {
    if (cell == 0) {
        llama_memory_clear(llama_get_memory(s->ctx), false);
        theirs(s, 0, PROMPT);
        theirs(s, PROMPT, 1);
    } else {
        ours(s, cell - 1, 0, PROMPT);
        ours(s, cell - 1, PROMPT, 1);
    }
    const double start = clock_seconds();
    for (int32_t i = 1; i <= s->n_steps; i++) {
        if (cell == 0) {
            theirs(s, PROMPT + i, 1);
        } else {
            ours(s, cell - 1, PROMPT + i, 1);
        }
    }
    return 1e3 * (clock_seconds() - start) / s->n_steps;
}

/* ms for a prompt of LONG_PROMPT tokens; cells as above */
static double measure_prompt(struct subject *s, int cell) {
    if (cell == 0) {
        llama_memory_clear(llama_get_memory(s->ctx), false);
    }
    const double start = clock_seconds();
    if (cell == 0) {
        theirs(s, 0, LONG_PROMPT);
    } else {
        ours(s, cell - 1, 0, LONG_PROMPT);
    }
    return 1e3 * (clock_seconds() - start);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Prints the medians of all cells, round by round interleaved; returns that of base + 1 ARM. */
static double print_medians(struct subject *s, int n_cells, int n_rounds, double (*time)(struct subject *s, int cell)) {
    double ms[N_CELLS][ROUNDS];
    for (int r = n_rounds > 1 ? -1 : 0; r < n_rounds; r++) { /* one round to warm up */
        for (int c = 0; c < n_cells; c++) {
            usleep(SETTLE_US);
            const double t = time(s, c);
            ms[c][r < 0 ? 0 : r] = t;
        }
    }
    for (int c = 0; c < n_cells; c++) {
        qsort(ms[c], (size_t)n_rounds, sizeof **ms, by_value);
        printf(c == 0 ? " %.2f |" : " %.2f (%.2fx) |", ms[c][n_rounds / 2], ms[c][n_rounds / 2] / ms[0][n_rounds / 2]);
    }
    return ms[2][n_rounds / 2];
}

static void bench(const char *path, int32_t n_threads, double bandwidth) {
    struct subject s = {.n_threads = n_threads};
    struct genarm_model_info info;
    open_ours(&s, path);
    open_llama(&s, path);
    genarm_model_get_info(s.model, &info);
    const bool large = info.n_params > 500000000;
    s.n_steps = large ? STEPS / 4 : STEPS;
    printf("| %s |", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    const double guided = print_medians(&s, N_CELLS, large ? ROUNDS / 3 : ROUNDS, measure);
    const double rate = 1e-6 * (double)info.size / guided;
    printf(" %.0f GB/s, %.0f %% |", rate, 100 * rate / bandwidth);
    print_medians(&s, 3, large ? 1 : ROUNDS / 3, measure_prompt);
    printf("\n");
    fflush(stdout);
    close_subject(&s);
}

/* Models of another size, made when they are not there. */
static void bench_random(enum ggml_type type, int32_t n_threads, double bandwidth) {
    char path[4096];
    snprintf(path, sizeof path, GENARM_MODEL_DIR "/random-1.1B-%s.gguf", ggml_type_name(type));
    if (access(path, R_OK) != 0) {
        random_model_write(path, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf", type);
    }
    bench(path, n_threads, bandwidth);
}

int main(int argc, char **argv) {
    const char *const defaults[] = {GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F16.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q8_0.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf"};
    const enum ggml_type random[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K};
    const int32_t n_threads = cores_usable();
    const double bandwidth = peak_bandwidth(n_threads < 64 ? n_threads : 64);
    printf("Decoding, ms a token after a prompt of %d, and ms for a prompt of %d: medians, %d threads, with ratios to libllama\n"
           "unguided. GB/s: the model's bytes over the time of base + 1 ARM, of %.0f that the threads can read.\n\n",
           PROMPT, LONG_PROMPT, n_threads, bandwidth);
    printf("| model | libllama unguided | genarm unguided | base + 1 ARM | + 2 | + 3 | memory | prompt: libllama | genarm | base + "
           "1 ARM |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 1; i < argc; i++) {
        bench(argv[i], n_threads, bandwidth);
    }
    for (size_t i = 0; argc == 1 && i < sizeof defaults / sizeof *defaults; i++) {
        bench(defaults[i], n_threads, bandwidth);
    }
    for (size_t i = 0; argc == 1 && i < sizeof random / sizeof *random; i++) {
        bench_random(random[i], n_threads, bandwidth);
    }
    return 0;
}
