/* JSON schemas as grammars: GBNF whose texts all satisfy a schema (genarm/steer.h says which schemas there are grammars for).
 *
 * A grammar can only say yes to the next character, so keywords that look at a value as a whole are refused rather than
 * skipped, and where the schema allows more than is useful (properties it does not name, elements after a tuple, white space
 * without end) the grammar allows less. */
#ifndef GUIDE_SCHEMA_H
#define GUIDE_SCHEMA_H

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"

/* Appends rules, of which `root` is the whole answer. GENARM_EFORMAT: no schema; GENARM_EUNSUPPORTED: it asks for what a
 * grammar cannot enforce. Both name the place by its JSON pointer. `schema` is a tree, as a parser makes it. */
int schema_to_gbnf(struct buf *out, const json_t *schema, struct genarm_error *err);

#endif
