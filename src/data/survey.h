/* What a set of preferences is like: lengths, repetitions, and whether the longer answer is the chosen one. The caller
 * says how long a text is, in words or in tokens. Memory grows by some 30 bytes a record. Called by the data command. */
#ifndef DATA_SURVEY_H
#define DATA_SURVEY_H

#include "data/preference.h"

/* Lengths up to 65536 are counted exactly; of longer ones only the largest is known. */
struct lengths {
    int64_t *counts; /* [LENGTHS_EXACT + 1]; NULL until the first one */
    int64_t n, sum, min, max;
};

enum { LENGTHS_EXACT = 1 << 16 };

/* The smallest length that at least a share `q` in (0, 1] of all does not exceed; 0 where there is none. */
int64_t lengths_quantile(const struct lengths *l, double q);

/* A set of fingerprints. Zero-initialise. */
struct seen {
    uint64_t *slots; /* [n_slots], 0: free */
    size_t n_slots, n;
};
bool seen_has(const struct seen *s, uint64_t hash);
int seen_add(struct seen *s, uint64_t hash, struct genarm_error *err); /* 1: it is new, 0: it was there; negative: error */
void seen_deinit(struct seen *s);

enum survey_part { SURVEY_PROMPT, SURVEY_CHOSEN, SURVEY_REJECTED, SURVEY_PAIR, SURVEY_PARTS };

struct survey {
    int64_t n, several_turns, with_system;
    int64_t duplicates;     /* the same record as an earlier one */
    int64_t contradictions; /* the same as an earlier one with chosen and rejected swapped */
    int64_t pairs; /* of n, those with a rejected response; the next three are of them */
    int64_t chosen_longer, rejected_longer, difference; /* difference: sum of chosen minus rejected */
    struct lengths lengths[SURVEY_PARTS]; /* pair: the prompt and the longer response */
    struct seen records, prompts;
};

/* Whether the same was seen before. 1: it is new; 0: it is a duplicate, and counted as such; negative: error. */
int survey_is_new(struct survey *s, const struct preference *p, struct genarm_error *err);

/* Counts a preference; `lengths` of its prompt, chosen and rejected, which is not looked at where there is none. */
int survey_add(struct survey *s, const struct preference *p, const int64_t lengths[3], struct genarm_error *err);
void survey_deinit(struct survey *s);

/* Words: runs of bytes between white space. */
int64_t count_words(const char *text);

#endif
