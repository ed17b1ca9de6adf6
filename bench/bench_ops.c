/* Speed of the compute operations on this machine: matrix products against ggml's, OpenBLAS's (where its library is
 * installed) and the processor's peak, then each op of a training step on packed pairs of SmolLM2-135M's shape, and what they
 * add up to.
 *
 *     bench_ops [THREADS [PAIRS]]
 */
#include <dlfcn.h>
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cores.h"
#include "ops/cpu.h"
#include "ops/ops.h"
#include "peak.h"

enum { ROUNDS = 7, MAX_NODES = 256 };

static int n_threads;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- small graphs, timed --------------------------------------------------------------------------------------- */

struct bench {
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    ggml_backend_t backend;
    ggml_gallocr_t allocr;
};

static ggml_backend_t cpu_backend(void) {
    static ggml_backend_t backend;
    if (!backend) {
        struct ggml_threadpool_params p = ggml_threadpool_params_default(n_threads);
        backend = ggml_backend_cpu_init();
        ggml_backend_cpu_set_n_threads(backend, n_threads);
        ggml_backend_cpu_set_threadpool(backend, ggml_threadpool_new(&p));
    }
    return backend;
}

static struct bench bench_new(void) {
    struct bench b = {.backend = cpu_backend()};
    b.ctx = ggml_init((struct ggml_init_params){
        .mem_size = MAX_NODES * ggml_tensor_overhead() + ggml_graph_overhead_custom(MAX_NODES, false), .no_alloc = true});
    b.graph = ggml_new_graph_custom(b.ctx, MAX_NODES, false);
    b.allocr = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    return b;
}

static struct ggml_tensor *input(struct bench *b, enum ggml_type type, int64_t ne0, int64_t ne1) {
    struct ggml_tensor *t = ggml_new_tensor_2d(b->ctx, type, ne0, ne1);
    ggml_set_input(t);
    ggml_set_output(t);
    return t;
}

static void goal(struct bench *b, struct ggml_tensor *t) {
    ggml_set_output(t);
    ggml_build_forward_expand(b->graph, t);
}

/* Values of a few tenths, in every type */
static void fill(struct ggml_tensor *t) {
    const int64_t n = ggml_nelements(t);
    float *x = malloc((size_t)n * sizeof(float));
    uint32_t state = 12345;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
    if (t->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(t, x, 0, ggml_nbytes(t));
    } else {
        void *q = malloc(ggml_nbytes(t));
        ggml_quantize_chunk(t->type, x, q, 0, t->ne[1], t->ne[0], NULL);
        ggml_backend_tensor_set(t, q, 0, ggml_nbytes(t));
        free(q);
    }
    free(x);
}

static void allocate(struct bench *b) { ggml_gallocr_alloc_graph(b->allocr, b->graph); }

/* Seconds */
static double run_once(const struct bench *b) {
    const double start = now();
    ggml_backend_graph_compute(b->backend, b->graph);
    return now() - start;
}

/* The best of ROUNDS */
static double measure(const struct bench *b) {
    double best = INFINITY;
    for (int r = 0; r < ROUNDS; r++) {
        best = fmin(best, run_once(b));
    }
    return best;
}

static void bench_free(struct bench *b) {
    ggml_gallocr_free(b->allocr);
    ggml_free(b->ctx);
}

static struct ops *ops_of(enum ops_precision precision) {
    struct ops *ops = NULL;
    struct genarm_error err = {0};
    const struct ops_params params = {.n_threads = n_threads, .precision = precision};
    if (ops_new(&ops, &params, &err) != GENARM_OK) {
        fprintf(stderr, "bench_ops: %s\n", err.what);
        exit(1);
    }
    return ops;
}

/* ---- matrix products ------------------------------------------------------------------------------------------- */

typedef void (*sgemm_fn)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);

static sgemm_fn openblas(void) {
    static void *library;
    if (!library && !(library = dlopen("libopenblas.so.0", RTLD_NOW))) {
        return NULL;
    }
    void (*set_threads)(int) = NULL;
    sgemm_fn sgemm = NULL;
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    *(void **)&sgemm = dlsym(library, "cblas_sgemm");
    if (set_threads) {
        set_threads(n_threads);
    }
    return sgemm;
}

enum way { FORWARD, BACKWARD, BF16_FORWARD, BF16_BACKWARD, GGML, OPENBLAS, N_WAYS };

struct product {
    int n_in, n_out, rows;
    enum ggml_type type;
    struct bench b[N_WAYS]; /* no graph: this way is not there */
    float *x, *w, *y;       /* OpenBLAS's */
    double best[N_WAYS];
    double peak;
};

static void product_new(struct product *p, struct ops *f32, struct ops *bf16) {
    for (enum way way = 0; way < OPENBLAS; way++) {
        struct bench *b = &p->b[way];
        *b = bench_new();
        const bool back = way == BACKWARD || way == BF16_BACKWARD;
        struct ops *ops = way < BF16_FORWARD ? f32 : bf16;
        struct ggml_tensor *w = input(b, p->type, p->n_in, p->n_out);
        struct ggml_tensor *x = input(b, GGML_TYPE_F32, back ? p->n_out : p->n_in, p->rows);
        goal(b, way == GGML ? ggml_mul_mat(b->ctx, w, x)
                : back      ? op_linear_back(b->ctx, ops, w, x)
                            : op_linear(b->ctx, ops, w, x));
        allocate(b);
        fill(w);
        fill(x);
    }
    if (p->type == GGML_TYPE_F32 && openblas()) {
        p->x = calloc((size_t)p->n_in * (size_t)p->rows, sizeof(float));
        p->w = calloc((size_t)p->n_in * (size_t)p->n_out, sizeof(float));
        p->y = calloc((size_t)p->n_out * (size_t)p->rows, sizeof(float));
    }
}

static void product_free(struct product *p) {
    for (enum way way = 0; way < OPENBLAS; way++) {
        bench_free(&p->b[way]);
    }
    free(p->x);
    free(p->w);
    free(p->y);
}

/* One way after the other, round by round, so that drifts of the machine hit all alike. */
static void product_measure(struct product *p) {
    for (int r = 0; r < ROUNDS; r++) {
        p->peak = fmax(p->peak, peak_gflops(&cpu_kernels(NULL)->gemm, n_threads));
        for (enum way way = 0; way < N_WAYS; way++) {
            double t = INFINITY;
            if (way < OPENBLAS) {
                t = run_once(&p->b[way]);
            } else if (p->y) {
                const double start = now();
                openblas()(101, 111, 112, p->rows, p->n_out, p->n_in, 1, p->x, p->n_in, p->w, p->n_in, 0, p->y, p->n_out);
                t = now() - start;
            }
            const double rate = 2e-9 * p->n_in * p->n_out * p->rows / t;
            p->best[way] = fmax(p->best[way], rate);
        }
    }
}

static void bench_products(void) {
    static const int shapes[][3] = {
        {576, 576, 1024}, {576, 1536, 1024}, {1536, 576, 1024}, {576, 960, 1024}, {576, 49152, 256}};
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_1};
    struct ops *f32 = ops_of(OPS_F32), *bf16 = ops_of(OPS_BF16);
    const struct many_kernel *quantised = cpu_gemm_quantised(cpu_kernels(NULL), OPS_BF16);
    printf("matrix products, GFLOPS (%s, and in bf16 %s, forwards of quantised weights %s); peak: f32 multiply-adds on registers\n\n",
           ops_gemm_name(f32), ops_gemm_name(bf16), quantised ? quantised->name : ops_gemm_name(bf16));
    printf("%-20s %-5s %8s %8s %8s %8s %9s %9s %8s %8s\n", "n_in x n_out, rows", "type", "peak", "forward", "of peak", "back",
           "bf16", "bf16 back", "ggml", "OpenBLAS");
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        for (int t = 0; t < 4; t++) {
            struct product p = {.n_in = shapes[s][0], .n_out = shapes[s][1], .rows = shapes[s][2], .type = types[t]};
            product_new(&p, f32, bf16);
            product_measure(&p);
            product_free(&p);
            char name[64];
            snprintf(name, sizeof(name), "%d x %d, %d", p.n_in, p.n_out, p.rows);
            printf("%-20s %-5s %8.0f %8.0f %7.0f%% %8.0f %9.0f %9.0f %8.0f ", name, ggml_type_name(p.type), p.peak,
                   p.best[FORWARD], 100 * p.best[FORWARD] / p.peak, p.best[BACKWARD], p.best[BF16_FORWARD],
                   p.best[BF16_BACKWARD], p.best[GGML]);
            if (p.best[OPENBLAS] > 0) {
                printf("%8.0f\n", p.best[OPENBLAS]);
            } else {
                printf("%8s\n", "-");
            }
            fflush(stdout);
        }
    }
    ops_free(f32);
    ops_free(bf16);
}

/* ---- a training step ------------------------------------------------------------------------------------------- */

enum {
    N_EMBD = 576, N_HEAD = 9, N_KV = 3, D = 64, N_FF = 1536, N_VOCAB = 49152, N_LAYER = 30, RANK = 8,
    PROMPT = 150, RESPONSE = 90, PAIR_ROWS = PROMPT + 2 * (RESPONSE - 1), PAIR_SCORED = 2 * RESPONSE,
};

struct step {
    struct bench b;
    struct ops *ops;
    enum ggml_type type;
    int64_t rows, scored;
    int32_t *trees, *positions, *targets;
    struct op_tree tree;
    struct op_rope rope;
};

static struct step step_new(struct ops *ops, int pairs, enum ggml_type type) {
    struct step s = {.b = bench_new(), .ops = ops, .type = type};
    s.rows = (int64_t)pairs * PAIR_ROWS;
    s.scored = (int64_t)pairs * PAIR_SCORED;
    s.tree.trees = input(&s.b, GGML_TYPE_I32, 4, pairs);
    s.rope = (struct op_rope){.positions = input(&s.b, GGML_TYPE_I32, s.rows, 1), .n_rot = D, .mode = GGML_ROPE_TYPE_NORMAL,
                              .freq_base = 100000, .freq_scale = 1, .attn_factor = 1};
    op_rope_init(s.b.ctx, ops, &s.rope);
    return s;
}

static double step_measure(struct step *s) {
    allocate(&s->b);
    for (int i = 0; i < ggml_graph_n_nodes(s->b.graph); i++) {
        struct ggml_tensor *node = ggml_graph_node(s->b.graph, i);
        for (int j = 0; j < GGML_MAX_SRC && node->src[j]; j++) {
            struct ggml_tensor *t = node->src[j];
            if (t->op == GGML_OP_NONE && !t->view_src && t->type != GGML_TYPE_I32) {
                fill(t);
            }
        }
    }
    if (s->tree.trees->buffer) {
        for (int32_t i = 0; i < s->tree.trees->ne[1]; i++) {
            const int32_t tree[] = {i * PAIR_ROWS, PROMPT, RESPONSE - 1, RESPONSE - 1};
            ggml_backend_tensor_set(s->tree.trees, tree, (size_t)i * sizeof(tree), sizeof(tree));
        }
    }
    if (s->rope.positions->buffer) {
        ggml_backend_tensor_memset(s->rope.positions, 0, 0, ggml_nbytes(s->rope.positions));
    }
    return measure(&s->b);
}

/* One op of the step, by itself */
enum part {
    QKV, ATTN, ATTN_BACK, OUT, GATE_UP, SWIGLU, SWIGLU_BACK, DOWN, QKV_BACK, OUT_BACK, GATE_UP_BACK, DOWN_BACK, NORM, NORM_BACK,
    LORA, LORA_BACK, HEAD, N_PARTS,
};

static const struct {
    const char *name;
    double times;   /* in a step */
    double gflop;   /* a pair, once; 0: not worth counting */
} parts[N_PARTS] = {
#define MAP(n_in, n_out) (2e-9 * (n_in) * (n_out) * PAIR_ROWS)
#define SEEN (PROMPT * (PROMPT + 1) / 2 + 2 * ((RESPONSE - 1) * PROMPT + (RESPONSE - 1) * RESPONSE / 2))
    [QKV] = {"q, k, v", N_LAYER, MAP(N_EMBD, 960)},
    [ATTN] = {"attention", N_LAYER, 4e-9 * SEEN * D * N_HEAD},
    [ATTN_BACK] = {"attention back", N_LAYER, 10e-9 * SEEN * D * N_HEAD},
    [OUT] = {"o", N_LAYER, MAP(N_EMBD, N_EMBD)},
    [GATE_UP] = {"gate, up", N_LAYER, MAP(N_EMBD, 2 * N_FF)},
    [SWIGLU] = {"swiglu", N_LAYER, 0},
    [SWIGLU_BACK] = {"swiglu back", N_LAYER, 0},
    [DOWN] = {"down", N_LAYER, MAP(N_FF, N_EMBD)},
    [QKV_BACK] = {"q, k, v back", N_LAYER - 1, MAP(N_EMBD, 960)},
    [OUT_BACK] = {"o back", N_LAYER, MAP(N_EMBD, N_EMBD)},
    [GATE_UP_BACK] = {"gate, up back", N_LAYER, MAP(N_EMBD, 2 * N_FF)},
    [DOWN_BACK] = {"down back", N_LAYER, MAP(N_FF, N_EMBD)},
    [NORM] = {"norm", 2 * N_LAYER + 1, 0},
    [NORM_BACK] = {"norm back", 2 * N_LAYER, 0},
    [LORA] = {"LoRA on q, k, v", N_LAYER, 0},
    [LORA_BACK] = {"LoRA back", N_LAYER, 0},
    [HEAD] = {"head and gradient", 1, 4e-9 * N_EMBD * N_VOCAB * PAIR_SCORED},
#undef MAP
#undef SEEN
};

static struct ggml_tensor *rows_of(struct step *s, int64_t n) { return input(&s->b, GGML_TYPE_F32, n, s->rows); }
static struct ggml_tensor *weight(struct step *s, int64_t n_in, int64_t n_out) { return input(&s->b, s->type, n_in, n_out); }

static void emit_linear(struct step *s, int64_t n_in, const int64_t *n_out, int n_w, bool back) {
    struct ggml_tensor *w[OP_MAX_STACK];
    int64_t total = 0;
    for (int i = 0; i < n_w; i++) {
        w[i] = weight(s, n_in, n_out[i]);
        total += n_out[i];
    }
    struct ggml_tensor *x = rows_of(s, back ? total : n_in);
    goal(&s->b, back ? op_linear_back_stack(s->b.ctx, s->ops, w, n_w, x) : op_linear_stack(s->b.ctx, s->ops, w, n_w, x));
}

static void emit_attention(struct step *s, bool back) {
    struct ggml_context *ctx = s->b.ctx;
    struct ggml_tensor *x = rows_of(s, 960);
    const size_t head = D * sizeof(float), row = x->nb[1];
    struct ggml_tensor *q = ggml_view_3d(ctx, x, D, N_HEAD, s->rows, head, row, 0);
    struct ggml_tensor *k = ggml_view_3d(ctx, x, D, N_KV, s->rows, head, row, head * N_HEAD);
    struct ggml_tensor *v = ggml_view_3d(ctx, x, D, N_KV, s->rows, head, row, head * (N_HEAD + N_KV));
    const float scale = 0.125f;
    if (!back) {
        goal(&s->b, op_attention(ctx, s->ops, q, k, v, &s->tree, &s->rope, scale).out);
        return;
    }
    /* values of the forward pass do not change how long this takes */
    const struct op_attention att = {rows_of(s, N_EMBD), rows_of(s, N_HEAD)};
    goal(&s->b, op_attention_back(ctx, s->ops, q, k, v, &att, rows_of(s, N_EMBD), &s->tree, &s->rope, scale));
}

static void emit_lora(struct step *s, bool back) {
    static const int64_t n_out[] = {N_EMBD, N_KV * D, N_KV * D};
    struct ggml_context *ctx = s->b.ctx;
    struct ggml_tensor *x = rows_of(s, N_EMBD), *y = rows_of(s, 960), *dx = rows_of(s, N_EMBD), *a[3], *b[3];
    for (int i = 0; i < 3; i++) {
        a[i] = input(&s->b, GGML_TYPE_F32, N_EMBD, RANK);
        b[i] = input(&s->b, GGML_TYPE_F32, RANK, n_out[i]);
    }
    if (!back) {
        struct ggml_tensor *t = op_linear_stack(ctx, s->ops, a, 3, x);
        for (int64_t i = 0, first = 0; i < 3; first += n_out[i++]) {
            goal(&s->b, op_linear_acc(ctx, s->ops, op_part(ctx, y, first, n_out[i]), b[i], op_part(ctx, t, i * RANK, RANK), 2));
        }
        return;
    }
    for (int64_t i = 0, first = 0; i < 3; first += n_out[i++]) {
        struct ggml_tensor *dy = op_part(ctx, y, first, n_out[i]), *dt = op_linear_back(ctx, s->ops, b[i], dy);
        goal(&s->b, op_linear_grad_acc(ctx, s->ops, input(&s->b, GGML_TYPE_F32, N_EMBD, RANK), dt, x, 2));
        goal(&s->b, op_linear_grad_acc(ctx, s->ops, input(&s->b, GGML_TYPE_F32, RANK, n_out[i]), dy, rows_of(s, RANK), 2));
        dx = op_linear_back_acc(ctx, s->ops, dx, a[i], dt, 2);
    }
    goal(&s->b, dx);
}

static void emit(struct step *s, enum part part) {
    static const int64_t qkv[] = {N_EMBD, N_KV * D, N_KV * D}, embd[] = {N_EMBD}, gate_up[] = {N_FF, N_FF};
    struct ggml_context *ctx = s->b.ctx;
    struct ggml_tensor *both, *w;
    switch (part) {
    case QKV: emit_linear(s, N_EMBD, qkv, 3, false); break;
    case QKV_BACK: emit_linear(s, N_EMBD, qkv, 3, true); break;
    case OUT: emit_linear(s, N_EMBD, embd, 1, false); break;
    case OUT_BACK: emit_linear(s, N_EMBD, embd, 1, true); break;
    case GATE_UP: emit_linear(s, N_EMBD, gate_up, 2, false); break;
    case GATE_UP_BACK: emit_linear(s, N_EMBD, gate_up, 2, true); break;
    case DOWN: emit_linear(s, N_FF, embd, 1, false); break;
    case DOWN_BACK: emit_linear(s, N_FF, embd, 1, true); break;
    case ATTN: emit_attention(s, false); break;
    case ATTN_BACK: emit_attention(s, true); break;
    case LORA: emit_lora(s, false); break;
    case LORA_BACK: emit_lora(s, true); break;
    case SWIGLU:
        both = rows_of(s, 2 * N_FF);
        goal(&s->b, op_swiglu(ctx, s->ops, op_part(ctx, both, 0, N_FF), op_part(ctx, both, N_FF, N_FF)));
        break;
    case SWIGLU_BACK:
        both = rows_of(s, 2 * N_FF);
        goal(&s->b, op_swiglu_back(ctx, s->ops, op_part(ctx, both, 0, N_FF), op_part(ctx, both, N_FF, N_FF), rows_of(s, N_FF)));
        break;
    case NORM:
        w = input(&s->b, GGML_TYPE_F32, N_EMBD, 1);
        goal(&s->b, op_rms_norm(ctx, s->ops, rows_of(s, N_EMBD), w, 1e-5f));
        break;
    case NORM_BACK:
        w = input(&s->b, GGML_TYPE_F32, N_EMBD, 1);
        goal(&s->b, op_rms_norm_back(ctx, s->ops, rows_of(s, N_EMBD), w, rows_of(s, N_EMBD), rows_of(s, N_EMBD), 1e-5f));
        break;
    case HEAD:
        both = input(&s->b, GGML_TYPE_F32, N_EMBD, s->scored);
        w = input(&s->b, GGML_TYPE_I32, s->scored, 1);
        goal(&s->b, op_head(ctx, s->ops, weight(s, N_EMBD, N_VOCAB), both, w, true).grad);
        break;
    default: break;
    }
}

static void bench_step(int pairs, enum ggml_type type, enum ops_precision precision) {
    struct ops *ops = ops_of(precision);
    double total = 0, gflop = 0, ms[N_PARTS];
    for (int p = 0; p < N_PARTS; p++) {
        struct step s = step_new(ops, pairs, type);
        emit(&s, (enum part)p);
        ms[p] = 1e3 * step_measure(&s) / pairs;
        total += ms[p] * parts[p].times;
        gflop += parts[p].gflop * parts[p].times;
        bench_free(&s.b);
    }
    printf("\na step's ops, %d pairs of %d + 2 x %d tokens, base in %s, products by %s\n\n", pairs, PROMPT, RESPONSE,
           ggml_type_name(type), ops_gemm_name(ops));
    printf("%-20s %12s %8s %8s %8s\n", "op", "ms a pair", "times", "share", "GFLOPS");
    for (int p = 0; p < N_PARTS; p++) {
        printf("%-20s %12.3f %8.0f %7.1f%%", parts[p].name, ms[p], parts[p].times, 100 * ms[p] * parts[p].times / total);
        printf(parts[p].gflop > 0 ? " %8.0f\n" : "\n", 1e3 * parts[p].gflop / ms[p]);
    }
    printf("sum: %.0f ms a pair, %.2f pairs/s, %.0f GFLOPS\n", total, 1e3 / total, 1e3 * gflop / total);
    ops_free(ops);
}

int main(int argc, char **argv) {
    n_threads = argc > 1 ? atoi(argv[1]) : cores_usable();
    const int pairs = argc > 2 ? atoi(argv[2]) : 4;
    if (n_threads < 1 || n_threads > 64 || pairs < 1) {
        fprintf(stderr, "usage: bench_ops [THREADS [PAIRS]]\n");
        return 2;
    }
    ggml_cpu_init();
    bench_products();
    bench_step(pairs, GGML_TYPE_F32, OPS_F32);
    bench_step(pairs, GGML_TYPE_Q4_1, OPS_F32);
    bench_step(pairs, GGML_TYPE_Q4_1, OPS_BF16);
    return 0;
}
