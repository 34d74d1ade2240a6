/* SPDX-License-Identifier: MIT */
/*
 * One failing execution, ready to be drawn: a column per thread, a row per event. Made from a trace (trace.c), drawn
 * as text (text.c) and as a page (html.c). All strings live as long as the program.
 */
#ifndef CHECK_REPORT_PICTURE_H
#define CHECK_REPORT_PICTURE_H

#include <stdbool.h>
#include <stdio.h>

#include "check/report/source.h"

#define PICTURE_THREADS 8

enum row_kind {
	ROW_READ,   /* of memory */
	ROW_WRITE,
	ROW_UPDATE, /* a read and a write in one */
	ROW_FENCE,
	ROW_LOCK,   /* and everything else that threads wait for */
	ROW_MEMORY, /* allocate and free */
	ROW_NOTE,   /* a line of the scenario's */
	ROW_FAIL,
};

enum row_mark {
	MARK_NONE,
	MARK_RACE,  /* one of the two accesses of a data race, or of a use after free */
	MARK_BLOCK, /* the thread cannot go on */
	MARK_FAIL,
};

struct row {
	unsigned step;
	int thread; /* column; -1: all */
	enum row_kind kind;
	enum row_mark mark;
	const char *verb;     /* "load acquire", "lock" */
	const char *object;   /* name of the location */
	const char *value;    /* "1", "0 -> 1"; "" when there is none */
	const char *note;     /* a remark, or NULL */
	const struct source *source;
	unsigned place;       /* which frame of `source` is shown: the innermost that is no wrapper */
	int from;             /* index of the row whose store was read; -1: initial value, or none */
	bool stale;           /* it read an old value: a newer store was there */
	bool shared;          /* concerns more than one thread */
	uint64_t address;     /* 0: none */
};

struct picture {
	const char *scenario, *claim, *protocol;
	const char *kind;     /* "data race", "assertion", ... */
	const char *message;
	const char *seed;
	const char *search;   /* "C11, depth first, 2 preemptions" */
	const char *tso;      /* in words, whether it fails under TSO; NULL: not asked */
	const char *weakened; /* the site that was made weaker for this, or NULL */
	const char *replay;   /* the command that replays it */
	unsigned threads, switches, preemptions, stale_reads;
	bool full;            /* the page also has the rows that concern one thread only, shown on demand */
	const char *thread_name[PICTURE_THREADS];
	unsigned count;
	struct row *row;
};

/**
 * Draw for a terminal of `width` columns. `all`: also the rows that concern one thread only.
 * `colour`: with escape sequences.
 */
void picture_text(const struct picture *picture, FILE *out, unsigned width, bool colour, bool all);

/** Draw as one self-contained page. */
void picture_html(const struct picture *picture, FILE *out);

struct check_scenario;
struct check_weak;
struct check_result;

/**
 * Replay a seed, and fill in what the execution shows: threads, rows, switches, and the failure. The other fields are
 * the caller's to fill in. `result`: of the replay. The memory is never freed.
 */
void picture_take(struct picture *picture, const struct check_scenario *scenario, const char *seed, bool tso,
                  const struct check_weak *weak, unsigned weak_count, struct check_result *result);

/** The frame of a row that is shown; never NULL. */
const struct source_place *row_place(const struct row *row);

#endif
