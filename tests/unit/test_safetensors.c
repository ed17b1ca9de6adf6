/* safetensors from outside: what is wrong is found before it is used, and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "convert/safetensors.h"
#include "support/golden.h"
#include "support/temp.h"

/* A file of a header and so many bytes of data, its header length as told (-1: as it is). */
static const char *write_image(const char *header, size_t n_data, int64_t told) {
    const char *path = temp_path("image.safetensors");
    const uint64_t n = told < 0 ? strlen(header) : (uint64_t)told;
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(buf_append(&b, &n, sizeof n, NULL), GENARM_OK);
    assert_int_equal(buf_puts(&b, header, NULL), GENARM_OK);
    for (size_t i = 0; i < n_data; i++) {
        assert_int_equal(buf_append(&b, "\x3f", 1, NULL), GENARM_OK);
    }
    assert_int_equal(file_write(path, b.data, b.len, NULL), GENARM_OK);
    buf_deinit(&b);
    return path;
}

static void expect(const char *path, const char *where, const char *what) {
    struct safetensors st;
    struct genarm_error err = {0};
    const int rc = safetensors_open(&st, path, &err);
    if (rc != GENARM_EFORMAT || !strstr(err.what, what) || !strstr(err.where, where) || !strstr(err.where, path)) {
        fail_msg("got %d %s: \"%s\", expected \"%s\"", rc, err.where, err.what, what);
    }
}

static void expect_image(const char *header, size_t n_data, const char *where, const char *what) {
    expect(write_image(header, n_data, -1), where, what);
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                           "\"empty\":{\"dtype\":\"I64\",\"shape\":[5,0],\"data_offsets\":[8,8]},"
                           "\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[20,21]}}   ";

static void test_a_good_file_is_read(void **state) {
    (void)state;
    struct safetensors st;
    struct genarm_error err = {0};
    must(safetensors_open(&st, write_image(good, 21, -1), &err), &err);
    assert_int_equal(st.n_tensors, 4);
    assert_string_equal(st.tensors[0].name, "b");
    assert_int_equal(st.tensors[0].type, SAFETENSORS_F16);
    assert_int_equal(st.tensors[0].n_dims, 2);
    assert_int_equal(st.tensors[0].shape[1], 3);
    assert_int_equal(st.tensors[0].size, 12);
    assert_ptr_equal(st.tensors[0].data, (const char *)st.tensors[1].data + 8);
    assert_int_equal(st.tensors[2].size, 0);
    assert_int_equal(st.tensors[3].n_dims, 0);
    assert_string_equal(json_string_value(json_object_get(st.metadata, "format")), "pt");
    safetensors_close(&st);
    safetensors_close(&st);
}

static void test_what_is_written_reads_back(void **state) {
    (void)state;
    const float x[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    const uint16_t y[1] = {0x3c00};
    const struct safetensors_tensor tensors[] = {
        {.name = "x.weight", .type = SAFETENSORS_F32, .n_dims = 2, .shape = {3, 2}, .data = x},
        {.name = "ü \"quoted\"", .type = SAFETENSORS_BF16, .n_dims = 1, .shape = {1}, .data = y},
        {.name = "none", .type = SAFETENSORS_F64, .n_dims = 2, .shape = {0, 7}, .data = NULL},
    };
    json_t *metadata = json_pack("{s:s}", "key", "value\n");
    struct genarm_error err = {0};
    struct safetensors st;
    must(safetensors_write(temp_path("w.safetensors"), tensors, 3, metadata, &err), &err);
    must(safetensors_open(&st, temp_path("w.safetensors"), &err), &err);
    assert_int_equal(st.n_tensors, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(st.tensors[i].name, tensors[i].name);
        assert_int_equal(st.tensors[i].type, tensors[i].type);
        assert_memory_equal(st.tensors[i].shape, tensors[i].shape, sizeof tensors[i].shape);
    }
    assert_memory_equal(st.tensors[0].data, x, sizeof x);
    assert_int_equal((uintptr_t)st.tensors[0].data % 8, 0);
    assert_memory_equal(st.tensors[1].data, y, sizeof y);
    assert_string_equal(json_string_value(json_object_get(st.metadata, "key")), "value\n");
    safetensors_close(&st);
    struct safetensors_tensor twice[] = {tensors[0], tensors[0]};
    assert_int_equal(safetensors_write(temp_path("twice.safetensors"), twice, 2, NULL, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "x.weight is there twice"));
    assert_false(file_exists(temp_path("twice.safetensors")));
    json_decref(metadata);
}

static void test_every_cut_is_noticed(void **state) {
    (void)state;
    struct buf whole;
    buf_init(&whole, 1 << 20);
    assert_int_equal(file_read(&whole, write_image(good, 21, -1), NULL), GENARM_OK);
    for (size_t n = 0; n < whole.len; n++) {
        struct safetensors st;
        struct genarm_error err = {0};
        assert_int_equal(file_write(temp_path("cut.safetensors"), whole.data, n, NULL), GENARM_OK);
        assert_int_equal(safetensors_open(&st, temp_path("cut.safetensors"), &err), GENARM_EFORMAT);
        assert_non_null(strstr(err.where, "cut.safetensors"));
    }
    buf_deinit(&whole);
}

/* No byte of a header may crash the reader or be believed. */
static void test_a_flipped_byte_is_an_error_or_another_good_file(void **state) {
    (void)state;
    struct buf whole;
    buf_init(&whole, 1 << 20);
    assert_int_equal(file_read(&whole, write_image(good, 21, -1), NULL), GENARM_OK);
    for (size_t i = 0; i < whole.len - 21; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct safetensors st;
            whole.data[i] = (char)(whole.data[i] ^ 1 << bit);
            assert_int_equal(file_write(temp_path("flip.safetensors"), whole.data, whole.len, NULL), GENARM_OK);
            const int rc = safetensors_open(&st, temp_path("flip.safetensors"), NULL);
            if (rc == GENARM_OK) {
                for (size_t t = 0; t < st.n_tensors; t++) {
                    const uint8_t *begin = st.tensors[t].data;
                    assert_true(begin >= st.map && st.tensors[t].size <= (size_t)(st.map + st.map_size - begin));
                }
                safetensors_close(&st);
            } else {
                assert_int_equal(rc, GENARM_EFORMAT);
            }
            whole.data[i] = (char)(whole.data[i] ^ 1 << bit);
        }
    }
    buf_deinit(&whole);
}

static void test_headers_that_are_none(void **state) {
    (void)state;
    expect(write_image(good, 21, INT64_MAX), "", "no header at its start");
    expect(write_image(good, 21, 100000001), "", "no header at its start");
    expect(write_image(good, 21, 90000000), "", "the header has 90000000 bytes");
    expect(write_image(good, 21, 0), "", "no header at its start");
    expect(write_image("[]", 0, -1), "", "no header at its start");
    expect(write_image(" {}", 0, -1), "", "no header at its start");
    expect(write_image("{\"a\":}", 0, -1), "", "broken JSON");
    expect(write_image("{} x", 0, -1), "", "broken JSON");
    expect(write_image("{\"\xff\":1}", 0, -1), "", "broken JSON");
    expect(golden_path("llama.lora.gguf"), "", "no header at its start");
    struct safetensors st;
    struct genarm_error err = {0};
    assert_int_equal(safetensors_open(&st, temp_path("nowhere"), &err), GENARM_EIO);
}

static void test_names_that_are_there_twice(void **state) {
    (void)state;
    expect_image("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                 "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                 2, "", "duplicate");
    expect_image("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "", "duplicate");
}

static void test_entries_that_are_wrong_name_the_tensor(void **state) {
    (void)state;
    static const struct {
        const char *entry, *what;
        size_t n_data;
    } cases[] = {
        {"1", "not {dtype, shape, data_offsets}", 0},
        {"{\"dtype\":\"F32\",\"shape\":[1]}", "not {dtype, shape, data_offsets}", 0},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}", "not {dtype, shape, data_offsets}", 4},
        {"{\"dtype\":\"F32\",\"shapes\":[1],\"data_offsets\":[0,4]}", "the shape is no list", 4},
        {"{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}", "unknown dtype \"F33\"", 4},
        {"{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}", "\"dtype\" must be a string", 4},
        {"{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}", "the shape is no list", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}", "at most 8 numbers", 4},
        {"{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}", "dimension 0", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1,1.0],\"data_offsets\":[0,4]}", "dimension 1", 4},
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}", "too large", 4},
        {"{\"dtype\":\"F32\",\"shape\":[2147483648,4294967296],\"data_offsets\":[0,4]}", "too large", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}", "data_offsets", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}", "data_offsets", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}", "data_offsets", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}", "ends at byte 5 of 4", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775804,9223372036854775807]}", "ends at byte", 4},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}", "4 bytes of data, but its shape takes 8", 4},
        {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}", "begins after a hole", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[400];
        snprintf(header, sizeof header, "{\"some.weight\":%s}", cases[i].entry);
        expect_image(header, cases[i].n_data, ": some.weight", cases[i].what);
    }
    expect_image("{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "", "no name");
}

static void test_data_that_overlaps_or_has_holes(void **state) {
    (void)state;
    static const char two[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                              "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]}}";
    char header[200];
    snprintf(header, sizeof header, two, 3, 7);
    expect_image(header, 7, ": b", "overlaps");
    snprintf(header, sizeof header, two, 0, 4);
    expect_image(header, 4, "", "overlaps");
    snprintf(header, sizeof header, two, 5, 9);
    expect_image(header, 9, ": b", "hole");
    snprintf(header, sizeof header, two, 4, 8);
    expect_image(header, 9, "", "1 bytes at the end belong to no tensor");
    struct safetensors st;
    assert_int_equal(safetensors_open(&st, write_image(header, 8, -1), NULL), GENARM_OK);
    safetensors_close(&st);
    expect_image("{}", 3, "", "3 bytes at the end");
}

static void test_metadata_is_an_object_of_strings(void **state) {
    (void)state;
    expect_image("{\"__metadata__\":[]}", 0, "", "__metadata__ is no JSON object");
    expect_image("{\"__metadata__\":{\"format\":1}}", 0, "", "\"format\" is not a string");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_file_is_read),
        cmocka_unit_test(test_what_is_written_reads_back),
        cmocka_unit_test(test_every_cut_is_noticed),
        cmocka_unit_test(test_a_flipped_byte_is_an_error_or_another_good_file),
        cmocka_unit_test(test_headers_that_are_none),
        cmocka_unit_test(test_names_that_are_there_twice),
        cmocka_unit_test(test_entries_that_are_wrong_name_the_tensor),
        cmocka_unit_test(test_data_that_overlaps_or_has_holes),
        cmocka_unit_test(test_metadata_is_an_object_of_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
