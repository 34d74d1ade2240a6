/* SPDX-License-Identifier: MIT */
/*
 * Each case of cases.c must have the verdict that its name begins with, in the graph search and in the search without
 * reduction (as far as that gets, where it is too long). A failure must replay. Other tests: weakened sites,
 * sub-trees given away, and what the tracer is told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/runtime/search.h"
#include "check/runtime/trace.h"

#define DFS_MOST 200000

static unsigned passed, failed;

static void count(bool good, const char *name, const char *what, const char *message)
{
	if (good) {
		passed++;
		return;
	}
	failed++;
	printf("%s: %.200s: %.500s\n", name, what, message);
}

static enum check_verdict expected(const char *name)
{
	static const struct { const char *begin; enum check_verdict verdict; } verdicts[] = {
		{ "passed_", CHECK_PASSED },       { "race_", CHECK_RACE },
		{ "mixed_", CHECK_MIXED },         { "use_after_free_", CHECK_USE_AFTER_FREE },
		{ "bad_free_", CHECK_BAD_FREE },   { "leak_", CHECK_LEAK },
		{ "deadlock_", CHECK_DEADLOCK },   { "locking_", CHECK_LOCKING },
		{ "assertion_", CHECK_ASSERTION }, { "crash_", CHECK_CRASH },
		{ "hang_", CHECK_HANG },
	};

	for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++)
		if (!strncmp(name, verdicts[i].begin, strlen(verdicts[i].begin)))
			return verdicts[i].verdict;
	printf("%s: no verdict has such a name\n", name);
	exit(1);
}

static void judge(const struct check_scenario *scenario, enum check_strategy strategy)
{
	struct check_search search = {
		.scenario = scenario, .strategy = strategy, .preemptions = CHECK_NO_BOUND,
		.stale = CHECK_NO_BOUND, .depth = 3, .executions = strategy == CHECK_GRAPH ? 0 : DFS_MOST
	};
	struct check_result result, again;
	bool good;

	check_run(&search, &result);
	good = result.verdict == expected(scenario->name) &&
	       (result.failures || strategy != CHECK_GRAPH || result.exhausted);
	count(good, scenario->name, check_strategy_name(strategy), result.failures ? result.message : "passed");
	if (!result.failures)
		return;
	search.strategy = CHECK_REPLAY;
	search.replay = result.seed;
	check_run(&search, &again);
	good = again.verdict == result.verdict && !strcmp(again.message, result.message);
	if (result.seed[strlen(result.seed) - 1] == '!')
		return; /* an endless loop: too long to trace */
	count(good, scenario->name, result.seed, again.failures ? again.message : "the replay passes");
}

/* ---- weakened sites ------------------------------------------------------------------------------- */

static void weaken_each(const char *name, enum check_operation operation, enum check_weakening how,
                        enum check_verdict verdict)
{
	const struct check_scenario *scenario = check_scenario_find(name);
	struct check_search search = { .scenario = scenario, .strategy = CHECK_GRAPH, .collect_sites = true };
	const struct check_site *sites;
	struct check_result result;
	bool found = false;
	unsigned n;

	check_sites_forget();
	check_run(&search, &result);
	search.collect_sites = false;
	n = check_sites(&sites);
	for (unsigned i = 0; i < n; i++) {
		struct check_weak weak = { sites[i].pc, sites[i].caller, how };

		if (sites[i].operation != operation ||
		    (operation != CHECK_LOCK_SITE && operation != CHECK_CAS && sites[i].order == __ATOMIC_RELAXED))
			continue;
		search.weak = &weak;
		search.weak_count = 1;
		check_run(&search, &result);
		found |= result.verdict == verdict;
	}
	count(found, name, "weakened", check_verdict_name(result.verdict));
}

/* ---- sub-trees ------------------------------------------------------------------------------------ */

struct share {
	char bytes[256][65536];
	size_t size[256];
	unsigned count;
	bool take;
};

static bool give_away(void *arg, const struct check_result *so_far)
{
	struct share *share = arg;

	(void)so_far;
	while (share->take && share->count < 256) {
		share->size[share->count] = check_share_take(share->bytes[share->count], sizeof(share->bytes[0]));
		if (!share->size[share->count])
			break;
		share->count++;
	}
	return true;
}

/* Giving sub-trees away and exploring them later must make the same number of executions. */
static void share_out(const char *name)
{
	static struct share share;
	struct check_search search = { .scenario = check_scenario_find(name), .strategy = CHECK_GRAPH };
	struct check_result whole, part;
	uint64_t sum;

	check_run(&search, &whole);
	search.progress = give_away;
	search.arg = &share;
	share.take = true;
	check_run(&search, &part);
	sum = part.executions;
	share.take = false;
	for (unsigned i = 0; i < share.count; i++) {
		check_share_give(share.bytes[i], share.size[i]);
		check_run(&search, &part);
		sum += part.executions;
	}
	printf("%s: %lu executions, %u sub-trees given away\n", name, (unsigned long)whole.executions, share.count);
	count(sum == whole.executions && share.count > 0, name, "shared out", "another number of executions");
}

/* ---- the tracer ----------------------------------------------------------------------------------- */

struct told {
	unsigned events, loads_from_store, fails, plain;
	int store_step;
};

static void tell(void *arg, const struct check_event *event)
{
	struct told *told = arg;

	told->events += event->step == told->events;
	if (event->kind == CHECK_EV_STORE && event->value == 1)
		told->store_step = (int)event->step;
	told->loads_from_store += event->kind == CHECK_EV_LOAD && event->reads_from >= 0 &&
	                          event->reads_from == told->store_step && event->old == 1;
	told->fails += event->kind == CHECK_EV_FAIL;
	told->plain += event->kind == CHECK_EV_WRITE;
}

static void trace(const char *name)
{
	struct told told = { .store_step = -1 };
	struct check_tracer tracer = { .event = tell, .plain = true };
	struct check_search search = { .scenario = check_scenario_find(name), .strategy = CHECK_GRAPH };
	struct check_result result, again;

	check_run(&search, &result);
	search.strategy = CHECK_REPLAY;
	search.replay = result.seed;
	search.tracer = &tracer;
	search.arg = &told;
	check_run(&search, &again);
	count(told.events > 4 && told.loads_from_store == 1 && told.fails == 1 && told.plain >= 1, name, "traced",
	      "not what happened");
}

static void more(void)
{
	weaken_each("passed_publication", CHECK_STORE, CHECK_TO_RELAXED, CHECK_RACE);
	weaken_each("passed_publication", CHECK_LOAD, CHECK_TO_RELAXED, CHECK_RACE);
	weaken_each("passed_fence", CHECK_FENCE, CHECK_DROP, CHECK_RACE);
	weaken_each("passed_lock", CHECK_LOCK_SITE, CHECK_DROP, CHECK_RACE);
	weaken_each("passed_rw_lock", CHECK_LOCK_SITE, CHECK_DROP, CHECK_RACE);
	weaken_each("passed_test_and_set", CHECK_RMW, CHECK_SPLIT, CHECK_RACE);
	weaken_each("passed_synchronize", CHECK_LOCK_SITE, CHECK_DROP, CHECK_USE_AFTER_FREE);
	share_out("passed_many_graphs");
	trace("race_relaxed_consumption");
}

int main(int argc, char **argv)
{
	const struct check_scenario *scenario;

	check_start(argc, argv);
	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++) {
		if (argc > 1 && strcmp(argv[1], scenario->name))
			continue;
		judge(scenario, CHECK_GRAPH);
		if (!(scenario->flags & CHECK_NO_DFS))
			judge(scenario, CHECK_DFS);
	}
	if (argc == 1)
		more();
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
