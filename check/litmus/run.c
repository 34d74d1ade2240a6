/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/litmus/program.h"

struct set {
	struct ax_outcomes *outcomes;
	size_t room;
};

static void add(void *arg, const char *text)
{
	struct set *set = arg;
	struct ax_outcomes *o = set->outcomes;
	uint64_t outcome = strtoull(text, NULL, 16);
	size_t at = 0;

	while (at < o->count && o->outcome[at] < outcome)
		at++;
	if (at < o->count && o->outcome[at] == outcome)
		return;
	if (o->count == set->room) {
		set->room = set->room ? 2 * set->room : 64;
		o->outcome = realloc(o->outcome, set->room * sizeof(*o->outcome));
		if (!o->outcome)
			abort();
	}
	for (size_t i = o->count; i > at; i--)
		o->outcome[i] = o->outcome[i - 1];
	o->outcome[at] = outcome;
	o->count++;
}

bool program_search(const struct check_scenario *scenario, enum check_strategy strategy, enum check_model model,
                    unsigned stale, uint64_t executions, struct ax_outcomes *outcomes, struct check_result *result)
{
	struct set set = { .outcomes = outcomes };
	struct check_search search = {
		.scenario = scenario,
		.strategy = strategy,
		.model = model,
		.preemptions = CHECK_NO_BOUND,
		.stale = stale,
		.depth = 3,
		.executions = executions,
		.outcome = add,
		.arg = &set,
	};

	memset(outcomes, 0, sizeof(*outcomes));
	check_run(&search, result);
	return result->failures == 0;
}

const char *outcomes_text(const struct ax_outcomes *outcomes, unsigned results)
{
	static char texts[4][4096];
	static unsigned which;
	char *text = texts[which++ % 4];
	size_t used = 0;

	text[0] = 0;
	for (size_t i = 0; i < outcomes->count && used + results + 2 < sizeof(texts[0]); i++) {
		if (i)
			text[used++] = ' ';
		for (unsigned r = 0; r < results; r++)
			used += (size_t)snprintf(text + used, 2, "%x", (unsigned)(outcomes->outcome[i] >> 4 * r & 15));
	}
	return text;
}

bool outcomes_equal(const struct ax_outcomes *a, const struct ax_outcomes *b)
{
	return a->count == b->count &&
	       (a->count == 0 || !memcmp(a->outcome, b->outcome, a->count * sizeof(*a->outcome)));
}
