#include "bench/bandwidth.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"

enum { READ_BYTES = 64 << 20, READ_TIMES = 5 }; /* of each thread */

struct reading {
    pthread_t thread;
    uint64_t *data; /* READ_BYTES */
    uint64_t sum;   /* so that no compiler drops the loop */
};

static void *read_thread(void *user) {
    struct reading *r = user;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < READ_BYTES / sizeof *r->data; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            sum[k] += r->data[i + k];
        }
    }
    for (size_t k = 0; k < 8; k++) {
        r->sum += sum[k];
    }
    return NULL;
}

static bool make_data(struct reading *readings, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        readings[i].data = malloc(READ_BYTES);
        if (!readings[i].data) {
            return false;
        }
        memory_want_huge_pages(readings[i].data, READ_BYTES); /* as weights lie in them */
        memset(readings[i].data, i + 1, READ_BYTES);
    }
    return true;
}

/* Seconds until all have read their data once; negative when a thread could not be started. */
static double read_all(struct reading *readings, int32_t n) {
    const double start = clock_seconds();
    int32_t started = 0;
    while (started < n && pthread_create(&readings[started].thread, NULL, read_thread, &readings[started]) == 0) {
        started++;
    }
    for (int32_t i = 0; i < started; i++) {
        pthread_join(readings[i].thread, NULL);
    }
    return started == n ? clock_seconds() - start : -1;
}

double bandwidth_measure(int32_t n_threads) {
    struct reading *readings = calloc((size_t)n_threads, sizeof *readings);
    double best = 0;
    if (readings && make_data(readings, n_threads)) {
        for (int k = 0; k < READ_TIMES; k++) {
            const double seconds = read_all(readings, n_threads);
            const double rate = seconds > 0 ? 1e-9 * READ_BYTES * n_threads / seconds : 0;
            best = rate > best ? rate : best;
        }
    }
    for (int32_t i = 0; readings && i < n_threads; i++) {
        free(readings[i].data);
    }
    free(readings);
    return best;
}
