/* SPDX-License-Identifier: MIT */
/*
 * The order of sequentially consistent events: RC11's psc, which must have no cycle.
 *
 *     scb   po, or po to another location then hb then po to another location, or hb to the same location, or mo, or fr
 *     psc   from a to b, both seq_cst: a [hb, if a is a fence] scb [hb, if b is a fence] b; and between fences hb, or
 *           hb eco hb
 *
 * With clocks it is cheap to decide whether there is an edge between two events. psc contains program order, so
 * a walk that reaches an event reaches all later ones of its thread. Only events that a cycle through the new
 * event could pass are looked at.
 */
#include "check/runtime/model.h"

static const struct event *at(unsigned thread, unsigned index)
{
	return &rt.event[thread][index];
}

static bool is_access(const struct event *e)
{
	return e->flags & (EV_READS | EV_WRITES);
}

static bool same_location(const struct event *a, const struct event *b)
{
	return is_access(a) && is_access(b) && a->location == b->location;
}

/* Call fn for each access that is mo- or fr-after x (with `readers`, then also rf-after), until fn returns true. */
static bool any_later(const struct event *x, bool readers,
                      bool (*fn)(const struct event *y, const struct event *arg), const struct event *arg)
{
	const struct location *l = &rt.location[x->location];
	unsigned rank = x->flags & EV_WRITES ? x->rank : rank_of(x->from);

	if (readers && (x->flags & EV_WRITES))
		for (event_id r = x->readers; r; r = event_of(r)->next_reader)
			if (fn(event_of(r), arg))
				return true;
	for (rank++; rank < l->count; rank++) {
		const struct event *w = event_of(l->store[rank]);

		if (fn(w, arg))
			return true;
		for (event_id r = readers ? w->readers : 0; r; r = event_of(r)->next_reader)
			if (fn(event_of(r), arg))
				return true;
	}
	return false;
}

static bool happens_before_it(const struct event *y, const struct event *b)
{
	return before(id_of(y), b);
}

/*
 * Is there an event before b in b's thread, of another location, that event `index` of
 * `thread` happens before (or is)?
 */
static bool reaches_before(unsigned thread, unsigned index, const struct event *b)
{
	for (unsigned i = b->index - 1u; i > 0; i--)
		if (!same_location(at(b->thread, i), b))
			return at(b->thread, i)->clock[thread] >= index;
	return false;
}

/* The first event after a in its thread that is of another location; 0: none. */
static unsigned leaves_after(const struct event *a)
{
	for (unsigned i = a->index + 1u; i <= rt.thread[a->thread].count; i++)
		if (!same_location(at(a->thread, i), a))
			return i;
	return 0;
}

static bool access_to_access(const struct event *a, const struct event *b)
{
	unsigned leaves;

	if (same_location(a, b)) {
		unsigned rank = rank_of(a->flags & EV_WRITES ? id_of(a) : a->from);

		if (before(id_of(a), b) || ((b->flags & EV_WRITES) && b->rank > rank))
			return true;
	}
	leaves = leaves_after(a);
	return leaves && reaches_before(a->thread, leaves, b);
}

static bool access_to_fence(const struct event *a, const struct event *b)
{
	const struct location *l = &rt.location[a->location];

	if (b->clock[a->thread] > a->index)     /* a po y, y hb b */
		return true;
	if (before(id_of(a), b))                /* hb to the same location, then hb */
		for (unsigned rank = 0; rank < l->count; rank++) {
			event_id w = l->store[rank];

			if (w && w != id_of(a) && before(id_of(a), event_of(w)) && before(w, b))
				return true;
			for (event_id r = w ? event_of(w)->readers : l->readers; r; r = event_of(r)->next_reader)
				if (r != id_of(a) && before(id_of(a), event_of(r)) && before(r, b))
					return true;
		}
	return any_later(a, false, happens_before_it, b);
}

static bool fence_to_access(const struct event *a, const struct event *b)
{
	const struct location *l = &rt.location[b->location];
	unsigned rank = b->flags & EV_WRITES ? b->rank : l->count;

	if (b->index > 1 && before(id_of(a), at(b->thread, b->index - 1u))) /* a hb x, x po b */
		return true;
	for (unsigned i = 0; i < l->count; i++) {
		event_id w = l->store[i];

		/* x mo b or x hb b; then a reader of x: fr or hb */
		if (w && w != id_of(b) && before(id_of(a), event_of(w)) &&
		    ((b->flags & EV_WRITES && i < rank) || before(w, b)))
			return true;
		for (event_id r = w ? event_of(w)->readers : l->readers; r; r = event_of(r)->next_reader)
			if (r != id_of(b) && before(id_of(a), event_of(r)) &&
			    ((b->flags & EV_WRITES && i < rank) || before(r, b)))
				return true;
	}
	return false;
}

static bool fence_to_fence(const struct event *a, const struct event *b)
{
	if (before(id_of(a), b))
		return true;
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = rt.thread[t].count; i > 0; i--) {
			const struct event *x = at(t, i);

			if (x->clock[a->thread] < a->index)
				break;
			if (is_access(x) && x->location && any_later(x, true, happens_before_it, b))
				return true;
		}
	return false;
}

static bool edge(const struct event *a, const struct event *b)
{
	if (a->thread == b->thread)
		return a->index < b->index;
	if (is_access(a))
		return is_access(b) ? access_to_access(a, b) : access_to_fence(a, b);
	return is_access(b) ? fence_to_access(a, b) : fence_to_fence(a, b);
}

/* Does a walk from `source` come back to it? reached[t]: the walk has reached the events of t from this index on. */
static bool returns_to(const struct event *source)
{
	unsigned reached[THREADS], done[THREADS];
	bool more = true;

	for (unsigned t = 0; t < THREADS; t++)
		reached[t] = done[t] = rt.thread[t].count + 1u;
	reached[source->thread] = source->index; /* the start; it is only done when the walk comes back */
	while (more) {
		more = false;
		for (unsigned t = 0; t < THREADS; t++)
			for (unsigned i = rt.thread[t].sc_count; i > 0; i--) {
				const struct event *a = at(t, rt.thread[t].sc[i - 1]);

				if (a->index >= done[t])
					continue;
				if (a->index < reached[t])
					break;
				done[t] = a->index;
				more = true;
				if (!(a->flags & EV_SC))
					continue;
				for (unsigned u = 0; u < THREADS; u++) {
					if (u == t)
						continue;
					for (unsigned j = 0; j < rt.thread[u].sc_count; j++) {
						const struct event *b = at(u, rt.thread[u].sc[j]);

						if (!(b->flags & EV_SC) || b->index <= a->clock[u])
							continue;
						if (u == source->thread ? b->index > source->index
						                        : b->index >= reached[u])
							break;
						if (!edge(a, b))
							continue;
						if (u == source->thread)
							return true;
						if (b->index < reached[u])
							reached[u] = b->index;
						break;
					}
				}
			}
	}
	return false;
}

bool order_sc_allows(struct event *e)
{
	if (rt.sc_events < 2)
		return true;
	if ((e->flags & EV_SC) && returns_to(e))
		return false;
	/* A cycle that passes edges of an event of another order begins at a fence before the event. */
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = rt.thread[t].sc_count; i > 0; i--) {
			const struct event *f = at(t, rt.thread[t].sc[i - 1]);

			if (!(f->flags & EV_FENCE) || !before(id_of(f), e))
				continue;
			if (returns_to(f))
				return false;
			break;
		}
	return true;
}
