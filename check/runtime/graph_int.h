/* SPDX-License-Identifier: MIT */
/* What the files of the graph search share: items, the stack of them, and the one that is being rebuilt. */
#ifndef CHECK_RUNTIME_GRAPH_INT_H
#define CHECK_RUNTIME_GRAPH_INT_H

#include "check/runtime/graph.h"

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

/* The stack: items in one area, where each begins in another. Oldest first. */
struct stack {
	uint8_t *bytes;
	uint32_t *begins; /* in units of 8 bytes */
	unsigned first, count;
	size_t used;
	bool given; /* by graph_give, for the next search */
};

extern struct stack graph_stack;

/** Has room, and begins empty unless something was given. */
void stack_start(void);
/** The newest; NULL: none. */
struct item *stack_top(void);
void stack_pop(void);

/** Begins an item with these options and room for so many events; *to is where they go. */
struct item *item_push(unsigned events, const uint16_t *option, unsigned options, struct forced **to);
/** How many events an item with these counts has. */
unsigned item_events(const struct item *item);

static inline uint16_t *item_options(struct item *item)
{
	return (uint16_t *)(item + 1);
}

/** The event as an item has it. */
void forced_from(struct forced *f, const struct event *e);
uint16_t event_print(const struct event *e);

#endif
