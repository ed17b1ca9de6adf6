/* Tokens a second of weak-to-strong guidance with and without speculation, and the acceptance at which it pays.
 *
 * The weak model is the default one (135M), and the ARM an adapter on it. The strong model is the same with six times as many
 * layers, five of six of which pass on what they get, and noise on the weights of the others (support/deep_model.h): it costs
 * what a model of 0.7B does, and how often the two agree is set by the noise, as it would be by how different two real models
 * are. Adapter and noise are random: the texts mean nothing, times and acceptance do.
 *
 * Everything is interleaved in one process, round by round; a cell is the median over the rounds.
 *
 *     bench_speculate [NOISE ...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/progress.h"
#include "bench/random_adapter.h"
#include "bench/samples.h"
#include "deep_model.h"
#include "genarm/genarm.h"

enum { TIMES = 6, TOKENS = 32, ROUNDS = 5, FIXED = 4 };

/* What a cell does. ARM 0 is the reward model, ARM 1 the weak model alone, which only drafts. */
struct way {
    const char *name;
    float arm;        /* weight of the ARM in the mixture */
    float weights[3]; /* of the draft; all 0: none */
    int32_t n_min, n_max;
};

static const struct way ways[] = {
    {"strong unguided", 0, {0}, 0, 0},
    {"guided", 1, {0}, 0, 0},
    {"drafted by weak + ARM", 1, {0, 1, 1}, 0, 16},
    {"the same, always 4", 1, {0, 1, 1}, FIXED, FIXED},
    {"drafted by the ARM squared", 1, {0, 2, 0}, 0, 16},
};
enum { N_WAYS = sizeof ways / sizeof *ways };

struct subject {
    struct genarm_model *strong, *weak;
    struct genarm_adapter *adapter;
    struct genarm_guide *guide;
    struct genarm_session *sessions[N_WAYS];
    double rate[N_WAYS][ROUNDS];
};

static void must(int rc, const struct genarm_error *err) {
    if (rc != GENARM_OK) {
        fprintf(stderr, "bench_speculate: %s: %s\n", err->where, err->what);
        exit(1);
    }
}

static void open_session(struct subject *s, int w) {
    const struct way *way = &ways[w];
    struct genarm_sampling sampling = genarm_sampling_default();
    struct genarm_error err = {0};
    sampling.seed = (uint64_t)w;
    must(genarm_session_new(&s->sessions[w], s->guide, &sampling, &err), &err);
    must(genarm_session_set_weight(s->sessions[w], 0, way->arm, &err), &err);
    if (way->n_max > 0) {
        const struct genarm_draft_params params = {
            .weights = way->weights, .n_min = way->n_min, .n_max = way->n_max, .n_lookup = 1};
        must(genarm_session_set_draft(s->sessions[w], &params, &err), &err);
    }
}

static void open_subject(struct subject *s, const char *strong, const char *weak) {
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    char adapter[64];
    snprintf(adapter, sizeof adapter, "/tmp/genarm-bench-%d.gguf", (int)getpid());
    must(genarm_model_load(&s->strong, strong, NULL, &err), &err);
    must(genarm_model_load(&s->weak, weak, NULL, &err), &err);
    must(random_adapter_write(adapter, s->weak, 8, 1u << LINEAR_Q | 1u << LINEAR_V, 0.004f, 1, &err), &err);
    must(genarm_adapter_load(&s->adapter, s->weak, adapter, &err), &err);
    unlink(adapter);
    params.n_slots = N_WAYS;
    params.n_ctx = 256;
    must(genarm_guide_new(&s->guide, s->strong, &params, &err), &err);
    const struct genarm_arm_params arm = {.name = "arm", .model = s->weak, .adapter = s->adapter, .weight = 1};
    const struct genarm_arm_params draft = {.name = "weak", .model = s->weak, .weight = 0};
    must(genarm_guide_add_arm(s->guide, &arm, &err), &err);
    must(genarm_guide_add_arm(s->guide, &draft, &err), &err);
    for (int w = 0; w < N_WAYS; w++) {
        open_session(s, w);
    }
}

static void close_subject(struct subject *s) {
    for (int w = 0; w < N_WAYS; w++) {
        genarm_session_free(s->sessions[w]);
    }
    genarm_guide_free(s->guide);
    genarm_adapter_free(s->adapter);
    genarm_model_free(s->weak);
    genarm_model_free(s->strong);
}

/* Tokens a second after the first, which the prompt is evaluated with. */
static double measure(struct subject *s, int w, int round) {
    static const char *const prompts[] = {"Tell me about owls.", "Why is the sky blue?", "Write a letter to a friend.",
                                          "How do I boil an egg?", "Name some rivers in Europe.", "What is a prime number?"};
    struct genarm_error err = {0};
    const struct genarm_message message = {"user", prompts[(round + 1) % 6]};
    int32_t token;
    must(genarm_session_prompt(s->sessions[w], &message, 1, &err), &err);
    must(genarm_session_step(s->sessions[w], &token, &err), &err);
    const double start = clock_seconds();
    for (int i = 0; i < TOKENS; i++) {
        must(genarm_session_step(s->sessions[w], &token, &err), &err);
    }
    return TOKENS / (clock_seconds() - start);
}

static void print_way(struct subject *s, int w, const char *name, float noise) {
    struct genarm_draft_stats stats;
    const double rate = samples_median(s->rate[w], ROUNDS), unguided = samples_median(s->rate[0], ROUNDS);
    const double guided = samples_median(s->rate[1], ROUNDS);
    genarm_session_get_draft_stats(s->sessions[w], &stats);
    printf("| %s | %g | %s | %.2f | %.2fx | %.2fx |", name, (double)noise, ways[w].name, rate, rate / unguided, rate / guided);
    if (ways[w].n_max > 0) {
        printf(" %.0f %% | %.2f |", 100 * (double)stats.n_accepted / (double)stats.n_tested,
               (double)(stats.n_passes + stats.n_accepted) / (double)stats.n_passes);
        printf(ways[w].n_min < ways[w].n_max ? " %.0f %% |\n" : " |\n", 100 * stats.break_even);
    } else {
        printf(" | | |\n");
    }
}

static void bench(enum ggml_type type, float noise) {
    struct subject s = {0};
    char strong[4096], weak[4096], name[32];
    snprintf(name, sizeof name, "%s", type == GGML_TYPE_F16 ? "F16" : "Q8_0");
    snprintf(weak, sizeof weak, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-%s.gguf", name);
    snprintf(strong, sizeof strong, GENARM_MODEL_DIR "/deep-x%d-noise-%g-%s.gguf", TIMES, (double)noise, name);
    if (access(strong, R_OK) != 0) {
        deep_model_write(strong, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F32.gguf", TIMES, noise, type);
    }
    open_subject(&s, strong, weak);
    for (int r = -1; r < ROUNDS; r++) { /* one round to warm up */
        for (int w = 0; w < N_WAYS; w++) {
            s.rate[w][r < 0 ? 0 : r] = measure(&s, w, r);
        }
    }
    for (int w = 0; w < N_WAYS; w++) {
        print_way(&s, w, name, noise);
    }
    fflush(stdout);
    close_subject(&s);
}

int main(int argc, char **argv) {
    const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0};
    printf("Weak to strong, tokens a second at temperature 1: medians of %d answers, %d threads. Acceptance is of the tokens\n"
           "that were tested; break-even is the acceptance from which drafting pays at the times measured.\n\n",
           ROUNDS, cores_usable());
    printf("| type | noise | | tokens/s | to strong unguided | to guided | acceptance | tokens a pass | break-even |\n"
           "|---|---|---|---|---|---|---|---|---|\n");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        for (int i = 1; i < argc; i++) {
            bench(types[t], strtof(argv[i], NULL));
        }
        if (argc == 1) {
            bench(types[t], 0.1f);
        }
    }
    return 0;
}
