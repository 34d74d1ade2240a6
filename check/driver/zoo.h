/* SPDX-License-Identifier: MIT */
/* `vmmu-check zoo`: runs tool/run-zoo, which builds a checker for each historical bug. */
#ifndef CHECK_DRIVER_ZOO_H
#define CHECK_DRIVER_ZOO_H

#include "check/driver/options.h"

int command_zoo(const struct options *options);

#endif
