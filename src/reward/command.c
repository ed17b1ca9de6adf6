/* cmd: a program that is asked by JSON lines, one line a sample, and answers with a line each, in order (docs/reward.md).
 *
 * A batch is pipelined: while answers are awaited, requests are written as far as the pipe takes them, and reading never
 * waits for writing, so full pipes cannot block each other. Whatever goes wrong leaves questions or answers in the pipes that
 * belong to nothing any more, so the program is killed then and the next batch starts another. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "reward/process.h"
#include "reward/source.h"

enum {
    REQUEST_MAX = 256 << 20, /* bytes of a line to the program */
    ANSWER_MAX = 64 << 10,   /* bytes of a line from it */
    SHOWN = 200,             /* bytes of a command or a line in an error */
    POLL_MS = 100,           /* between two questions whether to stop */
};
static const double exit_patience = 0.5; /* seconds to see how a program ended that closed a pipe */
static const double end_patience = 1;    /* seconds for a program to exit by itself at the end of its input */

struct command {
    const struct genarm_source_params *params;
    char *text; /* as given */
    struct process process;
    struct buf request; /* the line that is being written */
    size_t n_written;   /* of it */
    struct buf answer;  /* what was read and not understood yet */
};

/* One batch under way. */
struct batch {
    const struct genarm_sample *samples;
    size_t n;
    size_t n_sent, n_answered; /* whole lines */
    double *values;            /* [n] */
    double deadline;           /* of the next answer */
};

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The bytes that the program said, as far as an error shows them. */
static int shown(const struct buf *said) { return said->len < SHOWN ? (int)said->len : SHOWN; }

/* ---- requests ---- */

static const char *last_user_text(const struct genarm_sample *s) {
    for (size_t i = s->n_messages; i-- > 0;) {
        if (strcmp(s->messages[i].role, "user") == 0) {
            return s->messages[i].content;
        }
    }
    return NULL;
}

/* New reference; NULL without memory. */
static json_t *request_json(const struct genarm_sample *s) {
    const char *prompt = last_user_text(s);
    json_t *messages = json_array();
    for (size_t i = 0; i < s->n_messages && messages; i++) {
        json_t *message = json_pack("{s:o, s:o}", "role", text_json(s->messages[i].role), "content",
                                    text_json(s->messages[i].content));
        if (json_array_append_new(messages, message) != 0) {
            json_decref(messages);
            messages = NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o, s:b}", "prompt", prompt ? text_json(prompt) : json_null(), "messages", messages,
                     "response", text_json(s->response), "finished", (int)s->finished);
}

static int write_request(struct command *c, const struct genarm_sample *s, struct genarm_error *err) {
    json_t *json = request_json(s);
    buf_clear(&c->request);
    c->n_written = 0;
    int rc = json ? json_dump(&c->request, json, err) : error_nomem(err, "a request");
    rc = rc == GENARM_OK ? buf_append(&c->request, "\n", 1, err) : rc;
    json_decref(json);
    return rc;
}

/* ---- errors ---- */

/* The program is of no use any more, because it closed its input or its output: says how it ended if it did. */
static int gone(struct command *c, bool output, struct genarm_error *err) {
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

static int too_late(const struct command *c, struct genarm_error *err) {
    const bool part = c->answer.len > 0;
    const int rc = error_set(err, GENARM_EIO, "the program \"%.*s\" gave no answer within %g seconds%s%.*s%s", SHOWN,
                             c->text, c->params->timeout, part ? ", only \"" : "", part ? shown(&c->answer) : 0,
                             part ? c->answer.data : "", part ? "\" without an end of line" : "");
    return error_hint(err, rc, "a program has to flush its output after every line (python3 -u, sed -u, mawk -W interactive)");
}

static int no_reward(const struct command *c, const char *line, size_t n, const char *why, struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EFORMAT, "the program \"%.*s\" answered \"%.*s\"%s: %s", SHOWN, c->text,
                             n < SHOWN ? (int)n : SHOWN, line, n < SHOWN ? "" : "...", why);
    return error_hint(err, rc, "an answer is one line, a number or {\"reward\": number}, and nothing else is printed");
}

/* ---- answers ---- */

/* A number as programs print it that know no JSON: ".5", "+1", "nan". */
static bool plain_number(double *value, const char *line) {
    char *end;
    *value = strtod(line, &end);
    return end != line && end[strspn(end, " \t\r")] == '\0';
}

static int parse_answer(const struct command *c, double *value, const char *line, size_t n, struct genarm_error *err) {
    json_t *json = NULL;
    struct genarm_error why = {0};
    if (memchr(line, '\0', n)) {
        return no_reward(c, line, n, "this is no text", err);
    }
    int rc = json_parse(&json, line, n, "", &why);
    const json_t *reward = json_is_object(json) ? json_object_get(json, "reward") : json;
    if (rc == GENARM_ENOMEM) {
        rc = error_nomem(err, "an answer");
    } else if (json_is_number(reward)) {
        *value = json_number_value(reward);
    } else if (json || !plain_number(value, line)) {
        rc = no_reward(c, line, n, line[strspn(line, " \t")] == '{' && !json ? why.what : "this is no reward", err);
    } else {
        rc = isfinite(*value) ? GENARM_OK : no_reward(c, line, n, "this is no finite number", err);
    }
    json_decref(json);
    return rc;
}

/* Takes the whole lines of what was read. */
static int take_lines(struct command *c, struct batch *b, struct genarm_error *err) {
    size_t start = 0;
    char *end;
    int rc = GENARM_OK;
    while (rc == GENARM_OK && start < c->answer.len &&
           (end = memchr(c->answer.data + start, '\n', c->answer.len - start))) {
        char *line = c->answer.data + start;
        const size_t n = (size_t)(end - line);
        *end = '\0';
        if (b->n_answered == b->n_sent) {
            return no_reward(c, line, n, "it was not asked", err);
        }
        rc = parse_answer(c, &b->values[b->n_answered], line, n, err);
        if (rc == GENARM_OK) {
            b->n_answered++;
            b->deadline = seconds_now() + c->params->timeout;
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
static int send_some(struct command *c, struct batch *b, struct genarm_error *err) {
    while (b->n_sent < b->n) {
        if (c->n_written == c->request.len) {
            const int rc = write_request(c, &b->samples[b->n_sent], err);
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
static int receive_some(struct command *c, struct batch *b, struct genarm_error *err) {
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
static int exchange(struct command *c, struct batch *b, struct genarm_error *err) {
    struct pollfd fds[] = {{.fd = c->process.out, .events = POLLIN},
                           {.fd = b->n_sent < b->n ? c->process.in : -1, .events = POLLOUT}};
    const double left = b->deadline - seconds_now();
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

static int run_batch(struct command *c, struct batch *b, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (c->process.pid == 0) {
        rc = process_start(&c->process, c->text, err);
    }
    buf_clear(&c->answer);
    buf_clear(&c->request);
    c->n_written = 0;
    b->deadline = seconds_now() + c->params->timeout;
    if (rc == GENARM_OK) {
        struct pollfd early = {.fd = c->process.out, .events = POLLIN};
        rc = poll(&early, 1, 0) > 0 ? receive_some(c, b, err) : GENARM_OK; /* nothing was asked yet */
    }
    while (rc == GENARM_OK && b->n_answered < b->n) {
        rc = exchange(c, b, err);
    }
    if (rc == GENARM_OK && c->answer.len > 0) {
        rc = no_reward(c, c->answer.data, c->answer.len, "it was not asked", err);
    }
    return rc;
}

static int command_score(void *self, const struct genarm_sample *samples, size_t n, double *values, size_t *at,
                         struct genarm_error *err) {
    struct command *c = self;
    struct batch b = {.samples = samples, .n = n, .values = values};
    const int rc = run_batch(c, &b, err);
    if (rc != GENARM_OK) {
        *at = b.n_answered < n ? b.n_answered : n - 1;
        process_end(&c->process, 0);
    }
    return rc;
}

/* ---- making ---- */

static void command_free(void *self) {
    struct command *c = self;
    if (c) {
        process_end(&c->process, end_patience);
        buf_deinit(&c->request);
        buf_deinit(&c->answer);
        free(c->text);
        free(c);
    }
}

static const struct source_vtable command_vtable = {.score = command_score, .free = command_free};

int command_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
                struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    (void)base;
    struct command *c = calloc(1, sizeof *c);
    if (!c) {
        return error_nomem(err, "a reward source");
    }
    c->params = params;
    buf_init(&c->request, REQUEST_MAX);
    buf_init(&c->answer, 2 * ANSWER_MAX);
    c->text = strdup(spec->part.path);
    int rc = c->text ? GENARM_OK : error_nomem(err, "a reward source");
    if (rc == GENARM_OK) {
        rc = process_start(&c->process, c->text, err); /* it gets ready while others load */
    }
    if (rc != GENARM_OK) {
        command_free(c);
        return rc;
    }
    *vtable = &command_vtable;
    *self = c;
    return GENARM_OK;
}
