/* Rewards by a program: right answers in order however full the pipes are; every way in which a program can fail is an error
 * that says so, in time, and leaves no process behind. The programs are shell scripts. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "genarm/source.h"
#include "support/golden.h"
#include "support/temp.h"

#define ECHO_RESPONSE "sed -u 's/.*\"response\":\"\\([^\"]*\\)\".*/\\1/'" /* answers the response itself */
#define EACH "while read -r l; do "

static const struct genarm_message question[] = {{"user", "x"}};

static struct genarm_source_params quick(double timeout) {
    struct genarm_source_params p = genarm_source_default_params();
    p.timeout = timeout;
    return p;
}

/* Opens "cmd:t=" and a printf-like command. */
static struct genarm_source *start(double timeout, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static struct genarm_source *start(double timeout, const char *fmt, ...) {
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    const struct genarm_source_params p = quick(timeout);
    char spec[1024] = "cmd:t=";
    va_list args;
    va_start(args, fmt);
    vsnprintf(spec + 6, sizeof spec - 6, fmt, args);
    va_end(args);
    must(genarm_source_new(&s, spec, NULL, &p, &err), &err);
    return s;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void no_child_is_left(void) {
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* Whether the process whose id a file holds runs; one that nobody waited for does not. */
static bool runs(const char *file) {
    long pid = 0;
    char path[64], state = 'Z';
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pid), 1);
    fclose(f);
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    f = fopen(path, "r");
    if (f) {
        assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
        fclose(f);
    }
    return state != 'Z' && state != 'X';
}

static int score_texts(struct genarm_source *s, const char *const *responses, size_t n, double *values,
                       struct genarm_error *err) {
    struct genarm_sample samples[16];
    for (size_t i = 0; i < n; i++) {
        samples[i] = (struct genarm_sample){question, 1, responses[i], true, NULL, 0};
    }
    return genarm_source_score(s, samples, n, values, err);
}

/* ---- answers ---- */

static void test_answers_are_numbers_or_objects_in_order(void **state) {
    (void)state;
    static const char *const texts[] = {"1", "-2.5", ".5", "+3", "1e-3", " 4 ", "7\r"};
    static const double right[] = {1, -2.5, 0.5, 3, 1e-3, 4, 7};
    struct genarm_source *s = start(60, "exec " ECHO_RESPONSE);
    struct genarm_error err = {0};
    double values[7];
    must(score_texts(s, texts, 6, values, &err), &err);
    assert_memory_equal(values, right, 6 * sizeof *right);
    genarm_source_free(s);
    s = start(60, EACH "printf '%%s\\r\\n' '{\"why\": \"x\", \"reward\": 7}'; done");
    must(score_texts(s, texts, 1, values, &err), &err);
    assert_true(values[0] == 7);
    assert_string_equal(genarm_source_name(s), "t");
    assert_string_equal(genarm_source_kind(s), "cmd");
    genarm_source_free(s);
    no_child_is_left();
}

static void test_one_process_answers_all_batches(void **state) {
    (void)state;
    static const char *const texts[] = {"a", "b", "c"};
    struct genarm_source *s = start(60, "i=0; " EACH "i=$((i+1)); echo $i; done");
    struct genarm_error err = {0};
    double values[3];
    for (int batch = 0; batch < 3; batch++) {
        must(score_texts(s, texts, 3, values, &err), &err);
        assert_true(values[0] == 3 * batch + 1 && values[1] == 3 * batch + 2 && values[2] == 3 * batch + 3);
    }
    must(genarm_source_score(s, NULL, 0, NULL, &err), &err);
    genarm_source_free(s);
}

static void test_full_pipes_do_not_block_each_other(void **state) {
    (void)state;
    enum { N = 150, LONG = 30000 }; /* both directions hold far more than a pipe does */
    struct genarm_error err = {0};
    struct genarm_sample samples[N];
    double values[N];
    char *text = malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    for (int i = 0; i < N; i++) {
        samples[i] = (struct genarm_sample){question, 1, text, true, NULL, 0};
    }
    struct genarm_source *s =
        start(60, "i=0; " EACH "i=$((i+1)); printf '{\"pad\":\"%%%ds\",\"reward\":%%d}\\n' '' $i; done", LONG);
    must(genarm_source_score(s, samples, N, values, &err), &err);
    for (int i = 0; i < N; i++) {
        assert_true(values[i] == i + 1);
    }
    genarm_source_free(s);
    free(text);
}

static void test_a_request_holds_the_conversation(void **state) {
    (void)state;
    static const struct genarm_message talk[] = {
        {"system", "Be \"terse\"."}, {"user", "One?"}, {"assistant", "1"}, {"user", "Two?\n\xC3\xA4"}, {"assistant", "So"}};
    const struct genarm_sample samples[] = {{talk, 5, "2\xFF\xE2\x82", false, NULL, 0}, {talk, 1, "", true, NULL, 0}};
    struct genarm_error err = {0};
    double values[2];
    char file[256], line[4096];
    json_t *r[2];
    snprintf(file, sizeof file, "%s", temp_path("requests"));
    struct genarm_source *s = start(60, EACH "printf '%%s\\n' \"$l\" >>%s; echo 0; done", file);
    must(genarm_source_score(s, samples, 2, values, &err), &err);
    genarm_source_free(s);
    FILE *f = fopen(file, "r");
    for (int i = 0; i < 2; i++) {
        assert_non_null(fgets(line, sizeof line, f));
        assert_non_null(r[i] = json_loads(line, 0, NULL));
    }
    assert_null(fgets(line, sizeof line, f));
    fclose(f);
    assert_string_equal(json_string_value(json_object_get(r[0], "prompt")), "Two?\n\xC3\xA4");
    assert_string_equal(json_string_value(json_object_get(r[0], "response")), "2\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_true(json_is_false(json_object_get(r[0], "finished")) && json_is_true(json_object_get(r[1], "finished")));
    assert_true(json_is_null(json_object_get(r[1], "prompt")));
    const json_t *messages = json_object_get(r[0], "messages");
    assert_int_equal(json_array_size(messages), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *m = json_array_get(messages, i);
        assert_string_equal(json_string_value(json_object_get(m, "role")), talk[i].role);
        assert_string_equal(json_string_value(json_object_get(m, "content")), talk[i].content);
    }
    json_decref(r[0]);
    json_decref(r[1]);
}

/* ---- failures ---- */

/* Two samples are asked for: the code, what the error says, and in which sample. */
static void fails(double timeout, const char *command, int code, const char *text, const char *sample) {
    static const char *const texts[] = {"1", "2"};
    struct genarm_source *s = start(timeout, "%s", command);
    struct genarm_error err = {0};
    double values[2] = {5, 5};
    const double begun = now();
    const int rc = score_texts(s, texts, 2, values, &err);
    if (rc != code || !strstr(err.what, text) || !strstr(err.what, sample) || !strstr(err.what, "reward t, ")) {
        fail_msg("%s: %d \"%s\"", command, rc, err.what);
    }
    assert_true(values[0] == 5 && values[1] == 5); /* written only on success */
    assert_true(now() - begun < 30);
    genarm_source_free(s);
    no_child_is_left();
}

static void test_a_program_that_ends_is_an_error(void **state) {
    (void)state;
    fails(60, "exit 3", GENARM_EIO, "\"exit 3\" exited with status 3 before it answered", "sample 0");
    fails(60, "read l; exit 0", GENARM_EIO, "exited with status 0", "sample 0");
    fails(60, "read l; echo 1; exit 5", GENARM_EIO, "exited with status 5", "sample 1");
    fails(60, "read l; kill -9 $$", GENARM_EIO, "was killed by signal 9", "sample 0");
    fails(60, "exec /no/such/program", GENARM_EIO, "exited with status 127", "sample 0");
    fails(60, "read l; printf 1", GENARM_EIO, "ended within a line: \"1\"", "sample 0");
    fails(60, "read l; exec >&-; exec sleep 100", GENARM_EIO, "closed its output", "sample 0");
}

static void test_a_program_that_is_late_is_an_error(void **state) {
    (void)state;
    fails(0.2, "exec sleep 100", GENARM_EIO, "gave no answer within 0.2 seconds", "sample 0");
    fails(0.5, "read l; echo 1; exec sleep 100", GENARM_EIO, "gave no answer within 0.5 seconds", "sample 1");
    fails(0.2, "read l; printf 12; exec sleep 100", GENARM_EIO, "only \"12\" without an end of line", "sample 0");
}

static void test_what_is_no_reward_is_an_error(void **state) {
    static const char *const bad[] = {"hello", "nan", "inf", "-Infinity", "{\"reward\": null}", "{\"score\": 1}", "[1]",
                                      "true",  "",    "1 2", "{\"reward\": 1",  "{\"reward\": NaN}",  "1e999"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char command[128], quoted[64];
        snprintf(command, sizeof command, EACH "echo '%s'; done", bad[i]);
        snprintf(quoted, sizeof quoted, "answered \"%s\"", bad[i]);
        fails(60, command, GENARM_EFORMAT, quoted, "sample 0");
    }
}

static void test_unasked_output_is_an_error(void **state) {
    (void)state;
    fails(60, "yes 1", GENARM_EMISMATCH, "was not asked", "sample");
    fails(60, "read l; read l; printf '1\\n2\\n3\\n'; exec sleep 100", GENARM_EMISMATCH, "\"3\": it was not asked", "sample 1");
    fails(60, "read l; read l; printf '1\\n2\\n3'; exec sleep 100", GENARM_EMISMATCH, "\"3\": it was not asked", "sample 1");
    fails(60, "read l; head -c 1000000 /dev/zero | tr '\\0' x; exec sleep 100", GENARM_EFORMAT,
          "more than 65536 bytes without an end of line", "sample 0");
    fails(60, "read l; printf '1\\000\\n'; exec sleep 100", GENARM_EFORMAT, "no text", "sample 0");
}

static void test_what_is_said_after_the_last_answer_is_an_error(void **state) {
    static const struct {
        const char *command, *said; /* said: NULL: it says nothing more */
    } cases[] = {
        {"read l; echo 1; read l; echo 2; read l; sleep 0.3; echo 3; echo 4; exec sleep 100", "answered \"3\": it was not asked"},
        {EACH "echo 1; done; printf bye", "answered \"bye\": it was not asked"},
        {EACH "echo 1; done; echo", "answered \"\": it was not asked"},
        {EACH "echo 1; done; sleep 0.2", NULL},
        {"read l; read l; echo 1; echo 1; exec sleep 100", NULL},
    };
    static const char *const texts[] = {"1", "2"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_source *s = start(60, "%s", cases[i].command);
        struct genarm_error err = {0};
        double values[2];
        const double begun = now();
        for (int k = 0; k < 2; k++) { /* another program the second time */
            must(score_texts(s, texts, 2, values, &err), &err);
            assert_int_equal(genarm_source_finish(s, &err), cases[i].said ? GENARM_EMISMATCH : GENARM_OK);
            assert_true(!cases[i].said || (strstr(err.what, cases[i].said) && strstr(err.what, "reward t: ")));
            no_child_is_left();
        }
        must(genarm_source_finish(s, &err), &err); /* nothing runs */
        genarm_source_free(s);
        assert_true(now() - begun < 30);
    }
}

static void test_a_program_that_does_not_read_is_an_error_and_no_signal(void **state) {
    (void)state;
    enum { N = 100, LONG = 20000 };
    struct genarm_error err = {0};
    struct genarm_sample samples[N];
    double values[N];
    char *text = malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    for (int i = 0; i < N; i++) {
        samples[i] = (struct genarm_sample){question, 1, text, true, NULL, 0};
    }
    struct genarm_source *s = start(60, "exec <&-; exec sleep 100");
    assert_int_equal(genarm_source_score(s, samples, N, values, &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "closed its input"));
    genarm_source_free(s);
    s = start(0.5, "exec sleep 100");
    assert_int_equal(genarm_source_score(s, samples, N, values, &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "gave no answer within 0.5 seconds"));
    genarm_source_free(s);
    free(text);
}

static void test_after_a_failure_the_program_is_started_anew(void **state) {
    (void)state;
    static const char *const texts[] = {"a", "b"};
    struct genarm_error err = {0};
    double values[2];
    const char *file = temp_path("second");
    struct genarm_source *s =
        start(60, "if [ -e %s ]; then " EACH "echo 2; done; fi; touch %s; read l; echo 1; echo no; read l", file, file);
    assert_int_equal(score_texts(s, texts, 2, values, &err), GENARM_EFORMAT);
    must(score_texts(s, texts, 2, values, &err), &err);
    assert_true(values[0] == 2 && values[1] == 2);
    genarm_source_free(s);
}

/* ---- ends ---- */

static int stop_soon(void *user) { return ++*(int *)user > 3; }

static void test_waiting_can_be_stopped(void **state) {
    (void)state;
    static const char *const texts[] = {"a"};
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    struct genarm_source_params p = quick(60);
    int n_asked = 0;
    double value = 5;
    p.stop = stop_soon;
    p.stop_user = &n_asked;
    must(genarm_source_new(&s, "cmd:sleep 100", NULL, &p, &err), &err);
    const double begun = now();
    assert_int_equal(score_texts(s, texts, 1, &value, &err), GENARM_ECANCELED);
    genarm_source_free(s);
    assert_true(now() - begun < 20 && value == 5);
    no_child_is_left();
}

static void test_the_end_of_input_lets_a_program_finish(void **state) {
    (void)state;
    static const char *const texts[] = {"a"};
    struct genarm_error err = {0};
    double value;
    char file[256];
    snprintf(file, sizeof file, "%s", temp_path("bye"));
    struct genarm_source *s = start(60, EACH "echo 1; done; echo bye >%s", file);
    struct genarm_source *later = start(60, "cat"); /* does not hold the other's pipes */
    must(score_texts(s, texts, 1, &value, &err), &err);
    assert_int_equal(access(file, F_OK), -1);
    genarm_source_free(s);
    assert_int_equal(access(file, F_OK), 0);
    genarm_source_free(later);
}

static void test_all_that_a_program_started_ends_with_it(void **state) {
    (void)state;
    static const char *const texts[] = {"a"};
    struct genarm_error err = {0};
    double value;
    char own[256], other[256];
    snprintf(own, sizeof own, "%s", temp_path("own"));
    snprintf(other, sizeof other, "%s", temp_path("other"));
    struct genarm_source *s =
        start(60, "sleep 1000 </dev/null >/dev/null & echo $! >%s; echo $$ >%s; read l; echo 1; sleep 1000", other, own);
    must(score_texts(s, texts, 1, &value, &err), &err);
    assert_true(runs(own) && runs(other));
    genarm_source_free(s); /* it does not care for the end of its input */
    assert_true(!runs(own));
    for (int i = 0; i < 100 && runs(other); i++) {
        usleep(20000);
    }
    assert_true(!runs(other));
    no_child_is_left();
}

static void test_params_are_checked(void **state) {
    (void)state;
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    struct genarm_source_params p = quick(0);
    assert_int_equal(genarm_source_new(&s, "cmd:cat", NULL, &p, &err), GENARM_EINVAL);
    p = quick(1);
    p.n_batch = 0;
    assert_int_equal(genarm_source_new(&s, "cmd:cat", NULL, &p, &err), GENARM_EINVAL);
    assert_int_equal(genarm_source_new(&s, "cmd:", NULL, NULL, &err), GENARM_EINVAL);
    assert_null(s);
    genarm_source_free(NULL);
    s = start(60, "cat");
    double value;
    assert_int_equal(genarm_source_score(s, &(struct genarm_sample){NULL, 0, "x", true, NULL, 0},
                                     1, &value, &err), GENARM_EINVAL);
    assert_int_equal(genarm_source_score(s, &(struct genarm_sample){question, 1, NULL, true, NULL, 0},
                                     1, &value, &err), GENARM_EINVAL);
    genarm_source_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_numbers_or_objects_in_order),
        cmocka_unit_test(test_one_process_answers_all_batches),
        cmocka_unit_test(test_full_pipes_do_not_block_each_other),
        cmocka_unit_test(test_a_request_holds_the_conversation),
        cmocka_unit_test(test_a_program_that_ends_is_an_error),
        cmocka_unit_test(test_a_program_that_is_late_is_an_error),
        cmocka_unit_test(test_what_is_no_reward_is_an_error),
        cmocka_unit_test(test_unasked_output_is_an_error),
        cmocka_unit_test(test_what_is_said_after_the_last_answer_is_an_error),
        cmocka_unit_test(test_a_program_that_does_not_read_is_an_error_and_no_signal),
        cmocka_unit_test(test_after_a_failure_the_program_is_started_anew),
        cmocka_unit_test(test_waiting_can_be_stopped),
        cmocka_unit_test(test_the_end_of_input_lets_a_program_finish),
        cmocka_unit_test(test_all_that_a_program_started_ends_with_it),
        cmocka_unit_test(test_params_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
