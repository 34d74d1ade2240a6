/* SPDX-License-Identifier: MIT */
#include "check/report/concern.h"

#include <stdlib.h>
#include <string.h>

#include "check/report/location.h"
#include "check/report/memory.h"

/* Four bytes of memory, or an abstract lock, and which threads came to it. */
struct cell {
	uint64_t address;
	unsigned threads;        /* a mask */
	bool written, looked_at; /* not by a relaxed read-modify-write, which is a counter and concerns nobody */
	int last_read[PICTURE_THREADS]; /* of each thread: the step of the store it read, + 2; 0: none */
};

struct cells {
	struct cell *cell;
	size_t size;
};

static bool touches_memory(const struct check_event *event)
{
	return event->kind <= CHECK_EV_WRITE && event->kind != CHECK_EV_FENCE && event->address;
}

static bool is_lock(const struct check_event *event)
{
	return event->kind == CHECK_EV_LOCK || event->kind == CHECK_EV_UNLOCK;
}

static struct cell *cell_find(const struct cells *cells, uint64_t address)
{
	size_t at = (address >> 2) * UINT64_C(0x9e3779b97f4a7c15) % cells->size;

	address &= ~UINT64_C(3);
	while (cells->cell[at].address && cells->cell[at].address != address)
		at = (at + 1) % cells->size;
	cells->cell[at].address = address;
	return &cells->cell[at];
}

static void event_note(struct cells *cells, const struct check_event *event)
{
	unsigned bytes = touches_memory(event) && event->size ? event->size : 1;

	for (unsigned at = 0; at < bytes && at < 64; at += 4) {
		struct cell *cell = cell_find(cells, event->address + at);

		cell->threads |= 1u << event->thread;
		cell->written |= event->kind == CHECK_EV_STORE || event->kind == CHECK_EV_RMW ||
		                 event->kind == CHECK_EV_WRITE || is_lock(event);
		cell->looked_at |= !(event->kind == CHECK_EV_RMW && event->order == __ATOMIC_RELAXED);
	}
}

static struct cells cells_of(const struct trace *trace)
{
	struct cells cells = { .size = (size_t)trace->count * 34 + 16 };

	cells.cell = memory_get(cells.size * sizeof(*cells.cell));
	for (unsigned i = 0; i < trace->count; i++)
		if (trace->event[i].thread >= 0 && (touches_memory(&trace->event[i]) || is_lock(&trace->event[i])))
			event_note(&cells, &trace->event[i]);
	return cells;
}

static bool cell_is_shared(const struct cells *cells, uint64_t address)
{
	const struct cell *cell = cell_find(cells, address);

	return (cell->threads & (cell->threads - 1)) && cell->written && cell->looked_at;
}

/*
 * A load that tells its thread nothing new: it read the same store as the thread's last
 * load, or the thread's own store.
 */
static bool is_old_news(const struct check_event *event, const struct trace *trace, const struct cells *cells)
{
	int *last = event->thread >= 0 && event->thread < PICTURE_THREADS
	                    ? &cell_find(cells, event->address)->last_read[event->thread]
	                    : NULL;
	bool again = last && *last == event->reads_from + 2;

	if (event->kind != CHECK_EV_LOAD || event->stale || event->weakened || !last)
		return false;
	*last = event->reads_from + 2;
	for (unsigned i = (unsigned)(event->reads_from < 0 ? 0 : event->reads_from);
	     event->reads_from >= 0 && i < trace->count; i++)
		if (trace->event[i].step == (unsigned)event->reads_from)
			return again || trace->event[i].thread == event->thread;
	return again;
}

/*
 * Plain data of the library concerns one thread as long as there is no race: the picture shows what orders it. Plain
 * data of a scenario, or of a program, is what that is about.
 */
static bool is_of_scenario(const struct row *row)
{
	return strncmp(row_place(row)->file, "core/", 5) != 0 && strncmp(row_place(row)->file, "port/", 5) != 0;
}

static bool event_is_shared(const struct check_event *event, const struct row *row, const struct cells *cells,
                            uint64_t race_address)
{
	switch (event->kind) {
	case CHECK_EV_FENCE:
	case CHECK_EV_SYNC_BEGIN:
	case CHECK_EV_SYNC_END:
	case CHECK_EV_WAIT:
	case CHECK_EV_WAKE:
	case CHECK_EV_BLOCK:
	case CHECK_EV_CHOOSE:
	case CHECK_EV_LOG:
	case CHECK_EV_FAIL:
		return true;
	case CHECK_EV_LOCK:
	case CHECK_EV_UNLOCK:
		return event->weakened || cell_is_shared(cells, event->address);
	case CHECK_EV_READ:
	case CHECK_EV_WRITE:
		return !location_is_shim(event->pc) &&
		       ((is_of_scenario(row) && cell_is_shared(cells, event->address)) ||
		        (race_address && event->address / 8 == race_address / 8));
	case CHECK_EV_FREE:
		return race_address && event->address <= race_address && race_address - event->address < 4096;
	default:
		return event->weakened || (touches_memory(event) && cell_is_shared(cells, event->address));
	}
}

void concern_mark(struct picture *picture, const struct trace *trace, uint64_t race_address)
{
	struct cells cells = cells_of(trace);

	for (unsigned i = 0; i < trace->count; i++)
		picture->row[i].shared = event_is_shared(&trace->event[i], &picture->row[i], &cells, race_address) &&
		                         !is_old_news(&trace->event[i], trace, &cells);
	free(cells.cell);
}
