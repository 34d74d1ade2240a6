/* SPDX-License-Identifier: MIT */
#include "check/driver/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double options_seconds(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || !(value >= 0) || value > 1e9)
		return -1;
	if (!strcmp(end, "") || !strcmp(end, "s"))
		return value;
	if (!strcmp(end, "m"))
		return value * 60;
	return strcmp(end, "h") ? -1 : value * 3600;
}

static bool number_read(const char *name, const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	if (!errno && end != text && !*end && *text != '-' && *out <= max)
		return true;
	fprintf(stderr, "vmmu-check: %s wants a number from 0 to %llu, not '%s'\n", name, (unsigned long long)max,
	        text);
	return false;
}

static bool bound_read(const char *name, const char *text, int *bound)
{
	uint64_t value;

	if (!strcmp(text, "any")) {
		*bound = -1;
		return true;
	}
	if (!number_read(name, text, 1000, &value))
		return false;
	*bound = (int)value;
	return true;
}

static bool strategy_read(const char *text, enum strategy *strategy)
{
	static const char *const name[] = { "auto", "dfs", "pct", "random" };

	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(text, name[i])) {
			*strategy = (enum strategy)i;
			return true;
		}
	fprintf(stderr, "vmmu-check: --strategy is auto, dfs, pct or random, not '%s'\n", text);
	return false;
}

static bool budget_read(const char *name, const char *text, double *budget)
{
	*budget = options_seconds(text);
	if (*budget > 0)
		return true;
	fprintf(stderr, "vmmu-check: %s wants a time such as 90s, 10m or 2h, not '%s'\n", name, text);
	return false;
}

static bool weaken_add(struct options *o, const char *text)
{
	if (o->weakened == OPTIONS_WEAKEN) {
		fprintf(stderr, "vmmu-check: at most %d --weaken\n", OPTIONS_WEAKEN);
		return false;
	}
	o->weaken[o->weakened++] = text;
	return true;
}

/* An option with a value. Returns: -1 when there is no such option. */
static int valued_read(struct options *o, const char *name, const char *value)
{
	uint64_t number;

	if (!strcmp(name, "--strategy"))
		return strategy_read(value, &o->strategy);
	if (!strcmp(name, "--preemptions"))
		return bound_read(name, value, &o->preemptions);
	if (!strcmp(name, "--stale"))
		return bound_read(name, value, &o->stale);
	if (!strcmp(name, "--seed"))
		return o->seed_given = number_read(name, value, UINT64_MAX, &o->seed);
	if (!strcmp(name, "--budget"))
		return budget_read(name, value, &o->budget);
	if (!strcmp(name, "--each"))
		return budget_read(name, value, &o->each);
	if (!strcmp(name, "--weaken"))
		return weaken_add(o, value);
	if (!strcmp(name, "--html"))
		return o->html = value, true;
	if (!strcmp(name, "--protocol"))
		return o->protocol = value, true;
	if (!strcmp(name, "--jobs")) {
		if (!number_read(name, value, 1024, &number))
			return false;
		o->jobs = (unsigned)number;
		return true;
	}
	return -1;
}

static bool flag_read(struct options *o, const char *name)
{
	if (!strcmp(name, "--tso"))
		return o->tso = true;
	if (!strcmp(name, "--all"))
		return o->all = true;
	if (!strcmp(name, "--tabs"))
		return o->tabs = true;
	if (!strcmp(name, "--verbose"))
		return o->verbose = true;
	return false;
}

/* Returns: how many words of argv the option took; 0 after an error. */
static int option_read(struct options *o, char **argv, int left)
{
	const char *equals = strchr(argv[0], '=');
	char name[32];
	int good;

	if (flag_read(o, argv[0]))
		return 1;
	snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - argv[0]) : 31, argv[0]);
	if (!equals && left < 2) {
		good = valued_read(&(struct options){ 0 }, name, "1");
		fprintf(stderr,
		        good < 0 ? "vmmu-check: there is no option %s; see --help\n"
		                 : "vmmu-check: %s wants a value; see --help\n",
		        name);
		return 0;
	}
	good = valued_read(o, name, equals ? equals + 1 : argv[1]);
	if (good < 0)
		fprintf(stderr, "vmmu-check: there is no option %s; see --help\n", name);
	return good <= 0 ? 0 : equals ? 1 : 2;
}

bool options_read(struct options *o, int argc, char **argv)
{
	*o = (struct options){ .preemptions = -1, .stale = -1 };
	for (int i = 1; i < argc;) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			o->command = "help";
			return true;
		}
		if (argv[i][0] == '-' && argv[i][1]) {
			int took = option_read(o, argv + i, argc - i);

			if (!took)
				return false;
			i += took;
			continue;
		}
		if (!o->command) {
			o->command = argv[i++];
			continue;
		}
		if (o->words == OPTIONS_WORDS) {
			fprintf(stderr, "vmmu-check: too many words after '%s'\n", o->command);
			return false;
		}
		o->word[o->words++] = argv[i++];
	}
	if (!o->command)
		o->command = "help";
	return true;
}
