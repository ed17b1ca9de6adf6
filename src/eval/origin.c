/* See origin.h. */
#include "eval/origin.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cores.h"
#include "base/utf8.h"

/* The processor's name and ", ", where the system tells. */
static void read_cpu(char *out, size_t size) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[512];
    *out = '\0';
    while (f && !*out && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(out, size, "%.80s, ", colon + 1 + strspn(colon + 1, " "));
        }
    }
    if (f) {
        fclose(f);
    }
    utf8_clean(out);
}

void origin_here(struct origin *out) {
    struct utsname u = {0};
    char cpu[96];
    uname(&u);
    read_cpu(cpu, sizeof cpu);
    snprintf(out->version, sizeof out->version, "%s", GENARM_VERSION);
    snprintf(out->machine, sizeof out->machine, "%s%d cores, %.20s %.20s", cpu, (int)cores_usable(), u.sysname, u.machine);
}
