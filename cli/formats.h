/* The options that say how files of preference pairs are read. ARGS has a member `formats`. */
#ifndef CLI_FORMATS_H
#define CLI_FORMATS_H

#include "data/reader.h"
#include "options.h"

struct format_args {
    int32_t format, label;
};

#define FORMAT_CHOICE(id, name, members) name "|"
#define LABEL_CHOICE(id, name, member) name "|"
#define PAIRS_HELP                                                                                                    \
    "preference pairs: JSON lines or a JSON array, plain, gzip, xz or zstd, in one of the formats of --format"
#define OPTIONS_FORMAT(ARGS)                                                                                          \
    {OPTION_CHOICE, "--format", "NAME", offsetof(ARGS, formats.format),                                               \
     .choices = GENARM_DATA_FORMATS(FORMAT_CHOICE), .fallback = "auto",                                               \
     .help = "format of the records; auto: what the first one of a file looks like"},                                 \
    {OPTION_CHOICE, "--label", "NAME", offsetof(ARGS, formats.label), .choices = GENARM_DATA_LABELS(LABEL_CHOICE),    \
      .fallback = "better", .help = "which label of pku-saferlhf decides"}

/* How pair files are to be read. */
struct pref_params formats_from(const struct format_args *args);

#endif
