/* SPDX-License-Identifier: MIT */
/* From the events of a replay to the rows of a picture: what each is called, and which of them matter to more than one thread. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check/report/location.h"
#include "check/report/memory.h"
#include "check/report/picture.h"
#include "check/report/seam.h"
#include "check/runtime/search.h"
#include "check/runtime/trace.h"

#define FINISH_ROWS 8 /* shown of what finish does before it fails */

struct trace {
	struct check_event *event;
	unsigned count, room;
};

static void event_keep(void *arg, const struct check_event *event)
{
	struct trace *trace = arg;

	if (event->thread < 0 && !trace->count)
		return; /* setup */
	if (trace->count == trace->room) {
		trace->room = trace->room ? trace->room * 2 : 1024;
		trace->event = memory_resize(trace->event, trace->room * sizeof(*trace->event));
	}
	trace->event[trace->count] = *event;
	trace->event[trace->count++].text = event->text ? memory_text(event->text) : NULL;
}

/* --- words --- */

static const char *format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

static const char *format(const char *pattern, ...)
{
	char text[512];
	va_list args;

	va_start(args, pattern);
	vsnprintf(text, sizeof(text), pattern, args);
	va_end(args);
	return memory_text(text);
}

static const char *value_text(uint64_t value)
{
	return value < 4096 ? format("%llu", (unsigned long long)value) : format("%#llx", (unsigned long long)value);
}

static const struct {
	const char *verb;
	enum row_kind kind;
	bool ordered; /* the verb goes with a memory order */
} words[] = {
	[CHECK_EV_LOAD] = { "load", ROW_READ, true },
	[CHECK_EV_STORE] = { "store", ROW_WRITE, true },
	[CHECK_EV_RMW] = { "update", ROW_UPDATE, true },
	[CHECK_EV_CAS_FAILED] = { "compare, not swapped", ROW_READ, false },
	[CHECK_EV_FENCE] = { "fence", ROW_FENCE, true },
	[CHECK_EV_READ] = { "read", ROW_READ, false },
	[CHECK_EV_WRITE] = { "write", ROW_WRITE, false },
	[CHECK_EV_ALLOC] = { "allocate", ROW_MEMORY, false },
	[CHECK_EV_FREE] = { "free", ROW_MEMORY, false },
	[CHECK_EV_LOCK] = { "lock", ROW_LOCK, false },
	[CHECK_EV_UNLOCK] = { "unlock", ROW_LOCK, false },
	[CHECK_EV_RCU_LOCK] = { "read section begins", ROW_LOCK, false },
	[CHECK_EV_RCU_UNLOCK] = { "read section ends", ROW_LOCK, false },
	[CHECK_EV_SYNC_BEGIN] = { "grace period begins", ROW_LOCK, false },
	[CHECK_EV_SYNC_END] = { "grace period is over", ROW_LOCK, false },
	[CHECK_EV_RCU_CALL] = { "freed after a grace period", ROW_MEMORY, false },
	[CHECK_EV_WAIT] = { "sleeps on", ROW_LOCK, false },
	[CHECK_EV_WAKE] = { "wakes", ROW_LOCK, false },
	[CHECK_EV_BLOCK] = { "stands still at", ROW_LOCK, false },
	[CHECK_EV_UNBLOCK] = { "goes on", ROW_LOCK, false },
	[CHECK_EV_PAUSE] = { "pause", ROW_LOCK, false },
	[CHECK_EV_CHOOSE] = { "choice", ROW_NOTE, false },
	[CHECK_EV_BEGIN] = { "begins", ROW_NOTE, false },
	[CHECK_EV_END] = { "ends", ROW_NOTE, false },
	[CHECK_EV_LOG] = { "", ROW_NOTE, false },
	[CHECK_EV_FAIL] = { "", ROW_FAIL, false },
};

/* The compiler is started in the build directory. */
static const char *without_dots(const char *text)
{
	return memory_text(!strncmp(text, "../", 3) ? text + 3 : text);
}

static const char *event_verb(const struct check_event *event)
{
	if (event->text)
		return without_dots(event->text);
	if (event->kind == CHECK_EV_LOCK)
		return event->value ? "lock" : "lock, shared";
	if (!words[event->kind].ordered)
		return words[event->kind].verb;
	return format("%s %s", words[event->kind].verb, seam_order_name(event->order));
}

static const char *event_value(const struct check_event *event)
{
	switch (event->kind) {
	case CHECK_EV_LOAD:
	case CHECK_EV_CAS_FAILED:
	case CHECK_EV_READ:
		return value_text(event->old);
	case CHECK_EV_STORE:
		return value_text(event->value);
	case CHECK_EV_RMW:
		return format("%s → %s", value_text(event->old), value_text(event->value));
	case CHECK_EV_CHOOSE:
		return format("%llu of %llu", (unsigned long long)event->value, (unsigned long long)event->old);
	case CHECK_EV_ALLOC:
		return format("%llu bytes", (unsigned long long)event->value);
	default:
		return "";
	}
}

/* --- which events concern more than one thread --- */

/* Four bytes of memory, or an abstract lock: who came to it. */
struct cell {
	uint64_t address;
	unsigned threads;        /* mask */
	bool written, looked_at; /* other than by a relaxed read-modify-write: counters are nobody's business */
	int last_read[PICTURE_THREADS]; /* by each: the step of the store + 2; 0: nothing */
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
		cell->written |= event->kind == CHECK_EV_STORE || event->kind == CHECK_EV_RMW || event->kind == CHECK_EV_WRITE || is_lock(event);
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

/* A load that tells its thread nothing new: what it read last time, or what it stored itself. */
static bool is_old_news(const struct check_event *event, const struct trace *trace, const struct cells *cells)
{
	int *last = event->thread >= 0 && event->thread < PICTURE_THREADS ? &cell_find(cells, event->address)->last_read[event->thread] : NULL;
	bool again = last && *last == event->reads_from + 2;

	if (event->kind != CHECK_EV_LOAD || event->stale || event->weakened || !last)
		return false;
	*last = event->reads_from + 2;
	for (unsigned i = (unsigned)(event->reads_from < 0 ? 0 : event->reads_from); event->reads_from >= 0 && i < trace->count; i++)
		if (trace->event[i].step == (unsigned)event->reads_from)
			return again || trace->event[i].thread == event->thread;
	return again;
}

/* Plain data of the library is a thread's own business as long as it does not race: what orders it is what is shown. That of a scenario is what it is about. */
static bool is_of_scenario(const struct row *row)
{
	return !strncmp(row_place(row)->file, "check/scenario/", 15);
}

static bool event_is_shared(const struct check_event *event, const struct row *row, const struct cells *cells, uint64_t race_address)
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
		return (is_of_scenario(row) && cell_is_shared(cells, event->address)) || (race_address && event->address / 8 == race_address / 8);
	case CHECK_EV_FREE:
		return race_address && event->address <= race_address && race_address - event->address < 4096;
	default:
		return event->weakened || (touches_memory(event) && cell_is_shared(cells, event->address));
	}
}

/* --- rows --- */

static struct row row_of(const struct check_event *event)
{
	struct row row = {
		.step = event->step,
		.thread = event->thread,
		.kind = words[event->kind].kind,
		.verb = event_verb(event),
		.object = "",
		.value = event_value(event),
		.from = -1,
		.stale = event->stale && event->kind != CHECK_EV_STORE && event->kind != CHECK_EV_RMW,
		.address = event->address,
	};

	row.source = location_source(event, &row.place);
	if (event->address && event->kind != CHECK_EV_FAIL && event->kind != CHECK_EV_LOG)
		row.object = location_name(event, row.source, row.place);
	if (event->kind == CHECK_EV_FAIL)
		row.mark = MARK_FAIL;
	if (event->kind == CHECK_EV_BLOCK || event->kind == CHECK_EV_WAIT)
		row.mark = MARK_BLOCK;
	if (event->weakened)
		row.note = event->kind == CHECK_EV_FENCE ? "dropped" : event->kind == CHECK_EV_LOCK ? "not taken" : "made weaker";
	else if (event->kind == CHECK_EV_STORE && event->stale)
		row.note = "placed before newer stores";
	return row;
}

/* Steps are numbers of events, and so of rows; but a row may be missing. */
static int row_of_step(const struct picture *picture, int step)
{
	for (unsigned i = picture->count; step >= 0 && i-- > 0;)
		if (picture->row[i].step == (unsigned)step)
			return (int)i;
	return -1;
}

/* Up to its first operation that others can see, a thread has no turn: it is only made ready. */
static bool is_turn(const struct check_event *event)
{
	return event->kind != CHECK_EV_BEGIN && event->kind != CHECK_EV_READ && event->kind != CHECK_EV_WRITE && event->kind != CHECK_EV_ALLOC &&
	       event->kind != CHECK_EV_FREE && event->kind != CHECK_EV_LOG && event->kind != CHECK_EV_UNBLOCK && event->kind != CHECK_EV_FAIL;
}

static void switches_count(struct picture *picture, const struct trace *trace)
{
	const struct check_event *last = NULL;

	for (unsigned i = 0; i < trace->count; i++) {
		const struct check_event *event = &trace->event[i];

		if (event->thread < 0 || !is_turn(event))
			continue;
		if (event->kind != CHECK_EV_FENCE && event->stale && event->kind != CHECK_EV_STORE)
			picture->stale_reads++;
		if (last && last->thread != event->thread) {
			picture->switches++;
			picture->preemptions += last->kind != CHECK_EV_END && last->kind != CHECK_EV_BLOCK && last->kind != CHECK_EV_WAIT;
		}
		last = event;
	}
}

static int race_row(const struct picture *picture, const struct trace *trace, uint32_t pc, int thread)
{
	for (unsigned i = picture->count; i-- > 0;)
		if (trace->event[i].pc == pc && trace->event[i].thread == thread && trace->event[i].kind != CHECK_EV_FAIL)
			return (int)i;
	return -1;
}

/* "first_root, page.c:222" */
static const char *party_text(const struct picture *picture, uint32_t pc, int thread)
{
	const struct source *source = source_of_return(pc);
	const struct source_place *place;
	unsigned frame;

	location_frame(source, &frame);
	place = source->depth ? &source->place[frame] : NULL;
	return format("%s, at %s:%u", thread >= 0 && thread < (int)picture->threads ? picture->thread_name[thread] : "finish",
	              place ? source_shown(place->file) : "?", place ? place->line : 0);
}

/* Where a thread stood last, outside the wrappers. */
static const struct source_place *last_place(const struct picture *picture, int thread)
{
	for (unsigned i = picture->count; i-- > 0;)
		if (picture->row[i].thread == thread && picture->row[i].kind != ROW_FAIL && row_place(&picture->row[i])->line)
			return row_place(&picture->row[i]);
	return NULL;
}

/* "pc 0x4116ec", said of a thread: the file and line. A pc in a wrapper says less than where the thread was last. */
static const char *pc_text(const struct picture *picture, uint32_t pc, int thread)
{
	const struct source *source = source_of_return(pc);
	const struct source_place *place = NULL;
	unsigned frame;

	if (source->depth && (location_frame(source, &frame) || !(place = last_place(picture, thread))))
		place = &source->place[frame];
	return place ? format("%s:%u", source_shown(place->file), place->line) : format("pc %#x", pc);
}

/* What the runtime says, in one line, with names for "thread 1" and "pc 0x4116ec". */
static const char *message_text(const struct picture *picture, const char *message)
{
	char text[2048];
	size_t used = 0;
	int thread = -1;

	while (*message && used < sizeof(text) - 256) {
		unsigned number;
		int length = 0;

		if (sscanf(message, "thread %u%n", &number, &length) == 1 && number < picture->threads) {
			thread = (int)number;
			used += (size_t)snprintf(text + used, 128, "%s", picture->thread_name[number]);
		} else if (sscanf(message, "pc 0x%x%n", &number, &length) == 1) {
			used += (size_t)snprintf(text + used, 200, "%s", pc_text(picture, number, thread));
		} else if (!strncmp(message, "thread -1", 9)) {
			used += (size_t)snprintf(text + used, 64, "finish");
			length = 9;
		} else if (*message == '\n') {
			length = (int)strspn(message, "\n ");
			used += (size_t)snprintf(text + used, 4, "%s", !message[length] ? "" : used && text[used - 1] == ':' ? " " : "; ");
		} else {
			text[used++] = *message;
			length = 1;
		}
		message += length;
	}
	text[used] = '\0';
	return memory_text(text);
}

/* The two accesses are marked; the later one is the failure itself, which is shown where it is written. */
static void race_mark(struct picture *picture, const struct trace *trace, const struct check_result *result)
{
	struct row *last = picture->count ? &picture->row[picture->count - 1] : NULL;
	int earlier = race_row(picture, trace, result->race_pc[0], result->race_thread[0]);

	if ((result->verdict != CHECK_RACE && result->verdict != CHECK_USE_AFTER_FREE) || !last || !result->race_pc[1])
		return;
	if (earlier >= 0) {
		picture->row[earlier].mark = MARK_RACE;
		picture->row[earlier].shared = true;
	}
	last->mark = MARK_RACE;
	last->source = source_of_return(result->race_pc[1]);
	location_frame(last->source, &last->place);
	last->verb = format("%s", check_verdict_name(result->verdict));
	if (earlier >= 0)
		last->object = picture->row[earlier].object;
	picture->message = result->verdict == CHECK_RACE
	                           ? format("nothing orders %s, and %s, which access %s", party_text(picture, result->race_pc[0], result->race_thread[0]),
	                                    party_text(picture, result->race_pc[1], result->race_thread[1]), earlier >= 0 ? last->object : "the same memory")
	                           : format("%s, uses what was freed; %s", party_text(picture, result->race_pc[1], result->race_thread[1]),
	                                    message_text(picture, result->message));
}

/* What finish does is a long taking apart: only its end is of interest, and only when it is what failed. */
static void finish_hide(struct picture *picture)
{
	bool failed = picture->count && picture->row[picture->count - 1].thread < 0;
	unsigned shown = 0;

	for (unsigned i = picture->count; i-- > 0;) {
		struct row *row = &picture->row[i];

		if (row->thread >= 0)
			continue;
		row->thread = -1;
		if (row->mark != MARK_FAIL && row->mark != MARK_RACE && row->kind != ROW_NOTE)
			row->shared = failed && row->shared && shown++ < FINISH_ROWS;
	}
}

/* Threads that only run what waited for a grace period have a column when something in it is of interest; else their rows go. */
static void columns_drop(struct picture *picture, unsigned threads)
{
	int *now_at = memory_get((picture->count + 1) * sizeof(*now_at));
	unsigned kept = 0, shown = threads;

	for (unsigned i = 0; i < picture->count; i++)
		if (picture->row[i].shared && picture->row[i].thread >= (int)shown)
			shown = (unsigned)picture->row[i].thread + 1;
	for (unsigned i = 0; i < picture->count; i++) {
		now_at[i] = picture->row[i].thread < (int)shown ? (int)kept : -1;
		if (now_at[i] >= 0)
			picture->row[kept++] = picture->row[i];
	}
	for (unsigned i = 0; i < kept; i++)
		if (picture->row[i].from >= 0)
			picture->row[i].from = now_at[picture->row[i].from];
	picture->threads = shown;
	picture->count = kept;
	free(now_at);
}

static void threads_name(struct picture *picture, const struct check_scenario *scenario, const struct trace *trace)
{
	picture->threads = scenario->threads;
	for (unsigned i = 0; i < trace->count; i++)
		if (trace->event[i].thread >= (int)picture->threads && trace->event[i].thread < PICTURE_THREADS)
			picture->threads = (unsigned)trace->event[i].thread + 1;
	for (unsigned i = 0; i < picture->threads; i++) {
		/* One past its beginning is inside it. */
		const struct source *source = i < scenario->threads ? source_of_return((uintptr_t)scenario->thread[i] + 1) : NULL;

		picture->thread_name[i] = source && source->depth ? source->place[source->depth - 1].function : "after a grace period";
	}
}

void picture_take(struct picture *picture, const struct check_scenario *scenario, const char *seed, bool tso, const struct check_weak *weak,
                  unsigned weak_count, struct check_result *result)
{
	struct trace trace = { NULL, 0, 0 };
	struct check_tracer tracer = { event_keep, true };
	struct check_search search = {
		.scenario = scenario,
		.strategy = CHECK_REPLAY,
		.model = tso ? CHECK_TSO : CHECK_C11,
		.stale = CHECK_NO_BOUND,
		.preemptions = CHECK_NO_BOUND,
		.replay = seed,
		.weak = weak,
		.weak_count = weak_count,
		.tracer = &tracer,
		.arg = &trace,
	};
	struct cells cells;

	check_run(&search, result);
	cells = cells_of(&trace);
	picture->row = memory_get(trace.count * sizeof(*picture->row));
	picture->count = trace.count;
	for (unsigned i = 0; i < trace.count; i++) {
		picture->row[i] = row_of(&trace.event[i]);
		picture->row[i].shared = event_is_shared(&trace.event[i], &picture->row[i], &cells, result->race_address) &&
		                         !is_old_news(&trace.event[i], &trace, &cells);
		picture->row[i].from = row_of_step(picture, trace.event[i].reads_from);
	}
	threads_name(picture, scenario, &trace);
	picture->message = message_text(picture, without_dots(result->message));
	if (picture->count && picture->row[picture->count - 1].kind == ROW_FAIL)
		picture->row[picture->count - 1].verb = picture->message;
	switches_count(picture, &trace);
	race_mark(picture, &trace, result);
	finish_hide(picture);
	columns_drop(picture, scenario->threads);
	picture->kind = check_verdict_name(result->verdict);
	free(cells.cell);
	free(trace.event);
}
