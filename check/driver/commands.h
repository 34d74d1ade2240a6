/* SPDX-License-Identifier: MIT */
/*
 * The commands of a checker. Each returns an exit code: 0 all is well, 1 a failure was found, 2 the command line is
 * wrong, 3 this program failed.
 */
#ifndef CHECK_DRIVER_COMMANDS_H
#define CHECK_DRIVER_COMMANDS_H

#include "check/driver/options.h"

int command_list(const struct options *options);
int command_run(const struct options *options);
int command_replay(const struct options *options);

#endif
