/* GGUF files made byte by byte, wrong ones too. */
#ifndef SUPPORT_IMAGE_H
#define SUPPORT_IMAGE_H

#include <ggml.h>
#include <gguf.h>
#include <stdint.h>

#include "base/buf.h"

void image_init(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys);
void image_u8(struct buf *b, uint8_t value);
void image_u32(struct buf *b, uint32_t value);
void image_u64(struct buf *b, uint64_t value);
void image_str(struct buf *b, const char *s);
void image_pad(struct buf *b, size_t align);

void image_key(struct buf *b, const char *key, enum gguf_type type); /* its value follows */
void image_key_u32(struct buf *b, const char *key, uint32_t value);
void image_key_str(struct buf *b, const char *key, const char *value);
void image_tensor(struct buf *b, const char *name, uint32_t n_dims, const uint64_t *ne, enum ggml_type type,
                  uint64_t offset);

#endif
