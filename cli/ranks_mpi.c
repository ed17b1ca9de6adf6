/* See ranks.h: ranks that talk by MPI. Everything is called by the main thread. */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "ranks.h"
#include "tell.h"

enum {
    BLOCK = 1 << 22,      /* numbers that are summed at once: bounds the memory beside them */
    MAX_BYTES = 1 << 30,  /* that are sent at once: MPI counts with ints */
};

static struct ranks {
    struct genarm_team team;
    int *counts, *starts; /* [size] numbers of each rank's part of a block, and where it starts */
    int *own, *at;        /* [size] the same for this rank's part as each rank sends it */
    float *inbox;         /* [size][numbers of this rank's part] */
    double *total;        /* [numbers of this rank's part] */
    bool lost;            /* a call of MPI has failed: the ranks are no longer in step */
} ranks;

/* Turns a return code of MPI into an error. */
static int check(int code, const char *doing, struct genarm_error *err) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (code == MPI_SUCCESS) {
        return 0;
    }
    ranks.lost = true;
    MPI_Error_string(code, text, &n);
    error_at(err, error_set(err, GENARM_EIO, "cannot %s with the other ranks: %s", doing, text), "rank %d",
             ranks.team.rank);
    return error_hint(err, GENARM_EIO, "look at the other ranks' messages; --resume goes on from the last checkpoint");
}

/* ---- the functions of a team ---- */

static int gather(const void *mine, void *all, size_t n, void *user, struct genarm_error *err) {
    (void)user;
    return check(MPI_Allgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, MPI_COMM_WORLD), "talk", err);
}

static int share(void *bytes, size_t n, void *user, struct genarm_error *err) {
    (void)user;
    int code = 0;
    for (size_t at = 0; at < n && code == 0; at += MAX_BYTES) {
        const size_t count = n - at < MAX_BYTES ? n - at : MAX_BYTES;
        code = check(MPI_Bcast((char *)bytes + at, (int)count, MPI_BYTE, 0, MPI_COMM_WORLD), "share", err);
    }
    return code;
}

/* Cuts n numbers into a part for each rank. */
static void cut(int n) {
    const int size = ranks.team.size;
    for (int i = 0; i < size; i++) {
        ranks.starts[i] = (int)((int64_t)n * i / size);
        ranks.counts[i] = (int)((int64_t)n * (i + 1) / size) - ranks.starts[i];
    }
    for (int i = 0; i < size; i++) {
        ranks.own[i] = ranks.counts[ranks.team.rank];
        ranks.at[i] = i * ranks.own[i];
    }
}

/* Every rank adds up one part, in the order of ranks, and hands it out: each number is added once, so all have the same bits,
 * which MPI_Allreduce need not give; and as few bytes go over the wire as in a ring. */
static int sum_block(float *values, int n, struct genarm_error *err) {
    cut(n);
    const int own = ranks.counts[ranks.team.rank];
    int code = check(MPI_Alltoallv(values, ranks.counts, ranks.starts, MPI_FLOAT, ranks.inbox, ranks.own, ranks.at,
                                   MPI_FLOAT, MPI_COMM_WORLD),
                     "add up", err);
    if (code) {
        return code;
    }
    memset(ranks.total, 0, (size_t)own * sizeof *ranks.total);
    for (int i = 0; i < ranks.team.size; i++) {
        const float *from = ranks.inbox + ranks.at[i];
        for (int k = 0; k < own; k++) {
            ranks.total[k] += (double)from[k];
        }
    }
    float *to = values + ranks.starts[ranks.team.rank];
    for (int k = 0; k < own; k++) {
        to[k] = (float)ranks.total[k];
    }
    return check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, ranks.counts, ranks.starts, MPI_FLOAT,
                                MPI_COMM_WORLD),
                 "add up", err);
}

static int sum(float *values, size_t n, void *user, struct genarm_error *err) {
    (void)user;
    int code = 0;
    for (size_t at = 0; at < n && code == 0; at += BLOCK) {
        code = sum_block(values + at, (int)(n - at < BLOCK ? n - at : BLOCK), err);
    }
    return code;
}

/* ---- coming and going ---- */

static int allocate(struct genarm_error *err) {
    const size_t size = (size_t)ranks.team.size, part = BLOCK / size + 1;
    ranks.counts = malloc(size * sizeof *ranks.counts);
    ranks.starts = malloc(size * sizeof *ranks.starts);
    ranks.own = malloc(size * sizeof *ranks.own);
    ranks.at = malloc(size * sizeof *ranks.at);
    ranks.inbox = malloc(size * part * sizeof *ranks.inbox);
    ranks.total = malloc(part * sizeof *ranks.total);
    if (!ranks.counts || !ranks.starts || !ranks.own || !ranks.at || !ranks.inbox || !ranks.total) {
        return error_nomem(err, "sums over the ranks");
    }
    return 0;
}

int ranks_open(const struct genarm_team **team, struct genarm_error *err) {
    const int32_t launched = ranks_launched();
    int given, rank, size;
    *team = NULL;
    if (launched == 1) {
        return 0;
    }
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given); /* a failure ends the process, with a message */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    ranks.team = (struct genarm_team){.rank = rank, .size = size, .sum = sum, .gather = gather, .share = share};
    if (size != launched) {
        MPI_Finalize();
        const int code = error_set(err, GENARM_EUNSUPPORTED, "started %d times, but MPI counts %d ranks", launched, size);
        return error_hint(err, code, "start it with the mpirun of the MPI that it was built with");
    }
    *team = &ranks.team;
    return allocate(err);
}

int ranks_close(const struct genarm_team *team, int code, struct genarm_error *err) {
    if (!team) {
        return code;
    }
    if (code < 0 && (team->rank == 0 || ranks.lost)) {
        report_error(err);
    }
    if (ranks.lost) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize(); /* when all have come: only then do exit statuses tell the launcher to end the others */
    free(ranks.counts);
    free(ranks.starts);
    free(ranks.own);
    free(ranks.at);
    free(ranks.inbox);
    free(ranks.total);
    ranks = (struct ranks){0};
    return code == CLI_USAGE ? 2 : code < 0 ? 1 : code;
}
