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
	const char *word[OPTIONS_WORDS]; /* the words after the command that are no options */
	unsigned words;
	enum strategy strategy;
	int preemptions, stale;          /* no bound (dfs), or the strategy's own */
	uint64_t seed;
	bool seed_given;
	double budget;                   /* 0: the command's default */
	double each;                     /* check: CPU seconds for each scenario, in one round; 0: budget is shared */
	bool tso, all, tabs, verbose;
	unsigned jobs;                   /* 0: one for each core */
	/* the folder for pages; NULL: none (run writes NAME.html beside the program) */
	const char *html;
	const char *protocol;            /* only scenarios of this protocol */
	const char *weaken[OPTIONS_WEAKEN];
	unsigned weakened;
};

/** Returns: false after an error was printed that says what to do. */
bool options_read(struct options *options, int argc, char **argv);

/** The seconds of "90", "90s", "10m" or "2h"; negative when the text is none of these. */
double options_seconds(const char *text);

#endif
