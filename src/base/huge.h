/* Memory that is read from one end to the other, again and again. */
#ifndef BASE_HUGE_H
#define BASE_HUGE_H

#include <stddef.h>

/* Asks for huge pages behind n bytes at p, which have not been touched yet: reading through them then waits less for page
 * tables. A hint, without effect where the system has none. */
void huge_pages_wanted(void *p, size_t n);

#endif
