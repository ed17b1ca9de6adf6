/* Products of a few rows against plain C that unpacks weights one by one, for every instruction set: weights of any bytes, and
 * activations that 16 bits hold exactly, so that only the rounding of float sums is allowed for. Nothing of ggml is linked, so
 * that this can be built for another processor (scripts/test_arm.sh). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"

enum { N_OUT = 5, FIRST = 1 /* of the outputs that are asked for */, N_ROWS = FEW_INT16_MAX_ROWS, LARGEST = 32000 };

static const char *const instruction_sets[] = {"avx512vnni", "avxvnni", "avx2", "dotprod", "neon"};
static const int64_t lengths[] = {32, 64, 96, 256, 288, 512, 576, 1536, 2336, 4352};
static const enum ggml_type types[] = {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                       GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

static uint32_t next(void) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* ---- weights, one by one ---- */

static double f16(const uint8_t *p) {
    const unsigned h = p[0] | (unsigned)p[1] << 8, exponent = h >> 10 & 31, mantissa = h & 1023;
    const double size = exponent ? ldexp(1024 + mantissa, (int)exponent - 25) : ldexp(mantissa, -24);
    return h >> 15 ? -size : size;
}

static size_t block_size(enum ggml_type type) { return type >= GGML_TYPE_Q4_K ? 256 : 32; }

static size_t bytes_of(enum ggml_type type) {
    switch (type) {
    case GGML_TYPE_Q8_0: return 34;
    case GGML_TYPE_Q4_0: return 18;
    case GGML_TYPE_Q4_1: return 20;
    case GGML_TYPE_Q4_K: return 144;
    case GGML_TYPE_Q5_K: return 176;
    default: return 210;
    }
}

/* Six bits each: those of the first four blocks whole, of the others four bits in one byte and two in another. */
static unsigned six_bits(const uint8_t *s, int b, bool minimum) {
    const unsigned low = minimum ? s[8 + b % 4] >> 4 : s[8 + b % 4] & 15u, first = s[b % 4 + (minimum ? 4 : 0)];
    return b < 4 ? first & 63u : low | first >> 6 << 4;
}

static double weight_k4_k5(const uint8_t *p, int i, bool fifth) {
    const int b = i / 32;
    const uint8_t byte = p[(fifth ? 48 : 16) + b / 2 * 32 + i % 32];
    unsigned q = b % 2 ? byte >> 4 : byte & 15u;
    q += fifth && p[16 + i % 32] >> b & 1 ? 16 : 0;
    return f16(p) * six_bits(p + 4, b, false) * q - f16(p + 2) * six_bits(p + 4, b, true);
}

static double weight_k6(const uint8_t *p, int i) {
    const int half = i / 128, quarter = i % 128 / 32, k = i % 32;
    const uint8_t byte = p[half * 64 + quarter % 2 * 32 + k];
    const int low = quarter / 2 ? byte >> 4 : byte & 15, high = p[128 + half * 32 + k] >> 2 * quarter & 3;
    return f16(p + 208) * (int8_t)p[192 + i / 16] * ((low | high << 4) - 32);
}

/* Weight i of the block, or super-block, at p. */
static double weight(enum ggml_type type, const uint8_t *p, int i) {
    const int at = i % 16, shift = i / 16 * 4;
    switch (type) {
    case GGML_TYPE_Q8_0: return f16(p) * (int8_t)p[2 + i];
    case GGML_TYPE_Q4_0: return f16(p) * ((p[2 + at] >> shift & 15) - 8);
    case GGML_TYPE_Q4_1: return f16(p) * (p[4 + at] >> shift & 15) + f16(p + 2);
    case GGML_TYPE_Q4_K: return weight_k4_k5(p, i, false);
    case GGML_TYPE_Q5_K: return weight_k4_k5(p, i, true);
    default: return weight_k6(p, i);
    }
}

/* A finite half float */
static void put_f16(uint8_t *p) {
    p[0] = (uint8_t)next();
    p[1] = (uint8_t)((next() & 0x80) | (next() % 16 << 2) | (next() & 3));
}

/* fill < 0: any bytes */
static uint8_t *make_weights(enum ggml_type type, int64_t n, int fill) {
    const size_t block = bytes_of(type), n_blocks = (size_t)n / block_size(type) * N_OUT;
    uint8_t *w = malloc(n_blocks * block);
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t i = 0; i < block; i++) {
            w[b * block + i] = (uint8_t)(fill < 0 ? next() : (uint32_t)fill);
        }
        put_f16(w + b * block + (type == GGML_TYPE_Q6_K ? 208 : 0));
        if (type != GGML_TYPE_Q8_0 && type != GGML_TYPE_Q4_0 && type != GGML_TYPE_Q6_K) {
            put_f16(w + b * block + 2);
        }
    }
    return w;
}

/* ---- products in whole numbers ---- */

/* Whole numbers, or all the largest; of each 256 one is 32000, which makes their scale 1. */
static float *make_activations(int64_t n, bool largest) {
    float *x = malloc((size_t)n * N_ROWS * sizeof *x);
    for (int64_t i = 0; i < n * N_ROWS; i++) {
        const bool is_largest = largest || i % n % 256 == 11;
        x[i] = is_largest ? LARGEST : (float)((int32_t)(next() % (2 * LARGEST + 1)) - LARGEST);
    }
    return x;
}

static void check_row(const struct few_int16 *few, enum ggml_type type, const uint8_t *w, int64_t n, const float *x, float got,
                      const char *which) {
    double sum = 0, size = 0;
    const int block = (int)block_size(type);
    for (int64_t i = 0; i < n; i++) {
        const double wi = weight(type, w + (size_t)(i / block) * bytes_of(type), (int)(i % block));
        sum += wi * (double)x[i];
        size += fabs(wi * (double)x[i]);
    }
    /* sums that cancel minima are rounded as what they were */
    if (!(fabs((double)got - sum) <= 4e-6 * size)) {
        fail_msg("%s, type %d, n %lld, %s: %g, not %g", few->name, (int)type, (long long)n, which, (double)got, sum);
    }
}

static void check_products(const struct few_int16 *few, enum ggml_type type, int64_t n, int fill) {
    const size_t stride = (size_t)n / block_size(type) * bytes_of(type), packed_bytes = few->packed_bytes(n);
    uint8_t *w = make_weights(type, n, fill);
    float *x = make_activations(n, fill >= 0), all[N_ROWS * N_OUT], some[N_ROWS * N_OUT];
    char *packed = aligned_alloc(64, packed_bytes * N_ROWS), which[64];
    assert_true(packed_bytes % 64 == 0 && packed_bytes < 3 * (size_t)n + 128);
    for (int r = 0; r < N_ROWS; r++) {
        few->pack(few->form(type, n), packed + (size_t)r * packed_bytes, x + r * n, n);
    }
    for (int n_rows = N_ROWS; n_rows >= 1; n_rows--) {
        float *y = n_rows == N_ROWS ? all : some;
        for (int c = 0; c < N_ROWS * N_OUT; c++) {
            y[c] = -1.0f;
        }
        few->product(y, N_OUT, w, type, stride, packed, n, n_rows, FIRST, N_OUT);
        for (int c = 0; n_rows == N_ROWS && c < N_ROWS * N_OUT; c++) {
            snprintf(which, sizeof which, "row %d, output %d", c / N_OUT, c % N_OUT);
            if (c % N_OUT >= FIRST) {
                check_row(few, type, w + (size_t)(c % N_OUT) * stride, n, x + c / N_OUT * n, y[c], which);
            } else {
                assert_true(y[c] == -1.0f);
            }
        }
        assert_memory_equal(y, all, (size_t)(n_rows * N_OUT) * sizeof *y); /* whatever other rows there are */
        for (int c = n_rows * N_OUT; c < N_ROWS * N_OUT; c++) {
            assert_true(y[c] == -1.0f);
        }
    }
    free(w);
    free(x);
    free(packed);
}

static void test_quantised_weights_of_any_bytes(void **state) {
    (void)state;
    int n_sets = 0;
    for (size_t s = 0; s < sizeof instruction_sets / sizeof *instruction_sets; s++) {
        const struct few_int16 *few = cpu_few_int16(instruction_sets[s]);
        for (size_t k = 0; few && k < sizeof types / sizeof *types; k++) {
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                if (few->form(types[k], lengths[i]) != FEW_INT16_NONE && (size_t)lengths[i] % block_size(types[k]) == 0) {
                    check_products(few, types[k], lengths[i], -1);
                }
            }
        }
        n_sets += few ? 1 : 0;
    }
    if (n_sets == 0) {
        skip();
    }
}

/* All numbers extreme and of one sign */
static void test_the_largest_numbers_do_not_overflow(void **state) {
    (void)state;
    static const int extremes[] = {0x7f, 0x80, 0xff, 0x00};
    for (size_t s = 0; s < sizeof instruction_sets / sizeof *instruction_sets; s++) {
        const struct few_int16 *few = cpu_few_int16(instruction_sets[s]);
        for (size_t k = 0; few && k < sizeof types / sizeof *types; k++) {
            for (size_t e = 0; e < sizeof extremes / sizeof *extremes; e++) {
                check_products(few, types[k], 512, extremes[e]);
            }
        }
    }
}

/* One number that is none, or all of a row: every product of that row is none, those of the other rows are what they were. */
static void check_no_number(const struct few_int16 *few, enum ggml_type type, int from, int to, float no_number) {
    const int64_t n = 512;
    const size_t packed_bytes = few->packed_bytes(n);
    uint8_t *w = make_weights(type, n, 0x11);
    float *x = make_activations(n, false), y[2 * N_OUT];
    char *packed = aligned_alloc(64, packed_bytes * 2);
    for (int i = from; i < to; i++) {
        x[i] = no_number;
    }
    for (int r = 0; r < 2; r++) {
        few->pack(few->form(type, n), packed + (size_t)r * packed_bytes, x + r * n, n);
    }
    few->product(y, N_OUT, w, type, (size_t)n / block_size(type) * bytes_of(type), packed, n, 2, 0, N_OUT);
    for (int j = 0; j < N_OUT; j++) {
        assert_true(!isfinite(y[j]));
        assert_true(isfinite(y[N_OUT + j]));
    }
    free(w);
    free(x);
    free(packed);
}

static void test_what_is_no_number_stays_none(void **state) {
    (void)state;
    static const int places[][2] = {{0, 1}, {3, 4}, {255, 256}, {300, 301}, {0, 512}};
    for (size_t s = 0; s < sizeof instruction_sets / sizeof *instruction_sets; s++) {
        const struct few_int16 *few = cpu_few_int16(instruction_sets[s]);
        for (size_t k = 0; few && k < sizeof types / sizeof *types; k++) {
            for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
                check_no_number(few, types[k], places[i][0], places[i][1], NAN);
                check_no_number(few, types[k], places[i][0], places[i][1], INFINITY);
            }
        }
    }
}

/* ---- F16 ---- */

enum { MAX_N = 700, MAX_ROWS = 35 };

static void check_f16(const struct kernels *k, int64_t n, int n_rows) {
    uint8_t w[N_OUT * MAX_N * 2];
    float x[MAX_ROWS * MAX_N], y[MAX_ROWS * N_OUT], sums[MAX_ROWS * MAX_N];
    for (int i = 0; i < N_OUT * MAX_N; i++) {
        put_f16(w + 2 * i);
    }
    for (int i = 0; i < MAX_ROWS * MAX_N; i++) {
        x[i] = (float)next() / (float)(1u << 31) - 0.5f;
    }
    k->few_product_f16(y, N_OUT, w, MAX_N * 2, x, MAX_N, n, n_rows, 0, N_OUT, NULL);
    k->few_sum_f16(sums, MAX_N, x, MAX_N, w, MAX_N * 2, n, N_OUT, n_rows, NULL);
    for (int r = 0; r < n_rows; r++) {
        for (int j = 0; j < N_OUT; j++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < n; i++) {
                const double a = f16(w + (j * MAX_N + i) * 2) * (double)x[r * MAX_N + i];
                sum += a;
                size += fabs(a);
            }
            assert_true(fabs((double)y[r * N_OUT + j] - sum) <= 1e-6 * size);
        }
        for (int64_t d = 0; d < n; d++) {
            double sum = 0, size = 0;
            for (int p = 0; p < N_OUT; p++) {
                const double a = f16(w + (p * MAX_N + d) * 2) * (double)x[r * MAX_N + p];
                sum += a;
                size += fabs(a);
            }
            assert_true(fabs((double)sums[r * MAX_N + d] - sum) <= 1e-6 * size);
        }
    }
}

static void test_half_floats(void **state) {
    (void)state;
    const struct kernels *k = cpu_kernels(NULL);
    if (!k->few_product_f16) {
        skip();
    }
    for (int64_t n = 1; n <= MAX_N; n += n < 40 ? 1 : n < 130 ? 15 : 190) {
        for (int n_rows = 1; n_rows <= MAX_ROWS; n_rows += n_rows < 9 ? 1 : MAX_ROWS - 9) {
            check_f16(k, n, n_rows);
        }
    }
}

/* ---- the limit ---- */

static void test_a_limit_takes_instruction_sets_away(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const char *given = getenv("GENARM_CPU");
    char *kept = given ? strdup(given) : NULL;
    setenv("GENARM_CPU", "plain", 1);
    assert_int_equal(cpu_check_limit(&err), GENARM_OK);
    assert_string_equal(cpu_kernels(NULL)->name, "plain");
    assert_true(!cpu_few_int16(NULL) && !cpu_few_bf16() && !cpu_kernels("avx2"));
    setenv("GENARM_CPU", "avx3", 1);
    assert_int_equal(cpu_check_limit(&err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "'avx3'"));
    if (kept) {
        setenv("GENARM_CPU", kept, 1);
    } else {
        unsetenv("GENARM_CPU");
    }
    free(kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantised_weights_of_any_bytes),
        cmocka_unit_test(test_the_largest_numbers_do_not_overflow),
        cmocka_unit_test(test_what_is_no_number_stays_none),
        cmocka_unit_test(test_half_floats),
        cmocka_unit_test(test_a_limit_takes_instruction_sets_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
