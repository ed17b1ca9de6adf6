/* See line_program.h.
 *
 * A batch is pipelined: while answers are awaited, requests are written as far as the pipe takes them, and reading never
 * waits for writing, so full pipes cannot block each other. Whatever goes wrong leaves questions or answers in the pipes that
 * belong to nothing any more, so the program is killed then and the next batch starts another. */
#include "reward/line_program.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/progress.h"
#include "reward/source.h"

enum {
    REQUEST_MAX = 256 << 20, /* bytes of a line to the program */
    ANSWER_MAX = 64 << 10,   /* bytes of a line from it */
    SHOWN = 200,             /* bytes of a command or a line in an error */
    POLL_MS = 100,           /* between two questions whether to stop */
};
static const double exit_patience = 0.5; /* seconds to see how a program ended that closed a pipe */
static const double end_patience = 1;    /* seconds for a program to end its output, and to exit, at the end of its input */

/* One batch under way. */
struct exchange {
    const struct line_batch *batch;
    size_t n_sent, n_answered; /* whole lines */
    double deadline;           /* of the next answer */
};

/* The bytes that the program said, as far as an error shows them. */
static int shown(const struct buf *said) { return said->len < SHOWN ? (int)said->len : SHOWN; }

/* ---- requests ---- */

static const char *last_user_text(const struct genarm_message *messages, size_t n) {
    for (size_t i = n; i-- > 0;) {
        if (strcmp(messages[i].role, "user") == 0) {
            return messages[i].content;
        }
    }
    return NULL;
}

json_t *line_program_prompt(const struct genarm_message *messages, size_t n) {
    const char *prompt = last_user_text(messages, n);
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        json_t *message =
            json_pack("{s:o, s:o}", "role", text_json(messages[i].role), "content", text_json(messages[i].content));
        if (json_array_append_new(list, message) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return json_pack("{s:o, s:o}", "prompt", prompt ? text_json(prompt) : json_null(), "messages", list);
}

static int write_request(struct line_program *c, const struct exchange *b, struct genarm_error *err) {
    buf_clear(&c->request);
    c->n_written = 0;
    int rc = b->batch->ask(b->n_sent, &c->request, b->batch->user, err);
    return rc == GENARM_OK ? buf_append(&c->request, "\n", 1, err) : rc;
}

/* ---- errors ---- */

/* The program is of no use any more, because it closed its input or its output: says how it ended if it did. */
static int gone(struct line_program *c, bool output, struct genarm_error *err) {
    char how[64];
    if (output && c->answer.len > 0) {
        return error_set(err, GENARM_EIO, "the program \"%.*s\" ended within a line: \"%.*s\"", SHOWN, c->text,
                         shown(&c->answer), c->answer.data);
    }
    if (process_exited(&c->process, exit_patience, how, sizeof how)) {
        return error_set(err, GENARM_EIO, "the program \"%.*s\" %s before it answered", SHOWN, c->text, how);
    }
    return error_set(err, GENARM_EIO, "the program \"%.*s\" closed its %s before it answered", SHOWN, c->text,
                     output ? "output" : "input");
}

static int too_late(const struct line_program *c, struct genarm_error *err) {
    const bool part = c->answer.len > 0;
    const int rc = error_set(err, GENARM_EIO, "the program \"%.*s\" gave no answer within %g seconds%s%.*s%s", SHOWN,
                             c->text, c->params->timeout, part ? ", only \"" : "", part ? shown(&c->answer) : 0,
                             part ? c->answer.data : "", part ? "\" without an end of line" : "");
    return error_hint(err, rc, "a program has to flush its output after every line (python3 -u, sed -u, mawk -W interactive)");
}

static int refuse(const struct line_program *c, int code, const char *line, size_t n, const char *why, struct genarm_error *err) {
    const int rc = error_set(err, code, "the program \"%.*s\" answered \"%.*s\"%s: %s", SHOWN, c->text,
                             n < SHOWN ? (int)n : SHOWN, line, n < SHOWN ? "" : "...", why);
    return error_hint(err, rc, "an answer is one line, %s, and nothing else is printed", c->form);
}

int line_program_refuse(const struct line_program *c, const char *line, size_t n, const char *why, struct genarm_error *err) {
    return refuse(c, GENARM_EFORMAT, line, n, why, err);
}

static int unasked(const struct line_program *c, const char *line, size_t n, struct genarm_error *err) {
    return refuse(c, GENARM_EMISMATCH, line, n, "it was not asked", err);
}

/* ---- answers ---- */

/* Takes the whole lines of what was read. */
static int take_lines(struct line_program *c, struct exchange *b, struct genarm_error *err) {
    size_t start = 0;
    char *end;
    int rc = GENARM_OK;
    while (rc == GENARM_OK && start < c->answer.len &&
           (end = memchr(c->answer.data + start, '\n', c->answer.len - start))) {
        char *line = c->answer.data + start;
        const size_t n = (size_t)(end - line);
        *end = '\0';
        if (b->n_answered == b->n_sent) {
            return unasked(c, line, n, err);
        }
        rc = memchr(line, '\0', n) ? line_program_refuse(c, line, n, "this is no text", err)
                                  : b->batch->take(b->n_answered, line, n, b->batch->user, err);
        if (rc == GENARM_OK) {
            b->n_answered++;
            b->deadline = clock_seconds() + c->params->timeout;
            start += n + 1;
        }
    }
    if (rc == GENARM_OK && start > 0) {
        c->answer.len -= start;
        memmove(c->answer.data, c->answer.data + start, c->answer.len + 1);
    }
    if (rc == GENARM_OK && c->answer.len > ANSWER_MAX) {
        rc = error_set(err, GENARM_EFORMAT, "the program \"%.*s\" printed more than %d bytes without an end of line: "
                       "\"%.*s...\"", SHOWN, c->text, ANSWER_MAX, SHOWN, c->answer.data);
    }
    return rc;
}

/* ---- a batch ---- */

/* Writes as much as the pipe takes. */
static int send_some(struct line_program *c, struct exchange *b, struct genarm_error *err) {
    while (b->n_sent < b->batch->n) {
        if (c->n_written == c->request.len) {
            const int rc = write_request(c, b, err);
            if (rc != GENARM_OK) {
                return rc;
            }
        }
        const ssize_t done =
            process_write(&c->process, c->request.data + c->n_written, c->request.len - c->n_written);
        if (done < 0) {
            return errno == EPIPE ? gone(c, false, err)
                                  : error_set(err, GENARM_EIO, "the program \"%.*s\" cannot be asked: %s", SHOWN,
                                              c->text, strerror(errno));
        }
        if (done == 0) {
            return GENARM_OK;
        }
        c->n_written += (size_t)done;
        b->n_sent += c->n_written == c->request.len;
    }
    return GENARM_OK;
}

/* Reads once. */
static int receive_some(struct line_program *c, struct exchange *b, struct genarm_error *err) {
    char bytes[16 << 10];
    const ssize_t n = read(c->process.out, bytes, sizeof bytes);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR
                   ? GENARM_OK
                   : error_set(err, GENARM_EIO, "what the program \"%.*s\" says cannot be read: %s", SHOWN, c->text,
                               strerror(errno));
    }
    if (n == 0) {
        return gone(c, true, err);
    }
    const int rc = buf_append(&c->answer, bytes, (size_t)n, err);
    return rc == GENARM_OK ? take_lines(c, b, err) : rc;
}

/* Sends and receives what is possible now, or waits a little. */
static int exchange(struct line_program *c, struct exchange *b, struct genarm_error *err) {
    struct pollfd fds[] = {{.fd = c->process.out, .events = POLLIN},
                           {.fd = b->n_sent < b->batch->n ? c->process.in : -1, .events = POLLOUT}};
    const double left = b->deadline - clock_seconds();
    int rc = source_stopped(c->params, err);
    if (rc == GENARM_OK && left <= 0) {
        rc = too_late(c, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    if (poll(fds, 2, left < POLL_MS * 1e-3 ? (int)(left * 1e3) + 1 : POLL_MS) < 0) {
        return errno == EINTR ? GENARM_OK : error_set(err, GENARM_EIO, "waiting failed: %s", strerror(errno));
    }
    if (fds[0].revents) { /* first: what a program said explains why it is gone */
        rc = receive_some(c, b, err);
    }
    if (rc == GENARM_OK && fds[1].revents) {
        rc = send_some(c, b, err);
    }
    return rc;
}

static int run_batch(struct line_program *c, struct exchange *b, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (c->process.pid == 0) {
        rc = process_start(&c->process, c->text, err);
    }
    buf_clear(&c->answer);
    buf_clear(&c->request);
    c->n_written = 0;
    b->deadline = clock_seconds() + c->params->timeout;
    if (rc == GENARM_OK) {
        struct pollfd early = {.fd = c->process.out, .events = POLLIN};
        rc = poll(&early, 1, 0) > 0 ? receive_some(c, b, err) : GENARM_OK; /* nothing was asked yet */
    }
    while (rc == GENARM_OK && b->n_answered < b->batch->n) {
        rc = exchange(c, b, err);
    }
    if (rc == GENARM_OK && c->answer.len > 0) {
        rc = unasked(c, c->answer.data, c->answer.len, err);
    }
    return rc;
}

int line_program_run(struct line_program *c, const struct line_batch *batch, size_t *at, struct genarm_error *err) {
    struct exchange b = {.batch = batch};
    const int rc = run_batch(c, &b, err);
    if (rc != GENARM_OK) {
        *at = b.n_answered < batch->n ? b.n_answered : batch->n - 1;
        process_end(&c->process, 0);
    }
    return rc;
}

/* ---- the end ---- */

/* Reads to the end of the output, or of a line, or of patience. Whether the output has ended. */
static bool read_rest(struct line_program *c) {
    const double end = clock_seconds() + end_patience;
    char bytes[4096];
    buf_clear(&c->answer);
    for (double left = end_patience; left > 0 && c->answer.len < SHOWN; left = end - clock_seconds()) {
        struct pollfd out = {.fd = c->process.out, .events = POLLIN};
        if (poll(&out, 1, (int)(left * 1e3) + 1) <= 0) {
            continue;
        }
        const ssize_t n = read(c->process.out, bytes, sizeof bytes);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return true;
        }
        if (n > 0 && (buf_append(&c->answer, bytes, (size_t)n, NULL) != GENARM_OK || memchr(bytes, '\n', (size_t)n))) {
            return false;
        }
    }
    return false;
}

int line_program_finish(struct line_program *c, struct genarm_error *err) {
    if (c->process.pid == 0) {
        return GENARM_OK;
    }
    process_close_input(&c->process);
    const bool ended = read_rest(c);
    process_end(&c->process, ended ? end_patience : 0);
    if (c->answer.len == 0) {
        return GENARM_OK;
    }
    const char *newline = memchr(c->answer.data, '\n', c->answer.len);
    return unasked(c, c->answer.data, newline ? (size_t)(newline - c->answer.data) : c->answer.len, err);
}

/* ---- making ---- */

int line_program_init(struct line_program *p, const char *command, const char *form,
                      const struct genarm_source_params *params, struct genarm_error *err) {
    *p = (struct line_program){.params = params, .form = form, .text = strdup(command)};
    buf_init(&p->request, REQUEST_MAX);
    buf_init(&p->answer, 2 * ANSWER_MAX);
    return p->text ? process_start(&p->process, p->text, err) : error_nomem(err, "a program");
}

void line_program_deinit(struct line_program *p) {
    struct genarm_error err = {0};
    if (line_program_finish(p, &err) != GENARM_OK) { /* nobody asked before */
        log_line(GENARM_LOG_WARN, "%s", err.what);
    }
    buf_deinit(&p->request);
    buf_deinit(&p->answer);
    free(p->text);
    *p = (struct line_program){0};
}
