/* Rewrites a model file with its weights in another type: what `make models` uses to
 * compare types on the default model. Converting to F32 dequantises exactly; F16 and
 * Q8_0 round once more.
 *
 *   requantize IN.gguf OUT.gguf F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q4_K|Q5_K|Q6_K
 */
#include <stdio.h>
#include <string.h>

#include "llama.h"

struct file_type {
    const char *name;
    enum llama_ftype ftype;
};

static const struct file_type file_types[] = {
    { "F32", LLAMA_FTYPE_ALL_F32 },          { "F16", LLAMA_FTYPE_MOSTLY_F16 },
    { "BF16", LLAMA_FTYPE_MOSTLY_BF16 },     { "Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0 },
    { "Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0 },     { "Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1 },
    { "Q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_S },   { "Q5_K", LLAMA_FTYPE_MOSTLY_Q5_K_S },
    { "Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K },
};

static const struct file_type *file_type_find(const char *name)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        if (strcmp(file_types[i].name, name) == 0)
            return &file_types[i];
    }
    return NULL;
}

static void log_errors(enum ggml_log_level level, const char *text, void *data)
{
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

int main(int argc, char **argv)
{
    const struct file_type *type = argc == 4 ? file_type_find(argv[3]) : NULL;
    if (!type) {
        fprintf(stderr, "usage: requantize IN.gguf OUT.gguf TYPE, where TYPE is one of");
        for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
            fprintf(stderr, " %s", file_types[i].name);
        fprintf(stderr, "\n");
        return 2;
    }

    /* A file that is there is complete: written beside it, then renamed. */
    char temporary[4096];
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", argv[2]);
    if (n < 0 || (size_t)n >= sizeof temporary) {
        fprintf(stderr, "requantize: path too long: %s\n", argv[2]);
        return 1;
    }

    llama_log_set(log_errors, NULL);
    llama_backend_init();
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = type->ftype;
    params.allow_requantize = true;
    int rc = llama_model_quantize(argv[1], temporary, &params) == 0 ? 0 : 1;
    llama_backend_free();

    if (rc == 0 && rename(temporary, argv[2]) != 0) {
        perror(argv[2]);
        rc = 1;
    }
    if (rc != 0) {
        fprintf(stderr, "requantize: could not make %s from %s\n", argv[2], argv[1]);
        remove(temporary);
    } else {
        fprintf(stderr, "made %s\n", argv[2]);
    }
    return rc;
}
