/* GGUF files from outside: every wrong one is an error that says what is wrong, none a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "model/adapter.h"
#include "model/gguf_check.h"
#include "model/model.h"
#include "support/golden.h"
#include "support/image.h"
#include "support/temp.h"

/* Checks the image, frees it, and expects this code with this in its text. */
static void expect(struct buf *b, int code, const char *text) {
    struct genarm_error err = {0};
    /* a copy of the exact size, so that a sanitizer sees every byte that is read too many */
    void *exact = malloc(b->len ? b->len : 1);
    memcpy(exact, b->data, b->len);
    const int rc = gguf_check_bytes(exact, b->len, "f.gguf", &err);
    free(exact);
    buf_deinit(b);
    if (rc != code || (text && !strstr(err.what, text))) {
        fail_msg("got %d \"%s\", expected %d \"%s\"", rc, err.what, code, text ? text : "");
    }
    if (code != GENARM_OK) {
        assert_memory_equal(err.where, "f.gguf", 6);
    }
}

/* Quickly, unlike file_write: a new file, which no file system hurries to the disk. */
static void put_file(const char *path, const void *bytes, size_t n) {
    remove(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* An image with one key, whose value is still to be appended. */
static struct buf with_key(const char *key, enum gguf_type type) {
    struct buf b;
    image_init(&b, GGUF_VERSION, 0, 1);
    image_key(&b, key, type);
    return b;
}

/* An image with one tensor entry and enough zeros after it. */
static void expect_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset, const char *text) {
    struct buf b;
    image_init(&b, GGUF_VERSION, 1, 0);
    image_tensor(&b, "weight", n_dims, ne, (enum ggml_type)type, offset);
    image_pad(&b, 4096);
    expect(&b, text ? GENARM_EFORMAT : GENARM_OK, text);
}

static void test_good_files_pass(void **state) {
    (void)state;
    struct buf b;
    image_init(&b, GGUF_VERSION, 0, 0);
    expect(&b, GENARM_OK, NULL);
    image_init(&b, 2, 2, 3);
    image_key_str(&b, "general.architecture", "llama");
    image_key_u32(&b, "general.alignment", 64);
    image_key(&b, "list", GGUF_TYPE_ARRAY);
    image_u32(&b, GGUF_TYPE_STRING);
    image_u64(&b, 2);
    image_str(&b, "one");
    image_str(&b, "");
    image_tensor(&b, "a", 2, (uint64_t[]){32, 3}, GGML_TYPE_Q8_0, 0);
    image_tensor(&b, "b", 1, (uint64_t[]){5}, GGML_TYPE_F32, 128);
    image_pad(&b, 64);
    for (int i = 0; i < 128 + 20; i++) {
        image_u8(&b, 7);
    }
    struct buf copy;
    buf_init(&copy, b.max);
    buf_append(&copy, b.data, b.len - 1, NULL);
    expect(&b, GENARM_OK, NULL);
    expect(&copy, GENARM_EFORMAT, "ends too early");
    static const char *const files[] = {"llama.gguf", "qwen2.gguf", "qwen3.lora.gguf", "llama.golden.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        buf_init(&b, 1 << 24);
        assert_int_equal(file_read(&b, golden_path(files[i]), NULL), GENARM_OK);
        expect(&b, GENARM_OK, NULL);
    }
}

static void test_other_files_are_recognised(void **state) {
    (void)state;
    struct buf b;
    static const struct {
        const char *text, *hint;
    } cases[] = {{"PK\003\004 zip file here", "convert"},
                 {"GG", "convert"},
                 {"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_error err;
        assert_int_equal(gguf_check_bytes(cases[i].text, strlen(cases[i].text), "f", &err), GENARM_EFORMAT);
        assert_string_equal(err.what, "not a GGUF file");
        assert_non_null(strstr(err.hint, cases[i].hint));
    }
    buf_init(&b, 10);
    buf_puts(&b, "", NULL);
    expect(&b, GENARM_EFORMAT, "empty");
    static const uint32_t versions[] = {0, 1, 4, 99, 0x03000001};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        image_init(&b, versions[i], 0, 0);
        expect(&b, GENARM_EUNSUPPORTED, "GGUF version");
    }
    image_init(&b, 0x03000000, 0, 0);
    expect(&b, GENARM_EUNSUPPORTED, "big-endian");
}

static void test_absurd_counts_are_refused_before_anything_is_allocated(void **state) {
    (void)state;
    static const uint64_t counts[] = {1 << 21, (uint64_t)1 << 32, (uint64_t)1 << 60, INT64_MAX, UINT64_MAX};
    struct buf b;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        image_init(&b, GGUF_VERSION, counts[i], 0);
        expect(&b, GENARM_EFORMAT, "tensors and");
        image_init(&b, GGUF_VERSION, 0, counts[i]);
        expect(&b, GENARM_EFORMAT, "keys");
        b = with_key("s", GGUF_TYPE_STRING);
        image_u64(&b, counts[i]);
        image_str(&b, "text");
        expect(&b, GENARM_EFORMAT, "a string of");
        for (uint32_t type = 0; type < GGUF_TYPE_COUNT; type++) {
            b = with_key("list", GGUF_TYPE_ARRAY);
            image_u32(&b, type);
            image_u64(&b, counts[i]);
            image_pad(&b, 64);
            expect(&b, GENARM_EFORMAT, type == GGUF_TYPE_ARRAY ? "array of arrays" : "in a file of");
        }
        image_init(&b, GGUF_VERSION, 0, 1);
        image_u64(&b, counts[i]);
        image_pad(&b, 64);
        expect(&b, GENARM_EFORMAT, "a string of");
    }
    image_init(&b, GGUF_VERSION, 1000, 0);
    expect(&b, GENARM_EFORMAT, "ends too early");
    image_init(&b, GGUF_VERSION, 0, 1000);
    expect(&b, GENARM_EFORMAT, "ends too early");
}

static void test_wrong_values_are_refused(void **state) {
    (void)state;
    struct buf b = with_key("x", (enum gguf_type)GGUF_TYPE_COUNT);
    image_u64(&b, 0);
    expect(&b, GENARM_EFORMAT, "unknown type 13");
    b = with_key("x", GGUF_TYPE_ARRAY);
    image_u32(&b, 99);
    image_u64(&b, 1);
    image_u64(&b, 1);
    expect(&b, GENARM_EFORMAT, "unknown type 99");
    b = with_key("x", GGUF_TYPE_BOOL);
    image_u8(&b, 2);
    expect(&b, GENARM_EFORMAT, "boolean of value 2");
    b = with_key("x", GGUF_TYPE_ARRAY);
    image_u32(&b, GGUF_TYPE_BOOL);
    image_u64(&b, 3);
    image_u8(&b, 1);
    image_u8(&b, 0);
    image_u8(&b, 255);
    expect(&b, GENARM_EFORMAT, "boolean of value");
    b = with_key("x", GGUF_TYPE_BOOL);
    image_u8(&b, 1);
    expect(&b, GENARM_OK, NULL);
    b = with_key("", GGUF_TYPE_BOOL);
    image_u8(&b, 1);
    expect(&b, GENARM_EFORMAT, "a name of 0 bytes");
    b = with_key("a\nb", GGUF_TYPE_BOOL);
    image_u8(&b, 1);
    expect(&b, GENARM_EFORMAT, "control character");
    b = with_key("general.alignment", GGUF_TYPE_UINT64);
    image_u64(&b, 32);
    expect(&b, GENARM_EFORMAT, "general.alignment");
    static const uint32_t alignments[] = {0, 3, 48, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        image_init(&b, GGUF_VERSION, 0, 1);
        image_key_u32(&b, "general.alignment", alignments[i]);
        expect(&b, GENARM_EFORMAT, "not a power of two");
    }
}

static void test_names_are_unique_and_short(void **state) {
    (void)state;
    struct buf b;
    image_init(&b, GGUF_VERSION, 0, 2);
    image_key_u32(&b, "same.key", 1);
    image_key_u32(&b, "same.key", 1);
    expect(&b, GENARM_EFORMAT, "same.key appears twice");
    image_init(&b, GGUF_VERSION, 2, 0);
    image_tensor(&b, "same.tensor", 1, (uint64_t[]){8}, GGML_TYPE_F32, 0);
    image_tensor(&b, "same.tensor", 1, (uint64_t[]){8}, GGML_TYPE_F32, 32);
    image_pad(&b, 1024);
    expect(&b, GENARM_EFORMAT, "same.tensor appears twice");
    char name[GGML_MAX_NAME + 1];
    memset(name, 'n', sizeof name);
    for (size_t len = GGML_MAX_NAME - 1; len <= GGML_MAX_NAME; len++) {
        name[len] = '\0';
        image_init(&b, GGUF_VERSION, 1, 0);
        image_tensor(&b, name, 1, (uint64_t[]){8}, GGML_TYPE_F32, 0);
        image_pad(&b, 1024);
        expect(&b, len < GGML_MAX_NAME ? GENARM_OK : GENARM_EFORMAT, len < GGML_MAX_NAME ? NULL : "a name of 64 bytes");
        name[len] = 'n';
    }
}

static void test_wrong_shapes_and_types_are_refused(void **state) {
    (void)state;
    const uint64_t big = (uint64_t)1 << 40;
    expect_tensor(1, (uint64_t[]){64}, GGML_TYPE_F32, 0, NULL);
    expect_tensor(4, (uint64_t[]){8, 2, 2, 2}, GGML_TYPE_F16, 0, NULL);
    expect_tensor(0, NULL, GGML_TYPE_F32, 0, "0 dimensions");
    expect_tensor(5, (uint64_t[]){1, 1, 1, 1, 1}, GGML_TYPE_F32, 0, "5 dimensions");
    expect_tensor(9, (uint64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, GGML_TYPE_F32, 0, "9 dimensions");
    expect_tensor(2, (uint64_t[]){8, 0}, GGML_TYPE_F32, 0, "dimension 1 is 0");
    expect_tensor(1, (uint64_t[]){UINT64_MAX}, GGML_TYPE_F32, 0, "dimension 0");
    expect_tensor(2, (uint64_t[]){big, big}, GGML_TYPE_F32, 0, "dimension 1");
    expect_tensor(4, (uint64_t[]){65536, 65536, 65536, 65536}, GGML_TYPE_F32, 0, "dimension 3");
    expect_tensor(1, (uint64_t[]){(uint64_t)INT64_MAX}, GGML_TYPE_F32, 0, "in a file of");
    expect_tensor(1, (uint64_t[]){big}, GGML_TYPE_F32, 0, "in a file of");
    expect_tensor(1, (uint64_t[]){33}, GGML_TYPE_Q8_0, 0, "blocks of 32");
    expect_tensor(2, (uint64_t[]){128, 2}, GGML_TYPE_Q4_K, 0, "blocks of 256");
    static const uint32_t types[] = {4, 5, 31, 32, 33, GGML_TYPE_COUNT, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        expect_tensor(1, (uint64_t[]){256}, types[i], 0, "unknown type");
    }
}

static void test_wrong_offsets_are_refused(void **state) {
    (void)state;
    expect_tensor(1, (uint64_t[]){8}, GGML_TYPE_F32, 16, "not aligned");
    expect_tensor(1, (uint64_t[]){8}, GGML_TYPE_F32, 64, "leaves a gap");
    expect_tensor(1, (uint64_t[]){8}, GGML_TYPE_F32, ~(uint64_t)31, "leaves a gap");
    static const struct {
        uint64_t second;
        const char *text;
    } cases[] = {
        {64, NULL}, {32, "overlaps"}, {0, "overlaps"}, {96, "leaves a gap"}, {(uint64_t)1 << 63, "leaves a gap"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        image_init(&b, GGUF_VERSION, 2, 0);
        image_tensor(&b, "a", 1, (uint64_t[]){9}, GGML_TYPE_F32, 0);
        image_tensor(&b, "b", 1, (uint64_t[]){8}, GGML_TYPE_F32, cases[i].second);
        image_pad(&b, 1024);
        expect(&b, cases[i].text ? GENARM_EFORMAT : GENARM_OK, cases[i].text);
    }
}

static void test_what_was_cut_is_said_to_be_cut(void **state) {
    (void)state;
    static const struct {
        enum gguf_type type, of;
        size_t value; /* bytes of the value that is written after its length */
    } cases[] = {{GGUF_TYPE_STRING, GGUF_TYPE_STRING, 20},
                 {GGUF_TYPE_ARRAY, GGUF_TYPE_UINT8, 20},
                 {GGUF_TYPE_ARRAY, GGUF_TYPE_BOOL, 20},
                 {GGUF_TYPE_UINT64, GGUF_TYPE_UINT64, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t missing = 0; missing <= cases[i].value; missing++) {
            struct buf b = with_key("some.key", cases[i].type);
            if (cases[i].type == GGUF_TYPE_ARRAY) {
                image_u32(&b, cases[i].of);
            }
            if (cases[i].value == 20) {
                image_u64(&b, 20);
            }
            for (size_t k = missing; k < cases[i].value; k++) {
                image_u8(&b, 1);
            }
            expect(&b, missing ? GENARM_EFORMAT : GENARM_OK, missing ? "ends too early" : NULL);
        }
    }
}

static void test_a_file_cut_anywhere_is_an_error(void **state) {
    (void)state;
    struct buf whole, part;
    buf_init(&whole, 1 << 24);
    assert_int_equal(file_read(&whole, golden_path("llama.gguf"), NULL), GENARM_OK);
    struct gguf_file f;
    struct genarm_error err;
    must(gguf_file_open(&f, golden_path("llama.gguf"), &err), &err);
    const size_t data = gguf_get_data_offset(f.gguf);
    const int64_t last = gguf_get_n_tensors(f.gguf) - 1;
    const size_t end = data + gguf_get_tensor_offset(f.gguf, last) + gguf_get_tensor_size(f.gguf, last);
    gguf_file_close(&f);
    assert_true(end <= whole.len && data < end);
    for (size_t n = 0; n <= whole.len; n += n < data ? 1 : 997) { /* every byte of the header */
        buf_init(&part, n + 1);
        buf_append(&part, whole.data, n, NULL);
        expect(&part, n < end ? GENARM_EFORMAT : GENARM_OK, NULL);
    }
    const char *path = temp_path("cut.gguf");
    for (size_t k = 0; k < 50; k++) { /* and as a user meets it: 40 places in the header, 10 in the weights */
        const size_t n = k < 40 ? 1 + k * data / 40 : data + (k - 40) * (end - data) / 10;
        put_file(path, whole.data, n);
        struct genarm_model *model = NULL;
        assert_int_equal(genarm_model_load(&model, path, NULL, &err), GENARM_EFORMAT);
        assert_null(model);
        assert_memory_equal(err.where, path, strlen(path));
    }
    buf_deinit(&whole);
}

/* Loads the bytes as a model, or as an adapter for one: success or a clean error. Returns whether it was a success. */
static bool survives(const struct buf *bytes, const char *path, const struct genarm_model *base) {
    struct genarm_error err = {0};
    put_file(path, bytes->data, bytes->len);
    struct genarm_model *model = NULL;
    struct genarm_adapter *adapter = NULL;
    const int rc = base ? genarm_adapter_load(&adapter, base, path, &err) : genarm_model_load(&model, path, NULL, &err);
    if (rc == GENARM_OK) {
        int32_t tokens[64];
        if (model) {
            genarm_tokenize(model, "The Night\n 42!", 14, true, true, tokens, 64);
        }
    } else {
        assert_true(rc < 0 && err.code == rc && err.what[0] && err.where[0]);
        assert_true(!model && !adapter);
    }
    genarm_adapter_free(adapter);
    genarm_model_free(model);
    return rc == GENARM_OK;
}

/* Flips bits of a file's header, one to three at a time. */
static void flip_bits(const char *file, const struct genarm_model *base, int rounds, uint64_t seed) {
    struct buf bytes;
    buf_init(&bytes, 1 << 24);
    assert_int_equal(file_read(&bytes, golden_path(file), NULL), GENARM_OK);
    struct gguf_file f;
    struct genarm_error err;
    must(gguf_file_open(&f, golden_path(file), &err), &err);
    const size_t header = gguf_get_data_offset(f.gguf);
    gguf_file_close(&f);
    struct rng r;
    rng_seed(&r, seed);
    int good = 0;
    const char *path = temp_path("flipped.gguf");
    for (int i = 0; i < rounds; i++) {
        size_t at[3];
        char mask[3];
        const int n = 1 + (int)rng_below(&r, 3);
        for (int k = 0; k < n; k++) {
            at[k] = (size_t)rng_below(&r, header);
            mask[k] = (char)(1 << rng_below(&r, 8));
            bytes.data[at[k]] ^= mask[k];
        }
        good += survives(&bytes, path, base);
        for (int k = n; k-- > 0;) {
            bytes.data[at[k]] ^= mask[k];
        }
    }
    buf_deinit(&bytes);
    assert_in_range(good, 1, rounds - 1); /* the flips were of both kinds */
}

static void test_flipped_bits_in_a_model_never_crash(void **state) {
    (void)state;
    flip_bits("llama.gguf", NULL, 1500, 1);
    flip_bits("qwen3.gguf", NULL, 500, 2);
    flip_bits("llama-yarn.gguf", NULL, 500, 3);
}

static void test_flipped_bits_in_an_adapter_never_crash(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    flip_bits("llama.lora.gguf", model, 3000, 4);
    genarm_model_free(model);
}

static void test_what_cannot_be_opened_is_an_io_error(void **state) {
    (void)state;
    struct gguf_file f;
    struct genarm_error err;
    const char *path = temp_path("nowhere.gguf");
    assert_int_equal(gguf_file_open(&f, path, &err), GENARM_EIO);
    assert_string_equal(err.where, path);
    assert_int_equal(gguf_file_open(&f, "/tmp", &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "folder"));
    assert_int_equal(gguf_file_open(&f, "/dev/null", &err), GENARM_EIO);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(gguf_file_open(&f, path, &err), GENARM_EIO); /* at once: nobody will write into it */
    unlink(path);
    put_file(path, "", 0);
    assert_int_equal(gguf_file_open(&f, path, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "empty"));
}

static void test_metadata_look_ups_check_types(void **state) {
    (void)state;
    struct gguf_context *g = gguf_init_empty();
    gguf_set_val_u32(g, "u", 7);
    gguf_set_val_i32(g, "i", 7);
    gguf_set_val_f32(g, "f", 0.5f);
    gguf_set_val_bool(g, "b", true);
    gguf_set_val_str(g, "s", "text");
    gguf_set_val_str(g, "bytes", "\xFF\xFE");
    gguf_set_arr_data(g, "list", GGUF_TYPE_UINT32, (uint32_t[]){1, 2}, 2);
    struct genarm_error err;
    uint32_t u = 1;
    float f = 1;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(gguf_need_u32(&u, g, "u", &err), GENARM_OK);
    assert_int_equal(u, 7);
    assert_int_equal(gguf_opt_u32(&u, g, "none", 9, &err), GENARM_OK);
    assert_int_equal(u, 9);
    assert_int_equal(gguf_need_f32(&f, g, "f", &err), GENARM_OK);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_opt_bool(&b, g, "b", false, &err), GENARM_OK);
    assert_true(b);
    assert_int_equal(gguf_need_str(&s, g, "s", &err), GENARM_OK);
    assert_string_equal(s, "text");
    assert_int_equal(gguf_need_u32(&u, g, "none", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "none"));
    assert_int_equal(gguf_need_u32(&u, g, "i", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "i has type i32, not u32"));
    assert_int_equal(gguf_opt_u32(&u, g, "list", 0, &err), GENARM_EUNSUPPORTED);
    assert_int_equal(gguf_opt_f32(&f, g, "s", 0, &err), GENARM_EFORMAT);
    assert_int_equal(gguf_opt_str(&s, g, "u", NULL, &err), GENARM_EFORMAT);
    assert_int_equal(gguf_need_str(&s, g, "bytes", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "UTF-8"));
    assert_int_equal(u, 9);
    assert_string_equal(s, "text");
    gguf_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_files_pass),
        cmocka_unit_test(test_other_files_are_recognised),
        cmocka_unit_test(test_absurd_counts_are_refused_before_anything_is_allocated),
        cmocka_unit_test(test_wrong_values_are_refused),
        cmocka_unit_test(test_names_are_unique_and_short),
        cmocka_unit_test(test_wrong_shapes_and_types_are_refused),
        cmocka_unit_test(test_wrong_offsets_are_refused),
        cmocka_unit_test(test_what_was_cut_is_said_to_be_cut),
        cmocka_unit_test(test_a_file_cut_anywhere_is_an_error),
        cmocka_unit_test(test_flipped_bits_in_a_model_never_crash),
        cmocka_unit_test(test_flipped_bits_in_an_adapter_never_crash),
        cmocka_unit_test(test_what_cannot_be_opened_is_an_io_error),
        cmocka_unit_test(test_metadata_look_ups_check_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
