/* SPDX-License-Identifier: MIT */
#include "check/runtime/graph.h"

#include <stdlib.h>

#include "check/runtime/model.h"
#include "check/runtime/shadow.h"

/* An event as an item has it. */
struct forced {
	event_id from;
	uint32_t stamp, write_stamp;
	uint16_t rank;  /* doubled: a revisiting store gets an odd one */
	uint16_t print; /* of what was done: a replay must do the same */
	uint16_t value; /* of a choice */
};

enum half { WHOLE, HALF, FRESH };

/*
 * An item: a graph and what to do in it. BRANCH: event `index` of `thread` is new, with each of the options. REVISIT: the load `index` of `thread` reads
 * `store`, which is placed at each of the options. After it: options, then the events of each thread.
 */
struct item {
	uint32_t bytes;
	uint16_t options;
	uint8_t revisit, thread;
	event_id store;
	uint32_t top_stamp;
	uint16_t count[THREADS]; /* whole events; one half may follow */
	uint8_t half[THREADS];
};

static struct forced target[THREADS][EVENTS];
static unsigned whole[THREADS];
static enum half half[THREADS];
static uint16_t fresh_option;
static struct item current;
static bool begun, given;

/* The stack: items in one area, where each begins in another. Oldest first. */
static struct {
	uint8_t *bytes;
	uint32_t *begins; /* in units of 8 bytes */
	unsigned first, count;
	size_t used;
} stack;

#define STACK_BYTES_MAX (1ull << 32)
#define STACK_ITEMS_MAX (1u << 24)

/* ---- items ---------------------------------------------------------------------------------------- */

static uint16_t print_of(const struct event *e)
{
	uint32_t print = e->pc * 2654435761u ^ (e->location ? (uint32_t)rt.location[e->location].key * 40503u : 0);

	return (uint16_t)(print >> 16 ^ print);
}

static void forced_from(struct forced *f, const struct event *e)
{
	f->from = e->from;
	f->stamp = e->stamp;
	f->write_stamp = e->write_stamp;
	f->rank = (uint16_t)(2 * e->rank);
	f->print = print_of(e);
	f->value = (uint16_t)e->value;
}

/* Begins an item with `options` as given and room for the events; *events is where they go. */
static struct item *item_push(unsigned events, const uint16_t *option, unsigned options, struct forced **to)
{
	size_t bytes = (sizeof(struct item) + 2u * options + 15) / 8 * 8 + events * sizeof(struct forced);
	struct item *item;

	bytes = (bytes + 7) / 8 * 8;
	if (stack.used + bytes > STACK_BYTES_MAX || stack.count == STACK_ITEMS_MAX)
		rt_fail(CHECK_LIMIT, "the search has too much left to do (%u sub-trees)", stack.count);
	item = (struct item *)(stack.bytes + stack.used);
	*item = (struct item){ .bytes = (uint32_t)bytes, .options = (uint16_t)options };
	for (unsigned i = 0; i < options; i++)
		((uint16_t *)(item + 1))[i] = option[i];
	*to = (struct forced *)((uint8_t *)item + bytes) - events;
	stack.begins[stack.count++] = (uint32_t)(stack.used / 8);
	stack.used += bytes;
	return item;
}

static void item_load(const struct item *item)
{
	unsigned events = 0;
	const struct forced *f;

	for (unsigned t = 0; t < THREADS; t++)
		events += item->count[t] + (item->half[t] == HALF);
	f = (const struct forced *)((const uint8_t *)item + item->bytes) - events;
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
	if (stack.count == stack.first)
		return false;
	item = (struct item *)(stack.bytes + 8ull * stack.begins[stack.count - 1]);
	item_load(item);
	fresh_option = ((uint16_t *)(item + 1))[--item->options];
	if (item->revisit)
		target[EVENT_THREAD(item->store)][EVENT_INDEX(item->store)].rank = fresh_option;
	rt.stamp = item->top_stamp;
	if (!item->options) {
		stack.count--;
		stack.used = 8ull * stack.begins[stack.count];
		if (stack.count == stack.first)
			stack.count = stack.first = 0, stack.used = 0;
	}
	return true;
}

/* ---- rebuilding ----------------------------------------------------------------------------------- */

static bool is_there(event_id id)
{
	return id == 0 || (rt.thread[EVENT_THREAD(id)].count >= EVENT_INDEX(id) &&
	                   !(rt.thread[EVENT_THREAD(id)].writing && rt.thread[EVENT_THREAD(id)].count == EVENT_INDEX(id)));
}

static bool can_rebuild(unsigned t)
{
	const struct thread *thread = &rt.thread[t];

	return thread->state == TH_RUNS && thread->count < whole[t] && is_there(target[t][thread->count + 1u].from);
}

/* The load has read what it is to read: before its thread goes on, and may fail, see whether that may be. */
void graph_half_read(struct event *e)
{
	uint8_t flags = e->flags;

	if (!current.revisit || e->thread != current.thread)
		return;
	e->flags &= (uint8_t)~EV_WRITES; /* not yet */
	if (!order_allows(event_of(current.store)) || !order_allows(e))
		rt_give_up(true);
	e->flags = flags;
}

static bool is_unread_half(unsigned t)
{
	return half[t] == HALF && rt.thread[t].count == whole[t];
}

/*
 * Nobody can go on. A thread that spins has read, since it last stored something, more than its loop looks at: only another turn shows whether it
 * would spin for ever. It reads the newest stores, and nothing comes of it: what a loop that ends does is another graph's.
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

/* The graph is rebuilt in any order that its reads-from allow; then the halves read, then they write, then it grows. */
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
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: thread %d does less than before", rebuilding);
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
	if (target[e->thread][e->index].print != print_of(e))
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: step %u of thread %u is another one", e->index, e->thread);
}

/* Is the event known? Gives it its stamps. */
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
		rt_fail(CHECK_UNSTABLE, "the execution is not what it was: step %u of thread %u reads elsewhere", e->index, e->thread);
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

/* ---- branches ------------------------------------------------------------------------------------- */

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

/* ---- revisits ------------------------------------------------------------------------------------- */

static bool causes(const struct event *x, const struct event *e)
{
	return e->porf[x->thread] >= x->index;
}

/* Was x's reading there already when something with this stamp was added, or is it needed by e? */
static bool read_was_there(const struct event *x, uint32_t stamp, const struct event *e)
{
	return x->stamp <= stamp || causes(x, e);
}

static bool write_was_there(event_id w, uint32_t stamp, const struct event *e)
{
	const struct event *x = event_of(w);

	return w == 0 || (x != e && (x->write_stamp <= stamp || causes(x, e)));
}

static bool newer_was_there(const struct event *x, unsigned rank, uint32_t stamp, const struct event *e)
{
	const struct location *l = &rt.location[x->location];

	for (rank++; rank < l->count; rank++)
		if (l->store[rank] != id_of(x) && l->store[rank] != id_of(e) && write_was_there(l->store[rank], stamp, e))
			return true;
	return false;
}

static bool read_is_maximal(const struct event *x, const struct event *e)
{
	return write_was_there(x->from, x->stamp, e) && !newer_was_there(x, rank_of(x->from), x->stamp, e);
}

static bool write_is_maximal(const struct event *x, const struct event *e)
{
	for (event_id r = x->readers; r; r = event_of(r)->next_reader)
		if (read_was_there(event_of(r), x->write_stamp, e))
			return false;
	return !newer_was_there(x, x->rank, x->write_stamp, e);
}

static bool is_maximal(const struct event *x, const struct event *e)
{
	if ((x->flags & EV_CHOICE) && x->value)
		return false;
	if ((x->flags & EV_READS) && !read_is_maximal(x, e))
		return false;
	return !(x->flags & EV_WRITES) || write_is_maximal(x, e);
}

/* What is left of each thread when r is to read e: its whole events, and whether a half one follows. False: not from this graph. */
static bool cut(const struct event *r, const struct event *e, struct item *to)
{
	for (unsigned t = 0; t < THREADS; t++) {
		unsigned keep = e->porf[t], count = rt.thread[t].count;

		while (keep < count && rt.event[t][keep + 1].write_stamp <= r->stamp && &rt.event[t][keep + 1] != r)
			keep++;
		to->count[t] = (uint16_t)keep;
		to->half[t] = WHOLE;
		for (unsigned i = keep + 1; i <= count; i++) {
			const struct event *x = &rt.event[t][i];

			if (i == keep + 1 && x != r && x->stamp <= r->stamp) {
				to->half[t] = HALF;
				if (!write_is_maximal(x, e))
					return false;
			} else if (!is_maximal(x, e)) {
				return false;
			}
		}
	}
	to->half[r->thread] = HALF;
	return true;
}

static bool is_kept(event_id w, const struct item *item)
{
	return w == 0 || EVENT_INDEX(w) <= item->count[EVENT_THREAD(w)];
}

/* The oldest rank that a load (or a store that follows) with this clock may come after, `skip` not being there. */
static unsigned floor_of(const struct location *l, vclock clock, event_id skip)
{
	struct event probe = { .clock = clock };

	for (unsigned rank = l->count - 1u; rank > 0; rank--) {
		if (l->store[rank] == skip)
			continue;
		if (before(l->store[rank], &probe))
			return rank;
		for (event_id r = event_of(l->store[rank])->readers; r; r = event_of(r)->next_reader)
			if (r != skip && before(r, &probe))
				return rank;
	}
	return 0;
}

static vclock clock_before(const struct event *r)
{
	return r->index > 1 ? rt.event[r->thread][r->index - 1].clock : rt.thread[r->thread].start_clock;
}

/* Places for e among the stores that are kept, right after one of them, where both e and its new reader r may have it. */
static unsigned places(const struct event *e, const struct event *r, const struct location *l, const struct item *item, uint16_t *place)
{
	unsigned floor = floor_of(l, clock_before(r), id_of(e)), count = 0;
	event_id next = 0;
	bool any_next = false;

	if (!(e->flags & EV_READS)) {
		unsigned own = floor_of(l, e->clock, id_of(e));

		if (own > floor)
			floor = own;
	} else if (rank_of(e->from) < floor) {
		return 0;
	}
	for (unsigned rank = l->count; rank-- > floor;) {
		event_id w = l->store[rank];
		bool taken;

		if (w == id_of(e) || !is_kept(w, item))
			continue;
		taken = any_next && (event_of(next)->flags & EV_READS) && event_of(next)->from == w;
		if (!taken && (!(e->flags & EV_READS) || w == e->from)) {
			if (count == OPTIONS)
				rt_fail(CHECK_LIMIT, "more than %u places for a store", OPTIONS);
			place[count++] = (uint16_t)(2 * rank + 1);
		}
		next = w;
		any_next = true;
	}
	return count;
}

static void revisit(struct event *r, const struct event *e, const struct location *l)
{
	struct item plan = { .revisit = 1, .thread = r->thread, .store = id_of(e), .top_stamp = rt.stamp };
	uint16_t place[OPTIONS];
	unsigned options, events = 0;
	struct item *item;
	struct forced *f;
	uint32_t bytes;
	uint16_t count;

	if (r->thread == e->thread || causes(r, e) || !cut(r, e, &plan))
		return;
	options = places(e, r, l, &plan, place);
	if (!options)
		return;
	for (unsigned t = 0; t < THREADS; t++)
		events += plan.count[t] + (plan.half[t] == HALF);
	item = item_push(events, place, options, &f);
	bytes = item->bytes;
	count = item->options;
	*item = plan;
	item->bytes = bytes;
	item->options = count;
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = 1; i <= plan.count[t] + (plan.half[t] == HALF ? 1u : 0u); i++) {
			forced_from(f, &rt.event[t][i]);
			if (&rt.event[t][i] == r)
				f->from = id_of(e);
			f++;
		}
}

void graph_written(struct event *e, struct location *l)
{
	for (unsigned rank = 0; rank < l->count; rank++) {
		event_id w = l->store[rank];

		for (event_id r = w ? event_of(w)->readers : l->readers; r; r = event_of(r)->next_reader)
			if (r != id_of(e))
				revisit(event_of(r), e, l);
	}
}

void graph_taken(struct location *l, struct event *e, unsigned rank)
{
	struct event kept = *e;

	e->from = l->store[rank];
	e->flags = EV_READS | EV_WRITES;
	e->porf = self_thread()->porf;
	e->porf[e->thread] = e->index;
	if (e->from)
		e->porf = vclock_join(e->porf, event_of(e->from)->porf);
	model_insert(l, e, rank + 1);
	graph_written(e, l);
	model_remove(l, e);
	*e = kept;
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

/* ---- the strategy --------------------------------------------------------------------------------- */

static void make_stack(void)
{
	if (!stack.bytes) {
		stack.bytes = rt_map(STACK_BYTES_MAX);
		stack.begins = rt_map(STACK_ITEMS_MAX * sizeof(uint32_t));
	}
}

static void start(void)
{
	make_stack();
	if (!given) {
		stack.count = stack.first = 0;
		stack.used = 0;
		begun = false;
	}
	given = false;
}

static void done(void)
{
}

size_t graph_take(void *to, size_t room)
{
	const struct item *item;

	if (stack.count - stack.first < 2)
		return 0;
	item = (const struct item *)(stack.bytes + 8ull * stack.begins[stack.first]);
	if (item->bytes > room)
		return 0;
	memcpy(to, item, item->bytes);
	stack.first++;
	return item->bytes;
}

void graph_give(const void *from, size_t bytes)
{
	const struct item *item = from;

	make_stack();
	if (!given)
		stack.count = stack.first = 0, stack.used = 0;
	given = begun = true;
	if (bytes < sizeof(*item) || item->bytes != bytes)
		rt_fail(CHECK_LIMIT, "a sub-tree of %zu bytes that is none", bytes);
	memcpy(stack.bytes + stack.used, from, bytes);
	stack.begins[stack.count++] = (uint32_t)(stack.used / 8);
	stack.used += bytes;
}

const struct strategy graph_strategy = { .start = start, .next = next_execution, .option = option, .done = done };
