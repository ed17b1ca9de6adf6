/* Bytes from files: compressed ones are read like plain ones whatever they are called, damage is named after everything
 * before it was delivered, and what is no text is refused with the way to convert it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "data/input.h"
#include "support/compress.h"
#include "support/temp.h"

static const char *const codecs[COMPRESSIONS] = {"plain", "gzip", "xz", "zstd"};

/* Everything up to the end or an error, in reads of `step` bytes. */
static int read_all(struct buf *b, const char *path, size_t step, char codec[16], struct genarm_error *err) {
    struct input *in = NULL;
    char bytes[1 << 12];
    int64_t n = 0;
    buf_init(b, 1 << 26);
    int rc = buf_append(b, "", 0, err);
    if (rc == GENARM_OK) {
        rc = input_open(&in, path, err);
    }
    if (rc == GENARM_OK) {
        snprintf(codec, 16, "%s", input_codec(in));
        while ((n = input_read(in, bytes, step, err)) > 0) {
            buf_append(b, bytes, (size_t)n, NULL);
        }
        rc = (int)n;
        input_close(in);
    }
    return rc;
}

/* Text that does not compress to nothing. */
static char *some_text(size_t n) {
    char *text = malloc(n + 1);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        text[i] = (char)('a' + (state >> 24) % 26);
    }
    text[n] = '\0';
    return text;
}

static void test_every_compression_reads_back_the_bytes(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 100, 65536, 300000}, steps[] = {1, 777, 4096};
    char *text = some_text(300000);
    for (int how = 0; how < COMPRESSIONS; how++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const char *path = compress_file((enum compression)how, "bytes.jsonl", text, sizes[i]);
            for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
                struct buf b;
                struct genarm_error err = {0};
                char codec[16];
                assert_int_equal(read_all(&b, path, steps[k], codec, &err), GENARM_OK);
                assert_string_equal(codec, codecs[how]);
                assert_int_equal(b.len, sizes[i]);
                assert_memory_equal(b.data, text, sizes[i]);
                buf_deinit(&b);
            }
        }
    }
    free(text);
}

static void test_streams_one_after_another_are_one_text(void **state) {
    (void)state;
    for (int how = COMPRESS_GZIP; how < COMPRESSIONS; how++) {
        struct buf file, b;
        struct genarm_error err = {0};
        char codec[16];
        buf_init(&file, 1 << 20);
        for (int i = 0; i < 3; i++) {
            size_t n;
            char *part = compress_bytes((enum compression)how, "one two three ", 14, &n);
            buf_append(&file, part, n, NULL);
            free(part);
        }
        if (how == COMPRESS_GZIP) {
            buf_append(&file, "\0\0\0\0", 4, NULL); /* padding */
        }
        const char *path = temp_path("parts");
        file_write(path, file.data, file.len, NULL);
        assert_int_equal(read_all(&b, path, 4096, codec, &err), GENARM_OK);
        assert_string_equal(b.data, "one two three one two three one two three ");
        buf_deinit(&b);
        buf_deinit(&file);
    }
}

static void test_a_cut_file_delivers_what_is_there_and_then_fails(void **state) {
    (void)state;
    const size_t n = 200000;
    char *text = some_text(n);
    for (int how = COMPRESS_GZIP; how < COMPRESSIONS; how++) {
        size_t size;
        char *bytes = compress_bytes((enum compression)how, text, n, &size);
        size_t most = 0;
        for (size_t cut = size - 1; cut > 8; cut -= cut > size - 12 ? 1 : cut / 9 + 1) {
            struct buf b;
            struct genarm_error err = {0};
            char codec[16];
            const char *path = temp_path("cut");
            file_write(path, bytes, cut, NULL);
            assert_int_equal(read_all(&b, path, 4096, codec, &err), GENARM_EFORMAT);
            assert_non_null(strstr(err.what, "cut short"));
            assert_non_null(strstr(err.what, codecs[how]));
            assert_true(strlen(err.hint) > 0);
            assert_memory_equal(b.data, text, b.len);
            most = b.len > most ? b.len : most;
            buf_deinit(&b);
        }
        assert_true(most > n / 2);
        free(bytes);
    }
    free(text);
}

static void test_damage_is_an_error_and_nothing_wrong_is_delivered_unnoticed(void **state) {
    (void)state;
    char *text = some_text(100000);
    for (int how = COMPRESS_GZIP; how < COMPRESSIONS; how++) {
        size_t size;
        char *bytes = compress_bytes((enum compression)how, text, 100000, &size);
        for (size_t at = 10; at < size; at += size / 13) {
            struct buf b;
            struct genarm_error err = {0};
            char codec[16];
            const char *path = temp_path("damaged");
            bytes[at] = (char)(bytes[at] ^ 0x55);
            file_write(path, bytes, size, NULL);
            const int rc = read_all(&b, path, 4096, codec, &err);
            assert_true(rc == GENARM_EFORMAT || (rc == GENARM_OK && how == COMPRESS_ZSTD) ||
                        (b.len == 100000 && memcmp(b.data, text, b.len) == 0)); /* zstd: no checksum by default */
            bytes[at] = (char)(bytes[at] ^ 0x55);
            buf_deinit(&b);
        }
        free(bytes);
    }
    free(text);
}

static void test_bytes_behind_the_compressed_data_are_an_error(void **state) {
    (void)state;
    for (int how = COMPRESS_GZIP; how < COMPRESSIONS; how++) {
        size_t n;
        struct buf b;
        struct genarm_error err = {0};
        char codec[16], *bytes = compress_bytes((enum compression)how, "text", 4, &n);
        bytes = realloc(bytes, n + 7);
        memcpy(bytes + n, "garbage", 7);
        const char *path = temp_path("behind");
        file_write(path, bytes, n + 7, NULL);
        assert_int_equal(read_all(&b, path, 4096, codec, &err), GENARM_EFORMAT);
        assert_string_equal(b.data, "text");
        buf_deinit(&b);
        free(bytes);
    }
}

static void test_what_is_no_text_is_refused_with_the_way_to_convert_it(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says, *hint;
    } cases[] = {
        {"PAR1\x15\x04", 6, "Parquet", "p.ParquetFile(sys.argv[1])"},
        {"ARROW1\0\0", 8, "Arrow file", "p.open_file("},
        {"\xFF\xFF\xFF\xFF\x10\0", 6, "Arrow stream", "p.open_stream("},
        {"BZh91AY", 7, "bzip2", "bunzip2"},
        {"PK\x03\x04 ", 5, "zip", "unzip"},
        {"GGUF\x03", 5, "GGUF", "-m"},
        {"\xFF\xFE{\0", 4, "UTF-16", "iconv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        struct genarm_error err = {0};
        char codec[16];
        const char *path = temp_path("other.jsonl");
        file_write(path, cases[i].bytes, cases[i].n, NULL);
        assert_int_equal(read_all(&b, path, 4096, codec, &err), GENARM_EUNSUPPORTED);
        assert_string_equal(err.where, path);
        assert_non_null(strstr(err.what, cases[i].says));
        assert_non_null(strstr(err.hint, cases[i].hint));
        buf_deinit(&b);
    }
}

static void test_files_that_cannot_be_read_are_errors(void **state) {
    (void)state;
    struct buf b;
    struct genarm_error err = {0};
    char codec[16];
    assert_int_equal(read_all(&b, "/tmp/genarm-no-such-file", 4096, codec, &err), GENARM_EIO);
    assert_string_equal(err.where, "/tmp/genarm-no-such-file");
    buf_deinit(&b);
    assert_int_equal(read_all(&b, "/tmp", 4096, codec, &err), GENARM_EIO);
    assert_string_equal(err.where, "/tmp");
    buf_deinit(&b);
}

static void test_a_pipe_is_read_like_a_file(void **state) {
    (void)state;
    size_t n;
    struct buf b;
    char codec[16], path[32], *bytes = compress_bytes(COMPRESS_GZIP, "through a pipe", 14, &n);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], bytes, n), (ssize_t)n);
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    assert_int_equal(read_all(&b, path, 4096, codec, NULL), GENARM_OK);
    assert_string_equal(b.data, "through a pipe");
    close(ends[0]);
    buf_deinit(&b);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_compression_reads_back_the_bytes),
        cmocka_unit_test(test_streams_one_after_another_are_one_text),
        cmocka_unit_test(test_a_cut_file_delivers_what_is_there_and_then_fails),
        cmocka_unit_test(test_damage_is_an_error_and_nothing_wrong_is_delivered_unnoticed),
        cmocka_unit_test(test_bytes_behind_the_compressed_data_are_an_error),
        cmocka_unit_test(test_what_is_no_text_is_refused_with_the_way_to_convert_it),
        cmocka_unit_test(test_files_that_cannot_be_read_are_errors),
        cmocka_unit_test(test_a_pipe_is_read_like_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
