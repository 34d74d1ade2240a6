/* SPDX-License-Identifier: MIT */
/*
 * Every schedule and every choice of what loads read, depth first, within bounds and without reduction. It is slow
 * and simple; the graph search is compared with it. It also finds bugs within bounds, since a bound and a
 * reduction do not go together.
 */
#include "check/runtime/rt.h"

#define DEPTH (1u << 16)

struct node {
	uint8_t count, at;
	uint16_t print; /* of the choices there were: they must be the same when the search comes here again */
};

static struct node node[DEPTH];
static unsigned depth, deepest;
static unsigned preemptions_left;
static bool begun;

static void start(void)
{
	depth = deepest = 0;
	begun = false;
}

static bool next(void)
{
	preemptions_left = rt.search->preemptions;
	if (!begun) {
		begun = true;
		return true;
	}
	while (depth > 0 && node[depth - 1].at + 1u == node[depth - 1].count)
		depth--;
	if (depth == 0)
		return false;
	node[depth - 1].at++;
	deepest = depth;
	depth = 0;
	return true;
}

static struct node *enter(unsigned count, unsigned print)
{
	struct node *n = &node[depth];

	if (depth + 1 == DEPTH)
		rt_fail(CHECK_LIMIT, "more than %u choices in one execution", DEPTH);
	if (depth >= deepest) {
		n->count = (uint8_t)count;
		n->at = 0;
		n->print = (uint16_t)print;
	} else if (n->count != count || n->print != (uint16_t)print) {
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: choice %u is another one", depth);
	}
	depth++;
	return n;
}

/*
 * The order of threads: first the one that ran, then by number. Leaving a thread that could go on costs a preemption.
 */
static unsigned thread(unsigned ready)
{
	int self = rt.self >= 0 && (ready >> rt.self & 1) ? rt.self : -1;
	bool free = self < 0 || rt.thread[self].yielded || rt.thread[self].op->kind == OP_PAUSE;
	unsigned count = (unsigned)__builtin_popcount(ready), order[THREADS], n = 0;
	unsigned chosen;

	if (self >= 0) {
		order[n++] = (unsigned)self;
		rt.thread[self].yielded = false;
		if (!free && preemptions_left == 0)
			return (unsigned)self;
	}
	if (count == 1)
		return (unsigned)__builtin_ctz(ready);
	for (unsigned t = 0; t < THREADS; t++)
		if ((ready >> t & 1) && (int)t != self)
			order[n++] = t;
	chosen = enter(count, ready * 257 + (unsigned)(self + 1))->at;
	if (chosen && !free && preemptions_left != CHECK_NO_BOUND)
		preemptions_left--;
	return order[chosen];
}

static unsigned option(unsigned count, bool costs)
{
	if (costs && !rt.stale_left)
		return 0;
	return enter(count, 0x8000 + count)->at;
}

static void done(void)
{
}

const struct strategy dfs_strategy = { start, next, thread, option, done };
