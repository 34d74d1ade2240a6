/* SPDX-License-Identifier: MIT */
/* Which events of a trace concern more than one thread: the others are a thread's own business, and left out of a picture. */
#ifndef CHECK_REPORT_CONCERN_H
#define CHECK_REPORT_CONCERN_H

#include "check/report/picture.h"
#include "check/runtime/trace.h"

struct trace {
	struct check_event *event;
	unsigned count, room;
};

/** Sets `shared` of each row; row i is that of event i. `race_address`: what two threads fell out over; 0: nothing. */
void concern_mark(struct picture *picture, const struct trace *trace, uint64_t race_address);

#endif
