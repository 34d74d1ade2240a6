/* SPDX-License-Identifier: MIT */
#include "bench/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool json, begun;

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t now_cpu(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

_Noreturn void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

void report_begin(bool as_json)
{
	json = as_json;
}

void line(const char *name, double value, const char *unit)
{
	if (json)
		printf("%s\n  {\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}", begun ? "," : "[", name, value,
		       unit);
	else
		printf("%-44s %12.4g %s\n", name, value, unit);
	begun = true;
	fflush(stdout);
}

void report_end(void)
{
	if (json)
		printf("%s\n]\n", begun ? "" : "[");
}
