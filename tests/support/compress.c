#include "support/compress.h"

#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/temp.h"

static size_t gzip(char *out, size_t max, const char *bytes, size_t n) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes,
                  .avail_in = (uInt)n,
                  .next_out = (Bytef *)out,
                  .avail_out = (uInt)max};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return max - z.avail_out;
}

char *compress_bytes(enum compression how, const char *bytes, size_t n, size_t *n_out) {
    const size_t max = n + n / 8 + 4096;
    char *out = malloc(max);
    size_t at = 0;
    assert_non_null(out);
    switch (how) {
    case COMPRESS_GZIP:
        at = gzip(out, max, bytes, n);
        break;
    case COMPRESS_XZ:
        assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, (const uint8_t *)bytes, n, (uint8_t *)out,
                                                 &at, max),
                         LZMA_OK);
        break;
    case COMPRESS_ZSTD:
        at = ZSTD_compress(out, max, bytes, n, 1);
        assert_false(ZSTD_isError(at));
        break;
    case COMPRESS_NONE:
    case COMPRESSIONS:
        memcpy(out, bytes, n);
        at = n;
    }
    *n_out = at;
    return out;
}

const char *compress_file(enum compression how, const char *name, const char *bytes, size_t n) {
    size_t n_out;
    char *out = compress_bytes(how, bytes, n, &n_out);
    const char *path = temp_path(name);
    assert_int_equal(file_write(path, out, n_out, NULL), GENARM_OK);
    free(out);
    return path;
}
