/* SPDX-License-Identifier: MIT */
/* Marks the events of a trace that concern more than one thread. Pictures leave out the others. */
#ifndef CHECK_REPORT_CONCERN_H
#define CHECK_REPORT_CONCERN_H

#include "check/report/picture.h"
#include "check/runtime/trace.h"

struct trace {
	struct check_event *event;
	unsigned count, room;
};

/**
 * Set `shared` of each row; row i is that of event i. `race_address`: the address of the data race
 * or use after free; 0 for none.
 */
void concern_mark(struct picture *picture, const struct trace *trace, uint64_t race_address);

#endif
