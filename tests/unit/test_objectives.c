/* Objectives in an adapter's file, checked like all that comes from outside; preferences; drawing them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"
#include "train/conditioned.h"

/* ---- files ---- */

static const char *const names[] = {"helpful", "harmless"};

static void open_with(struct edit *e, const char *const *list, size_t n, uint32_t rank) {
    edit_open(e, golden_path("llama.lora.gguf")); /* rank 4 */
    gguf_set_arr_str(e->gguf, "genarm.objectives", (const char **)(uintptr_t)list, n);
    gguf_set_val_u32(e->gguf, "genarm.objectives.rank", rank);
}

static void expect(struct edit *e, const char *says) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    struct genarm_model *model = golden_model("llama.gguf");
    const char *path = edit_save(e, temp_path("edited.gguf"));
    const int rc = genarm_adapter_load(&adapter, model, path, &err);
    if (!says) {
        must(rc, &err);
        genarm_adapter_free(adapter);
    } else if (rc != GENARM_EFORMAT || !strstr(err.what, says) || strncmp(err.where, path, strlen(path)) != 0) {
        fail_msg("%d %s: \"%s\", expected \"%s\"", rc, err.where, err.what, says);
    }
    genarm_model_free(model);
}

static void test_good_objectives_are_read(void **state) {
    (void)state;
    struct edit e;
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    open_with(&e, names, 2, 1);
    must(adapter_load_alone(&adapter, edit_save(&e, temp_path("good.gguf")), &err), &err);
    assert_int_equal(adapter->info.objectives.n, 2);
    assert_int_equal(adapter->info.objectives.rank, 1);
    assert_string_equal(adapter->info.objectives.names[1], "harmless");
    assert_int_equal(objectives_find(&adapter->info.objectives, "harmless, and more", 8), 1);
    assert_int_equal(objectives_find(&adapter->info.objectives, "harm", 4), -1);
    genarm_adapter_free(adapter);
    open_with(&e, names, 2, 2); /* all slots are of objectives */
    expect(&e, NULL);
}

static void test_bad_objectives_are_refused(void **state) {
    (void)state;
    struct edit e;
    static const char *const twice[] = {"a", "a"}, *const empty[] = {"a", ""}, *const comma[] = {"a,b", "c"},
                      *const control[] = {"a\x1b[1m"}, *const broken[] = {"a\xff"};
    const char *many[17];
    char texts[17][16];
    for (int i = 0; i < 17; i++) {
        snprintf(texts[i], sizeof texts[i], "o%d", i);
        many[i] = texts[i];
    }
    open_with(&e, twice, 2, 1);
    expect(&e, "genarm.objectives");
    open_with(&e, empty, 2, 1);
    expect(&e, "genarm.objectives");
    open_with(&e, comma, 2, 1);
    expect(&e, "genarm.objectives");
    open_with(&e, control, 1, 1);
    expect(&e, "genarm.objectives");
    open_with(&e, broken, 1, 1);
    expect(&e, "genarm.objectives");
    open_with(&e, many, 17, 1);
    expect(&e, "17 names");
    open_with(&e, names, 2, 0);
    expect(&e, "rank is 0");
    open_with(&e, names, 2, 1u << 31);
    expect(&e, "rank is 2147483648");
    open_with(&e, names, 2, 3);
    expect(&e, "2 objectives of rank 3");
    open_with(&e, names, 2, 1);
    gguf_remove_key(e.gguf, "genarm.objectives.rank");
    expect(&e, "genarm.objectives.rank");
    edit_open(&e, golden_path("llama.lora.gguf"));
    gguf_set_val_str(e.gguf, "genarm.objectives", "helpful");
    expect(&e, "not an array of strings");
}

static void test_maps_of_different_ranks_cannot_share_objectives(void **state) {
    (void)state;
    struct edit e;
    open_with(&e, names, 2, 1);
    edit_add(&e, "blk.1.attn_q.weight.lora_a", GGML_TYPE_F32, 64, 3);
    edit_add(&e, "blk.1.attn_q.weight.lora_b", GGML_TYPE_F32, 3, 64);
    expect(&e, "blk.1.attn_q.weight.lora_a has rank 3");
}

/* ---- preferences ---- */

static void test_only_slots_of_objectives_are_weighed(void **state) {
    (void)state;
    struct objectives o = {.n = 2, .rank = 2};
    struct objective_weights w = {.factors = {0.5f, 1.5f}};
    float slots[7] = {1, 1, 1, 1, 1, 1, 1};
    const float expected[7] = {1, 1, 1, 0.5f, 0.5f, 1.5f, 1.5f};
    objectives_weigh(&o, w.factors, 7, slots, 1);
    assert_memory_equal(slots, expected, sizeof slots);
}

static void test_drawn_preferences_are_a_dirichlet_distribution(void **state) {
    (void)state;
    enum { N = 20000, K = 3 };
    static const double concentrations[] = {0.01, 0.5, 1, 4};
    for (size_t c = 0; c < sizeof concentrations / sizeof *concentrations; c++) {
        double mean[K] = {0}, square[K] = {0};
        for (uint64_t i = 0; i < N; i++) {
            float a[K], again[K];
            double sum = 0;
            conditioned_draw(a, K, concentrations[c], 7, i, i % 8);
            conditioned_draw(again, K, concentrations[c], 7, i, i % 8);
            assert_memory_equal(a, again, sizeof a);
            for (int k = 0; k < K; k++) {
                assert_true(a[k] >= 0 && a[k] <= 1);
                sum += (double)a[k];
                mean[k] += (double)a[k] / N;
                square[k] += (double)a[k] * (double)a[k] / N;
            }
            assert_true(fabs(sum - 1) < 1e-6);
        }
        const double total = K * concentrations[c], variance = (1.0 / K) * (1 - 1.0 / K) / (total + 1);
        for (int k = 0; k < K; k++) {
            assert_true(fabs(mean[k] - 1.0 / K) < 0.012);
            assert_true(fabs(square[k] - mean[k] * mean[k] - variance) < 0.06 * variance);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_objectives_are_read),
        cmocka_unit_test(test_bad_objectives_are_refused),
        cmocka_unit_test(test_maps_of_different_ranks_cannot_share_objectives),
        cmocka_unit_test(test_only_slots_of_objectives_are_weighed),
        cmocka_unit_test(test_drawn_preferences_are_a_dirichlet_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
