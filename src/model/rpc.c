/* Asking an RPC server whether it will do, before ggml talks to it. */
#include "model/rpc.h"

#include <errno.h>
#include <ggml-rpc.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/progress.h"

int rpc_parse_endpoint(char host[256], char port[8], const char *endpoint, struct genarm_error *err) {
    const char *colon = strchr(endpoint, ':');
    const size_t n_host = colon ? (size_t)(colon - endpoint) : 0, n_port = colon ? strlen(colon + 1) : 0;
    const bool digits = n_port > 0 && n_port < 6 && strspn(colon + 1, "0123456789") == n_port;
    const long number = digits ? strtol(colon + 1, NULL, 10) : 0;
    if (n_host == 0 || n_host > 255 || number < 1 || number > 65535) {
        const int rc = error_set(err, GENARM_EINVAL, "\"%s\" is no address of an RPC server", endpoint);
        return error_hint(err, rc, "HOST:PORT, such as 192.168.1.20:50052; HOST is a name or an IPv4 address");
    }
    snprintf(host, 256, "%.*s", (int)n_host, endpoint);
    snprintf(port, 8, "%ld", number);
    return GENARM_OK;
}

/* ---- one exchange with a limit of time ---- */

/* Waits until the socket is ready. 0: time is up. */
static int wait_for(int fd, short events, double deadline) {
    for (;;) {
        const double left = deadline - clock_seconds();
        struct pollfd p = {.fd = fd, .events = events};
        const int n = left > 0 ? poll(&p, 1, (int)(left * 1000) + 1) : 0;
        if (n >= 0 || errno != EINTR) {
            return n;
        }
    }
}

static int connect_error(int number, struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EIO, "the RPC server cannot be reached: %s", strerror(number));
    return error_hint(err, rc, "start one there: genarm rpc-server --host ADDRESS --port PORT");
}

/* A connected socket that does not block. */
static int connect_within(int *out, const char *host, const char *port, int timeout_ms, struct genarm_error *err) {
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}; /* as ggml does */
    struct addrinfo *found = NULL;
    const int failure = getaddrinfo(host, port, &hints, &found);
    if (failure != 0) {
        return error_set(err, GENARM_EIO, "the host of the RPC server is not known: %s", gai_strerror(failure));
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int number = fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0 ? errno : 0;
    freeaddrinfo(found);
    if (fd >= 0 && number == EINPROGRESS) {
        socklen_t size = sizeof number;
        if (wait_for(fd, POLLOUT, clock_seconds() + timeout_ms * 1e-3) <= 0) {
            number = ETIMEDOUT;
        } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) {
            number = errno;
        }
    }
    if (number != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return connect_error(number, err);
    }
    *out = fd;
    return GENARM_OK;
}

/* The first message of ggml's protocol, and the answer to it. */
enum { COMMAND_HELLO = 14, N_CAPS = 24 };

struct hello_request {
    uint8_t command;
    uint8_t size[8]; /* of caps, little-endian */
    uint8_t caps[N_CAPS]; /* none: plain TCP */
};

struct hello_answer {
    uint8_t size[8]; /* of what follows */
    uint8_t major, minor, patch, padding;
    uint8_t caps[N_CAPS];
};

static int no_server(struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EIO, "what listens there is no RPC server of this version of ggml");
    return error_hint(err, rc, "is the port right, and is it the same version of genarm there?");
}

static int check_answer(const struct hello_answer *answer, size_t n, struct genarm_error *err) {
    static const uint8_t zeros[7];
    const size_t n_version = 3, size = answer->size[0]; /* older versions answer less, or not at all */
    if (size < n_version || size > 4 + N_CAPS || memcmp(answer->size + 1, zeros, sizeof zeros) != 0 ||
        n < offsetof(struct hello_answer, major) + n_version) {
        return no_server(err);
    }
    if (answer->major != RPC_PROTO_MAJOR_VERSION || answer->minor > RPC_PROTO_MINOR_VERSION) {
        const int rc = error_set(err, GENARM_EMISMATCH, "the RPC server speaks version %d.%d.%d of the protocol, not %d.%d",
                                 answer->major, answer->minor, answer->patch, RPC_PROTO_MAJOR_VERSION,
                                 RPC_PROTO_MINOR_VERSION);
        return error_hint(err, rc, "run the same version of genarm on both machines");
    }
    return GENARM_OK;
}

static int say_hello(int fd, int timeout_ms, struct genarm_error *err) {
    const struct hello_request request = {.command = COMMAND_HELLO, .size = {N_CAPS}};
    struct hello_answer answer = {0};
    size_t got = 0;
    const double deadline = clock_seconds() + timeout_ms * 1e-3;
    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request) { /* it fits the socket's buffer */
        return no_server(err);
    }
    while (got < sizeof answer) {
        const int ready = wait_for(fd, POLLIN, deadline);
        const ssize_t n = ready > 0 ? recv(fd, (char *)&answer + got, sizeof answer - got, 0) : 0;
        if (ready == 0 && got == 0) {
            const int rc = error_set(err, GENARM_EIO, "the RPC server does not answer within %g s", timeout_ms * 1e-3);
            return error_hint(err, rc, "a server serves one program at a time: is another one using it? is the port right?");
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    return check_answer(&answer, got, err);
}

int rpc_check_server(const char *endpoint, int timeout_ms, struct genarm_error *err) {
    char host[256], port[8];
    int fd = -1;
    int rc = rpc_parse_endpoint(host, port, endpoint, err);
    if (rc == GENARM_OK) {
        rc = connect_within(&fd, host, port, timeout_ms, err);
    }
    if (rc == GENARM_OK) {
        rc = say_hello(fd, timeout_ms, err);
        close(fd);
    }
    return error_at(err, rc, "%s", endpoint);
}

/* ---- devices ---- */

typedef ggml_backend_reg_t (*add_server_fn)(const char *endpoint);

/* NULL: this ggml has no RPC. */
static add_server_fn find_add_server(void) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    return rpc ? (add_server_fn)ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server") : NULL;
}

/* Servers that this process has used, for good: their names and devices are ggml's for good, too. */
struct rpc_server {
    struct rpc_server *next;
    char endpoint[272];
    ggml_backend_reg_t devices;
    ggml_backend_t connection; /* ggml keeps a connection while something uses it: this does */
    int users;                 /* 0: not connected */
};

static struct rpc_server *known_servers;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

static int find_server(struct rpc_server **out, const char *endpoint, struct genarm_error *err) {
    for (struct rpc_server *s = known_servers; s; s = s->next) {
        if (strcmp(s->endpoint, endpoint) == 0) {
            *out = s;
            return GENARM_OK;
        }
    }
    struct rpc_server *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "an RPC server");
    }
    snprintf(s->endpoint, sizeof s->endpoint, "%s", endpoint);
    s->next = known_servers;
    *out = known_servers = s;
    return GENARM_OK;
}

/* With the lock held: a server answers nobody else while we are connected, nor our own question. */
static int use_server(struct rpc_server *s, add_server_fn add, struct genarm_error *err) {
    if (s->users == 0) {
        const int rc = rpc_check_server(s->endpoint, RPC_TIMEOUT_MS, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        s->devices = add(s->endpoint);
        s->connection = s->devices ? ggml_backend_dev_init(ggml_backend_reg_dev_get(s->devices, 0), NULL) : NULL;
        if (!s->connection) {
            return error_at(err, error_set(err, GENARM_EBACKEND, "the RPC server has no devices"), "%s", s->endpoint);
        }
    }
    s->users++;
    return GENARM_OK;
}

static int add_server(struct rpc_devices *devices, add_server_fn add, const char *endpoint, struct genarm_error *err) {
    struct rpc_server *server = NULL;
    if (devices->n_servers == RPC_MAX_SERVERS) {
        return error_set(err, GENARM_EINVAL, "more than %d RPC servers", RPC_MAX_SERVERS);
    }
    pthread_mutex_lock(&known_lock);
    int rc = find_server(&server, endpoint, err);
    if (rc == GENARM_OK) {
        rc = use_server(server, add, err);
    }
    pthread_mutex_unlock(&known_lock);
    if (rc != GENARM_OK) {
        return rc;
    }
    devices->servers[devices->n_servers++] = server;
    for (size_t i = 0; i < ggml_backend_reg_dev_count(server->devices); i++) {
        if (devices->n == RPC_MAX_DEVICES) {
            return error_set(err, GENARM_EINVAL, "the RPC servers have more than %d devices", RPC_MAX_DEVICES);
        }
        devices->devices[devices->n++] = ggml_backend_reg_dev_get(server->devices, i);
    }
    return GENARM_OK;
}

void rpc_devices_close(struct rpc_devices *devices) {
    pthread_mutex_lock(&known_lock);
    for (int i = 0; i < devices->n_servers; i++) {
        struct rpc_server *s = devices->servers[i];
        if (--s->users == 0) {
            ggml_backend_free(s->connection);
            s->connection = NULL;
        }
    }
    pthread_mutex_unlock(&known_lock);
    *devices = (struct rpc_devices){0};
}

int rpc_devices_open(struct rpc_devices *devices, const char *servers, struct genarm_error *err) {
    struct rpc_devices found = {0};
    add_server_fn add = find_add_server();
    if (!add) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "this ggml was built without RPC");
        return error_hint(err, rc, "build it by scripts/deps.sh with GENARM_LLAMA=build");
    }
    char *list = strdup(servers), *rest = list, *endpoint;
    int rc = list ? GENARM_OK : error_nomem(err, "addresses of RPC servers");
    while (rc == GENARM_OK && (endpoint = strsep(&rest, ",")) != NULL) {
        char host[256], port[8], plain[272];
        rc = rpc_parse_endpoint(host, port, endpoint, err);
        if (rc == GENARM_OK) {
            snprintf(plain, sizeof plain, "%s:%s", host, port); /* one spelling: ggml knows servers by it */
            rc = add_server(&found, add, plain, err);
        }
    }
    free(list);
    if (rc != GENARM_OK) {
        rpc_devices_close(&found);
        return rc;
    }
    *devices = found;
    return GENARM_OK;
}
