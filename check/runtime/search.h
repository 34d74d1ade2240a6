/* SPDX-License-Identifier: MIT */
/*
 * One search of one scenario: which strategy, which bounds, and what came of it. A process does one search at a time;
 * the driver may do many, one after the other.
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
	CHECK_PCT,    /* random priorities with `depth` change points, from `seed` */
	CHECK_REPLAY, /* exactly the execution of a seed string */
};

enum check_model {
	CHECK_C11, /* C11 without out-of-thin-air values */
	CHECK_TSO, /* x86: the same, with loads and stores as strong as on that machine */
};

enum check_verdict {
	CHECK_PASSED,    /* nothing found */
	CHECK_ASSERTION,
	CHECK_RACE,
	CHECK_DEADLOCK,  /* every thread that has not ended stands still; so lost wake-ups are found too */
	CHECK_USE_AFTER_FREE,
	CHECK_BAD_FREE,  /* freed twice, or never allocated */
	CHECK_LEAK,
	CHECK_LOCKING,   /* an abstract lock or a read section is misused */
	CHECK_CRASH,     /* a signal */
	CHECK_HANG,      /* a thread runs for ever: no scheduling point for some seconds, or far too many of them */
	CHECK_MIXED,     /* concurrent atomics of different sizes on the same bytes: not modelled */
	CHECK_UNSTABLE,  /* a replayed execution differed: the scenario depends on something that is not restored */
	CHECK_LIMIT,     /* a limit of the checker itself */
};

#define CHECK_NO_BOUND (~0u)

struct check_result;

struct check_search {
	const struct check_scenario *scenario;
	enum check_strategy strategy;
	enum check_model model;
	unsigned preemptions;    /* CHECK_DFS: the most preemptions; CHECK_NO_BOUND */
	/*
	 * CHECK_DFS, RANDOM, PCT: the most reads of an old store in an execution, stores placed before
	 * others included; CHECK_NO_BOUND
	 */
	unsigned stale;
	unsigned depth;          /* CHECK_PCT: change points */
	uint64_t seed;
	/* RANDOM, PCT: take executions first, first + stride, ... of the sequence of `seed`; stride 0 is 1 */
	uint64_t first, stride;
	const char *replay;      /* CHECK_REPLAY: a seed string */
	double seconds;          /* CPU time; 0: no limit */
	uint64_t executions;     /* 0: no limit */
	const struct check_weak *weak; /* weak_count sites to weaken */
	unsigned weak_count;
	bool all_failures;       /* go on after the first failure, which is kept; `failures` counts */
	bool collect_sites;      /* keep what check_sites() lists */
	/* gets every check_outcome, and the verdict of every failure. May be NULL */
	void (*outcome)(void *arg, const char *text);
	/* called a few times a second; false: stop. May be NULL */
	bool (*progress)(void *arg, const struct check_result *so_far);
	const struct check_tracer *tracer;                  /* trace.h; for CHECK_REPLAY. May be NULL */
	void *arg;
};

struct check_result {
	enum check_verdict verdict; /* of the first failure */
	bool exhausted;             /* everything within the bounds was explored */
	const char *unfinished;     /* why it was not: "budget", "failure", "stopped", ...; NULL */
	uint64_t executions;        /* how many were complete */
	/* how many were given up because a thread waits for a store that only another execution has */
	uint64_t blocked;
	uint64_t points;            /* scheduling points passed, those of replayed prefixes included */
	uint64_t failures;
	bool in_setup;              /* it failed in setup, and no execution was made */
	double seconds;             /* CPU time */
	unsigned most_points;       /* of a single execution */
	char message[1024];         /* the first failure, one or more lines */
	char seed[16384];           /* replays it. A '!' at the end: it was too long, was cut, and replays nothing */
	uint64_t race_address;      /* CHECK_RACE, CHECK_USE_AFTER_FREE: the address, and below the two accesses */
	uint32_t race_pc[2];        /* the earlier and the later; 0: not known */
	int race_thread[2];
};

/**
 * Call this once, first in main. It starts the program again with fixed addresses and makes the runtime's memory.
 * When it cannot, it ends the program.
 */
void check_start(int argc, char **argv);

/** Run one search. Not from inside a scenario. */
void check_run(const struct check_search *search, struct check_result *result);

const char *check_verdict_name(enum check_verdict verdict);
const char *check_strategy_name(enum check_strategy strategy);

/* The scenarios of this program, in the order of linking: for (i = 0; (s = check_scenario_at(i)); i++). */
const struct check_scenario *check_scenario_at(unsigned index);
const struct check_scenario *check_scenario_find(const char *name);

/*
 * Sharing out a search. CHECK_RANDOM and CHECK_PCT use `first` and `stride`. In CHECK_GRAPH and CHECK_DFS the work
 * left is a stack of independent sub-trees. While a search runs its progress callback may take some of them, as
 * bytes; another process of the same program may begin its search with them.
 */

/**
 * Call this from `progress`. Take the largest sub-tree left. Returns: its bytes; 0 when there is none to spare, or
 * when it is larger than `room`.
 */
size_t check_share_take(void *to, size_t room);
/** Call this before check_run, which then explores only the sub-trees given. */
void check_share_give(const void *from, size_t bytes);

#endif
