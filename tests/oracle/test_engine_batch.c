/* The default model in the types that have kernels of their own: however many rows are computed at once, by the fused step or by
 * the graph, each has the logits that it has alone. Numbers of rows stand on both sides of where the way of computing changes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/random_adapter.h"
#include "engine/engine.h"
#include "guide/combine.h"
#include "support/golden.h"
#include "support/temp.h"

enum { MOST = 49, CTX = 16, POS = 4 /* of the step, after a prompt of as many tokens */ };

static const int32_t row_counts[] = {2, 8, 9, 13, 33, 48, MOST};

/* Some token of each sequence and position; every other sequence is that of the adapter. */
static struct row row_of(int32_t seq, int32_t pos, bool output) {
    return (struct row){.token = 1000 + 37 * seq + 11 * pos, .seq = seq, .pos = pos,
                        .adapter = seq % 2 ? 0 : ENGINE_NO_ADAPTER, .output = output};
}

static double divergence(const float *want, const float *got, size_t n) {
    const double zw = (double)log_sum_exp(want, n), zg = (double)log_sum_exp(got, n);
    double kl = 0;
    for (size_t i = 0; i < n; i++) {
        kl += exp((double)want[i] - zw) * (((double)want[i] - zw) - ((double)got[i] - zg));
    }
    return kl;
}

static void fill(struct engine *e) {
    struct row rows[MOST * POS];
    struct genarm_error err = {0};
    for (int32_t i = 0; i < MOST * POS; i++) {
        rows[i] = row_of(i / POS, i % POS, false);
    }
    must(engine_forward(e, rows, MOST * POS, NULL, &err), &err);
}

static void check_type(const char *type, double most) {
    char path[512];
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct engine *e;
    struct genarm_error err = {0};
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct-%s.gguf", GENARM_MODEL_DIR, type);
    must(genarm_model_load(&model, path, NULL, &err), &err);
    must(random_adapter_write(temp_path("adapter.gguf"), model, 8, (1u << LINEAR_COUNT) - 1, 0.01f, 7, &err), &err);
    must(genarm_adapter_load(&adapter, model, temp_path("adapter.gguf"), &err), &err);
    must(engine_new(&e, model, &(struct engine_params){.n_seq = MOST, .n_ctx = CTX}, &err), &err);
    must(engine_add_adapter(e, adapter, &err), &err);
    const size_t n_vocab = (size_t)model->hp.n_vocab;
    float *alone = malloc(MOST * n_vocab * sizeof *alone), *together = malloc(MOST * n_vocab * sizeof *together);
    fill(e);
    for (int32_t seq = 0; seq < MOST; seq++) {
        const struct row row = row_of(seq, POS, true);
        must(engine_forward(e, &row, 1, alone + (size_t)seq * n_vocab, &err), &err);
    }
    for (size_t k = 0; k < sizeof row_counts / sizeof *row_counts; k++) {
        struct row rows[MOST];
        double kl = 0;
        for (int32_t seq = 0; seq < row_counts[k]; seq++) {
            rows[seq] = row_of(seq, POS, true);
        }
        must(engine_forward(e, rows, row_counts[k], together, &err), &err);
        for (int32_t seq = 0; seq < row_counts[k]; seq++) {
            kl += divergence(alone + (size_t)seq * n_vocab, together + (size_t)seq * n_vocab, n_vocab) / row_counts[k];
        }
        print_message("%s, %d rows: mean KL %.2g\n", type, row_counts[k], kl);
        assert_true(kl < most);
    }
    free(alone);
    free(together);
    engine_free(e);
    genarm_adapter_free(adapter);
    genarm_model_free(model);
}

static void test_f16(void **state) {
    (void)state;
    check_type("F16", 1e-5);
}

/* More rows may meet weights in bf16 (docs/engine.md). */
static void test_q8_0(void **state) {
    (void)state;
    check_type("Q8_0", 1e-3);
}

static void test_q4_1(void **state) {
    (void)state;
    check_type("Q4_1", 1e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f16), cmocka_unit_test(test_q8_0), cmocka_unit_test(test_q4_1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
