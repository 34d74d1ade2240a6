/* SPDX-License-Identifier: MIT */
/*
 * Abstract grace periods. Each thread counts the sections that it began, per domain, by a read-modify-write. A grace
 * period begins with a read-modify-write of each thread's count that changes nothing. So it is ordered with the
 * beginning of each section, before or after, and happens-before follows; two readers stay unordered.
 *
 * Then the grace period waits for the end of the last section that it saw begin. The end is a store to a location of
 * that section alone. A call after a grace period is handed over, and reported done, in a location of its own as
 * well. A location with one store leaves nothing to explore.
 */
#include "check/runtime/model.h"
#include "check/runtime/tell.h"
#include "check/runtime/weaken.h"

#define HERE    ((uint32_t)(uintptr_t)__builtin_return_address(0))
#define CALLS   64
#define DOMAINS 8

enum { CLASS_SECTIONS = 3, CLASS_SECTION_END = 4, CLASS_CALL = 5, CLASS_CALLED = 6 };

struct call {
	void (*fn)(void *arg);
	void *arg;
	const void *domain;
	uint32_t pc;
	uint64_t seen[THREADS]; /* how many sections had begun when the grace period began */
};

/*
 * The sections of one thread. Nobody waits for a section whose begin a weakened site skipped: `skipped` has a
 * bit for each level of nesting.
 */
struct sections {
	const void *domain;
	unsigned begun;   /* how many began so far */
	unsigned depth;   /* how many are open, without the skipped ones */
	unsigned nesting; /* with the skipped ones */
	uint64_t skipped;
};

static struct sections sections[THREADS][DOMAINS];
static uint32_t sections_of[THREADS]; /* the execution they belong to */
static struct call calls[THREADS][CALLS];
static unsigned call_count[THREADS];
static uint32_t calls_of[THREADS];

static uint64_t key(unsigned class, unsigned thread, uint64_t number, const void *domain)
{
	return (uint64_t)class << 56 | (uint64_t)thread << 48 | (number & 0xffff) << 32 | (uint64_t)domain;
}

static uint64_t add(uint64_t value, uint64_t operand)
{
	return value + operand;
}

static bool is_set(uint64_t value, uint64_t operand)
{
	return value == operand;
}

static uint64_t change(uint64_t address, uint64_t operand, int shown, uint32_t pc)
{
	struct op op = {
		.kind = OP_RMW, .size = 8, .order = __ATOMIC_ACQ_REL, .abstract = true, .address = address,
		.operand = operand, .change = add, .shown = shown, .pc = pc, .caller = weaken_caller()
	};

	return model_do(&op);
}

static void set(uint64_t address, int shown, uint32_t pc)
{
	struct op op = {
		.kind = OP_STORE, .size = 8, .order = __ATOMIC_RELEASE, .abstract = true, .address = address,
		.operand = 1, .shown = shown, .pc = pc, .caller = weaken_caller()
	};

	model_do(&op);
}

static void await(uint64_t address, const char *what, uint32_t pc)
{
	struct op op = {
		.kind = OP_AWAIT, .size = 8, .order = __ATOMIC_ACQUIRE, .abstract = true, .address = address,
		.operand = 1, .ready = is_set, .waits_for = what, .shown = -1, .pc = pc,
		.caller = weaken_caller()
	};

	model_do(&op);
}

static struct sections *sections_in(const void *domain)
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
	struct sections *own;
	uint64_t level;

	if (rt.mode != RT_THREADS)
		return;
	own = sections_in(domain);
	if (own->nesting == 64)
		rt_fail(CHECK_LIMIT, "a thread nests more than 64 read sections");
	level = 1ull << own->nesting++;
	own->skipped &= ~level;
	if (weaken_drops_lock(&site)) {
		own->skipped |= level;
		return;
	}
	if (own->depth++)
		return;
	own->begun++;
	change(key(CLASS_SECTIONS, (unsigned)rt.self, 0, domain), 1, CHECK_EV_RCU_LOCK + 1, HERE);
}

void check_rcu_read_unlock(const void *domain)
{
	struct sections *own;

	if (rt.mode != RT_THREADS)
		return;
	own = sections_in(domain);
	if (own->nesting == 0)
		rt_fail(CHECK_LOCKING, "thread %d ends a read section that it did not begin (pc %#x)", rt.self, HERE);
	if (own->skipped >> --own->nesting & 1)
		return;
	if (--own->depth == 0)
		set(key(CLASS_SECTION_END, (unsigned)rt.self, own->begun, domain), CHECK_EV_RCU_UNLOCK + 1, HERE);
}

bool check_rcu_held(const void *domain)
{
	return rt.mode != RT_THREADS || sections_in(domain)->nesting > 0;
}

static void await_section(unsigned thread, uint64_t begun, const void *domain, uint32_t pc)
{
	if (begun)
		await(key(CLASS_SECTION_END, thread, begun, domain), "the end of a read section of", pc);
}

void check_synchronize(const void *domain)
{
	uint64_t seen[THREADS];
	uint32_t pc = HERE;

	if (rt.mode != RT_THREADS)
		return;
	if (sections_in(domain)->depth)
		rt_fail(CHECK_LOCKING, "thread %d waits for a grace period inside a read section (pc %#x)", rt.self,
		        pc);
	for (unsigned t = 0; t < rt.thread_count; t++)
		if ((int)t != rt.self)
			seen[t] = change(key(CLASS_SECTIONS, t, 0, domain), 0, CHECK_EV_SYNC_BEGIN + 1, pc);
	for (unsigned t = 0; t < rt.thread_count; t++)
		if ((int)t != rt.self)
			await_section(t, seen[t], domain, pc);
	if (telling())
		tell_simple(CHECK_EV_SYNC_END, (uint64_t)domain, 0, 0, 0, pc, NULL);
}

/* ---- calls ---------------------------------------------------------------------------------------- */

/* The thread that runs the calls of `thread`. */
static unsigned caller_of(unsigned thread)
{
	return thread < rt.thread_count ? thread : thread - rt.thread_count;
}

static void reclaimer(void)
{
	unsigned caller = caller_of((unsigned)rt.self);

	for (unsigned i = 0;; i++) {
		const struct call *call = &calls[caller][i];

		await(key(CLASS_CALL, caller, i, NULL), NULL, call->pc);
		for (unsigned t = 0; t < rt.thread_count; t++)
			await_section(t, call->seen[t], call->domain, call->pc);
		call->fn(call->arg);
		set(key(CLASS_CALLED, caller, i, NULL), -1, call->pc);
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
	*call = (struct call){ .fn = fn, .arg = arg, .domain = domain, .pc = pc };
	for (unsigned t = 0; t < rt.thread_count; t++)
		call->seen[t] = change(key(CLASS_SECTIONS, t, 0, domain), 0, -1, pc);
	set(key(CLASS_CALL, caller, (unsigned)(call - calls[caller]), NULL), CHECK_EV_RCU_CALL + 1, pc);
	if (rt.thread[runner].state == TH_NONE) {
		vclock clock = self_thread()->clock;

		clock[rt.self]--;
		rt_begin_thread(runner, reclaimer, clock, self_thread()->porf);
	}
}

/* Of other threads' calls, a barrier waits for those that its thread knows were made. What it sees is no choice. */
void check_rcu_barrier(const void *domain)
{
	(void)domain;
	if (rt.mode != RT_THREADS)
		return;
	for (unsigned t = 0; t < rt.thread_count; t++)
		for (unsigned i = 0; i < call_count[t] && calls_of[t] == rt.execution; i++)
			if (model_knows(key(CLASS_CALL, t, i, NULL)))
				await(key(CLASS_CALLED, t, i, NULL), "a call to run that was made by", HERE);
}
