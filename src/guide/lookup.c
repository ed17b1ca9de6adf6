#include "guide/lookup.h"

enum { LONGEST = 32 }; /* tokens in common beyond which one place is as good as another */

/* Tokens that end alike before position i and before the end. */
static int32_t in_common(const int32_t *tokens, int32_t n, int32_t i) {
    int32_t same = 0;
    while (same < i && same < LONGEST && tokens[i - 1 - same] == tokens[n - 1 - same]) {
        same++;
    }
    return same;
}

int32_t lookup_draft(const int32_t *tokens, int32_t n, int32_t least, int32_t *out, int32_t max) {
    int32_t best = 0, from = 0;
    for (int32_t i = n - 1; i >= least && best < LONGEST; i--) {
        const int32_t same = in_common(tokens, n, i);
        if (same > best) {
            best = same;
            from = i;
        }
    }
    if (best == 0 || best < least) {
        return 0;
    }
    for (int32_t j = 0; j < max; j++) {
        out[j] = from + j < n ? tokens[from + j] : out[from + j - n];
    }
    return max;
}
