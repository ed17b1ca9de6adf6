/* The one progress bar: on a terminal it redraws one line on stderr with rate and time left; piped it is quiet. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    const char *label; /* borrowed, e.g. "training" */
    const char *unit;  /* borrowed, e.g. "pairs" */
    int64_t total, done, first;
    double start, drawn; /* seconds of the monotonic clock */
    double expected; /* seconds left; 0: by the rate */
    bool terminal;
    char note[96]; /* the last one */
};

/* `first`: items that were done before this run (a resumed training), left out of the rate. */
void progress_start(struct progress *p, const char *label, const char *unit, int64_t total, int64_t first);
void progress_update(struct progress *p, int64_t done,
                     const char *note); /* note: e.g. "loss 0.61 acc 0.72"; may be NULL */
void progress_expect(struct progress *p, double seconds); /* time left where items are not alike; 0: by the rate of items */
void progress_end(struct progress *p);

double clock_seconds(void); /* monotonic */

/* The line that is drawn at time `now`, at most `width` columns: exposed for tests. */
void progress_format(char *line, size_t size, const struct progress *p, double now, const char *note, int width);

#endif
