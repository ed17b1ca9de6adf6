#include "base/huge.h"

#include <stdint.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 1 << 21 /* of x86-64 and of ARM with small pages of 4 KiB */ };

void huge_pages_wanted(void *p, size_t n) {
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
