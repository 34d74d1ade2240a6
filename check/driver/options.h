/* SPDX-License-Identifier: MIT */
/* The command line of a checker. */
#ifndef CHECK_DRIVER_OPTIONS_H
#define CHECK_DRIVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_WORDS  16
#define OPTIONS_WEAKEN 8

enum strategy {
	STRATEGY_AUTO, /* exhaustive if the budget allows it, then bounded, then sampled */
	STRATEGY_DFS,
	STRATEGY_PCT,
	STRATEGY_RANDOM,
};

struct options {
	const char *command;
	const char *word[OPTIONS_WORDS]; /* what follows the command and is no option */
	unsigned words;
	enum strategy strategy;
	int preemptions, stale;          /* -1: no bound (dfs), or what the strategy does by itself */
	uint64_t seed;
	bool seed_given;
	double budget;                   /* seconds; 0: the command's own */
	bool tso, all, tabs, verbose;
	unsigned jobs;                   /* 0: one for each core */
	const char *html;                /* where pages go; NULL: not written (run writes NAME.html beside it) */
	const char *protocol;            /* only scenarios that name it */
	const char *weaken[OPTIONS_WEAKEN];
	unsigned weakened;
};

/** Returns: false after an error was printed, with what to do. */
bool options_read(struct options *options, int argc, char **argv);

/** "90", "90s", "10m", "2h" in seconds; negative when it is none of these. */
double options_seconds(const char *text);

#endif
