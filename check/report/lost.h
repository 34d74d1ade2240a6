/* SPDX-License-Identifier: MIT */
/* Stores of one thread that replace another thread's store before anybody has read it. */
#ifndef CHECK_REPORT_LOST_H
#define CHECK_REPORT_LOST_H

#include "check/report/concern.h"

/** Put a note on each such row that has none. Cost: the square of the trace, at worst. */
void lost_mark(struct picture *picture, const struct trace *trace);

#endif
