/* SPDX-License-Identifier: MIT */
/* What every benchmark needs: clocks, the printing of results, and giving up. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Times are the best of this many runs: disturbances by others on the machine only add time. */
#define RUNS 3

/** Monotonic time, and the CPU time of this thread, in ns. */
uint64_t now(void);
uint64_t now_cpu(void);

/** Print what failed, with errno, and exit. */
_Noreturn void die(const char *what);

/** Choose how results are printed, as JSON or for people. Call before the first line(). */
void report_begin(bool as_json);
/** Print one result. `name`: bench/run knows the result by it. */
void line(const char *name, double value, const char *unit);
void report_end(void);

static inline double least(double a, double b)
{
	return a < b ? a : b;
}

#endif
