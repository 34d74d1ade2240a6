/* SPDX-License-Identifier: MIT */
/*
 * The smallest driver. It searches every scenario that is linked in, exhaustively, in both memory models. A failing
 * execution is replayed and printed.
 *
 *     examples             all of them
 *     examples NAME        one; with -v every event of the failing execution
 */
#include <stdio.h>
#include <string.h>

#include "check/runtime/search.h"
#include "check/runtime/trace.h"

static void tell(void *arg, const struct check_event *event)
{
	static const char *const kinds[] = {
		"load", "store", "rmw", "cas failed", "fence", "read", "write", "alloc", "free", "lock",
		"unlock", "rcu lock", "rcu unlock", "sync begins", "sync ends", "rcu call", "wait", "wake",
		"blocks", "unblocks", "pause", "choose", "begins", "ends", "log", "fails"
	};
	const char *name = check_name_of(event->address);

	(void)arg;
	printf("    %3u  thread %d  %-10s %#lx %s old %lu new %lu order %d from %d stale %u pc %#x %s\n",
	       event->step, event->thread, kinds[event->kind], (unsigned long)event->address, name ? name : "",
	       (unsigned long)event->old, (unsigned long)event->value, event->order, event->reads_from,
	       event->stale, event->pc, event->text ? event->text : "");
}

/* Returns: true if the result is as the scenario says. */
static bool judge(const struct check_scenario *scenario, enum check_model model, bool loud)
{
	const struct check_tracer tracer = { .event = tell, .plain = true };
	struct check_search search = { .scenario = scenario, .strategy = CHECK_GRAPH, .model = model };
	struct check_result result, again;
	bool expected = scenario->flags & CHECK_EXPECT_FAILURE;

	check_run(&search, &result);
	printf("%-24s %s  %7lu executions  %6.3f s  %s\n", scenario->name, model == CHECK_TSO ? "x86" : "C11",
	       (unsigned long)(result.executions + result.blocked), result.seconds,
	       result.failures    ? result.message
	       : result.exhausted ? "holds"
	                          : "not exhausted");
	if (!result.failures)
		/* What only C11 forbids is no mistake on x86. */
		return result.exhausted && (!expected || model == CHECK_TSO);
	search.strategy = CHECK_REPLAY;
	search.replay = result.seed;
	search.tracer = loud ? &tracer : NULL;
	check_run(&search, &again);
	if (again.verdict != result.verdict || strcmp(again.message, result.message)) {
		printf("    its seed %s does something else: %s\n", result.seed, again.message);
		return false;
	}
	printf("    seed %s\n", result.seed);
	return expected;
}

int main(int argc, char **argv)
{
	const struct check_scenario *scenario;
	unsigned passed = 0, failed = 0;

	check_start(argc, argv);
	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++)
		for (int model = CHECK_C11; model <= CHECK_TSO; model++) {
			if (argc > 1 && strcmp(argv[1], scenario->name))
				continue;
			if (judge(scenario, (enum check_model)model, argc > 2))
				passed++;
			else
				failed++;
		}
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
