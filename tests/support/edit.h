/* GGUF files that differ from a good one in one thing. */
#ifndef SUPPORT_EDIT_H
#define SUPPORT_EDIT_H

#include <ggml.h>
#include <gguf.h>

/* Metadata and tensors of a file, in memory. Change the metadata through gguf, values through edit_tensor's data. */
struct edit {
    struct gguf_context *gguf;
    struct ggml_context *tensors; /* with data */
    struct ggml_context *more;    /* tensors that were added */
};

void edit_open(struct edit *e, const char *path);
struct ggml_tensor *edit_tensor(struct edit *e, const char *name); /* fails the test when there is none */
void edit_remove(struct edit *e, const char *name);
void edit_rename(struct edit *e, const char *name, const char *to);
/* Puts a zeroed tensor of another type or shape in the place of one, or adds one. Its data is returned. */
void *edit_add(struct edit *e, const char *name, enum ggml_type type, int64_t ne0, int64_t ne1);
/* The same values in another type (of those with a reference quantisation). */
void edit_convert(struct edit *e, const char *name, enum ggml_type type);
/* Copies an array of strings that can then be changed. */
char **edit_strings(struct edit *e, const char *key, size_t *n);
void edit_set_strings(struct edit *e, const char *key, char **strings, size_t n); /* frees them */

/* Writes the file and frees everything. Returns `path`. */
const char *edit_save(struct edit *e, const char *path);

#endif
