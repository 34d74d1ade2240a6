/* SPDX-License-Identifier: MIT */
/*
 * What `--weaken` means: a site of the source, by its key or by file and line, and the way in which it is made
 * weaker.
 */
#ifndef CHECK_DRIVER_WEAKEN_H
#define CHECK_DRIVER_WEAKEN_H

#include "check/driver/options.h"
#include "check/runtime/sites.h"

struct weakened {
	struct check_weak *weak;
	unsigned count;
	char *words;   /* for reports; NULL when nothing is made weaker */
	char *options; /* as on the command line, each after a blank; "" */
};

/** Returns: false after a message. */
bool weakened_read(const struct options *options, struct weakened *weakened);

#endif
