#include "support/prefs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/temp.h"

static size_t spell(char *out, size_t max, const struct preference *p) {
    size_t n = (size_t)snprintf(out, max, "%ld:", (long)p->line);
    for (size_t i = 0; i < p->n_messages && n < max; i++) {
        n += (size_t)snprintf(out + n, max - n, " %s(%s)", p->messages[i].role, p->messages[i].content);
    }
    n += n < max ? (size_t)snprintf(out + n, max - n, " -> %s | %s", p->chosen, p->rejected) : 0;
    assert_true(n + 2 < max);
    for (size_t i = 0; i < n; i++) {
        out[i] = out[i] == '\n' ? '/' : out[i];
    }
    out[n] = '\n';
    return n + 1;
}

int prefs_read(char *out, size_t max, const char *bytes, size_t n, const struct pref_params *params,
               struct pref_counts *counts, struct genarm_error *err) {
    struct pref_reader *reader = NULL;
    struct preference *p;
    const char *path = temp_path("prefs.jsonl");
    size_t at = 0;
    FILE *file = fopen(path, "wb"); /* not synced: some tests write thousands */
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    int rc = pref_open(&reader, path, params, err);
    while (rc == GENARM_OK && (rc = pref_next(reader, &p, err)) > 0) {
        at += spell(out + at, max - at, p);
        rc = GENARM_OK;
    }
    out[at] = '\0';
    if (rc == GENARM_OK) {
        const struct pref_counts *c = pref_counts(reader);
        for (int i = 0; i < PREF_N_REASONS; i++) {
            if (c->n[i]) {
                at += (size_t)snprintf(out + at, max - at, "%s %ld\n", pref_reason_name((enum pref_reason)i),
                                       (long)c->n[i]);
            }
        }
        if (counts) {
            *counts = *c;
        }
    }
    pref_close(reader);
    return rc;
}

void prefs_expect(const char *text, const struct pref_params *params, const char *expected) {
    static char out[1 << 16];
    struct genarm_error err = {0};
    if (prefs_read(out, sizeof out, text, strlen(text), params, NULL, &err) != GENARM_OK) {
        fail_msg("%s: %s (%s)", err.where, err.what, text);
    }
    assert_string_equal(out, expected);
}

void prefs_refuse(const char *text, const struct pref_params *params, int line, const char *says) {
    static char out[1 << 16];
    struct genarm_error err = {0};
    char where[300], longer[301];
    if (prefs_read(out, sizeof out, text, strlen(text), params, NULL, &err) != GENARM_EFORMAT) {
        fail_msg("read, or refused otherwise (%s): %s", err.what, text);
    }
    snprintf(where, sizeof where, line ? "%s:%d" : "%s", temp_path("prefs.jsonl"), line);
    snprintf(longer, sizeof longer, "%s,", where); /* an array names the record as well */
    if ((strcmp(err.where, where) != 0 && strncmp(err.where, longer, strlen(longer)) != 0) || !strstr(err.what, says)) {
        fail_msg("not at %s or without \"%s\": %s: %s", where, says, err.where, err.what);
    }
}
