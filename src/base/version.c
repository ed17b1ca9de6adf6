#include "genarm/genarm.h"

const char *genarm_version(void) { return GENARM_VERSION; }
