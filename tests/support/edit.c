#include "support/edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MORE = 8 << 20 };

void edit_open(struct edit *e, const char *path) {
    *e = (struct edit){0};
    e->gguf = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = false, .ctx = &e->tensors});
    if (!e->gguf) {
        fail_msg("cannot read %s", path);
    }
    e->more = ggml_init((struct ggml_init_params){.mem_size = MORE});
}

struct ggml_tensor *edit_tensor(struct edit *e, const char *name) {
    struct ggml_tensor *t = ggml_get_tensor(e->more, name);
    t = t ? t : ggml_get_tensor(e->tensors, name);
    if (!t) {
        fail_msg("there is no tensor %s", name);
    }
    return t;
}

void edit_remove(struct edit *e, const char *name) { ggml_set_name(edit_tensor(e, name), ""); }

void edit_rename(struct edit *e, const char *name, const char *to) { ggml_set_name(edit_tensor(e, name), to); }

void *edit_add(struct edit *e, const char *name, enum ggml_type type, int64_t ne0, int64_t ne1) {
    struct ggml_tensor *old = ggml_get_tensor(e->tensors, name);
    if (old) {
        ggml_set_name(old, "");
    }
    struct ggml_tensor *t = ggml_new_tensor_2d(e->more, type, ne0, ne1);
    memset(t->data, 0, ggml_nbytes(t));
    ggml_set_name(t, name);
    return t->data;
}

void edit_convert(struct edit *e, const char *name, enum ggml_type type) {
    const struct ggml_tensor *old = edit_tensor(e, name);
    assert_int_equal(old->type, GGML_TYPE_F32);
    const float *values = old->data;
    const int64_t ne0 = old->ne[0], ne1 = old->ne[1];
    ggml_quantize_chunk(type, values, edit_add(e, name, type, ne0, ne1), 0, ne1, ne0, NULL);
}

char **edit_strings(struct edit *e, const char *key, size_t *n) {
    const int64_t id = gguf_find_key(e->gguf, key);
    assert_true(id >= 0);
    *n = gguf_get_arr_n(e->gguf, id);
    char **strings = malloc((*n + 1) * sizeof *strings);
    assert_non_null(strings);
    for (size_t i = 0; i < *n; i++) {
        strings[i] = strdup(gguf_get_arr_str(e->gguf, id, i));
    }
    return strings;
}

void edit_set_strings(struct edit *e, const char *key, char **strings, size_t n) {
    gguf_set_arr_str(e->gguf, key, (const char **)strings, n);
    for (size_t i = 0; i < n; i++) {
        free(strings[i]);
    }
    free(strings);
}

static void add_all(struct gguf_context *to, struct ggml_context *from) {
    for (struct ggml_tensor *t = ggml_get_first_tensor(from); t; t = ggml_get_next_tensor(from, t)) {
        if (t->name[0] && strcmp(t->name, "GGUF tensor data binary blob") != 0) {
            gguf_add_tensor(to, t);
        }
    }
}

const char *edit_save(struct edit *e, const char *path) {
    struct gguf_context *out = gguf_init_empty();
    gguf_set_kv(out, e->gguf);
    add_all(out, e->tensors);
    add_all(out, e->more);
    remove(path);
    const bool written = gguf_write_to_file(out, path, false);
    gguf_free(out);
    gguf_free(e->gguf);
    ggml_free(e->tensors);
    ggml_free(e->more);
    *e = (struct edit){0};
    assert_true(written);
    return path;
}
