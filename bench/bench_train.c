/* Training speed and memory on the default model: synthetic pairs of 150 prompt and 2 x 90 response tokens through forward,
 * backward and AdamW, as a run does them, in f32 and in bf16. Prints pairs a second, peak memory, arithmetic reached and
 * where time goes.
 *
 *   bench_train [MODEL.gguf [PAIRS [THREADS]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/progress.h"
#include "base/rng.h"
#include "train/backprop.h"
#include "train/optim.h"

enum { N_PROMPT = 150, N_RESPONSE = 90, PAIRS_AT_ONCE = 3, N_REPEATS = 3 };

static void die(const struct genarm_error *err) {
    fprintf(stderr, "bench_train: %s: %s\n", err->where, err->what);
    exit(1);
}

static void make_pairs(struct data *d, int32_t n, int32_t n_vocab) {
    const size_t n_tokens = N_PROMPT + SIDES * N_RESPONSE;
    struct rng rng;
    rng_seed(&rng, 1);
    *d = (struct data){.tokens = malloc((size_t)n * n_tokens * sizeof *d->tokens),
                       .pairs = calloc((size_t)n, sizeof *d->pairs),
                       .n_pairs = (size_t)n};
    for (size_t i = 0; i < (size_t)n * n_tokens; i++) {
        d->tokens[i] = (int32_t)rng_below(&rng, (uint64_t)n_vocab);
    }
    for (int32_t i = 0; i < n; i++) {
        d->pairs[i] =
            (struct pair){.first = (size_t)i * n_tokens, .n_prompt = N_PROMPT, .n_response = {N_RESPONSE, N_RESPONSE}};
    }
}

/* Arithmetic of the products with weights for one pair, forward and backward, as the graph does it: nothing below q, k and v
 * of the first layer, only scored rows after the last attention. */
static double flop_of_pair(const struct hparams *hp) {
    const double rows = N_PROMPT + SIDES * (N_RESPONSE - 1), scored = SIDES * N_RESPONSE;
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

static int by_seconds(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct bench {
    struct genarm_model *model;
    struct trainable adapter;
    struct backprop *backprop;
    struct adamw adamw;
    struct data data;
    float *theta, *gradient;
};

static void setup(struct bench *b, const char *path, int32_t n_pairs, int32_t n_threads, bool bf16) {
    struct genarm_error err = {0};
    const struct genarm_train_params params = genarm_train_default_params();
    const struct backprop_params bp = {
        .loss = loss_get(GENARM_LOSS_ARM), .loss_params = loss_params_from(&params), .n_threads = n_threads, .bf16 = bf16};
    uint32_t targets;
    if (genarm_model_load(&b->model, path, NULL, &err) != GENARM_OK ||
        targets_parse(&targets, params.lora_targets, &err) != GENARM_OK ||
        trainable_init(&b->adapter, &b->model->hp, targets, params.lora_rank, params.lora_alpha, false, 0,
                       ggml_backend_cpu_buffer_type(), &err) != GENARM_OK ||
        backprop_new(&b->backprop, b->model, &b->adapter, &bp, &err) != GENARM_OK ||
        adamw_init(&b->adamw, b->adapter.n, &params, &err) != GENARM_OK) {
        die(&err);
    }
    make_pairs(&b->data, n_pairs, b->model->hp.n_vocab);
    b->theta = malloc(b->adapter.n * sizeof *b->theta);
    b->gradient = malloc(b->adapter.n * sizeof *b->gradient);
    trainable_get(&b->adapter, b->theta);
}

/* One optimiser step over all pairs; returns its seconds. */
static double step(struct bench *b, double *loss) {
    struct genarm_error err = {0};
    struct loss_value values[PAIRS_AT_ONCE];
    const double start = clock_seconds();
    const int32_t n = (int32_t)b->data.n_pairs;
    *loss = 0;
    trainable_zero_gradient(&b->adapter);
    for (int32_t i = 0; i < n; i += PAIRS_AT_ONCE) {
        struct pack pack;
        uint32_t pairs[PAIRS_AT_ONCE];
        const int32_t count = n - i < PAIRS_AT_ONCE ? n - i : PAIRS_AT_ONCE;
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

static void bench(const char *path, int32_t n_pairs, int32_t n_threads, bool bf16) {
    struct bench b = {0};
    struct backprop_profile profile = {.n_kinds = 0};
    double seconds[N_REPEATS], loss[N_REPEATS], last;
    setup(&b, path, n_pairs, n_threads, bf16);
    for (int i = 0; i < N_REPEATS; i++) {
        seconds[i] = step(&b, &loss[i]);
    }
    qsort(seconds, N_REPEATS, sizeof *seconds, by_seconds);
    backprop_set_profile(b.backprop, &profile);
    const double profiled = step(&b, &last);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const double rate = n_pairs / seconds[N_REPEATS / 2];
    printf("%s: %.2f pairs/s, %.0f GFLOPS over all (%.0f GFLOP a pair), activations %.2f GB, peak memory so far %.2f GB\n",
           bf16 ? "bf16" : "f32", rate, rate * flop_of_pair(&b.model->hp) / 1e9, flop_of_pair(&b.model->hp) / 1e9,
           (double)backprop_memory(b.backprop) / 1e9, (double)usage.ru_maxrss / 1e6);
    printf("  losses of the steps:");
    for (int i = 0; i < N_REPEATS; i++) {
        printf(" %.4f", loss[i]);
    }
    printf("\n");
    print_profile(&profile, profiled);
    fflush(stdout);
    teardown(&b);
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf";
    const int32_t n_pairs = argc > 2 ? atoi(argv[2]) : 4 * PAIRS_AT_ONCE, n_threads = argc > 3 ? atoi(argv[3]) : 0;
    printf("Training, %s, %d + 2 x %d tokens a pair (bars in f32: at least 0.8 pairs/s, at most 1.5 GB)\n\n", path, N_PROMPT,
           N_RESPONSE);
    bench(path, n_pairs, n_threads, false);
    bench(path, n_pairs, n_threads, true);
    return 0;
}
