/* See ranks.h: what launchers leave in the environment. */
#include "ranks.h"

#include <stdlib.h>

/* Variables of one launcher. */
struct launcher {
    const char *size, *rank;
};

static const struct launcher launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, /* Open MPI */
    {"PMI_SIZE", "PMI_RANK"},                         /* MPICH, Intel MPI, srun --mpi=pmi2 */
    {"SLURM_STEP_NUM_TASKS", "PMIX_RANK"},            /* srun --mpi=pmix */
};

/* A number in [low, INT32_MAX] from the environment; -1: none. */
static int32_t number(const char *name, long low) {
    const char *text = getenv(name);
    char *end = NULL;
    const long value = text ? strtol(text, &end, 10) : -1;
    return text && end != text && *end == '\0' && value >= low && value <= INT32_MAX ? (int32_t)value : -1;
}

static const struct launcher *find_launcher(void) {
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        if (number(launchers[i].size, 1) > 0 && number(launchers[i].rank, 0) >= 0) {
            return &launchers[i];
        }
    }
    return NULL;
}

int32_t ranks_launched(void) {
    const struct launcher *l = find_launcher();
    return l ? number(l->size, 1) : 1;
}

int32_t ranks_launched_rank(void) {
    const struct launcher *l = find_launcher();
    return l ? number(l->rank, 0) : 0;
}
