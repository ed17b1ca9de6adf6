/* Vocabularies: tokens as libllama makes them, comparison, and files on which libllama would abort. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/model.h"
#include "model/spell.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/spm.h"
#include "support/temp.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";

static struct genarm_model *load(const char *path) {
    struct genarm_model *model = NULL;
    struct genarm_error err;
    must(genarm_model_load(&model, path, NULL, &err), &err);
    return model;
}

static void expect_error(struct edit *e, int code, const char *text) {
    struct genarm_error err = {0};
    struct genarm_model *model = NULL;
    const char *path = edit_save(e, temp_path("bad.gguf"));
    const int rc = genarm_model_load(&model, path, NULL, &err);
    if (rc != code || !strstr(err.what, text)) {
        fail_msg("got %d \"%s\", expected %d \"%s\"", rc, err.what, code, text);
    }
    assert_string_equal(err.where, path);
}

/* Bytes of n tokens as one string. */
static size_t join(const struct genarm_model *m, const int32_t *tokens, int32_t n, bool special, char *out,
                   size_t size) {
    size_t len = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t got = genarm_token_bytes(m, tokens[i], special, out + len, (int32_t)(size - len - 1));
        assert_true(got >= 0);
        len += (size_t)got;
    }
    out[len] = '\0';
    return len;
}

/* ---- tokens ---- */

static void test_text_survives_tokens_and_back(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    struct rng r;
    rng_seed(&r, 1);
    static const char *const texts[] = {"",
                                        "Hello, the World! 12345",
                                        "na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80",
                                        " two  spaces ",
                                        "line\nline\r\n\ttab",
                                        "<|im_end|> is text here"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t tokens[200];
        char back[400];
        const int32_t n = genarm_tokenize(m, texts[i], strlen(texts[i]), false, false, tokens, 200);
        assert_true(n >= 0);
        join(m, tokens, n, false, back, sizeof back);
        assert_string_equal(back, texts[i]);
    }
    genarm_model_free(m);
}

static void test_special_texts_become_tokens_only_when_asked(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    const char *text = "a<|im_end|>";
    int32_t tokens[50];
    char bytes[100];
    int32_t n = genarm_tokenize(m, text, strlen(text), false, true, tokens, 50);
    assert_int_equal(n, 2);
    assert_int_equal(tokens[1], 2);
    assert_int_equal(join(m, tokens, n, false, bytes, sizeof bytes), 1);
    join(m, tokens, n, true, bytes, sizeof bytes);
    assert_string_equal(bytes, text);
    n = genarm_tokenize(m, text, strlen(text), false, false, tokens, 50);
    assert_true(n > 5);
    for (int32_t i = 0; i < n; i++) {
        assert_int_not_equal(tokens[i], 2);
    }
    genarm_model_free(m);
}

static void test_bos_comes_first_where_the_model_wants_one(void **state) {
    (void)state;
    struct genarm_model *with = golden_model("llama.gguf"), *without = golden_model("qwen2.gguf");
    int32_t a[20], b[20];
    const int32_t n = genarm_tokenize(with, "the hen", 7, false, false, a, 20);
    assert_int_equal(genarm_tokenize(with, "the hen", 7, true, false, b, 20), n + 1);
    assert_int_equal(b[0], 0);
    assert_memory_equal(a, b + 1, (size_t)n * sizeof *a);
    assert_int_equal(genarm_tokenize(without, "the hen", 7, true, false, b, 20), n);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    assert_int_equal(genarm_tokenize(with, "", 0, true, false, b, 20), 1);
    assert_int_equal(genarm_tokenize(with, NULL, 0, false, false, b, 20), 0);
    genarm_model_free(with);
    genarm_model_free(without);
}

static void test_too_little_room_gives_the_number_needed(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    int32_t tokens[20];
    const int32_t n = genarm_tokenize(m, "xyzzy", 5, true, false, tokens, 20);
    assert_true(n > 2);
    for (int32_t room = 0; room < n; room++) {
        int32_t small[20] = {0};
        assert_int_equal(genarm_tokenize(m, "xyzzy", 5, true, false, room ? small : NULL, room), -n);
        assert_int_equal(small[room], 0);
    }
    assert_int_equal(genarm_tokenize(m, "xyzzy", 5, true, false, tokens, n), n);
    assert_int_equal(genarm_tokenize(m, "x", (size_t)INT32_MAX + 1, false, false, tokens, 20), INT32_MIN);
    char byte[1];
    assert_int_equal(genarm_token_bytes(m, 2, true, byte, 1), -10); /* <|im_end|> */
    genarm_model_free(m);
}

static size_t at_least(const struct genarm_model *m, const char *text) {
    return vocab_at_least(&m->measure, text, strlen(text));
}

static void assert_spelled(const struct genarm_model *m, const char *text, size_t n_least) {
    struct genarm_error err;
    int32_t *found = NULL, *want = calloc(1000, sizeof *want);
    size_t n = 0;
    const int32_t n_want = genarm_tokenize(m, text, strlen(text), true, false, want, 1000);
    must(spell_tokens(&found, &n, m, text, true, false, &err), &err);
    assert_int_equal(n, n_want);
    assert_true(n >= n_least && n >= at_least(m, text));
    if (n > 0) {
        assert_memory_equal(found, want, n * sizeof *want);
    }
    free(found);
    free(want);
}

static void test_a_text_is_spelled_however_many_tokens_it_has(void **state) {
    (void)state;
    static const char *const names[] = {"llama.gguf", "qwen2.gguf"}; /* with BOS and without */
    for (int i = 0; i < 2; i++) {
        struct genarm_model *m = golden_model(names[i]);
        assert_spelled(m, "", 0);
        assert_spelled(m, "a", 1);
        assert_spelled(m, "the hen and the hat", 2);
        genarm_model_free(m);
    }
    struct edit e;
    size_t n;
    edit_open(&e, spm_model(true));
    char **texts = edit_strings(&e, tokens_key, &n);
    free(texts[285]);
    texts[285] = strdup("filler285"); /* the space: each is the three bytes of its sign then */
    edit_set_strings(&e, tokens_key, texts, n);
    struct genarm_model *m = load(edit_save(&e, temp_path("spaces.gguf")));
    char spaces[101] = {0};
    assert_spelled(m, "a", 1);
    assert_spelled(m, memset(spaces, ' ', 100), 300);
    genarm_model_free(m);
}

/* What a vocabulary has no token for is left out, and control tokens may swallow spaces: neither is counted. */
static void test_a_text_has_as_many_tokens_at_least_as_its_length_tells(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    assert_int_equal(m->measure.longest, strlen("<|endoftext|>"));
    assert_int_equal(at_least(m, "thirteen~byte thirteen~byte "), 2);
    assert_int_equal(at_least(m, "thirteen~byte thirteen~bytes"), 3);
    assert_int_equal(at_least(m, " \n"), 0);
    genarm_model_free(m);
    struct edit e;
    size_t n, i = 0;
    edit_open(&e, golden_path("llama.gguf"));
    char **texts = edit_strings(&e, tokens_key, &n);
    while (strcmp(texts[i], "~") != 0) {
        assert_true(++i < n);
    }
    free(texts[i]);
    texts[i] = strdup("notilde");
    edit_set_strings(&e, tokens_key, texts, n);
    m = load(edit_save(&e, temp_path("no-tilde.gguf")));
    assert_int_equal(at_least(m, "thirteen~byte thirteen~bytes"), 2);
    assert_spelled(m, "~~~~~~~~~~~~~~~~~~~~", 0);
    genarm_model_free(m);
}

static void test_ids_outside_the_vocabulary_are_nothing(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    char bytes[10];
    static const int32_t ids[] = {-1, 301, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(genarm_token_bytes(m, ids[i], true, bytes, 10), 0);
        assert_false(genarm_token_ends(m, ids[i]));
    }
    genarm_model_free(m);
}

static void test_end_of_turn_is_found(void **state) {
    (void)state;
    struct genarm_model *m = golden_model("llama.gguf");
    assert_int_equal(genarm_token_eos(m), 2);
    assert_true(genarm_token_ends(m, 2));
    assert_true(genarm_token_ends(m, 0));
    assert_false(genarm_token_ends(m, 1));
    assert_false(genarm_token_ends(m, 100));
    genarm_model_free(m);
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_u32(e.gguf, "tokenizer.ggml.eos_token_id", 0);
    gguf_set_val_u32(e.gguf, "tokenizer.ggml.eot_token_id", 2); /* Llama 3: a turn ends otherwise than a text */
    m = load(edit_save(&e, temp_path("eot.gguf")));
    assert_int_equal(genarm_token_eos(m), 2);
    assert_true(genarm_token_ends(m, 0) && genarm_token_ends(m, 2));
    genarm_model_free(m);
}

static void test_sentencepiece_vocabularies_work(void **state) {
    (void)state;
    struct genarm_model *m = load(spm_model(true));
    int32_t tokens[50];
    char bytes[100];
    const char *text = "the hat \xF0\x9F\x98\x80!";
    const int32_t n = genarm_tokenize(m, text, strlen(text), true, false, tokens, 50);
    assert_int_equal(tokens[0], 1);
    assert_int_equal(tokens[1], 288); /* one piece: space and "the" */
    join(m, tokens, n, false, bytes, sizeof bytes);
    assert_string_equal(bytes + 1, text); /* after the space that SentencePiece puts before a text */
    assert_int_equal(genarm_token_eos(m), 2);
    genarm_model_free(m);
}

static void test_a_text_that_has_no_tokens_is_an_error_not_an_exception(void **state) {
    (void)state;
    struct genarm_model *m = load(spm_model(false));
    int32_t tokens[50];
    assert_true(genarm_tokenize(m, "the", 3, false, false, tokens, 50) > 0);
    assert_int_equal(genarm_tokenize(m, "\xE2\x82\xAC", 3, false, false, tokens, 50), INT32_MIN);
    genarm_model_free(m);
}

static void test_default_model_speaks_chatml(void **state) {
    (void)state;
    struct genarm_model *m = load(GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf");
    static const char text[] = "<|im_start|>user\nHi there<|im_end|>\n";
    int32_t tokens[50];
    static const int32_t want[] = {1, 4093, 198, 26843, 665, 2, 198};
    assert_int_equal(genarm_tokenize(m, text, sizeof text - 1, true, true, tokens, 50), 7);
    assert_memory_equal(tokens, want, sizeof want);
    assert_int_equal(genarm_token_eos(m), 2);
    genarm_model_free(m);
}

/* ---- comparison ---- */

static void test_equal_vocabularies_are_common_to_the_last_token(void **state) {
    (void)state;
    struct genarm_model *a = golden_model("llama.gguf"), *b = golden_model("qwen2.gguf");
    struct genarm_error err;
    int32_t n = 0;
    must(model_vocab_compare(a, b, &n, &err), &err);
    assert_int_equal(n, 301);
    must(model_vocab_compare(a, a, &n, &err), &err);
    assert_int_equal(n, 301);
    genarm_model_free(a);
    genarm_model_free(b);
}

static void test_padding_of_either_vocabulary_is_left_out(void **state) {
    (void)state;
    struct genarm_model *a = golden_model("llama.gguf"), *b = golden_model("llama-padded.gguf");
    struct genarm_error err;
    int32_t n = 0;
    must(model_vocab_compare(a, b, &n, &err), &err);
    assert_int_equal(n, 301);
    n = 0;
    must(model_vocab_compare(b, a, &n, &err), &err);
    assert_int_equal(n, 301);
    genarm_model_free(a);
    genarm_model_free(b);
}

static void test_the_first_different_token_is_named(void **state) {
    (void)state;
    struct genarm_model *a = golden_model("llama.gguf"), *b = golden_model("llama-mismatch.gguf");
    struct genarm_error err;
    int32_t n = -7;
    assert_int_equal(model_vocab_compare(a, b, &n, &err), GENARM_EMISMATCH);
    assert_int_equal(n, -7);
    char text[200];
    snprintf(text, sizeof text, "token 290 is \"%s\" in", llama_vocab_get_text(a->vocab, 290));
    assert_non_null(strstr(err.what, text));
    snprintf(text, sizeof text, "\"%s\" in %s", llama_vocab_get_text(b->vocab, 290), b->path);
    assert_non_null(strstr(err.what, text));
    genarm_model_free(a);
    genarm_model_free(b);
}

static void test_a_real_token_more_is_no_padding(void **state) {
    (void)state;
    struct edit e;
    size_t n_tokens;
    edit_open(&e, golden_path("llama-padded.gguf"));
    char **texts = edit_strings(&e, tokens_key, &n_tokens);
    free(texts[305]);
    texts[305] = strdup("<tool_call>");
    edit_set_strings(&e, tokens_key, texts, n_tokens);
    int32_t types[308];
    for (int i = 0; i < 308; i++) {
        types[i] = i < 3 || i == 305 ? 3 : 1; /* the padding looks like padding by its name alone */
    }
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, 308);
    struct genarm_model *a = golden_model("llama.gguf"), *b = load(edit_save(&e, temp_path("more.gguf")));
    struct genarm_error err;
    int32_t n;
    assert_int_equal(model_vocab_compare(a, b, &n, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "token 305, \"<tool_call>\", is in"));
    genarm_model_free(a);
    genarm_model_free(b);
}

/* ---- bad vocabularies ---- */

static void test_tokens_must_be_as_many_as_embeddings(void **state) {
    (void)state;
    for (int change = -1; change <= 1; change += 2) {
        struct edit e;
        size_t n;
        edit_open(&e, golden_path("llama.gguf"));
        char **texts = edit_strings(&e, tokens_key, &n);
        if (change < 0) {
            free(texts[n - 1]);
        } else {
            texts[n] = strdup("one more");
        }
        edit_set_strings(&e, tokens_key, texts, n + (size_t)change);
        expect_error(&e, GENARM_EFORMAT,
                     change < 0 ? "has 300 tokens, token_embd.weight has 301 rows" : "has 302 tokens");
    }
}

static void test_texts_that_libllama_aborts_on_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *first, *second, *error;
    } cases[] = {
        {"twin", "twin", "\"twin\" is there more than once, last as token 300"},
        {"", "[EMPTY_299]", "token 300 is named as the empty token 299"},
        {"[EMPTY_300]", "", "token 299 is named as the empty token 300"},
        {"", "", NULL}, /* two empty ones get two names */
        {"[EMPTY_5]", "unlike any other", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct edit e;
        size_t n;
        edit_open(&e, golden_path("llama.gguf"));
        char **texts = edit_strings(&e, tokens_key, &n);
        free(texts[n - 2]);
        free(texts[n - 1]);
        texts[n - 2] = strdup(cases[i].first);
        texts[n - 1] = strdup(cases[i].second);
        edit_set_strings(&e, tokens_key, texts, n);
        if (cases[i].error) {
            expect_error(&e, GENARM_EFORMAT, cases[i].error);
        } else {
            genarm_model_free(load(edit_save(&e, temp_path("empty.gguf"))));
        }
    }
    struct edit e;
    size_t n;
    edit_open(&e, golden_path("llama.gguf"));
    char **texts = edit_strings(&e, tokens_key, &n);
    texts[7] = realloc(texts[7], 5001);
    memset(texts[7], '\xFF', 5000);
    texts[7][5000] = '\0';
    edit_set_strings(&e, tokens_key, texts, n);
    expect_error(&e, GENARM_EFORMAT, "token 7 is 5000 bytes long");
}

static void test_missing_and_mistyped_tokenizer_keys_are_named(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    static const char *const texts[] = {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "merges"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct edit e;
        edit_open(&e, golden_path("llama.gguf"));
        gguf_remove_key(e.gguf, keys[i]);
        expect_error(&e, GENARM_EFORMAT, texts[i]);
        edit_open(&e, golden_path("llama.gguf"));
        gguf_set_val_u32(e.gguf, keys[i], 3);
        expect_error(&e, GENARM_EFORMAT, texts[i]);
    }
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, (int32_t[]){1, 1, 1}, 3);
    expect_error(&e, GENARM_EFORMAT, "tokenizer.ggml.token_type has 3 entries for 301 tokens");
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.tokens", GGUF_TYPE_INT32, (int32_t[]){1, 1, 1}, 3);
    expect_error(&e, GENARM_EFORMAT, "not an array of strings");
    static const char *const kinds[] = {"bert", "t5", "rwkv", "none", "no_vocab", "nonsense"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        edit_open(&e, golden_path("llama.gguf"));
        gguf_set_val_str(e.gguf, "tokenizer.ggml.model", kinds[i]);
        expect_error(&e, GENARM_EUNSUPPORTED, kinds[i]);
    }
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_str(e.gguf, "tokenizer.ggml.pre", "made-up");
    expect_error(&e, GENARM_EFORMAT, "unknown pre-tokenizer type: 'made-up'");
}

static void test_special_tokens_outside_the_vocabulary_do_no_harm(void **state) {
    (void)state;
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "eot_token_id", "unknown_token_id",
                                       "padding_token_id"};
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s", keys[i]);
        gguf_set_val_u32(e.gguf, key, UINT32_MAX - (uint32_t)i);
    }
    gguf_set_val_bool(e.gguf, "tokenizer.ggml.add_eos_token", true);
    struct genarm_model *m = load(edit_save(&e, temp_path("specials.gguf")));
    int32_t tokens[20];
    assert_true(genarm_tokenize(m, "the", 3, true, true, tokens, 20) > 0);
    const int32_t eos = genarm_token_eos(m);
    assert_true(eos >= -1 && eos < 301);
    genarm_model_free(m);
}

/* A vocabulary of well-formed but senseless texts and types must be refused or work. */
static void test_senseless_vocabularies_never_crash(void **state) {
    (void)state;
    static const char *const kinds[] = {"llama", "gpt2", "gemma4", "plamo2"};
    struct rng r;
    rng_seed(&r, 5);
    int good = 0;
    for (int round = 0; round < 300; round++) {
        struct edit e;
        size_t n;
        edit_open(&e, golden_path("llama.gguf"));
        char **texts = edit_strings(&e, tokens_key, &n);
        int32_t types[301];
        float scores[301];
        for (size_t i = 0; i < n; i++) {
            types[i] = (int32_t)rng_below(&r, 9) - 1;
            scores[i] = (float)rng_normal(&r);
            if (rng_below(&r, 4) == 0) {
                const size_t len = rng_below(&r, 4) ? 3 + (size_t)rng_below(&r, 10) : 0;
                texts[i] = realloc(texts[i], len + 1);
                for (size_t k = 0; k < len; k++) {
                    texts[i][k] = (char)(1 + rng_below(&r, 255));
                }
                texts[i][len] = '\0';
            }
            if (types[i] == 6 && strlen(texts[i]) < 3 && round % 10) { /* refused: a byte token has no byte */
                types[i] = 1;
            }
        }
        edit_set_strings(&e, tokens_key, texts, n);
        gguf_set_arr_data(e.gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, n);
        gguf_set_arr_data(e.gguf, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, n);
        gguf_set_val_str(e.gguf, "tokenizer.ggml.model", kinds[round % 4]);
        gguf_set_val_bool(e.gguf, "tokenizer.ggml.add_space_prefix", rng_below(&r, 2));
        struct genarm_model *m = NULL;
        struct genarm_error err;
        if (genarm_model_load(&m, edit_save(&e, temp_path("senseless.gguf")), NULL, &err) == GENARM_OK) {
            int32_t tokens[100];
            char bytes[4096];
            static const char text[] = "The <|im_end|>\n 42 \xC3\xA9 \xF0\x9F\x98\x80 end";
            const int32_t got = genarm_tokenize(m, text, sizeof text - 1, true, true, tokens, 100);
            assert_true(got == INT32_MIN || (got >= 0 && got <= 100));
            for (int32_t t = 0; t < 301; t++) {
                genarm_token_bytes(m, t, true, bytes, sizeof bytes);
            }
            genarm_model_free(m);
            good++;
        }
    }
    assert_true(good > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_survives_tokens_and_back),
        cmocka_unit_test(test_special_texts_become_tokens_only_when_asked),
        cmocka_unit_test(test_bos_comes_first_where_the_model_wants_one),
        cmocka_unit_test(test_too_little_room_gives_the_number_needed),
        cmocka_unit_test(test_a_text_is_spelled_however_many_tokens_it_has),
        cmocka_unit_test(test_a_text_has_as_many_tokens_at_least_as_its_length_tells),
        cmocka_unit_test(test_ids_outside_the_vocabulary_are_nothing),
        cmocka_unit_test(test_end_of_turn_is_found),
        cmocka_unit_test(test_sentencepiece_vocabularies_work),
        cmocka_unit_test(test_a_text_that_has_no_tokens_is_an_error_not_an_exception),
        cmocka_unit_test(test_default_model_speaks_chatml),
        cmocka_unit_test(test_equal_vocabularies_are_common_to_the_last_token),
        cmocka_unit_test(test_padding_of_either_vocabulary_is_left_out),
        cmocka_unit_test(test_the_first_different_token_is_named),
        cmocka_unit_test(test_a_real_token_more_is_no_padding),
        cmocka_unit_test(test_tokens_must_be_as_many_as_embeddings),
        cmocka_unit_test(test_texts_that_libllama_aborts_on_are_refused),
        cmocka_unit_test(test_missing_and_mistyped_tokenizer_keys_are_named),
        cmocka_unit_test(test_special_tokens_outside_the_vocabulary_do_no_harm),
        cmocka_unit_test(test_senseless_vocabularies_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
