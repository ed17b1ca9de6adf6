/* What is known of an item from earlier: FOLDER/items/NAME.json, written before its command starts and after it has ended. */
#ifndef EVAL_ITEM_RECORD_H
#define EVAL_ITEM_RECORD_H

#include "eval/items.h"
#include "eval/origin.h"

enum record_state { RECORD_NONE, RECORD_RUNNING, RECORD_DONE, RECORD_FAILED };

struct item_record {
    enum record_state state;
    uint64_t fingerprint;
    double seconds; /* that the command has run, in all */
    double ended;   /* time of day in seconds since 1970 */
    int64_t size;   /* of the output, when done */
    uint64_t content; /* hash of the output, when done */
    uint64_t made_of; /* hash of the contents of what the item needs, as they were when its command started */
    int status;     /* of the command, when failed */
    int64_t limit;  /* --limit of the command, as it was; 0: none */
    struct origin origin; /* of the output */
};

/* A record that is missing or damaged has the state RECORD_NONE. */
void item_record_read(struct item_record *out, const struct item *item, const char *folder);

/* Reads the record at `path` of any experiment; *output: its file below that folder, malloc'ed, or NULL. */
void item_record_read_at(struct item_record *out, char **output, const char *path);
int item_record_write(const struct item_record *r, const struct item *item, const char *folder, struct genarm_error *err);

/* What `made_of` is by the records of what the item needs. */
uint64_t item_made_of(const struct item_list *list, const struct item *item, const char *folder);

/* Whether a record is of the item as it is now, made of what it needs as that is now. */
bool item_record_fits(const struct item_record *r, const struct item_list *list, const struct item *item, const char *folder);

/* Whether the item's file is what its command writes now. Reads the record into *r. */
bool item_is_done(struct item_record *r, const struct item_list *list, const struct item *item, const char *folder);

/* Whether the command of a record that fits has written the file, though nobody has written that down: the process that started
 * it was killed. What commands keep beside a file that is not complete is gone then. */
bool item_was_finished(const struct item_record *r, const struct item_list *list, const struct item *item, const char *folder);

/* Removes the file and, if wanted, what is kept beside it until it is complete. */
int item_remove_files(const struct item *item, const char *folder, bool beside_too, struct genarm_error *err);

/* FOLDER/output, and what is beside it: malloc'ed, NULL when out of memory. */
char *item_path(const char *folder, const char *output, const char *ending);

#endif
