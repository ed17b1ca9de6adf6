/* The listening socket. It is ours, not libmicrohttpd's, because that does not say what went wrong. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve/http_internal.h"

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        return IN6_IS_ADDR_LOOPBACK(&in.sin6_addr);
    }
    return false;
}

/* "[::1]" is "::1". */
static int bare_host(char *out, size_t size, const char *host, struct genarm_error *err) {
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }
    if (n == 0 || n >= size) {
        return error_set(err, GENARM_EINVAL, "the address to listen on is %s", n ? "too long" : "empty");
    }
    memcpy(out, host, n);
    out[n] = '\0';
    return GENARM_OK;
}

static int port_of(int32_t *port, int fd) {
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0) {
        return -1;
    }
    if (bound.ss_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, &bound, sizeof in);
        *port = ntohs(in.sin6_port);
    } else {
        struct sockaddr_in in;
        memcpy(&in, &bound, sizeof in);
        *port = ntohs(in.sin_port);
    }
    return 0;
}

/* -1: errno says why. */
static int listen_on(const struct addrinfo *a, int32_t *port) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    const int yes = 1, no = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* a restart does not wait for old connections */
    if (a->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no); /* :: is everything */
    }
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0 || port_of(port, fd) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int http_listen(int *out, int32_t *port, bool *loopback, const char *host, int32_t port_wanted, struct genarm_error *err) {
    char name[256], service[16];
    if (port_wanted < 0 || port_wanted > 65535) {
        return error_set(err, GENARM_EINVAL, "port %d is not between 0 and 65535", port_wanted);
    }
    int rc = bare_host(name, sizeof name, host, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    snprintf(service, sizeof service, "%d", port_wanted);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const int gai = getaddrinfo(name, service, &hints, &found);
    if (gai != 0) {
        rc = error_set(err, GENARM_EIO, "cannot listen: %s", gai == EAI_SYSTEM ? strerror(errno) : gai_strerror(gai));
        return error_at(err, rc, "%s", name);
    }
    int32_t bound = 0;
    const int fd = listen_on(found, &bound);
    if (fd < 0) {
        const int error = errno;
        rc = error_at(err, error_set(err, GENARM_EIO, "cannot listen: %s", strerror(error)),
                      strchr(name, ':') ? "[%s]:%d" : "%s:%d", name, port_wanted);
        error_hint(err, error == EADDRINUSE ? rc : GENARM_OK, "another server has the port: choose another one, or 0 for any");
        error_hint(err, error == EACCES ? rc : GENARM_OK, "ports below 1024 are for root: choose a higher one");
    } else {
        *out = fd;
        *port = bound;
        *loopback = is_loopback(found->ai_addr);
    }
    freeaddrinfo(found);
    return rc;
}
