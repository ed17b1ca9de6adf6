/* genarm rpc-server: lends this machine's memory and devices to a genarm, or llama.cpp, elsewhere. */
#include <arpa/inet.h>
#include <errno.h>
#include <ggml-backend.h>
#include <ggml-rpc.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cores.h"
#include "commands.h"
#include "model/runtime.h"
#include "tell.h"

struct rpc_server_args {
    const char *host, *device;
    int32_t port, n_threads;
    bool verbose;
};

static const struct option rpc_server_options[] = {
    {OPTION_GROUP, .help = "Server"},
    {OPTION_TEXT, "-H --host", "ADDRESS", offsetof(struct rpc_server_args, host), .fallback = "127.0.0.1",
     .help = "IPv4 address to listen at; anyone who can reach it can use, and crash, this process"},
    {OPTION_INT, "-p --port", "N", offsetof(struct rpc_server_args, port), 1, 65535, .fallback = "50052",
     .help = "port to listen at"},
    {OPTION_TEXT, "-dev --device", "NAME,...", offsetof(struct rpc_server_args, device), .env = "LLAMA_ARG_DEVICE",
     .help = "ggml devices to lend; without it all GPUs, or the CPU where there is none"},
    {OPTION_INT, "-t --threads", "N", offsetof(struct rpc_server_args, n_threads), -1, 512, .fallback = "0",
     .env = "LLAMA_ARG_THREADS", .help = "threads of the CPU; 0 or -1: one for each core"},
    {OPTION_FLAG, "-v --verbose", "", offsetof(struct rpc_server_args, verbose), .help = "log what is done to stderr"},
};

enum { MAX_DEVICES = 16 };

struct lent {
    ggml_backend_dev_t devices[MAX_DEVICES];
    size_t n;
};

static void lend(struct lent *lent, ggml_backend_dev_t device) {
    if (lent->n < MAX_DEVICES) {
        lent->devices[lent->n++] = device;
    }
}

static int lend_named(struct lent *lent, const char *names, struct genarm_error *err) {
    char name[128];
    while (next_name(&names, ',', name, sizeof name)) {
        ggml_backend_dev_t device = ggml_backend_dev_by_name(name);
        if (!device) {
            return usage_error(err, "-dev", "there is no device %s", name);
        }
        lend(lent, device);
    }
    return 0;
}

static int choose_devices(struct lent *lent, const char *names, struct genarm_error *err) {
    const int code = names ? lend_named(lent, names, err) : 0;
    for (size_t i = 0; i < ggml_backend_dev_count() && !names; i++) {
        const enum ggml_backend_dev_type type = ggml_backend_dev_type(ggml_backend_dev_get(i));
        if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) {
            lend(lent, ggml_backend_dev_get(i));
        }
    }
    if (code == 0 && lent->n == 0) {
        lend(lent, ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    }
    return code;
}

/* ggml says no more than that it failed. */
static int check_address(const struct rpc_server_args *args, struct genarm_error *err) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)args->port)};
    const int yes = 1;
    if (inet_pton(AF_INET, args->host, &address.sin_addr) != 1) {
        return usage_error(err, "--host", "\"%s\" is no IPv4 address", args->host);
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0) {
        const int number = errno;
        if (fd >= 0) {
            close(fd);
        }
        return error_set(err, GENARM_EIO, "cannot listen at %s:%d: %s", args->host, args->port, strerror(number));
    }
    close(fd);
    return 0;
}

typedef void (*start_server_fn)(const char *endpoint, const char *cache_dir, size_t n_threads, size_t n_devices,
                                ggml_backend_dev_t *devices);

static int find_server(start_server_fn *start, struct genarm_error *err) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    *start = rpc ? (start_server_fn)ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_start_server") : NULL;
    if (!*start) {
        const int code = error_set(err, GENARM_EUNSUPPORTED, "this ggml was built without RPC");
        return error_hint(err, code, "build it by scripts/deps.sh with GENARM_LLAMA=build");
    }
    return 0;
}

static int rpc_server_run(const void *arguments, struct genarm_error *err) {
    const struct rpc_server_args *args = arguments;
    struct lent lent = {0};
    start_server_fn start;
    char endpoint[64];
    log_to_stderr(args->verbose);
    model_runtime_init();
    int code = find_server(&start, err);
    code = code ? code : choose_devices(&lent, args->device, err);
    code = code ? code : check_address(args, err);
    if (code) {
        return code;
    }
    if (strncmp(args->host, "127.", 4) != 0) {
        note("warning: %s can be reached from outside this machine. The protocol knows no passwords and was not made to "
             "withstand attacks: never let an open network reach it", args->host);
    }
    signal(SIGPIPE, SIG_IGN); /* a client may go at any time */
    snprintf(endpoint, sizeof endpoint, "%s:%d", args->host, args->port);
    start(endpoint, NULL, (size_t)(args->n_threads > 0 ? args->n_threads : cores_usable()), lent.n, lent.devices);
    return error_set(err, GENARM_EIO, "the server at %s has ended", endpoint); /* it only returns when something fails */
}

const struct command command_rpc_server = {
    .name = "rpc-server",
    .summary = "lend this machine's memory and devices to another one",
    .usage = "[options]",
    .details =
        "Serves ggml's RPC protocol, one client at a time, until it is stopped. Another machine, with the same version of "
        "genarm or of llama.cpp, keeps layers of a model here and has them computed here: --rpc HOST:PORT of the commands "
        "that load models. The protocol has no passwords and no encryption, and its messages can crash or take over this "
        "process: listen only where none but your own machines can reach it, or behind a tunnel.",
    .examples = "genarm rpc-server\n"
                "genarm rpc-server --host 192.168.1.20 --port 50052 -t 8\n"
                "genarm generate -m large.gguf --rpc 192.168.1.20:50052 -p \"Hello\"",
    .options = rpc_server_options,
    .n_options = sizeof rpc_server_options / sizeof *rpc_server_options,
    .args_size = sizeof(struct rpc_server_args),
    .run = rpc_server_run,
};
