/* See input.h. */
#include "data/input.h"

#include <errno.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "data/foreign.h"

enum {
    BLOCK = 1 << 16,       /* stored bytes read at once */
    XZ_MEMORY = 256 << 20, /* of a decoder, at most; xz -9 asks for 65 MiB */
    ZSTD_WINDOW_LOG = 27   /* 128 MiB, what zstd itself decompresses without further options */
};

struct codec;

struct input {
    FILE *stream;
    const char *path;
    const struct codec *codec;
    unsigned char *block; /* [BLOCK]; [at, n) is not taken yet */
    size_t at, n;
    int64_t taken, size;
    bool stored_end; /* the file has no more bytes than those of the block */
    bool inside;     /* of a compressed stream: the file must not end here */
    bool ended;
    const char *fault; /* why nothing more can be decompressed; static storage */
    int io_error;      /* errno of a failed read */
    union {
        z_stream gzip;
        lzma_stream xz;
        ZSTD_DStream *zstd;
    } as;
};

struct codec {
    const char *name, *magic;
    size_t n_magic;
    bool (*start)(struct input *in); /* false: no memory */
    size_t (*run)(struct input *in, char *bytes, size_t max); /* fewer than max: the end, or in->fault */
    void (*stop)(struct input *in);
};

/* ---- stored bytes ---- */

static const char cut_short[] = "the compressed data is cut short";

/* Whether there are stored bytes to take. */
static bool fill(struct input *in) {
    if (in->at < in->n) {
        return true;
    }
    if (!in->stored_end) {
        errno = 0;
        in->at = 0;
        in->n = fread(in->block, 1, BLOCK, in->stream);
        in->taken += (int64_t)in->n;
        in->stored_end = in->n < BLOCK;
        if (ferror(in->stream)) {
            in->io_error = errno ? errno : EIO;
        }
    }
    return in->at < in->n;
}

/* ---- plain ---- */

static bool plain_start(struct input *in) {
    (void)in;
    return true;
}

static size_t plain_run(struct input *in, char *bytes, size_t max) {
    size_t done = 0;
    while (done < max && fill(in)) {
        const size_t n = in->n - in->at < max - done ? in->n - in->at : max - done;
        memcpy(bytes + done, in->block + in->at, n);
        in->at += n;
        done += n;
    }
    return done;
}

static void plain_stop(struct input *in) { (void)in; }

/* ---- gzip (RFC 1952): members one after another, zeros behind them as tape drives leave ---- */

static bool gzip_start(struct input *in) {
    in->inside = true;
    return inflateInit2(&in->as.gzip, 16 + MAX_WBITS) == Z_OK;
}

/* Between members: false at the end of the file. */
static bool gzip_next_member(struct input *in) {
    while (fill(in) && in->block[in->at] == 0) {
        in->at++;
    }
    if (in->at < in->n) {
        inflateReset(&in->as.gzip);
        in->inside = true;
    }
    return in->inside;
}

static size_t gzip_run(struct input *in, char *bytes, size_t max) {
    z_stream *z = &in->as.gzip;
    z->next_out = (Bytef *)bytes;
    z->avail_out = (uInt)max;
    while (z->avail_out > 0 && (in->inside || gzip_next_member(in))) {
        if (!fill(in)) {
            in->fault = cut_short;
            break;
        }
        z->next_in = in->block + in->at;
        z->avail_in = (uInt)(in->n - in->at);
        const int rc = inflate(z, Z_NO_FLUSH);
        in->at = in->n - z->avail_in;
        if (rc == Z_STREAM_END) {
            in->inside = false;
        } else if (rc != Z_OK) {
            in->fault = rc == Z_MEM_ERROR ? "not enough memory to decompress" : z->msg ? z->msg : "damaged";
            break;
        }
    }
    return max - z->avail_out;
}

static void gzip_stop(struct input *in) { inflateEnd(&in->as.gzip); }

/* ---- xz ---- */

static bool xz_start(struct input *in) {
    in->as.xz = (lzma_stream)LZMA_STREAM_INIT;
    return lzma_stream_decoder(&in->as.xz, XZ_MEMORY, LZMA_CONCATENATED) == LZMA_OK;
}

static const char *xz_fault(lzma_ret rc) {
    switch (rc) {
    case LZMA_BUF_ERROR:
        return cut_short;
    case LZMA_MEM_ERROR:
        return "not enough memory to decompress";
    case LZMA_MEMLIMIT_ERROR:
        return "decompressing would need more than 256 MiB of memory";
    case LZMA_OPTIONS_ERROR:
        return "compressed with options that this liblzma does not know";
    default:
        return "the compressed data is damaged";
    }
}

static size_t xz_run(struct input *in, char *bytes, size_t max) {
    lzma_stream *s = &in->as.xz;
    s->next_out = (uint8_t *)bytes;
    s->avail_out = max;
    while (s->avail_out > 0 && !in->ended && !in->fault) {
        const bool more = fill(in);
        s->next_in = in->block + in->at;
        s->avail_in = in->n - in->at;
        const lzma_ret rc = lzma_code(s, more ? LZMA_RUN : LZMA_FINISH);
        in->at = in->n - s->avail_in;
        in->ended = rc == LZMA_STREAM_END;
        if (rc != LZMA_OK && !in->ended) {
            in->fault = xz_fault(rc);
        }
    }
    return max - s->avail_out;
}

static void xz_stop(struct input *in) { lzma_end(&in->as.xz); }

/* ---- Zstandard (RFC 8878) ---- */

static bool zstd_start(struct input *in) {
    in->as.zstd = ZSTD_createDStream();
    return in->as.zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(in->as.zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
}

static size_t zstd_run(struct input *in, char *bytes, size_t max) {
    ZSTD_outBuffer out = {.dst = bytes, .size = max};
    while (out.pos < max && !in->fault) {
        const bool more = fill(in);
        if (!more && !in->inside) {
            break;
        }
        ZSTD_inBuffer stored = {.src = in->block, .size = in->n, .pos = in->at};
        const size_t before = out.pos, rc = ZSTD_decompressStream(in->as.zstd, &out, &stored);
        const bool stuck = !more && out.pos == before; /* without input it can only hand out what it holds back */
        in->at = stored.pos;
        in->inside = rc != 0;
        if (ZSTD_isError(rc)) {
            in->fault = ZSTD_getErrorName(rc);
        } else if (stuck && in->inside) {
            in->fault = cut_short;
        }
    }
    return out.pos;
}

static void zstd_stop(struct input *in) { ZSTD_freeDStream(in->as.zstd); }

/* ---- what a file is ---- */

static const struct codec codecs[] = {
    {"gzip", "\x1F\x8B", 2, gzip_start, gzip_run, gzip_stop},
    {"xz", "\xFD\x37zXZ\0", 6, xz_start, xz_run, xz_stop},
    {"zstd", "\x28\xB5\x2F\xFD", 4, zstd_start, zstd_run, zstd_stop},
    {"plain", "", 0, plain_start, plain_run, plain_stop}, /* the last: fits everything */
};

static bool starts(const struct input *in, const char *magic, size_t n) {
    return in->n >= n && memcmp(in->block, magic, n) == 0;
}

static int recognise(struct input *in, struct genarm_error *err) {
    const int rc = foreign_check_bytes(in->block, in->n, in->path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const struct codec *codec = codecs;
    while (!starts(in, codec->magic, codec->n_magic)) {
        codec++;
    }
    in->codec = codec; /* from here on it is stopped, also when it did not start */
    return codec->start(in) ? GENARM_OK : error_nomem(err, "decompression");
}

static int io_error(const struct input *in, struct genarm_error *err) {
    return error_set(err, GENARM_EIO, "cannot read the file: %s", strerror(in->io_error));
}

/* ---- the input ---- */

int input_open(struct input **out, const char *path, struct genarm_error *err) {
    struct stat st;
    int rc = foreign_check_folder(path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    FILE *stream = fopen(path, "rbe");
    if (!stream) {
        rc = error_set(err, GENARM_EIO, "cannot open the file: %s", strerror(errno));
        return error_hint(err, error_at(err, rc, "%s", path), "is the path right?");
    }
    struct input *in = calloc(1, sizeof *in);
    unsigned char *block = malloc(BLOCK);
    if (!in || !block) {
        free(in);
        free(block);
        fclose(stream);
        return error_nomem(err, "a file");
    }
    *in = (struct input){.stream = stream, .path = path, .block = block};
    in->size = fstat(fileno(stream), &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : 0;
    fill(in);
    rc = in->io_error ? error_at(err, io_error(in, err), "%s", path) : recognise(in, err);
    if (rc != GENARM_OK) {
        input_close(in);
        return rc;
    }
    *out = in;
    return GENARM_OK;
}

void input_close(struct input *in) {
    if (!in) {
        return;
    }
    if (in->codec) {
        in->codec->stop(in);
    }
    fclose(in->stream);
    free(in->block);
    free(in);
}

int64_t input_read(struct input *in, char *bytes, size_t max, struct genarm_error *err) {
    if (max > BLOCK) {
        max = BLOCK; /* and so within every library's idea of a length */
    }
    const size_t n = in->fault ? 0 : in->codec->run(in, bytes, max);
    if (n > 0) {
        return (int64_t)n;
    }
    if (in->io_error) {
        return io_error(in, err);
    }
    if (in->fault) {
        const int rc = error_set(err, GENARM_EFORMAT, "cannot decompress (%s): %s", in->codec->name, in->fault);
        return error_hint(err, rc, "is the file complete? compare its size and checksum with the source's");
    }
    return 0;
}

const char *input_codec(const struct input *in) { return in->codec->name; }

void input_progress(const struct input *in, int64_t *done, int64_t *all) {
    *done = in->taken;
    *all = in->size;
}
