/* SPDX-License-Identifier: MIT */
#include "check/runtime/graph_int.h"

#include "check/runtime/model.h"

/* The graph of the item: it is rebuilt, then grows. */
static struct forced target[THREADS][EVENTS];
static unsigned whole[THREADS];
static enum half half[THREADS];
static uint16_t fresh_option;
static struct item current;
static bool begun;

static void item_load(const struct item *item)
{
	const struct forced *f = (const struct forced *)((const uint8_t *)item + item->bytes) - item_events(item);

	for (unsigned t = 0; t < THREADS; t++) {
		whole[t] = item->count[t];
		half[t] = item->half[t];
		for (unsigned i = 1; i <= item->count[t] + (item->half[t] == HALF ? 1u : 0u); i++)
			target[t][i] = *f++;
	}
	current = *item;
}

static bool next_execution(void)
{
	struct item *item;

	if (!begun) {
		begun = true;
		memset(whole, 0, sizeof(whole));
		memset(half, 0, sizeof(half));
		current = (struct item){ 0 };
		rt.stamp = 0;
		return true;
	}
	item = stack_top();
	if (!item)
		return false;
	item_load(item);
	fresh_option = item_options(item)[--item->options];
	if (item->revisit)
		target[EVENT_THREAD(item->store)][EVENT_INDEX(item->store)].rank = fresh_option;
	rt.stamp = item->top_stamp;
	if (!item->options)
		stack_pop();
	return true;
}

/* ---- rebuilding ----------------------------------------------------------------------------------- */

static bool is_there(event_id id)
{
	return id == 0 ||
	       (rt.thread[EVENT_THREAD(id)].count >= EVENT_INDEX(id) &&
	        !(rt.thread[EVENT_THREAD(id)].writing && rt.thread[EVENT_THREAD(id)].count == EVENT_INDEX(id)));
}

static bool can_rebuild(unsigned t)
{
	const struct thread *thread = &rt.thread[t];

	return thread->state == TH_RUNS && thread->count < whole[t] && is_there(target[t][thread->count + 1u].from);
}

/* The load has read its store. Before its thread goes on, and may fail, check that the model allows it. */
void graph_half_read(struct event *e)
{
	uint8_t flags = e->flags;

	if (!current.revisit || e->thread != current.thread)
		return;
	e->flags &= (uint8_t)~EV_WRITES; /* the store comes later */
	if (!order_allows(event_of(current.store)) || !order_allows(e))
		rt_give_up(true);
	e->flags = flags;
}

static bool is_unread_half(unsigned t)
{
	return half[t] == HALF && rt.thread[t].count == whole[t];
}

/*
 * No thread can go on. A spinning thread has read more since its last store than its loop looks at, so only another
 * turn shows whether it would spin for ever. In that turn it reads the newest stores, and the graph is given up if
 * the loop ends: another graph has that execution.
 */
static int probe(void)
{
	for (unsigned t = 0; t < THREADS; t++) {
		struct thread *thread = &rt.thread[t];

		if (thread->state != TH_BLOCKED || thread->op->kind != OP_PAUSE || thread->probed || model_spins(t))
			continue;
		thread->probed = true;
		thread->state = TH_RUNS;
		rt.probing = true;
		return (int)t;
	}
	return -1;
}

/*
 * First the graph is rebuilt, in any order that its reads-from allow. Then the half events read, then they
 * write. Then the graph grows.
 */
int graph_next(void)
{
	int rebuilding = -1;

	if (rt.self >= 0 && can_rebuild((unsigned)rt.self))
		return rt.self;
	for (unsigned t = 0; t < THREADS; t++) {
		if (can_rebuild(t))
			return (int)t;
		if (rt.thread[t].count < whole[t])
			rebuilding = (int)t;
	}
	if (rebuilding >= 0)
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: thread %d does less than before",
		        rebuilding);
	for (unsigned t = 0; t < THREADS; t++)
		if (is_unread_half(t) && t != current.thread)
			return (int)t;
	if (is_unread_half(current.thread))
		return current.thread;
	for (unsigned t = 0; t < THREADS; t++)
		if (rt.thread[t].writing)
			return (int)t;
	for (unsigned t = 0; t < THREADS; t++)
		if (rt.thread[t].state == TH_RUNS)
			return (int)t;
	return probe();
}

static void same_as_before(const struct event *e)
{
	if (target[e->thread][e->index].print != event_print(e))
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: step %u of thread %u is another one",
		        e->index, e->thread);
}

/* Is the event known? Then set its stamps. */
static bool forced(struct event *e)
{
	const struct forced *f = &target[e->thread][e->index];

	if (likely(e->index > whole[e->thread] + (half[e->thread] == HALF)))
		return false;
	same_as_before(e);
	e->stamp = f->stamp;
	e->write_stamp = f->write_stamp;
	return true;
}

bool graph_is_half(const struct event *e)
{
	return half[e->thread] == HALF && e->index == whole[e->thread] + 1;
}

bool graph_is_fresh(const struct event *e)
{
	return half[e->thread] == FRESH && e->index == whole[e->thread] + 1;
}

bool graph_forced_read(struct event *e, const struct location *l, unsigned *rank)
{
	event_id from;

	if (graph_is_fresh(e)) {
		*rank = fresh_option;
		return true;
	}
	if (!forced(e))
		return false;
	from = target[e->thread][e->index].from;
	if (from && &rt.location[event_of(from)->location] != l)
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: step %u of thread %u reads elsewhere",
		        e->index, e->thread);
	*rank = rank_of(from);
	return true;
}

bool graph_forced_write(struct event *e, const struct location *l, unsigned *rank)
{
	if (graph_is_fresh(e)) {
		*rank = fresh_option;
		return true;
	}
	if (!forced(e))
		return false;
	for (*rank = l->count; *rank > 1; --*rank) {
		event_id before = l->store[*rank - 1];

		if (target[EVENT_THREAD(before)][EVENT_INDEX(before)].rank < target[e->thread][e->index].rank)
			break;
	}
	return true;
}

bool graph_forced_choice(struct event *e, unsigned *value)
{
	if (graph_is_fresh(e)) {
		*value = fresh_option;
		return true;
	}
	*value = target[e->thread][e->index].value;
	return forced(e);
}

void graph_forced_other(struct event *e)
{
	forced(e);
}

/* ---- growing -------------------------------------------------------------------------------------- */

/* A branch: take the first option now, and push an item with the others. */
static unsigned option(unsigned count, bool costs)
{
	struct thread *self = self_thread();
	unsigned events = 0;
	struct item *item;
	struct forced *f;

	(void)costs;
	for (unsigned t = 0; t < THREADS; t++)
		events += rt.thread[t].count;
	item = item_push(events - 1, rt.option + 1, count - 1, &f);
	item->thread = (uint8_t)rt.self;
	item->half[rt.self] = FRESH;
	item->top_stamp = rt.stamp;
	for (unsigned t = 0; t < THREADS; t++) {
		item->count[t] = (uint16_t)(rt.thread[t].count - (&rt.thread[t] == self));
		for (unsigned i = 1; i <= item->count[t]; i++)
			forced_from(f++, &rt.event[t][i]);
	}
	return 0;
}

void graph_stands_still(const struct event *e)
{
	const struct location *l = &rt.location[e->location];

	if ((e->flags & (EV_READS | EV_WRITES)) != EV_READS)
		return;
	/* A load that was added past a newer store is never maximal: no revisit can set the thread going again. */
	for (unsigned rank = rank_of(e->from) + 1u; rank < l->count; rank++)
		if (event_of(l->store[rank])->write_stamp <= e->stamp)
			rt_give_up(true);
}

static void start(void)
{
	begun = graph_stack.given;
	stack_start();
}

static void done(void)
{
}

const struct strategy graph_strategy = { .start = start, .next = next_execution, .option = option, .done = done };
