/* How many cores this process may use. */
#ifndef BASE_CORES_H
#define BASE_CORES_H

#include <stdint.h>

/* Those that it may run on (taskset, a container's set, mpirun's binding), where the system tells, else those of the
 * machine; at least 1. */
int32_t cores_usable(void);

#endif
