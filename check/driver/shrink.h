/* SPDX-License-Identifier: MIT */
/*
 * Makes a failure smaller: fewer preemptions, stale reads and switches of thread, so that a reader has less to
 * follow.
 */
#ifndef CHECK_DRIVER_SHRINK_H
#define CHECK_DRIVER_SHRINK_H

#include "check/driver/plan.h"

/** For at most `seconds`, replace the verdict's failure by smaller ones of its kind. */
void shrink(const struct subject *subject, double seconds, struct verdict *verdict);

#endif
