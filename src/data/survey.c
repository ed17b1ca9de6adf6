/* See survey.h. */
#include "data/survey.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- lengths ---- */

static int lengths_add(struct lengths *l, int64_t length, struct genarm_error *err) {
    if (!l->counts) {
        l->counts = calloc(LENGTHS_EXACT + 1, sizeof *l->counts);
        if (!l->counts) {
            return error_nomem(err, "lengths");
        }
        l->min = length;
    }
    l->counts[length < LENGTHS_EXACT ? length : LENGTHS_EXACT]++;
    l->n++;
    l->sum += length;
    l->min = length < l->min ? length : l->min;
    l->max = length > l->max ? length : l->max;
    return GENARM_OK;
}

int64_t lengths_quantile(const struct lengths *l, double q) {
    const int64_t wanted = (int64_t)ceil(q * (double)l->n);
    int64_t below = 0;
    for (int64_t length = 0; l->counts && length < LENGTHS_EXACT; length++) {
        below += l->counts[length];
        if (below >= wanted) {
            return length;
        }
    }
    return l->max;
}

int64_t count_words(const char *text) {
    int64_t n = 0;
    for (text += strspn(text, " \t\r\n\v\f"); *text; n++) {
        text += strcspn(text, " \t\r\n\v\f");
        text += strspn(text, " \t\r\n\v\f");
    }
    return n;
}

/* ---- a set of fingerprints: open addressing, linear probing, at most three quarters full ---- */

/* The slot that holds the fingerprint, or the free one where it belongs. */
static uint64_t *find(const struct seen *s, uint64_t hash) {
    size_t i = (size_t)((hash ^ hash >> 32) * UINT64_C(0x9E3779B97F4A7C15)) & (s->n_slots - 1);
    while (s->slots[i] && s->slots[i] != hash) {
        i = (i + 1) & (s->n_slots - 1);
    }
    return &s->slots[i];
}

static bool grow(struct seen *s) {
    struct seen bigger = {.n_slots = s->n_slots ? 2 * s->n_slots : 1024, .n = s->n};
    bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
    if (!bigger.slots) {
        return false;
    }
    for (size_t i = 0; i < s->n_slots; i++) {
        if (s->slots[i]) {
            *find(&bigger, s->slots[i]) = s->slots[i];
        }
    }
    free(s->slots);
    *s = bigger;
    return true;
}

static uint64_t not_zero(uint64_t hash) { return hash ? hash : 1; }

bool seen_has(const struct seen *s, uint64_t hash) { return s->n_slots && *find(s, not_zero(hash)); }

int seen_add(struct seen *s, uint64_t hash, struct genarm_error *err) {
    if (4 * s->n >= 3 * s->n_slots && !grow(s)) {
        return error_nomem(err, "fingerprints of the records");
    }
    uint64_t *slot = find(s, not_zero(hash));
    if (*slot) {
        return 0;
    }
    *slot = not_zero(hash);
    s->n++;
    return 1;
}

void seen_deinit(struct seen *s) {
    free(s->slots);
    *s = (struct seen){0};
}

/* ---- the survey ---- */

int survey_is_new(struct survey *s, const struct preference *p, struct genarm_error *err) {
    const int rc = seen_add(&s->records, preference_hash(p, false), err);
    s->duplicates += rc == 0;
    s->contradictions += rc == 1 && seen_has(&s->records, preference_hash(p, true));
    return rc;
}

int survey_add(struct survey *s, const struct preference *p, const int64_t lengths[3], struct genarm_error *err) {
    const bool pair = *p->rejected;
    const int64_t chosen = lengths[SURVEY_CHOSEN], rejected = pair ? lengths[SURVEY_REJECTED] : 0;
    const int64_t all[SURVEY_PARTS] = {lengths[SURVEY_PROMPT], chosen, rejected,
                                       lengths[SURVEY_PROMPT] + (chosen > rejected ? chosen : rejected)};
    int rc = seen_add(&s->prompts, preference_prompt_hash(p), err);
    for (int i = 0; i < SURVEY_PARTS && rc >= 0; i++) {
        rc = i != SURVEY_REJECTED || pair ? lengths_add(&s->lengths[i], all[i], err) : rc;
    }
    if (rc < 0) {
        return rc;
    }
    const bool system = strcmp(p->messages[0].role, "system") == 0;
    s->n++;
    s->with_system += system;
    s->several_turns += p->n_messages > 1u + system;
    if (pair) {
        s->pairs++;
        s->chosen_longer += chosen > rejected;
        s->rejected_longer += chosen < rejected;
        s->difference += chosen - rejected;
    }
    return GENARM_OK;
}

void survey_deinit(struct survey *s) {
    for (int i = 0; i < SURVEY_PARTS; i++) {
        free(s->lengths[i].counts);
    }
    seen_deinit(&s->records);
    seen_deinit(&s->prompts);
    *s = (struct survey){0};
}
