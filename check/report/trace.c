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

static const char *event_verb(const struct check_event *event)
{
	if (event->text)
		return event->text;
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

/* --- which places are shared --- */

struct word {
	uint64_t address; /* of 8 bytes */
	unsigned threads; /* mask of who accessed it */
	bool written, looked_at; /* other than by a relaxed read-modify-write: counters are nobody's business */
};

static bool touches_memory(const struct check_event *event)
{
	return event->kind <= CHECK_EV_WRITE && event->kind != CHECK_EV_FENCE && event->address;
}

static struct word *word_find(struct word *table, size_t size, uint64_t address)
{
	size_t at = (address >> 3) * UINT64_C(0x9e3779b97f4a7c15) % size;

	while (table[at].address && table[at].address != (address & ~UINT64_C(7)))
		at = (at + 1) % size;
	table[at].address = address & ~UINT64_C(7);
	return &table[at];
}

static struct word *words_of(const struct trace *trace, size_t *size)
{
	struct word *table;

	*size = (size_t)trace->count * 2 + 16;
	table = memory_get(*size * sizeof(*table));
	for (unsigned i = 0; i < trace->count; i++) {
		const struct check_event *event = &trace->event[i];
		struct word *word;

		if (!touches_memory(event) || event->thread < 0)
			continue;
		word = word_find(table, *size, event->address);
		word->threads |= 1u << event->thread;
		word->written |= event->kind == CHECK_EV_STORE || event->kind == CHECK_EV_RMW || event->kind == CHECK_EV_WRITE;
		word->looked_at |= !(event->kind == CHECK_EV_RMW && event->order == __ATOMIC_RELAXED);
	}
	return table;
}

static bool event_is_shared(const struct check_event *event, struct word *table, size_t size)
{
	switch (event->kind) {
	case CHECK_EV_FENCE:
	case CHECK_EV_LOCK:
	case CHECK_EV_UNLOCK:
	case CHECK_EV_SYNC_BEGIN:
	case CHECK_EV_SYNC_END:
	case CHECK_EV_WAIT:
	case CHECK_EV_WAKE:
	case CHECK_EV_BLOCK:
	case CHECK_EV_FREE:
	case CHECK_EV_CHOOSE:
	case CHECK_EV_LOG:
	case CHECK_EV_FAIL:
		return true;
	default:
		break;
	}
	if (touches_memory(event)) {
		const struct word *word = word_find(table, size, event->address);

		return (word->threads & (word->threads - 1)) && word->written && word->looked_at;
	}
	return event->weakened;
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

static void switches_count(struct picture *picture, const struct trace *trace)
{
	const struct check_event *last = NULL;

	for (unsigned i = 0; i < trace->count; i++) {
		const struct check_event *event = &trace->event[i];

		if (event->thread < 0)
			continue;
		if (event->kind != CHECK_EV_FENCE && event->stale && event->kind != CHECK_EV_STORE)
			picture->stale_reads++;
		if (last && last->thread != event->thread) {
			picture->switches++;
			picture->preemptions += last->kind != CHECK_EV_END && last->kind != CHECK_EV_BLOCK && last->kind != CHECK_EV_WAIT &&
			                        event->kind != CHECK_EV_BEGIN;
		}
		last = event;
	}
}

static void race_mark(struct picture *picture, const struct trace *trace, const struct check_result *result)
{
	if (result->verdict != CHECK_RACE && result->verdict != CHECK_USE_AFTER_FREE)
		return;
	for (unsigned party = 0; party < 2; party++)
		for (unsigned i = picture->count; i-- > 0;)
			if (trace->event[i].pc == result->race_pc[party] && trace->event[i].thread == result->race_thread[party] && result->race_pc[party] &&
			    picture->row[i].mark != MARK_RACE && trace->event[i].kind != CHECK_EV_FAIL) {
				picture->row[i].mark = MARK_RACE;
				picture->row[i].shared = true;
				break;
			}
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
	struct word *table;
	size_t size;

	check_run(&search, result);
	table = words_of(&trace, &size);
	picture->row = memory_get(trace.count * sizeof(*picture->row));
	picture->count = trace.count;
	for (unsigned i = 0; i < trace.count; i++) {
		picture->row[i] = row_of(&trace.event[i]);
		picture->row[i].shared = event_is_shared(&trace.event[i], table, size);
		picture->row[i].from = row_of_step(picture, trace.event[i].reads_from);
	}
	threads_name(picture, scenario, &trace);
	switches_count(picture, &trace);
	race_mark(picture, &trace, result);
	finish_hide(picture);
	picture->kind = check_verdict_name(result->verdict);
	picture->message = memory_text(result->message);
	free(table);
	free(trace.event);
}
