/* SPDX-License-Identifier: MIT */
#include "check/report/lost.h"

static bool is_store(const struct check_event *event)
{
	return event->kind == CHECK_EV_STORE || event->kind == CHECK_EV_RMW || event->kind == CHECK_EV_WRITE;
}

static bool is_plain(const struct check_event *event)
{
	return event->kind == CHECK_EV_READ || event->kind == CHECK_EV_WRITE;
}

static bool is_load(const struct check_event *event)
{
	return event->kind == CHECK_EV_LOAD || event->kind == CHECK_EV_RMW || event->kind == CHECK_EV_CAS_FAILED ||
	       event->kind == CHECK_EV_READ;
}

/* The last store to the same memory before event `at`, which replaces it; -1: none, or it is the same thread's. */
static int replaced_by(const struct trace *trace, unsigned at)
{
	const struct check_event *store = &trace->event[at];

	for (unsigned i = at; i-- > 0;) {
		const struct check_event *event = &trace->event[i];

		if (event->address == store->address && event->size == store->size && is_store(event) && !event->stale)
			return event->thread == store->thread ? -1 : (int)i;
	}
	return -1;
}

/* Plain loads do not say what they read: what was there when they ran, as in an execution without races. */
static bool was_read(const struct trace *trace, unsigned store, unsigned until)
{
	const struct check_event *written = &trace->event[store];

	for (unsigned i = store + 1; i < trace->count; i++) {
		const struct check_event *event = &trace->event[i];

		if (event->address != written->address || !is_load(event))
			continue;
		if (event->reads_from == (int)written->step)
			return true;
		if (i < until && (is_plain(event) || is_plain(written)))
			return true;
	}
	return false;
}

void lost_mark(struct picture *picture, const struct trace *trace)
{
	for (unsigned i = 0; i < trace->count; i++) {
		const struct check_event *event = &trace->event[i];
		int before;

		if (!is_store(event) || event->kind == CHECK_EV_RMW || event->stale || event->thread < 0 ||
		    picture->row[i].note)
			continue;
		before = replaced_by(trace, i);
		if (before >= 0 && !was_read(trace, (unsigned)before, i))
			picture->row[i].note = "overwrites what nobody read";
	}
}
