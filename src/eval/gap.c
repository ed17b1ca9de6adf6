#include "eval/gap.h"

#include <math.h>
#include <stdlib.h>

double gap_of(double x, double from, double to) { return to != from ? (x - from) / (to - from) : NAN; }

int gap_interval(struct interval *out, const double *x, const double *from, const double *to, size_t n,
                 const struct bootstrap_params *params, struct genarm_error *err) {
    double *come = calloc(2 * n + 1, sizeof *come), *whole = come ? come + n : NULL;
    if (!come) {
        return error_nomem(err, "a recovered gap");
    }
    for (size_t i = 0; i < n; i++) { /* NaN of any of the three is NaN of one of these, which leaves the prompt out */
        come[i] = x[i] - from[i];
        whole[i] = to[i] - from[i];
    }
    const int code = bootstrap_ratio(out, come, whole, n, params, err);
    free(come);
    return code;
}
