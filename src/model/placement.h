/* Where a model lies: on the CPU, or its last layers in whole, contiguous blocks over one or more devices of ggml.
 *
 * A unit is a layer, or, as the last one, the head (output norm and output map). Embeddings are always on the CPU.
 */
#ifndef MODEL_PLACEMENT_H
#define MODEL_PLACEMENT_H

#include <ggml-backend.h>
#include <stdint.h>

#include "genarm/model.h"
#include "model/rpc.h"

enum { PLACEMENT_MAX_DEVICES = 15 }; /* ggml's scheduler takes 16 backends, and the CPU is one */

struct placement {
    ggml_backend_dev_t devices[PLACEMENT_MAX_DEVICES]; /* none is the CPU; after placement_split each holds something */
    int32_t first[PLACEMENT_MAX_DEVICES + 1]; /* device d holds units [first[d], first[d + 1]); those before are the CPU's */
    int n_devices;                            /* 0: all on the CPU */
};

/* Finds the devices that the parameters name, of this machine and of the RPC servers in *remote, which is the caller's to
 * close once the devices are not used any more. *n_offloaded becomes the units to offload. */
int placement_choose(struct placement *p, struct rpc_devices *remote, int32_t *n_offloaded,
                     const struct genarm_model_params *params, struct genarm_error *err);

/* Divides the last n_offloaded of n_layer + 1 units over the devices: the head is offloaded only with more than n_layer,
 * so that n_offloaded is the number of layers until all of them are. `shares`: "3,1", one number for each device, or NULL:
 * by free memory. Devices that get nothing are dropped. */
int placement_split(struct placement *p, int32_t n_layer, int32_t n_offloaded, const char *shares, struct genarm_error *err);

/* "3,1" as shares[p->n_devices]. GENARM_EINVAL unless there is one for each device. */
int placement_shares(double *shares, const struct placement *p, const char *text, struct genarm_error *err);

/* The split itself, as llama.cpp has it: unit i of n goes to the first device whose part of the sum ends after i / n.
 * ends[d]: units of devices 0 to d. Shares are not negative, and not all of them are 0. */
void split_units(int32_t *ends, const double *shares, int n_devices, int32_t n);

/* The device of a unit: its index, n_devices for the CPU. */
int placement_index(const struct placement *p, int32_t unit);

/* What devices' buffers are made from; the CPU's for n_devices. */
ggml_backend_buffer_type_t placement_buffer_type(const struct placement *p, int index);

#endif
