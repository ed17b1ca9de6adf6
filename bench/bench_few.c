/* Products of a few rows with quantised and F16 weights that lie in the second-level cache, for each instruction set of this
 * processor, beside ggml's dot products: picoseconds for a weight and a row of activations. What is done to activations first
 * is counted.
 *
 *     bench_few
 */
#include <ggml-cpu.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ops/cpu.h"

enum { N_IN = 2048, N_OUT = 96, MAX_ROWS = 48, ROUNDS = 100 };

static const int row_counts[] = {1, 2, 3, 4, 6, 8, 16, 32, 48};
static const char *const sets[] = {"avx512", "avx512vnni", "avxvnni", "avx2", "dotprod", "neon", "plain"};
static const enum ggml_type types[] = {GGML_TYPE_F16,  GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                       GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

struct problem {
    enum ggml_type type;
    void *w;      /* [N_IN, N_OUT] */
    float *x, *y; /* [N_IN, MAX_ROWS], [N_OUT, MAX_ROWS] */
    char *packed;
    void *scratch; /* of many_run */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct problem problem_new(enum ggml_type type) {
    struct problem p = {.type = type, .w = malloc(ggml_row_size(type, N_IN) * N_OUT)};
    float *w = malloc(sizeof *w * N_IN * N_OUT);
    p.x = malloc(sizeof *p.x * N_IN * MAX_ROWS);
    p.y = malloc(sizeof *p.y * N_OUT * MAX_ROWS);
    p.scratch = aligned_alloc(64, (many_scratch_bytes() + 63) / 64 * 64);
    p.packed = aligned_alloc(64, sizeof(float) * N_IN * MAX_ROWS);
    for (int i = 0; i < N_IN * N_OUT; i++) {
        w[i] = (float)(rand() % 2001 - 1000) / 1000;
        p.x[i % (N_IN * MAX_ROWS)] = w[i];
    }
    ggml_quantize_chunk(type, w, p.w, 0, N_OUT, N_IN, NULL);
    free(w);
    return p;
}

static void problem_free(struct problem *p) {
    free(p->w);
    free(p->x);
    free(p->y);
    free(p->packed);
    free(p->scratch);
}

/* As ggml multiplies few rows: those of x are rounded to the type that its dot product takes, and met one by one. */
static void by_ggml(struct problem *p, const void *table, int n_rows) {
    const struct ggml_type_traits_cpu *t = table;
    const size_t w_size = ggml_row_size(p->type, N_IN), x_size = ggml_row_size(t->vec_dot_type, N_IN);
    const ggml_from_float_t round = ggml_get_type_traits_cpu(t->vec_dot_type)->from_float;
    for (int r = 0; r < n_rows; r++) {
        round(p->x + r * N_IN, p->packed + (size_t)r * x_size, N_IN);
        for (int j = 0; j < N_OUT; j++) {
            t->vec_dot(N_IN, p->y + r * N_OUT + j, 0, (char *)p->w + (size_t)j * w_size, 0, p->packed + (size_t)r * x_size, 0, 1);
        }
    }
}

static void by_few_int16(struct problem *p, const void *table, int n_rows) {
    const struct few_int16 *few = table;
    for (int r = 0; r < n_rows; r++) {
        few->pack(few->form(p->type, N_IN), p->packed + (size_t)r * few->packed_bytes(N_IN), p->x + r * N_IN, N_IN);
    }
    for (int r = 0; r < n_rows; r += FEW_INT16_MAX_ROWS) {
        const int n = n_rows - r < FEW_INT16_MAX_ROWS ? n_rows - r : FEW_INT16_MAX_ROWS;
        few->product(p->y + r * N_OUT, N_OUT, p->w, p->type, ggml_row_size(p->type, N_IN),
                     p->packed + (size_t)r * few->packed_bytes(N_IN), N_IN, n, 0, N_OUT);
    }
}

static void by_few_bf16(struct problem *p, const void *table, int n_rows) {
    const struct few_bf16 *few = table;
    for (int r = 0; r < n_rows; r++) {
        few->pack((uint16_t *)p->packed + r * N_IN, p->x + r * N_IN, N_IN);
    }
    few->product(p->y, N_OUT, p->w, p->type, ggml_row_size(p->type, N_IN), (uint16_t *)p->packed, N_IN, N_IN, n_rows, 0, N_OUT);
}

static void by_many(struct problem *p, const void *table, int n_rows) {
    const struct many_product product = {.w = p->w, .type = p->type, .w_stride = ggml_row_size(p->type, N_IN), .n_w = N_OUT, .n = N_IN,
                                         .n_rows = n_rows, .x = p->x, .y = p->y, .x_stride = N_IN, .y_stride = N_OUT};
    many_run(table, &product, p->scratch, 0, 1);
}

static void by_few_f16(struct problem *p, const void *table, int n_rows) {
    const struct kernels *k = table;
    k->few_product_f16(p->y, N_OUT, p->w, ggml_row_size(p->type, N_IN), p->x, N_IN, N_IN, n_rows, 0, N_OUT, NULL);
}

/* The best of ROUNDS for each number of rows */
static void measure(struct problem *p, const char *name, void (*multiply)(struct problem *, const void *, int),
                    const void *table) {
    printf("%-6s %-10s", ggml_type_name(p->type), name);
    for (size_t c = 0; c < sizeof row_counts / sizeof *row_counts; c++) {
        double best = INFINITY;
        for (int i = 0; i < ROUNDS; i++) {
            const double start = now();
            multiply(p, table, row_counts[c]);
            best = fmin(best, now() - start);
        }
        printf(" %7.1f", 1e12 * best / ((double)N_IN * N_OUT * row_counts[c]));
    }
    printf("\n");
    fflush(stdout);
}

int main(void) {
    ggml_cpu_init();
    printf("picoseconds for a weight and a row, %d x %d\n%-17s", N_IN, N_OUT, "rows");
    for (size_t c = 0; c < sizeof row_counts / sizeof *row_counts; c++) {
        printf(" %7d", row_counts[c]);
    }
    printf("\n");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        struct problem p = problem_new(types[t]);
        measure(&p, "ggml", by_ggml, ggml_get_type_traits_cpu(types[t]));
        for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
            const struct few_int16 *few = cpu_few_int16(sets[s]);
            const struct kernels *k = cpu_kernels(sets[s]);
            if (types[t] == GGML_TYPE_F16 && k && k->few_product_f16) {
                measure(&p, k->name, by_few_f16, k);
            } else if (few && few->form(types[t], N_IN) != FEW_INT16_NONE) {
                measure(&p, few->name, by_few_int16, few);
            }
            const struct many_kernel *many = cpu_many(sets[s]);
            if (many_reads(many, types[t], N_IN)) {
                measure(&p, "many", by_many, many);
            }
        }
        const struct few_bf16 *bf16 = cpu_few_bf16();
        if (bf16 && bf16->reads(types[t], N_IN)) {
            measure(&p, "bf16", by_few_bf16, bf16);
        }
        problem_free(&p);
    }
    return 0;
}
