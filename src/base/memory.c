#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 1 << 21 /* of x86-64 and of ARM with small pages of 4 KiB */ };

static size_t said_to_be_available(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    size_t kib = 0;
    while (f && kib == 0 && fgets(line, sizeof line, f)) {
        sscanf(line, "MemAvailable: %zu kB", &kib);
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}

/* The number in a file, SIZE_MAX if there is none: such as "max". */
static size_t limit_in(const char *path) {
    FILE *f = fopen(path, "r");
    size_t limit = SIZE_MAX;
    if (f && fscanf(f, "%zu", &limit) != 1) {
        limit = SIZE_MAX;
    }
    if (f) {
        fclose(f);
    }
    return limit;
}

/* The smallest limit of the process's control group and those above it, as containers and service managers set it: version 2
 * ("0::/path"), or the memory controller's of version 1. */
static size_t control_group_limit(void) {
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[1024];
    size_t least = SIZE_MAX;
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *path = strchr(line, ':') ? strchr(strchr(line, ':') + 1, ':') : NULL;
        const bool second = strncmp(line, "0::", 3) == 0;
        if (!path || (!second && !strstr(line, ":memory:"))) {
            continue;
        }
        for (path++;; *strrchr(path, '/') = '\0') {
            char file[1200];
            snprintf(file, sizeof file, "/sys/fs/cgroup%s%s/%s", second ? "" : "/memory", path,
                     second ? "memory.max" : "memory.limit_in_bytes");
            const size_t limit = limit_in(file);
            least = limit < least ? limit : least;
            if (!strchr(path, '/')) {
                break;
            }
        }
    }
    if (f) {
        fclose(f);
    }
    return least;
}

size_t memory_available(void) {
    const size_t available = said_to_be_available(), limit = control_group_limit();
    return available < limit ? available : limit;
}

void memory_want_huge_pages(void *p, size_t n) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t first = ((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uintptr_t end = ((uintptr_t)p + n) / HUGE_PAGE * HUGE_PAGE;
    if (first < end) {
        madvise((void *)first, end - first, MADV_HUGEPAGE);
    }
#else
    (void)p;
    (void)n;
#endif
}

void memory_zero(void *p, size_t n) {
#if defined(__linux__) /* elsewhere the same call may leave what was there */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)p;
    const uintptr_t first = (at + page - 1) / page * page, end = (at + n) / page * page;
    if (first < end && madvise((void *)first, end - first, MADV_DONTNEED) == 0) {
        memset(p, 0, first - at);
        memset((void *)end, 0, at + n - end);
        return;
    }
#endif
    memset(p, 0, n);
}
