/* SPDX-License-Identifier: MIT */
/* Makes the rows of a picture from the events of a replay. */
#include <stdio.h>
#include <string.h>

#include "check/report/concern.h"
#include "check/report/location.h"
#include "check/report/lost.h"
#include "check/report/memory.h"
#include "check/report/picture.h"
#include "check/report/words.h"
#include "check/runtime/search.h"

#define FINISH_ROWS 8 /* how many rows of finish are shown before it fails */

static void event_keep(void *arg, const struct check_event *event)
{
	struct trace *trace = arg;

	if (event->thread < 0 && !trace->count)
		return; /* an event of setup */
	if (trace->count == trace->room) {
		trace->room = trace->room ? trace->room * 2 : 1024;
		trace->event = memory_resize(trace->event, trace->room * sizeof(*trace->event));
	}
	trace->event[trace->count] = *event;
	trace->event[trace->count++].text = event->text ? memory_text(event->text) : NULL;
}

/* --- rows --- */

static struct row row_of(const struct check_event *event)
{
	struct row row = {
		.step = event->step,
		.thread = event->thread,
		.kind = words_kind(event),
		.verb = words_verb(event),
		.object = "",
		.value = words_value(event),
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
		row.note = event->kind == CHECK_EV_FENCE  ? "dropped"
		           : event->kind == CHECK_EV_LOCK ? "not taken"
		                                          : "made weaker";
	else if (event->kind == CHECK_EV_STORE && event->stale)
		row.note = "placed before newer stores";
	return row;
}

/* The row of a step. A step is the number of an event; its row may be missing. */
static int row_of_step(const struct picture *picture, int step)
{
	for (unsigned i = picture->count; step >= 0 && i-- > 0;)
		if (picture->row[i].step == (unsigned)step)
			return (int)i;
	return -1;
}

/* A thread that runs up to its first visible operation is only made ready: that is no turn. */
static bool is_turn(const struct check_event *event)
{
	return event->kind != CHECK_EV_BEGIN && event->kind != CHECK_EV_READ && event->kind != CHECK_EV_WRITE &&
	       event->kind != CHECK_EV_ALLOC && event->kind != CHECK_EV_FREE && event->kind != CHECK_EV_LOG &&
	       event->kind != CHECK_EV_UNBLOCK && event->kind != CHECK_EV_FAIL;
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
			picture->preemptions += last->kind != CHECK_EV_END && last->kind != CHECK_EV_BLOCK &&
			                        last->kind != CHECK_EV_WAIT;
		}
		last = event;
	}
}

static int race_row(const struct picture *picture, const struct trace *trace, uint32_t pc, int thread)
{
	for (unsigned i = picture->count; i-- > 0;)
		if (trace->event[i].pc == pc && trace->event[i].thread == thread &&
		    trace->event[i].kind != CHECK_EV_FAIL)
			return (int)i;
	return -1;
}

/* Mark the two accesses of a race. The later one is the failure itself, shown where it is written. */
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
	last->verb = words_format("%s", check_verdict_name(result->verdict));
	if (earlier >= 0)
		last->object = picture->row[earlier].object;
	picture->message = result->verdict == CHECK_RACE
	                           ? words_format("nothing orders %s, and %s, which access %s",
	                                          words_party(picture, result->race_pc[0], result->race_thread[0]),
	                                          words_party(picture, result->race_pc[1], result->race_thread[1]),
	                                          earlier >= 0 ? last->object : "the same memory")
	                           : words_format("%s, uses what was freed; %s",
	                                          words_party(picture, result->race_pc[1], result->race_thread[1]),
	                                          words_message(picture, result->message));
}

/* finish mostly takes the scenario apart. Show only the end of it, and only when finish failed. */
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

/*
 * A thread that only runs calls after grace periods has a column when one of its rows is of
 * interest. Else its rows are dropped.
 */
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
		/* One byte after a function's beginning is inside the function. */
		const void *fn = check_thread_fn(i);
		const struct source *source = fn ? source_of_return((uintptr_t)fn + 1) : NULL;

		picture->thread_name[i] = source && source->depth ? source->place[source->depth - 1].function
		                                                  : "after a grace period";
		if (scenario->more && i)
			picture->thread_name[i] = words_format("%s, thread %u", picture->thread_name[i], i);
	}
}

#define ALONE_ROWS 48 /* how many rows of a failure that one thread makes alone */

/* When nothing concerns two threads, the end of what each thread did is the picture. */
static void alone_show(struct picture *picture, const struct trace *trace)
{
	unsigned shown = 0;

	for (unsigned i = 0; i < picture->count; i++)
		if (picture->row[i].shared && picture->row[i].thread >= 0 && trace->event[i].kind != CHECK_EV_FAIL)
			return;
	for (unsigned i = picture->count; i-- > 0 && shown < ALONE_ROWS;)
		if (picture->row[i].thread >= 0 && !picture->row[i].shared) {
			picture->row[i].shared = true;
			shown++;
		}
}

void picture_take(struct picture *picture, const struct check_scenario *scenario, const char *seed, bool tso,
                  const struct check_weak *weak, unsigned weak_count, struct check_result *result)
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

	check_run(&search, result);
	picture->row = memory_get(trace.count * sizeof(*picture->row));
	picture->count = trace.count;
	for (unsigned i = 0; i < trace.count; i++) {
		picture->row[i] = row_of(&trace.event[i]);
		picture->row[i].from = row_of_step(picture, trace.event[i].reads_from);
	}
	concern_mark(picture, &trace, result->race_address);
	alone_show(picture, &trace);
	lost_mark(picture, &trace);
	threads_name(picture, scenario, &trace);
	picture->message = words_message(picture, words_without_dots(result->message));
	if (picture->count && picture->row[picture->count - 1].kind == ROW_FAIL)
		picture->row[picture->count - 1].verb = picture->message;
	switches_count(picture, &trace);
	race_mark(picture, &trace, result);
	finish_hide(picture);
	columns_drop(picture, scenario->threads);
	picture->kind = check_verdict_name(result->verdict);
	free(trace.event);
}
