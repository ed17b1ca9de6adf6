#include "model/controls.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static bool is_control(const struct llama_vocab *vocab, int32_t token) {
    const int attributes = (int)llama_vocab_get_attr(vocab, token);
    return (attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) && *llama_vocab_get_text(vocab, token);
}

int controls_init(struct controls *c, const struct llama_vocab *vocab, struct genarm_error *err) {
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    *c = (struct controls){0};
    size_t n = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        n += is_control(vocab, i);
    }
    c->texts = calloc(n + 1, sizeof *c->texts);
    if (!c->texts) {
        return error_nomem(err, "the control tokens");
    }
    for (int32_t i = 0; i < n_vocab; i++) {
        if (is_control(vocab, i)) {
            c->texts[c->n] = llama_vocab_get_text(vocab, i);
            c->begins[(unsigned char)*c->texts[c->n++]] = true;
        }
    }
    return GENARM_OK;
}

void controls_deinit(struct controls *c) {
    free(c->texts);
    *c = (struct controls){0};
}

static bool spelled_at(const struct controls *c, const char *text) {
    if (!c->begins[(unsigned char)*text]) {
        return false;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (strncmp(text, c->texts[i], strlen(c->texts[i])) == 0) {
            return true;
        }
    }
    return false;
}

bool controls_spelled(const struct controls *c, const char *text) {
    for (; *text; text++) {
        if (spelled_at(c, text)) {
            return true;
        }
    }
    return false;
}

int controls_cut(struct buf *out, const struct controls *c, const char *text, const char *mark, struct genarm_error *err) {
    int rc = buf_puts(out, "", err);
    while (*text && rc == GENARM_OK) {
        const bool spelled = spelled_at(c, text);
        size_t n = 1; /* bytes of the character */
        while (((unsigned char)text[n] & 0xc0) == 0x80) {
            n++;
        }
        rc = buf_append(out, text, n, err);
        if (rc == GENARM_OK && spelled) {
            rc = buf_puts(out, mark, err);
        }
        text += n;
    }
    return rc;
}
