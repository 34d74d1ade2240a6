/* SPDX-License-Identifier: MIT */
/*
 * x86's memory order as axioms. There is no cycle of
 *
 *     program order, except a store before a load with nothing between that empties the store buffer;
 *     reads-from between threads; modification order; from-read.
 *
 * The usual compilation: a seq_cst store is an exchange, a seq_cst fence is MFENCE, read-modify-writes are locked.
 * All other accesses are MOV, and other fences are nothing.
 */
#include "check/runtime/model.h"

static struct event *stack[THREADS * EVENTS];

static bool is_plain_store(const struct event *e)
{
	return (e->flags & (EV_WRITES | EV_READS | EV_DRAINS)) == EV_WRITES;
}

static bool is_nothing(const struct event *e)
{
	return !(e->flags & (EV_READS | EV_WRITES | EV_DRAINS));
}

static unsigned push(struct event *e, unsigned depth)
{
	if (e->visited == rt.visit)
		return depth;
	e->visited = rt.visit;
	stack[depth] = e;
	return depth + 1;
}

static unsigned push_later_of_thread(const struct event *e, unsigned depth)
{
	bool store = is_plain_store(e);

	for (unsigned i = e->index + 1u; i <= rt.thread[e->thread].count; i++) {
		struct event *next = &rt.event[e->thread][i];
		bool load;

		if (is_nothing(next))
			continue;
		load = !is_plain_store(next) && !(next->flags & EV_DRAINS);
		if (store && load)
			continue;
		depth = push(next, depth);
		if (store || !is_plain_store(next))
			break; /* the walk reaches what is after this one from it */
	}
	return depth;
}

static unsigned push_later_of_location(const struct event *e, unsigned depth)
{
	const struct location *l = &rt.location[e->location];
	unsigned rank = e->flags & EV_WRITES ? e->rank : rank_of(e->from);

	if (e->flags & EV_WRITES)
		for (event_id r = e->readers; r; r = event_of(r)->next_reader)
			if (EVENT_THREAD(r) != e->thread)
				depth = push(event_of(r), depth);
	if (rank + 1u < l->count)
		depth = push(event_of(l->store[rank + 1]), depth);
	return depth;
}

/* Does a walk from e, the last event of its thread, come back to e? */
bool order_tso_allows(struct event *e)
{
	unsigned depth = 0;

	rt.visit++;
	depth = push_later_of_location(e, depth);
	depth = push_later_of_thread(e, depth);
	while (depth) {
		const struct event *x = stack[--depth];

		if (x == e)
			return false;
		if (x->flags & (EV_READS | EV_WRITES))
			depth = push_later_of_location(x, depth);
		depth = push_later_of_thread(x, depth);
	}
	return true;
}
