/* See text.h. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

enum sequence { SEQUENCE_BAD, SEQUENCE_PARTIAL, SEQUENCE_COMPLETE };

/* What 1 to 4 bytes are, given that all but the last were a partial character (Unicode, table 3-7). */
static enum sequence classify(const unsigned char *s, size_t n) {
    size_t length = s[0] < 0x80                   ? 1
                    : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
                    : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                    : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                                  : 0;
    unsigned char low = 0x80, high = 0xBF;
    if (n == 2) {
        low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
        high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF; /* no surrogates, nothing above U+10FFFF */
    }
    if (length == 0 || (n > 1 && (s[n - 1] < low || s[n - 1] > high))) {
        return SEQUENCE_BAD;
    }
    return n == length ? SEQUENCE_COMPLETE : SEQUENCE_PARTIAL;
}

static int push_byte(struct text_tail *u, unsigned char byte, struct buf *out, struct genarm_error *err) {
    u->held[u->n++] = byte;
    size_t n = u->n;
    switch (classify(u->held, n)) {
    case SEQUENCE_PARTIAL:
        return 0;
    case SEQUENCE_COMPLETE:
        u->n = 0;
        return buf_append(out, u->held, n, err);
    case SEQUENCE_BAD:
        break;
    }
    u->n = 0;
    int code = buf_puts(out, replacement, err);
    if (code || n == 1) {
        return code;
    }
    return push_byte(u, byte, out, err); /* the byte that broke the character off may start the next one */
}

int text_push(struct text_tail *u, const char *bytes, size_t n, struct buf *out, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        code = push_byte(u, (unsigned char)bytes[i], out, err);
    }
    return code;
}

int text_end(struct text_tail *u, struct buf *out, struct genarm_error *err) {
    bool held = u->n > 0;
    u->n = 0;
    return held ? buf_puts(out, replacement, err) : 0;
}

int text_push_token(struct text_tail *u, const struct genarm_model *model, int32_t token, struct buf *out,
                    struct genarm_error *err) {
    char small[256], *bytes = small;
    int32_t n = genarm_token_bytes(model, token, false, small, sizeof small);
    if (n < 0) {
        bytes = malloc((size_t)-n);
        if (!bytes) {
            return error_nomem(err, "text of a token");
        }
        n = genarm_token_bytes(model, token, false, bytes, -n);
    }
    int code = n > 0 ? text_push(u, bytes, (size_t)n, out, err) : 0;
    if (bytes != small) {
        free(bytes);
    }
    return code;
}

int text_tokenize(int32_t **out, size_t *n, const struct genarm_model *model, const char *text,
                  struct genarm_error *err) {
    int32_t found = genarm_tokenize(model, text, strlen(text), false, false, NULL, 0);
    if (found == INT32_MIN) {
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    int32_t needed = -found;
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(needed > 0 ? needed : 1));
    if (!tokens) {
        return error_nomem(err, "tokens");
    }
    int32_t got = needed > 0 ? genarm_tokenize(model, text, strlen(text), false, false, tokens, needed) : 0;
    if (got < 0) {
        free(tokens);
        return error_set(err, GENARM_EINVAL, "the text cannot be tokenised");
    }
    *out = tokens;
    *n = (size_t)got;
    return 0;
}

json_t *text_json(const char *text) {
    struct text_tail u = {0};
    struct buf clean;
    json_t *value = NULL;
    buf_init(&clean, 3 * strlen(text) + 4);
    if (text_push(&u, text, strlen(text), &clean, NULL) == 0 && text_end(&u, &clean, NULL) == 0) {
        value = json_stringn(clean.data ? clean.data : "", clean.len);
    }
    buf_deinit(&clean);
    return value;
}
