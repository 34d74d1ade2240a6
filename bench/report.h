/* SPDX-License-Identifier: MIT */
/* What every benchmark does: look at a clock, print a result, give up. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Times are the best of this many: the machine is shared, and what disturbs only adds. */
#define RUNS 3

/** Monotonic time, and CPU time of this thread, in ns. */
uint64_t now(void);
uint64_t now_cpu(void);

/** Print what failed, with errno, and exit. */
_Noreturn void die(const char *what);

/** Results as JSON from here on, or for people. Before the first line. */
void report_begin(bool as_json);
/** One result. `name` is what bench/run knows it by. */
void line(const char *name, double value, const char *unit);
void report_end(void);

static inline double least(double a, double b)
{
	return a < b ? a : b;
}

#endif
