/* What logs say of their runs, as rows of tables: one row a fact, one column a run. */
#ifndef CLI_REPORT_FACTS_H
#define CLI_REPORT_FACTS_H

#include "report_log.h"

struct report_fact {
    char *section, *key;
    char **values; /* [n_runs]; NULL: the run does not say */
    bool differs;  /* between the runs; never for times and names of files that are written */
};

struct report_facts {
    struct report_fact *items; /* sections are together */
    size_t n, n_runs;
};

int report_facts_make(struct report_facts *facts, const struct report_run *runs, size_t n_runs, struct genarm_error *err);
void report_facts_deinit(struct report_facts *facts);

#endif
