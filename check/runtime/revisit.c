/* SPDX-License-Identifier: MIT */
/* A new store, and the loads that may read it in a revisit. */
#include "check/runtime/graph_int.h"

#include "check/runtime/model.h"

static bool causes(const struct event *x, const struct event *e)
{
	return e->porf[x->thread] >= x->index;
}

/* Was the read of x there when the event with this stamp was added, or does e need x? */
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
		if (l->store[rank] != id_of(x) && l->store[rank] != id_of(e) &&
		    write_was_there(l->store[rank], stamp, e))
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

/*
 * What a revisit of r, which then reads e, keeps of each thread: its whole events, and whether a half one follows.
 * False: the revisit is not made from this graph.
 */
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

/* The oldest rank that an event with this clock may read or follow; `skip` counts as not there. */
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

/*
 * The places for e among the stores that are kept: each right after one of them, where both e and
 * its new reader r may have it.
 */
static unsigned places(const struct event *e, const struct event *r, const struct location *l,
                       const struct item *item, uint16_t *place)
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
	unsigned options;
	struct item *item;
	struct forced *f;
	uint32_t bytes;
	uint16_t count;

	if (r->thread == e->thread || causes(r, e) || !cut(r, e, &plan))
		return;
	options = places(e, r, l, &plan, place);
	if (!options)
		return;
	item = item_push(item_events(&plan), place, options, &f);
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
