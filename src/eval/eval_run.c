/* See eval_run.h. */
#include "eval/eval_run.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "eval/child.h"
#include "eval/claims.h"

enum { ANSWER_MAX = 256 << 20 /* bytes of a record */ };
static const double look_again = 0.05;  /* seconds between two looks at a command that runs ... */
static const double wait_longest = 1.0; /* ... and, at most, at what others do */

static double time_of_day(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Ends early at a signal. */
static void wait_for(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds};
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

static bool is_stopped(const struct eval_run *r) { return r->stopped && r->stopped(r->user) != 0; }

static void tick(const struct eval_run *r, const struct item *item) {
    if (r->on_wait) {
        r->on_wait(r, item, r->user);
    }
}

/* ---- what there is ---- */

/* An item's file may be another than it was: what was made of that one is no longer done. */
static void look_at_dependents(struct eval_run *r, size_t i) {
    for (size_t j = i + 1; j < r->list->n; j++) {
        const struct item *item = &r->list->items[j];
        for (size_t k = 0; k < item->n_needs; k++) {
            struct item_record record;
            if (item->needs[k] == i && r->states[j] == STATE_DONE && !item_is_done(&record, r->list, item, r->folder)) {
                r->states[j] = STATE_OPEN;
            }
        }
    }
}

static void set_done(struct eval_run *r, size_t i, const struct item_record *record) {
    r->states[i] = STATE_DONE;
    r->seconds[i] = record->seconds;
    look_at_dependents(r, i);
}

int eval_run_init(struct eval_run *r, struct genarm_error *err) {
    r->states = calloc(r->list->n + 1, sizeof *r->states);
    r->seconds = calloc(r->list->n + 1, sizeof *r->seconds);
    r->failed = calloc(r->list->n + 1, sizeof *r->failed);
    if (!r->states || !r->seconds || !r->failed) {
        return error_nomem(err, "items");
    }
    for (size_t i = 0; i < r->list->n; i++) {
        struct item_record record;
        if (item_is_done(&record, r->list, &r->list->items[i], r->folder)) {
            set_done(r, i, &record);
        } else if (record.state == RECORD_FAILED) {
            r->failed[i] = record.ended;
        }
    }
    return 0;
}

void eval_run_deinit(struct eval_run *r) {
    free(r->states);
    free(r->seconds);
    free(r->failed);
    r->failed = NULL;
    r->states = NULL;
    r->seconds = NULL;
}

bool eval_run_is_other(const struct eval_run *r, size_t i, struct item_record *record) {
    const struct item *item = &r->list->items[i];
    char *path = item_path(r->folder, item->output, "");
    item_record_read(record, item, r->folder);
    const bool other = r->states[i] != STATE_DONE && record->state == RECORD_DONE && path && file_exists(path);
    free(path);
    return other;
}

int eval_run_prepare(const struct eval_run *r, struct genarm_error *err) {
    static const char *const folders[] = {"models", "answers", "rewards", "verdicts", "pairs", "logs", "items"};
    int code = 0;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && code == 0; i++) {
        char *path = item_path(r->folder, folders[i], "");
        code = path ? file_make_folder(path, err) : error_nomem(err, "a path");
        free(path);
    }
    return code;
}

void eval_run_count(const struct eval_run *r, size_t *n, size_t *n_done, double *left) {
    enum { KINDS = ITEM_PAIRS + 1 };
    double seconds[KINDS] = {0}, all = 0;
    size_t done[KINDS] = {0}, open[KINDS] = {0}, n_known = 0;
    *n = *n_done = 0;
    *left = 0;
    for (size_t i = 0; i < r->list->n; i++) {
        const struct item *item = &r->list->items[i];
        const bool is_done = r->states[i] == STATE_DONE;
        *n += item->wanted;
        *n_done += item->wanted && is_done;
        done[item->kind] += is_done;
        open[item->kind] += item->wanted && !is_done;
        seconds[item->kind] += is_done ? r->seconds[i] : 0;
    }
    for (int k = 0; k < KINDS; k++) {
        all += seconds[k];
        n_known += done[k];
    }
    for (int k = 0; k < KINDS && n_known; k++) {
        *left += (double)open[k] * (done[k] ? seconds[k] / (double)done[k] : all / (double)n_known);
    }
}

/* ---- one command ---- */

/* Runs the command of an item until it ends; a stop is passed on to it once. */
static int run_command(const struct eval_run *r, const struct item *item, const struct claim *claim, const char *log,
                       int *status, struct genarm_error *err) {
    struct child child = {0};
    char **words = item_words(item, r->folder);
    bool told = false;
    int code = words ? child_start(&child, r->program, words, log, claim->fd, err) : error_nomem(err, "a command");
    item_words_free(words);
    while (code == 0 && !child_ended(&child, status)) {
        if (is_stopped(r) && !told) {
            child_signal(&child, SIGINT);
            told = true;
        }
        tick(r, item);
        wait_for(look_again);
    }
    return code;
}

static int64_t file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* Counts the records of a file of answers, and those of prompts that could not be answered. */
static int count_answers(size_t *n, size_t *n_unanswered, const char *path, struct genarm_error *err) {
    struct file_lines lines = {0};
    int more = 0;
    *n = *n_unanswered = 0;
    const int code = file_lines_open(&lines, path, ANSWER_MAX, err);
    if (code) {
        return code;
    }
    while ((more = file_lines_next(&lines, err)) > 0) {
        json_t *record = NULL;
        const char *reason = NULL;
        if (json_parse_sampled(&record, lines.text.data, lines.text.len, "", NULL) == 0 &&
            json_opt_string(&reason, record, "finish_reason", "", "", NULL) == 0) {
            *n_unanswered += strcmp(reason, "error") == 0;
        }
        json_decref(record);
        (*n)++;
    }
    file_lines_close(&lines);
    return more;
}

/* genarm generate exits with 1 also where it has written all records and some say why there is no answer: that is as good as
 * it gets, and another run would give the same. If there is no answer at all, something else is wrong. */
static int look_at_answers(const struct eval_run *r, const struct item *item, const struct item_record *record, int *status,
                           const char *output, struct genarm_error *err) {
    size_t n = 0, n_unanswered = 0;
    if (item->kind != ITEM_ANSWERS || (*status != 0 && *status != 1) || !item_was_finished(record, r->list, item, r->folder)) {
        return 0;
    }
    const int code = count_answers(&n, &n_unanswered, output, err);
    if (code || n_unanswered == 0) {
        return code;
    }
    *status = n_unanswered == n;
    if (*status == 0 && r->on_unanswered) {
        r->on_unanswered(r, item, n_unanswered, n, r->user);
    }
    return 0;
}

/* An item's file is there: its record says so. */
static int set_file(struct eval_run *r, size_t i, struct item_record *record, const char *output, struct genarm_error *err) {
    record->state = RECORD_DONE;
    record->size = file_size(output);
    int code = file_hash(&record->content, output, err);
    code = code ? code : item_record_write(record, &r->list->items[i], r->folder, err);
    if (code == 0) {
        set_done(r, i, record);
    }
    return code;
}

/* Writes down what came of a command, and says it. */
static int finish(struct eval_run *r, size_t i, struct item_record *record, int status, const char *log, int64_t log_start,
                  struct genarm_error *err) {
    const struct item *item = &r->list->items[i];
    char *output = item_path(r->folder, item->output, "");
    if (!output) {
        return error_nomem(err, "a path");
    }
    int code = look_at_answers(r, item, record, &status, output, err);
    if (code) {
        free(output);
        return code;
    }
    if (status == 0 && !file_exists(output)) {
        status = 1;
    }
    record->ended = time_of_day();
    record->status = status;
    if (status == 0) {
        code = set_file(r, i, record, output, err);
        r->n_run++;
    } else {
        if (!is_stopped(r)) { /* else it goes on another time */
            record->state = RECORD_FAILED;
            r->states[i] = STATE_FAILED;
        }
        code = item_record_write(record, item, r->folder, err);
    }
    free(output);
    if (code == 0 && r->on_end && (status == 0 || !is_stopped(r))) {
        r->on_end(r, item, status, log, log_start, r->user);
    }
    return code;
}

static char *log_path(const struct eval_run *r, const struct item *item, const char *ending) {
    char *logs = item_path(r->folder, "logs", ""), *path = logs ? item_path(logs, item->name, ending) : NULL;
    free(logs);
    return path;
}

/* The curves of the training that has made a file that is taken over. */
static int take_log(const struct eval_run *r, const struct item *item, const struct reuse_file *file, struct genarm_error *err) {
    char *path = log_path(r, item, ".jsonl");
    int code = path ? 0 : error_nomem(err, "a path");
    if (code == 0 && file_exists(file->log_path)) {
        code = file_copy(path, file->log_path, err);
    }
    free(path);
    return code;
}

/* Makes the item's file a copy of another. *taken: false where that has become another file meanwhile; then nothing is there. */
static int take_over(struct eval_run *r, size_t i, const struct reuse_file *file, bool *taken, struct genarm_error *err) {
    const struct item *item = &r->list->items[i];
    struct item_record record = file->record;
    char *output = item_path(r->folder, item->output, "");
    int code = output ? item_remove_files(item, r->folder, true, err) : error_nomem(err, "a path");
    code = code ? code : file_copy(output, file->path, err);
    *taken = reuse_holds(file) && (code || file_size(output) == record.size);
    if (output && !*taken) { /* so that there is no copy, or one of who knows what, is no failure */
        code = item_remove_files(item, r->folder, true, err);
    } else if (code == 0) {
        code = take_log(r, item, file, err);
        code = code ? code : set_file(r, i, &record, output, err);
        r->n_reused++;
    }
    free(output);
    return code;
}

/* NFS remembers for a while that a file was not there; opening its folder makes it ask again. */
static void look_into(const char *folder, const char *name) {
    char *path = item_path(folder, name, "");
    DIR *dir = path ? opendir(path) : NULL;
    if (dir) {
        closedir(dir);
    }
    free(path);
}

/* Does an item that is claimed, unless that has been done meanwhile. */
static int do_item(struct eval_run *r, size_t i, const struct claim *claim, struct genarm_error *err) {
    const struct item *item = &r->list->items[i];
    struct item_record record;
    int status = 0, code = 0;
    look_into(r->folder, "items");
    look_into(r->folder, item_folder(item));
    if (item_is_done(&record, r->list, item, r->folder)) {
        set_done(r, i, &record);
        return 0;
    }
    const struct reuse_file *file = reuse_find(r->reuse, r->list, item, r->folder);
    bool taken = false;
    code = file ? take_over(r, i, file, &taken, err) : 0;
    if (code || taken) {
        return code;
    }
    char *path = log_path(r, item, ".log");
    if (!path) {
        return error_nomem(err, "a path");
    }
    const int64_t log_start = file_size(path);
    if (item_was_finished(&record, r->list, item, r->folder)) {
        code = finish(r, i, &record, 0, path, log_start, err);
        free(path);
        return code;
    }
    /* A file that is there from now on is one that this command has written. */
    const bool other = record.state == RECORD_NONE || !item_record_fits(&record, r->list, item, r->folder);
    if (other || record.state != RECORD_RUNNING) {
        code = item_remove_files(item, r->folder, other, err);
    }
    if (other) {
        record = (struct item_record){.fingerprint = item->fingerprint, .made_of = item_made_of(r->list, item, r->folder)};
    }
    record.seconds = record.state == RECORD_DONE ? 0 : record.seconds; /* its file is gone: nothing goes on */
    record.state = RECORD_RUNNING;
    origin_here(&record.origin);
    code = code ? code : item_record_write(&record, item, r->folder, err);
    if (code == 0 && r->on_start) {
        r->on_start(r, item, r->user);
    }
    const double started = clock_seconds();
    code = code ? code : run_command(r, item, claim, path, &status, err);
    record.seconds += clock_seconds() - started;
    code = code ? code : finish(r, i, &record, status, path, log_start, err);
    free(path);
    return code;
}

/* ---- all of them ---- */

/* Whether all is there that an item needs; if it never will be, the item is blocked. */
static bool is_ready(struct eval_run *r, size_t i) {
    const struct item *item = &r->list->items[i];
    bool ready = true;
    for (size_t k = 0; k < item->n_needs; k++) {
        const enum item_state need = r->states[item->needs[k]];
        if (need == STATE_FAILED || need == STATE_BLOCKED) {
            r->states[i] = STATE_BLOCKED;
        }
        ready = ready && need == STATE_DONE;
    }
    return ready;
}

/* What became of an item meanwhile by what others do. */
static void look(struct eval_run *r, size_t i) {
    const struct item *item = &r->list->items[i];
    struct item_record record;
    if (item_is_done(&record, r->list, item, r->folder)) {
        set_done(r, i, &record);
    } else if (record.state == RECORD_FAILED && record.ended != r->failed[i] && /* not by the time: clocks of machines differ */
               item_record_fits(&record, r->list, item, r->folder)) {
        r->states[i] = STATE_FAILED; /* another process has tried, and said why */
    }
}

/* Does the first item that is ready and free. *found: there was one; *open: some are left. */
static int do_next(struct eval_run *r, bool *found, bool *open, bool *told, struct genarm_error *err) {
    *found = *open = false;
    for (size_t i = 0; i < r->list->n; i++) {
        struct claim claim;
        if (!r->list->items[i].wanted || r->states[i] != STATE_OPEN) {
            continue;
        }
        const bool ready = is_ready(r, i);
        if (ready) {
            look(r, i);
        }
        if (r->states[i] == STATE_FAILED && !r->keep_going) {
            return 0;
        }
        if (r->states[i] != STATE_OPEN) {
            continue;
        }
        *open = true;
        const int taken = ready ? claim_take(&claim, r->folder, r->list->items[i].name, err) : 0;
        if (taken < 0) {
            return taken;
        }
        if (taken) {
            if (claim.bare && !*told && r->on_bare) {
                r->on_bare(r, r->user);
            }
            *told = *told || claim.bare;
            *found = true;
            const int code = do_item(r, i, &claim, err);
            claim_release(&claim);
            return code;
        }
    }
    return 0;
}

static bool any_failed(const struct eval_run *r) {
    for (size_t i = 0; i < r->list->n; i++) {
        if (r->list->items[i].wanted && r->states[i] == STATE_FAILED) {
            return true;
        }
    }
    return false;
}

int eval_run_all(struct eval_run *r, struct genarm_error *err) {
    bool found, open, told = false;
    double pause = look_again;
    for (;;) {
        if (is_stopped(r)) {
            return error_set(err, GENARM_ECANCELED, "stopped");
        }
        const int code = do_next(r, &found, &open, &told, err);
        if (code) {
            return code;
        }
        if (any_failed(r) && (!open || !r->keep_going)) {
            return 1;
        }
        if (!open) {
            return 0;
        }
        if (found) {
            pause = look_again;
            continue;
        }
        tick(r, NULL); /* others are at it */
        wait_for(pause);
        pause = pause * 1.5 < wait_longest ? pause * 1.5 : wait_longest;
    }
}
