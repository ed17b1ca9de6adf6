/* Curves in bounded memory, axes, numbers, and charts as SVG: well-formed, labelled, harmless. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plot/axis.h"
#include "plot/trace.h"

/* ---- curves ---- */

static void test_a_short_curve_is_kept_as_it_is(void **state) {
    (void)state;
    struct trace t = {0};
    struct plot_point *points;
    size_t n;
    double y = 0;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(trace_add(&t, i, i * i, NULL), GENARM_OK);
    }
    assert_int_equal(trace_points(&points, &n, &t, 500, 0, NULL), GENARM_OK);
    assert_int_equal(n, 100);
    for (size_t i = 0; i < n; i++) {
        assert_true(points[i].x == (double)i && points[i].y == (double)(i * i) && points[i].low == points[i].high);
    }
    assert_true(trace_at(&t, 7, &y) && y == 49);
    assert_false(trace_at(&t, 7.5, &y) || trace_at(&t, -1, &y) || trace_at(&t, 100, &y));
    free(points);
    trace_deinit(&t);
}

static void test_a_long_curve_keeps_its_peaks_and_its_mean(void **state) {
    (void)state;
    enum { N = 1000001 };
    struct trace t = {0};
    struct plot_point *points;
    size_t n;
    double low = INFINITY, high = -INFINITY, sum = 0, y;
    for (int i = 0; i < N; i++) {
        assert_int_equal(trace_add(&t, i, i == 123456 ? 50 : i == 654321 ? -50 : i % 2, NULL), GENARM_OK);
    }
    assert_true(t.n <= TRACE_MAX && t.n > TRACE_MAX / 4);
    assert_int_equal(t.total, N);
    for (size_t i = 0; i < t.n; i++) {
        sum += t.buckets[i].sum;
        assert_true(i == 0 || t.buckets[i].first > t.buckets[i - 1].last);
    }
    assert_true(sum == N / 2 + 50 - 50 - 1); /* the two peaks took the place of a 0 and a 1 */
    assert_int_equal(trace_points(&points, &n, &t, 300, 0, NULL), GENARM_OK);
    assert_true(n <= 300);
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, points[i].low);
        high = fmax(high, points[i].high);
    }
    assert_true(low == -50 && high == 50);
    assert_true(trace_at(&t, N - 1, &y) && trace_at(&t, 0, &y));
    free(points);
    trace_deinit(&t);
}

static void test_a_running_mean_of_a_line_is_the_line(void **state) {
    (void)state;
    struct trace t = {0};
    struct plot_point *points;
    size_t n;
    for (int i = 0; i < 400; i++) {
        assert_int_equal(trace_add(&t, i, 3.0 * i, NULL), GENARM_OK);
    }
    const size_t half = trace_half_window(&t);
    assert_true(half > 0);
    assert_int_equal(trace_points(&points, &n, &t, 400, half, NULL), GENARM_OK);
    for (size_t i = half; i + half < n; i++) { /* at the ends the window is cut */
        assert_true(fabs(points[i].y - 3 * points[i].x) < 1e-9);
    }
    free(points);
    trace_deinit(&t);
}

static void test_an_empty_curve_has_no_points(void **state) {
    (void)state;
    struct trace t = {0};
    struct plot_point *points;
    size_t n = 7;
    assert_int_equal(trace_points(&points, &n, &t, 10, 2, NULL), GENARM_OK);
    assert_int_equal(n, 0);
    free(points);
}

/* ---- axes ---- */

static void test_ticks_are_round_and_within_the_axis(void **state) {
    (void)state;
    static const double ranges[][2] = {{0, 1}, {0.13, 0.87}, {-3e-7, 4e-7}, {1, 1e6}, {-5, -4.99}, {0, 1e-12}, {1e9, 3e9}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct axis a;
        axis_init(&a, ranges[i][0], ranges[i][1], false, false, false, 6);
        assert_in_range(a.n_ticks, 3, 12);
        for (int k = 0; k < a.n_ticks; k++) {
            assert_true(a.ticks[k] >= a.min - 1e-9 * (a.max - a.min) && a.ticks[k] <= a.max + 1e-9 * (a.max - a.min));
            assert_true(k == 0 || a.ticks[k] > a.ticks[k - 1]);
        }
    }
}

static void test_any_range_makes_an_axis(void **state) {
    (void)state;
    static const double ranges[][2] = {{5, 5}, {0, 0}, {-3, -3}, {INFINITY, -INFINITY}, {NAN, 1}, {1e300, 1e300}, {2, 1}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        for (int fixed = 0; fixed < 2; fixed++) {
            for (int log = 0; log < 2; log++) {
                struct axis a;
                axis_init(&a, ranges[i][0], ranges[i][1], fixed, fixed, log, 6);
                assert_true(a.max > a.min && a.n_ticks >= 0);
                assert_true(axis_place(&a, a.min) >= 0 && axis_place(&a, a.max) <= 1);
            }
        }
    }
}

static void test_fixed_ends_have_no_margin(void **state) {
    (void)state;
    struct axis a;
    axis_init(&a, 0, 1, true, true, false, 5);
    assert_true(a.min == 0 && a.max == 1);
    assert_true(axis_place(&a, 0.25) == 0.25 && axis_place(&a, -1) == 0 && axis_place(&a, 2) == 1);
}

static void test_a_logarithmic_axis_has_powers_of_ten(void **state) {
    (void)state;
    struct axis a;
    axis_init(&a, 1e-3, 1e3, true, true, true, 8);
    assert_true(a.log && a.n_ticks == 7);
    assert_true(fabs(axis_place(&a, 1) - 0.5) < 1e-12);
    axis_init(&a, 0, 1e3, true, true, true, 8);
    assert_false(a.log); /* 0 has no place on it */
}

static void test_numbers_are_short(void **state) {
    (void)state;
    static const struct {
        double x;
        int digits;
        const char *text;
    } cases[] = {{0, 4, "0"},           {0.25, 4, "0.25"},   {5e-4, 6, "5e-4"}, {-2.5e-7, 3, "-2.5e-7"}, {9999, 4, "9999"},
                 {120000, 6, "120k"},   {2e6, 6, "2M"},      {-3e9, 3, "-3G"},  {0.69314718, 4, "0.6931"}, {1e20, 3, "1e+20"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        plot_number(text, sizeof text, cases[i].x, cases[i].digits);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- charts ---- */

static void test_text_is_escaped(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(plot_escape(&b, "<a href=\"x\" b='y'>&\n\x01\xFF\xC3\xA4</a>", NULL), GENARM_OK);
    assert_string_equal(b.data, "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;  \xEF\xBF\xBD\xC3\xA4&lt;/a&gt;");
    buf_clear(&b);
    assert_int_equal(plot_escape(&b, "", NULL), GENARM_OK);
    assert_string_equal(b.data, "");
    buf_deinit(&b);
}

static size_t count(const char *text, const char *part) {
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) {
        n++;
    }
    return n;
}

static void test_a_chart_has_title_description_axes_and_legend(void **state) {
    (void)state;
    static const struct plot_point line[] = {{1, 2, 1, 3}, {2, 3, 2, 4}, {3, NAN, NAN, NAN}, {4, 5, 5, 5}};
    static const struct plot_point dots[] = {{1, 1, 0.5, 1.5}, {4, 4, 4, 4}};
    const struct plot_series series[] = {
        {.name = "a <line>", .points = line, .n = 4, .style = PLOT_LINE | PLOT_FAINT, .color = 0},
        {.name = "dots", .points = dots, .n = 2, .style = PLOT_POINTS | PLOT_WHISKERS, .color = PLOT_COLORS + 1}};
    static const double marks[] = {2};
    const struct plot_chart c = {.title = "A & B",
                                 .description = "what it shows",
                                 .id = "one",
                                 .x = {"step", NAN, NAN, false},
                                 .y = {"nats", NAN, NAN, false},
                                 .series = series,
                                 .n_series = 2,
                                 .marks = marks,
                                 .n_marks = 1};
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(plot_chart(&b, &c, 0, 0, NULL), GENARM_OK);
    assert_non_null(strstr(b.data, "role=\"img\" aria-labelledby=\"one-t one-d\""));
    assert_non_null(strstr(b.data, "<title id=\"one-t\">A &amp; B</title>"));
    assert_non_null(strstr(b.data, "<desc id=\"one-d\">what it shows</desc>"));
    assert_non_null(strstr(b.data, ">a &lt;line&gt;</text>"));
    assert_non_null(strstr(b.data, ">step</text>"));
    assert_non_null(strstr(b.data, ">nats</text>"));
    assert_int_equal(count(b.data, "<circle"), 3);            /* two, and one in the legend */
    assert_int_equal(count(b.data, "class=\"whisker"), 1);    /* the other has no length */
    assert_int_equal(count(b.data, "class=\"mark\""), 1);
    assert_int_equal(count(b.data, "<svg"), count(b.data, "</svg>"));
    assert_int_equal(count(b.data, "<text"), count(b.data, "</text>"));
    assert_null(strstr(b.data, "nan"));
    assert_null(strstr(b.data, "inf"));
    buf_deinit(&b);
}

static void test_intervals_in_both_directions_are_drawn(void **state) {
    (void)state;
    static const struct plot_point dots[] = {{1, 1, 0.5, 1.5}, {4, 4, 4, 4}};
    static const struct plot_interval across[] = {{0, 2}, {3, 9}};
    static const char *const labels[] = {"first", NULL};
    struct plot_series s = {.name = "m", .points = dots, .n = 2, .style = PLOT_POINTS | PLOT_WHISKERS, .across = across,
                            .labels = labels};
    struct plot_chart c = {.title = "t", .description = "", .id = "x", .x = {"", NAN, NAN, false}, .y = {"", NAN, NAN, false},
                           .series = &s, .n_series = 1};
    static const char *const shapes[] = {"<circle", "<rect", "<polygon", "<polygon"};
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int shape = 0; shape < 4; shape++) {
        buf_clear(&b);
        s.shape = shape;
        assert_int_equal(plot_chart(&b, &c, 0, 0, NULL), GENARM_OK);
        assert_int_equal(count(b.data, "class=\"whisker s0\""), 3);
        assert_int_equal(count(b.data, shapes[shape]), 3);
        assert_int_equal(count(b.data, ">first</text>"), 1);
        assert_non_null(strstr(b.data, ">8</text>")); /* the axis has room for the interval up to 9 */
    }
    c.body = 300;
    const int high = plot_height(&c);
    c.body = 0;
    assert_int_equal(high - plot_height(&c), 100);
    buf_deinit(&b);
}

/* Labels that lie as those of a chart do, parsed back. */
static size_t label_boxes(double (*box)[3], const char *svg) {
    size_t n = 0;
    for (const char *at = svg; (at = strstr(at, "<text class=\"at\"")) != NULL; at++) {
        assert_int_equal(sscanf(at, "<text class=\"at\" x=\"%lf\" y=\"%lf\"", &box[n][0], &box[n][1]), 2);
        box[n][2] = 20; /* at least: three letters of 11 px */
        n++;
    }
    return n;
}

static void test_labels_do_not_lie_on_one_another(void **state) {
    (void)state;
    enum { N = 60 };
    struct plot_point points[N];
    const char *labels[N];
    double box[N][3];
    for (int i = 0; i < N; i++) {
        const double x = i % 8 + 0.07 * i, y = i / 8 + 0.05 * (i % 3); /* some are close together */
        points[i] = (struct plot_point){x, y, y, y};
        labels[i] = "abc";
    }
    const struct plot_series s = {.points = points, .n = N, .style = PLOT_POINTS, .labels = labels};
    const struct plot_chart c = {.title = "t", .description = "", .id = "x", .x = {"", NAN, NAN, false},
                                 .y = {"", NAN, NAN, false}, .series = &s, .n_series = 1};
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(plot_chart(&b, &c, 0, 0, NULL), GENARM_OK);
    const size_t n = label_boxes(box, b.data);
    assert_in_range(n, N / 3, N);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            const bool apart = fabs(box[i][0] - box[k][0]) >= box[i][2] || fabs(box[i][1] - box[k][1]) >= 10.5;
            assert_true(apart);
        }
    }
    buf_deinit(&b);
}

/* y of the label of the middle of three points that rise. */
static double middle_label(unsigned style) {
    static const struct plot_point points[] = {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}};
    static const char *const labels[] = {NULL, "abc", NULL};
    const struct plot_series s = {.points = points, .n = 3, .style = style, .labels = labels};
    const struct plot_chart c = {.title = "t", .description = "", .id = "x", .x = {"", NAN, NAN, false},
                                 .y = {"", NAN, NAN, false}, .series = &s, .n_series = 1};
    double box[3][3];
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(plot_chart(&b, &c, 0, 0, NULL), GENARM_OK);
    assert_int_equal(label_boxes(box, b.data), 1);
    buf_deinit(&b);
    return box[0][1];
}

static void test_labels_keep_off_lines(void **state) {
    (void)state;
    const double above = middle_label(PLOT_POINTS);
    assert_true(middle_label(PLOT_POINTS | PLOT_LINE) > above + 10); /* below its point, for the line goes up beside it */
}

static void test_bars_share_their_length(void **state) {
    (void)state;
    static const char *const parts[] = {"win", "tie", "lose"};
    static const int colors[] = {2, 7, 1};
    static const double one[] = {1, 2, 5}, none[] = {0, 0, 0}, odd[] = {3, NAN, -1};
    const struct plot_bar rows[] = {{"a & b", "n = 8", one}, {"nothing", NULL, none}, {"odd", NULL, odd}};
    struct plot_bars c = {.title = "T", .description = "d", .id = "i", .parts = parts, .colors = colors, .n_parts = 3,
                          .bars = rows, .n_bars = 3};
    struct buf b;
    double sum = 0, x = 0, width = 0, first = 0;
    size_t n = 0;
    buf_init(&b, 1 << 20);
    assert_int_equal(plot_bars(&b, &c, 0, 0, NULL), GENARM_OK);
    for (const char *at = b.data; (at = strstr(at, "<rect class=\"f")) != NULL; at++) {
        double y;
        if (!strstr(at, "rx=") || strstr(at, "rx=") > strstr(at, "/>")) { /* no swatch of the legend */
            assert_int_equal(sscanf(strstr(at, " x="), " x=\"%lf\" y=\"%lf\" width=\"%lf\"", &x, &y, &width), 3);
            first = n == 0 ? width : first;
            sum += width;
            n++;
        }
    }
    assert_int_equal(n, 3 + 0 + 1);
    assert_true(fabs(sum - 2 * width) < 0.3); /* the last is a whole one, as are the three before it together */
    assert_true(fabs(first / width - 1.0 / 8) < 0.001);
    assert_non_null(strstr(b.data, ">a &amp; b</text>"));
    assert_non_null(strstr(b.data, ">n = 8</text>"));
    assert_int_equal(count(b.data, ">25</text>"), 2); /* of 2 in 8, and on the scale */
    assert_null(strstr(b.data, "nan"));
    const struct plot_bar wide[] = {{"alpha=0.25, beta=0.05, length=512, rank=32, and so on for the whole of a line's length, "
                                     "which is as long as this name is",
                                     "n = 9", one}};
    c.bars = wide;
    c.n_bars = 1;
    buf_clear(&b);
    assert_int_equal(plot_bars(&b, &c, 0, 0, NULL), GENARM_OK);
    assert_true(strstr(b.data, "this name is</text>") && !strstr(b.data, ">n = 9</text>")); /* one would run through the other */
    c.bars = rows;
    c.n_bars = 3;
    const int three = plot_bars_height(&c);
    c.n_bars = 2;
    const int two = plot_bars_height(&c);
    c.n_bars = 1;
    assert_int_equal(three - two, two - plot_bars_height(&c));
    buf_deinit(&b);
}

static void test_lines_of_a_text_stay_when_asked_for(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(plot_escape_lines(&b, "<a>\n\tb\r\n", NULL), GENARM_OK);
    assert_string_equal(b.data, "&lt;a&gt;\n b \n");
    buf_deinit(&b);
}

static void test_a_legend_that_is_long_takes_several_lines(void **state) {
    (void)state;
    struct plot_series series[8] = {0};
    struct plot_chart c = {.title = "t", .description = "", .id = "x", .x = {"", NAN, NAN, false}, .y = {"", NAN, NAN, false}};
    const int bare = plot_height(&c);
    for (int i = 0; i < 8; i++) {
        series[i] = (struct plot_series){.name = "a name of twenty-five letters", .style = PLOT_LINE, .color = i};
    }
    c.series = series;
    c.n_series = 1;
    const int one = plot_height(&c);
    c.n_series = 8;
    assert_true(plot_height(&c) - one == 7 * (one - bare) || plot_height(&c) - one == 3 * (one - bare));
}

static void test_a_page_that_is_full_is_an_error(void **state) {
    (void)state;
    const struct plot_axis axis = {"", NAN, NAN, false};
    const struct plot_chart c = {.title = "t", .description = "", .id = "x", .x = axis, .y = axis};
    struct buf b;
    for (size_t max = 1; max < 1200; max += 37) {
        buf_init(&b, max);
        assert_int_equal(plot_chart(&b, &c, 0, 0, NULL), GENARM_EINVAL);
        buf_deinit(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_short_curve_is_kept_as_it_is),
        cmocka_unit_test(test_a_long_curve_keeps_its_peaks_and_its_mean),
        cmocka_unit_test(test_a_running_mean_of_a_line_is_the_line),
        cmocka_unit_test(test_an_empty_curve_has_no_points),
        cmocka_unit_test(test_ticks_are_round_and_within_the_axis),
        cmocka_unit_test(test_any_range_makes_an_axis),
        cmocka_unit_test(test_fixed_ends_have_no_margin),
        cmocka_unit_test(test_a_logarithmic_axis_has_powers_of_ten),
        cmocka_unit_test(test_numbers_are_short),
        cmocka_unit_test(test_text_is_escaped),
        cmocka_unit_test(test_a_chart_has_title_description_axes_and_legend),
        cmocka_unit_test(test_intervals_in_both_directions_are_drawn),
        cmocka_unit_test(test_labels_do_not_lie_on_one_another),
        cmocka_unit_test(test_labels_keep_off_lines),
        cmocka_unit_test(test_bars_share_their_length),
        cmocka_unit_test(test_lines_of_a_text_stay_when_asked_for),
        cmocka_unit_test(test_a_legend_that_is_long_takes_several_lines),
        cmocka_unit_test(test_a_page_that_is_full_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
