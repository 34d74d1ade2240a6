/* SPDX-License-Identifier: MIT */
#include "check/driver/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check/driver/files.h"
#include "check/driver/jobs.h"
#include "check/driver/show.h"
#include "check/driver/weaken.h"
#include "check/report/memory.h"

#define RUN_BUDGET 60.0

int command_list(const struct options *options)
{
	const struct check_scenario *scenario;

	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++) {
		if (options->tabs)
			printf("%s\t%s\t%u\t%s\n", scenario->name, scenario->protocol, scenario->threads,
			       scenario->claim);
		else
			printf("%-32s %-9s %u threads  %s\n", scenario->name, scenario->protocol, scenario->threads,
			       scenario->claim);
	}
	return 0;
}

/* Roughly how many letters must change, come or go to make `b` of `a`: for "did you mean". */
static unsigned distance(const char *a, const char *b)
{
	unsigned common = 0;

	for (const char *c = a; *c; c++)
		common += strchr(b, *c) != NULL;
	return (unsigned)(strlen(a) - common + (strlen(a) > strlen(b) ? strlen(a) - strlen(b) : strlen(b) - strlen(a)));
}

static const struct check_scenario *scenario_wanted(const char *name)
{
	const struct check_scenario *scenario = check_scenario_find(name), *near = NULL, *other;

	if (scenario)
		return scenario;
	for (unsigned i = 0; (other = check_scenario_at(i)); i++)
		if (!near || strstr(other->name, name) ||
		    (!strstr(near->name, name) && distance(name, other->name) < distance(name, near->name)))
			near = other;
	fprintf(stderr, "vmmu-check: there is no scenario '%s'; %s%s%s`vmmu-check list` shows them all\n", name,
	        near ? "did you mean '" : "", near ? near->name : "", near ? "'? " : "");
	return NULL;
}

/* What the child process found, for the parent's exit code. */
struct outcome {
	struct progress progress;
	struct verdict verdict;
	bool ended;
};

struct run {
	const struct options *options;
	struct subject subject;
	struct weakened weakened;
	struct outcome *outcome;
	double seconds;
};

static void summary_put(const struct run *run)
{
	const struct verdict *verdict = &run->outcome->verdict;

	printf("%s: %s; %s%s%s, %llu executions, %llu scheduling points, %.2f s (%.0f executions, %.2f million "
	       "points a second)\n",
	       run->subject.scenario->name,
	       verdict->failed ? check_verdict_name(verdict->failure.verdict) : "no violation",
	       verdict->failed ? "stopped there" : extent_name(verdict->extent),
	       strcmp(verdict->bound, "none") ? ", bound: " : "",
	       strcmp(verdict->bound, "none") ? verdict->bound : "", (unsigned long long)verdict->executions,
	       (unsigned long long)verdict->points, verdict->seconds,
	       (double)verdict->executions / (verdict->seconds > 0 ? verdict->seconds : 1),
	       (double)verdict->points * 1e-6 / (verdict->seconds > 0 ? verdict->seconds : 1));
}

static void run_child(struct job *job)
{
	struct run *run = job->arg;
	char page[4400];
	struct show show = { .subject = &run->subject,
		             .weakened = run->weakened.words,
		             .weaken_options = run->weakened.options,
		             .shrink_seconds = run->seconds < 40 ? run->seconds / 4 : 10,
		             .tso_seconds = run->seconds < 40 ? run->seconds / 4 : 10,
		             .all = run->options->all,
		             .html = page };

	plan_run(&run->subject, run->options, run->seconds, &run->outcome->progress, &run->outcome->verdict);
	run->outcome->ended = true;
	if (isatty(STDOUT_FILENO))
		fputs("\r\033[K", stdout);
	summary_put(run);
	if (!run->outcome->verdict.failed)
		return;
	files_path(page, sizeof(page), run->options->html, run->subject.scenario->name, "html");
	show_failure(&show, &run->outcome->verdict, stdout);
}

static void run_tick(struct jobs *jobs)
{
	const struct run *run = jobs->arg;

	if (!isatty(STDOUT_FILENO) || run->outcome->ended)
		return;
	printf("\r\033[K%s: %llu executions, %llu points, %.0f s", run->subject.scenario->name,
	       (unsigned long long)run->outcome->progress.executions,
	       (unsigned long long)run->outcome->progress.points, jobs_clock() - jobs->job->began);
	fflush(stdout);
}

static bool run_prepare(struct run *run, const struct options *options, const char *name)
{
	*run = (struct run){
		.options = options, .subject = { .scenario = scenario_wanted(name), .tso = options->tso }
	};
	if (!run->subject.scenario || !weakened_read(options, &run->weakened))
		return false;
	run->subject.weak = run->weakened.weak;
	run->subject.weak_count = run->weakened.count;
	return true;
}

int command_run(const struct options *options)
{
	struct run run;
	struct job job = { .run = run_child, .arg = &run };
	struct jobs jobs = { .job = &job, .count = 1, .tick = run_tick, .every = 0.25, .arg = &run };

	if (options->words != 1) {
		fprintf(stderr,
		        "vmmu-check: run wants one scenario: vmmu-check run SCENARIO; `vmmu-check list` shows them\n");
		return 2;
	}
	if (!run_prepare(&run, options, options->word[0]))
		return 2;
	if (!files_make(options->html))
		return 3;
	run.seconds = options->budget > 0 ? options->budget : RUN_BUDGET;
	run.outcome = jobs_shared(sizeof(*run.outcome));
	job.limit = run.seconds + 60;
	jobs_run(&jobs);
	if (job.timed_out || !WIFEXITED(job.status) || !run.outcome->ended) {
		printf("%s: %s\n", run.subject.scenario->name,
		       job.timed_out             ? "hung, and was killed"
		       : WIFSIGNALED(job.status) ? strsignal(WTERMSIG(job.status))
		                                 : "ended early");
		return 1;
	}
	return run.outcome->verdict.failed;
}

int command_replay(const struct options *options)
{
	struct run run;
	char page[4400], name[256];
	struct show show = { .all = options->all, .html = options->html ? page : NULL };

	if (options->words != 1 || !strchr(options->word[0], ':')) {
		fprintf(stderr,
		        "vmmu-check: replay wants a seed, as a failure prints it: vmmu-check replay "
		        "SCENARIO:MODEL:CHOICES\n");
		return 2;
	}
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(options->word[0], ":"), options->word[0]);
	if (!run_prepare(&run, options, name))
		return 2;
	run.subject.tso = !strncmp(strchr(options->word[0], ':'), ":tso:", 5);
	if (options->html && !files_make(options->html))
		return 3;
	files_path(page, sizeof(page), options->html, run.subject.scenario->name, "html");
	show.subject = &run.subject;
	show.weakened = run.weakened.words;
	show.weaken_options = run.weakened.options;
	return show_seed(&show, options->word[0], stdout);
}
