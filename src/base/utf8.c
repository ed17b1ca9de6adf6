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
