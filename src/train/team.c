#include "train/team.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "train/run.h"

enum { MAX_RUN = 1 << 20 /* bytes of a run as text */ };

/* What every rank tells the others at once. */
struct message {
    int64_t rc;
    uint64_t mark; /* hash of what should be the same */
    double values[TEAM_VALUES];
};

bool team_works(const struct genarm_team *t) { return t && t->size > 1; }

bool team_leads(const struct genarm_team *t) { return !t || t->rank == 0; }

int team_check(const struct genarm_team *t, struct genarm_error *err) {
    if (!t || (t->size == 1 && t->rank == 0)) {
        return GENARM_OK;
    }
    if (t->size < 1 || t->rank < 0 || t->rank >= t->size || !t->sum || !t->gather || !t->share) {
        return error_set(err, GENARM_EINVAL, "the team has no rank %d of %d, or lacks a function", t->rank, t->size);
    }
    return GENARM_OK;
}

/* ---- failures ---- */

static bool same_error(const struct genarm_error *a, const struct genarm_error *b) {
    return a->code == b->code && strcmp(a->where, b->where) == 0 && strcmp(a->what, b->what) == 0;
}

static void name_rank(struct genarm_error *err, int32_t rank) {
    char where[sizeof err->where];
    snprintf(where, sizeof where, "%s", err->where);
    snprintf(err->where, sizeof err->where, "rank %d%s%.230s", rank, *where ? ": " : "", where);
}

/* The error of rank `culprit`, on all ranks. */
static int take_error(const struct genarm_team *t, int32_t culprit, int own, struct genarm_error *err) {
    const struct genarm_error none = {0};
    struct genarm_error *all = malloc((size_t)t->size * sizeof *all);
    if (!all) {
        return error_nomem(err, "the ranks' errors");
    }
    int rc = t->gather(own != GENARM_OK ? err : &none, all, sizeof *all, t->user, err);
    if (rc == GENARM_OK) {
        bool alike = true;
        for (int32_t i = 0; i < t->size; i++) {
            alike = alike && same_error(&all[i], &all[culprit]);
        }
        *err = all[culprit];
        rc = err->code;
        if (!alike && rc != GENARM_ECANCELED) {
            name_rank(err, culprit);
        }
    }
    free(all);
    return rc;
}

/* The rank whose failure counts, or -1. */
static int32_t find_culprit(const struct message *all, int32_t size) {
    int32_t found = -1;
    for (int32_t i = 0; i < size; i++) {
        const bool worse = found < 0 || (all[found].rc == GENARM_ECANCELED && all[i].rc != GENARM_ECANCELED);
        found = all[i].rc != GENARM_OK && worse ? i : found;
    }
    return found;
}

/* Every rank's message, [t->size], malloc'ed. Only when all did well. */
static int exchange(const struct genarm_team *t, const struct message *mine, struct message **out,
                    struct genarm_error *err) {
    struct message *all = malloc((size_t)t->size * sizeof *all);
    if (!all) {
        return error_nomem(err, "the ranks' messages");
    }
    int rc = t->gather(mine, all, sizeof *all, t->user, err);
    if (rc == GENARM_OK) {
        const int32_t culprit = find_culprit(all, t->size);
        rc = culprit < 0 ? GENARM_OK : take_error(t, culprit, (int)mine->rc, err);
    }
    if (rc != GENARM_OK) {
        free(all);
        return rc;
    }
    *out = all;
    return GENARM_OK;
}

int team_agree(const struct genarm_team *t, int rc, struct genarm_error *err) { return team_add(t, rc, NULL, 0, err); }

/* ---- numbers ---- */

/* FNV-1a by numbers, not bytes: adapters are large, and this is computed in every step. */
static uint64_t mark_of(const float *numbers, size_t n) {
    uint64_t mark = HASH_START;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &numbers[i], sizeof bits);
        mark = (mark ^ bits) * UINT64_C(0x100000001B3);
    }
    return mark;
}

int team_add(const struct genarm_team *t, int rc, double *values, int n, struct genarm_error *err) {
    struct genarm_error ignored = {.code = rc};
    struct message mine = {.rc = rc}, *all = NULL;
    if (!team_works(t)) {
        return rc;
    }
    for (int k = 0; k < n; k++) {
        mine.values[k] = values[k];
    }
    rc = exchange(t, &mine, &all, err ? err : &ignored);
    for (int k = 0; k < n && rc == GENARM_OK; k++) {
        values[k] = 0;
        for (int32_t i = 0; i < t->size; i++) {
            values[k] += all[i].values[k];
        }
    }
    free(all);
    return rc;
}

int team_unify(const struct genarm_team *t, int rc, float *numbers, size_t n, bool *changed, struct genarm_error *err) {
    struct genarm_error ignored = {.code = rc};
    struct message mine = {.rc = rc}, *all = NULL;
    *changed = false;
    if (!team_works(t)) {
        return rc;
    }
    mine.mark = rc == GENARM_OK ? mark_of(numbers, n) : 0;
    rc = exchange(t, &mine, &all, err ? err : &ignored);
    for (int32_t i = 1; i < t->size && rc == GENARM_OK; i++) {
        *changed = *changed || all[i].mark != all[0].mark;
    }
    free(all);
    return *changed ? team_share(t, numbers, n * sizeof *numbers, err) : rc;
}

int team_sum(const struct genarm_team *t, float *values, size_t n, struct genarm_error *err) {
    return team_works(t) ? t->sum(values, n, t->user, err) : GENARM_OK;
}

int team_share(const struct genarm_team *t, void *bytes, size_t n, struct genarm_error *err) {
    return team_works(t) ? t->share(bytes, n, t->user, err) : GENARM_OK;
}

/* ---- runs ---- */

static int differs(const char *name, const char *here, const char *there, struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EMISMATCH, "the %s is %s here, but %s on rank 0", name, here, there);
    return error_hint(err, rc, "start all ranks with the same options, model and data");
}

/* The first rank's text instead of this one's. */
static int share_text(const struct genarm_team *t, struct buf *text, struct genarm_error *err) {
    uint64_t n = text->len;
    int rc = team_share(t, &n, sizeof n, err);
    char *bytes = rc == GENARM_OK ? malloc((size_t)n + 1) : NULL;
    if (rc == GENARM_OK) {
        rc = bytes ? GENARM_OK : error_nomem(err, "the description of the run");
    }
    if (rc == GENARM_OK && team_leads(t)) {
        memcpy(bytes, text->data, (size_t)n);
    }
    if (rc == GENARM_OK) {
        rc = team_share(t, bytes, (size_t)n, err);
    }
    if (rc == GENARM_OK) {
        buf_clear(text);
        rc = buf_append(text, bytes, (size_t)n, err);
    }
    free(bytes);
    return rc;
}

static int compare(const struct buf *first, const json_t *run, struct genarm_error *err) {
    struct run_difference d;
    json_t *theirs = NULL;
    int rc = json_parse(&theirs, first->data, first->len, "", err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!run_same(theirs, run, &d)) {
        rc = differs(d.name, d.wanted, d.found, err);
    }
    json_decref(theirs);
    return rc;
}

int team_compare(const struct genarm_team *t, const json_t *run, const struct trainable *adapter,
                 struct genarm_error *err) {
    struct buf text;
    if (!team_works(t)) {
        return GENARM_OK;
    }
    buf_init(&text, MAX_RUN);
    json_t *mine = json_copy((json_t *)(uintptr_t)run);
    int rc = mine && run_add_adapter(mine, "initial adapter", adapter) ? json_dump(&text, mine, err)
                                                                       : error_nomem(err, "the description of the run");
    rc = team_agree(t, rc, err);
    if (rc == GENARM_OK) {
        rc = share_text(t, &text, err);
    }
    if (rc == GENARM_OK) {
        rc = team_agree(t, compare(&text, mine, err), err);
    }
    json_decref(mine);
    buf_deinit(&text);
    return rc;
}
