/* kill -9 at random moments of a run, then resuming: the adapter is the uninterrupted run's to the bit, and the log too.
 * Every run is a process of its own; this one never computes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/progress.h"
#include "base/rng.h"
#include "support/golden.h"
#include "support/train_run.h"

enum { N_PAIRS = 40, N_KILLS = 20, FAILED = 7 };

/* Starts a run in a process of its own. */
static pid_t start(struct train_run *r, bool resume) {
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        return pid;
    }
    struct genarm_error err = {0};
    struct genarm_train_params p = train_run_params(r);
    p.epochs = 8;
    p.resume = resume;
    p.lora_dropout = 0.1f;
    int rc = genarm_model_load(&r->model, golden_path("llama.gguf"), NULL, &err);
    rc = rc == GENARM_OK ? train_run(r, &p, NULL, NULL, &err) : rc;
    if (rc != GENARM_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.what);
    }
    _exit(rc == GENARM_OK ? 0 : FAILED);
}

/* Waits for a run to end by itself. */
static void finish(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Lets a run go on for a while, then kills it. False: it was done before; a failure fails the test. */
static bool kill_after(pid_t pid, double seconds) {
    int status;
    usleep((useconds_t)(seconds * 1e6));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) != 0);
    return WIFSIGNALED(status);
}

/* Lines of steps and validations, without those that say which run it is and where it went on. */
static int count_lines(const char *path) {
    static const char step[] = "{\"step\":";
    size_t n = 0;
    char *text = read_whole(path, &n);
    int lines = 0;
    for (const char *at = text; at;) {
        lines += strncmp(at, step, sizeof step - 1) == 0;
        at = strchr(at, '\n');
        at += at != NULL;
    }
    free(text);
    return lines;
}

static void test_killed_and_resumed_equals_uninterrupted(void **state) {
    (void)state;
    struct train_run whole, killed;
    struct rng rng;
    rng_seed(&rng, (uint64_t)getpid());
    train_run_open(&whole, NULL);
    train_run_open(&killed, NULL);
    train_run_write_pairs(&whole, N_PAIRS);
    train_run_write_pairs(&killed, N_PAIRS);
    const double before = clock_seconds();
    finish(start(&whole, false));
    const double seconds = clock_seconds() - before;
    int finished = 0;
    for (int kills = 0; kills < N_KILLS;) {
        const pid_t pid = start(&killed, true);
        if (kill_after(pid, seconds * 0.3 * rng_uniform(&rng))) {
            kills++;
        } else { /* it got to the end between two kills: compare, and go on with another run */
            assert_true(same_files(whole.output, killed.output));
            assert_true(++finished < 100);
            unlink(killed.output);
        }
    }
    finish(start(&killed, true));
    assert_true(same_files(whole.output, killed.output));
    assert_int_equal(count_lines(killed.log), count_lines(whole.log));
    train_run_close(&whole);
    train_run_close(&killed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed_and_resumed_equals_uninterrupted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
