/* Choosing devices by name, and dividing layers over them. */
#include "model/placement.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"

/* ---- devices ---- */

static bool is_cpu(ggml_backend_dev_t device) { return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU; }

static int unknown_device(const char *name, size_t n_name, const struct rpc_devices *remote, struct genarm_error *err) {
    struct buf names;
    buf_init(&names, 200);
    for (int i = 0; i < remote->n; i++) {
        buf_printf(&names, NULL, "%s, ", ggml_backend_dev_name(remote->devices[i])); /* as many as fit */
    }
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        buf_printf(&names, NULL, "%s%s", i ? ", " : "", ggml_backend_dev_name(ggml_backend_dev_get(i)));
    }
    const int rc = error_set(err, GENARM_EINVAL, "there is no device %.*s", (int)n_name, name);
    error_hint(err, rc, "known devices: %s", names.data ? names.data : "none");
    buf_deinit(&names);
    return rc;
}

static int add_device(struct placement *p, ggml_backend_dev_t device, struct genarm_error *err) {
    for (int i = 0; i < p->n_devices; i++) {
        if (p->devices[i] == device) {
            return error_set(err, GENARM_EINVAL, "device %s is named twice", ggml_backend_dev_name(device));
        }
    }
    if (p->n_devices == PLACEMENT_MAX_DEVICES) {
        return error_set(err, GENARM_EINVAL, "more than %d devices", PLACEMENT_MAX_DEVICES);
    }
    p->devices[p->n_devices++] = device;
    return GENARM_OK;
}

static bool named(ggml_backend_dev_t device, const char *name, size_t n) {
    const char *own = ggml_backend_dev_name(device);
    return strlen(own) == n && memcmp(own, name, n) == 0;
}

/* NULL: there is none. Remote devices are not among ggml's: other models do not know of them. */
static ggml_backend_dev_t find_device(const char *name, size_t n, const struct rpc_devices *remote) {
    for (int i = 0; i < remote->n; i++) {
        if (named(remote->devices[i], name, n)) {
            return remote->devices[i];
        }
    }
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        if (named(ggml_backend_dev_get(i), name, n)) {
            return ggml_backend_dev_get(i);
        }
    }
    return NULL;
}

/* "NAME,NAME"; the CPU by itself, or "none", leaves *p empty. */
static int add_named(struct placement *p, const char *names, const struct rpc_devices *remote, struct genarm_error *err) {
    int n_names = 0;
    bool cpu = false;
    if (strcmp(names, "none") == 0) {
        return GENARM_OK;
    }
    for (const char *name = names;; name++, n_names++) {
        const size_t n = strcspn(name, ",");
        ggml_backend_dev_t device = find_device(name, n, remote);
        if (!device) {
            return unknown_device(name, n, remote, err);
        }
        cpu |= is_cpu(device);
        const int rc = is_cpu(device) ? GENARM_OK : add_device(p, device, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        name += n;
        if (*name == '\0') {
            break;
        }
    }
    if (cpu && n_names > 0) {
        const int rc = error_set(err, GENARM_EINVAL, "the CPU cannot be one of several devices");
        return error_hint(err, rc, "layers that no device holds are the CPU's: offload fewer with -ngl");
    }
    return GENARM_OK;
}

/* Remote devices, then all GPUs; one that shares the host's memory only where there is nothing else. */
static int add_found(struct placement *p, const struct rpc_devices *remote, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int i = 0; i < remote->n && rc == GENARM_OK; i++) {
        rc = add_device(p, remote->devices[i], err);
    }
    for (size_t i = 0; i < ggml_backend_dev_count() && rc == GENARM_OK; i++) {
        if (ggml_backend_dev_type(ggml_backend_dev_get(i)) == GGML_BACKEND_DEVICE_TYPE_GPU) {
            rc = add_device(p, ggml_backend_dev_get(i), err);
        }
    }
    ggml_backend_dev_t shared = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU);
    return rc == GENARM_OK && p->n_devices == 0 && shared ? add_device(p, shared, err) : rc;
}

int placement_choose(struct placement *p, struct rpc_devices *remote, int32_t *n_offloaded,
                     const struct genarm_model_params *params, struct genarm_error *err) {
    struct placement chosen = {0};
    struct rpc_devices opened = {0};
    if (params->n_gpu_layers < -1) {
        return error_set(err, GENARM_EINVAL, "%d layers on the device", params->n_gpu_layers);
    }
    const bool asked = params->device || params->rpc;
    const int32_t n = params->n_gpu_layers >= 0 ? params->n_gpu_layers : asked ? INT32_MAX : 0;
    int rc = params->rpc ? rpc_devices_open(&opened, params->rpc, err) : GENARM_OK;
    if (rc == GENARM_OK && params->device) {
        rc = add_named(&chosen, params->device, &opened, err);
    } else if (rc == GENARM_OK && (n > 0 || params->rpc)) {
        rc = add_found(&chosen, &opened, err);
        if (rc == GENARM_OK && chosen.n_devices == 0) {
            log_line(GENARM_LOG_WARN, "no GPU was found: all layers stay on the CPU");
        }
    }
    if (rc != GENARM_OK) {
        rpc_devices_close(&opened);
        return rc;
    }
    *p = chosen;
    *remote = opened;
    *n_offloaded = n;
    return GENARM_OK;
}

/* ---- shares ---- */

/* "3,1" or, as llama.cpp also has it, "3/1". */
int placement_shares(double *shares, const struct placement *p, const char *text, struct genarm_error *err) {
    const int n_devices = p->n_devices;
    double sum = 0;
    int n = 0;
    for (const char *at = text;; at++, n++) {
        char *end;
        const double share = strtod(at, &end);
        if (end == at || !isfinite(share) || share < 0 || (*end && *end != ',' && *end != '/')) {
            const int rc = error_set(err, GENARM_EINVAL, "\"%s\" is no list of shares", text);
            return error_hint(err, rc, "a tensor split is one number for each device, such as 3,1");
        }
        if (n < n_devices) {
            shares[n] = share;
            sum += share;
        }
        at = end;
        if (*at == '\0') {
            break;
        }
    }
    if (n + 1 != n_devices) {
        const int rc = error_set(err, GENARM_EINVAL, "a tensor split of %d shares for %d devices", n + 1, n_devices);
        return error_hint(err, rc, n_devices ? "give one number for each device" : "name devices with -dev or --rpc");
    }
    return sum > 0 ? GENARM_OK : error_set(err, GENARM_EINVAL, "a tensor split without a share above 0");
}

static void memory_shares(double *shares, const struct placement *p) {
    double sum = 0;
    for (int d = 0; d < p->n_devices; d++) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(p->devices[d], &free, &total);
        if (free == 0 && total == 0) { /* it reports none: that of this machine will be its own */
            ggml_backend_dev_memory(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), &free, &total);
        }
        shares[d] = (double)free;
        sum += shares[d];
    }
    for (int d = 0; d < p->n_devices && !(sum > 0); d++) {
        shares[d] = 1;
    }
}

void split_units(int32_t *ends, const double *shares, int n_devices, int32_t n) {
    double sum = 0, up_to = 0;
    for (int d = 0; d < n_devices; d++) {
        sum += shares[d];
    }
    for (int d = 0; d < n_devices; d++) {
        up_to += shares[d];
        ends[d] = (int32_t)ceil((up_to / sum - 1e-9) * n); /* the first i with i / n not below the end of the part */
    }
}

int placement_split(struct placement *p, int32_t n_layer, int32_t n_offloaded, const char *shares_text,
                    struct genarm_error *err) {
    double shares[PLACEMENT_MAX_DEVICES];
    int32_t ends[PLACEMENT_MAX_DEVICES];
    struct placement split = {0};
    if (shares_text) {
        const int rc = placement_shares(shares, p, shares_text, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    } else {
        memory_shares(shares, p);
    }
    const bool head = n_offloaded > n_layer;
    const int32_t n = head ? n_layer + 1 : n_offloaded, start = head ? 0 : n_layer - n_offloaded;
    split_units(ends, shares, p->n_devices, n);
    split.first[0] = start;
    for (int d = 0; d < p->n_devices; d++) {
        if (ends[d] > (d ? ends[d - 1] : 0)) {
            split.devices[split.n_devices++] = p->devices[d];
            split.first[split.n_devices] = start + ends[d];
        } else {
            log_line(GENARM_LOG_INFO, "device %s gets no layer", ggml_backend_dev_name(p->devices[d]));
        }
    }
    *p = split;
    return GENARM_OK;
}

int placement_index(const struct placement *p, int32_t unit) {
    for (int d = 0; d < p->n_devices; d++) {
        if (unit >= p->first[d] && unit < p->first[d + 1]) {
            return d;
        }
    }
    return p->n_devices;
}

ggml_backend_buffer_type_t placement_buffer_type(const struct placement *p, int index) {
    return index < p->n_devices ? ggml_backend_dev_buffer_type(p->devices[index]) : ggml_backend_cpu_buffer_type();
}
