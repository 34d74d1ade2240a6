/* SPDX-License-Identifier: MIT */
/*
 * The exhaustive search without repetition: every consistent execution graph once. It is the algorithm TruSt
 * (Kokologiannakis, Marmanis, Gladstein, Vafeiadis, "Truly Stateless, Optimal Dynamic Partial Order Reduction", POPL
 * 2022), proven sound, complete and optimal for models like ours. It knows no schedules: executions differ only in
 * which store each load reads and in how stores are ordered.
 *
 *     The graph grows by the next event of the first thread that can go on.
 *     A load may read any store that is there; each gives an execution (a branch).
 *     A store may be placed anywhere; each place gives an execution. Earlier loads that do not cause the store may
 *     read it too. For each such load there is an execution in which the load reads the store. It drops what was
 *     added after the load, except what the store needs (a revisit).
 *     Several graphs may lead to the same revisit; it is made from one of them. In that graph everything that the
 *     revisit drops was added as if nothing else existed ("maximal"): loads read the newest store, and stores were
 *     placed last and nobody read them.
 *
 * A thread that waits stands still at a load like any other; a later store revisits that load. Locks, sleeping
 * and grace periods are made of loads, stores and read-modify-writes of abstract locations (lock.c, grace.c),
 * so nothing here knows of them.
 *
 * The work left is a stack of items. Each is a whole graph and what to try in it, and may be given to another
 * process.
 */
#ifndef CHECK_RUNTIME_GRAPH_H
#define CHECK_RUNTIME_GRAPH_H

#include "check/runtime/rt.h"

/** The thread that goes on; -1: none can. */
int graph_next(void);

/* What the graph that is being rebuilt says of the next event. False: the event is new. */
bool graph_forced_read(struct event *e, const struct location *l, unsigned *rank);
bool graph_forced_write(struct event *e, const struct location *l, unsigned *rank);
bool graph_forced_choice(struct event *e, unsigned *value);
void graph_forced_other(struct event *e);

/** Is only what the event reads known, and its store new? */
bool graph_is_half(const struct event *e);
/** Is the event a branch tried for the first time? */
bool graph_is_fresh(const struct event *e);

/** A new store is in place: make its revisits. */
void graph_written(struct event *e, struct location *l);

/** A half event has read. Ends the execution if it may not read that. */
void graph_half_read(struct event *e);

/**
 * `e` may read the store at `rank` but not then store: another event took that store, or the order forbids it. Make
 * the revisits all the same: a graph without what is in the way allows the store.
 */
void graph_taken(struct location *l, struct event *e, unsigned rank);

/**
 * The running thread stands still for good after `e`, its last event. Ends the execution if no
 * revisit can free the thread.
 */
void graph_stands_still(const struct event *e);

size_t graph_take(void *to, size_t room);
void graph_give(const void *from, size_t bytes);

#endif
