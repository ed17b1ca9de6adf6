#include "support/spm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

const char *spm_model(bool with_bytes) {
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    size_t n;
    char **texts = edit_strings(&e, "tokenizer.ggml.tokens", &n);
    float *scores = calloc(n, sizeof *scores);
    int32_t *types = calloc(n, sizeof *types);
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    static const char *const last[] = {"\xE2\x96\x81", "\xE2\x96\x81t", "he", "\xE2\x96\x81the"};
    for (size_t i = 0; i < n; i++) {
        char text[32];
        if (i < 3) {
            snprintf(text, sizeof text, "%s", first[i]);
            types[i] = i == 0 ? 2 : 3;
        } else if (i < 259) {
            snprintf(text, sizeof text, with_bytes ? "<0x%02X>" : "unused%02X", (unsigned)i - 3);
            types[i] = with_bytes ? 6 : 1;
        } else if (i < 285) {
            snprintf(text, sizeof text, "%c", (char)('a' + i - 259));
            types[i] = 1;
        } else if (i < 289) {
            snprintf(text, sizeof text, "%s", last[i - 285]);
            types[i] = 1;
        } else {
            snprintf(text, sizeof text, "filler%zu", i);
            types[i] = 1;
        }
        scores[i] = -(float)(n - i);
        free(texts[i]);
        texts[i] = strdup(text);
    }
    edit_set_strings(&e, "tokenizer.ggml.tokens", texts, n);
    gguf_set_val_str(e.gguf, "tokenizer.ggml.model", "llama");
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, n);
    gguf_set_arr_data(e.gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, n);
    gguf_set_val_u32(e.gguf, "tokenizer.ggml.bos_token_id", 1);
    gguf_remove_key(e.gguf, "tokenizer.ggml.merges");
    free(scores);
    free(types);
    return edit_save(&e, temp_path("spm.gguf"));
}
