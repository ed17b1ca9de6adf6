/* Checkpoints and the metrics log: nothing damaged is taken for whole, nothing whole is lost. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "train/checkpoint.h"
#include "train/metrics.h"

enum { N = 40000 };

static char folder[64], file[96];
static float arrays[6][N];

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/genarm-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/checkpoint", folder);
    for (int a = 0; a < 3; a++) {
        for (int i = 0; i < N; i++) {
            arrays[a][i] = (float)(a * N + i) * 0.25f;
        }
    }
    memset(arrays[3], 0, 3 * sizeof arrays[0]);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    assert_int_equal(checkpoint_remove(folder, NULL), GENARM_OK);
    assert_false(file_exists(folder));
    return 0;
}

static json_t *run_of(double beta) { return json_pack("{s:s, s:f, s:i}", "loss", "arm", "beta", beta, "rank", 8); }

enum { N_STEPS = 10 };

/* Writes step `step`, with arrays 0..2 */
static int save(int64_t step, struct genarm_error *err) {
    json_t *run = run_of(0.05);
    const struct checkpoint c = {.run = run,
                                 .step = step,
                                 .validated = step - 1,
                                 .log_size = 10 * step,
                                 .n = N,
                                 .theta = arrays[0],
                                 .m = arrays[1],
                                 .v = arrays[2]};
    const int rc = checkpoint_write(folder, &c, err);
    json_decref(run);
    return rc;
}

/* Reads into arrays 3..5 */
static int load(double beta, size_t n, struct checkpoint *c, struct genarm_error *err) {
    json_t *run = run_of(beta);
    *c = (struct checkpoint){.run = run,
                             .step = -5,
                             .n_steps = N_STEPS,
                             .n = n,
                             .theta = arrays[3],
                             .m = arrays[4],
                             .v = arrays[5]};
    const int rc = checkpoint_read(folder, c, err);
    json_decref(run);
    return rc;
}

static void test_what_is_written_is_read_back(void **state) {
    (void)state;
    struct checkpoint c;
    assert_false(checkpoint_exists(folder));
    assert_int_equal(save(7, NULL), GENARM_OK);
    assert_true(checkpoint_exists(folder));
    assert_int_equal(save(8, NULL), GENARM_OK);
    assert_int_equal(load(0.05, N, &c, NULL), GENARM_OK);
    assert_int_equal(c.step, 8);
    assert_int_equal(c.validated, 7);
    assert_int_equal(c.log_size, 80);
    assert_memory_equal(arrays[3], arrays[0], 3 * sizeof arrays[0]);
}

static void test_another_run_is_refused_by_name(void **state) {
    (void)state;
    struct checkpoint c;
    struct genarm_error err = {0};
    assert_int_equal(save(1, NULL), GENARM_OK);
    assert_int_equal(load(0.1, N, &c, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "beta is 0.05, not 0.1"));
    assert_int_equal(c.step, -5);
    assert_int_equal(load(0.05, N - 16, &c, &err), GENARM_EFORMAT);
}

/* Its checksum is right: it was written so, or made to fit. */
static void test_a_place_outside_of_the_run_is_refused(void **state) {
    (void)state;
    static const int64_t bad[] = {-1, N_STEPS + 1, INT64_MAX / 16};
    struct checkpoint c;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_error err = {0};
        assert_int_equal(save(bad[i], NULL), GENARM_OK);
        assert_int_equal(load(0.05, N, &c, &err), GENARM_EFORMAT);
        assert_non_null(strstr(err.what, "place"));
        assert_int_equal(c.step, -5);
    }
    assert_int_equal(save(N_STEPS, NULL), GENARM_OK);
    assert_int_equal(load(0.05, N, &c, NULL), GENARM_OK);
}

static void test_every_damaged_byte_and_every_truncation_is_noticed(void **state) {
    (void)state;
    struct buf whole;
    struct checkpoint c;
    buf_init(&whole, 1 << 20);
    assert_int_equal(save(3, NULL), GENARM_OK);
    assert_int_equal(file_read(&whole, file, NULL), GENARM_OK);
    for (size_t i = 0; i < 200; i++) {
        const size_t at = i < 100 ? i : whole.len * i / 200;
        struct genarm_error err = {0};
        whole.data[at] ^= 0x10;
        assert_int_equal(file_write(file, whole.data, whole.len, NULL), GENARM_OK);
        assert_true(load(0.05, N, &c, &err) < 0);
        assert_string_equal(err.where, file);
        whole.data[at] ^= 0x10;
        assert_int_equal(file_write(file, whole.data, at, NULL), GENARM_OK);
        assert_int_equal(load(0.05, N, &c, &err), GENARM_EFORMAT);
        assert_int_equal(c.step, -5);
    }
    assert_int_equal(file_write(file, whole.data, whole.len, NULL), GENARM_OK);
    assert_int_equal(load(0.05, N, &c, NULL), GENARM_OK);
    buf_deinit(&whole);
}

/* A file that may not grow stands for a full disk: the write fails part of the way. */
static void test_failed_write_keeps_the_previous_checkpoint(void **state) {
    (void)state;
    struct checkpoint c;
    struct rlimit before;
    assert_int_equal(save(4, NULL), GENARM_OK);
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t size = 0; size < 3 * sizeof arrays[0]; size += sizeof arrays[0] / 2) {
        struct genarm_error err = {0};
        const struct rlimit small = {.rlim_cur = size, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const int rc = save(5, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(rc, GENARM_EIO);
        assert_int_equal(load(0.05, N, &c, NULL), GENARM_OK);
        assert_int_equal(c.step, 4);
    }
    assert_int_equal(save(6, NULL), GENARM_OK);
    assert_int_equal(load(0.05, N, &c, NULL), GENARM_OK);
    assert_int_equal(c.step, 6);
}

static void test_leftovers_of_a_killed_process_are_removed(void **state) {
    (void)state;
    char leftover[128];
    snprintf(leftover, sizeof leftover, "%s.tmp.999999999", file);
    assert_int_equal(file_write(leftover, "half", 4, NULL), GENARM_OK);
    assert_int_equal(save(1, NULL), GENARM_OK);
    assert_false(file_exists(leftover));
    assert_int_equal(file_write(leftover, "half", 4, NULL),
                     GENARM_OK); /* the teardown finds an empty folder all the same */
}

static void assert_log(const char *path, const char *expected) {
    struct buf text;
    buf_init(&text, 1 << 16);
    assert_int_equal(file_read(&text, path, NULL), GENARM_OK);
    assert_string_equal(text.data, expected);
    buf_deinit(&text);
}

static void test_log_is_cut_to_the_lines_of_the_checkpoint(void **state) {
    (void)state;
    char path[96];
    struct metrics m;
    int64_t size;
    struct genarm_train_status s = {
        .step = 1, .val_loss = 0.5, .val_accuracy = 0.75, .val_margin = 0.125, .val_chosen = -1, .val_rejected = -1.125};
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    assert_int_equal(metrics_open(&m, path, 0, NULL), GENARM_OK);
    assert_int_equal(metrics_validation(&m, &s, NULL), GENARM_OK);
    assert_int_equal(metrics_sync(&m, &size, NULL), GENARM_OK);
    s.step = 2;
    assert_int_equal(metrics_validation(&m, &s, NULL), GENARM_OK);
    metrics_close(&m);
    assert_int_equal(metrics_open(&m, path, size, NULL), GENARM_OK);
    s.step = 3;
    assert_int_equal(metrics_validation(&m, &s, NULL), GENARM_OK);
    metrics_close(&m);
    assert_log(path, "{\"step\":1,\"epoch\":0,\"val_loss\":0.5,\"val_accuracy\":0.75,\"val_margin\":0.125,\"val_chosen\":-1.0,"
                     "\"val_rejected\":-1.125}\n"
                     "{\"step\":3,\"epoch\":0,\"val_loss\":0.5,\"val_accuracy\":0.75,\"val_margin\":0.125,\"val_chosen\":-1.0,"
                     "\"val_rejected\":-1.125}\n");
    assert_int_equal(metrics_open(&m, path, 0, NULL), GENARM_OK); /* a new run */
    metrics_close(&m);
    assert_log(path, "");
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_run_is_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_place_outside_of_the_run_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_damaged_byte_and_every_truncation_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_keeps_the_previous_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leftovers_of_a_killed_process_are_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_is_cut_to_the_lines_of_the_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
