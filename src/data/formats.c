/* Which format a record is of. See formats.h. */
#include "data/formats.h"

#include <string.h>

#define FORMAT_NAME(id, name, members) name,
static const char *const names[] = {GENARM_DATA_FORMATS(FORMAT_NAME)};
#define FORMAT_MEMBERS(id, name, members) members,
static const char *const member_lists[] = {GENARM_DATA_FORMATS(FORMAT_MEMBERS)};

enum { N_FORMATS = sizeof names / sizeof *names, MAX_NAMED = 12 };

const char *format_name(enum genarm_data_format format) { return names[format]; }

const char *label_name(enum genarm_data_label label) {
#define LABEL_NAME(id, name, member) name,
    static const char *const labels[] = {GENARM_DATA_LABELS(LABEL_NAME)};
    return labels[label];
}

/* ---- detection ---- */

static bool has(const json_t *record, const char *key) { return json_object_get(record, key) != NULL; }

/* The name of a prompt under another one, or NULL. With it chosen and rejected are not the whole text. */
static const char *find_question(const json_t *record) {
    static const char *const keys[] = {"question", "instruction", "input", "query", "context", "history", "messages"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (has(record, keys[i])) {
            return keys[i];
        }
    }
    return NULL;
}

static enum genarm_data_format detect_texts(const json_t *record, const json_t *prompt, const json_t *chosen) {
    if (!prompt) {
        const char *text = json_string_value(chosen);
        return text && dialogue_is(text) ? GENARM_DATA_HH_RLHF
               : find_question(record)   ? GENARM_DATA_AUTO
                                         : GENARM_DATA_TRL_STANDARD;
    }
    const char *text = json_string_value(prompt);
    return text && dialogue_is_prompt(text) ? GENARM_DATA_FULL_HH_RLHF : GENARM_DATA_GENARM;
}

static enum genarm_data_format detect_responses(const json_t *record, const json_t *prompt, const json_t *chosen) {
    if (!json_is_array(chosen)) {
        return detect_texts(record, prompt, chosen);
    }
    return json_is_string(prompt) ? GENARM_DATA_ULTRAFEEDBACK : GENARM_DATA_TRL_CONVERSATIONAL;
}

enum genarm_data_format format_detect(const json_t *record) {
    const json_t *prompt = json_object_get(record, "prompt"), *chosen = json_object_get(record, "chosen");
    if (prompt && has(record, "response_0") && has(record, "response_1") &&
        (has(record, "better_response_id") || has(record, "safer_response_id"))) {
        return GENARM_DATA_PKU_SAFERLHF;
    }
    if (chosen || has(record, "rejected")) {
        return chosen && has(record, "rejected") ? detect_responses(record, prompt, chosen) : GENARM_DATA_AUTO;
    }
    if (json_is_boolean(json_object_get(record, "label"))) { /* as KTO's: an answer that may be a bad one */
        return GENARM_DATA_AUTO;
    }
    return prompt && has(record, "completion") ? GENARM_DATA_PROMPT_COMPLETION
           : has(record, "messages")           ? GENARM_DATA_MESSAGES
                                               : GENARM_DATA_AUTO;
}

enum genarm_data_format format_detect_alone(const json_t *record) {
    const json_t *chosen = json_object_get(record, "chosen");
    if (!chosen || has(record, "rejected")) {
        return GENARM_DATA_AUTO;
    }
    const enum genarm_data_format format = detect_responses(record, json_object_get(record, "prompt"), chosen);
    return format == GENARM_DATA_TRL_STANDARD ? GENARM_DATA_AUTO : format; /* the rejected text would tell the prompt */
}

bool format_is_alone(enum genarm_data_format format) {
    return format == GENARM_DATA_PROMPT_COMPLETION || format == GENARM_DATA_MESSAGES;
}

/* ---- no format ---- */

/* Copies the next of comma-separated members without its brackets; false at the end. */
static bool next_member(const char **cursor, char *name, size_t max) {
    const char *from = *cursor + strspn(*cursor, ", ");
    const size_t n = strcspn(from, ",");
    if (n == 0 || n >= max) {
        return false;
    }
    memcpy(name, from, n);
    name[n] = '\0';
    name[strcspn(name, "[")] = '\0';
    *cursor = from + n;
    return true;
}

/* The format with the largest share of its members present, of those that lack one. */
static size_t nearest(const json_t *record) {
    size_t best = 0;
    double best_share = 0;
    for (size_t i = 1; i < N_FORMATS; i++) {
        const char *cursor = member_lists[i];
        char name[64];
        double there = 0, all = 0;
        for (; next_member(&cursor, name, sizeof name); all++) {
            there += has(record, name);
        }
        if (there < all && there / all > best_share) {
            best_share = there / all;
            best = i;
        }
    }
    return best;
}

static int list_keys(struct buf *text, const json_t *record, struct genarm_error *err) {
    const char *key;
    json_t *value;
    size_t n = 0;
    int rc = buf_puts(text, json_object_size(record) ? "the record has " : "the record is empty", err);
    json_object_foreach((json_t *)(uintptr_t)record, key, value) {
        if (rc == GENARM_OK && n < MAX_NAMED) {
            rc = buf_printf(text, err, "%s\"%.40s\"", n ? ", " : "", key);
        } else if (rc == GENARM_OK && n == MAX_NAMED) {
            rc = buf_puts(text, ", …", err);
        }
        n++;
    }
    return rc;
}

static int list_missing(struct buf *text, const json_t *record, size_t format, struct genarm_error *err) {
    const char *cursor = member_lists[format], *separator = "";
    char name[64];
    int rc = buf_printf(text, err, "; nearest is %s, which lacks ", names[format]);
    while (rc == GENARM_OK && next_member(&cursor, name, sizeof name)) {
        if (!has(record, name)) {
            rc = buf_printf(text, err, "%s\"%s\"", separator, name);
            separator = ", ";
        }
    }
    return rc;
}

/* What makes the format genarm of a record that has all of it, the prompt under another name. */
static int hint_names(const json_t *record, int rc, struct genarm_error *err) {
    const char *question = find_question(record);
    if (!question || !has(record, "chosen") || !has(record, "rejected")) {
        return rc;
    }
    return error_hint(err, rc, "give the prompt its name: jq -c '{prompt: .%s, chosen, rejected%s}' FILE", question,
                      has(record, "system") ? ", system" : "");
}

int format_unknown(const json_t *record, const char *where, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, 4096);
    const size_t near = nearest(record);
    int rc = list_keys(&text, record, err);
    if (rc == GENARM_OK && near) {
        rc = list_missing(&text, record, near, err);
    }
    for (size_t i = 1; i < N_FORMATS && rc == GENARM_OK; i++) {
        rc = buf_printf(&text, err, "%s%s {%s}", i == 1 ? "; known: " : ", ", names[i], member_lists[i]);
    }
    if (rc == GENARM_OK) {
        rc = error_set(err, GENARM_EFORMAT, "not a known format: %s", text.data);
        rc = error_at(err, rc, "%s", where);
        rc = hint_names(record, rc, err);
    }
    buf_deinit(&text);
    return rc;
}

/* ---- conversion ---- */

int format_convert(struct conversion *c, enum genarm_data_format format, struct genarm_error *err) {
    switch (format) {
    case GENARM_DATA_AUTO:
        break;
    case GENARM_DATA_GENARM:
        return convert_genarm(c, err);
    case GENARM_DATA_HH_RLHF:
        return convert_hh_rlhf(c, err);
    case GENARM_DATA_FULL_HH_RLHF:
        return convert_full_hh_rlhf(c, err);
    case GENARM_DATA_PKU_SAFERLHF:
        return convert_pku_saferlhf(c, err);
    case GENARM_DATA_ULTRAFEEDBACK:
        return convert_ultrafeedback(c, err);
    case GENARM_DATA_TRL_STANDARD:
        return convert_trl_standard(c, err);
    case GENARM_DATA_TRL_CONVERSATIONAL:
        return convert_trl_conversational(c, err);
    case GENARM_DATA_PROMPT_COMPLETION:
        return convert_prompt_completion(c, err);
    case GENARM_DATA_MESSAGES:
        return convert_messages(c, err);
    }
    return error_set(err, GENARM_EINVAL, "unknown format %d", (int)format);
}
