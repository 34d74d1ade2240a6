/* SPDX-License-Identifier: MIT */
/*
 * The exhaustive search without repetition: every consistent execution graph once. It is the algorithm TruSt (Kokologiannakis, Marmanis, Gladstein,
 * Vafeiadis, "Truly Stateless, Optimal Dynamic Partial Order Reduction", POPL 2022), for which soundness, completeness and optimality are proven for
 * models like ours. Schedules do not occur in it: what differs between executions is only which store each load reads and how stores are ordered.
 *
 *     The graph grows by the next event of the first thread that can go on.
 *     A load may read any store that is there: one execution for each (a branch).
 *     A store may be placed anywhere: one for each; and loads that are there and not a cause of it may have wanted to read it: for each of those, an execution with
 *     that load reading the store, without what was added after the load, but for what the store needs (a revisit).
 *     A revisit is made from one graph only of all that would lead to the same: the one in which all that it drops was added as if nothing else existed: loads
 *     read the newest store, stores were placed last and nobody read them ("maximal").
 *
 * What a thread waits for is a load like any other, which its thread stands still at; a later store revisits it. Locks, sleeping and grace periods are
 * made of loads, stores and read-modify-writes of abstract locations (lock.c, grace.c), so nothing here knows of them.
 *
 * What is left to do is a stack of items, each a whole graph and what to try in it. An item can be given to another process.
 */
#ifndef CHECK_RUNTIME_GRAPH_H
#define CHECK_RUNTIME_GRAPH_H

#include "check/runtime/rt.h"

/** Which thread goes on; -1: none can. */
int graph_next(void);

/* What the graph that is being rebuilt says of the next event. False: it is new. */
bool graph_forced_read(struct event *e, const struct location *l, unsigned *rank);
bool graph_forced_write(struct event *e, const struct location *l, unsigned *rank);
bool graph_forced_choice(struct event *e, unsigned *value);
void graph_forced_other(struct event *e);

/** Is only what it reads known, its store being new? */
bool graph_is_half(const struct event *e);
/** Is it a branch that is tried for the first time? */
bool graph_is_fresh(const struct event *e);

/** A new store is in place: revisit. */
void graph_written(struct event *e, struct location *l);

/** A half event has read. Ends the execution if it may not. */
void graph_half_read(struct event *e);

/** `e` may read the store at `rank`, but not then store: another has taken it, or the order forbids it. Revisit all the same: without what is in the way it may. */
void graph_taken(struct location *l, struct event *e, unsigned rank);

/** The thread that runs stands still for good after event `e`, its last. Ends the execution if nothing can come of that. */
void graph_stands_still(const struct event *e);

size_t graph_take(void *to, size_t room);
void graph_give(const void *from, size_t bytes);

#endif
