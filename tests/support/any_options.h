/* Commands that have every option, for tests of experiments that run none. */
#ifndef SUPPORT_ANY_OPTIONS_H
#define SUPPORT_ANY_OPTIONS_H

#include "eval/vocabulary.h"

static inline int any_option(struct eval_option *out, const char *command, const char *key, struct genarm_error *err) {
    (void)command;
    const bool flag = strcmp(key, "per-pair") == 0 || strcmp(key, "length-normalize") == 0;
    *out = (struct eval_option){.form = flag ? EVAL_FLAG : EVAL_VALUE};
    snprintf(out->name, sizeof out->name, "--%s", key + strspn(key, "-"));
    return strcmp(key, "resume") == 0 || strcmp(key, "log") == 0 ? error_set(err, GENARM_EINVAL, "no") : 0;
}

static inline int any_words(const char *command, char **words, size_t n, struct genarm_error *err) {
    (void)command;
    (void)words;
    (void)n;
    (void)err;
    return 0;
}

static const struct eval_vocabulary anything = {any_option, any_words};

#endif
