/* Moving a sequence down over forgotten positions: what is left must be what the first layer computes at the new positions, and
 * what deeper layers had. Every kind of rotation: neighbouring and distant pairs, divided, linearly scaled and YaRN frequencies.
 */
#include <ggml.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "support/golden.h"

enum { CTX = 64, KEEP = 3, DROP = 7, SEQ = 1, HEAD = 32 /* bytes before the columns */ };

static const char *const files[] = {"llama.gguf",   "llama-linear.gguf", "llama3.gguf", "llama-yarn.gguf",
                                    "mistral.gguf", "qwen2.gguf",        "qwen3.gguf"};

static struct engine *engine_with(const struct genarm_model *model, enum genarm_kv_type kv_type, int32_t n_ctx) {
    const struct engine_params params = {.n_seq = 3, .n_ctx = n_ctx, .n_threads = 1, .kv_type = kv_type};
    struct engine *e;
    struct genarm_error err = {0};
    must(engine_rows_new(&e, model, &params, &err), &err);
    return e;
}

static struct engine *engine_of(const struct genarm_model *model, enum genarm_kv_type kv_type) {
    return engine_with(model, kv_type, CTX);
}

static int32_t token_at(int32_t i) { return 5 + 11 * i % 90; }

/* Feeds the tokens of places [from, to) as positions pos, pos + 1, … of a sequence; the logits after the last one. */
static float *feed_to(struct engine *e, int32_t seq, int32_t from, int32_t to, int32_t pos) {
    struct row rows[CTX];
    struct genarm_error err = {0};
    float *logits = calloc((size_t)e->model->hp.n_vocab, sizeof *logits);
    for (int32_t i = from; i < to; i++) {
        rows[i - from] = (struct row){.token = token_at(i), .seq = seq, .pos = pos + i - from, .adapter = ENGINE_NO_ADAPTER,
                                      .output = i == to - 1};
    }
    must(engine_forward(e, rows, to - from, logits, &err), &err);
    return logits;
}

static float *feed(struct engine *e, int32_t from, int32_t to, int32_t pos) { return feed_to(e, SEQ, from, to, pos); }

static struct buf saved(struct engine *e, int32_t n_pos) {
    struct buf b;
    struct genarm_error err = {0};
    buf_init(&b, SIZE_MAX - 1);
    must(engine_save(e, SEQ, n_pos, &b, &err), &err);
    return b;
}

/* Number i of the first layer's keys, or of its values behind n_keys of them. */
static float number(const struct buf *b, bool f32, size_t i) {
    const char *at = b->data + HEAD + i * (f32 ? sizeof(float) : sizeof(ggml_fp16_t));
    ggml_fp16_t half;
    float x;
    if (f32) {
        memcpy(&x, at, sizeof x);
        return x;
    }
    memcpy(&half, at, sizeof half);
    return ggml_fp16_to_fp32(half);
}

static void check_file(const char *file, enum genarm_kv_type kv_type) {
    const int32_t n = 30;
    const bool f32 = kv_type == GENARM_KV_F32;
    struct genarm_model *model = golden_model(file);
    struct engine *moved = engine_of(model, kv_type), *anew = engine_of(model, kv_type);
    struct genarm_error err = {0};
    const size_t n_keys = (size_t)hparams_n_embd_kv(&model->hp) * (size_t)(n - DROP);
    free(feed(moved, 0, n, 0));
    must(engine_shift(moved, SEQ, KEEP, DROP, &err), &err);
    assert_int_equal(moved->n_cached[SEQ], n - DROP);
    free(feed(anew, 0, KEEP, 0));
    free(feed(anew, KEEP + DROP, n, KEEP));
    struct buf a = saved(moved, n - DROP), b = saved(anew, n - DROP);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, HEAD);
    for (size_t i = 0; i < 2 * n_keys; i++) { /* keys, then values */
        const float got = number(&a, f32, i), want = number(&b, f32, i);
        if (!(fabsf(got - want) <= (f32 ? 2e-5f : 3e-3f) * (1.0f + fabsf(want)))) {
            fail_msg("%s: %s %zu is %g, not %g", file, i < n_keys ? "key" : "value", i % n_keys, (double)got, (double)want);
        }
    }
    buf_deinit(&a);
    buf_deinit(&b);
    engine_free(moved);
    engine_free(anew);
    genarm_model_free(model);
}

static void test_what_moves_is_what_the_first_layer_computes_there(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        check_file(files[i], GENARM_KV_F32);
        check_file(files[i], GENARM_KV_F16);
    }
}

static void test_forgetting_nothing_or_all_that_follows(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct engine *moved = engine_of(model, GENARM_KV_F32), *still = engine_of(model, GENARM_KV_F32);
    struct genarm_error err = {0};
    free(feed(moved, 0, 20, 0));
    must(engine_shift(moved, SEQ, 0, 0, &err), &err); /* nothing */
    free(feed(still, 0, 20, 0));
    float *got = feed(moved, 20, 21, 20), *want = feed(still, 20, 21, 20);
    assert_memory_equal(got, want, (size_t)model->hp.n_vocab * sizeof *got);
    must(engine_shift(moved, SEQ, 21, 0, &err), &err);
    must(engine_shift(moved, SEQ, 5, 16, &err), &err); /* all that follows */
    assert_int_equal(moved->n_cached[SEQ], 5);
    free(got);
    free(want);
    engine_free(moved);
    engine_free(still);
    genarm_model_free(model);
}

/* Into another sequence of an engine with another context, and from there into a third one. */
static void check_loaded(const char *file, enum genarm_kv_type kv_type) {
    struct genarm_model *model = golden_model(file);
    struct engine *from = engine_of(model, kv_type), *to = engine_with(model, kv_type, CTX + 13);
    struct genarm_error err = {0};
    const int32_t other = SEQ == 0 ? 1 : 0, third = 3 - SEQ - other;
    const size_t size = (size_t)model->hp.n_vocab * sizeof(float);
    free(feed(from, 0, 12, 0));
    struct buf b = saved(from, 12);
    must(engine_load(to, other, 12, b.data, b.len, &err), &err);
    must(engine_copy_prefix(to, other, third, 5, &err), &err); /* from 5 on it lacks what the other has */
    must(engine_copy_range(to, other, third, 5, 12, &err), &err);
    float *want = feed(from, 12, 14, 12), *got = feed_to(to, other, 12, 14, 12), *copied = feed_to(to, third, 12, 14, 12);
    assert_memory_equal(got, want, size);
    assert_memory_equal(copied, want, size);
    assert_int_equal(engine_load(to, other, 11, b.data, b.len, &err), GENARM_EFORMAT);
    assert_int_equal(engine_load(to, other, 12, b.data, b.len - 1, &err), GENARM_EFORMAT);
    assert_int_equal(engine_load(to, other, 12, b.data, 5, &err), GENARM_EFORMAT);
    b.data[0] ^= 1;
    assert_int_equal(engine_load(to, other, 12, b.data, b.len, &err), GENARM_EMISMATCH);
    assert_int_equal(to->n_cached[other], 14);
    free(copied);
    free(got);
    free(want);
    buf_deinit(&b);
    engine_free(from);
    engine_free(to);
    genarm_model_free(model);
}

static void test_a_loaded_sequence_continues_to_the_bit_in_another_place(void **state) {
    (void)state;
    check_loaded("qwen3.gguf", GENARM_KV_F16);
    check_loaded("qwen3.gguf", GENARM_KV_F32);
    check_loaded("mistral.gguf", GENARM_KV_Q8_0); /* heads of 32 */
}

static void test_positions_out_of_range_are_refused(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct engine *e = engine_of(model, GENARM_KV_F16);
    struct genarm_error err = {0};
    struct buf b;
    buf_init(&b, 1 << 20);
    free(feed(e, 0, 10, 0));
    const int32_t bad[][3] = {{-1, 0, 1}, {3, 0, 1}, {SEQ, -1, 1}, {SEQ, 0, -1}, {SEQ, 11, 0}, {SEQ, 5, 6}, {SEQ, 5, INT32_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(engine_shift(e, bad[i][0], bad[i][1], bad[i][2], &err), GENARM_EINVAL);
    }
    assert_int_equal(engine_save(e, SEQ, 11, &b, &err), GENARM_EINVAL);
    assert_int_equal(engine_save(e, 3, 0, &b, &err), GENARM_EINVAL);
    assert_int_equal(engine_load(e, SEQ, CTX + 1, "", 0, &err), GENARM_EINVAL);
    assert_int_equal(e->n_cached[SEQ], 10);
    buf_deinit(&b);
    engine_free(e);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_moves_is_what_the_first_layer_computes_there),
        cmocka_unit_test(test_forgetting_nothing_or_all_that_follows),
        cmocka_unit_test(test_a_loaded_sequence_continues_to_the_bit_in_another_place),
        cmocka_unit_test(test_positions_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
