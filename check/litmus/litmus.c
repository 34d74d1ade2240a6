/* SPDX-License-Identifier: MIT */
/*
 * Each standard test, in both memory models. The graph search and the search without reduction must find exactly the
 * outcomes that the axioms allow; so the outcome that the literature judges is found, or is not. Random and PCT
 * searches must find no other.
 *
 *     litmus             all tests; ends with "N passed, N failed"
 *     litmus 'PROGRAM'   what one program may do, and what the searches took
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/axiom/parse.h"
#include "check/litmus/program.h"
#include "check/litmus/tests.h"

#define DFS_MOST 3000000

static unsigned passed, failed;
static uint64_t points;
static double seconds;

static bool matches(uint64_t outcome, const char *want)
{
	for (; *want; want++, outcome >>= 4)
		if (*want != '.' && (outcome & 15) != (unsigned)(*want - '0'))
			return false;
	return true;
}

static bool contains(const struct ax_outcomes *outcomes, const char *want)
{
	for (size_t i = 0; i < outcomes->count; i++)
		if (matches(outcomes->outcome[i], want))
			return true;
	return false;
}

static bool is_subset(const struct ax_outcomes *small, const struct ax_outcomes *large)
{
	size_t at = 0;

	for (size_t i = 0; i < small->count; i++) {
		while (at < large->count && large->outcome[at] < small->outcome[i])
			at++;
		if (at == large->count || large->outcome[at] != small->outcome[i])
			return false;
	}
	return true;
}

static void complain(const struct litmus *test, const char *model, const char *how, const char *what)
{
	printf("%s (%s), %s, %s: %s\n", test->name, test->program, model, how, what);
}

/* Compare one search with what the axioms allow. */
static bool search_agrees(const struct litmus *test, const struct ax_program *program, const struct ax_outcomes *want,
                          enum check_strategy strategy, enum check_model model)
{
	bool exhaustive = strategy == CHECK_GRAPH || strategy == CHECK_DFS, good;
	const char *name = model == CHECK_TSO ? "tso" : "c11", *how = check_strategy_name(strategy);
	struct ax_outcomes found;
	struct check_result result;

	good = program_search(program_scenario(program), strategy, model, CHECK_NO_BOUND,
	                      exhaustive ? DFS_MOST : 500, &found, &result);
	points += result.points;
	seconds += result.seconds;
	if (!good) {
		complain(test, name, how, result.message);
	} else if (exhaustive && !result.exhausted) {
		complain(test, name, how, "not exhausted");
		good = false;
	} else if (exhaustive ? !outcomes_equal(&found, want) : !is_subset(&found, want)) {
		unsigned results = ax_results(program);

		printf("%s (%s), %s, %s: found %s\n  should be %s\n", test->name, test->program, name, how,
		       outcomes_text(&found, results), outcomes_text(want, results));
		good = false;
	}
	free(found.outcome);
	return good;
}

static bool model_agrees(const struct litmus *test, const struct ax_program *program, enum check_model model)
{
	static const enum check_strategy strategies[] = { CHECK_GRAPH, CHECK_DFS, CHECK_RANDOM, CHECK_PCT };
	unsigned bit = model == CHECK_TSO ? TSO : C11;
	struct ax_outcomes want;
	bool good = true;

	if (ax_enumerate(program, model == CHECK_TSO ? AX_TSO : AX_C11, &want)) {
		complain(test, "", "", "the program is too large for the oracle");
		return false;
	}
	if (contains(&want, test->outcome) != !!(test->allowed & bit)) {
		complain(test, model == CHECK_TSO ? "tso" : "c11", "axioms", "not as the literature says");
		good = false;
	}
	for (size_t i = 0; i < sizeof(strategies) / sizeof(strategies[0]); i++)
		good = search_agrees(test, program, &want, strategies[i], model) && good;
	free(want.outcome);
	return good;
}

static void run_test(const struct litmus *test)
{
	struct ax_program program;
	bool good;

	if (ax_parse(test->program, &program) || ax_results(&program) != strlen(test->outcome)) {
		complain(test, "", "", "has not these results");
		failed++;
		return;
	}
	good = model_agrees(test, &program, CHECK_C11);
	good = model_agrees(test, &program, CHECK_TSO) && good;
	if (good)
		passed++;
	else
		failed++;
}

static int show(const char *text)
{
	struct ax_program program;

	if (ax_parse(text, &program)) {
		fprintf(stderr, "not a program: %s (see check/axiom/parse.h)\n", text);
		return 2;
	}
	for (int model = 0; model < 2; model++)
		for (int strategy = CHECK_GRAPH; strategy <= CHECK_DFS; strategy++) {
			struct ax_outcomes found;
			struct check_result r;

			program_search(program_scenario(&program), (enum check_strategy)strategy,
			               (enum check_model)model, CHECK_NO_BOUND, DFS_MOST, &found, &r);
			printf("%s %-6s %s\n  %lu executions, %lu blocked, %lu points, %.3f s%s%s%s\n",
			       model ? "tso" : "c11", check_strategy_name((enum check_strategy)strategy),
			       outcomes_text(&found, ax_results(&program)), (unsigned long)r.executions,
			       (unsigned long)r.blocked, (unsigned long)r.points, r.seconds,
			       r.exhausted ? ", exhausted" : "", r.failures ? ": " : "", r.message);
			free(found.outcome);
		}
	return 0;
}

int main(int argc, char **argv)
{
	check_start(argc, argv);
	if (argc > 1)
		return show(argv[1]);
	for (unsigned i = 0; i < litmus_count; i++)
		run_test(&litmus_tests[i]);
	printf("%.2f million scheduling points a second\n%u passed, %u failed\n", points / seconds * 1e-6, passed,
	       failed);
	return failed != 0;
}
