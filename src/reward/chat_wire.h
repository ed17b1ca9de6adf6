/* What a chat client sends, and what the bytes mean that come back. */
#ifndef REWARD_CHAT_WIRE_H
#define REWARD_CHAT_WIRE_H

#include "reward/chat_client.h"

/* The body of a request: temperature 0, and then what `members` (NULL: none) say, null taking a member out. Both are borrowed.
 * New reference; NULL without memory. */
json_t *chat_wire_request(const struct chat_params *params, json_t *messages, json_t *members);

/* The members that a text says. *out is a new reference. */
int chat_wire_members(json_t **out, const char *text, struct genarm_error *err);

/* A reply as JSON. Models say what is no text: zero characters, halves of surrogate pairs and bytes that are not UTF-8 become
 * U+FFFD. */
int chat_wire_parse(json_t **out, const char *body, size_t n, struct genarm_error *err);

/* {"text", "finish_reason", "logprobs", "prompt_tokens", "completion_tokens"} of a chat completion, in none of which `secret`
 * (NULL: none) is. False: `body` is no completion, or says of itself that it failed, and `why` tells the reason. */
bool chat_wire_reply(json_t **reply, const json_t *body, const char *secret, char *why, size_t size);

/* Fills *out with what lies in such an object, which it borrows from. */
void chat_wire_read(struct chat_reply *out, const json_t *reply);

/* What an error's body says, without the secret, as a short line; "" if nothing. */
void chat_wire_message(char *text, size_t size, const char *body, size_t n, const char *secret);

/* "https://host/v1/chat/completions" from a base URL into *out (malloc'ed). GENARM_EINVAL: it is no http(s) URL, or has
 * parts that a base has not: a user's name, a query, a fragment. */
int chat_wire_url(char **out, const char *base_url, struct genarm_error *err);

/* Whether what goes to the URL can be read on its way: http, and not to this machine. */
bool chat_wire_in_clear(const char *url);

/* Puts '*' in the place of `secret` (NULL: none) wherever it stands in n bytes of text. One of less than eight characters is
 * none: it is in many texts by chance. */
void chat_wire_blot(char *bytes, size_t n, const char *secret);

#endif
