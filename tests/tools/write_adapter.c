/* Writes a random LoRA adapter for a model: what the scripts of tests/cli steer the default model with.
 *
 *     write_adapter MODEL.gguf OUT.gguf SEED [SIZE]
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/random_adapter.h"
#include "genarm/model.h"

int main(int argc, char **argv) {
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: write_adapter MODEL.gguf OUT.gguf SEED [SIZE]\n");
        return 2;
    }
    const unsigned targets = 1U << LINEAR_Q | 1U << LINEAR_K | 1U << LINEAR_V;
    int rc = genarm_model_load(&model, argv[1], NULL, &err);
    if (rc == GENARM_OK) {
        rc = random_adapter_write(argv[2], model, 4, targets, argc > 4 ? strtof(argv[4], NULL) : 0.02f,
                                  strtoull(argv[3], NULL, 10), &err);
    }
    genarm_model_free(model);
    if (rc != GENARM_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.what);
        return 1;
    }
    return 0;
}
