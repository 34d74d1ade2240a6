/* SPDX-License-Identifier: MIT */
/*
 * Searches that do not end: uniform random, and PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte, "A
 * Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). In PCT threads have
 * random priorities, and at `depth` random points the running thread falls to the lowest. Execution n of a
 * seed is the same wherever it runs.
 */
#include "check/runtime/rt.h"

#define POINTS_MAX 64

static uint64_t number, state;
static unsigned priority[THREADS];
static uint64_t change_at[POINTS_MAX];
static unsigned lowest;

static uint64_t random64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
	return (unsigned)((random64() >> 32) * n >> 32);
}

static void start(void)
{
	number = rt.search->first;
}

static bool next(void)
{
	state = rt.search->seed * 0xd1342543de82ef95ull + number;
	random64();
	number += rt.search->stride ? rt.search->stride : 1;
	return true;
}

static unsigned random_thread(unsigned ready)
{
	unsigned skip = below((unsigned)__builtin_popcount(ready));

	while (skip--)
		ready &= ready - 1;
	return (unsigned)__builtin_ctz(ready);
}

/* A load reads the newest store half of the time. Otherwise long executions would hardly ever see anything new. */
static unsigned option(unsigned count, bool costs)
{
	if (!costs)
		return below(count);
	if (!rt.stale_left || below(2))
		return 0;
	return below(count);
}

static bool pct_next(void)
{
	uint64_t length;

	next();
	length = 16u << below(8); /* the length of an execution is not known beforehand */
	for (unsigned t = 0; t < THREADS; t++)
		priority[t] = THREADS + t;
	for (unsigned t = THREADS; t-- > 1;) {
		unsigned other = below(t + 1), kept = priority[t];

		priority[t] = priority[other];
		priority[other] = kept;
	}
	for (unsigned i = 0; i < rt.search->depth && i < POINTS_MAX; i++)
		change_at[i] = 1 + below((unsigned)length);
	lowest = 1u << 20;
	for (unsigned t = 0; t < THREADS; t++)
		priority[t] += lowest;
	return true;
}

static unsigned pct_thread(unsigned ready)
{
	unsigned best = (unsigned)__builtin_ctz(ready);

	if (rt.self >= 0) {
		const struct thread *t = self_thread();
		bool fall = t->yielded || (t->op && t->op->kind == OP_PAUSE);

		for (unsigned i = 0; i < rt.search->depth && i < POINTS_MAX; i++)
			fall |= change_at[i] == rt.points;
		if (fall)
			priority[rt.self] = --lowest;
		self_thread()->yielded = false;
	}
	for (unsigned t = 0; t < THREADS; t++)
		if ((ready >> t & 1) && priority[t] > priority[best])
			best = t;
	return best;
}

static void done(void)
{
}

const struct strategy random_strategy = { start, next, random_thread, option, done };
const struct strategy pct_strategy = { start, pct_next, pct_thread, option, done };
