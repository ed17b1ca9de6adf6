/* Bytes in pieces become valid UTF-8, and only whole characters come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/answer.h"
#include "model/spell.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

#define BAD "\xEF\xBF\xBD"

/* The text that comes out when the bytes arrive `step` at a time. */
static void check(const char *bytes, size_t n, const char *expected) {
    for (size_t step = 1; step <= n; step++) {
        struct text_tail u = {0};
        struct buf out;
        buf_init(&out, 1000);
        for (size_t at = 0; at < n; at += step) {
            assert_int_equal(text_push(&u, bytes + at, step < n - at ? step : n - at, &out, NULL), 0);
        }
        assert_int_equal(text_end(&u, &out, NULL), 0);
        assert_string_equal(out.data, expected);
        buf_deinit(&out);
    }
}

#define CHECK(bytes, expected) check(bytes, sizeof bytes - 1, expected)

static void test_valid_text_is_unchanged_however_it_is_cut(void **state) {
    (void)state;
    CHECK("plain", "plain");
    CHECK("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80.", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80.");
    CHECK("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", "\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF");
}

static void test_what_is_no_character_is_replaced_as_unicode_says(void **state) {
    (void)state;
    CHECK("a\x80z", "a" BAD "z");
    CHECK("\xC0\xAF", BAD BAD);                 /* overlong */
    CHECK("\xE0\x9F\xBF", BAD BAD BAD);         /* overlong */
    CHECK("\xED\xA0\x80", BAD BAD BAD);         /* surrogate */
    CHECK("\xF4\x90\x80\x80", BAD BAD BAD BAD); /* above U+10FFFF */
    CHECK("\xE2\x82z", BAD "z");                /* broken off: one replacement for the part that was right */
    CHECK("\xE2\xE2\x82\xAC", BAD "\xE2\x82\xAC");
    CHECK("end\xF0\x9F\x98", "end" BAD);
}

static void test_incomplete_characters_are_held_back(void **state) {
    struct text_tail u = {0};
    struct buf out;
    (void)state;
    buf_init(&out, 100);
    assert_int_equal(text_push(&u, "ab\xE2\x82", 4, &out, NULL), 0);
    assert_string_equal(out.data, "ab");
    assert_int_equal(text_push(&u, "\xAC", 1, &out, NULL), 0);
    assert_string_equal(out.data, "ab\xE2\x82\xAC");
    buf_deinit(&out);
}

static void test_json_takes_any_bytes(void **state) {
    json_t *value = text_json("a\xFF\xC3\xA9");
    (void)state;
    assert_string_equal(json_string_value(value), "a" BAD "\xC3\xA9");
    json_decref(value);
    value = text_json("");
    assert_string_equal(json_string_value(value), "");
    json_decref(value);
}

/* A SentencePiece vocabulary without a token for every byte has no tokens for some texts: those are no empty texts. */
static void test_a_text_without_tokens_is_an_error(void **state) {
    (void)state;
    struct edit e;
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    int32_t *tokens = NULL;
    size_t n = 0;
    edit_open(&e, golden_path("llama.gguf"));
    float *scores = calloc(301, sizeof *scores);
    gguf_set_val_str(e.gguf, "tokenizer.ggml.model", "llama");
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, 301);
    free(scores);
    must(genarm_model_load(&model, edit_save(&e, temp_path("spm.gguf")), NULL, &err), &err);
    assert_int_equal(spell_tokens(&tokens, &n, model, "\xE2\x82\xAC", false, false, &err), GENARM_EINVAL);
    assert_null(tokens);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_text_is_unchanged_however_it_is_cut),
        cmocka_unit_test(test_what_is_no_character_is_replaced_as_unicode_says),
        cmocka_unit_test(test_incomplete_characters_are_held_back),
        cmocka_unit_test(test_json_takes_any_bytes),
        cmocka_unit_test(test_a_text_without_tokens_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
