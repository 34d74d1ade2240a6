/* SPDX-License-Identifier: MIT */
/*
 * Two rounds. In the first every scenario gets a moment, which is enough for most. The second shares the time left
 * among the others. Each search has a process of its own, and puts what it found into shared memory. So a crash of
 * the code under test is a failure of that scenario only.
 */
#include "check/driver/table.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check/driver/files.h"
#include "check/driver/jobs.h"
#include "check/driver/show.h"
#include "check/report/memory.h"

#define DEFAULT_BUDGET 600.0
#define FIRST_ROUND    3.0   /* the most seconds of a scenario */
#define STUCK          900.0 /* with --each: real time, on a machine that is busy otherwise */
#define GRACE          20.0  /* seconds for shrinking and drawing, and for a busy machine */

struct entry {
	const struct check_scenario *scenario;
	struct slot {
		struct progress progress;
		struct verdict verdict;
		bool ended;
		char trouble[80]; /* the search ended badly, but not because the claim failed */
	} *slot;
	double seconds; /* its share of this round */
	double spent;
};

struct table {
	const struct options *options;
	struct entry *entry;
	unsigned count;
	double began, deadline;
	unsigned done, left, of; /* how many scenarios of this round */
	bool terminal;
	int lines; /* progress lines since the last line break */
};

/* --- one scenario, in its own process --- */

static bool failed_as_wanted(const struct entry *entry)
{
	bool wanted = entry->scenario->flags & CHECK_EXPECT_FAILURE;

	return !entry->slot->trouble[0] && entry->slot->verdict.failed == wanted;
}

static void entry_run(struct job *job)
{
	struct entry *entry = job->arg;
	struct table *table = job->shared;
	struct subject subject = { .scenario = entry->scenario, .tso = table->options->tso };
	struct slot *slot = entry->slot;

	if (table->options->each > 0)
		jobs_count_cpu();
	plan_run(&subject, table->options, entry->seconds, &slot->progress, &slot->verdict);
	slot->ended = true;
	if (slot->verdict.failed && !failed_as_wanted(entry)) {
		char text[512], page[512];
		struct show show = { .subject = &subject, .weaken_options = "", .shrink_seconds = 5, .tso_seconds = 5 };
		FILE *out;

		files_path(text, sizeof(text), table->options->html, entry->scenario->name, "txt");
		files_path(page, sizeof(page), table->options->html, entry->scenario->name, "html");
		show.html = page;
		out = fopen(text, "w");
		if (!out)
			return;
		show_failure(&show, &slot->verdict, out);
		fclose(out);
	}
}

/* --- the parent --- */

static bool entry_is_over(const struct entry *entry)
{
	const struct slot *slot = entry->slot;

	return slot->trouble[0] || slot->verdict.failed || (slot->ended && slot->verdict.extent == EXTENT_EXHAUSTIVE);
}

static void progress_put(struct table *table)
{
	uint64_t executions = 0, points = 0;
	double now = jobs_clock(), took = now - table->began;

	for (unsigned i = 0; i < table->count; i++) {
		executions += table->entry[i].slot->progress.executions;
		points += table->entry[i].slot->progress.points;
	}
	if (table->terminal)
		fputs("\r\033[K", stdout);
	printf("%u of %u scenarios done; %.2f million schedules, %.0f a second, %.2f million points a second; %.0f "
	       "of %.0f s",
	       table->done, table->count, (double)executions * 1e-6, (double)executions / (took > 0 ? took : 1),
	       (double)points * 1e-6 / (took > 0 ? took : 1), took, table->deadline - table->began);
	if (!table->terminal)
		putchar('\n');
	fflush(stdout);
}

static void table_tick(struct jobs *jobs)
{
	progress_put(jobs->arg);
}

static void entry_begin(struct jobs *jobs, struct job *job)
{
	struct table *table = jobs->arg;
	struct entry *entry = job->arg;
	unsigned at_once = jobs->at_once ? jobs->at_once : jobs_cores();
	double share = (table->deadline - jobs_clock()) * at_once / (table->left ? table->left : 1);

	if (table->options->each > 0) {
		entry->seconds = table->options->each;
		job->limit = STUCK;
		entry->slot->ended = false;
		return;
	}
	if (entry->seconds > 0 && entry->seconds < share) /* the first round: only a moment */
		share = entry->seconds;
	if (share > table->deadline - jobs_clock())
		share = table->deadline - jobs_clock();
	entry->seconds = share > 0.2 ? share : 0.2;
	job->limit = entry->seconds + GRACE;
	table->left--;
	entry->slot->ended = false;
}

static void entry_end(struct jobs *jobs, struct job *job)
{
	struct table *table = jobs->arg;
	struct entry *entry = job->arg;
	struct slot *slot = entry->slot;

	entry->spent += job->took;
	if (job->timed_out)
		snprintf(slot->trouble, sizeof(slot->trouble), "hung: killed after %.0f s", job->took);
	else if (WIFSIGNALED(job->status) && !slot->verdict.failed)
		snprintf(slot->trouble, sizeof(slot->trouble), "crashed: %s", strsignal(WTERMSIG(job->status)));
	else if (!slot->ended)
		snprintf(slot->trouble, sizeof(slot->trouble), "ended early, exit %d", WEXITSTATUS(job->status));
	if (entry_is_over(entry))
		table->done++;
	if (entry_is_over(entry) && !failed_as_wanted(entry)) {
		jobs->stop = table->options->each > 0;
		printf("%s%s: FAILED%s%s\n", table->terminal ? "\r\033[K" : "", entry->scenario->name,
		       slot->trouble[0] ? ", " : "", slot->trouble);
		fflush(stdout);
	}
}

static void round_run(struct table *table, bool first)
{
	struct job *job = memory_get(table->count * sizeof(*job));
	struct jobs jobs = {
		.job = job, .at_once = table->options->jobs, .begin = entry_begin, .end = entry_end,
		.tick = table_tick, .arg = table
	};

	for (unsigned i = 0; i < table->count; i++) {
		struct entry *entry = &table->entry[i];

		if (entry_is_over(entry))
			continue;
		entry->seconds = first ? FIRST_ROUND : 0;
		job[jobs.count++] = (struct job){ .run = entry_run, .arg = entry, .shared = table };
	}
	table->left = table->of = jobs.count;
	jobs.every = table->terminal ? 0.25 : (table->deadline - table->began) / 12 + 1;
	if (jobs.count)
		jobs_run(&jobs);
	free(job);
}

static void count_text(uint64_t count, char *text, size_t size)
{
	if (count < 100000)
		snprintf(text, size, "%llu", (unsigned long long)count);
	else if (count < 10000000)
		snprintf(text, size, "%.0f k", (double)count * 1e-3);
	else
		snprintf(text, size, "%.1f M", (double)count * 1e-6);
}

static void row_put(const struct entry *entry, unsigned name_width)
{
	const struct slot *slot = entry->slot;
	const struct verdict *verdict = &slot->verdict;
	const char *result = slot->trouble[0] ? slot->trouble
	                     : !failed_as_wanted(entry) && verdict->failed
	                             ? check_verdict_name(verdict->failure.verdict)
	                     : !failed_as_wanted(entry) ? "found nothing, and was to fail"
	                     : verdict->failed          ? "fails, as it must"
	                                                : "passed";
	char count[24];

	count_text(verdict->executions, count, sizeof(count));
	printf("%-*s  %-9s %3u  %-20s %10s  %-10s  %6.1f  %s\n", (int)name_width, entry->scenario->name,
	       entry->scenario->protocol, entry->scenario->threads, verdict->bound, count,
	       verdict->failed ? "" : extent_name(verdict->extent), entry->spent, result);
}

static void failure_put(const struct table *table, const struct entry *entry)
{
	char path[512], line[4096];
	FILE *text;

	files_path(path, sizeof(path), table->options->html, entry->scenario->name, "txt");
	text = entry->slot->verdict.failed ? fopen(path, "r") : NULL;
	if (!text)
		return;
	while (fgets(line, sizeof(line), text))
		fputs(line, stdout);
	fclose(text);
}

static int table_put(const struct table *table)
{
	unsigned name_width = 8, passed = 0, failed = 0;

	if (table->terminal)
		fputs("\r\033[K", stdout);
	for (unsigned i = 0; i < table->count; i++)
		if (!failed_as_wanted(&table->entry[i]))
			failure_put(table, &table->entry[i]);
	for (unsigned i = 0; i < table->count; i++)
		if (strlen(table->entry[i].scenario->name) > name_width)
			name_width = (unsigned)strlen(table->entry[i].scenario->name);
	printf("\n%-*s  %-9s %3s  %-20s %10s  %-10s  %6s  %s\n", (int)name_width, "scenario", "protocol", "thr",
	       "bound", "schedules", "explored", "sec", "result");
	for (unsigned i = 0; i < table->count; i++) {
		row_put(&table->entry[i], name_width);
		if (failed_as_wanted(&table->entry[i]))
			passed++;
		else
			failed++;
	}
	printf("\nexhaustive: every execution of the scenario that C11 allows. bounded: every one within the bound. "
	       "sampled: some.\n");
	printf("%u passed, %u failed\n", passed, failed);
	return failed || !passed;
}

/* "P1" is in "P3 P1" but not in "P10". */
static bool names_protocol(const char *protocols, const char *wanted)
{
	size_t length = strlen(wanted);

	for (const char *at = protocols; (at = strstr(at, wanted)); at += length)
		if ((at == protocols || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

int check_all(const struct options *options)
{
	struct table table = { .options = options, .began = jobs_clock(), .terminal = isatty(STDOUT_FILENO) };
	const struct check_scenario *scenario;

	table.deadline = table.began + (options->budget > 0 ? options->budget : DEFAULT_BUDGET);
	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++) {
		if (options->protocol && !names_protocol(scenario->protocol, options->protocol))
			continue;
		table.entry = memory_resize(table.entry, (table.count + 1) * sizeof(*table.entry));
		table.entry[table.count++] = (struct entry){
			.scenario = scenario, .slot = jobs_shared(sizeof(struct slot))
		};
	}
	if (!table.count) {
		fprintf(stderr, "vmmu-check: no scenario%s%s; `vmmu-check list` shows them all\n",
		        options->protocol ? " of " : "", options->protocol ? options->protocol : "");
		return 2;
	}
	if (!files_make(options->html))
		return 3;
	round_run(&table, true);
	while (options->each <= 0 && jobs_clock() < table.deadline - 1) {
		unsigned before = table.done;

		round_run(&table, false);
		if (!table.of || before == table.done)
			break;
	}
	return table_put(&table);
}
