/* Devices behind ggml's RPC servers.
 *
 * ggml aborts the process on anything that goes wrong with a server. So a server is asked first, by us and with a limit of
 * time, whether it is there and speaks our version of the protocol; what breaks after that ends the process.
 */
#ifndef MODEL_RPC_H
#define MODEL_RPC_H

#include <ggml-backend.h>

#include "genarm/error.h"

enum {
    RPC_MAX_SERVERS = 16,
    RPC_MAX_DEVICES = 64,
    RPC_TIMEOUT_MS = 10000 /* of a connection, and of the first answer: a server serves one program at a time */
};

/* Servers that a model uses. A process has one connection to a server, which its models share, from the first
 * rpc_devices_open to the last rpc_devices_close. Thread-safe. */
struct rpc_devices {
    ggml_backend_dev_t devices[RPC_MAX_DEVICES]; /* owned by ggml, for good */
    int n;
    struct rpc_server *servers[RPC_MAX_SERVERS];
    int n_servers;
};

/* The devices of "HOST:PORT,HOST:PORT", in this order. GENARM_EIO: a server cannot be reached or does not answer;
 * GENARM_EMISMATCH: it speaks another version; GENARM_EUNSUPPORTED: ggml was built without RPC. */
int rpc_devices_open(struct rpc_devices *devices, const char *servers, struct genarm_error *err);
void rpc_devices_close(struct rpc_devices *devices); /* safe on a zeroed struct; when nothing of the model is there any more */

/* Whether a server that this ggml can talk to listens at "HOST:PORT", within about twice timeout_ms. */
int rpc_check_server(const char *endpoint, int timeout_ms, struct genarm_error *err);

/* Takes "HOST:PORT" apart; host holds 256 bytes. GENARM_EINVAL otherwise. */
int rpc_parse_endpoint(char host[256], char port[8], const char *endpoint, struct genarm_error *err);

#endif
