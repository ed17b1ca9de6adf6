#include "support/image.h"

#include <stdlib.h>
#include <string.h>

static void put(struct buf *b, const void *bytes, size_t n) {
    if (buf_append(b, bytes, n, NULL) != GENARM_OK) {
        abort();
    }
}

void image_u8(struct buf *b, uint8_t value) { put(b, &value, sizeof value); }
void image_u32(struct buf *b, uint32_t value) { put(b, &value, sizeof value); }
void image_u64(struct buf *b, uint64_t value) { put(b, &value, sizeof value); }

void image_str(struct buf *b, const char *s) {
    image_u64(b, strlen(s));
    put(b, s, strlen(s));
}

void image_pad(struct buf *b, size_t align) {
    while (b->len % align != 0) {
        image_u8(b, 0);
    }
}

void image_init(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    buf_init(b, 1 << 24);
    put(b, GGUF_MAGIC, 4);
    image_u32(b, version);
    image_u64(b, n_tensors);
    image_u64(b, n_keys);
}

void image_key(struct buf *b, const char *key, enum gguf_type type) {
    image_str(b, key);
    image_u32(b, type);
}

void image_key_u32(struct buf *b, const char *key, uint32_t value) {
    image_key(b, key, GGUF_TYPE_UINT32);
    image_u32(b, value);
}

void image_key_str(struct buf *b, const char *key, const char *value) {
    image_key(b, key, GGUF_TYPE_STRING);
    image_str(b, value);
}

void image_tensor(struct buf *b, const char *name, uint32_t n_dims, const uint64_t *ne, enum ggml_type type,
                  uint64_t offset) {
    image_str(b, name);
    image_u32(b, n_dims);
    for (uint32_t d = 0; d < n_dims && d < 16; d++) {
        image_u64(b, ne[d]);
    }
    image_u32(b, type);
    image_u64(b, offset);
}
