/* SPDX-License-Identifier: MIT */
/*
 * Abstract grace periods. Each thread has a counter per domain, odd while it reads. Beginning and ending a section are read-modify-writes of one's own
 * counter, and a grace period begins with one, which changes nothing, of each: so every section and every grace period are ordered one way or the other, two readers
 * are not ordered by it, and happens-before goes along.
 */
#include "check/runtime/model.h"
#include "check/runtime/tell.h"
#include "check/runtime/weaken.h"

#define HERE    ((uint32_t)(uintptr_t)__builtin_return_address(0))
#define CALLS   64
#define DOMAINS 8

enum { CLASS_READER = 3, CLASS_CALLS = 4, CLASS_CALLED = 5 };

struct call {
	void (*fn)(void *arg);
	void *arg;
	const void *domain;
	uint64_t seen[THREADS]; /* counters when the grace period began */
};

/* A section that a weakened site did not begin is open for nobody: `skipped` has a bit for each level of nesting. */
static struct section {
	const void *domain;
	unsigned depth;   /* sections that were begun */
	unsigned nesting; /* those and the skipped ones */
	uint64_t skipped;
} sections[THREADS][DOMAINS];
static uint32_t sections_of[THREADS]; /* execution */
static struct call calls[THREADS][CALLS];
static unsigned call_count[THREADS];
static uint32_t calls_of[THREADS];

static uint64_t key(unsigned class, unsigned thread, const void *domain)
{
	return (uint64_t)class << 56 | (uint64_t)thread << 48 | (uint64_t)domain;
}

static uint64_t add(uint64_t value, uint64_t operand)
{
	return value + operand;
}

static bool differs(uint64_t value, uint64_t operand)
{
	return value != operand;
}

static bool at_least(uint64_t value, uint64_t operand)
{
	return value >= operand;
}

static uint64_t change(uint64_t address, uint64_t operand, int shown, uint32_t pc)
{
	struct op op = { .kind = OP_RMW, .size = 8, .order = __ATOMIC_ACQ_REL, .abstract = true, .address = address, .operand = operand,
		         .change = add, .shown = shown, .pc = pc, .caller = weaken_caller() };

	return model_do(&op);
}

static void await(uint64_t address, uint64_t operand, bool (*ready)(uint64_t, uint64_t), const char *what, uint32_t pc)
{
	struct op op = { .kind = OP_AWAIT, .size = 8, .order = __ATOMIC_ACQUIRE, .abstract = true, .address = address, .operand = operand,
		         .ready = ready, .waits_for = what, .shown = -1, .pc = pc, .caller = weaken_caller() };

	model_do(&op);
}

static struct section *section_of(const void *domain)
{
	if (sections_of[rt.self] != rt.execution) {
		sections_of[rt.self] = rt.execution;
		memset(sections[rt.self], 0, sizeof(sections[rt.self]));
	}
	for (unsigned i = 0; i < DOMAINS; i++) {
		if (!sections[rt.self][i].domain)
			sections[rt.self][i].domain = domain;
		if (sections[rt.self][i].domain == domain)
			return &sections[rt.self][i];
	}
	rt_fail(CHECK_LIMIT, "a thread reads in more than %u domains", DOMAINS);
}

void check_rcu_read_lock(const void *domain)
{
	struct op site = { .kind = OP_AWAIT_RMW, .order = __ATOMIC_ACQUIRE, .pc = HERE, .caller = weaken_caller() };
	struct section *section;
	uint64_t level;

	if (rt.mode != RT_THREADS)
		return;
	section = section_of(domain);
	if (section->nesting == 64)
		rt_fail(CHECK_LIMIT, "a thread nests more than 64 read sections");
	level = 1ull << section->nesting++;
	section->skipped &= ~level;
	if (weaken_drops_lock(&site))
		section->skipped |= level;
	else if (section->depth++ == 0)
		change(key(CLASS_READER, (unsigned)rt.self, domain), 1, CHECK_EV_RCU_LOCK + 1, HERE);
}

void check_rcu_read_unlock(const void *domain)
{
	struct section *section;

	if (rt.mode != RT_THREADS)
		return;
	section = section_of(domain);
	if (section->nesting == 0)
		rt_fail(CHECK_LOCKING, "thread %d ends a read section that it did not begin (pc %#x)", rt.self, HERE);
	if (section->skipped >> --section->nesting & 1)
		return;
	if (--section->depth == 0)
		change(key(CLASS_READER, (unsigned)rt.self, domain), 1, CHECK_EV_RCU_UNLOCK + 1, HERE);
}

bool check_rcu_held(const void *domain)
{
	return rt.mode != RT_THREADS || section_of(domain)->depth > 0;
}

void check_synchronize(const void *domain)
{
	uint64_t seen[THREADS];
	uint32_t pc = HERE;

	if (rt.mode != RT_THREADS)
		return;
	if (section_of(domain)->depth)
		rt_fail(CHECK_LOCKING, "thread %d waits for a grace period inside a read section (pc %#x)", rt.self, pc);
	for (int t = 0; t < (int)rt.thread_count; t++)
		if (t != rt.self)
			seen[t] = change(key(CLASS_READER, (unsigned)t, domain), 0, CHECK_EV_SYNC_BEGIN + 1, pc);
	for (int t = 0; t < (int)rt.thread_count; t++)
		if (t != rt.self && (seen[t] & 1))
			await(key(CLASS_READER, (unsigned)t, domain), seen[t], differs, "the end of a read section of", pc);
	if (telling())
		tell_simple(CHECK_EV_SYNC_END, (uint64_t)domain, 0, 0, 0, pc, NULL);
}

/* ---- calls ---------------------------------------------------------------------------------------- */

/* The thread that runs what `thread` has called for. */
static unsigned caller_of(unsigned thread)
{
	return thread < rt.thread_count ? thread : thread - rt.thread_count;
}

static void reclaimer(void)
{
	unsigned caller = caller_of((unsigned)rt.self);

	for (unsigned i = 0;; i++) {
		const struct call *call = &calls[caller][i];

		await(key(CLASS_CALLS, caller, NULL), i + 1, at_least, NULL, 0);
		for (unsigned t = 0; t < rt.thread_count; t++)
			if (call->seen[t] & 1)
				await(key(CLASS_READER, t, call->domain), call->seen[t], differs, "the end of a read section of", 0);
		call->fn(call->arg);
		change(key(CLASS_CALLED, caller, NULL), 1, -1, 0);
	}
}

void check_rcu_call(const void *domain, void (*fn)(void *arg), void *arg)
{
	uint32_t pc = HERE;
	unsigned caller, runner;
	struct call *call;

	if (rt.mode != RT_THREADS) {
		fn(arg);
		return;
	}
	caller = caller_of((unsigned)rt.self);
	runner = rt.thread_count + caller;
	if (runner >= THREADS)
		rt_fail(CHECK_LIMIT, "check_rcu_call: a scenario that uses it may have %u threads", THREADS / 2);
	if (calls_of[caller] != rt.execution) {
		calls_of[caller] = rt.execution;
		call_count[caller] = 0;
	}
	if (call_count[caller] == CALLS)
		rt_fail(CHECK_LIMIT, "thread %d makes more than %u calls after grace periods", rt.self, CALLS);
	call = &calls[caller][call_count[caller]++];
	*call = (struct call){ .fn = fn, .arg = arg, .domain = domain };
	for (unsigned t = 0; t < rt.thread_count; t++)
		call->seen[t] = change(key(CLASS_READER, t, domain), 0, -1, pc);
	change(key(CLASS_CALLS, caller, NULL), 1, CHECK_EV_RCU_CALL + 1, pc);
	if (rt.thread[runner].state == TH_NONE) {
		vclock clock = self_thread()->clock;

		clock[rt.self]--;
		rt_begin_thread(runner, reclaimer, clock, self_thread()->porf);
	}
}

void check_rcu_barrier(const void *domain)
{
	(void)domain;
	if (rt.mode != RT_THREADS)
		return;
	for (unsigned t = 0; t < rt.thread_count; t++) {
		struct op look = { .kind = OP_LOAD, .size = 8, .order = __ATOMIC_ACQUIRE, .abstract = true, .address = key(CLASS_CALLS, t, NULL),
			           .shown = -1, .pc = HERE };
		uint64_t made = model_do(&look);

		if (made)
			await(key(CLASS_CALLED, t, NULL), made, at_least, "calls to run that were made by", HERE);
	}
}
