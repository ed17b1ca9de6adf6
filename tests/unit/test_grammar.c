/* Grammars: what their notation means, what is wrong with a bad one, and, on random walks, that exactly the tokens are allowed that
 * libllama's grammar sampler allows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "guide/gbnf.h"
#include "guide/grammar.h"
#include "model/model.h"
#include "support/golden.h"

static int setup(void **state) {
    *state = golden_model("llama.gguf");
    return 0;
}

static int teardown(void **state) {
    genarm_model_free(*state);
    return 0;
}

static struct genarm_grammar *make(const struct genarm_model *m, const char *text) {
    struct genarm_grammar *g;
    struct genarm_error err = {0};
    must(genarm_grammar_new(&g, m, text, &err), &err);
    return g;
}

static bool has(const uint8_t *mask, int32_t token) { return mask[token / 8] >> (token % 8) & 1; }

/* The one token that is this byte, in a vocabulary with byte tokens. */
static int32_t byte_token(const struct genarm_model *m, uint8_t byte) {
    char bytes[8];
    for (int32_t t = 0; t < m->hp.n_vocab; t++) {
        if (genarm_token_bytes(m, t, false, bytes, sizeof bytes) == 1 && (uint8_t)bytes[0] == byte) {
            return t;
        }
    }
    return -1;
}

/* 2: the text is whole; 1: the start of one; 0: neither. */
static int accepts(const struct genarm_model *m, const char *grammar, const char *text) {
    struct genarm_grammar *g = make(m, grammar);
    const uint8_t *mask;
    struct genarm_error err = {0};
    int32_t state = GRAMMAR_START;
    int rc = GENARM_OK;
    for (const char *c = text; *c && rc == GENARM_OK; c++) {
        const int32_t token = byte_token(m, (uint8_t)*c);
        assert_true(token >= 0);
        must(grammar_allowed(g, state, &mask, &err), &err);
        const bool allowed = has(mask, token);
        rc = grammar_advance(g, &state, token, &err);
        assert_int_equal(allowed, rc == GENARM_OK); /* the mask says what advancing does */
    }
    int result = 0;
    if (rc == GENARM_OK) {
        must(grammar_allowed(g, state, &mask, &err), &err);
        result = has(mask, genarm_token_eos(m)) ? 2 : 1;
    }
    genarm_grammar_free(g);
    return result;
}

static void test_the_notation_means_what_it_says(void **state) {
    static const struct {
        const char *grammar, *text;
        int want;
    } cases[] = {
        {"root ::= \"yes\" | \"no\"", "yes", 2},
        {"root ::= \"yes\" | \"no\"", "ye", 1},
        {"root ::= \"yes\" | \"no\"", "yo", 0},
        {"root ::= \"yes\" | \"no\"", "yess", 0},
        {"root ::= [a-c]* # a comment\n", "", 2},
        {"root ::= [a-c]+", "", 1},
        {"root ::= [a-c]+", "abcabc", 2},
        {"root ::= [^a-c] [\\x41-\\x43]", "dB", 2},
        {"root ::= [^a-c]", "b", 0},
        {"root ::= [a-]", "-", 2},
        {"root ::= [\\]\\-x]{2}", "]-", 2},
        {"root ::= \"a\"{2,3} \"b\"?", "aab", 2},
        {"root ::= \"a\"{2,3} \"b\"?", "aaab", 2},
        {"root ::= \"a\"{2,3} \"b\"?", "aaaa", 0},
        {"root ::= \"ab\"{2,}", "abab", 2},
        {"root ::= \"ab\"{2,}", "ab", 1},
        {"root ::= \"ab\"{0} \"c\"", "c", 2},
        {"root ::= (\"a\" | \"b\" \"c\")* \"d\"", "abcad", 2},
        {"root ::= (\"a\"?)* \"d\"", "aad", 2},
        {"root ::= item (\",\" item)*\nitem ::= [0-9]+", "12,3", 2},
        {"root ::= item (\",\" item)*\nitem ::= [0-9]+", "12,", 1},
        {"root ::= \"(\" root \")\" |", "((()))", 2},
        {"root ::= \"(\" root \")\" |", "((", 1},
        {"root ::= \"(\" root \")\" |", "())", 0},
        {"root ::= [\xC3\xA0-\xC3\xBF]", "\xC3\xA9", 2},     /* é */
        {"root ::= [\xC3\xA0-\xC3\xBF]", "\xC3", 1},
        {"root ::= [\xC3\xA0-\xC3\xBF]", "\xC2", 0},         /* nothing from U+E0 on starts so */
        {"root ::= [\\u4E00-\\u9FFF] .", "\xE4\xB8\xAD\xF0\x9F\x98\x80", 2},
        {"root ::= .", "\xE0\x80", 0},                       /* an overlong form */
        {"root ::= .", "\xED\xA0", 0},                       /* a surrogate */
        {"root ::= [^\\n]", "\xF4\x90", 0},                  /* beyond Unicode */
        {"root ::= a_b _c\na_b ::= \"x\"\n_c ::= \"y\"", "xy", 2},
        {"root ::=\n  a |\n  b\n\n# between\na ::= (\n \"x\"\n)\r\nb ::= \"y\"", "y", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (accepts(*state, cases[i].grammar, cases[i].text) != cases[i].want) {
            fail_msg("case %zu: %s on %s", i, cases[i].grammar, cases[i].text);
        }
    }
}

static void test_what_is_wrong_with_a_grammar_is_said_with_its_place(void **state) {
    static const struct {
        const char *grammar, *says;
    } cases[] = {
        {"", "line 1, column 1 of the grammar: no rule is called \"root\""},
        {"a ::= \"x\"", "no rule is called \"root\""},
        {"root ::= \"x\" thing\n", "line 1, column 14 of the grammar: no rule is called \"thing\""},
        {"root ::= \"x", "line 1, column 10 of the grammar: the literal has no end"},
        {"root ::= [x", "the class has no end"},
        {"root ::= []", "the class has no character"},
        {"root ::= [b-a]", "the range ends before it begins"},
        {"root ::= \"\\q\"", "line 1, column 12 of the grammar: unknown escape"},
        {"root ::= \"\\x4\"", "\\x needs two hexadecimal digits"},
        {"root ::= \"\\uD800\"", "that is no character"},
        {"root ::= (\"x\"", "line 1, column 10 of the grammar: the group has no end"},
        {"root ::= * \"x\"", "there is nothing to repeat"},
        {"root ::= \"x\"{3,2}", "more repetitions at least than at most"},
        {"root ::= \"x\"{", "expected a number of repetitions"},
        {"root ::= \"x\"{1;}", "expected '}'"},
        {"root ::= \"x\"{10001}", "more than 10000 repetitions"},
        {"root = \"x\"", "line 1, column 6 of the grammar: expected ::="},
        {"root ::= \"x\"\nroot ::= \"y\"", "line 2, column 1 of the grammar: the rule is defined twice"},
        {"root ::= \"x\" )", "expected an item, '|' or the end of the line"},
        {"root ::= <think>", "are not supported"},
        {"root ::= root \"x\" | \"y\"", "left recursion"},
        {"root ::= a \"x\" | \"y\"\na ::= b? root\nb ::= \"z\"", "left recursion"},
        {"root ::= root", "the grammar allows nothing"},
        {"root ::= \"\xFF\"", "not UTF-8"},
        {"\n\n  ::= \"x\"", "line 3, column 3 of the grammar: expected the name of a rule"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_grammar *g = NULL;
        struct genarm_error err = {0};
        assert_int_equal(genarm_grammar_new(&g, *state, cases[i].grammar, &err), GENARM_EFORMAT);
        assert_null(g);
        if (!strstr(err.what, cases[i].says)) {
            fail_msg("case %zu says: %s", i, err.what);
        }
    }
}

static void test_deep_and_huge_grammars_are_refused_not_died_of(void **state) {
    enum { N = 100000 };
    char *deep = calloc(N + 20, 1);
    struct genarm_grammar *g = NULL;
    struct genarm_error err = {0};
    strcpy(deep, "root ::= ");
    memset(deep + strlen(deep), '(', N);
    assert_int_equal(genarm_grammar_new(&g, *state, deep, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "nested too deeply"));
    free(deep);
    const char *huge = "root ::= (((\"x\"{10000} \"y\"){10000} \"z\"){10000} [a-z]{0,10000}){0,10000}";
    must(genarm_grammar_new(&g, *state, huge, &err), &err); /* repetitions of groups do not multiply */
    const uint8_t *mask;
    must(grammar_allowed(g, GRAMMAR_START, &mask, &err), &err);
    assert_true(has(mask, byte_token(*state, 'x')));
    assert_false(has(mask, byte_token(*state, 'y')));
    genarm_grammar_free(g);
    const char *ambiguous = "root ::= a{9000}\na ::= b{9000}\nb ::= \"x\"?";
    assert_int_equal(genarm_grammar_new(&g, *state, ambiguous, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "too many ways"));
}

/* Rules that each call the next one, before it or after it is defined. */
static void test_many_rules_are_read_at_once(void **state) {
    enum { N = 100000 };
    char *text = calloc(N + 2, 40);
    for (int forward = 0; forward < 2; forward++) {
        char *at = text + sprintf(text, "root ::= r%d\n", forward ? 0 : N - 1);
        for (int i = 0; i < N; i++) {
            const int next = forward ? i + 1 : i - 1;
            at += next >= 0 && next < N ? sprintf(at, "r%d ::= r%d\n", i, next) : sprintf(at, "r%d ::= \"x\"?\n", i);
        }
        struct gbnf g;
        struct genarm_error err = {0};
        bool endless = true;
        must(gbnf_parse(&g, text, &err), &err);
        must(gbnf_endless(&g, &endless, &err), &err);
        assert_false(endless);
        assert_int_equal(g.n_rules, N + 2);
        gbnf_deinit(&g);
        struct genarm_grammar *grammar = make(*state, text);
        int32_t at_start = GRAMMAR_START;
        must(grammar_advance(grammar, &at_start, byte_token(*state, 'x'), &err), &err);
        genarm_grammar_free(grammar);
    }
    free(text);
}

static void test_a_rule_without_an_end_is_found(void **state) {
    (void)state;
    static const struct {
        const char *grammar;
        bool endless;
    } cases[] = {
        {"root ::= \"x\" root | \"y\"", false},
        {"root ::= \"x\" root | \"y\" root", true},
        {"root ::= \"x\" a a | b\na ::= \"y\" b | \"z\" a\nb ::= \"q\"", false},
        {"root ::= \"x\" a?\na ::= \"y\" b\nb ::= \"q\" a", true},
        {"root ::= \"x\"\na ::= \"y\" a", false}, /* the root does not come to it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gbnf g;
        struct genarm_error err = {0};
        bool endless = !cases[i].endless;
        must(gbnf_parse(&g, cases[i].grammar, &err), &err);
        must(gbnf_endless(&g, &endless, &err), &err);
        assert_int_equal(endless, cases[i].endless);
        gbnf_deinit(&g);
    }
}

/* ---- beside libllama ---- */

static const char json_grammar[] =
    "root   ::= object\n"
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
    "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static const char *const grammars[] = {
    json_grammar,
    "root ::= (expr \"=\" term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" expr \")\"\n"
    "ident ::= [a-z] [a-z0-9_]*\nnum ::= [0-9]+\n",
    "root ::= (\"- \" [^\\n]+ \"\\n\"){2,4}\n",
    "root ::= word (\" \" word){0,9} [.!?]\nword ::= [A-Za-z\xC3\xA0-\xC3\xBF\\u4E00-\\u9FFF]{1,12}\n",
    "root ::= \"a\"* (\"b\" root? \"c\")? | .{3}\n",
};

/* Tokens whose bytes are never UTF-8: libllama takes some of them for the start of a character. Control tokens: it takes their
 * spelling for text. */
static bool is_comparable(const struct genarm_model *m, int32_t token) {
    char bytes[256];
    const int32_t n = genarm_token_bytes(m, token, false, bytes, sizeof bytes);
    for (int32_t i = 0; i < n; i++) {
        const uint8_t b = (uint8_t)bytes[i];
        if (b == 0 || b == 0xC0 || b == 0xC1 || b > 0xF4) {
            return false;
        }
    }
    return n > 0 || genarm_token_ends(m, token);
}

static bool ends_inside_a_character(const struct genarm_model *m, int32_t token) {
    char bytes[256];
    const int32_t n = genarm_token_bytes(m, token, false, bytes, sizeof bytes);
    return n > 0 && (uint8_t)bytes[n - 1] >= 0x80;
}

/* One answer, as long as it goes. Returns how many tokens it had. */
static int walk(const struct genarm_model *m, const char *text, uint64_t seed) {
    struct genarm_grammar *g = make(m, text);
    struct llama_sampler *theirs = llama_sampler_init_grammar(m->vocab, text, "root");
    assert_non_null(theirs);
    const int32_t n_vocab = m->hp.n_vocab;
    llama_token_data *data = calloc((size_t)n_vocab, sizeof *data);
    struct rng rng;
    struct genarm_error err = {0};
    int32_t state = GRAMMAR_START;
    int n = 0;
    rng_seed(&rng, seed);
    for (bool ended = false; !ended && n < 60; n++) {
        const uint8_t *mask;
        int32_t chosen = -1, n_allowed = 0;
        must(grammar_allowed(g, state, &mask, &err), &err);
        for (int32_t t = 0; t < n_vocab; t++) {
            data[t] = (llama_token_data){.id = t};
        }
        llama_token_data_array all = {data, (size_t)n_vocab, -1, false};
        llama_sampler_apply(theirs, &all);
        for (int32_t t = 0; t < n_vocab; t++) {
            if (is_comparable(m, t)) {
                assert_int_equal(has(mask, t), !isinf(data[t].logit));
            }
            if (has(mask, t) && !ends_inside_a_character(m, t) && rng_uniform(&rng) * ++n_allowed < 1.0) {
                chosen = t;
            }
        }
        if (chosen < 0) {
            break;
        }
        must(grammar_advance(g, &state, chosen, &err), &err);
        llama_sampler_accept(theirs, chosen);
        ended = genarm_token_ends(m, chosen);
    }
    free(data);
    llama_sampler_free(theirs);
    genarm_grammar_free(g);
    return n;
}

static void test_what_is_allowed_is_what_libllama_allows(void **state) {
    int n = 0;
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++) {
        for (uint64_t seed = 0; seed < 8; seed++) {
            n += walk(*state, grammars[i], seed);
        }
    }
    assert_true(n > 500);
}

static void test_a_grammar_ends_only_where_it_is_complete(void **state) {
    const struct genarm_model *m = *state;
    struct genarm_grammar *g = make(m, "root ::= \"ab\"");
    struct genarm_error err = {0};
    int32_t at = GRAMMAR_START;
    assert_int_equal(grammar_advance(g, &at, genarm_token_eos(m), &err), GENARM_EINVAL);
    must(grammar_advance(g, &at, byte_token(m, 'a'), &err), &err);
    const int32_t before = at;
    assert_int_equal(grammar_advance(g, &at, byte_token(m, 'c'), &err), GENARM_EINVAL);
    assert_int_equal(at, before); /* a failure changes nothing */
    must(grammar_advance(g, &at, byte_token(m, 'b'), &err), &err);
    const uint8_t *mask;
    must(grammar_allowed(g, at, &mask, &err), &err);
    for (int32_t t = 0; t < m->hp.n_vocab; t++) {
        assert_int_equal(has(mask, t), genarm_token_ends(m, t));
    }
    must(grammar_advance(g, &at, genarm_token_eos(m), &err), &err);
    genarm_grammar_free(g);
}

/* "a" root "a" | ... | "z" root "z" | "." */
static char *palindromes(void) {
    char *text = calloc(1, 1000), *at = text + sprintf(text, "root ::= \".\"");
    for (char c = 'a'; c <= 'z'; c++) {
        at += sprintf(at, " | \"%c\" root \"%c\"", c, c);
    }
    return text;
}

/* An answer of random tokens, each of which is allowed by what a fresh grammar allows; begins anew where the grammar is full. */
static int answer_again(const struct genarm_model *m, struct genarm_grammar *g, const char *text, struct rng *rng) {
    struct genarm_grammar *fresh = make(m, text);
    const size_t n_bytes = (size_t)m->hp.n_vocab / 8 + 1;
    int32_t tokens[40], state = GRAMMAR_START, fresh_state = GRAMMAR_START;
    int n_restarts = 0;
    struct genarm_error err = {0};
    for (int n = 0; n < 40; n++) {
        const uint8_t *mask, *want;
        int rc;
        while ((rc = grammar_allowed(g, state, &mask, &err)) == GRAMMAR_FULL) {
            grammar_restart(g);
            assert_true(++n_restarts < 3);
            state = GRAMMAR_START;
            for (int i = 0; i < n; i++) {
                must(grammar_advance(g, &state, tokens[i], &err), &err);
            }
        }
        must(rc, &err);
        must(grammar_allowed(fresh, fresh_state, &want, &err), &err);
        assert_memory_equal(mask, want, n_bytes);
        int32_t n_allowed = 0;
        for (int32_t t = 0; t < m->hp.n_vocab; t++) {
            if (has(mask, t) && (t == byte_token(m, '.') ? n > 18 : rng_uniform(rng) * ++n_allowed < 1.0)) {
                tokens[n] = t;
            }
        }
        must(grammar_advance(fresh, &fresh_state, tokens[n], &err), &err);
        rc = grammar_advance(g, &state, tokens[n], &err);
        assert_true(rc == GENARM_OK || rc == GRAMMAR_FULL);
        if (rc == GRAMMAR_FULL || genarm_token_ends(m, tokens[n])) {
            break;
        }
    }
    genarm_grammar_free(fresh);
    return n_restarts;
}

static void test_a_grammar_that_is_full_begins_anew(void **state) {
    char *text = palindromes();
    struct genarm_grammar *g = make(*state, text);
    struct rng rng;
    int n_restarts = 0;
    rng_seed(&rng, 5);
    for (int i = 0; i < 60; i++) {
        n_restarts += answer_again(*state, g, text, &rng);
    }
    assert_true(n_restarts > 1);
    assert_int_equal(grammar_generation(g), n_restarts);
    genarm_grammar_free(g);
    free(text);
}

static void test_grammars_of_a_model_share_its_sorted_vocabulary(void **state) {
    const struct genarm_model *m = *state;
    struct genarm_grammar *first = make(m, "root ::= \"a\"");
    const struct words *words = m->words, *again;
    struct genarm_error err = {0};
    genarm_grammar_free(first);
    struct genarm_grammar *second = make(m, "root ::= \"b\"");
    assert_non_null(words);
    assert_ptr_equal(m->words, words);
    must(model_words(&again, m, &err), &err);
    assert_ptr_equal(again, words);
    genarm_grammar_free(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_notation_means_what_it_says),
        cmocka_unit_test(test_what_is_wrong_with_a_grammar_is_said_with_its_place),
        cmocka_unit_test(test_deep_and_huge_grammars_are_refused_not_died_of),
        cmocka_unit_test(test_many_rules_are_read_at_once),
        cmocka_unit_test(test_a_rule_without_an_end_is_found),
        cmocka_unit_test(test_what_is_allowed_is_what_libllama_allows),
        cmocka_unit_test(test_a_grammar_ends_only_where_it_is_complete),
        cmocka_unit_test(test_a_grammar_that_is_full_begins_anew),
        cmocka_unit_test(test_grammars_of_a_model_share_its_sorted_vocabulary),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
