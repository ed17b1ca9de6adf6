/* See ranks.h: a program without MPI. */
#include "ranks.h"

int ranks_open(const struct genarm_team **team, struct genarm_error *err) {
    const int32_t size = ranks_launched();
    *team = NULL;
    if (size == 1) {
        return 0;
    }
    const int code = error_set(err, GENARM_EUNSUPPORTED,
                               "started %d times by mpirun, but built without MPI: each process would train alone", size);
    return error_hint(err, code, "install MPI (on Debian libopenmpi-dev and openmpi-bin) and build again");
}

int ranks_close(const struct genarm_team *team, int code, struct genarm_error *err) {
    (void)team;
    (void)err;
    return code;
}
