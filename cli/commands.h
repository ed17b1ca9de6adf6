/* The commands, one file each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "options.h"

extern const struct command command_generate, command_chat, command_score, command_train, command_rl, command_data,
    command_merge, command_convert, command_info, command_report, command_bench, command_serve,
    command_rpc_server, command_judge;

#endif
