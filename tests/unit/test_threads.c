/* The pool of threads: everyone works once a run, meetings keep order, and nobody hangs however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/threads.h"

enum { MEETINGS = 200, RUNS = 50, MOST = 7 };

struct shared {
    struct threads *pool;
    int32_t n;
    int calls[MOST];
    int values[MOST]; /* written before a meeting by one, read after it by all */
    atomic_int wrong;
};

static void count(int ith, void *user) {
    struct shared *s = user;
    s->calls[ith]++;
}

static void test_a_run_calls_each_thread_once(void **state) {
    (void)state;
    for (int32_t n = 1; n <= MOST; n++) {
        struct shared s = {.n = n};
        struct genarm_error err;
        assert_int_equal(threads_new(&s.pool, n, &err), GENARM_OK);
        for (int run = 0; run < RUNS; run++) {
            threads_run(s.pool, count, &s);
            for (int32_t i = 0; i < n; i++) {
                assert_int_equal(s.calls[i], run + 1);
            }
        }
        threads_free(s.pool);
    }
}

static void meet_often(int ith, void *user) {
    struct shared *s = user;
    for (int m = 1; m <= MEETINGS; m++) {
        s->values[ith] = m;
        threads_meet(s->pool);
        for (int32_t i = 0; i < s->n; i++) {
            s->wrong += s->values[i] != m;
        }
        threads_meet(s->pool);
    }
}

static void test_what_was_written_before_a_meeting_is_seen_after_it(void **state) {
    (void)state;
    for (int32_t n = 1; n <= MOST; n++) { /* more than there are cores as well: then they sleep while they wait */
        struct shared s = {.n = n};
        struct genarm_error err;
        assert_int_equal(threads_new(&s.pool, n, &err), GENARM_OK);
        threads_run(s.pool, meet_often, &s);
        threads_run(s.pool, meet_often, &s);
        assert_int_equal(s.wrong, 0);
        threads_free(s.pool);
    }
}

static void test_threads_that_have_gone_to_sleep_wake_up(void **state) {
    (void)state;
    struct shared s = {.n = 3};
    struct genarm_error err;
    assert_int_equal(threads_new(&s.pool, 3, &err), GENARM_OK);
    for (int run = 1; run <= 3; run++) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        threads_run(s.pool, count, &s);
        assert_int_equal(s.calls[2], run);
    }
    threads_free(s.pool);
}

static void test_a_number_of_threads_out_of_range_is_an_error(void **state) {
    (void)state;
    struct threads *t = NULL;
    struct genarm_error err;
    assert_int_equal(threads_new(&t, 0, &err), GENARM_EINVAL);
    assert_int_equal(threads_new(&t, THREADS_MAX + 1, &err), GENARM_EINVAL);
    assert_null(t);
    threads_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_calls_each_thread_once),
        cmocka_unit_test(test_what_was_written_before_a_meeting_is_seen_after_it),
        cmocka_unit_test(test_threads_that_have_gone_to_sleep_wake_up),
        cmocka_unit_test(test_a_number_of_threads_out_of_range_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
