/* See genarm/stop.h. Stop texts are few and short: each end of the text is compared with each of them. */
#include "genarm/stop.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

struct genarm_stop {
    char **texts; /* [n] */
    size_t *lengths;
    size_t n, longest;
};

static int add_text(struct genarm_stop *s, const char *text, struct genarm_error *err) {
    const size_t n = strlen(text);
    if (n == 0 || !utf8_valid(text, n)) {
        return n ? error_set(err, GENARM_EINVAL, "a stop text is not UTF-8: \"%.40s\"", text)
                 : error_set(err, GENARM_EINVAL, "a stop text is empty");
    }
    s->texts[s->n] = strdup(text);
    if (!s->texts[s->n]) {
        return error_nomem(err, "stop texts");
    }
    s->lengths[s->n++] = n;
    s->longest = n > s->longest ? n : s->longest;
    return GENARM_OK;
}

int genarm_stop_new(struct genarm_stop **out, const char *const *texts, size_t n, struct genarm_error *err) {
    struct genarm_stop *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "stop texts");
    }
    s->texts = calloc(n + 1, sizeof *s->texts);
    s->lengths = calloc(n + 1, sizeof *s->lengths);
    int rc = s->texts && s->lengths ? GENARM_OK : error_nomem(err, "stop texts");
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = add_text(s, texts[i], err);
    }
    if (rc != GENARM_OK) {
        genarm_stop_free(s);
        return rc;
    }
    *out = s;
    return GENARM_OK;
}

void genarm_stop_free(struct genarm_stop *s) {
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->texts[i]);
    }
    free(s->texts);
    free(s->lengths);
    free(s);
}

/* The longest stop text that ends at text[end]; -1: none. */
static int32_t ends_at(const struct genarm_stop *s, const char *text, size_t end) {
    int32_t found = -1;
    for (size_t i = 0; i < s->n; i++) {
        const size_t n = s->lengths[i];
        if (n <= end && memcmp(text + end - n, s->texts[i], n) == 0 && (found < 0 || n > s->lengths[found])) {
            found = (int32_t)i;
        }
    }
    return found;
}

static bool begins(const struct genarm_stop *s, const char *rest, size_t n) {
    for (size_t i = 0; i < s->n; i++) {
        if (n < s->lengths[i] && memcmp(rest, s->texts[i], n) == 0) {
            return true;
        }
    }
    return false;
}

size_t genarm_stop_find(const struct genarm_stop *s, const char *text, size_t n, size_t before, int32_t *which) {
    *which = -1;
    if (!s || s->n == 0) {
        return n;
    }
    for (size_t end = before + 1; end <= n; end++) {
        *which = ends_at(s, text, end);
        if (*which >= 0) {
            return end - s->lengths[*which];
        }
    }
    size_t held = s->longest - 1 < n ? n - (s->longest - 1) : 0;
    while (held < n && !begins(s, text + held, n - held)) {
        held++;
    }
    return held;
}

const char *genarm_stop_text(const struct genarm_stop *s, int32_t which) { return s->texts[which]; }
