/* Reading golden files: tests/golden/README.md says what they hold. Failures fail the running cmocka test. */
#ifndef SUPPORT_GOLDEN_H
#define SUPPORT_GOLDEN_H

#include <ggml.h>
#include <gguf.h>
#include <stddef.h>
#include <stdint.h>

#include "genarm/genarm.h"

struct golden {
    struct gguf_context *gguf;
    struct ggml_context *ctx; /* holds the tensors' data */
};

/* Path of a file in tests/golden; the buffer is static and reused by every eighth call. */
const char *golden_path(const char *file);

void golden_open(struct golden *g, const char *name);      /* NAME.golden.gguf */
void golden_open_file(struct golden *g, const char *file); /* any other of them */
void golden_close(struct golden *g);

/* Tensor data by name (printf-like); *n entries. */
const float *golden_f32(const struct golden *g, size_t *n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
const int32_t *golden_i32(const struct golden *g, size_t *n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct ggml_tensor *golden_tensor(const struct golden *g, const char *name); /* NULL: there is none */
double golden_number(const struct golden *g, const char *key);               /* u32 or f64 metadata */

/* What golden_model loads models for; AUTO at first. Tests that hold for every engine run once for each. */
extern enum genarm_engine golden_engine;
const char *golden_engine_name(void);

/* Loads tests/golden/FILE, failing the test with the library's message. */
struct genarm_model *golden_model(const char *file);
struct genarm_adapter *golden_adapter(const struct genarm_model *model, const char *file);

/* Fails the test unless rc is 0, showing the error. */
void must(int rc, const struct genarm_error *err);

#endif
