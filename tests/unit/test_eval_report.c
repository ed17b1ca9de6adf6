/* The report of made-up results: every kind of number in its tables is computed here a second time, by hand; pages are whole and
 * harmless whatever answers hold. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/utf8.h"
#include "eval/report.h"
#include "support/temp.h"

/* ---- made-up results ---- */

enum { PROMPTS = 4, MAX_LINES = 200, MAX_PAGE = 64 << 20 };

struct lines {
    char *items[MAX_LINES];
    size_t n;
};

static void line(struct lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct lines *l, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    assert_true(l->n < MAX_LINES);
    assert_true(vasprintf(&l->items[l->n++], fmt, args) >= 0);
    va_end(args);
}

static const char *folder_of(struct lines *l, const char *name) {
    const char *folder = temp_path(name);
    char path[300];
    struct buf text;
    buf_init(&text, MAX_PAGE);
    assert_int_equal(file_make_folder(folder, NULL), GENARM_OK);
    for (size_t i = 0; i < l->n; i++) {
        assert_int_equal(buf_puts(&text, l->items[i], NULL), GENARM_OK);
        assert_int_equal(buf_puts(&text, "\n", NULL), GENARM_OK);
        free(l->items[i]);
    }
    snprintf(path, sizeof path, "%s/results.jsonl", folder);
    assert_int_equal(file_write(path, text.data, text.len, NULL), GENARM_OK);
    buf_deinit(&text);
    l->n = 0;
    return folder;
}

static void write_report(const char *folder) {
    struct genarm_error err = {0};
    if (eval_report_write(folder, &err) != GENARM_OK) {
        fail_msg("%s: %s", err.where, err.what);
    }
}

static void read_file(struct buf *b, const char *folder, const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    buf_init(b, MAX_PAGE);
    assert_int_equal(file_read(b, path, NULL), GENARM_OK);
}

/* Rewards by prompt of the three methods and the points of one of them. */
static const double base_a[] = {0, 0.1, 0.2, 0.3}, base_b[] = {1, 1, 1, 1};
static const double first_a[] = {1, 1.2, 1.1, 1.3}, first_b[] = {0.4, 0.6, 0.5, 0.5};
static const double second_a[] = {0.5, 0.4, 0.6, 0.5}, second_b[] = {2, 2.1, 1.9, 2};
static const double dpo_a[] = {0.6, 0.7, 0.6, 0.7}, dpo_b[] = {0.9, 1, 1.1, 1};

static void answers(struct lines *l, const char *method, const char *point, const double *a, const double *b, double kl,
                    int arms) {
    static const char *const texts[] = {"one two three", "one", "one two", "one two"};
    for (int i = 0; i < PROMPTS; i++) {
        line(l,
             "{\"kind\":\"answer\",\"method\":\"%s\",\"point\":%s,\"index\":%d,\"prompt\":\"What?\",\"response\":\"%s\","
             "\"finish_reason\":\"%s\",\"n_tokens\":5,\"logprob\":%g,\"evaluated\":{\"base\":10,\"arms\":%d,\"value\":0,"
             "\"rollout\":0},\"seconds\":0.05,\"rewards\":{\"a\":%g,\"b\":%g,\"base\":%g}}",
             method, point, i, texts[i], i == 3 ? "length" : "stop", -20.0 + kl, arms, a[i], b[i], -20.0);
    }
}

static void experiment(struct lines *l) {
    static const char *const verdicts[] = {"win", "win", "tie", "invalid"};
    static const double chosen[] = {2, 1, -1, 0};
    line(l, "{\"kind\":\"experiment\",\"title\":\"Made | up\",\"about\":\"By <hand>.\",\"model\":\"m.gguf\",\"seed\":1,"
            "\"prompts\":\"p.jsonl\",\"n_prompts\":4,\"report\":{\"objectives\":{\"a\":\"h\",\"b\":\"s\"},"
            "\"reference\":\"base\","
            "\"gap\":{\"from\":\"base\",\"to\":\"dpo\",\"reward\":\"a\"},\"kl\":\"base\","
            "\"reference-point\":{\"a\":0,\"b\":0}},"
            "\"methods\":[{\"name\":\"base\",\"label\":\"Base\",\"method\":\"guided\",\"points\":[{}]},{\"name\":\"arm\","
            "\"label\":\"GenARM\",\"method\":\"guided\",\"points\":[{\"h\":1,\"s\":0},{\"h\":0.5,\"s\":0.5}]},"
            "{\"name\":\"dpo\","
            "\"label\":\"DPO\",\"method\":\"guided\",\"points\":[{}]}],\"rewards\":[\"a\",\"b\",\"base\"],"
            "\"judges\":[{\"name\":\"j\",\"against\":\"base\"}],\"made_by\":[{\"version\":\"0\",\"machine\":\"<A>\",\"files\":2},"
            "{\"version\":\"\",\"machine\":\"\",\"files\":7}]}");
    answers(l, "base", "{}", base_a, base_b, 0, 0);
    answers(l, "arm", "{\"h\":1,\"s\":0}", first_a, first_b, 3, 20);
    answers(l, "arm", "{\"h\":0.5,\"s\":0.5}", second_a, second_b, 4, 20);
    answers(l, "dpo", "{}", dpo_a, dpo_b, 7, 0);
    for (int i = 0; i < PROMPTS; i++) {
        line(l,
             "{\"kind\":\"verdict\",\"judge\":\"j\",\"method\":\"dpo\",\"point\":{},\"against\":\"base\","
             "\"index\":%d,\"verdict\":"
             "\"%s\",\"preference\":null}",
             i, verdicts[i]);
        line(l,
             "{\"kind\":\"pair\",\"name\":\"held out\",\"data\":\"d\",\"scale\":0.5,\"index\":%d,\"chosen\":%g,"
             "\"rejected\":0}",
             i, chosen[i]);
    }
    line(l, "{\"kind\":\"model\",\"name\":\"cheerful\",\"point\":{},\"command\":\"train\",\"seconds\":12.5,"
            "\"options\":{\"loss\":"
            "\"arm\",\"beta\":0.5}}");
}

/* ---- tables, as a reader would take numbers from them ---- */

/* The cell of a row and a column under the heading that starts so; NULL: there is none. */
static char *table_cell(const char *text, const char *title, const char *row, const char *column) {
    static char cell[256];
    char heading[256], *save = NULL, *found = NULL, *copy = strdup(text);
    bool within = false;
    int at = -1;
    snprintf(heading, sizeof heading, "## %s", title);
    for (char *l = strtok_r(copy, "\n", &save); l && !found; l = strtok_r(NULL, "\n", &save)) {
        if (strncmp(l, "## ", 3) == 0) {
            within = strncmp(l, heading, strlen(heading)) == 0;
            at = -1;
        }
        if (!within || l[0] != '|') {
            continue;
        }
        char *parts = NULL, *first = NULL;
        int n = 0;
        for (char *c = strtok_r(l, "|", &parts); c; c = strtok_r(NULL, "|", &parts), n++) {
            c += strspn(c, " ");
            while (*c && c[strlen(c) - 1] == ' ') {
                c[strlen(c) - 1] = '\0';
            }
            first = n == 0 ? c : first;
            at = at < 0 && strcmp(c, column) == 0 ? n : at;
            if (n == at && strcmp(first, row) == 0) {
                snprintf(cell, sizeof cell, "%s", c);
                found = cell;
            }
        }
    }
    free(copy);
    return found;
}

static double cell_number(const char *cell) { return strtod(cell + strspn(cell, "* "), NULL); }

static void check(const char *md, const char *title, const char *row, const char *column, double expected) {
    const char *cell = table_cell(md, title, row, column);
    if (!cell || fabs(cell_number(cell) - expected) > 0.0081 * fmax(1, fabs(expected))) {
        fail_msg("%s / %s / %s: %s, expected %g", title, row, column, cell ? cell : "none", expected);
    }
}

#define CHECK(title, row, column, expected) check(md.data, title, row, column, expected)

static double mean(const double *x) { return (x[0] + x[1] + x[2] + x[3]) / 4; }

static void test_tables_have_the_numbers_that_are_computed_by_hand(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf md;
    experiment(&l);
    const char *folder = folder_of(&l, "hand");
    write_report(folder);
    read_file(&md, folder, "tables.md");

    CHECK("Main findings", "Base", "a", mean(base_a));
    CHECK("Main findings", "GenARM h=1, s=0", "a", mean(first_a));
    CHECK("Main findings", "GenARM h=0.5, s=0.5", "b", mean(second_b));
    CHECK("Main findings", "DPO", "j: wins + ties/2, %", 100 * (2 + 0.5) / 3);
    CHECK("Main findings", "GenARM h=1, s=0", "KL, nats an answer", 3);
    CHECK("Main findings", "GenARM h=1, s=0", "tokens evaluated per token", (10 + 20) / 5.0);
    CHECK("Main findings", "GenARM h=1, s=0", "ms per token", 1000 * 0.05 / 5);
    assert_null(table_cell(md.data, "Main findings", "Base", "base")); /* log pi of the base is no reward */

    CHECK("Rewards, difference to Base", "GenARM h=1, s=0", "a", mean(first_a) - mean(base_a));
    CHECK("Rewards, difference to Base", "GenARM h=1, s=0", "b", mean(first_b) - mean(base_b));
    CHECK("Rewards, difference to Base", "GenARM h=1, s=0", "recovered gap in a, %",
          100 * (mean(first_a) - mean(base_a)) / (mean(dpo_a) - mean(base_a)));
    CHECK("Rewards, difference to Base", "GenARM h=0.5, s=0.5", "recovered gap in a, %",
          100 * (mean(second_a) - mean(base_a)) / (mean(dpo_a) - mean(base_a)));
    assert_null(table_cell(md.data, "Rewards, difference to Base", "Base", "a"));

    CHECK("Verdicts of j against Base", "DPO", "wins", 2);
    CHECK("Verdicts of j against Base", "DPO", "ties", 1);
    CHECK("Verdicts of j against Base", "DPO", "losses", 0);
    CHECK("Verdicts of j against Base", "DPO", "invalid", 1);

    /* Two boxes, the smaller of each side twice. */
    const double a1 = mean(first_a), b1 = mean(first_b), a2 = mean(second_a), b2 = mean(second_b);
    CHECK("Trade-offs", "Base", "hypervolume", mean(base_a) * mean(base_b));
    CHECK("Trade-offs", "GenARM", "hypervolume", a1 * b1 + a2 * b2 - a2 * b1);
    CHECK("Trade-offs", "GenARM", "MIP", (a1 + (a2 + b2) / 2) / 2);
    CHECK("Trade-offs", "GenARM", "points", 2);
    CHECK("Trade-offs", "GenARM", "on the front", 2);
    CHECK("Trade-offs", "DPO", "on the front", 1); /* more of a than the second point, more of b than the first */
    CHECK("Trade-offs", "Base", "on the front", 0); /* DPO has more of a and as much of b */

    CHECK("Answers", "DPO", "words", 2);
    CHECK("Answers", "DPO", "tokens", 5);
    CHECK("Answers", "DPO", "finished, %", 75);
    CHECK("Answers", "DPO", "diversity", 1);
    CHECK("Answers", "DPO", "distinct 1", 3.0 / 8); /* of 3 + 1 + 2 + 2 words three are different */
    CHECK("Answers", "DPO", "distinct 2", 2.0 / 4);
    CHECK("Answers", "DPO", "KL, nats a token", 7 / 5.0);

    CHECK("Cost of answers", "GenARM h=1, s=0", "base", 2);
    CHECK("Cost of answers", "GenARM h=1, s=0", "arms", 4);
    CHECK("Cost of answers", "GenARM h=1, s=0", "all", 6);
    CHECK("Cost of answers", "GenARM h=1, s=0", "seconds in all", 4 * 0.05);

    CHECK("Rewards on held-out pairs", "held out", "pairs", 4);
    CHECK("Rewards on held-out pairs", "held out", "accuracy, %", 100 * (2 + 0.5) / 4);
    CHECK("Rewards on held-out pairs", "held out", "margin", (2 + 1 - 1 + 0) / 4.0);
    CHECK("Rewards on held-out pairs", "held out", "margin times", 0.5); /* beta of the model that it is */
    CHECK("Rewards on held-out pairs", "held out", "log loss",
          (log1p(exp(-1)) + log1p(exp(-0.5)) + log1p(exp(0.5)) + log(2)) / 4);
    CHECK("Models made first", "cheerful", "seconds", 12.5);
    buf_deinit(&md);
}

static void test_prompts_without_an_answer_are_left_out_and_told(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf md, page;
    experiment(&l);
    for (size_t i = 0; i < l.n; i++) {
        if (strstr(l.items[i], "\"method\":\"dpo\"") && strstr(l.items[i], "\"index\":3") && strstr(l.items[i], "\"answer\"")) {
            free(l.items[i]);
            l.n--;
            memmove(&l.items[i], &l.items[i + 1], (l.n - i) * sizeof *l.items);
        }
    }
    line(&l, "{\"kind\":\"answer\",\"method\":\"dpo\",\"point\":{},\"index\":3,\"prompt\":\"What?\",\"response\":null,"
             "\"finish_reason\":\"error\",\"n_tokens\":0,\"rewards\":{\"a\":null}}");
    const char *folder = folder_of(&l, "unanswered");
    write_report(folder);
    read_file(&md, folder, "tables.md");
    read_file(&page, folder, "report.html");
    CHECK("Answers", "DPO", "answers", 3);
    CHECK("Answers", "DPO", "words", 2);
    CHECK("Answers", "DPO", "tokens", 5);
    CHECK("Answers", "DPO", "finished, %", 100);
    CHECK("Answers", "DPO", "distinct 1", 3.0 / 6);
    CHECK("Answers", "Base", "answers", 4);
    assert_non_null(strstr(page.data, "DPO: 3 of 4 answers."));
    assert_null(strstr(page.data, "(empty)"));
    buf_deinit(&md);
    buf_deinit(&page);
}

static void test_intervals_enclose_means_and_only_the_best_apart_is_bold(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf md;
    double low, value, high;
    experiment(&l);
    const char *folder = folder_of(&l, "bold");
    write_report(folder);
    read_file(&md, folder, "tables.md");
    /* a: 1.15 of GenARM is beyond all that DPO (0.65) can be; the other point of its own sweep does not matter. */
    const char *cell = table_cell(md.data, "Main findings", "GenARM h=1, s=0", "a");
    assert_int_equal(sscanf(cell, "**%lf** [%lf, %lf]", &value, &low, &high), 3);
    assert_true(low <= value && value <= high && low >= 1 && high <= 1.3 && high > low);
    assert_null(strstr(table_cell(md.data, "Main findings", "DPO", "a"), "**"));
    assert_null(strstr(table_cell(md.data, "Main findings", "GenARM h=0.5, s=0.5", "a"), "**"));
    assert_null(strstr(table_cell(md.data, "Main findings", "DPO", "tokens evaluated per token"), "**")); /* no better there */
    assert_non_null(strstr(md.data, "# Made \\| up"));
    buf_deinit(&md);
}

/* A mean over other preferences than another method's cannot be compared with it. */
static void test_mean_inner_products_are_over_the_preferences_that_all_have(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf md;
    line(&l, "{\"kind\":\"experiment\",\"n_prompts\":4,\"report\":{\"objectives\":{\"a\":\"h\",\"b\":\"s\"}},"
             "\"rewards\":[\"a\",\"b\",\"base\"],\"methods\":[{\"name\":\"base\",\"label\":\"Base\",\"points\":[{}]},"
             "{\"name\":\"arm\",\"label\":\"GenARM\",\"points\":[{\"h\":1,\"s\":0},{\"h\":0.5,\"s\":0.5}]},"
             "{\"name\":\"dpo\",\"label\":\"MORL\",\"points\":[{\"h\":2,\"s\":2}]}]}");
    answers(&l, "base", "{}", base_a, base_b, 0, 0);
    answers(&l, "arm", "{\"h\":1,\"s\":0}", first_a, first_b, 3, 20);
    answers(&l, "arm", "{\"h\":0.5,\"s\":0.5}", second_a, second_b, 4, 20);
    answers(&l, "dpo", "{\"h\":2,\"s\":2}", dpo_a, dpo_b, 7, 0);
    const char *folder = folder_of(&l, "shared");
    write_report(folder);
    read_file(&md, folder, "tables.md");
    CHECK("Trade-offs", "GenARM", "MIP", (mean(second_a) + mean(second_b)) / 2);
    CHECK("Trade-offs", "MORL", "MIP", (mean(dpo_a) + mean(dpo_b)) / 2);
    CHECK("Trade-offs", "GenARM", "points", 2);
    assert_non_null(strstr(md.data, "over the preferences that all methods with weights have"));
    buf_deinit(&md);
}

static void test_the_order_of_lines_does_not_matter(void **state) {
    (void)state;
    struct lines l = {0}, reversed = {0};
    struct buf a, b;
    experiment(&l);
    for (size_t i = 0; i < l.n; i++) {
        line(&reversed, "%s", l.items[i == 0 ? 0 : l.n - i]);
    }
    const char *straight = folder_of(&l, "straight");
    write_report(straight);
    const char *other = folder_of(&reversed, "reversed");
    write_report(other);
    read_file(&a, straight, "tables.md");
    read_file(&b, other, "tables.md");
    assert_string_equal(a.data, b.data);
    buf_deinit(&a);
    buf_deinit(&b);
}

/* ---- pages ---- */

static size_t count(const char *text, const char *part) {
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) {
        n++;
    }
    return n;
}

static void assert_whole(const char *page) {
    static const char *const tags[][2] = {{"<svg", "</svg>"},         {"<section", "</section>"}, {"<table", "</table>"},
                                          {"<tr", "</tr>"},           {"<text", "</text>"},       {"<figure ", "</figure>"},
                                          {"<div", "</div>"},         {"<article", "</article>"}, {"<ul", "</ul>"},
                                          {"<desc", "</desc>"},       {"<h2", "</h2>"},           {"<h3", "</h3>"}};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (count(page, tags[i][0]) != count(page, tags[i][1])) {
            fail_msg("%zu %s, %zu %s", count(page, tags[i][0]), tags[i][0], count(page, tags[i][1]), tags[i][1]);
        }
    }
    assert_true(utf8_valid(page, strlen(page)));
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http://fonts"));
    assert_null(strstr(page, " src="));
}

static void test_a_page_stands_alone_and_has_all_parts(void **state) {
    (void)state;
    static const char *const ids[] = {"findings", "figures", "tables", "examples", "run", "numbers"};
    static const char *const figures[] = {"front-1-b", "judge-1-j", "kl-1-a", "kl-2-b", "cost-1-a", "cost-2-b", "calibration"};
    struct lines l = {0};
    struct buf page;
    experiment(&l);
    const char *folder = folder_of(&l, "page");
    write_report(folder);
    read_file(&page, folder, "report.html");
    assert_whole(page.data);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char id[64], link[64];
        snprintf(id, sizeof id, "id=\"%s\"", ids[i]);
        snprintf(link, sizeof link, "href=\"#%s\"", ids[i]);
        assert_int_equal(count(page.data, id), 1);
        assert_int_equal(count(page.data, link), 1);
    }
    assert_non_null(strstr(page.data, "By &lt;hand&gt;."));
    assert_non_null(strstr(page.data, "genarm 0</th><td>2 files: &lt;A&gt;</td>"));
    assert_non_null(strstr(page.data, "not recorded</th><td>7 files</td>"));
    assert_non_null(strstr(page.data, "prefers-color-scheme:dark"));
    assert_int_equal(count(page.data, "<figure "), sizeof figures / sizeof *figures);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        char name[64], id[64];
        struct buf svg;
        snprintf(name, sizeof name, "figures/%s.svg", figures[i]);
        snprintf(id, sizeof id, "<title id=\"%s-t\">", figures[i]);
        read_file(&svg, folder, name);
        assert_int_equal(count(page.data, id), 1);
        assert_int_equal(count(svg.data, "<svg"), 2); /* the chart on its paper */
        assert_int_equal(count(svg.data, "</svg>"), 2);
        assert_non_null(strstr(svg.data, "class=\"paper\""));
        buf_deinit(&svg);
    }
    buf_deinit(&page);
}

static void test_nothing_an_answer_or_a_name_holds_gets_out_of_its_place(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf page, md;
    line(&l, "{\"kind\":\"experiment\",\"title\":\"</title><script>1</script>\",\"about\":\"<img alt=x>\",\"n_prompts\":2,"
             "\"methods\":[{\"name\":\"m\",\"label\":\"<b>\\\"|\\n\"},{\"name\":\"n\",\"label\":\"--> ]]> &amp;\"}],"
             "\"rewards\":[\"</svg><script>\"],\"judges\":[],\"machine\":{\"<i>\":{\"x\":\"</td>\"}}}");
    for (int i = 0; i < 4; i++) {
        line(&l,
             "{\"kind\":\"answer\",\"method\":\"%s\",\"point\":{},\"index\":%d,\"prompt\":\"</div></main>\",\"response\":"
             "\"</script><script>alert(1)</script>\xFF\xC3(\\u0000\\u0007\\nnext\",\"n_tokens\":3,\"evaluated\":{\"base\":%d},"
             "\"rewards\":{\"</svg><script>\":%d}}",
             i < 2 ? "m" : "n", i % 2, 4 + i, i);
    }
    const char *folder = folder_of(&l, "hostile");
    write_report(folder);
    read_file(&page, folder, "report.html");
    assert_whole(page.data);
    assert_int_equal(count(page.data, "</main>"), 1);
    assert_int_equal(count(page.data, "<b>&quot;"), 0);
    assert_null(strstr(page.data, "<img"));
    assert_non_null(strstr(page.data, "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;\xEF\xBF\xBD"));
    assert_non_null(strstr(page.data, "\nnext</div>")); /* a line end of an answer is one of the page */
    read_file(&md, folder, "tables.md");
    assert_true(utf8_valid(md.data, md.len));
    assert_null(strstr(md.data, "\n<script"));
    assert_non_null(strstr(md.data, "\\<b\\>\"\\|  |")); /* a bar in a name is no column */
    buf_deinit(&page);
    buf_deinit(&md);
}

static void check_pages(const char *folder) {
    struct buf page, md;
    write_report(folder);
    read_file(&page, folder, "report.html");
    read_file(&md, folder, "tables.md");
    assert_whole(page.data);
    assert_non_null(strstr(md.data, "## Main findings"));
    assert_null(strstr(md.data, "nan"));
    buf_deinit(&page);
    buf_deinit(&md);
}

static void test_results_may_lack_anything(void **state) {
    (void)state;
    static const char *const heads[] = {
        "{\"kind\":\"experiment\"}",
        "{\"kind\":\"experiment\",\"n_prompts\":3}",
        "{\"kind\":\"experiment\",\"n_prompts\":0,\"methods\":[{\"name\":\"m\"}],\"rewards\":[\"r\"]}",
        "{\"kind\":\"experiment\",\"n_prompts\":3,\"methods\":[{\"name\":\"m\"}],\"rewards\":[],\"judges\":[{\"name\":\"j\"}]}",
        "{\"kind\":\"experiment\",\"n_prompts\":2,\"methods\":[{\"name\":\"m\",\"points\":[{\"a\":1},{\"a\":2}]}],"
        "\"rewards\":[\"r\"],"
        "\"report\":{\"objectives\":{\"r\":\"a\",\"none\":\"b\"},\"reference\":\"nobody\",\"kl\":\"nothing\","
        "\"gap\":{\"from\":\"m\","
        "\"to\":\"x\",\"reward\":\"r\"}}}",
        "{\"kind\":\"experiment\",\"n_prompts\":2,\"report\":[1],\"methods\":[],\"machine\":7}"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct lines l = {0};
        char name[32];
        snprintf(name, sizeof name, "lacks-%zu", i);
        line(&l, "%s", heads[i]);
        check_pages(folder_of(&l, name));
    }
}

static void test_answers_without_a_reward_are_left_out_of_its_mean(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf md, page;
    line(&l, "{\"kind\":\"experiment\",\"n_prompts\":4,\"methods\":[{\"name\":\"m\"},{\"name\":\"none\"}],"
             "\"rewards\":[\"r\",\"q\"]}");
    for (int i = 0; i < 3; i++) {
        line(&l, "{\"kind\":\"answer\",\"method\":\"m\",\"point\":{},\"index\":%d,\"response\":\"x\","
                 "\"rewards\":{\"r\":%s,\"q\":null}}",
             i, i == 0 ? "null" : i == 1 ? "2" : "4");
    }
    const char *folder = folder_of(&l, "nulls");
    check_pages(folder);
    read_file(&md, folder, "tables.md");
    read_file(&page, folder, "report.html");
    CHECK("Main findings", "m", "r", 3);
    assert_string_equal(table_cell(md.data, "Main findings", "m", "q"), "\xE2\x80\x93");
    assert_string_equal(table_cell(md.data, "Main findings", "none", "r"), "\xE2\x80\x93");
    assert_non_null(strstr(page.data, "m: 3 of 4 answers."));
    assert_non_null(strstr(page.data, "none: 0 of 4 answers."));
    buf_deinit(&md);
    buf_deinit(&page);
}

/* ---- sweeps and files ---- */

static void test_a_sweep_of_one_variable_is_a_line(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf svg;
    line(&l, "{\"kind\":\"experiment\",\"n_prompts\":2,\"methods\":[{\"name\":\"m\",\"points\":[{\"a\":1},{\"a\":2},"
             "{\"a\":4}]},"
             "{\"name\":\"n\"}],\"rewards\":[\"r\"]}");
    for (int i = 0; i < 6; i++) {
        line(&l, "{\"kind\":\"answer\",\"method\":\"m\",\"point\":{\"a\":%d},\"index\":%d,\"response\":\"x\","
                 "\"rewards\":{\"r\":%d}}",
             1 << i / 2, i % 2, i);
    }
    const char *folder = folder_of(&l, "sweep");
    check_pages(folder);
    read_file(&svg, folder, "figures/sweep-1-1-r.svg");
    assert_int_equal(count(svg.data, "class=\"dot "), 3 + 1); /* and one in the legend */
    assert_int_equal(count(svg.data, "class=\"line s0\""), 2);
    assert_int_equal(count(svg.data, "class=\"whisker s0\""), 3);
    buf_deinit(&svg);
}

static bool exists(const char *folder, const char *name) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_exists(path);
}

static void test_figures_of_an_earlier_report_go_and_other_files_stay(void **state) {
    (void)state;
    struct lines l = {0};
    char path[400];
    experiment(&l);
    const char *folder = folder_of(&l, "again");
    write_report(folder);
    assert_true(exists(folder, "figures/judge-1-j.svg"));
    snprintf(path, sizeof path, "%s/figures/mine.svg", folder);
    assert_int_equal(file_write(path, "x", 1, NULL), GENARM_OK);
    snprintf(path, sizeof path, "%s/figures/judge-1-j.png", folder);
    assert_int_equal(file_write(path, "x", 1, NULL), GENARM_OK);
    write_report(folder);
    assert_true(exists(folder, "figures/judge-1-j.svg") && !exists(folder, "figures/judge-1-j.png")); /* of the svg before */
    line(&l, "{\"kind\":\"experiment\"}");
    assert_string_equal(folder_of(&l, "again"), folder);
    write_report(folder);
    assert_false(exists(folder, "figures/judge-1-j.svg") || exists(folder, "figures/calibration.svg"));
    assert_true(exists(folder, "figures/mine.svg"));
}

/* Of a few pairs a share is 0 or 1: two between the others are no points of their own. */
static void test_calibration_shows_no_bins_of_a_few_pairs(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf svg;
    experiment(&l);
    for (int i = 4; i < 52; i++) {
        line(&l, "{\"kind\":\"pair\",\"name\":\"held out\",\"data\":\"d\",\"scale\":0.5,\"index\":%d,"
                 "\"chosen\":%g,\"rejected\":0}", i, i < 12 ? 0.4 : 16.0);
    }
    const char *folder = folder_of(&l, "few");
    write_report(folder);
    read_file(&svg, folder, "figures/calibration.svg");
    assert_int_equal(count(svg.data, "whisker"), 2 + count(svg.data, ".whisker"));
    buf_deinit(&svg);
}

static void test_a_broken_file_leaves_the_report_as_it_was(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf before, after;
    struct genarm_error err = {0};
    experiment(&l);
    const char *folder = folder_of(&l, "broken");
    write_report(folder);
    read_file(&before, folder, "report.html");
    line(&l, "{\"kind\":\"experiment\"}");
    line(&l, "{");
    folder_of(&l, "broken");
    assert_int_equal(eval_report_write(folder, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.where, "results.jsonl:2"));
    read_file(&after, folder, "report.html");
    assert_string_equal(before.data, after.data);
    buf_deinit(&before);
    buf_deinit(&after);
}

static int n_files(const char *folder, const char *ending) {
    char path[400];
    int n = 0;
    snprintf(path, sizeof path, "%s/figures", folder);
    DIR *dir = opendir(path);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        const char *end = strrchr(e->d_name, '.');
        n += end && strcmp(end, ending) == 0;
    }
    closedir(dir);
    return n;
}

static void test_figures_become_png_where_the_program_is_installed(void **state) {
    (void)state;
    struct lines l = {0};
    struct buf png;
    int made = -1;
    experiment(&l);
    const char *folder = folder_of(&l, "png");
    write_report(folder);

    const char *old = getenv("PATH");
    char *kept = old ? strdup(old) : NULL;
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(eval_report_png(&made, folder, NULL), GENARM_OK);
    assert_int_equal(made, 0);
    assert_int_equal(n_files(folder, ".png"), 0);
    assert_int_equal(kept ? setenv("PATH", kept, 1) : unsetenv("PATH"), 0);
    free(kept);

    assert_int_equal(eval_report_png(&made, folder, NULL), GENARM_OK);
    if (made == 0) {
        skip(); /* rsvg-convert is not installed */
    }
    assert_int_equal(made, n_files(folder, ".svg"));
    assert_int_equal(n_files(folder, ".png"), made);
    read_file(&png, folder, "figures/front-1-b.png");
    assert_true(png.len > 2000);
    assert_memory_equal(png.data, "\x89PNG", 4);
    buf_deinit(&png);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_have_the_numbers_that_are_computed_by_hand),
        cmocka_unit_test(test_prompts_without_an_answer_are_left_out_and_told),
        cmocka_unit_test(test_intervals_enclose_means_and_only_the_best_apart_is_bold),
        cmocka_unit_test(test_mean_inner_products_are_over_the_preferences_that_all_have),
        cmocka_unit_test(test_the_order_of_lines_does_not_matter),
        cmocka_unit_test(test_a_page_stands_alone_and_has_all_parts),
        cmocka_unit_test(test_nothing_an_answer_or_a_name_holds_gets_out_of_its_place),
        cmocka_unit_test(test_results_may_lack_anything),
        cmocka_unit_test(test_answers_without_a_reward_are_left_out_of_its_mean),
        cmocka_unit_test(test_a_sweep_of_one_variable_is_a_line),
        cmocka_unit_test(test_figures_of_an_earlier_report_go_and_other_files_stay),
        cmocka_unit_test(test_calibration_shows_no_bins_of_a_few_pairs),
        cmocka_unit_test(test_a_broken_file_leaves_the_report_as_it_was),
        cmocka_unit_test(test_figures_become_png_where_the_program_is_installed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
