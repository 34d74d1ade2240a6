/* SPDX-License-Identifier: MIT */
/*
 * One search of one scenario: which strategy, which bounds, and what came of it. A process does one search at a time; the driver may
 * do many, one after the other.
 */
#ifndef CHECK_RUNTIME_SEARCH_H
#define CHECK_RUNTIME_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check/check.h"
#include "check/runtime/sites.h"

enum check_strategy {
	CHECK_GRAPH,  /* every consistent execution graph once: exhaustive, no bounds; the reduction (see graph.c) */
	CHECK_DFS,    /* every schedule and every read within the bounds, no reduction */
	CHECK_RANDOM, /* uniform; `seed` */
	CHECK_PCT,    /* priorities with `depth` change points; `seed` */
	CHECK_REPLAY, /* exactly the execution of a seed string */
};

enum check_model {
	CHECK_C11, /* C11 without out-of-thin-air values */
	CHECK_TSO, /* x86: the same, and loads and stores as strong as that machine makes them */
};

enum check_verdict {
	CHECK_PASSED,    /* nothing found */
	CHECK_ASSERTION,
	CHECK_RACE,
	CHECK_DEADLOCK,  /* every thread that has not ended stands still; lost wake-ups are found this way too */
	CHECK_USE_AFTER_FREE,
	CHECK_BAD_FREE,  /* double free, or never allocated */
	CHECK_LEAK,
	CHECK_LOCKING,   /* an abstract lock or a read section misused */
	CHECK_CRASH,     /* a signal */
	CHECK_HANG,      /* a thread runs for ever: no scheduling point for some seconds, or far too many of them */
	CHECK_MIXED,     /* atomics of different sizes on the same bytes at the same time: not modelled */
	CHECK_UNSTABLE,  /* an execution was not what it was before: the scenario depends on something that is not put back */
	CHECK_LIMIT,     /* a limit of the checker itself */
};

#define CHECK_NO_BOUND (~0u)

struct check_result;

struct check_search {
	const struct check_scenario *scenario;
	enum check_strategy strategy;
	enum check_model model;
	unsigned preemptions;    /* CHECK_DFS: at most so many; CHECK_NO_BOUND */
	unsigned stale;          /* CHECK_DFS, RANDOM, PCT: at most so many reads of other than the newest store, per execution; also stores that are
	                            placed before others; CHECK_NO_BOUND */
	unsigned depth;          /* CHECK_PCT: change points */
	uint64_t seed;
	uint64_t first, stride;  /* RANDOM, PCT: executions first, first + stride, ... of the sequence that `seed` starts; stride 0 is 1 */
	const char *replay;      /* CHECK_REPLAY: a seed string */
	double seconds;          /* budget of CPU time; 0: none */
	uint64_t executions;     /* at most so many; 0: no limit */
	const struct check_weak *weak; /* sites to weaken; weak_count of them */
	unsigned weak_count;
	bool all_failures;       /* do not stop at the first failure (it is kept; `failures` counts) */
	bool collect_sites;      /* keep what check_sites() lists */
	void (*outcome)(void *arg, const char *text);       /* every check_outcome, and the verdict of every failure. May be NULL */
	bool (*progress)(void *arg, const struct check_result *so_far); /* a few times a second; false: stop. May be NULL */
	const struct check_tracer *tracer;                  /* trace.h; for CHECK_REPLAY. May be NULL */
	void *arg;
};

struct check_result {
	enum check_verdict verdict; /* of the first failure */
	bool exhausted;             /* everything within the bounds was explored, and nothing was cut */
	const char *unfinished;     /* why not: "budget", "failure", "stopped", ...; NULL */
	uint64_t executions;        /* complete ones */
	uint64_t blocked;           /* given up because a thread waits for a store that this execution does not have: explored elsewhere */
	uint64_t points;            /* scheduling points passed, replays of prefixes included */
	uint64_t failures;
	bool in_setup;              /* it failed there, with no thread running: no execution was made */
	double seconds;             /* CPU time */
	unsigned most_points;       /* of one execution */
	char message[1024];         /* the first failure, one or more lines */
	char seed[16384];           /* replays it. Ends in '!' when it was cut for length (then it replays nothing) */
	uint64_t race_address;      /* CHECK_RACE, CHECK_USE_AFTER_FREE: where; and the two parties: */
	uint32_t race_pc[2];        /* earlier and later access; 0: not known */
	int race_thread[2];
};

/** Once, first thing in main: runs the program again with fixed addresses, and makes the runtime's memory. Does not return when it cannot. */
void check_start(int argc, char **argv);

/** Runs one search. Not from inside a scenario. */
void check_run(const struct check_search *search, struct check_result *result);

const char *check_verdict_name(enum check_verdict verdict);
const char *check_strategy_name(enum check_strategy strategy);

/* The scenarios of this program: for (i = 0; (s = check_scenario_at(i)); i++). Order of linking. */
const struct check_scenario *check_scenario_at(unsigned index);
const struct check_scenario *check_scenario_find(const char *name);

/*
 * Sharing out. CHECK_RANDOM and CHECK_PCT: first and stride. CHECK_GRAPH and CHECK_DFS: what is left to explore is a stack of independent sub-trees. While a search runs, its
 * progress callback may take some off, as bytes, and another process of the same program may begin its search with them.
 */

/** From `progress`: takes the largest sub-tree left. Returns: its bytes, 0 when there is none to spare or it is larger than `room`. */
size_t check_share_take(void *to, size_t room);
/** Before check_run: it explores only the sub-trees given. */
void check_share_give(const void *from, size_t bytes);

#endif
