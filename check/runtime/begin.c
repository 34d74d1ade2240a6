/* SPDX-License-Identifier: MIT */
/*
 * Threads that threads begin. A begun thread has everything that its creator did before, by way of a store to an
 * abstract location; the thread that joins it reads the store that is its last step.
 */
#include "check/runtime/model.h"
#include "check/runtime/tell.h"

#define HERE ((uint32_t)(uintptr_t)__builtin_return_address(0))

enum { CLASS_BEGUN = 8, CLASS_ENDED = 9 };

static struct {
	void (*fn)(void *arg);
	void *arg;
} begun[THREADS];

static const void *shown[THREADS]; /* what check_thread_shows said; NULL: nothing */

/*
 * The number of a thread is that of the first who came: (creator, how many it has begun). It stays the same in all
 * executions of a scenario, in whatever order they run.
 */
static struct {
	int creator;
	unsigned nth;
} numbers[THREADS];
static unsigned known;
static const struct check_scenario *known_of;
static uint32_t counted_in[THREADS];
static unsigned counted[THREADS];

static unsigned number_of(int creator, uint32_t pc)
{
	const struct check_scenario *scenario = rt.search->scenario;
	unsigned nth;

	if (known_of != scenario) {
		known_of = scenario;
		known = 0;
	}
	if (counted_in[creator] != rt.execution) {
		counted_in[creator] = rt.execution;
		counted[creator] = 0;
	}
	nth = counted[creator]++;
	for (unsigned i = 0; i < known; i++)
		if (numbers[i].creator == creator && numbers[i].nth == nth)
			return scenario->threads + i;
	if (known == scenario->more)
		rt_fail(CHECK_LIMIT, "more than %u threads at work or begun one after the other (pc %#x)",
		        scenario->threads + scenario->more, pc);
	numbers[known].creator = creator;
	numbers[known].nth = nth;
	return scenario->threads + known++;
}

static struct op thread_op(enum operation kind, unsigned class, unsigned thread, uint32_t pc)
{
	return (struct op){ .kind = kind,
		            .size = 8,
		            .order = kind == OP_STORE ? __ATOMIC_RELEASE : __ATOMIC_ACQUIRE,
		            .abstract = true,
		            .address = (uint64_t)class << 56 | thread,
		            .operand = 1,
		            .shown = -1,
		            .pc = pc };
}

static void end(void)
{
	struct op op = thread_op(OP_STORE, CLASS_ENDED, (unsigned)rt.self, 0);

	model_do(&op);
}

static void entry(void)
{
	begun[rt.self].fn(begun[rt.self].arg);
	end();
}

unsigned check_thread_begin(void (*fn)(void *arg), void *arg)
{
	uint32_t pc = HERE;
	unsigned thread;
	struct op op;
	vclock clock;

	if (rt.mode != RT_THREADS)
		rt_fail(CHECK_LIMIT, "only threads begin threads");
	thread = number_of(rt.self, pc);
	op = thread_op(OP_STORE, CLASS_BEGUN, thread, pc);
	model_do(&op);
	shown[thread] = NULL;
	begun[thread].fn = fn;
	begun[thread].arg = arg;
	clock = self_thread()->clock;
	clock[rt.self]--;
	rt_begin_thread(thread, entry, clock, self_thread()->porf);
	return thread;
}

static bool has_ended(uint64_t value, uint64_t operand)
{
	return value == operand;
}

void check_thread_join(unsigned thread)
{
	struct op op = thread_op(OP_AWAIT, CLASS_ENDED, thread, HERE);

	if (rt.mode != RT_THREADS)
		return;
	op.ready = has_ended;
	op.waits_for = "the end of thread";
	model_do(&op);
}

void check_thread_exit(void)
{
	if (rt.mode != RT_THREADS)
		rt_fail(CHECK_LIMIT, "only threads exit");
	end();
	self_thread()->state = TH_DONE;
	tell_end();
	if (rt.probing)
		rt_give_up(true);
	rt_point();
	__builtin_unreachable();
}

void check_thread_shows(const void *fn)
{
	if (rt.mode == RT_THREADS)
		shown[rt.self] = fn;
}

const void *check_thread_fn(unsigned thread)
{
	const struct check_scenario *scenario = rt.search->scenario;

	if (thread < THREADS && shown[thread] && thread < scenario->threads + scenario->more)
		return shown[thread];
	if (thread < scenario->threads)
		return scenario->thread[thread] ? (const void *)(uintptr_t)scenario->thread[thread]
		                                : (const void *)(uintptr_t)scenario->work[thread];
	return thread < THREADS && thread < scenario->threads + scenario->more
	               ? (const void *)(uintptr_t)begun[thread].fn
	               : NULL;
}
