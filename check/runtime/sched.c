/* SPDX-License-Identifier: MIT */
/* One execution: its threads take turns, one operation at a time, until no thread can go on. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check/runtime/fibre.h"
#include "check/runtime/graph.h"
#include "check/runtime/heap.h"
#include "check/runtime/model.h"
#include "check/runtime/shadow.h"
#include "check/runtime/tell.h"

void rt_fail_note(enum check_verdict verdict, const char *format, va_list args)
{
	if (rt.failed)
		return;
	rt.failed = rt.ended = true;
	rt.verdict = verdict;
	vsnprintf(rt.message, sizeof(rt.message), format, args);
	tell_fail();
}

static _Noreturn void leave(void)
{
	void *nowhere;

	rt.ended = true;
	fibre_switch(&nowhere, rt.main_sp);
	abort();
}

void rt_fail(enum check_verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	rt_fail_note(verdict, format, args);
	va_end(args);
	if (rt.mode == RT_IDLE) {
		dprintf(STDERR_FILENO, "vmmu-check: %s\n", rt.message);
		_exit(2);
	}
	leave();
}

void rt_give_up(bool blocked)
{
	rt.blocked = blocked;
	leave();
}

static void fail_here(enum check_verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	rt_fail_note(verdict, format, args);
	va_end(args);
}

/* ---- turns ---------------------------------------------------------------------------------------- */

static bool is_ready(unsigned thread)
{
	const struct thread *t = &rt.thread[thread];

	if (t->state != TH_RUNS)
		return false;
	switch (t->op->kind) {
	case OP_AWAIT:
	case OP_AWAIT_RMW: return model_ready(thread);
	case OP_PAUSE: return !model_spins(thread);
	default: return true;
	}
}

static int pick(void)
{
	unsigned ready = 0;

	if (rt.graph)
		return graph_next();
	for (unsigned t = 0; t < rt.thread_limit; t++)
		if (is_ready(t))
			ready |= 1u << t;
	return ready ? (int)rt.strategy->thread(ready) : -1;
}

static void go(int next, void **from)
{
	if (next < 0)
		fibre_switch(from, rt.main_sp);
	if (next == rt.self)
		return;
	rt.self = next;
	fibre_switch(from, rt.thread[next].sp);
}

static void go_back_to_starter(void **from)
{
	void **to = rt.starter;

	rt.starter = NULL;
	fibre_switch(from, *to);
}

void rt_point(void)
{
	struct thread *t = self_thread();

	rt.points++;
	rt.ticks++;
	rt.plain = 0;
	if (unlikely(rt.starter != NULL))
		go_back_to_starter(&t->sp);
	if (t->state == TH_RUNS || rt.mode == RT_THREADS)
		go(pick(), &t->sp);
}

static void thread_main(void)
{
	struct thread *t = self_thread();

	t->entry();
	t->state = TH_DONE;
	tell_end();
	if (rt.probing)
		rt_give_up(true);
	if (rt.starter)
		go_back_to_starter(&t->sp);
	go(pick(), &t->sp);
	abort();
}

void rt_begin_thread(unsigned thread, void (*entry)(void), vclock clock, vclock porf)
{
	struct thread *t = &rt.thread[thread];
	int self = rt.self;
	void **starter = rt.starter;

	t->clock = t->start_clock = clock;
	t->clock[thread] = 1;
	t->porf = porf;
	t->porf[thread] = 0;
	t->fence_release = t->fence_acquire = (vclock){ 0 };
	t->state = TH_RUNS;
	t->entry = entry;
	t->sp = fibre_make(thread, thread_main);
	if (thread >= rt.thread_limit)
		rt.thread_limit = thread + 1;
	rt.self = (int)thread;
	tell_begin();
	rt.starter = self >= 0 ? &rt.thread[self].sp : &rt.main_sp;
	fibre_switch(rt.starter, t->sp);
	rt.starter = starter;
	rt.self = self;
}

/* ---- one execution -------------------------------------------------------------------------------- */

static void reset(void)
{
	if (++rt.execution == 0)
		shadow_forget();
	rt.ended = rt.failed = rt.blocked = rt.probing = rt.pruned = rt.freeing = false;
	rt.points = 0;
	rt.plain = 0;
	rt.choice_count = 0;
	rt.location_count = rt.store_used = rt.cell_count = 0;
	rt.sc_events = 0;
	rt.thread_limit = rt.thread_count;
	rt.starter = NULL;
	rt.self = -1;
	for (unsigned i = 0; i < THREADS; i++) {
		struct thread *t = &rt.thread[i];

		t->state = TH_NONE;
		t->count = 0;
		t->sc_count = 0;
		t->spin_count = t->turn_count = t->visit_count = t->depth = 0;
		t->spin_overflow = t->writing = t->yielded = t->probed = false;
	}
	heap_reset();
}

static void stack_add(char *text, size_t room, const char *more)
{
	strncat(text, more, room - strlen(text) - 1);
}

static const char *waits_for(unsigned thread, char *text, size_t room)
{
	const struct op *op = rt.thread[thread].op;
	uint64_t at = op->address & 0x0000ffffffffffffull;
	const char *name = check_name_of(at);

	if (op->kind == OP_PAUSE)
		snprintf(text, room, "thread %u spins (pc %#x): nobody will store what it looks at", thread, op->pc);
	else if (at < THREADS) /* the end of a thread (begin.c) */
		snprintf(text, room, "thread %u waits for %s %lu (pc %#x)", thread, op->waits_for, (unsigned long)at,
		         op->pc);
	else
		snprintf(text, room, "thread %u waits for %s %#lx%s%s (pc %#x)", thread,
		         op->waits_for ? op->waits_for : "work",
		         (unsigned long)at, name ? " " : "", name ? name : "",
		         op->pc);
	return text;
}

static bool is_idle(unsigned thread)
{
	const struct op *op = rt.thread[thread].op;

	return op->kind == OP_AWAIT && !op->waits_for;
}

/* In a graph search: would the thread stand still even after reading the newest stores? */
static bool stands_for_good(unsigned thread)
{
	const struct thread *t = &rt.thread[thread];
	const struct event *e = &rt.event[thread][t->count];
	const struct location *l = &rt.location[e->location];

	if (!rt.graph)
		return true;
	if (t->op->kind == OP_PAUSE)
		return model_spins(thread);
	return l->store[l->count - 1] == e->from;
}

/* No thread can go on. Returns: true if that is as it should be. */
static bool all_ended(void)
{
	char text[sizeof(rt.message) - 64], line[160];
	bool waiting = false, good = !rt.pruned;

	text[0] = 0;
	for (unsigned t = 0; t < rt.thread_limit; t++) {
		if (rt.thread[t].state == TH_NONE || rt.thread[t].state == TH_DONE)
			continue;
		good = good && stands_for_good(t);
		if (is_idle(t))
			continue;
		waiting = true;
		stack_add(text, sizeof(text), "\n  ");
		stack_add(text, sizeof(text), waits_for(t, line, sizeof(line)));
	}
	if (!good) {
		rt.blocked = rt.ended = true;
		return false;
	}
	if (waiting)
		fail_here(CHECK_DEADLOCK, "deadlock:%s", text);
	return !waiting;
}

static void finish_main(void)
{
	rt.search->scenario->finish();
	leave();
}

static void setup_main(void)
{
	rt.search->scenario->setup();
	leave();
}

/* Run fn alone, on its own stack. */
static void alone(enum rt_mode mode, void (*fn)(void))
{
	void *sp = fibre_make(THREADS, fn);

	rt.mode = mode;
	rt.self = -1;
	rt.thread[THREADS].depth = 0;
	fibre_switch(&rt.main_sp, sp);
	rt.ended = rt.failed;
}

bool rt_setup(void)
{
	rt.thread[THREADS].arena_used = 0;
	rt.thread[THREADS].block_count = 0;
	heap_keep_setup();
	shadow_forget_counters();
	reset();
	if (rt.search->scenario->setup)
		alone(RT_SETUP, setup_main);
	rt.mode = RT_IDLE;
	heap_keep_setup();
	shadow_keep_setup();
	return !rt.failed;
}

/* A fibre gives the first turn, like all others, so that a failure in it leads back here. */
static void first_turn(void)
{
	void *nowhere;

	go(pick(), &nowhere);
	abort();
}

static void work(void)
{
	const struct check_scenario *scenario = rt.search->scenario;

	scenario->work[rt.self](scenario->arg[rt.self]);
}

static void run_threads(void)
{
	rt.mode = RT_THREADS;
	for (unsigned t = 0; t < rt.search->scenario->threads && !rt.ended; t++)
		rt_begin_thread(t, rt.search->scenario->thread[t] ? rt.search->scenario->thread[t] : work,
		                (vclock){ 0 }, (vclock){ 0 });
	if (rt.ended)
		return;
	rt.self = -1;
	fibre_switch(&rt.main_sp, fibre_make(THREADS, first_turn));
	rt.self = -1;
}

void rt_execute(void)
{
	reset();
	run_threads();
	if (!rt.ended && all_ended()) {
		if (rt.search->scenario->finish)
			alone(RT_FINISH, finish_main);
		if (!rt.failed)
			heap_check_leaks();
	}
	rt.mode = RT_IDLE;
	shadow_restore();
}
