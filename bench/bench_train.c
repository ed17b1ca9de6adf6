/* Training speed and memory on the default model: synthetic pairs of 150 prompt and 2 x 90 response tokens through forward,
 * backward and AdamW, as a run does them, in f32 and in bf16. Prints pairs a second, memory, arithmetic reached against what
 * the processor could do, and where time goes; then what pairs of 128 to 2048 tokens cost, and with activations computed
 * again.
 *
 *   bench_train [MODEL.gguf [PAIRS [THREADS]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cores.h"
#include "base/progress.h"
#include "base/rng.h"
#include "bench/samples.h"
#include "ops/cpu.h"
#include "peak.h"
#include "train/backprop.h"
#include "train/optim.h"

enum { N_PROMPT = 150, N_RESPONSE = 90, PAIRS_AT_ONCE = 3, N_REPEATS = 3, ROWS_AT_ONCE = 1024 };

/* One setting to measure. */
struct setting {
    const char *model;
    int32_t n_prompt, n_response, n_pairs, at_once;
    int32_t n_threads;
    bool bf16;
    int32_t checkpoint_layers;
};

static void die(const struct genarm_error *err) {
    fprintf(stderr, "bench_train: %s: %s\n", err->where, err->what);
    exit(1);
}

static void make_pairs(struct data *d, const struct setting *s, int32_t n_vocab) {
    const size_t n_tokens = (size_t)s->n_prompt + SIDES * (size_t)s->n_response, n = (size_t)s->n_pairs;
    struct rng rng;
    rng_seed(&rng, 1);
    *d = (struct data){
        .tokens = malloc(n * n_tokens * sizeof *d->tokens), .pairs = calloc(n, sizeof *d->pairs), .n_pairs = n};
    for (size_t i = 0; i < n * n_tokens; i++) {
        d->tokens[i] = (int32_t)rng_below(&rng, (uint64_t)n_vocab);
    }
    for (size_t i = 0; i < n; i++) {
        d->pairs[i] = (struct pair){
            .first = i * n_tokens, .n_prompt = s->n_prompt, .n_response = {s->n_response, s->n_response}};
    }
}

/* Arithmetic of the products with weights for one pair, forward and backward, as the graph does it: nothing below q, k and v
 * of the first layer, only scored rows after the last attention. */
static double flop_of_pair(const struct setting *s, const struct hparams *hp) {
    const double rows = s->n_prompt + SIDES * (s->n_response - 1), scored = SIDES * s->n_response;
    double flop = 4.0 * scored * hp->n_embd * hp->n_vocab;
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const bool last = l == hp->n_layer - 1 && t >= LINEAR_O, first = l == 0 && t <= LINEAR_V;
            flop += (first ? 2.0 : 4.0) * (last ? scored : rows) * linear_n_in((enum linear)t, hp) *
                    linear_n_out((enum linear)t, hp);
        }
    }
    return flop;
}

struct bench {
    struct genarm_model *model;
    struct trainable adapter;
    struct backprop *backprop;
    struct adamw adamw;
    struct data data;
    float *theta, *gradient;
};

static void setup(struct bench *b, const struct setting *s) {
    struct genarm_error err = {0};
    const struct genarm_train_params params = genarm_train_default_params();
    const struct backprop_params bp = {.loss = loss_get(GENARM_LOSS_ARM),
                                       .loss_params = loss_params_from(&params),
                                       .n_threads = s->n_threads,
                                       .bf16 = s->bf16,
                                       .checkpoint_layers = s->checkpoint_layers};
    uint32_t targets;
    if (genarm_model_load(&b->model, s->model, NULL, &err) != GENARM_OK ||
        targets_parse(&targets, params.lora_targets, &err) != GENARM_OK ||
        trainable_init(&b->adapter, &b->model->hp, targets, params.lora_rank, params.lora_alpha, false, 0,
                       ggml_backend_cpu_buffer_type(), &err) != GENARM_OK ||
        backprop_new(&b->backprop, b->model, &b->adapter, &bp, &err) != GENARM_OK ||
        adamw_init(&b->adamw, b->adapter.n, &params, &err) != GENARM_OK) {
        die(&err);
    }
    make_pairs(&b->data, s, b->model->hp.n_vocab);
    b->theta = malloc(b->adapter.n * sizeof *b->theta);
    b->gradient = malloc(b->adapter.n * sizeof *b->gradient);
    trainable_get(&b->adapter, b->theta);
}

/* One optimiser step over all pairs; returns its seconds. */
static double step(struct bench *b, int32_t at_once, double *loss) {
    struct genarm_error err = {0};
    struct loss_value values[ROWS_AT_ONCE];
    const double start = clock_seconds();
    const int32_t n = (int32_t)b->data.n_pairs;
    *loss = 0;
    trainable_zero_gradient(&b->adapter);
    for (int32_t i = 0; i < n; i += at_once) {
        struct pack pack;
        uint32_t pairs[ROWS_AT_ONCE];
        const int32_t count = n - i < at_once ? n - i : at_once;
        for (int32_t k = 0; k < count; k++) {
            pairs[k] = (uint32_t)(i + k);
        }
        if (pack_init(&pack, &b->data, pairs, count, PACK_BOTH, &err) != GENARM_OK ||
            backprop_run(b->backprop, &pack, &(struct backprop_job){.gradient = true, .weight = 1.0 / n}, values,
                         &err) != GENARM_OK) {
            die(&err);
        }
        pack_deinit(&pack);
        for (int32_t k = 0; k < count; k++) {
            *loss += values[k].loss / n;
        }
    }
    trainable_get_gradient(&b->adapter, b->gradient);
    clip_gradients(b->gradient, b->adapter.n, 1);
    adamw_update(&b->adamw, b->theta, b->gradient, 5e-4);
    trainable_set(&b->adapter, b->theta);
    return clock_seconds() - start;
}

/* Median seconds of a step. */
static double measure(struct bench *b, int32_t at_once, double loss[N_REPEATS]) {
    double seconds[N_REPEATS];
    for (int i = 0; i < N_REPEATS; i++) {
        seconds[i] = step(b, at_once, &loss[i]);
    }
    return samples_median(seconds, N_REPEATS);
}

static void print_profile(const struct backprop_profile *p, double total) {
    bool printed[sizeof p->kinds / sizeof *p->kinds] = {false};
    for (int k = 0; k < p->n_kinds; k++) {
        int best = -1;
        for (int i = 0; i < p->n_kinds; i++) {
            if (!printed[i] && (best < 0 || p->kinds[i].seconds > p->kinds[best].seconds)) {
                best = i;
            }
        }
        printed[best] = true;
        if (p->kinds[best].seconds > 0.002 * total) {
            printf("  %-18s %5.1f %%  %5lld nodes\n", p->kinds[best].name, 100 * p->kinds[best].seconds / total,
                   (long long)p->kinds[best].nodes);
        }
    }
}

static void teardown(struct bench *b) {
    free(b->theta);
    free(b->gradient);
    data_deinit(&b->data);
    adamw_deinit(&b->adamw);
    backprop_free(b->backprop);
    trainable_deinit(&b->adapter);
    genarm_model_free(b->model);
}

/* The best of several, as measure takes them: the machine may be busy at times. */
static double peak(bool bf16, int32_t n_threads) {
    double best = 0;
    for (int i = 0; i < N_REPEATS; i++) {
        const double rate = peak_gflops(cpu_gemm(cpu_kernels(NULL), bf16 ? OPS_BF16 : OPS_F32), n_threads);
        best = rate > best ? rate : best;
    }
    return best;
}

static double peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1e6;
}

static void bench_speed(const struct setting *s) {
    struct bench b = {0};
    struct backprop_profile profile = {.n_kinds = 0};
    double loss[N_REPEATS], last;
    setup(&b, s);
    const double rate = s->n_pairs / measure(&b, s->at_once, loss), flop = flop_of_pair(s, &b.model->hp);
    const double reachable = peak(s->bf16, s->n_threads);
    backprop_set_profile(b.backprop, &profile);
    const double profiled = step(&b, s->at_once, &last);
    printf("%s: %.2f pairs/s, %.0f of %.0f GFLOPS over all (%.0f GFLOP a pair), activations %.2f GB, peak memory so far "
           "%.2f GB\n",
           s->bf16 ? "bf16" : "f32", rate, rate * flop / 1e9, reachable, flop / 1e9,
           (double)backprop_memory(b.backprop) / 1e9, peak_memory());
    printf("  losses of the steps:");
    for (int i = 0; i < N_REPEATS; i++) {
        printf(" %.4f", loss[i]);
    }
    printf("\n");
    print_profile(&profile, profiled);
    fflush(stdout);
    teardown(&b);
}

/* Share of a profile's time under names that begin with `kind`. */
static double share_of(const struct backprop_profile *p, const char *kind) {
    double all = 0, some = 0;
    for (int i = 0; i < p->n_kinds; i++) {
        all += p->kinds[i].seconds;
        some += strncmp(p->kinds[i].name, kind, strlen(kind)) == 0 ? p->kinds[i].seconds : 0;
    }
    return some / all;
}

static void bench_length(struct setting s, int32_t n_tokens) {
    struct backprop_profile profile = {.n_kinds = 0};
    double seconds[2], loss[N_REPEATS], memory[2], attention = 0;
    s.n_prompt = n_tokens / 2;
    s.n_response = n_tokens / 4;
    s.at_once = s.n_pairs = n_tokens < ROWS_AT_ONCE ? ROWS_AT_ONCE / n_tokens : 1;
    for (int again = 0; again < 2; again++) {
        struct bench b = {0};
        s.checkpoint_layers = again;
        setup(&b, &s);
        seconds[again] = measure(&b, s.at_once, loss) / s.n_pairs;
        memory[again] = (double)backprop_memory(b.backprop) / 1e9;
        if (!again) {
            backprop_set_profile(b.backprop, &profile);
            step(&b, s.at_once, loss);
            attention = share_of(&profile, "attention");
        }
        teardown(&b);
    }
    printf("| %d | %d | %.0f | %.2f | %.0f %% | %.2f | %.2fx | %.2f |\n", n_tokens, s.at_once, 1e3 * seconds[0],
           1e3 * seconds[0] / n_tokens, 100 * attention, memory[0], seconds[1] / seconds[0], memory[1]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct setting s = {.model = argc > 1 ? argv[1] : GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf",
                        .n_prompt = N_PROMPT,
                        .n_response = N_RESPONSE,
                        .n_pairs = argc > 2 ? atoi(argv[2]) : 4 * PAIRS_AT_ONCE,
                        .at_once = PAIRS_AT_ONCE,
                        .n_threads = argc > 3 ? atoi(argv[3]) : cores_usable()};
    if (s.n_pairs < 1 || s.n_threads < 1 || s.n_threads > 64) {
        fprintf(stderr, "usage: bench_train [MODEL.gguf [PAIRS [THREADS]]]\n");
        return 2;
    }
    printf("Training, %s, %d + 2 x %d tokens a pair (bars in f32: at least 0.8 pairs/s, at most 1.5 GB); what the processor\n"
           "could do: its multiply-adds from registers alone\n\n",
           s.model, N_PROMPT, N_RESPONSE);
    bench_speed(&s);
    s.bf16 = true;
    bench_speed(&s);
    printf("\nCost by length, bf16 (half of the tokens are the prompt; attention grows with the square of the length)\n\n"
           "| tokens a pair | pairs at once | ms a pair | ms a token | attention | activations, GB | time and GB with "
           "--checkpoint-layers 1 | |\n|---|---|---|---|---|---|---|---|\n");
    for (int32_t n_tokens = 128; n_tokens <= 2048; n_tokens *= 2) {
        bench_length(s, n_tokens);
    }
    return 0;
}
