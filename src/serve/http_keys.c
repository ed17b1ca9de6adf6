/* Keys of the API. A comparison must not tell how much of a key was right, so every key is compared whole, at one length. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/http_internal.h"

static bool key_is_text(const char *key) {
    for (const char *p = key; *p; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f) { /* no header carries others safely */
            return false;
        }
    }
    return true;
}

int http_keys_init(struct http_keys *k, const char *const *keys, size_t n, struct genarm_error *err) {
    *k = (struct http_keys){0};
    if (n == 0) {
        return GENARM_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t len = strlen(keys[i]);
        if (len == 0 || len > HTTP_KEY_MAX || !key_is_text(keys[i])) {
            return error_set(err, GENARM_EINVAL, "key %zu is not 1 to %d visible ASCII characters", i + 1, HTTP_KEY_MAX);
        }
    }
    char(*copy)[HTTP_KEY_MAX] = calloc(n, sizeof *copy);
    if (!copy) {
        return error_nomem(err, "the keys");
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(copy[i], keys[i], strlen(keys[i]));
    }
    *k = (struct http_keys){.keys = copy, .n = n};
    return GENARM_OK;
}

void http_keys_deinit(struct http_keys *k) {
    if (k->keys) {
        explicit_bzero(k->keys, k->n * sizeof *k->keys);
    }
    free(k->keys);
    *k = (struct http_keys){0};
}

int64_t http_keys_find(const struct http_keys *k, const char *key, size_t n) {
    char padded[HTTP_KEY_MAX] = {0};
    if (n == 0 || n > sizeof padded) {
        return -1;
    }
    memcpy(padded, key, n);
    int64_t found = -1;
    for (size_t i = 0; i < k->n; i++) {
        unsigned differs = 0;
        for (size_t j = 0; j < sizeof padded; j++) {
            differs |= (unsigned)((unsigned char)padded[j] ^ (unsigned char)k->keys[i][j]);
        }
        /* All ones where nothing differs: no branch on it. */
        const int64_t same = (int64_t)((differs - 1) >> 8 & 1) * -1;
        found = (found & ~same) | ((int64_t)i & same);
    }
    explicit_bzero(padded, sizeof padded);
    return found;
}

int64_t http_keys_of_call(const struct http_keys *k, const struct http_call *c) {
    const char *header = http_call_header(c, MHD_HTTP_HEADER_AUTHORIZATION);
    if (header && strncasecmp(header, "Bearer ", 7) == 0) {
        header += 7;
        header += strspn(header, " ");
    } else {
        header = http_call_header(c, "X-Api-Key");
    }
    return header ? http_keys_find(k, header, strcspn(header, " \t")) : -1;
}
