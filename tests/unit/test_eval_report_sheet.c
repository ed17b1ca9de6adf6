/* Tables: decimals by the intervals of a column, what is bold, and texts that Markdown and HTML leave alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "eval/report_sheet.h"

static void test_numbers_have_the_digits_that_their_interval_warrants(void **state) {
    (void)state;
    static const struct {
        struct interval x;
        double factor;
        int decimals;
        const char *text, *range;
    } cases[] = {
        {{0.5123, 0.4731, 0.5504}, 1, -1, "0.512", "[0.473, 0.550]"},
        {{0.5123, 0.4731, 0.5504}, 100, -1, "51.2", "[47.3, 55.0]"},
        {{0.5123, 0.4731, 0.5504}, 100, 0, "51", "[47, 55]"},
        {{-60.61, -63.84, -57.1}, 1, -1, "-60.6", "[-63.8, -57.1]"},
        {{1234.5, 1000, 1500}, 1, -1, "1234", "[1000, 1500]"},
        {{-0.0004, -0.1, 0.1}, 1, -1, "0.00", "[-0.10, 0.10]"},
        {{0, 0, 0}, 1, -1, "0", ""}, /* all are equal */
        {{8, 8, 8}, 1, 2, "8.00", ""},
        {{1.835, NAN, NAN}, 1, -1, "1.835", ""},
        {{NAN, NAN, NAN}, 1, -1, "", ""},
        {{1e300, -1e300, 1e300}, 1, -1, "1e+300", ""},
        {{1e-9, 0.9e-9, 1.1e-9}, 1, -1, "0.000000", "[0.000000, 0.000000]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64], range[64];
        sheet_format(text, range, &cases[i].x, cases[i].factor, cases[i].decimals);
        assert_string_equal(text, cases[i].text);
        assert_string_equal(range, cases[i].range);
    }
}

/* A table of one column of numbers; `groups` of its rows. */
static void fill(struct sheet *s, struct pool *pool, enum sheet_better better, const struct interval *x, const size_t *groups,
                 size_t n) {
    sheet_init(s, pool, "id", "Title", 2, n);
    sheet_column(s, SHEET_TEXT, "name");
    sheet_column(s, better, "number");
    for (size_t i = 0; i < n; i++) {
        sheet_row(s, groups[i]);
        sheet_text(s, "row");
        sheet_interval(s, &x[i], 1);
    }
    sheet_finish(s);
}

static int best_row(const struct interval *x, const size_t *groups, size_t n, enum sheet_better better) {
    struct pool pool = {0};
    struct sheet s;
    int best = -1;
    fill(&s, &pool, better, x, groups, n);
    for (size_t i = 0; i < n; i++) {
        if (s.cells[i * s.max_columns + 1].best) {
            assert_int_equal(best, -1);
            best = (int)i;
        }
    }
    pool_deinit(&pool);
    return best;
}

static void test_the_best_is_bold_only_apart_from_all_other_methods(void **state) {
    (void)state;
    static const size_t groups[] = {0, 1, 1, 2};
    static const struct interval apart[] = {{1, 0.9, 1.1}, {2, 1.8, 2.2}, {2.1, 1.9, 2.3}, {1.5, 1.4, 1.6}};
    assert_int_equal(best_row(apart, groups, 4, SHEET_HIGHER), 2); /* row 1 is of the same method */
    assert_int_equal(best_row(apart, groups, 4, SHEET_LOWER), 0);
    assert_int_equal(best_row(apart, groups, 4, SHEET_NUMBER), -1);
    static const struct interval overlap[] = {{1, 0.9, 1.1}, {2, 1.8, 2.2}, {2.1, 1.9, 2.3}, {1.8, 1.7, 1.9}};
    assert_int_equal(best_row(overlap, groups, 4, SHEET_HIGHER), -1); /* 1.9 touches 1.9 */
    static const struct interval unknown[] = {{NAN, NAN, NAN}, {2, 1.8, 2.2}, {3, NAN, NAN}, {1.5, 1.4, 1.6}};
    assert_int_equal(best_row(unknown, groups, 4, SHEET_HIGHER), 1); /* what has no interval cannot be best */
    static const size_t one[] = {0, 0};
    assert_int_equal(best_row(apart, one, 2, SHEET_HIGHER), -1); /* there is nothing that it is better than */
}

static void test_a_column_has_one_number_of_decimals(void **state) {
    (void)state;
    static const struct interval x[] = {{1.23456, 1.2, 1.26}, {1.5, 1.48, 1.52}, {100.126, 90, 110}};
    static const size_t groups[] = {0, 1, 2};
    struct pool pool = {0};
    struct sheet s;
    fill(&s, &pool, SHEET_NUMBER, x, groups, 3);
    assert_string_equal(s.cells[1].text, "1.235");
    assert_string_equal(s.cells[s.max_columns + 1].text, "1.500");
    assert_string_equal(s.cells[2 * s.max_columns + 1].text, "100.126");
    pool_deinit(&pool);
}

static void test_texts_stay_texts(void **state) {
    (void)state;
    struct pool pool = {0};
    struct sheet s;
    struct buf b;
    sheet_init(&s, &pool, "t", "A|B", 2, 1);
    sheet_column(&s, SHEET_TEXT, "*x*");
    sheet_column(&s, SHEET_NUMBER, "n");
    sheet_row(&s, 0);
    sheet_text(&s, "a|b\n<i>_c_`");
    sheet_count(&s, NAN);
    sheet_text(&s, "one too many");
    sheet_row(&s, 1); /* likewise */
    sheet_finish(&s);
    buf_init(&b, 1 << 16);
    assert_int_equal(sheet_markdown(&b, &s, NULL), GENARM_OK);
    assert_string_equal(b.data, "\n## A\\|B\n\n| \\*x\\* | n |\n|---|--:|\n| a\\|b \\<i\\>\\_c\\_\\` | \xE2\x80\x93 |\n");
    buf_clear(&b);
    struct page p = {.b = &b};
    sheet_html(&p, &s);
    assert_int_equal(p.code, GENARM_OK);
    assert_non_null(strstr(b.data, "<th scope=\"row\">a|b &lt;i&gt;_c_`</th><td>\xE2\x80\x93</td></tr>"));
    buf_deinit(&b);
    pool_deinit(&pool);
}

static void test_long_texts_are_cut_between_characters(void **state) {
    (void)state;
    struct pool pool = {0};
    assert_string_equal(pool_short(&pool, "short", 5), "short");
    assert_string_equal(pool_short(&pool, "longer", 5), "long\xE2\x80\xA6");
    assert_string_equal(pool_short(&pool, "\xC3\xA4\xC3\xB6\xC3\xBC\xC3\x9F", 3), "\xC3\xA4\xC3\xB6\xE2\x80\xA6");
    assert_string_equal(pool_short(&pool, "", 3), "");
    assert_int_equal(pool_check(&pool, NULL), GENARM_OK);
    pool_deinit(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_have_the_digits_that_their_interval_warrants),
        cmocka_unit_test(test_the_best_is_bold_only_apart_from_all_other_methods),
        cmocka_unit_test(test_a_column_has_one_number_of_decimals),
        cmocka_unit_test(test_texts_stay_texts),
        cmocka_unit_test(test_long_texts_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
