/* The progress bar: its line, and silence where there is no terminal. */
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/progress.h"

static void test_line_shows_share_rate_and_time_left(void **state) {
    (void)state;
    char line[512];
    struct progress p = {.label = "training", .unit = "pairs", .total = 200, .done = 50, .first = 0, .start = 100.0};
    progress_format(line, sizeof line, &p, 125.0, "loss 0.61", 200);
    assert_string_equal(line, "training [#####---------------] 50/200 pairs  2/s  1:15 left  loss 0.61");
    p.done = 200;
    progress_format(line, sizeof line, &p, 200.0, NULL, 200);
    assert_string_equal(line, "training [####################] 200/200 pairs  2/s  in 1:40");
}

static void test_items_of_an_earlier_run_do_not_count_for_the_rate(void **state) {
    (void)state;
    char line[512];
    struct progress p = {.label = "x", .unit = "u", .total = 8000, .done = 4400, .first = 4390, .start = 0.0};
    progress_format(line, sizeof line, &p, 10.0, NULL, 200);
    assert_string_equal(line, "x [###########---------] 4400/8000 u  1/s  1:00:00 left");
    p.done = p.first;
    progress_format(line, sizeof line, &p, 10.0, NULL, 200);
    assert_string_equal(line, "x [##########----------] 4390/8000 u");
}

static void test_time_left_is_the_expected_one_where_items_are_not_alike(void **state) {
    (void)state;
    char line[512];
    struct progress p = {.label = "x", .unit = "u", .total = 20, .done = 0, .start = 0.0};
    progress_expect(&p, 90.0);
    progress_format(line, sizeof line, &p, 10.0, NULL, 200);
    assert_string_equal(line, "x [--------------------] 0/20 u  1:30 left");
    p.done = 10;
    progress_format(line, sizeof line, &p, 10.0, NULL, 200);
    assert_string_equal(line, "x [##########----------] 10/20 u  1/s  1:30 left");
    progress_expect(&p, 0.0);
    progress_format(line, sizeof line, &p, 10.0, NULL, 200);
    assert_string_equal(line, "x [##########----------] 10/20 u  1/s  0:10 left");
}

static void test_line_is_cut_to_the_width_at_a_whole_character(void **state) {
    (void)state;
    char line[512];
    struct progress p = {.label = "\xC3\xA9t\xC3\xA9", .unit = "u", .total = 0, .start = 0.0};
    progress_format(line, sizeof line, &p, 0.0, NULL, 3);
    assert_string_equal(line, "\xC3\xA9t\xC3\xA9");
    progress_format(line, sizeof line, &p, 0.0, NULL, 1);
    assert_string_equal(line, "\xC3\xA9");
    progress_format(line, sizeof line, &p, 0.0, "note", 0);
    assert_string_equal(line, "");
}

static void test_a_narrow_line_shows_the_numbers_before_the_bar(void **state) {
    (void)state;
    char line[512];
    struct progress p = {.label = "training", .unit = "pairs", .total = 200, .done = 50, .first = 0, .start = 100.0};
    progress_format(line, sizeof line, &p, 125.0, NULL, 60);
    assert_string_equal(line, "training [#####---------------] 50/200 pairs  2/s  1:15 left");
    progress_format(line, sizeof line, &p, 125.0, NULL, 50);
    assert_string_equal(line, "training [##--------] 50/200 pairs  2/s  1:15 left");
    progress_format(line, sizeof line, &p, 125.0, NULL, 44);
    assert_string_equal(line, "training [#---] 50/200 pairs  2/s  1:15 left");
    progress_format(line, sizeof line, &p, 125.0, NULL, 43);
    assert_string_equal(line, "training 50/200 pairs  2/s  1:15 left");
    progress_format(line, sizeof line, &p, 125.0, "loss 0.61 acc 0.72", 48);
    assert_string_equal(line, "training 50/200 pairs  2/s  1:15 left  loss 0.61");
}

static void run_bar(void) {
    struct progress p;
    progress_start(&p, "work", "items", 3, 0);
    for (int i = 1; i <= 3; i++) {
        progress_update(&p, i, "note");
    }
    progress_end(&p);
    progress_end(&p);
}

/* What run_bar writes to a stderr that is the given file. */
static size_t output_of_bar(int to, int from, char *out, size_t size) {
    const pid_t child = fork();
    if (child == 0) {
        dup2(to, STDERR_FILENO);
        unsetenv("TERM");
        run_bar();
        _exit(0);
    }
    close(to);
    size_t n = 0;
    ssize_t got;
    while (n < size - 1 && (got = read(from, out + n, size - 1 - n)) > 0) {
        n += (size_t)got;
    }
    out[n] = '\0';
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return n;
}

static void test_it_is_quiet_in_a_pipe(void **state) {
    (void)state;
    int ends[2];
    char out[100];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(output_of_bar(ends[1], ends[0], out, sizeof out), 0);
    close(ends[0]);
}

static void test_it_draws_one_line_within_a_terminal(void **state) {
    (void)state;
    int master, slave;
    char out[4096];
    struct winsize size = {.ws_row = 24, .ws_col = 30};
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    assert_true(output_of_bar(slave, master, out, sizeof out) > 0);
    close(master);
    assert_non_null(strstr(out, "\rwork [------------] 0/3 items"));
    assert_non_null(strstr(out, "\rwork 3/3 items"));
    assert_non_null(strchr(out, '\n'));
    assert_ptr_equal(strchr(out, '\n'), strrchr(out, '\n'));
    for (const char *line = strtok(out, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        const size_t columns = strlen(line) - (strstr(line, "\033[K") ? 3 : 0);
        assert_true(columns < 30);
    }
}

static void test_clock_goes_forward(void **state) {
    (void)state;
    const double a = clock_seconds();
    usleep(20000);
    const double b = clock_seconds();
    assert_true(b - a >= 0.019 && b - a < 10.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_shows_share_rate_and_time_left),
        cmocka_unit_test(test_items_of_an_earlier_run_do_not_count_for_the_rate),
        cmocka_unit_test(test_time_left_is_the_expected_one_where_items_are_not_alike),
        cmocka_unit_test(test_line_is_cut_to_the_width_at_a_whole_character),
        cmocka_unit_test(test_a_narrow_line_shows_the_numbers_before_the_bar),
        cmocka_unit_test(test_it_is_quiet_in_a_pipe),
        cmocka_unit_test(test_it_draws_one_line_within_a_terminal),
        cmocka_unit_test(test_clock_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
