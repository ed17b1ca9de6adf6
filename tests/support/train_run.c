#include "support/train_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/golden.h"

void train_run_open(struct train_run *r, const char *model) {
    snprintf(r->folder, sizeof r->folder, "/tmp/genarm-train-XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    snprintf(r->pairs, sizeof r->pairs, "%s/pairs.jsonl", r->folder);
    snprintf(r->output, sizeof r->output, "%s/arm.gguf", r->folder);
    snprintf(r->log, sizeof r->log, "%s/log.jsonl", r->folder);
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s/arm.gguf.ckpt", r->folder);
    r->model = model ? golden_model(model) : NULL;
}

void train_run_close(struct train_run *r) {
    char command[128];
    genarm_model_free(r->model);
    snprintf(command, sizeof command, "rm -rf %s", r->folder);
    assert_int_equal(system(command), 0);
}

void train_run_write_pairs(const struct train_run *r, int n) {
    static const char *const good[] = {"yes", "sure", "good", "fine yes"}, *const bad[] = {"no", "never so", "bad"};
    FILE *f = fopen(r->pairs, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "{\"prompt\": \"%c%d?\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n", 'a' + i * 7 % 26, i,
                good[i % 4], bad[i * 5 % 3]);
    }
    assert_int_equal(fclose(f), 0);
}

struct genarm_train_params train_run_params(const struct train_run *r) {
    struct genarm_train_params p = genarm_train_default_params();
    p.lora_rank = 4;
    p.lora_targets = "q,v,o,down";
    p.beta = 0.5f;
    p.learning_rate = 1e-2f;
    p.batch_size = 5;
    p.val_split = 0.1f;
    p.n_threads = 1;
    p.save_every = 1;
    p.log_path = r->log;
    return p;
}

int train_run(struct train_run *r, const struct genarm_train_params *params,
              int (*each)(const struct genarm_train_status *, void *), void *user, struct genarm_error *err) {
    struct genarm_trainer *trainer = NULL;
    const char *paths[] = {r->pairs};
    const size_t n_paths = params->n_objectives > 0 ? 0 : 1;
    int rc = genarm_trainer_new(&trainer, r->model, paths, n_paths, r->output, params, NULL, err);
    if (rc == GENARM_OK) {
        rc = genarm_trainer_run(trainer, each, user, err);
    }
    genarm_trainer_free(trainer);
    return rc;
}

int train_note(const struct genarm_train_status *s, void *user) {
    struct train_calls *c = user;
    assert_true(c->n < (int)(sizeof c->status / sizeof *c->status));
    c->status[c->n++] = *s;
    return c->n == c->stop_at_call || s->step == c->stop_at_step;
}

void train_run_keep(const struct train_run *r, char *to, size_t size, const char *file, const char *name) {
    snprintf(to, size, "%s/%s", r->folder, name);
    assert_int_equal(rename(file, to), 0);
}

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* The log without what depends on the clock, and without the lines that are of a process: which run, and where it went on. */
static char *timeless_log(const struct train_run *r) {
    size_t n = 0;
    char *text = read_whole(r->log, &n), *to = text;
    assert_non_null(text);
    assert_true(begins(text, "{\"run\":{\"command\":\"train\","));
    for (char *from = text; *from;) {
        static const char rate[] = ",\"pairs_per_second\":";
        if ((from == text || from[-1] == '\n') && (begins(from, "{\"run\":") || begins(from, "{\"resumed\":"))) {
            from += strcspn(from, "\n") + 1;
            continue;
        }
        if (strncmp(from, rate, sizeof rate - 1) == 0) {
            from += strcspn(from, "}");
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return text;
}

void train_run_check_resumed(struct train_run *r, const struct genarm_train_params *params, int stop_at_call,
                             int64_t stop_at_step, int32_t n_threads) {
    static struct train_calls c;
    char whole[128];
    struct genarm_train_params p = *params;
    struct genarm_error err = {0};
    must(train_run(r, &p, NULL, NULL, &err), &err);
    train_run_keep(r, whole, sizeof whole, r->output, "whole.gguf");
    char *whole_log = timeless_log(r);
    c = (struct train_calls){.stop_at_call = stop_at_call, .stop_at_step = stop_at_step};
    assert_int_equal(train_run(r, &p, train_note, &c, &err), GENARM_ECANCELED);
    assert_false(file_exists(r->output));
    p.resume = true;
    p.n_threads = n_threads;
    p.save_every = 2;
    must(train_run(r, &p, NULL, NULL, &err), &err);
    char *log = timeless_log(r);
    assert_true(same_files(whole, r->output));
    assert_string_equal(log, whole_log);
    free(log);
    free(whole_log);
}

char *read_whole(const char *path, size_t *n) {
    struct buf b;
    buf_init(&b, 1 << 26);
    if (file_read(&b, path, NULL) != GENARM_OK) {
        buf_deinit(&b);
        return NULL;
    }
    *n = b.len;
    return b.data;
}

bool same_files(const char *a, const char *b) {
    size_t n_a = 0, n_b = 0;
    char *x = read_whole(a, &n_a), *y = read_whole(b, &n_b);
    const bool same = x && y && n_a == n_b && memcmp(x, y, n_a) == 0;
    free(x);
    free(y);
    return same;
}
