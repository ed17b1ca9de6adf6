/* Processes that share an experiment's folder: claims go with those that hold them; everything is done once, whoever is killed;
 * what has failed is said, and what needs it is not tried. The program whose commands are run is a script here. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "eval/child.h"
#include "eval/claims.h"
#include "eval/eval_run.h"
#include "support/any_options.h"
#include "support/golden.h"
#include "support/temp.h"

static struct genarm_error err;

static void sleep_ms(long ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static const char *new_folder(void) {
    static int n;
    char name[32];
    snprintf(name, sizeof name, "out%d", n++);
    const char *path = temp_path(name);
    must(file_make_folder(path, &err), &err);
    return path;
}

/* ---- claims ---- */

static void test_a_claim_is_one_process_s(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct claim a, b, c;
    assert_int_equal(claim_take(&a, folder, "x", &err), 1);
    assert_int_equal(claim_take(&b, folder, "x", &err), 0);
    assert_int_equal(claim_take(&c, folder, "y", &err), 1);
    claim_release(&a);
    assert_int_equal(claim_take(&b, folder, "x", &err), 1);
    claim_release(&b);
    claim_release(&b); /* harmless */
    claim_release(&c);
    assert_int_equal(claim_take(&a, temp_path("no/such"), "x", &err), GENARM_EIO);
}

static void test_a_killed_process_leaves_its_claims(void **state) {
    (void)state;
    const char *folder = new_folder();
    int ready[2];
    char byte;
    struct claim mine;
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        struct claim c;
        const int taken = claim_take(&c, folder, "x", &err);
        if (taken != 1 || write(ready[1], "!", 1) != 1) {
            _exit(1);
        }
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(claim_take(&mine, folder, "x", &err), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(claim_take(&mine, folder, "x", &err), 1);
    claim_release(&mine);
    close(ready[0]);
    close(ready[1]);
}

/* ---- a program ---- */

/* Writes what it was told, and what chance (the environment) adds, to its output, slowly, and a line to the log when it begins
 * and when it has ended. FAIL in the words of its command makes it fail. */
static const char script[] =
    "#!/bin/sh\n"
    "for word; do case $word in --output=*) output=${word#--output=};; esac; done\n"
    "log=$(dirname \"$output\")/../log\n"
    "echo \"begin $(basename \"$output\")\" >>\"$log\"\n"
    "case \"$*\" in *FAIL*) echo it fails >&2; exit 3;; esac\n"
    "case \"$*\" in *SLOW*) exec sleep 30;; esac\n"
    "case \"${OMPI_COMM_WORLD_RANK-}${PMIX_RANK-}\" in ?*) exit 4;; esac\n"
    "sleep 0.0$(printf '%d' \"'$(basename \"$output\")\")\n"
    "echo \"$* $CHANCE\" >\"$output.new\" && mv \"$output.new\" \"$output\"\n"
    "echo \"end $(basename \"$output\")\" >>\"$log\"\n";

static const char *program(void) {
    static char path[4096];
    if (!*path) {
        snprintf(path, sizeof path, "%s", temp_path("program.sh"));
        must(file_write(path, script, sizeof script - 1, &err), &err);
        assert_int_equal(chmod(path, 0755), 0);
    }
    return path;
}

struct fixture {
    struct experiment *experiment;
    struct item_list list;
    struct eval_run run;
};

static int ended_badly;

static void count_end(const struct eval_run *r, const struct item *item, int status, const char *log, int64_t log_start,
                      void *user) {
    (void)r;
    (void)item;
    (void)log;
    (void)log_start;
    (void)user;
    ended_badly += status != 0;
}

static void open_fixture(struct fixture *f, const char *text, const char *folder) {
    const struct items_params params = {0};
    *f = (struct fixture){0};
    must(experiment_parse(&f->experiment, text, strlen(text), "e.yaml", &err), &err);
    must(items_new(&f->list, f->experiment, &params, &anything, &err), &err);
    f->run = (struct eval_run){.list = &f->list, .folder = folder, .program = program(), .on_end = count_end};
    must(eval_run_init(&f->run, &err), &err);
    must(eval_run_prepare(&f->run, &err), &err);
}

static void close_fixture(struct fixture *f) {
    eval_run_deinit(&f->run);
    items_free(&f->list);
    experiment_free(f->experiment);
}

/* Lines of the log that are this one. */
static int count(const char *folder, const char *line) {
    struct file_lines l;
    char path[4096];
    int n = 0;
    snprintf(path, sizeof path, "%s/log", folder);
    must(file_lines_open(&l, path, 1 << 16, &err), &err);
    while (file_lines_next(&l, &err) > 0) {
        n += strcmp(l.text.data, line) == 0;
    }
    file_lines_close(&l);
    return n;
}

static const char whole[] = "models:\n  a: {train: {x: 1}}\n  b: {train: {x: 2}}\n  c: {merge: {x: \"$a $b\"}}\nprompts: p\n"
                            "methods:\n  m: {x: $c}\n  n: {sweep: {v: [1, 2, 3]}, x: \"{v}\"}\nrewards:\n  r: {reward: $a}\n"
                            "judges:\n  j: {judge: z, against: n, methods: []}\n";

/* ---- runs ---- */

static void test_everything_is_done_once_and_nothing_a_second_time(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    size_t n, n_done;
    double left;
    setenv("OMPI_COMM_WORLD_RANK", "1", 1); /* which commands must not see */
    open_fixture(&f, whole, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    unsetenv("OMPI_COMM_WORLD_RANK");
    assert_int_equal(f.run.n_run, 3 + 4 + 4);
    eval_run_count(&f.run, &n, &n_done, &left);
    assert_true(n == 11 && n_done == 11 && left < 1e-9);
    assert_int_equal(count(folder, "end c.gguf"), 1);
    close_fixture(&f);
    open_fixture(&f, whole, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_run, 0);
    close_fixture(&f);
}

static void test_a_change_makes_what_depends_on_it_anew(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    char changed[sizeof whole];
    open_fixture(&f, whole, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    close_fixture(&f);
    memcpy(changed, whole, sizeof whole);
    *strstr(changed, "x: 2") = 'y'; /* of b: b, c, the answers of m and their reward */
    open_fixture(&f, changed, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_run, 4);
    close_fixture(&f);
    assert_int_equal(count(folder, "end a.gguf"), 1);
    assert_int_equal(count(folder, "end b.gguf"), 2);
    /* a file that is gone, and one that is another */
    open_fixture(&f, changed, folder);
    char *path = item_path(folder, "models/a.gguf", ""), *other = item_path(folder, "answers/m.jsonl", "");
    close_fixture(&f);
    unlink(path);
    must(file_write(other, "x", 1, &err), &err);
    open_fixture(&f, changed, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_run, 2);
    close_fixture(&f);
    free(path);
    free(other);
}

/* A command without a seed may write another file than it did: what was made of the first is made again. */
static void test_what_was_made_of_another_file_is_made_anew(void **state) {
    (void)state;
    const char *folder = new_folder(), *to = new_folder();
    struct fixture f;
    struct reuse reuse = {0};
    open_fixture(&f, whole, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    close_fixture(&f);
    char *output = item_path(folder, "models/a.gguf", "");
    for (int changed = 0; changed < 2; changed++) {
        assert_int_equal(unlink(output), 0);
        setenv("CHANCE", changed ? "6" : "", 1);
        open_fixture(&f, whole, folder);
        assert_int_equal(f.run.states[1], STATE_DONE);
        assert_int_equal(eval_run_all(&f.run, &err), 0);
        assert_int_equal(f.run.n_run, changed ? 3 + 4 : 1); /* a, c, answers of m, all rewards */
        close_fixture(&f);
    }
    unsetenv("CHANCE");
    open_fixture(&f, "models: {a: {train: {x: 1}}}\n", to);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    close_fixture(&f);
    must(reuse_add(&reuse, folder, &err), &err);
    open_fixture(&f, whole, to);
    f.run.reuse = &reuse;
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_reused, 4); /* b, answers of n */
    assert_int_equal(f.run.n_run, 6);
    close_fixture(&f);
    reuse_deinit(&reuse);
    free(output);
}

static void test_what_needs_a_failure_is_not_tried(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    static const char text[] =
        "models:\n  a: {train: {x: FAIL}}\n  b: {train: {x: 2}}\n  c: {merge: {x: $a}}\n  d: {merge: {x: $b}}\n";
    ended_badly = 0;
    open_fixture(&f, text, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 1);
    assert_int_equal(f.run.n_run, 0); /* stops at once */
    assert_int_equal(ended_badly, 1);
    close_fixture(&f);
    open_fixture(&f, text, folder);
    f.run.keep_going = true;
    assert_int_equal(eval_run_all(&f.run, &err), 1);
    assert_int_equal(f.run.n_run, 2);
    assert_int_equal(f.run.states[0], STATE_FAILED);
    assert_int_equal(f.run.states[2], STATE_BLOCKED);
    assert_int_equal(count(folder, "begin c.gguf"), 0);
    assert_int_equal(count(folder, "begin a.gguf"), 2); /* tried again by another run */
    close_fixture(&f);
}

/* Writes that an item has failed, by the clock of another machine. */
static void fail_at(const struct fixture *f, size_t i, double ended) {
    const struct item *item = &f->list.items[i];
    const struct item_record record = {.state = RECORD_FAILED,
                                       .fingerprint = item->fingerprint,
                                       .made_of = item_made_of(&f->list, item, f->run.folder),
                                       .ended = ended,
                                       .status = 3};
    must(item_record_write(&record, item, f->run.folder, &err), &err);
}

static void test_what_fails_elsewhere_meanwhile_is_known_without_clocks(void **state) {
    (void)state;
    static const char text[] = "models: {a: {train: {x: 1}}, b: {train: {x: 2}}}\n";
    const double late = 1e11, early = 1;
    struct fixture f;
    for (int keep_going = 0; keep_going < 2; keep_going++) {
        const char *folder = new_folder();
        open_fixture(&f, text, folder);
        fail_at(&f, 0, late);
        close_fixture(&f);
        open_fixture(&f, text, folder); /* has failed before */
        fail_at(&f, 0, early);          /* has failed again, at another's hands */
        f.run.keep_going = keep_going;
        assert_int_equal(eval_run_all(&f.run, &err), 1);
        assert_int_equal(f.run.n_run, keep_going); /* b is not begun after a failure */
        close_fixture(&f);
        open_fixture(&f, text, folder);
        fail_at(&f, 0, late);
        close_fixture(&f);
        open_fixture(&f, text, folder);
        assert_int_equal(eval_run_all(&f.run, &err), 0); /* tried again */
        close_fixture(&f);
    }
}

static void output_is_gone(const struct eval_run *r, const struct item *item, void *user) {
    char *output = item_path(r->folder, item->output, ""), *partial = item_path(r->folder, item->output, ".partial");
    assert_false(file_exists(output));
    *(int *)user += file_exists(partial);
    free(output);
    free(partial);
}

/* Else a kill right after the start would make it count as what the command has written. */
static void test_a_file_of_a_failed_command_goes_before_it_starts_again(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    int n_partial = 0;
    for (int i = 0; i < 3; i++) {
        open_fixture(&f, i < 2 ? "models: {a: {train: {x: FAIL}}}\n" : "models: {a: {train: {x: 1}}}\n", folder);
        char *output = item_path(folder, "models/a.gguf", ""), *partial = item_path(folder, "models/a.gguf", ".partial");
        must(file_write(output, "x", 1, &err), &err);
        must(file_write(partial, "x", 1, &err), &err);
        f.run.on_start = output_is_gone;
        f.run.on_end = NULL;
        f.run.user = &n_partial;
        assert_int_equal(eval_run_all(&f.run, &err), i < 2 ? 1 : 0);
        free(output);
        free(partial);
        close_fixture(&f);
    }
    assert_int_equal(n_partial, 1); /* what is beside it is gone on with only by the same command */
}

/* A command that has ended though the process which started it was killed before it wrote that down. */
static void test_what_was_finished_is_not_done_again(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    struct item_record record;
    open_fixture(&f, "models: {a: {train: {x: 1}}}\n", folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    item_record_read(&record, &f.list.items[0], folder);
    assert_int_equal(record.state, RECORD_DONE);
    record.state = RECORD_RUNNING;
    must(item_record_write(&record, &f.list.items[0], folder, &err), &err);
    close_fixture(&f);
    open_fixture(&f, "models: {a: {train: {x: 1}}}\n", folder);
    assert_int_equal(f.run.states[0], STATE_OPEN);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(count(folder, "begin a.gguf"), 1);
    /* what lies beside it says that it is not complete */
    char *partial = item_path(folder, "models/a.gguf", ".partial");
    must(file_write(partial, "x", 1, &err), &err);
    must(item_record_write(&record, &f.list.items[0], folder, &err), &err);
    f.run.states[0] = STATE_OPEN;
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(count(folder, "begin a.gguf"), 2);
    free(partial);
    close_fixture(&f);
}

static void test_a_damaged_record_is_none(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "{\"state\":\"done\"}", "{\"state\":\"done\",\"fingerprint\":\"zz\"}",
                                        "{\"state\":\"done\",\"fingerprint\":\"1\",\"size\":-1}"};
    const char *folder = new_folder();
    struct fixture f;
    struct item_record record;
    open_fixture(&f, "models: {a: {train: {x: 1}}}\n", folder);
    char *path = item_path(folder, "items/models.a", ".json");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        must(file_write(path, texts[i], strlen(texts[i]), &err), &err);
        item_record_read(&record, &f.list.items[0], folder);
        assert_int_equal(record.state, RECORD_NONE);
    }
    free(path);
    close_fixture(&f);
}

static int stop_now(void *user) { return *(int *)user; }

static void start_stops(const struct eval_run *r, const struct item *item, void *user) {
    (void)r;
    *(int *)user = item->kind == ITEM_ANSWERS ? SIGINT : 0;
}

static void test_a_stop_ends_the_command_and_the_next_run_goes_on(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct fixture f;
    int stop = 0;
    open_fixture(&f, whole, folder);
    f.run.on_start = start_stops;
    f.run.stopped = stop_now;
    f.run.user = &stop;
    f.run.on_end = NULL;
    assert_int_equal(eval_run_all(&f.run, &err), GENARM_ECANCELED);
    assert_int_equal(f.run.n_run, 3);
    assert_int_equal(f.run.states[3], STATE_OPEN);
    close_fixture(&f);
    open_fixture(&f, whole, folder);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_run, 8);
    close_fixture(&f);
}

/* ---- files of another folder ---- */

enum change { NOTHING, OTHER_SETTINGS, FILE_GONE, FILE_GROWN };

/* Makes a model in one folder, changes that after another experiment has looked at it, and runs the other one. */
static void reuse_after(enum change change, size_t n_reused) {
    static const char text[] = "models: {a: {train: {x: 1}}}\n";
    const char *from = new_folder(), *to = new_folder();
    struct fixture f;
    struct item_record record;
    struct reuse reuse = {0};
    open_fixture(&f, text, from);
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    must(reuse_add(&reuse, from, &err), &err);
    assert_int_equal(reuse.n, 1);
    char *output = item_path(from, "models/a.gguf", "");
    item_record_read(&record, &f.list.items[0], from);
    if (change == OTHER_SETTINGS) {
        record.fingerprint++;
        must(item_record_write(&record, &f.list.items[0], from, &err), &err);
    } else if (change == FILE_GONE) {
        unlink(output);
    } else if (change == FILE_GROWN) {
        must(file_write(output, "another file, which is of other settings", 40, &err), &err);
    }
    assert_int_equal(reuse_find(&reuse, &f.list, &f.list.items[0], to) != NULL, n_reused);
    close_fixture(&f);
    open_fixture(&f, text, to);
    f.run.reuse = &reuse;
    assert_int_equal(eval_run_all(&f.run, &err), 0);
    assert_int_equal(f.run.n_reused, n_reused);
    assert_int_equal(f.run.n_run, 1 - n_reused);
    close_fixture(&f);
    reuse_deinit(&reuse);
    free(output);
}

static void test_only_what_still_holds_is_copied(void **state) {
    (void)state;
    reuse_after(NOTHING, 1);
    reuse_after(OTHER_SETTINGS, 0);
    reuse_after(FILE_GONE, 0);
    reuse_after(FILE_GROWN, 0);
}

/* ---- several at once, and killed ---- */

static pid_t start_worker(const char *text, const char *folder) {
    const pid_t pid = fork();
    if (pid == 0) {
        struct fixture f;
        open_fixture(&f, text, folder);
        _exit(eval_run_all(&f.run, &err) == 0 ? 0 : 1);
    }
    return pid;
}

static void test_the_command_of_a_killed_process_ends_and_its_claim_with_it(void **state) {
    (void)state;
    const char *folder = new_folder();
    struct claim claim;
    char *log = item_path(folder, "log", "");
    program(); /* made once, here */
    const pid_t pid = start_worker("models: {a: {train: {x: SLOW}}}\n", folder);
    for (int i = 0; i < 1000 && !file_exists(log); i++) {
        sleep_ms(10);
    }
    assert_true(file_exists(log));
    assert_int_equal(claim_take(&claim, folder, "models.a", &err), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    int taken = 0;
    for (int i = 0; i < 1000 && taken == 0; i++) {
        sleep_ms(10);
        taken = claim_take(&claim, folder, "models.a", &err);
    }
    assert_int_equal(taken, 1);
    claim_release(&claim);
    free(log);
}

static void test_processes_share_the_work(void **state) {
    (void)state;
    enum { WORKERS = 3 };
    const char *folder = new_folder();
    pid_t pids[WORKERS];
    struct fixture f;
    for (int i = 0; i < WORKERS; i++) {
        pids[i] = start_worker(whole, folder);
    }
    for (int i = 0; i < WORKERS; i++) {
        int status = -1;
        waitpid(pids[i], &status, 0);
        assert_int_equal(status, 0);
    }
    open_fixture(&f, whole, folder);
    for (size_t i = 0; i < f.list.n; i++) {
        char line[256];
        snprintf(line, sizeof line, "begin %s", strrchr(f.list.items[i].output, '/') + 1);
        assert_int_equal(f.run.states[i], STATE_DONE);
        assert_int_equal(count(folder, line), 1);
    }
    close_fixture(&f);
}

/* Workers that are killed again and again, at any moment: in the end all is there, and nothing was done a second time that had
 * been finished. */
static void test_killed_workers_lose_nothing_that_was_finished(void **state) {
    (void)state;
    enum { WORKERS = 2, ROUNDS = 30 };
    const char *folder = new_folder();
    pid_t pids[WORKERS];
    struct fixture f;
    struct rng rng;
    int killed = 0;
    rng_seed(&rng, 11);
    for (int i = 0; i < WORKERS; i++) {
        pids[i] = start_worker(whole, folder);
    }
    for (int round = 0; round < ROUNDS; round++) {
        sleep_ms(5 + (long)(rng_next(&rng) % 120));
        const int i = round % WORKERS;
        int status = 0;
        kill(pids[i], SIGKILL);
        waitpid(pids[i], &status, 0);
        killed += WIFSIGNALED(status) != 0;
        pids[i] = start_worker(whole, folder);
    }
    for (int i = 0; i < WORKERS; i++) {
        int status = -1;
        waitpid(pids[i], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_true(killed >= 3);
    open_fixture(&f, whole, folder);
    for (size_t i = 0; i < f.list.n; i++) {
        char line[256];
        const char *name = strrchr(f.list.items[i].output, '/') + 1;
        assert_int_equal(f.run.states[i], STATE_DONE);
        snprintf(line, sizeof line, "end %s", name);
        assert_true(count(folder, line) <= 1);
    }
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_claim_is_one_process_s),
        cmocka_unit_test(test_a_killed_process_leaves_its_claims),
        cmocka_unit_test(test_everything_is_done_once_and_nothing_a_second_time),
        cmocka_unit_test(test_a_change_makes_what_depends_on_it_anew),
        cmocka_unit_test(test_what_was_made_of_another_file_is_made_anew),
        cmocka_unit_test(test_what_needs_a_failure_is_not_tried),
        cmocka_unit_test(test_what_fails_elsewhere_meanwhile_is_known_without_clocks),
        cmocka_unit_test(test_a_file_of_a_failed_command_goes_before_it_starts_again),
        cmocka_unit_test(test_what_was_finished_is_not_done_again),
        cmocka_unit_test(test_a_damaged_record_is_none),
        cmocka_unit_test(test_a_stop_ends_the_command_and_the_next_run_goes_on),
        cmocka_unit_test(test_only_what_still_holds_is_copied),
        cmocka_unit_test(test_the_command_of_a_killed_process_ends_and_its_claim_with_it),
        cmocka_unit_test(test_processes_share_the_work),
        cmocka_unit_test(test_killed_workers_lose_nothing_that_was_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
