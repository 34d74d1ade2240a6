/* SPDX-License-Identifier: MIT */
/* Finds out which ordering sites are needed: makes each weaker in turn, and searches the scenarios that meet it. */
#ifndef CHECK_DRIVER_WEIGH_H
#define CHECK_DRIVER_WEIGH_H

#include "check/driver/options.h"

int command_sites(const struct options *options);
int command_why(const struct options *options);
int command_weigh(const struct options *options);
int command_confirm(const struct options *options);

#endif
