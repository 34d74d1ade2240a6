/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "check/runtime/graph.h"
#include "check/runtime/seed.h"
#include "check/runtime/shadow.h"
#include "check/runtime/tell.h"

#define LOOK_EVERY 20000 /* scheduling points between two looks at the clock */

/* Made by the linker: the beginning and the end of the section with the scenarios. */
extern const struct check_scenario *const scenarios_begin[] __asm__("__start_check_scenarios") __attribute__((weak));
extern const struct check_scenario *const scenarios_end[] __asm__("__stop_check_scenarios") __attribute__((weak));

const struct check_scenario *check_scenario_at(unsigned index)
{
	return scenarios_begin && index < (size_t)(scenarios_end - scenarios_begin) ? scenarios_begin[index] : NULL;
}

const struct check_scenario *check_scenario_find(const char *name)
{
	const struct check_scenario *scenario;

	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++)
		if (!strcmp(scenario->name, name))
			return scenario;
	return NULL;
}

const char *check_verdict_name(enum check_verdict verdict)
{
	static const char *const names[] = {
		"passed", "assertion", "data race", "deadlock", "use after free", "bad free", "leak", "locking",
		"crash", "hang", "mixed sizes", "unstable", "limit"
	};

	return names[verdict];
}

const char *check_strategy_name(enum check_strategy strategy)
{
	static const char *const names[] = { "graph", "dfs", "random", "pct", "replay" };

	return names[strategy];
}

static const struct strategy *strategy_of(enum check_strategy strategy)
{
	switch (strategy) {
	case CHECK_GRAPH: return &graph_strategy;
	case CHECK_DFS: return &dfs_strategy;
	case CHECK_RANDOM: return &random_strategy;
	case CHECK_PCT: return &pct_strategy;
	default: return &replay_strategy;
	}
}

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void check_fail(const char *format, ...)
{
	char text[sizeof(rt.message)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	rt_fail(CHECK_ASSERTION, "%s", text);
}

void check_prune(void)
{
	if (rt.mode == RT_SETUP)
		rt_fail(CHECK_LIMIT, "check_prune in setup");
	/* In a graph search the other threads go on: their stores may give this thread something else to read. */
	if (rt.graph && rt.mode == RT_THREADS && !rt.probing) {
		rt.pruned = true;
		self_thread()->state = TH_DONE;
		rt_point();
	}
	rt_give_up(true);
}

void check_outcome(const char *format, ...)
{
	char text[256];
	va_list args;

	if (rt.mode != RT_FINISH || !rt.search->outcome)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	rt.mode = RT_IDLE; /* what the caller does with the result is not part of the execution */
	rt.search->outcome(rt.search->arg, text);
	rt.mode = RT_FINISH;
}

static void account(struct check_result *result)
{
	result->points += rt.points;
	if (rt.points > result->most_points)
		result->most_points = (unsigned)rt.points;
	if (rt.blocked && !rt.failed) {
		result->blocked++;
		return;
	}
	result->executions++;
	if (!rt.failed)
		return;
	if (rt.search->outcome)
		rt.search->outcome(rt.search->arg, check_verdict_name(rt.verdict));
	if (result->failures++)
		return;
	result->verdict = rt.verdict;
	snprintf(result->message, sizeof(result->message), "%s", rt.message);
	seed_write(result->seed, sizeof(result->seed));
}

/* The reason to stop; NULL: go on. */
static const char *enough(struct check_result *result, double begin, double *told)
{
	const struct check_search *search = rt.search;
	double now = cpu_seconds() - begin;

	result->seconds = now;
	if (search->seconds > 0 && now >= search->seconds)
		return "budget";
	if (search->progress && now - *told > 0.05) {
		*told = now;
		if (!search->progress(search->arg, result))
			return "stopped";
	}
	return NULL;
}

static void explore(struct check_result *result)
{
	const struct check_search *search = rt.search;
	double begin = cpu_seconds(), told = 0;
	uint64_t looked = 0;

	for (;;) {
		if (!rt.strategy->next()) {
			result->exhausted = search->strategy <= CHECK_DFS && !result->unfinished;
			break;
		}
		rt.stale_left = rt.graph ? CHECK_NO_BOUND : search->stale;
		tell_start();
		rt_execute();
		account(result);
		if (result->failures && !search->all_failures)
			result->unfinished = "failure";
		else if (search->executions && result->executions + result->blocked >= search->executions)
			result->unfinished = "budget";
		else if (result->points - looked >= LOOK_EVERY || rt.look) {
			rt.look = false;
			looked = result->points;
			result->unfinished = enough(result, begin, &told);
		}
		if (result->unfinished)
			break;
	}
	result->seconds = cpu_seconds() - begin;
}

/* No execution has begun. So the seed has no choices, and replaying it leads here again. */
static void setup_failed(struct check_result *result)
{
	result->verdict = rt.verdict;
	result->failures = 1;
	result->in_setup = true;
	result->unfinished = "failure";
	snprintf(result->message, sizeof(result->message), "%s", rt.message);
	seed_write(result->seed, sizeof(result->seed));
}

void check_run(const struct check_search *search, struct check_result *result)
{
	const char *wrong;

	memset(result, 0, sizeof(*result));
	rt.search = search;
	rt.result = result;
	rt.thread_count = search->scenario->threads + search->scenario->more;
	rt.tso = search->model == CHECK_TSO;
	rt.graph = search->strategy == CHECK_GRAPH;
	rt.weak = search->weak;
	rt.weak_count = search->weak_count;
	rt.collect = search->collect_sites;
	rt.strategy = strategy_of(search->strategy);
	if (search->scenario->threads == 0 || rt.thread_count > THREADS) {
		result->verdict = CHECK_LIMIT;
		result->failures = 1;
		snprintf(result->message, sizeof(result->message), "a scenario has 1 to %u threads", THREADS);
		return;
	}
	wrong = search->strategy == CHECK_REPLAY ? seed_read(search->replay) : NULL;
	if (wrong) {
		result->verdict = CHECK_UNSTABLE;
		result->failures = 1;
		snprintf(result->message, sizeof(result->message), "%s", wrong);
		return;
	}
	if (rt_setup()) {
		rt.strategy->start();
		explore(result);
	} else {
		setup_failed(result);
	}
	shadow_undo_setup();
}

size_t check_share_take(void *to, size_t room)
{
	return rt.graph ? graph_take(to, room) : 0;
}

void check_share_give(const void *from, size_t bytes)
{
	graph_give(from, bytes);
}
