/* Stop texts: found wherever tokens cut them, and never shown in part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "genarm/stop.h"

/* The text that is shown when it comes in the pieces that `cuts` (bits) make; *which as in genarm_stop_find. What was shown once
 * is never taken back. */
static size_t shown(const struct genarm_stop *s, const char *text, unsigned cuts, int32_t *which) {
    const size_t n = strlen(text);
    size_t before = 0, kept = 0;
    *which = -1;
    for (size_t at = 1; at <= n && *which < 0; at++) {
        if (at == n || cuts >> (at - 1) & 1) {
            const size_t now = genarm_stop_find(s, text, at, before, which);
            assert_true(now >= kept && now <= at);
            kept = now;
            before = at;
        }
    }
    return kept;
}

static void test_what_is_found_does_not_depend_on_the_pieces(void **state) {
    (void)state;
    static const struct {
        const char *texts[3], *text, *shown;
        int32_t which;
    } cases[] = {
        {{"###"}, "one ### two", "one ", 0},
        {{"###"}, "one ## two", "one ## two", -1},
        {{"###"}, "one ##", "one ", -1},        /* may still become one */
        {{"abcd", "bc"}, "xabcd", "xa", 1},     /* complete first */
        {{"c", "abc"}, "xabc", "x", 1},         /* together: the longest */
        {{"aab"}, "aaaab", "aa", 0},
        {{"abab!"}, "ababab!", "ab", 0},
        {{"abab!"}, "xababab", "xab", -1},
        {{"\xC3\xA9t"}, "d\xC3\xA9\xC3\xA9to", "d\xC3\xA9", 0},
        {{"x", "x"}, "ax", "a", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_stop *s;
        size_t n = 0;
        while (n < 3 && cases[i].texts[n]) {
            n++;
        }
        assert_int_equal(genarm_stop_new(&s, cases[i].texts, n, NULL), GENARM_OK);
        for (unsigned cuts = 0; cuts < 1u << strlen(cases[i].text); cuts++) {
            int32_t which;
            assert_int_equal(shown(s, cases[i].text, cuts, &which), strlen(cases[i].shown));
            assert_int_equal(which, cases[i].which);
        }
        if (cases[i].which >= 0) {
            assert_string_equal(genarm_stop_text(s, cases[i].which), cases[i].texts[cases[i].which]);
        }
        genarm_stop_free(s);
    }
}

/* The definition, byte by byte. */
static size_t slowly(const char *const *texts, size_t n_texts, const char *text, int32_t *which) {
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_texts; i++) {
            const size_t n = strlen(texts[i]);
            if (n <= end && n > longest && memcmp(text + end - n, texts[i], n) == 0) {
                longest = n;
                *which = (int32_t)i;
            }
        }
        if (longest) {
            return end - longest;
        }
    }
    *which = -1;
    return strlen(text);
}

static void test_random_texts_stop_where_the_definition_says(void **state) {
    (void)state;
    static const char *const texts[] = {"aba", "bb", "abbaa"};
    struct genarm_stop *s;
    struct rng rng;
    assert_int_equal(genarm_stop_new(&s, texts, 3, NULL), GENARM_OK);
    rng_seed(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        char text[12] = "";
        int32_t which, expected;
        for (size_t i = 0; i < 11; i++) {
            text[i] = "aaabbc"[(int)(rng_uniform(&rng) * 6)];
        }
        const size_t want = slowly(texts, 3, text, &expected);
        const size_t got = shown(s, text, (unsigned)(rng_uniform(&rng) * 2048), &which);
        assert_int_equal(which, expected);
        assert_true(which < 0 ? got <= want : got == want);
    }
    genarm_stop_free(s);
}

static void test_no_stop_texts_stop_nothing_and_bad_ones_are_refused(void **state) {
    (void)state;
    struct genarm_stop *s = NULL;
    struct genarm_error err = {0};
    int32_t which;
    assert_int_equal(genarm_stop_find(NULL, "text", 4, 0, &which), 4);
    assert_int_equal(which, -1);
    assert_int_equal(genarm_stop_new(&s, NULL, 0, &err), GENARM_OK);
    assert_int_equal(genarm_stop_find(s, "text", 4, 0, &which), 4);
    genarm_stop_free(s);
    s = NULL;
    assert_int_equal(genarm_stop_new(&s, (const char *[]){"a", ""}, 2, &err), GENARM_EINVAL);
    assert_int_equal(genarm_stop_new(&s, (const char *[]){"\xFF"}, 1, &err), GENARM_EINVAL);
    assert_null(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_found_does_not_depend_on_the_pieces),
        cmocka_unit_test(test_random_texts_stop_where_the_definition_says),
        cmocka_unit_test(test_no_stop_texts_stop_nothing_and_bad_ones_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
