/* Errors and the log: how libgenarm says what went wrong.
 *
 * Every function that can fail returns an int: 0 on success or one of the negative codes below, and takes a
 * `struct genarm_error *err` last. `err` may be NULL; otherwise it is filled on failure and untouched on success.
 * Outputs are written only on success. The library never prints or exits, and never aborts on bad input, but where ggml or
 * libllama abort by themselves: when a connection to an RPC server breaks, and on some keys of architectures that only libllama
 * knows.
 *
 *     struct genarm_error err;
 *     if (genarm_model_load(&model, "m.gguf", NULL, &err) != GENARM_OK)
 *         fprintf(stderr, "%s: %s\n", err.where, err.what);
 */
#ifndef GENARM_ERROR_H
#define GENARM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of codes: name, value, meaning. */
#define GENARM_ERRORS(X)                                                                                     \
    X(GENARM_OK, 0, "success")                                                                               \
    X(GENARM_EINVAL, -1, "invalid argument")                                                                 \
    X(GENARM_ENOMEM, -2, "out of memory")                                                                    \
    X(GENARM_EIO, -3, "input or output failed")                                                              \
    X(GENARM_EFORMAT, -4, "malformed input")                                                                 \
    X(GENARM_EUNSUPPORTED, -5, "not supported")                                                              \
    X(GENARM_EMISMATCH, -6, "inputs do not belong together")                                                 \
    X(GENARM_ECONTEXT, -7, "context is full")                                                                \
    X(GENARM_EBACKEND, -8, "compute backend failed")                                                         \
    X(GENARM_ECANCELED, -9, "canceled")                                                                      \
    X(GENARM_EDIVERGED, -10, "training diverged")

enum genarm_status {
#define GENARM_ERROR_ENUM(name, value, meaning) name = value,
    GENARM_ERRORS(GENARM_ERROR_ENUM)
#undef GENARM_ERROR_ENUM
};

/* What failed, where, and what to do about it. All strings are NUL-terminated, possibly empty. */
struct genarm_error {
    int code;        /* one of enum genarm_status */
    char where[256]; /* file, file:line, tensor or option; "" if there is no place to name */
    char what[1024]; /* one sentence without a final full stop */
    char hint[256];  /* the way out; "" if there is none to give */
};

/* Meaning of a code, e.g. "malformed input". Never NULL, also for unknown codes. Static storage. */
const char *genarm_status_text(int code);

enum genarm_log_level { GENARM_LOG_DEBUG, GENARM_LOG_INFO, GENARM_LOG_WARN, GENARM_LOG_ERROR };

/* Receives one line without a newline. May be called from any thread; calls are serialised. */
typedef void (*genarm_log_callback)(enum genarm_log_level level, const char *line, void *user);

/* Sets the process-wide log callback, also for messages of ggml and libllama: theirs are DEBUG, their errors WARN, as the
 * failing call returns an error of its own. The callback must not call the library. NULL silences the library, which is
 * the default. */
void genarm_log_set(genarm_log_callback callback, void *user);

#ifdef __cplusplus
}
#endif
#endif
