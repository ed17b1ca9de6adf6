/* The machine's memory: how much there is, and how to lay out what is read from one end to the other, again and again. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/* Bytes that this process may still use without something having to go that is needed: what the system says is available, and
 * no more than the limit of its control groups; 0 where the system says nothing. */
size_t memory_available(void);

/* Asks for huge pages behind n bytes at p, which have not been touched yet: reading through them then waits less for page
 * tables. A hint, without effect where the system has none. */
void memory_want_huge_pages(void *p, size_t n);

/* Makes n bytes at p zero, which came from malloc or its kin. Whole pages are taken when they are first used, where the system can
 * do that: what never is costs neither time nor memory. */
void memory_zero(void *p, size_t n);

#endif
