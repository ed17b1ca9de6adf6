/* The reading of --preference: weights of the objectives of a reward model that was trained on several. */
#ifndef CLI_PREFERENCES_H
#define CLI_PREFERENCES_H

#include <jansson.h>

#include "setup.h"

/* Fills weights[n], n the objectives, from "helpful=0.7,harmless=0.3", each objective once in any order, or "0.7,0.3", in
 * their order. CLI_USAGE says what is wrong with the text; the range of the weights is the library's to check. */
int preference_parse(float *weights, const char *const *objectives, size_t n, const char *text, struct genarm_error *err);

/* Applies --preference [ARM=]WEIGHTS to the guide's defaults. Without a name it is for the only ARM with objectives. */
int preferences_set(const struct setup *s, const struct option_list *texts, struct genarm_error *err);

/* Sets ARM i's weights from a text as above, in the guide for later sessions and in `session` if there is one. */
int preference_apply(const struct setup *s, int32_t i, const char *text, struct genarm_session *session,
                     struct genarm_error *err);

/* The only ARM with objectives; -1: there is none, -2: there are several. */
int32_t preference_only_arm(const struct setup *s);

/* {"ARM": {"objective": weight}} of the ARMs with objectives, in a session, or, NULL, by default. NULL: none has, or no
 * memory. */
json_t *preferences_json(const struct setup *s, const struct genarm_session *session);

#endif
