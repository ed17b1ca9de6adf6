/* Connections: who is there, until when the client has to do its part, and the thread that closes those who do not.
 *
 * libmicrohttpd has a timeout of its own, which a client that sends a byte now and then never meets, and whose last second a
 * thread per connection spends polling without a pause (0.9.75); it is not used.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "serve/http_internal.h"

int64_t http_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Wakes the connection's thread: its next read is the end of the file, its next write an error. The list is locked. */
static void cut(struct http_conn *c) {
    atomic_store(&c->cut, true);
    atomic_store(&c->deadline, HTTP_NEVER);
    shutdown(c->fd, SHUT_RDWR);
}

/* A request that is still arriving when the server is to end has to be quick. The connection's own thread may change the deadline
 * meanwhile, and then knows better. */
static void hurry(struct http_conn *c, int64_t until) {
    int64_t deadline = atomic_load(&c->deadline);
    if (atomic_load(&c->arriving) && deadline > until) {
        atomic_compare_exchange_strong(&c->deadline, &deadline, until);
    }
}

/* Closes what is overdue; and, when the server is to end, what has nothing to do. */
static void sweep(struct http_conns *t) {
    const int64_t now = http_now_ms();
    const bool closing = atomic_load(&t->closing);
    const int64_t idle_before = closing ? now - HTTP_IDLE_MS : INT64_MIN;
    for (struct http_conn *c = t->first; c; c = c->next) {
        if (closing) {
            hurry(c, now + HTTP_CLOSING_MS);
        }
        if (atomic_load(&c->deadline) < now || atomic_load(&c->idle) < idle_before) {
            cut(c);
        }
    }
}

/* Room for one more, the newest on the list, which is locked. False: there is none. */
static bool make_room(struct http_conns *t) {
    struct http_conn *idlest = NULL;
    int64_t since = http_now_ms() - HTTP_IDLE_MS;
    int32_t n = 0; /* those that are not on their way out */
    for (struct http_conn *c = t->first; c; c = c->next) {
        if (!atomic_load(&c->cut)) {
            n++;
            if (c != t->first && atomic_load(&c->idle) < since) {
                since = atomic_load(&c->idle);
                idlest = c;
            }
        }
    }
    if (n > t->max && idlest) {
        cut(idlest);
        n--;
    }
    return n <= t->max;
}

static void *keep(void *arg) {
    struct http_conns *t = arg;
    int64_t tick = (int64_t)t->timeout * 1000 / 8;
    tick = tick < 50 ? 50 : tick > 1000 ? 1000 : tick;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (!t->first) {
            pthread_cond_wait(&t->wake, &t->lock);
            continue;
        }
        const int64_t until = http_now_ms() + tick;
        const struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
        if (pthread_cond_timedwait(&t->wake, &t->lock, &at) == ETIMEDOUT) {
            sweep(t);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int32_t http_conns_surplus(int32_t max) { return 8 + max / 8; }

int32_t http_conns_possible(int32_t wanted) {
    const rlim_t need = (rlim_t)wanted + (rlim_t)http_conns_surplus(wanted) + HTTP_FD_RESERVE;
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= need) { /* RLIM_INFINITY is the largest */
        return wanted;
    }
    const rlim_t before = r.rlim_cur;
    r.rlim_cur = r.rlim_max < need ? r.rlim_max : need;
    const rlim_t now = setrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_cur : before;
    if (now >= need) {
        return wanted;
    }
    const int64_t left = (int64_t)now - HTTP_FD_RESERVE - http_conns_surplus(0);
    return left * 8 / 9 > 1 ? (int32_t)(left * 8 / 9) : 1;
}

int http_conns_init(struct http_conns *t, int32_t max, int32_t timeout, struct genarm_error *err) {
    *t = (struct http_conns){.max = max, .timeout = timeout};
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    const int rc = pthread_create(&t->keeper, NULL, keep, t);
    if (rc != 0) {
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->lock);
        return error_set(err, GENARM_EIO, "cannot start a thread: %s", strerror(rc));
    }
    t->running = true;
    return GENARM_OK;
}

void http_conns_deinit(struct http_conns *t) {
    if (!t->running) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->keeper, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    t->running = false;
}

int32_t http_conns_count(struct http_conns *t) {
    pthread_mutex_lock(&t->lock);
    const int32_t n = t->n;
    pthread_mutex_unlock(&t->lock);
    return n;
}

/* An IPv4 client of an IPv6 socket is shown as what it is. */
static void address_text(char *out, const struct sockaddr *address) {
    strcpy(out, "?");
    if (address && address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, out, INET6_ADDRSTRLEN);
    } else if (address && address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
            inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], out, INET6_ADDRSTRLEN);
        } else {
            inet_ntop(AF_INET6, &in.sin6_addr, out, INET6_ADDRSTRLEN);
        }
    }
}

struct http_conn *http_conn_open(struct http_conns *t, int fd, const struct sockaddr *address) {
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        return NULL;
    }
    c->fd = fd;
    address_text(c->address, address);
    http_conn_idle(c, (int64_t)t->timeout * 1000);
    pthread_mutex_lock(&t->lock);
    c->next = t->first;
    if (c->next) {
        c->next->prev = c;
    } else {
        pthread_cond_signal(&t->wake);
    }
    t->first = c;
    t->n++;
    c->surplus = t->n > t->max && !make_room(t);
    if (c->surplus) {
        http_conn_idle(c, HTTP_SURPLUS_MS);
    }
    pthread_mutex_unlock(&t->lock);
    return c;
}

void http_conn_close(struct http_conns *t, struct http_conn *c) {
    if (!c) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    if (c->prev) {
        c->prev->next = c->next;
    } else {
        t->first = c->next;
    }
    if (c->next) {
        c->next->prev = c->prev;
    }
    t->n--;
    pthread_mutex_unlock(&t->lock);
    free(c);
}

void http_conn_expect(struct http_conn *c, int64_t ms) {
    atomic_store(&c->arriving, false);
    atomic_store(&c->idle, HTTP_NEVER);
    atomic_store(&c->deadline, ms == HTTP_NEVER ? HTTP_NEVER : http_now_ms() + ms);
}

void http_conn_arrives(struct http_conn *c, int64_t ms) {
    http_conn_expect(c, ms);
    atomic_store(&c->arriving, true);
}

void http_conn_idle(struct http_conn *c, int64_t ms) {
    const int64_t now = http_now_ms();
    atomic_store(&c->arriving, false);
    atomic_store(&c->deadline, now + ms);
    atomic_store(&c->idle, now);
}

void http_conn_linger(struct http_conn *c) {
    char waste[4096];
    shutdown(c->fd, SHUT_WR);
    const int64_t end = http_now_ms() + HTTP_LINGER_MS;
    for (int64_t left = HTTP_LINGER_MS; left > 0; left = end - http_now_ms()) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) <= 0) {
            break;
        }
        const ssize_t n = recv(c->fd, waste, sizeof waste, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
}
