/* SPDX-License-Identifier: MIT */
#include "check/driver/plan.h"

#include <stdio.h>
#include <string.h>

#include "check/driver/jobs.h"

#define MOST_PREEMPTIONS 4u
#define PCT_DEPTH        3u

struct plan {
	const struct subject *subject;
	struct progress *progress;
	struct verdict *verdict;
	uint64_t seed;
	double end; /* when it ends, on jobs_clock */
};

static void bound_text(const struct check_search *search, char *text, size_t size)
{
	int length;

	if (search->strategy == CHECK_PCT) {
		snprintf(text, size, "PCT, depth %u", search->depth);
		return;
	}
	if (search->strategy == CHECK_RANDOM) {
		snprintf(text, size, "random");
		return;
	}
	if (search->strategy == CHECK_GRAPH ||
	    (search->preemptions == CHECK_NO_BOUND && search->stale == CHECK_NO_BOUND)) {
		snprintf(text, size, "none");
		return;
	}
	length = search->preemptions == CHECK_NO_BOUND ? 0 : snprintf(text, size, "%u preempt.", search->preemptions);
	if (search->stale != CHECK_NO_BOUND)
		snprintf(text + length, size - (size_t)length, "%s%u stale", length ? ", " : "", search->stale);
}

static bool report_progress(void *arg, const struct check_result *so_far)
{
	struct plan *plan = arg;

	if (plan->progress) {
		plan->progress->executions = plan->verdict->executions + so_far->executions;
		plan->progress->points = plan->verdict->points + so_far->points;
	}
	return jobs_clock() < plan->end + 1;
}

/* Run one search. Returns: true when it found a failure, which ends the plan. */
static bool step(struct plan *plan, struct check_search *search, struct check_result *result)
{
	struct verdict *verdict = plan->verdict;
	double left = plan->end - jobs_clock();

	search->scenario = plan->subject->scenario;
	search->model = plan->subject->tso ? CHECK_TSO : CHECK_C11;
	search->weak = plan->subject->weak;
	search->weak_count = plan->subject->weak_count;
	search->collect_sites = plan->subject->collect;
	search->progress = report_progress;
	search->arg = plan;
	if (search->seconds <= 0 || search->seconds > left)
		search->seconds = left > 0.01 ? left : 0.01;
	check_run(search, result);
	verdict->executions += result->executions;
	verdict->points += result->points;
	verdict->cpu += result->seconds;
	if (result->verdict == CHECK_PASSED)
		return false;
	verdict->failed = true;
	verdict->failure = *result;
	verdict->found_by = *search;
	bound_text(search, verdict->bound, sizeof(verdict->bound));
	return true;
}

static void complete(struct plan *plan, const struct check_search *search, enum extent extent)
{
	plan->verdict->extent = extent;
	bound_text(search, plan->verdict->bound, sizeof(plan->verdict->bound));
}

/*
 * Search within growing bounds: no preemption, then one, each without stale reads and with one, then two, ...
 * Returns: true after a failure.
 */
static bool bounded(struct plan *plan, double seconds)
{
	double end = jobs_clock() + seconds;
	struct check_result result;

	for (unsigned preemptions = 0; preemptions <= MOST_PREEMPTIONS; preemptions++)
		for (unsigned stale = 0; stale <= preemptions && stale <= 2; stale++) {
			struct check_search search = {
				.strategy = CHECK_DFS, .preemptions = preemptions, .stale = stale
			};

			search.seconds = end - jobs_clock();
			if (search.seconds <= 0)
				return false;
			if (step(plan, &search, &result))
				return true;
			if (!result.exhausted)
				return false;
			complete(plan, &search, EXTENT_BOUNDED);
		}
	return false;
}

static void sampled(struct plan *plan, enum check_strategy strategy)
{
	struct check_search search = {
		.strategy = strategy, .stale = CHECK_NO_BOUND, .depth = PCT_DEPTH, .seed = plan->seed
	};
	struct check_result result;

	while (jobs_clock() < plan->end) {
		search.seconds = 0;
		if (step(plan, &search, &result))
			return;
		if (plan->verdict->extent == EXTENT_SAMPLED)
			bound_text(&search, plan->verdict->bound, sizeof(plan->verdict->bound));
		if (!result.executions)
			return;
		search.depth = search.depth == PCT_DEPTH ? PCT_DEPTH + 2 : PCT_DEPTH;
		search.seed = search.seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	}
}

static void automatic(struct plan *plan, double seconds)
{
	struct check_search search = {
		.strategy = CHECK_GRAPH, .preemptions = CHECK_NO_BOUND, .stale = CHECK_NO_BOUND,
		.seconds = seconds * 0.75
	};
	struct check_result result;

	/* Small bounds often find a bug at once: they come first, for a moment. */
	if (bounded(plan, seconds * 0.05))
		return;
	if (!(plan->subject->scenario->flags & CHECK_NO_DFS)) {
		if (step(plan, &search, &result))
			return;
		if (result.exhausted) {
			complete(plan, &search, EXTENT_EXHAUSTIVE);
			return;
		}
	}
	if (bounded(plan, (plan->end - jobs_clock()) * 0.5))
		return;
	sampled(plan, CHECK_PCT);
}

static void depth_first(struct plan *plan, const struct options *options)
{
	bool unbounded = options->preemptions < 0 && options->stale < 0;
	struct check_search search = {
		.strategy = unbounded ? CHECK_GRAPH : CHECK_DFS,
		.preemptions = options->preemptions < 0 ? CHECK_NO_BOUND : (unsigned)options->preemptions,
		.stale = options->stale < 0 ? CHECK_NO_BOUND : (unsigned)options->stale,
	};
	struct check_result result;

	if (!step(plan, &search, &result) && result.exhausted)
		complete(plan, &search, unbounded ? EXTENT_EXHAUSTIVE : EXTENT_BOUNDED);
	else if (!plan->verdict->failed)
		snprintf(plan->verdict->bound, sizeof(plan->verdict->bound), "cut short");
}

void plan_run(const struct subject *subject, const struct options *options, double seconds,
              struct progress *progress, struct verdict *verdict)
{
	double begin = jobs_clock();
	struct plan plan = {
		.subject = subject, .progress = progress, .verdict = verdict,
		.seed = options->seed_given ? options->seed : 1, .end = begin + seconds
	};

	*verdict = (struct verdict){ .extent = EXTENT_SAMPLED };
	if (options->strategy == STRATEGY_PCT)
		sampled(&plan, CHECK_PCT);
	else if (options->strategy == STRATEGY_RANDOM)
		sampled(&plan, CHECK_RANDOM);
	else if (options->strategy == STRATEGY_DFS || options->preemptions >= 0 || options->stale >= 0)
		depth_first(&plan, options);
	else
		automatic(&plan, seconds);
	verdict->seconds = jobs_clock() - begin;
}

const char *extent_name(enum extent extent)
{
	static const char *const name[] = { "exhaustive", "bounded", "sampled" };

	return name[extent];
}
