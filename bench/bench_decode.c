/* Time of one decoding step, and of a long prompt: genarm with 0 to 3 adapters against libllama unguided on the same model,
 * the default one and one of random weights that is eight times as large (made once: 4 GB in the folder of models). It is
 * `genarm bench` on all of them, as ratios of time beside those that guidance is meant to keep to.
 *
 *     bench_decode [MODEL.gguf ...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"
#include "bench/bandwidth.h"
#include "bench/contest.h"
#include "bench/machine.h"
#include "bench/random_arms.h"
#include "bench/samples.h"
#include "random_model.h"

enum { PROMPT = 68, LONG_PROMPT = 512, STEPS = 12, ROUNDS = 9, MAX_ARMS = 3, N_CELLS = MAX_ARMS + 2 };

/* Most of libllama's time; 0: no bar. */
static const double decode_bars[N_CELLS] = {0, 0.9, 1.0, 0, 1.25}, prompt_bars[N_CELLS] = {0, 0, 1.9, 0, 0};

struct subject {
    struct genarm_model *model;
    struct genarm_adapter *adapters[MAX_ARMS];
    struct genarm_guide *guide;
    struct contest contest;
};

static void must(int rc, const struct genarm_error *err) {
    if (rc != GENARM_OK) {
        fprintf(stderr, "bench_decode: %s: %s\n", err->where, err->what);
        exit(1);
    }
}

static void open_subject(struct subject *s, const char *path) {
    const double before = machine_resident();
    struct genarm_guide_params params = genarm_guide_default_params();
    struct genarm_error err = {0};
    params.n_ctx = LONG_PROMPT + PROMPT;
    must(genarm_model_load(&s->model, path, NULL, &err), &err);
    must(genarm_guide_new(&s->guide, s->model, &params, &err), &err);
    must(random_arms_add(s->guide, s->adapters, MAX_ARMS, &err), &err);
    must(contest_open(&s->contest, s->guide, LONG_PROMPT, before, NULL, &err), &err);
}

static void close_subject(struct subject *s) {
    contest_close(&s->contest);
    genarm_guide_free(s->guide);
    for (int i = 0; i < MAX_ARMS; i++) {
        genarm_adapter_free(s->adapters[i]);
    }
    genarm_model_free(s->model);
}

/* Prints the medians of the contestants, ms by `per`; returns that of base + 1 ARM. A bar is shown with its side. */
static double print_medians(struct subject *s, const struct contest_test *test, int32_t n_rounds, int per,
                            const double *bars) {
    double seconds[N_CELLS * ROUNDS], ms[N_CELLS];
    struct genarm_error err = {0};
    must(contest_rounds(&s->contest, test, 1, n_rounds, seconds, NULL, NULL, &err), &err);
    for (int c = 0; c < N_CELLS; c++) {
        ms[c] = 1e3 * samples_median(seconds + c * n_rounds, (size_t)n_rounds) / per;
        const double ratio = ms[c] / ms[0];
        if (c == 0) {
            printf(" %.2f |", ms[c]);
        } else if (bars[c] > 0) {
            printf(" %.2f (%.2fx %s %.2fx) |", ms[c], ratio, ratio <= bars[c] ? "<=" : ">", bars[c]);
        } else {
            printf(" %.2f (%.2fx) |", ms[c], ratio);
        }
    }
    return ms[2];
}

static void bench(const char *path, double bandwidth) {
    struct subject s = {0};
    struct genarm_model_info info;
    open_subject(&s, path);
    genarm_model_get_info(s.model, &info);
    const bool large = info.n_params > 500000000;
    const struct contest_test decode = {.n_gen = large ? STEPS / 4 : STEPS, .n_depth = PROMPT};
    const struct contest_test prompt = {.n_prompt = LONG_PROMPT};
    printf("| %s |", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    const double guided = print_medians(&s, &decode, large ? ROUNDS / 3 : ROUNDS, decode.n_gen, decode_bars);
    const double rate = 1e-6 * contest_bytes(&s.contest, 1, &decode) / guided;
    printf(" %.0f GB/s, %.0f %% |", rate, 100 * rate / bandwidth);
    print_medians(&s, &prompt, ROUNDS / 3, 1, prompt_bars);
    printf(" %.0f | %.0f |\n", s.contest.rival_bytes / (1 << 20), s.contest.guide_bytes / (1 << 20));
    fflush(stdout);
    close_subject(&s);
}

/* Models of another size, made when they are not there. */
static void bench_random(enum ggml_type type, double bandwidth) {
    char path[4096];
    snprintf(path, sizeof path, GENARM_MODEL_DIR "/random-1.1B-%s.gguf", ggml_type_name(type));
    if (access(path, R_OK) != 0) {
        random_model_write(path, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf", type);
    }
    bench(path, bandwidth);
}

int main(int argc, char **argv) {
    const char *const defaults[] = {GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F16.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q8_0.gguf",
                                    GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf"};
    const enum ggml_type random[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K};
    const int32_t n_threads = cores_usable();
    const double bandwidth = bandwidth_measure(n_threads);
    printf("Decoding, ms a token after a prompt of %d, and ms for a prompt of %d: medians, %d threads, with ratios to\n"
           "libllama unguided and the most that they should be. Read: the bytes that a token of base + 1 ARM needs over its\n"
           "time, of the %.0f GB/s that the threads can read. MiB: resident memory, of genarm with all ARMs.\n\n",
           PROMPT, LONG_PROMPT, n_threads, bandwidth);
    printf("| model | libllama unguided | genarm unguided | base + 1 ARM | + 2 | + 3 | read | prompt: libllama | genarm | "
           "base + 1 ARM | + 2 | + 3 | MiB: libllama | genarm |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 1; i < argc; i++) {
        bench(argv[i], bandwidth);
    }
    for (size_t i = 0; argc == 1 && i < sizeof defaults / sizeof *defaults; i++) {
        bench(defaults[i], bandwidth);
    }
    for (size_t i = 0; argc == 1 && i < sizeof random / sizeof *random; i++) {
        bench_random(random[i], bandwidth);
    }
    return 0;
}
