/* The processes that mpirun started together with this one, as a team that trains (genarm/train.h). One of ranks_mpi.c and
 * ranks_none.c is compiled, as MPI was found or not; libgenarm knows nothing of MPI. An ordinary start costs nothing here:
 * MPI is entered only where a launcher has started several processes. */
#ifndef CLI_RANKS_H
#define CLI_RANKS_H

#include "base/error.h"
#include "genarm/train.h"

/* What the launcher says in the environment (Open MPI, MPICH and its kin, srun): how many processes, and which one this
 * is. 1 and 0 without one. */
int32_t ranks_launched(void);
int32_t ranks_launched_rank(void);

/* Joins the others. *team is NULL when there are none. The error of a program that cannot do so is the same on all ranks. */
int ranks_open(const struct genarm_team **team, struct genarm_error *err);

/* Leaves them, when all ranks have come here with the same `code` (0, an error that is in *err, or an exit status): the first
 * rank says what went wrong. Returns what a command returns. Does not return where the ranks have lost each other: the
 * launcher is told to end them all. */
int ranks_close(const struct genarm_team *team, int code, struct genarm_error *err);

#endif
