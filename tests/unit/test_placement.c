/* Which device gets which layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "model/placement.h"
#include "model/runtime.h"
#include "support/golden.h"

enum { N_LAYER = 10 };

/* ---- the split ---- */

static void check_split(const double *shares, int n_devices, int32_t n, const int32_t *expected) {
    int32_t ends[PLACEMENT_MAX_DEVICES];
    split_units(ends, shares, n_devices, n);
    for (int d = 0; d < n_devices; d++) {
        assert_int_equal(ends[d], expected[d]);
    }
}

static void test_units_are_split_in_proportion(void **state) {
    (void)state;
    check_split((const double[]){1, 1}, 2, 10, (const int32_t[]){5, 10});
    check_split((const double[]){3, 1}, 2, 8, (const int32_t[]){6, 8});
    check_split((const double[]){1, 2, 1}, 3, 31, (const int32_t[]){8, 24, 31});
    check_split((const double[]){24e9, 8e9}, 2, 33, (const int32_t[]){25, 33}); /* bytes of memory */
    check_split((const double[]){0, 1, 0}, 3, 7, (const int32_t[]){0, 7, 7});
    check_split((const double[]){0.1, 0.2, 0.3, 0.4}, 4, 10, (const int32_t[]){1, 3, 6, 10});
    check_split((const double[]){1, 1, 1}, 3, 3, (const int32_t[]){1, 2, 3});
    check_split((const double[]){5}, 1, 33, (const int32_t[]){33});
}

static void test_no_unit_is_lost_or_held_twice(void **state) {
    (void)state;
    for (int32_t n = 0; n < 130; n++) {
        for (int n_devices = 1; n_devices <= PLACEMENT_MAX_DEVICES; n_devices++) {
            double shares[PLACEMENT_MAX_DEVICES];
            int32_t ends[PLACEMENT_MAX_DEVICES], before = 0;
            for (int d = 0; d < n_devices; d++) {
                shares[d] = 1.0 / (d + 3);
            }
            split_units(ends, shares, n_devices, n);
            for (int d = 0; d < n_devices; d++) {
                assert_true(ends[d] >= before && ends[d] <= n);
                before = ends[d];
            }
            assert_int_equal(before, n);
        }
    }
}

/* ---- layers ---- */

/* The CPU plays the part of n devices. */
static struct placement devices(int n) {
    struct placement p = {.n_devices = n};
    model_runtime_init();
    for (int d = 0; d < n; d++) {
        p.devices[d] = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    return p;
}

static struct placement split(int n, int32_t n_offloaded, const char *shares) {
    struct genarm_error err = {0};
    struct placement p = devices(n);
    must(placement_split(&p, N_LAYER, n_offloaded, shares, &err), &err);
    return p;
}

static void test_no_device_holds_nothing(void **state) {
    (void)state;
    const struct placement p = split(0, INT32_MAX, NULL);
    assert_int_equal(p.n_devices, 0);
    assert_int_equal(placement_index(&p, 0), 0);
    assert_int_equal(placement_index(&p, N_LAYER), 0);
}

static void test_zero_layers_leave_all_on_the_cpu(void **state) {
    (void)state;
    const struct placement p = split(2, 0, "3,1");
    assert_int_equal(p.n_devices, 0);
}

static void test_the_last_layers_are_offloaded_and_the_head_after_all_of_them(void **state) {
    (void)state;
    const struct placement some = split(2, 4, "1,1");
    assert_int_equal(some.n_devices, 2);
    for (int32_t i = 0; i <= N_LAYER; i++) {
        assert_int_equal(placement_index(&some, i), i < 6 || i == N_LAYER ? 2 : i < 8 ? 0 : 1);
    }
    const struct placement layers = split(2, N_LAYER, "1,1");
    assert_int_equal(placement_index(&layers, 0), 0);
    assert_int_equal(placement_index(&layers, N_LAYER), 2);
    static const int32_t all[] = {N_LAYER + 1, 99, INT32_MAX};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct placement p = split(2, all[i], "6,5");
        assert_int_equal(placement_index(&p, 0), 0);
        assert_int_equal(placement_index(&p, 5), 0);
        assert_int_equal(placement_index(&p, 6), 1);
        assert_int_equal(placement_index(&p, N_LAYER), 1);
    }
}

static void test_without_shares_equal_memory_gives_equal_parts(void **state) {
    (void)state;
    const struct placement p = split(2, N_LAYER, NULL);
    assert_int_equal(p.n_devices, 2);
    assert_int_equal(p.first[1], 5);
}

static void test_devices_that_get_nothing_are_dropped(void **state) {
    (void)state;
    const struct placement more = split(PLACEMENT_MAX_DEVICES, 3, NULL); /* more devices than layers */
    assert_int_equal(more.n_devices, 3);
    for (int32_t i = 0; i < N_LAYER; i++) {
        assert_int_equal(placement_index(&more, i), i < 7 ? 3 : i - 7);
    }
    const struct placement none = split(3, N_LAYER, "1,0,1");
    assert_int_equal(none.n_devices, 2);
    assert_int_equal(placement_index(&none, 4), 0);
    assert_int_equal(placement_index(&none, 5), 1);
}

static void test_shares_that_make_no_sense_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "x", "1", "1,", ",1", "1,1,1", "-1,2", "0,0", "1 1", "nan,1", "inf,1", "1;1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_error err = {0};
        struct placement p = devices(2);
        assert_int_equal(placement_split(&p, N_LAYER, N_LAYER, bad[i], &err), GENARM_EINVAL);
        assert_true(err.what[0] != '\0');
        assert_int_equal(p.n_devices, 2); /* as before */
    }
    struct genarm_error err = {0};
    struct placement none = {0};
    assert_int_equal(placement_split(&none, N_LAYER, N_LAYER, "3,1", &err), GENARM_EINVAL);
    assert_non_null(strstr(err.hint, "-dev"));
    struct placement slash = devices(2);
    must(placement_split(&slash, N_LAYER, N_LAYER, "4/1", &err), &err);
    assert_int_equal(slash.first[1], 8);
}

/* ---- names ---- */

static void test_device_names_are_checked(void **state) {
    (void)state;
    static const char *const bad[] = {"NoSuchDevice7", "CPU,NoSuchDevice7", "CPU,CPU", "", "CPU,", ",CPU", "CP"};
    model_runtime_init();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_error err = {0};
        struct placement p = {0};
        struct rpc_devices remote;
        int32_t n_offloaded = -7;
        struct genarm_model_params params = genarm_model_default_params();
        params.device = bad[i];
        assert_int_equal(placement_choose(&p, &remote, &n_offloaded, &params, &err), GENARM_EINVAL);
        assert_true(err.hint[0] != '\0');
        assert_int_equal(n_offloaded, -7);
    }
    struct genarm_error err = {0};
    struct placement p = {0};
    struct rpc_devices remote;
    int32_t n_offloaded;
    struct genarm_model_params params = genarm_model_default_params();
    params.device = "CPU";
    must(placement_choose(&p, &remote, &n_offloaded, &params, &err), &err);
    assert_int_equal(p.n_devices, 0);
    params.device = "none";
    params.n_gpu_layers = 99;
    must(placement_choose(&p, &remote, &n_offloaded, &params, &err), &err);
    assert_int_equal(p.n_devices, 0);
}

static void test_layers_are_offloaded_by_default_only_to_named_devices(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct placement p = {0};
    struct rpc_devices remote;
    int32_t n_offloaded;
    struct genarm_model_params params = genarm_model_default_params();
    must(placement_choose(&p, &remote, &n_offloaded, &params, &err), &err);
    assert_int_equal(n_offloaded, 0);
    params.device = "CPU";
    must(placement_choose(&p, &remote, &n_offloaded, &params, &err), &err);
    assert_int_equal(n_offloaded, INT32_MAX);
    params.n_gpu_layers = 3;
    must(placement_choose(&p, &remote, &n_offloaded, &params, &err), &err);
    assert_int_equal(n_offloaded, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_are_split_in_proportion),
        cmocka_unit_test(test_no_unit_is_lost_or_held_twice),
        cmocka_unit_test(test_no_device_holds_nothing),
        cmocka_unit_test(test_zero_layers_leave_all_on_the_cpu),
        cmocka_unit_test(test_the_last_layers_are_offloaded_and_the_head_after_all_of_them),
        cmocka_unit_test(test_without_shares_equal_memory_gives_equal_parts),
        cmocka_unit_test(test_devices_that_get_nothing_are_dropped),
        cmocka_unit_test(test_shares_that_make_no_sense_are_refused),
        cmocka_unit_test(test_device_names_are_checked),
        cmocka_unit_test(test_layers_are_offloaded_by_default_only_to_named_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
