/* SPDX-License-Identifier: MIT */
#include "check/runtime/graph_int.h"

#define STACK_BYTES_MAX (1ull << 32)
#define STACK_ITEMS_MAX (1u << 24)

struct stack graph_stack;

uint16_t event_print(const struct event *e)
{
	uint32_t print = e->pc * 2654435761u ^ (e->location ? (uint32_t)rt.location[e->location].key * 40503u : 0);

	return (uint16_t)(print >> 16 ^ print);
}

void forced_from(struct forced *f, const struct event *e)
{
	f->from = e->from;
	f->stamp = e->stamp;
	f->write_stamp = e->write_stamp;
	f->rank = (uint16_t)(2 * e->rank);
	f->print = event_print(e);
	f->value = (uint16_t)e->value;
}

struct item *item_push(unsigned events, const uint16_t *option, unsigned options, struct forced **to)
{
	size_t bytes = (sizeof(struct item) + 2u * options + 15) / 8 * 8 + events * sizeof(struct forced);
	struct item *item;

	bytes = (bytes + 7) / 8 * 8;
	if (graph_stack.used + bytes > STACK_BYTES_MAX || graph_stack.count == STACK_ITEMS_MAX)
		rt_fail(CHECK_LIMIT, "the search has too much left to do (%u sub-trees)", graph_stack.count);
	item = (struct item *)(graph_stack.bytes + graph_stack.used);
	*item = (struct item){ .bytes = (uint32_t)bytes, .options = (uint16_t)options };
	for (unsigned i = 0; i < options; i++)
		item_options(item)[i] = option[i];
	*to = (struct forced *)((uint8_t *)item + bytes) - events;
	graph_stack.begins[graph_stack.count++] = (uint32_t)(graph_stack.used / 8);
	graph_stack.used += bytes;
	return item;
}

unsigned item_events(const struct item *item)
{
	unsigned events = 0;

	for (unsigned t = 0; t < THREADS; t++)
		events += item->count[t] + (item->half[t] == HALF);
	return events;
}

static void make_stack(void)
{
	if (!graph_stack.bytes) {
		graph_stack.bytes = rt_map(STACK_BYTES_MAX);
		graph_stack.begins = rt_map(STACK_ITEMS_MAX * sizeof(uint32_t));
	}
}

static void stack_empty(void)
{
	graph_stack.count = graph_stack.first = 0;
	graph_stack.used = 0;
}

void stack_start(void)
{
	make_stack();
	if (!graph_stack.given)
		stack_empty();
	graph_stack.given = false;
}

struct item *stack_top(void)
{
	if (graph_stack.count == graph_stack.first)
		return NULL;
	return (struct item *)(graph_stack.bytes + 8ull * graph_stack.begins[graph_stack.count - 1]);
}

void stack_pop(void)
{
	graph_stack.used = 8ull * graph_stack.begins[--graph_stack.count];
	if (graph_stack.count == graph_stack.first)
		stack_empty();
}

size_t graph_take(void *to, size_t room)
{
	const struct item *item;

	if (graph_stack.count - graph_stack.first < 2)
		return 0;
	item = (const struct item *)(graph_stack.bytes + 8ull * graph_stack.begins[graph_stack.first]);
	if (item->bytes > room)
		return 0;
	memcpy(to, item, item->bytes);
	graph_stack.first++;
	return item->bytes;
}

void graph_give(const void *from, size_t bytes)
{
	const struct item *item = from;

	make_stack();
	if (!graph_stack.given)
		stack_empty();
	graph_stack.given = true;
	if (bytes < sizeof(*item) || item->bytes != bytes)
		rt_fail(CHECK_LIMIT, "a sub-tree of %zu bytes that is none", bytes);
	memcpy(graph_stack.bytes + graph_stack.used, from, bytes);
	graph_stack.begins[graph_stack.count++] = (uint32_t)(graph_stack.used / 8);
	graph_stack.used += bytes;
}
