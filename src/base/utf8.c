/* UTF-8 that comes from outside (RFC 3629). */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t utf8_char(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0) {
        return 0;
    }
    if (u[0] < 0x80) {
        return 1;
    }
    const size_t len = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : 2;
    if (u[0] < 0xC2 || u[0] > 0xF4 || len > n) {
        return 0;
    }
    uint32_t c = u[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xC0) != 0x80) {
            return 0;
        }
        c = c << 6 | (u[i] & 0x3Fu);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    return c >= least[len] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF) ? len : 0;
}

size_t utf8_length(const char *s, size_t n) {
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        length += ((unsigned char)s[i] & 0xC0) != 0x80;
    }
    return length;
}

bool utf8_valid(const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_char(s + i, n - i);
        if (len == 0) {
            return false;
        }
    }
    return true;
}

void utf8_clean(char *s) {
    size_t n = strlen(s);
    while (n > 0) {
        const size_t len = utf8_char(s, n);
        const unsigned char c = (unsigned char)*s;
        if (len == 1 && (c == '\n' || c == '\r' || c == '\t')) {
            *s = ' ';
        } else if (len == 0 || (len == 1 && (c < 0x20 || c == 0x7F)) ||
                   (len == 2 && c == 0xC2 && (unsigned char)s[1] < 0xA0)) {
            *s = '?'; /* the rest of a two-byte control character is then not UTF-8 either */
        }
        const size_t step = len && *s != '?' ? len : 1;
        s += step;
        n -= step;
    }
}

/* ---- bytes that arrive in pieces ---- */

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
