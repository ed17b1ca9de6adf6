/* The one progress bar. */
#include "base/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

enum { LINE_MAX_BYTES = 512, BAR_COLUMNS = 20, BAR_LEAST = 4 };

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_terminal(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

static int terminal_width(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    const char *columns = getenv("COLUMNS");
    const long n = columns ? strtol(columns, NULL, 10) : 0;
    return n > 0 && n < LINE_MAX_BYTES ? (int)n : 80;
}

/* Seconds as 0:07, 12:34 or 1:02:03. */
static void format_time(char *out, size_t size, double seconds) {
    const long s = seconds < 359999.0 ? lround(seconds) : 359999;
    if (s >= 3600) {
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
    }
}

/* Cuts to a number of columns, counting every UTF-8 character as one. */
static void cut_columns(char *line, int width) {
    int columns = 0;
    for (char *c = line; *c; c++) {
        if (((unsigned char)*c & 0xC0) != 0x80 && columns++ == width) {
            *c = '\0';
            return;
        }
    }
}

/* "[####----] ", which takes n_columns beside its frame. */
static void format_bar(char *out, const struct progress *p, int n_columns) {
    const double share = p->total > 0 ? fmin(1.0, (double)p->done / (double)p->total) : 0.0;
    const int filled = (int)(share * n_columns);
    *out++ = '[';
    for (int i = 0; i < n_columns; i++) {
        *out++ = i < filled ? '#' : '-';
    }
    memcpy(out, "] ", 3);
}

void progress_format(char *line, size_t size, const struct progress *p, double now, const char *note, int width) {
    char bar[BAR_COLUMNS + 4] = "", left[32], rest[96] = "", words[LINE_MAX_BYTES];
    const double elapsed = now - p->start;
    const double rate = elapsed > 0 ? (double)(p->done - p->first) / elapsed : 0.0;
    if (rate > 0 && p->done >= p->total) {
        format_time(left, sizeof left, elapsed);
        snprintf(rest, sizeof rest, "  %.3g/s  in %s", rate, left);
    } else if (rate > 0) {
        format_time(left, sizeof left, p->expected > 0 ? p->expected : (double)(p->total - p->done) / rate);
        snprintf(rest, sizeof rest, "  %.3g/s  %s left", rate, left);
    } else if (p->expected > 0) {
        format_time(left, sizeof left, p->expected);
        snprintf(rest, sizeof rest, "  %s left", left);
    }
    snprintf(words, sizeof words, "%lld/%lld %s%s%s%s", (long long)p->done, (long long)p->total, p->unit, rest,
             note && *note ? "  " : "", note ? note : "");
    /* Where there is no room for all, the bar says least. */
    const int room = width - (int)utf8_length(p->label, strlen(p->label)) - (int)utf8_length(words, strlen(words)) - 4;
    if (room >= BAR_LEAST) {
        format_bar(bar, p, room < BAR_COLUMNS ? room : BAR_COLUMNS);
    }
    snprintf(line, size, "%s %s%s", p->label, bar, words);
    cut_columns(line, width);
}

static void draw(struct progress *p, double now, const char *note) {
    char line[LINE_MAX_BYTES];
    progress_format(line, sizeof line, p, now, note, terminal_width() - 1);
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->drawn = now;
}

void progress_start(struct progress *p, const char *label, const char *unit, int64_t total, int64_t first) {
    *p = (struct progress){.label = label,
                           .unit = unit,
                           .total = total,
                           .done = first,
                           .first = first,
                           .start = clock_seconds(),
                           .terminal = is_terminal()};
    if (p->terminal) {
        draw(p, p->start, NULL);
    }
}

void progress_update(struct progress *p, int64_t done, const char *note) {
    p->done = done;
    if (note) {
        snprintf(p->note, sizeof p->note, "%s", note);
    }
    const double now = clock_seconds();
    if (p->terminal && now - p->drawn >= 0.1) {
        draw(p, now, p->note);
    }
}

void progress_expect(struct progress *p, double seconds) { p->expected = seconds; }

void progress_end(struct progress *p) {
    if (p->terminal) {
        draw(p, clock_seconds(), p->note);
        fputc('\n', stderr);
        p->terminal = false;
    }
}
