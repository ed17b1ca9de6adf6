/* Models whose weights are libllama's: architectures, types of weights and features that our own graph does not have.
 *
 * The file is checked and its metadata read as for other models; what is in the weights, libllama reads by itself, from a map
 * of its own of the same file, so that they are in memory once.
 */
#ifndef MODEL_FOREIGN_H
#define MODEL_FOREIGN_H

#include "model/model.h"

/* Loads the model of an open file into m: hp, architecture, weights.file, placement, llama. hp is what hparams_read gives where
 * our own graph has the architecture, else what any has. m->placement is as placement_choose left it. Takes over *file, also on
 * failure; m is freed by the caller. */
int foreign_open(struct genarm_model *m, struct gguf_file *file, int32_t n_offloaded,
                 const struct genarm_model_params *params, struct genarm_error *err);

/* Bytes of the file's tensors that belong to a layer, or, as unit n_layer, to the head: what is not in a layer, but the
 * embeddings. */
size_t foreign_unit_size(const struct genarm_model *m, int32_t unit);
size_t foreign_embeddings_size(const struct genarm_model *m);

#endif
