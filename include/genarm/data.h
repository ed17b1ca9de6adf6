/* Preference data as it is found: the formats that records come in.
 *
 * Files are plain, gzip, xz or Zstandard, known by their first bytes; in them are JSON lines or one JSON array of
 * records. A record has at most 16 MiB. All records of a file are of one format. docs/data.md shows one of each.
 */
#ifndef GENARM_DATA_H
#define GENARM_DATA_H

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of formats: id, name, the members of a record. The last two have one answer, without a worse one: they are for
 * supervised fine-tuning (GENARM_LOSS_SFT). */
#define GENARM_DATA_FORMATS(X)                                                                               \
    X(GENARM_DATA_AUTO, "auto", "")                                                                          \
    X(GENARM_DATA_GENARM, "genarm", "prompt, chosen, rejected")                                              \
    X(GENARM_DATA_HH_RLHF, "hh-rlhf", "chosen, rejected")                                                    \
    X(GENARM_DATA_FULL_HH_RLHF, "full-hh-rlhf", "prompt, response, chosen, rejected")                        \
    X(GENARM_DATA_PKU_SAFERLHF, "pku-saferlhf", "prompt, response_0, response_1, better_response_id")        \
    X(GENARM_DATA_ULTRAFEEDBACK, "ultrafeedback", "prompt, chosen[], rejected[]")                            \
    X(GENARM_DATA_TRL_STANDARD, "trl-standard", "chosen, rejected")                                          \
    X(GENARM_DATA_TRL_CONVERSATIONAL, "trl-conversational", "chosen[], rejected[]")                          \
    X(GENARM_DATA_PROMPT_COMPLETION, "prompt-completion", "prompt, completion")                              \
    X(GENARM_DATA_MESSAGES, "messages", "messages[]")

/* GENARM_DATA_AUTO: what the first record of each file looks like. */
enum genarm_data_format {
#define GENARM_DATA_ENUM(id, name, members) id,
    GENARM_DATA_FORMATS(GENARM_DATA_ENUM)
#undef GENARM_DATA_ENUM
};

/* Which of its labels makes a response of pku-saferlhf the chosen one: id, name, member. */
#define GENARM_DATA_LABELS(X)                                                                                \
    X(GENARM_LABEL_BETTER, "better", "better_response_id")                                                   \
    X(GENARM_LABEL_SAFER, "safer", "safer_response_id")

enum genarm_data_label {
#define GENARM_LABEL_ENUM(id, name, member) id,
    GENARM_DATA_LABELS(GENARM_LABEL_ENUM)
#undef GENARM_LABEL_ENUM
};

#ifdef __cplusplus
}
#endif
#endif
