/* SPDX-License-Identifier: MIT */
/* Locations, and the order of the stores to each of them. */
#include "check/runtime/model.h"

static event_id *stores_room(unsigned count)
{
	if (rt.store_used + count > STORES)
		rt_fail(CHECK_LIMIT, "an execution has more than %u atomic stores", STORES);
	rt.store_used += count;
	return &rt.stores[rt.store_used - count];
}

uint32_t location_make(uint64_t key, unsigned size)
{
	struct location *l;

	if (rt.location_count + 1 >= LOCATIONS)
		rt_fail(CHECK_LIMIT, "an execution has more than %u atomic locations", LOCATIONS);
	l = &rt.location[++rt.location_count];
	*l = (struct location){ .key = key, .size = (uint8_t)size, .count = 1, .room = 8 };
	l->store = stores_room(l->room);
	l->store[0] = 0;
	return rt.location_count;
}

uint32_t location_abstract(uint64_t key)
{
	unsigned size = sizeof(rt.abstract) / sizeof(rt.abstract[0]);

	for (unsigned at = (unsigned)((key * 0x9e3779b97f4a7c15ull) >> 40) % size, tries = 0; tries < size;
	     at = (at + 1) % size, tries++) {
		if (rt.abstract[at].execution != rt.execution) {
			rt.abstract[at].execution = rt.execution;
			rt.abstract[at].key = key;
			rt.abstract[at].location = location_make(key, 8);
		}
		if (rt.abstract[at].key == key)
			return rt.abstract[at].location;
	}
	rt_fail(CHECK_LIMIT, "an execution has more than %u abstract locks, waits and domains", size);
}

void location_write(const struct location *l, uint64_t value)
{
	switch (l->size) {
	case 1: *(uint8_t *)l->key = (uint8_t)value; break;
	case 2: *(uint16_t *)l->key = (uint16_t)value; break;
	case 4: *(uint32_t *)l->key = (uint32_t)value; break;
	default: *(uint64_t *)l->key = value; break;
	}
}

bool model_is_taken(const struct location *l, unsigned rank)
{
	const struct event *next;

	if (rank + 1u >= l->count)
		return false;
	next = event_of(l->store[rank + 1]);
	return (next->flags & EV_READS) && next->from == l->store[rank];
}

void model_insert(struct location *l, struct event *e, unsigned rank)
{
	if (unlikely(l->count == l->room)) {
		event_id *more = stores_room(2u * l->room);

		for (unsigned i = 0; i < l->count; i++)
			more[i] = l->store[i];
		l->store = more;
		l->room *= 2;
	}
	for (unsigned i = l->count; i > rank; i--) {
		l->store[i] = l->store[i - 1];
		event_of(l->store[i])->rank = (uint16_t)i;
	}
	l->store[rank] = id_of(e);
	e->rank = (uint16_t)rank;
	l->count++;
}

void model_remove(struct location *l, struct event *e)
{
	l->count--;
	for (unsigned i = e->rank; i < l->count; i++) {
		l->store[i] = l->store[i + 1];
		event_of(l->store[i])->rank = (uint16_t)i;
	}
}

unsigned model_floor(const struct location *l, const struct event *e)
{
	unsigned rank = l->count - 1u;

	for (; rank > 0; rank--) {
		if (before(l->store[rank], e))
			return rank;
		for (event_id r = event_of(l->store[rank])->readers; r; r = event_of(r)->next_reader)
			if (r != id_of(e) && before(r, e))
				return rank;
	}
	return 0;
}
