/* Sessions in files: what is restored goes on as what was saved, and no other file does harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/session_case.h"
#include "support/temp.h"

enum { HALF = 9, CTX = 128 };

/* Three ARMs: one that steers, one that is off, one with a preference. */
static struct genarm_guide *three_arms(struct session_case *f, enum genarm_kv_type kv_type) {
    const struct case_arm arms[] = {
        {f->first, 1.0f, NULL}, {f->second, 0.0f, "raw:Q: {prompt}\\nA:"}, {f->conditioned, 0.7f, NULL}};
    return case_guide(f->model, arms, 3, case_params(CTX, kv_type));
}

static void check_restored(struct session_case *f, enum genarm_kv_type kv_type) {
    struct genarm_error err = {0};
    const char *path = temp_path("saved.session");
    const float preference[] = {0.5f, 0.25f, 0.25f};
    int32_t before[HALF], uninterrupted[2 * HALF], restored[2 * HALF];
    char *note = NULL;
    struct genarm_guide *g = three_arms(f, kv_type);
    struct genarm_session *s = case_session(g, 7);
    must(genarm_session_set_preference(s, 2, preference, 3, &err), &err);
    case_prompt(s, case_hello, 1);
    case_answer(s, before, HALF);
    must(genarm_session_save(s, path, "what was said", &err), &err);
    case_answer(s, uninterrupted, HALF);
    must(genarm_session_set_weight(s, 1, 1.5f, &err), &err); /* the one that was off has to catch up */
    case_answer(s, uninterrupted + HALF, HALF);
    const int32_t n_prompt = genarm_session_n_prompt(s);
    case_end(g, s);
    g = three_arms(f, kv_type);
    s = case_session(g, 99);
    case_prompt(s, (struct genarm_message[]){{"user", "Something else"}}, 1);
    case_answer(s, restored, 3);
    must(genarm_session_load(s, path, &err), &err);
    must(genarm_session_read_note(&note, path, &err), &err);
    assert_string_equal(note, "what was said");
    free(note);
    assert_int_equal(genarm_session_n_prompt(s), n_prompt);
    assert_int_equal(genarm_session_n_tokens(s), HALF);
    assert_true(genarm_session_preference(s, 2)[0] == 0.5f && genarm_session_weight(s, 2) == 0.7f);
    case_answer(s, restored, HALF);
    must(genarm_session_set_weight(s, 1, 1.5f, &err), &err);
    case_answer(s, restored + HALF, HALF);
    assert_memory_equal(uninterrupted, restored, sizeof restored);
    case_end(g, s);
}

static void test_a_restored_session_goes_on_to_the_bit(void **state) {
    check_restored(*state, GENARM_KV_F32);
    check_restored(*state, GENARM_KV_F16);
}

static void test_a_session_without_a_prompt_or_a_note_can_be_saved(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("empty.session");
    struct genarm_guide *g = three_arms(f, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 7);
    char *note = (char *)"untouched";
    int32_t token;
    must(genarm_session_save(s, path, NULL, &err), &err);
    case_prompt(s, case_hello, 1);
    case_answer(s, &token, 1);
    must(genarm_session_load(s, path, &err), &err);
    must(genarm_session_read_note(&note, path, &err), &err);
    assert_null(note);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL);
    case_end(g, s);
}

static void test_a_cache_alone_leaves_settings_and_is_not_used_under_another_preference(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("cache.session");
    const float preference[] = {0.5f, 0.25f, 0.25f};
    int32_t fresh[HALF], cached[HALF];
    struct genarm_guide *g = three_arms(f, GENARM_KV_F32);
    struct genarm_session *s = case_session(g, 8);
    must(genarm_session_set_weight(s, 0, 0.3f, &err), &err);
    must(genarm_session_set_preference(s, 2, preference, 3, &err), &err);
    case_prompt(s, case_hello, 1);
    case_answer(s, fresh, HALF);
    genarm_session_free(s);
    s = case_session(g, 1); /* other settings: the even preference among them */
    case_prompt(s, case_hello, 1);
    case_answer(s, cached, HALF);
    must(genarm_session_save(s, path, "x", &err), &err);
    genarm_session_free(s);
    s = case_session(g, 8);
    must(genarm_session_set_weight(s, 0, 0.3f, &err), &err);
    must(genarm_session_set_preference(s, 2, preference, 3, &err), &err);
    must(genarm_session_load_cache(s, path, &err), &err);
    case_prompt(s, case_hello, 1);
    assert_int_equal(s->timelines[0].n_cached, s->timelines[0].n_prompt);
    assert_int_equal(s->timelines[3].n_cached, 0);
    case_answer(s, cached, HALF);
    assert_memory_equal(fresh, cached, sizeof fresh);
    case_end(g, s);
}

/* A saved session of `f` with one ARM. */
static const char *one_saved(struct session_case *f) {
    struct genarm_error err = {0};
    const char *path = temp_path("one.session");
    int32_t tokens[3 * HALF];
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 7);
    case_prompt(s, case_hello, 1);
    case_answer(s, tokens, 3 * HALF);
    must(genarm_session_save(s, path, "note", &err), &err);
    case_end(g, s);
    return path;
}

static void check_refused(struct genarm_guide *g, const char *path, int code, const char *what) {
    struct genarm_session *s = case_session(g, 3);
    struct genarm_error err = {0};
    int32_t kept[HALF], alone[HALF];
    case_prompt(s, case_hello, 1);
    assert_int_equal(genarm_session_load(s, path, &err), code);
    if (!strstr(err.what, what) || strcmp(err.where, path) != 0 || !*err.hint) {
        fail_msg("\"%s: %s (%s)\" does not say: %s", err.where, err.what, err.hint, what);
    }
    case_answer(s, kept, HALF); /* as if nothing had happened */
    genarm_session_free(s);
    s = case_session(g, 3);
    case_prompt(s, case_hello, 1);
    case_answer(s, alone, HALF);
    assert_memory_equal(kept, alone, sizeof kept);
    case_end(g, s);
}

static void test_sessions_of_other_models_are_refused_naming_what_differs(void **state) {
    struct session_case *f = *state;
    const char *path = one_saved(f);
    struct genarm_error err = {0};
    struct genarm_model *qwen = golden_model("qwen2.gguf"), *changed;
    struct genarm_guide_params p = case_params(CTX, GENARM_KV_F16);
    struct edit e;
    check_refused(case_guide(f->model, NULL, 0, p), path, GENARM_EMISMATCH, "2 policies");
    check_refused(case_guide(f->model, (struct case_arm[]){{f->second, 1.0f, NULL}}, 1, p), path, GENARM_EMISMATCH,
                  "another adapter of the reward model a");
    check_refused(case_guide(f->model, (struct case_arm[]){{f->first, 1.0f, "chatml"}}, 1, p), path, GENARM_EMISMATCH,
                  "another template of the reward model a");
    check_refused(case_guide_first(f, CTX, GENARM_KV_F32), path,
                  GENARM_EMISMATCH, "keys in f16");
    check_refused(case_guide_first(f, 48, GENARM_KV_F16), path,
                  GENARM_ECONTEXT, "the context 48");
    check_refused(case_guide(qwen, (struct case_arm[]){{NULL, 1.0f, NULL}}, 1, p), path, GENARM_EMISMATCH,
                  "another model of the base");
    edit_open(&e, golden_path("llama.gguf"));
    float *weights = edit_tensor(&e, "blk.1.ffn_up.weight")->data;
    for (int64_t i = ggml_nelements(edit_tensor(&e, "blk.1.ffn_up.weight")); i-- > 0;) {
        weights[i] *= 0.5f;
    }
    must(genarm_model_load(&changed, edit_save(&e, temp_path("changed.gguf")), NULL, &err), &err);
    check_refused(case_guide(changed, (struct case_arm[]){{NULL, 1.0f, NULL}}, 1, p), path, GENARM_EMISMATCH, "other weights");
    genarm_model_free(changed);
    genarm_model_free(qwen);
}

static void test_files_that_are_no_sessions_are_refused(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("none.session");
    struct genarm_guide *g = three_arms(f, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 1);
    assert_int_equal(genarm_session_load(s, temp_path("nowhere"), &err), GENARM_EIO);
    assert_int_equal(genarm_session_load(s, golden_path("llama.gguf"), &err), GENARM_EFORMAT);
    assert_string_equal(err.what, "is not a saved session");
    must(file_write(path, "", 0, &err), &err);
    assert_int_equal(genarm_session_load(s, path, &err), GENARM_EFORMAT);
    must(file_write(path, "GENARMSN", 8, &err), &err);
    assert_int_equal(genarm_session_load(s, path, &err), GENARM_EFORMAT);
    assert_int_equal(genarm_session_save(s, "tests", NULL, &err), GENARM_EINVAL); /* a folder */
    char *note = (char *)"untouched";
    must(file_write(path, "a letter to mother", 18, &err), &err);
    assert_int_equal(genarm_session_read_note(&note, path, &err), GENARM_EFORMAT);
    assert_string_equal(note, "untouched");
    assert_int_equal(genarm_session_save(s, path, NULL, &err), GENARM_EINVAL); /* it is not replaced */
    assert_string_equal(err.hint, "name another file");
    case_end(g, s);
}

/* Not through file_write, and not over the last one: a sync for each of thousands takes long. */
static void write_quickly(const char *path, const struct buf *b, size_t n) {
    remove(path);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    fwrite(b->data, 1, n, stream);
    fclose(stream);
}

static void expect_format_error(struct genarm_session *s, const struct buf *b, size_t n) {
    struct genarm_error err = {0};
    const char *path = temp_path("damaged.session");
    write_quickly(path, b, n);
    const int rc = genarm_session_load(s, path, &err);
    if (rc != GENARM_EFORMAT && rc != GENARM_EUNSUPPORTED) {
        fail_msg("%d at %zu: %s", rc, n, err.what);
    }
}

static void test_damaged_sessions_are_refused_and_change_nothing(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct buf whole;
    int32_t undisturbed[HALF], kept[HALF];
    buf_init(&whole, SIZE_MAX - 1);
    must(file_read(&whole, one_saved(f), &err), &err);
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 5);
    case_prompt(s, case_hello, 1);
    case_answer(s, undisturbed, HALF);
    genarm_session_free(s);
    s = case_session(g, 5);
    case_prompt(s, case_hello, 1);
    case_answer(s, kept, 4);
    for (size_t n = 0; n < whole.len; n += n < 600 || n + 20 > whole.len ? 1 : 331) {
        expect_format_error(s, &whole, n);
    }
    for (size_t i = 0; i < whole.len; i += i < 600 || i + 20 > whole.len ? 1 : 331) {
        whole.data[i] ^= (char)(1 << i % 8);
        expect_format_error(s, &whole, whole.len);
        whole.data[i] ^= (char)(1 << i % 8);
    }
    must(buf_append(&whole, "x", 1, &err), &err);
    expect_format_error(s, &whole, whole.len);
    case_answer(s, kept + 4, HALF - 4);
    assert_memory_equal(undisturbed, kept, sizeof kept);
    buf_deinit(&whole);
    case_end(g, s);
}

/* Loads a file with one byte changed and the checksum right; what loads is used. */
static void try_forged(struct genarm_session *s, struct buf *whole, size_t i, char value) {
    const size_t n_hashed = whole->len - sizeof(uint64_t);
    const char *path = temp_path("forged.session"), kept = whole->data[i];
    struct genarm_error err = {0};
    int32_t token;
    whole->data[i] = value;
    const uint64_t hash = hash_bytes(HASH_START, whole->data, n_hashed);
    memcpy(whole->data + n_hashed, &hash, sizeof hash);
    write_quickly(path, whole, whole->len);
    if (genarm_session_load(s, path, &err) == GENARM_OK) {
        genarm_session_step(s, &token, &err); /* may find logits that are not finite */
        genarm_session_shift(s, 3, &err);
        genarm_session_step(s, &token, &err);
    }
    whole->data[i] = kept;
}

/* Files that somebody forged pass the checksum: whatever they say, they are refused or give a session that can be used. */
static void test_forged_sessions_do_no_harm(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct buf whole;
    buf_init(&whole, SIZE_MAX - 1);
    must(file_read(&whole, one_saved(f), &err), &err);
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 5);
    const size_t head = 64 + 4, n_hashed = whole.len - sizeof(uint64_t), second = head + (n_hashed - head) / 2;
    const char values[] = {'\xff', '\x7f', '\x80', 1};
    for (size_t i = 8; i < n_hashed;) { /* every byte of what comes before the keys of each policy */
        for (size_t v = 0; v < sizeof values; v++) {
            try_forged(s, &whole, i, values[v]);
        }
        i += i < 600 || (i + 397 > second && i < second + 600) ? 1 : 397;
    }
    buf_deinit(&whole);
    case_end(g, s);
}

/* What no session can be: a policy without tokens beside one with some, answers of different lengths. */
static void test_policies_that_do_not_go_together_are_refused(void **state) {
    struct session_case *f = *state;
    for (int32_t changed = 0; changed < 2; changed++) {
        for (int empty = 0; empty < 2; empty++) {
            struct genarm_error err = {0};
            const char *path = temp_path("forged.session");
            int32_t tokens[HALF];
            struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F16);
            struct genarm_session *s = case_session(g, 7);
            case_prompt(s, case_hello, 1);
            case_answer(s, tokens, HALF);
            struct timeline *t = &s->timelines[changed];
            t->n_prompt -= 1;
            if (empty) {
                t->n = t->n_prompt = t->n_given = 0;
            }
            must(genarm_session_save(s, path, NULL, &err), &err);
            case_end(g, s);
            check_refused(case_guide_first(f, CTX, GENARM_KV_F16), path, GENARM_EFORMAT, "its numbers are impossible");
        }
    }
}

static void test_a_shifted_session_is_restored(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("shifted.session");
    int32_t tokens[90], uninterrupted[HALF], restored[HALF];
    struct genarm_guide *g = case_guide_first(f, 64, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 4);
    case_prompt(s, case_hello, 1);
    case_answer_on(s, 3, tokens, 90);
    must(genarm_session_shift(s, 3, &err), &err);
    must(genarm_session_save(s, path, NULL, &err), &err);
    case_answer(s, uninterrupted, HALF);
    must(genarm_session_load(s, path, &err), &err);
    assert_int_equal(genarm_session_n_tokens(s), 90);
    case_answer(s, restored, HALF);
    assert_memory_equal(uninterrupted, restored, sizeof restored);
    genarm_session_free(s);
    s = case_session(g, 5); /* its slot holds what the other one left */
    must(genarm_session_save(s, path, NULL, &err), &err);
    must(genarm_session_load(s, path, &err), &err);
    case_end(g, s);
}

/* ---- with what steers and drafts ---- */

static struct genarm_guide *relative_guide(const struct session_case *f, const char *template_name) {
    struct genarm_guide *g = case_guide(f->model, NULL, 0, case_params(CTX, GENARM_KV_F16));
    const struct genarm_arm_params arm = {.name = "a", .model = f->model, .adapter = f->first, .weight = 0.8f,
                                          .template_name = template_name, .minus_reference = true};
    struct genarm_error err = {0};
    must(genarm_guide_add_arm(g, &arm, &err), &err);
    return g;
}

static void check_restored_reference(struct session_case *f, const char *template_name, int32_t reference) {
    struct genarm_error err = {0};
    const char *path = temp_path("reference.session");
    int32_t uninterrupted[HALF], restored[HALF];
    struct genarm_guide *g = relative_guide(f, template_name);
    struct genarm_session *s = case_session(g, 7);
    case_prompt(s, case_hello, 1);
    case_answer(s, uninterrupted, HALF);
    must(genarm_session_save(s, path, NULL, &err), &err);
    case_answer(s, uninterrupted, HALF);
    case_end(g, s);
    g = relative_guide(f, template_name);
    s = case_session(g, 8); /* without a prompt */
    must(genarm_session_load(s, path, &err), &err);
    assert_int_equal(s->references[1], reference);
    case_answer(s, restored, HALF);
    assert_memory_equal(uninterrupted, restored, sizeof restored);
    case_end(g, s);
}

static void test_what_a_reward_model_is_counted_relative_to_is_restored(void **state) {
    check_restored_reference(*state, NULL, 0);
    check_restored_reference(*state, "chatml", 0); /* what the base saw, under another name */
    check_restored_reference(*state, "raw:{prompt}\\n", 2);
}

/* A session that drafts by its ARM, or by what it said before. */
static struct genarm_session *drafting(struct genarm_guide *g, uint64_t seed, bool looks_up) {
    static const float by_arm[] = {0, 1};
    const struct genarm_draft_params draft = {.weights = looks_up ? NULL : by_arm, .n_min = 4, .n_max = 4, .n_lookup = 1};
    struct genarm_error err = {0};
    struct genarm_session *s = case_session(g, seed);
    must(genarm_session_set_draft(s, &draft, &err), &err);
    return s;
}

static void test_tokens_ahead_are_not_saved_but_drawn_anew(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("ahead.session");
    const struct case_arm arm = {f->first, 1.0f, NULL};
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        struct genarm_guide *g = case_guide(f->model, &arm, 1, case_params(CTX, GENARM_KV_F16));
        struct genarm_session *s = drafting(g, 7, looks_up);
        int32_t uninterrupted[3 * HALF], restored[3 * HALF];
        int n_ahead = 0, n = 0;
        case_prompt(s, case_hello, 1);
        while (n_ahead == 0 && n++ < 60) {
            case_answer(s, uninterrupted, 1);
            n_ahead = s->n_ahead;
        }
        assert_true(n_ahead > 0);
        must(genarm_session_save(s, path, NULL, &err), &err);
        assert_int_equal(s->n_ahead, 0);
        case_answer(s, uninterrupted, 3 * HALF);
        case_end(g, s);
        g = case_guide(f->model, &arm, 1, case_params(CTX, GENARM_KV_F16));
        s = drafting(g, 8, looks_up);
        case_prompt(s, case_hello, 1);
        case_answer(s, restored, 2);
        must(genarm_session_load(s, path, &err), &err);
        assert_int_equal(s->n_ahead, 0);
        assert_int_equal(genarm_session_n_tokens(s), n);
        case_answer(s, restored, 3 * HALF);
        assert_memory_equal(uninterrupted, restored, sizeof restored);
        case_end(g, s);
    }
}

static struct genarm_grammar *grammar_of(struct genarm_model *model, const char *text) {
    struct genarm_grammar *grammar;
    struct genarm_error err = {0};
    must(genarm_grammar_new(&grammar, model, text, &err), &err);
    return grammar;
}

static void test_a_grammar_goes_on_with_a_restored_answer(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("grammar.session");
    struct genarm_grammar *words = grammar_of(f->model, "root ::= ([a-m]{3} \" \" [n-z]{2} \", \")+");
    struct genarm_grammar *digits = grammar_of(f->model, "root ::= [0-9]+");
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 7);
    int32_t uninterrupted[HALF], restored[HALF], token;
    must(genarm_session_set_grammar(s, words, &err), &err);
    case_prompt(s, case_hello, 1);
    case_answer(s, restored, HALF);
    must(genarm_session_save(s, path, NULL, &err), &err);
    case_answer(s, uninterrupted, HALF);
    genarm_session_free(s);
    s = case_session(g, 8);
    must(genarm_session_set_grammar(s, words, &err), &err);
    must(genarm_session_load(s, path, &err), &err);
    case_answer(s, restored, HALF);
    assert_memory_equal(uninterrupted, restored, sizeof restored);
    must(genarm_session_set_grammar(s, digits, &err), &err);
    must(genarm_session_load(s, path, &err), &err);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL); /* it did not follow that one */
    assert_string_equal(err.hint, "set the grammar again: it then begins with the next token");
    must(genarm_session_set_grammar(s, digits, &err), &err);
    case_answer(s, restored, HALF);
    case_prompt(s, case_hello, 1);
    case_answer(s, restored, HALF);
    case_end(g, s);
    genarm_grammar_free(words);
    genarm_grammar_free(digits);
}

static void test_a_grammar_cannot_go_on_with_an_answer_whose_start_was_forgotten(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const char *path = temp_path("forgotten.session");
    struct genarm_grammar *words = grammar_of(f->model, "root ::= ([a-m]{3} \" \" [n-z]{2} \", \")+");
    struct genarm_guide *g = case_guide_first(f, 64, GENARM_KV_F16);
    struct genarm_session *s = case_session(g, 7);
    int32_t tokens[90];
    must(genarm_session_set_grammar(s, words, &err), &err);
    case_prompt(s, case_hello, 1);
    case_answer_on(s, 3, tokens, 90);
    must(genarm_session_save(s, path, NULL, &err), &err);
    must(genarm_session_load(s, path, &err), &err);
    assert_int_equal(genarm_session_shift(s, 3, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_step(s, tokens, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "the start of the answer was forgotten"));
    must(genarm_session_set_grammar(s, words, &err), &err);
    case_answer(s, tokens, 1);
    case_end(g, s);
    genarm_grammar_free(words);
}

int main(void) {
    const struct CMUnitTest of_ours[] = {
        cmocka_unit_test(test_a_restored_session_goes_on_to_the_bit),
        cmocka_unit_test(test_a_session_without_a_prompt_or_a_note_can_be_saved),
        cmocka_unit_test(test_a_cache_alone_leaves_settings_and_is_not_used_under_another_preference),
        cmocka_unit_test(test_sessions_of_other_models_are_refused_naming_what_differs),
        cmocka_unit_test(test_files_that_are_no_sessions_are_refused),
        cmocka_unit_test(test_damaged_sessions_are_refused_and_change_nothing),
        cmocka_unit_test(test_forged_sessions_do_no_harm),
        cmocka_unit_test(test_policies_that_do_not_go_together_are_refused),
    };
    const struct CMUnitTest of_both[] = {
        cmocka_unit_test(test_a_shifted_session_is_restored),
        cmocka_unit_test(test_what_a_reward_model_is_counted_relative_to_is_restored),
        cmocka_unit_test(test_tokens_ahead_are_not_saved_but_drawn_anew),
        cmocka_unit_test(test_a_grammar_goes_on_with_a_restored_answer),
        cmocka_unit_test(test_a_grammar_cannot_go_on_with_an_answer_whose_start_was_forgotten),
    };
    int failed = cmocka_run_group_tests(of_ours, session_case_setup, session_case_teardown);
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        failed += cmocka_run_group_tests_name(golden_engine_name(), of_both, session_case_setup, session_case_teardown);
    }
    return failed;
}
