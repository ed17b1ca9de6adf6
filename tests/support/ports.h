/* Ports of this machine, for servers in tests. */
#ifndef SUPPORT_PORTS_H
#define SUPPORT_PORTS_H

#include <stdbool.h>

int free_port(void);       /* where nothing listened a moment ago */
bool port_opens(int port); /* waits until something listens at it, for some seconds */

#endif
