/* See reader.h. */
#include "data/reader.h"

#include <stdlib.h>
#include <string.h>

#include "data/values.h"

_Static_assert((int)PREF_MAX_BYTES == (int)VALUES_MAX_BYTES, "one maximum");

enum { REPEATED_BYTES = 16 }; /* a shorter question, such as "Hi", may well begin an answer */

struct pref_reader {
    struct values *values;
    struct pref_params params;
    enum genarm_data_format format; /* of the file; AUTO: not known yet */
    struct preference preference;
    struct pref_counts counts;
};

int pref_open(struct pref_reader **out, const char *path, const struct pref_params *params, struct genarm_error *err) {
    struct pref_reader *r = calloc(1, sizeof *r);
    if (!r) {
        return error_nomem(err, "a file of pairs");
    }
    if (params) {
        r->params = *params;
        r->format = params->format;
    }
    const int rc = values_open(&r->values, path, err);
    if (rc != GENARM_OK) {
        free(r);
        return rc;
    }
    *out = r;
    return GENARM_OK;
}

void pref_close(struct pref_reader *r) {
    if (r) {
        preference_deinit(&r->preference);
        values_close(r->values);
        free(r);
    }
}

/* ---- one record ---- */

/* The file's format is that of its first record; a record that looks like another one is an error. A record that looks
 * like none is left to the converter, which says what it lacks. */
static int settle_format(struct pref_reader *r, const json_t *record, struct genarm_error *err) {
    if (r->params.format != GENARM_DATA_AUTO) {
        return GENARM_OK;
    }
    const char *where = values_where(r->values);
    enum genarm_data_format seen = format_detect(record);
    if (seen == GENARM_DATA_AUTO && r->params.use == PREF_CHOSEN) {
        seen = format_detect_alone(record);
    }
    if (r->format == GENARM_DATA_AUTO) {
        r->format = seen;
        return seen != GENARM_DATA_AUTO ? GENARM_OK : format_unknown(record, where, err);
    }
    if (seen == r->format || seen == GENARM_DATA_AUTO) {
        return GENARM_OK;
    }
    int rc = error_set(err, GENARM_EFORMAT, "the formats are mixed: this record looks like %s, those before it like %s",
                       format_name(seen), format_name(r->format));
    rc = error_at(err, rc, "%s", where);
    return error_hint(err, rc, "split the file, or say what all of it is: --format %s", format_name(r->format));
}

static void count(struct pref_reader *r, enum pref_reason reason) {
    struct pref_counts *c = &r->counts;
    const bool dropped = reason < PREF_N_DROPS;
    const int64_t n = c->n[reason]++;
    if (n < PREF_NAMED) {
        c->places[reason][n] = values_in_array(r->values) ? values_record(r->values) : values_line(r->values);
    }
    log_line(n < PREF_NAMED && dropped ? GENARM_LOG_INFO : GENARM_LOG_DEBUG, "%s: %s%s", values_where(r->values),
             dropped ? "dropped: " : "", pref_reason_text(reason));
}

static bool has_prefix(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/* Whether the format has what is wanted. */
static int check_format(const struct pref_reader *r, struct genarm_error *err) {
    if (r->params.use != PREF_PAIRS || !format_is_alone(r->format)) {
        return GENARM_OK;
    }
    int rc = error_set(err, GENARM_EFORMAT, "a record of the format %s has one answer, and two are needed",
                       format_name(r->format));
    rc = error_at(err, rc, "%s", values_where(r->values));
    return error_hint(err, rc, "genarm train --loss sft learns from such records");
}

/* Why a converted record cannot be used, or PREF_NONE. */
static enum pref_reason check(const struct preference *p, bool alone) {
    if (!*p->chosen || (!*p->rejected && !alone)) {
        return PREF_EMPTY;
    }
    if (strcmp(p->chosen, p->rejected) == 0) {
        return PREF_EQUAL;
    }
    if (p->n_messages == 0 || strcmp(p->messages[p->n_messages - 1].role, "user") != 0) {
        return PREF_NO_QUESTION;
    }
    return PREF_NONE;
}

/* Counts what is worth knowing about a record that is kept. */
static void note(struct pref_reader *r) {
    const struct preference *p = &r->preference;
    const char *question = p->messages[p->n_messages - 1].content;
    if (*p->rejected && (has_prefix(p->chosen, p->rejected) || has_prefix(p->rejected, p->chosen))) {
        count(r, PREF_PREFIX);
    }
    if (strlen(question) >= REPEATED_BYTES && has_prefix(p->chosen, question) && has_prefix(p->rejected, question)) {
        count(r, PREF_REPEATS);
    }
}

/* Fills r->preference with `record`, as a pair or as the chosen response alone; *drop: why that cannot be used, or PREF_NONE. */
static int convert(struct pref_reader *r, json_t *record, bool alone, enum pref_reason *drop, struct genarm_error *err) {
    struct preference *p = &r->preference;
    json_incref(record);
    preference_clear(p);
    p->source = record;
    p->line = values_line(r->values);
    p->record = values_record(r->values);
    struct conversion c = {
        .out = p, .label = r->params.label, .alone = alone, .drop = PREF_NONE, .where = values_where(r->values)};
    const int rc = format_convert(&c, r->format, err);
    if (rc == GENARM_OK) {
        p->rejected = alone ? "" : p->rejected;
        *drop = c.drop != PREF_NONE ? c.drop : check(p, alone);
    }
    return rc;
}

/* Whether a record of a format of pairs has no rejected response. */
static bool lacks_rejected(const struct pref_reader *r, const json_t *record) {
    const json_t *rejected = json_object_get(record, "rejected");
    return r->format != GENARM_DATA_PKU_SAFERLHF && (!rejected || json_is_null(rejected));
}

/* Takes `record` over. 1: it is in r->preference; 0: it was dropped. */
static int take_record(struct pref_reader *r, json_t *record, struct genarm_error *err) {
    enum pref_reason drop = PREF_NONE;
    int rc = settle_format(r, record, err);
    rc = rc == GENARM_OK ? check_format(r, err) : rc;
    const bool chosen = r->params.use == PREF_CHOSEN;
    const bool alone = format_is_alone(r->format) || (chosen && lacks_rejected(r, record));
    if (rc == GENARM_OK) {
        rc = convert(r, record, alone, &drop, err);
    }
    if (rc == GENARM_OK && drop != PREF_NONE && chosen && !alone) {
        rc = convert(r, record, true, &drop, err);
    }
    json_decref(record);
    if (rc != GENARM_OK) {
        return rc;
    }
    r->counts.read++;
    if (drop != PREF_NONE) {
        count(r, drop);
        return 0;
    }
    r->counts.kept++;
    note(r);
    return 1;
}

int pref_next(struct pref_reader *r, struct preference **out, struct genarm_error *err) {
    json_t *record;
    int rc;
    while ((rc = values_next(r->values, &record, err)) > 0) {
        rc = take_record(r, record, err);
        if (rc != 0) {
            *out = &r->preference;
            return rc;
        }
    }
    if (rc == 0 && r->counts.read == 0) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "the file holds no pairs"), "%s", values_path(r->values));
    }
    return rc;
}

/* ---- what is known ---- */

const char *pref_where(const struct pref_reader *r) { return values_where(r->values); }
const struct pref_counts *pref_counts(const struct pref_reader *r) { return &r->counts; }
enum genarm_data_format pref_format(const struct pref_reader *r) { return r->format; }
bool pref_in_array(const struct pref_reader *r) { return values_in_array(r->values); }
const char *pref_codec(const struct pref_reader *r) { return input_codec(values_input(r->values)); }

void pref_progress(const struct pref_reader *r, int64_t *done, int64_t *all) {
    input_progress(values_input(r->values), done, all);
}

const char *pref_reason_name(enum pref_reason reason) {
#define REASON_NAME(id, name, text) name,
    static const char *const names[] = {PREF_REASONS(REASON_NAME)};
    return names[reason];
}

const char *pref_reason_text(enum pref_reason reason) {
#define REASON_TEXT(id, name, text) text,
    static const char *const texts[] = {PREF_REASONS(REASON_TEXT)};
    return texts[reason];
}
