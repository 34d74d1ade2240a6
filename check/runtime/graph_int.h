/* SPDX-License-Identifier: MIT */
/* What the files of the graph search share: items, the stack of items, and the graph that is being rebuilt. */
#ifndef CHECK_RUNTIME_GRAPH_INT_H
#define CHECK_RUNTIME_GRAPH_INT_H

#include "check/runtime/graph.h"

/* An event in an item. */
struct forced {
	event_id from;
	uint32_t stamp, write_stamp;
	uint16_t rank;  /* doubled, so that a revisiting store gets an odd one */
	uint16_t print; /* of what the event did: a replay must do the same */
	uint16_t value; /* what a choice gave */
};

enum half { WHOLE, HALF, FRESH };

/*
 * An item: a graph and what to do in it. BRANCH: event `index` of `thread` is new, and takes each of the options.
 * REVISIT: the load `index` of `thread` reads `store`, which is placed at each of the options. The options follow the
 * item, then the events of each thread.
 */
struct item {
	uint32_t bytes;
	uint16_t options;
	uint8_t revisit, thread;
	event_id store;
	uint32_t top_stamp;
	uint16_t count[THREADS]; /* whole events; one half event may follow */
	uint8_t half[THREADS];
};

/* The stack. The items are in one area, oldest first; another has where each begins. */
struct stack {
	uint8_t *bytes;
	uint32_t *begins; /* in units of 8 bytes */
	unsigned first, count;
	size_t used;
	bool given; /* graph_give filled it for the next search */
};

extern struct stack graph_stack;

/** Give the stack its memory. It begins empty unless graph_give filled it. */
void stack_start(void);
/** The newest item; NULL: none. */
struct item *stack_top(void);
void stack_pop(void);

/** Push an item with these options and room for `events` events, which go to *to. */
struct item *item_push(unsigned events, const uint16_t *option, unsigned options, struct forced **to);
/** How many events the item has. */
unsigned item_events(const struct item *item);

static inline uint16_t *item_options(struct item *item)
{
	return (uint16_t *)(item + 1);
}

/** Make the item's form of an event. */
void forced_from(struct forced *f, const struct event *e);
uint16_t event_print(const struct event *e);

#endif
