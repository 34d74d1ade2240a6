/* SPDX-License-Identifier: MIT */
/* `vmmu-check check`: every scenario within one budget, in parallel, with progress and a table at the end. */
#ifndef CHECK_DRIVER_TABLE_H
#define CHECK_DRIVER_TABLE_H

#include "check/driver/options.h"

/** Returns: an exit code. */
int check_all(const struct options *options);

#endif
