/* Replies of chat servers on disk: a file for each request, named after a hash of it. The whole request is in the file and is
 * compared, so that two requests never share a reply. Several processes may use one folder. */
#ifndef REWARD_CHAT_CACHE_H
#define REWARD_CHAT_CACHE_H

#include <jansson.h>

#include "base/error.h"

/* *reply: a new reference, or NULL when there is none; a file that cannot be read or is damaged is none. `request` is all that
 * a reply depends on. Fails without memory only. */
int chat_cache_get(json_t **reply, const char *folder, const json_t *request, struct genarm_error *err);

/* Replaces what there is for the request, atomically. */
int chat_cache_put(const char *folder, const json_t *request, const json_t *reply, struct genarm_error *err);

/* malloc'ed path of a request's file, FOLDER/xx/x….json; NULL without memory. */
char *chat_cache_path(const char *folder, const json_t *request);

#endif
