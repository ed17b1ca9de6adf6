#include "train/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/json.h"

void run_hex(char text[17], uint64_t hash) { snprintf(text, 17, "%016" PRIx64, hash); }

bool run_add_adapter(json_t *run, const char *name, const struct trainable *adapter) {
    char text[17];
    float *theta = malloc(adapter->n * sizeof *theta);
    if (!theta) {
        return false;
    }
    trainable_get(adapter, theta);
    run_hex(text, hash_bytes(HASH_START, theta, adapter->n * sizeof *theta));
    free(theta);
    return json_object_set_new(run, name, json_string(text)) == 0;
}

json_t *run_describe(json_t *options, const struct genarm_model *model, const struct trainable *reference, uint64_t data) {
    struct genarm_model_info info;
    char hash[17];
    genarm_model_get_info(model, &info);
    run_hex(hash, data);
    if (!options || json_object_set_new(options, "model", json_string(info.fingerprint)) != 0 ||
        json_object_set_new(options, "model type", json_string(info.file_type)) != 0 ||
        json_object_set_new(options, "data", json_string(hash)) != 0 ||
        (reference->n > 0 && !run_add_adapter(options, "reference adapter", reference))) {
        json_decref(options);
        return NULL;
    }
    return options;
}

void run_print(char *text, size_t size, const json_t *value) {
    struct buf b;
    buf_init(&b, 1 << 16);
    if (json_is_string(value)) {
        snprintf(text, size, "\"%s\"", json_string_value(value));
    } else if (json_is_real(value)) {
        snprintf(text, size, "%.9g", json_real_value(value)); /* as it was typed */
    } else if (value && json_dump(&b, value, NULL) == GENARM_OK) {
        snprintf(text, size, "%s", b.data);
    } else {
        snprintf(text, size, "nothing");
    }
    buf_deinit(&b);
}

bool run_same(const json_t *found, const json_t *wanted, struct run_difference *d) {
    const json_t *const sides[] = {wanted, found}; /* what only the latter has differs too */
    const char *key;
    json_t *value;
    for (int side = 0; side < 2; side++) {
        json_object_foreach((json_t *)(uintptr_t)sides[side], key, value) {
            const json_t *was = json_object_get(found, key), *is = json_object_get(wanted, key);
            if (!json_equal(was, is)) {
                d->name = key;
                run_print(d->found, sizeof d->found, was);
                run_print(d->wanted, sizeof d->wanted, is);
                return false;
            }
        }
    }
    return true;
}
