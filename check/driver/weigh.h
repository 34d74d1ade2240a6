/* SPDX-License-Identifier: MIT */
/* Which ordering sites are needed: each made weaker in turn, and the scenarios that meet it searched. */
#ifndef CHECK_DRIVER_WEIGH_H
#define CHECK_DRIVER_WEIGH_H

#include "check/driver/options.h"

int command_sites(const struct options *options);
int command_why(const struct options *options);
int command_weigh(const struct options *options);
int command_confirm(const struct options *options);

#endif
