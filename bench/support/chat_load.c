#include "chat_load.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/progress.h"

enum { POLL_MS = 1000, TIMEOUT_S = 900, PROBE_PAUSE_US = 10000, MAX_PATHS = 8, PROBE_TIMEOUT_S = 30 };
enum { MAX_TEXT = 64 << 20 }; /* bytes of a line of a stream, or of a whole answer: more is no answer */

static void *must(void *p) {
    if (!p) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return p;
}

/* ---- text that grows ---- */

struct text {
    char *bytes; /* NUL-terminated once there are any */
    size_t n, room;
};

static bool text_add(struct text *t, const char *bytes, size_t n) {
    if (t->n + n > MAX_TEXT) {
        return false;
    }
    if (t->n + n + 1 > t->room) {
        t->room = 2 * (t->n + n) + 4096;
        t->bytes = must(realloc(t->bytes, t->room));
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    t->bytes[t->n] = '\0';
    return true;
}

static size_t keep_body(char *bytes, size_t size, size_t n, void *to) {
    return text_add(to, bytes, size * n) ? size * n : 0;
}

/* ---- streams ---- */

struct stream {
    CURL *easy;
    struct chat_request *request;
    struct text line;
    double sent;
    bool done; /* [DONE] was read */
};

/* What an event says of the request: its first text, its usage, an error. */
static void read_event(struct stream *s, const char *text) {
    struct chat_request *r = s->request;
    json_t *event = json_loads(text, 0, NULL);
    if (!event) {
        snprintf(r->problem, sizeof r->problem, "no JSON: %.200s", text);
        return;
    }
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *content = json_object_get(json_object_get(choice, "delta"), "content");
    const json_t *usage = json_object_get(event, "usage");
    if (r->first < 0 && json_string_length(content) > 0) {
        r->first = clock_seconds() - s->sent;
    }
    if (json_is_object(usage)) {
        r->n_prompt = json_integer_value(json_object_get(usage, "prompt_tokens"));
        r->n_answer = json_integer_value(json_object_get(usage, "completion_tokens"));
    }
    if (json_object_get(event, "error")) {
        snprintf(r->problem, sizeof r->problem, "%.250s", text);
    }
    json_decref(event);
}

static void read_line(struct stream *s) {
    const char *const line = s->line.bytes;
    if (strncmp(line, "data: ", 6) != 0) {
        if (line[0] == '{') { /* an error that is no stream */
            snprintf(s->request->problem, sizeof s->request->problem, "%.250s", line);
        }
    } else if (strcmp(line + 6, "[DONE]") == 0) {
        s->done = true;
    } else {
        read_event(s, line + 6);
    }
}

static size_t read_stream(char *bytes, size_t size, size_t n, void *to) {
    struct stream *s = to;
    size_t from = 0;
    n *= size;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && bytes[i] != '\n') {
            continue;
        }
        if (!text_add(&s->line, bytes + from, i - from)) {
            return 0;
        }
        from = i + 1;
        if (i < n) {
            if (s->line.n && s->line.bytes[s->line.n - 1] == '\r') {
                s->line.bytes[--s->line.n] = '\0';
            }
            read_line(s);
            s->line.n = 0;
        }
    }
    return n;
}

static void send_request(CURLM *multi, struct stream *s, struct chat_request *request) {
    s->request = request;
    s->line.n = 0;
    s->done = false;
    *request = (struct chat_request){.body = request->body, .first = -1, .n_prompt = -1, .n_answer = -1};
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, request->body);
    s->sent = clock_seconds();
    curl_multi_add_handle(multi, s->easy);
}

/* A request that is over: what is wrong with it, if anything. */
static void finish_request(struct stream *s, CURLcode code) {
    struct chat_request *r = s->request;
    long status = 0;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (s->line.n) { /* a last line without an end: errors have none */
        read_line(s);
    }
    if (r->problem[0]) {
        return;
    }
    if (code != CURLE_OK) {
        snprintf(r->problem, sizeof r->problem, "%s", curl_easy_strerror(code));
    } else if (status != 200) {
        snprintf(r->problem, sizeof r->problem, "status %ld", status);
    } else if (!s->done || r->first < 0 || r->n_answer <= 0) {
        snprintf(r->problem, sizeof r->problem, "the stream ended without %s",
                 !s->done ? "[DONE]" : r->first < 0 ? "any text" : "its usage");
    }
}

static void open_stream(struct stream *s, const char *address, struct curl_slist *headers) {
    *s = (struct stream){.easy = must(curl_easy_init())};
    curl_easy_setopt(s->easy, CURLOPT_URL, address);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, read_stream);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    curl_easy_setopt(s->easy, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->easy, CURLOPT_PROXY, "");
}

double chat_load_run(const char *url, struct chat_request *requests, size_t n_requests, size_t n_streams) {
    char address[512];
    struct stream *streams = must(calloc(n_streams, sizeof *streams));
    struct curl_slist *headers = must(curl_slist_append(NULL, "Content-Type: application/json"));
    CURLM *multi = must(curl_multi_init());
    size_t next = 0, n_done = 0;
    snprintf(address, sizeof address, "%s/v1/chat/completions", url);
    for (size_t i = 0; i < n_streams; i++) {
        open_stream(&streams[i], address, headers);
    }
    const double start = clock_seconds();
    for (size_t i = 0; i < n_streams && next < n_requests; i++) {
        send_request(multi, &streams[i], &requests[next++]);
    }
    while (n_done < n_requests) {
        int n_running = 0, n_messages = 0;
        curl_multi_perform(multi, &n_running);
        for (CURLMsg *m; (m = curl_multi_info_read(multi, &n_messages)) != NULL;) {
            struct stream *s = NULL;
            const CURLcode code = m->data.result;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
            finish_request(s, code);
            curl_multi_remove_handle(multi, s->easy);
            n_done++;
            if (next < n_requests) {
                send_request(multi, s, &requests[next++]);
                n_running = 1;
            }
        }
        if (n_running) {
            curl_multi_poll(multi, NULL, 0, POLL_MS, NULL);
        }
    }
    const double seconds = clock_seconds() - start;
    for (size_t i = 0; i < n_streams; i++) {
        curl_easy_cleanup(streams[i].easy);
        free(streams[i].line.bytes);
    }
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    free(streams);
    return seconds;
}

/* ---- small requests ---- */

/* Seconds until the whole answer was there; negative when none came. */
static double get(const char *address, struct text *body, long *status) {
    double seconds = -1;
    CURL *easy = must(curl_easy_init());
    curl_easy_setopt(easy, CURLOPT_URL, address);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)PROBE_TIMEOUT_S);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    body->n = 0;
    *status = 0;
    const double start = clock_seconds();
    if (curl_easy_perform(easy) == CURLE_OK) {
        seconds = clock_seconds() - start;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
    }
    curl_easy_cleanup(easy);
    return seconds;
}

char *chat_load_get(const char *url, const char *path, long *status) {
    char address[512];
    struct text body = {0};
    snprintf(address, sizeof address, "%s%s", url, path);
    text_add(&body, "", 0);
    if (get(address, &body, status) < 0) {
        free(body.bytes);
        return NULL;
    }
    body.bytes[body.n] = '\0';
    return body.bytes;
}

struct probe {
    char address[512];
    double *seconds;
    size_t n, room, n_failed;
};

struct prober {
    pthread_t thread;
    atomic_bool stop;
    size_t n_paths;
    struct probe probes[MAX_PATHS];
};

static void *probe_all(void *argument) {
    struct prober *p = argument;
    struct text body = {0};
    while (!atomic_load(&p->stop)) {
        for (size_t i = 0; i < p->n_paths; i++) {
            struct probe *probe = &p->probes[i];
            long status = 0;
            const double seconds = get(probe->address, &body, &status);
            if (probe->n == probe->room) {
                probe->room = 2 * probe->room + 256;
                probe->seconds = must(realloc(probe->seconds, probe->room * sizeof *probe->seconds));
            }
            probe->seconds[probe->n++] = seconds < 0 ? PROBE_TIMEOUT_S : seconds;
            probe->n_failed += status != 200;
            usleep(PROBE_PAUSE_US);
        }
    }
    free(body.bytes);
    return NULL;
}

struct prober *prober_start(const char *url, const char *const *paths, size_t n_paths) {
    struct prober *p = must(calloc(1, sizeof *p));
    p->n_paths = n_paths < MAX_PATHS ? n_paths : MAX_PATHS;
    for (size_t i = 0; i < p->n_paths; i++) {
        snprintf(p->probes[i].address, sizeof p->probes[i].address, "%s%s", url, paths[i]);
    }
    if (pthread_create(&p->thread, NULL, probe_all, p) != 0) {
        fprintf(stderr, "bench: no thread can be started\n");
        exit(1);
    }
    return p;
}

void prober_stop(struct prober *p, double **seconds, size_t *n, size_t *n_failed) {
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    for (size_t i = 0; i < p->n_paths; i++) {
        seconds[i] = p->probes[i].seconds;
        n[i] = p->probes[i].n;
        n_failed[i] = p->probes[i].n_failed;
    }
    free(p);
}
