/* Preference files for tests: what a text is read as, spelled out. */
#ifndef SUPPORT_PREFS_H
#define SUPPORT_PREFS_H

#include <stddef.h>

#include "data/reader.h"

/* Reads n bytes as a file and spells what came of it into `out`: a line per pair,
 *     LINE: ROLE(TEXT) … -> CHOSEN | REJECTED
 * (with line ends as "/"), then "REASON N" for each reason there is. Returns what reading returned. */
int prefs_read(char *out, size_t max, const char *bytes, size_t n, const struct pref_params *params,
               struct pref_counts *counts, struct genarm_error *err);

/* The text must read as `expected`. */
void prefs_expect(const char *text, const struct pref_params *params, const char *expected);

/* The text must be refused, at "FILE:LINE" (0: the file as a whole), with `says` in the message. */
void prefs_refuse(const char *text, const struct pref_params *params, int line, const char *says);

#endif
