/* See eval_show.h. */
#include "eval_show.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"
#include "tell.h"
#include "terminal.h"

enum { COMMAND_MAX = 1 << 22, TAIL_BYTES = 4096, TAIL_LINES = 12 };
static const double look_pause = 0.5; /* seconds between two looks at what a command has written */

/* ---- commands ---- */

static bool is_plain(const char *word) {
    return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%")];
}

int eval_show_command(struct buf *out, char *const *words, struct genarm_error *err) {
    int code = buf_puts(out, "genarm", err);
    for (size_t i = 0; words[i] && code == 0; i++) {
        code = buf_puts(out, " ", err);
        if (code == 0 && is_plain(words[i])) {
            code = buf_puts(out, words[i], err);
            continue;
        }
        code = code ? code : buf_puts(out, "'", err);
        for (const char *c = words[i]; *c && code == 0; c++) {
            code = *c == '\'' ? buf_puts(out, "'\\''", err) : buf_append(out, c, 1, err);
        }
        code = code ? code : buf_puts(out, "'", err);
    }
    return code;
}

static const char *state_text(const struct eval_run *run, size_t i) {
    const struct item *item = &run->list->items[i];
    if (run->states[i] == STATE_DONE) {
        return "done";
    }
    if (!item->wanted) {
        return "left out";
    }
    struct item_record record;
    return reuse_find(run->reuse, run->list, item, run->folder) ? "elsewhere"
           : eval_run_is_other(run, i, &record)                 ? "anew"
                                                                : "to do";
}

int eval_show_plan(FILE *out, const struct eval_run *run, struct genarm_error *err) {
    struct buf text;
    size_t n_open = 0;
    int code = 0;
    buf_init(&text, COMMAND_MAX);
    for (size_t i = 0; i < run->list->n && code == 0; i++) {
        const struct item *item = &run->list->items[i];
        char **words = item_words(item, run->folder);
        buf_clear(&text);
        code = words ? eval_show_command(&text, words, err) : error_nomem(err, "a command");
        item_words_free(words);
        n_open += item->wanted && run->states[i] != STATE_DONE;
        if (code == 0) {
            fprintf(out, "[%s] %s\n    %s\n", state_text(run, i), item->title, text.data);
        }
    }
    buf_deinit(&text);
    if (code == 0) {
        fprintf(out, "%zu of %zu files are to be made\n", n_open, run->list->n);
    }
    return code;
}

/* ---- the bar ---- */

/* A message takes the place of the bar, which is drawn again below it. */
static void clear_bar(struct eval_show *s) {
    if (s->started && s->progress.terminal) {
        fputs("\r\033[K", stderr);
        s->progress.drawn = 0;
    }
}

/* Lines of a file that is not complete yet; the records of answers, below a first line. */
static size_t count_lines(const struct eval_run *run, const struct item *item) {
    char *path = item_path(run->folder, item->output, ".partial");
    FILE *f = path ? fopen(path, "rb") : NULL;
    char block[1 << 16];
    size_t n = 0, got;
    while (f && (got = fread(block, 1, sizeof block, f)) > 0) {
        for (size_t i = 0; i < got; i++) {
            n += block[i] == '\n';
        }
    }
    if (f) {
        fclose(f);
    }
    free(path);
    return n > 0 ? n - 1 : 0;
}

/* Draws the bar: `label` is what goes on, `text` how far it is. */
static void update(struct eval_show *s, const struct eval_run *run, const char *label, const char *text) {
    const double ran = s->item ? clock_seconds() - s->item_started : 0;
    size_t n, n_done;
    double left;
    eval_run_count(run, &n, &n_done, &left);
    s->progress.label = label ? label : s->progress.label;
    progress_expect(&s->progress, left > 0 ? (left > ran + 1 ? left - ran : 1) : 0);
    progress_update(&s->progress, (int64_t)n_done, text);
}

static void on_wait(const struct eval_run *run, const struct item *item, void *user) {
    struct eval_show *s = user;
    char text[sizeof s->progress.note] = "";
    const double now = clock_seconds();
    if (!s->started || !s->progress.terminal) {
        return;
    }
    if (item && item->kind == ITEM_ANSWERS && now - s->looked >= look_pause) {
        s->n_lines = count_lines(run, item);
        s->looked = now;
    }
    if (item && s->n_lines) {
        snprintf(text, sizeof text, "%zu answers", s->n_lines);
    }
    update(s, run, item ? item->title : "waiting for others", text);
}

static void on_start(const struct eval_run *run, const struct item *item, void *user) {
    struct eval_show *s = user;
    size_t n, n_done;
    double left;
    eval_run_count(run, &n, &n_done, &left);
    if (!s->started) {
        progress_start(&s->progress, item->title, "files", (int64_t)n, (int64_t)n_done);
        s->started = true;
    }
    s->item = item;
    s->item_started = clock_seconds();
    s->looked = 0;
    s->n_lines = 0;
    if (!s->progress.terminal || s->verbose) {
        clear_bar(s);
        note("[%zu/%zu] %s", n_done + 1, n, item->title);
    }
    char **words = s->verbose ? item_words(item, run->folder) : NULL;
    struct buf text;
    buf_init(&text, COMMAND_MAX);
    if (words && eval_show_command(&text, words, NULL) == 0) {
        note("%s", text.data);
    }
    buf_deinit(&text);
    item_words_free(words);
}

/* The last lines of what a command has said. */
static void show_tail(const char *path, int64_t start) {
    char text[TAIL_BYTES + 1];
    FILE *f = fopen(path, "rb");
    if (!f || fseeko(f, 0, SEEK_END) != 0) {
        if (f) {
            fclose(f);
        }
        return;
    }
    const int64_t size = ftello(f), from = size - TAIL_BYTES > start ? size - TAIL_BYTES : start;
    size_t n = fseeko(f, (off_t)from, SEEK_SET) == 0 ? fread(text, 1, TAIL_BYTES, f) : 0, first = n;
    fclose(f);
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n] = '\0';
    first = n;
    for (int lines = 0; first > 0; first--) {
        if (text[first - 1] == '\n' && ++lines == TAIL_LINES) {
            break;
        }
    }
    for (char *line = text + first, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        const bool more = *end != '\0';
        *end = '\0';
        utf8_clean(line);
        fprintf(stderr, "    %s\n", line);
        end += more;
    }
}

static void on_end(const struct eval_run *run, const struct item *item, int status, const char *log, int64_t log_start,
                   void *user) {
    struct eval_show *s = user;
    struct genarm_error err;
    s->item = NULL;
    if (status == 0) {
        update(s, run, NULL, "");
        return;
    }
    clear_bar(s);
    s->n_failed++;
    if (status > 128) {
        error_set(&err, GENARM_EIO, "genarm %s was ended by signal %d; the last lines of %s:", item->words[0], status - 128, log);
    } else {
        error_set(&err, GENARM_EIO, "genarm %s failed with status %d; the last lines of %s:", item->words[0], status, log);
    }
    error_at(&err, err.code, "%s", item->title);
    report_error(&err);
    show_tail(log, log_start);
}

static void on_unanswered(const struct eval_run *run, const struct item *item, size_t n, size_t of, void *user) {
    clear_bar(user);
    note("%s: %zu of %zu prompts could not be answered; %s/logs/%s.log says why", item->title, n, of, run->folder, item->name);
}

static void on_bare(const struct eval_run *run, void *user) {
    clear_bar(user);
    note("%s: this file system knows no locks: nothing may work on the folder beside this process", run->folder);
}

static int stopped(void *user) {
    (void)user;
    return interrupt_signal();
}

void eval_show_attach(struct eval_run *run, struct eval_show *show) {
    run->on_start = on_start;
    run->on_wait = on_wait;
    run->on_end = on_end;
    run->on_unanswered = on_unanswered;
    run->on_bare = on_bare;
    run->stopped = stopped;
    run->user = show;
}

void eval_show_end(struct eval_show *show) {
    if (show->started) {
        progress_end(&show->progress);
        show->started = false;
    }
}
