/* SPDX-License-Identifier: MIT */
/*
 * The main of a program that is checked: it searches, then tells. A program with scenarios (check/check.h) has those
 * searched. Any other one is itself the scenario, and its main is the first thread. What it prints is shown beside the
 * failing execution only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check/driver/plan.h"
#include "check/driver/show.h"
#include "check/report/memory.h"
#include "check/report/source.h"
#include "check/tool/shim.h"

#define BUDGET       60.0
#define FIRST        0.25 /* the share of the budget for the exhaustive search, which comes first */
#define REPORT_MOST  10.0

int REAL(main)(int argc, char **argv, char **envp) __attribute__((weak));

static struct {
	int argc;
	char **argv, **envp;
} program;

static struct {
	struct options options;
	double budget;
	const char *html, *replay;
	bool leaks, all;
} wanted = { .options = { .preemptions = -1, .stale = -1 }, .budget = BUDGET };

static void usage(const char *what)
{
	fprintf(stderr,
	        "vmmu-check: VMMU_CHECK has '%s'. It may have, with commas between:\n"
	        "  budget=TIME   how long to search: 20s, 10m (60s)\n"
	        "  tso           x86's memory model instead of C11's\n"
	        "  pct, random   samples instead of every execution\n"
	        "  leaks         memory that nobody freed is a failure\n"
	        "  html=FILE     draw a failure as a page, too\n"
	        "  all           draw what concerns one thread alone, too\n"
	        "  replay=SEED   draw the execution of a seed, as a failure printed it\n",
	        what);
	exit(2);
}

static void word_read(const char *word)
{
	if (!strncmp(word, "budget=", 7) && options_seconds(word + 7) > 0)
		wanted.budget = options_seconds(word + 7);
	else if (!strncmp(word, "html=", 5))
		wanted.html = memory_text(word + 5);
	else if (!strncmp(word, "replay=", 7))
		wanted.replay = memory_text(word + 7);
	else if (!strcmp(word, "tso"))
		wanted.options.tso = true;
	else if (!strcmp(word, "pct"))
		wanted.options.strategy = STRATEGY_PCT;
	else if (!strcmp(word, "random"))
		wanted.options.strategy = STRATEGY_RANDOM;
	else if (!strcmp(word, "leaks"))
		wanted.leaks = true;
	else if (!strcmp(word, "all"))
		wanted.all = true;
	else
		usage(word);
}

static void wishes_read(void)
{
	const char *all = getenv("VMMU_CHECK");
	char *words = all ? memory_text(all) : NULL, *rest = words;

	for (char *word = words ? strtok_r(words, ", ", &rest) : NULL; word; word = strtok_r(NULL, ", ", &rest))
		word_read(word);
}

/* The first thread. */
static void program_run(void)
{
	int status;

	check_thread_shows((const void *)(uintptr_t)REAL(main));
	status = REAL(main)(program.argc, program.argv, program.envp);

	if (status)
		check_fail("main returns %d", status);
}

static const char *program_name(void)
{
	const char *slash = strrchr(program.argv[0], '/');
	char *name = memory_text(slash ? slash + 1 : program.argv[0]);

	for (char *c = name; *c; c++)
		if (*c == ':')
			*c = '_';
	return name;
}

static void search(const struct subject *subject, struct verdict *verdict)
{
	struct options first = wanted.options;

	if (wanted.options.strategy != STRATEGY_AUTO) {
		plan_run(subject, &wanted.options, wanted.budget, NULL, verdict);
		return;
	}
	first.strategy = STRATEGY_DFS;
	plan_run(subject, &first, wanted.budget * FIRST, NULL, verdict);
	if (!verdict->failed && verdict->extent != EXTENT_EXHAUSTIVE)
		plan_run(subject, &wanted.options, wanted.budget * (1 - FIRST), NULL, verdict);
}

static void verdict_put(const struct check_scenario *scenario, const struct verdict *verdict)
{
	const char *kind = verdict->failed ? check_verdict_name(verdict->failure.verdict) : "holds";

	printf("%s: %s; ", scenario->name, kind);
	if (!verdict->failed && verdict->extent == EXTENT_EXHAUSTIVE)
		printf("every execution explored: ");
	else if (!verdict->failed)
		printf("%s (%s), which proves nothing: ", extent_name(verdict->extent), verdict->bound);
	printf("%llu executions, %.3f s\n", (unsigned long long)verdict->executions, verdict->cpu);
	fflush(stdout);
}

/* Returns: true when the scenario is as it says. */
static bool judge(const struct check_scenario *scenario)
{
	struct subject subject = { .scenario = scenario, .tso = wanted.options.tso };
	struct verdict *verdict = memory_get(sizeof(*verdict));
	double report = wanted.budget / 4 < REPORT_MOST ? wanted.budget / 4 : REPORT_MOST;
	struct show show = { .subject = &subject,
		             .weaken_options = "",
		             .replay_before = wanted.leaks ? "VMMU_CHECK=leaks,replay=" : "VMMU_CHECK=replay=",
		             .replay_after = memory_get(strlen(program.argv[0]) + 2),
		             .shrink_seconds = report,
		             .tso_seconds = report,
		             .all = wanted.all,
		             .html = wanted.html };
	bool good;

	strcpy(strcpy((char *)(uintptr_t)show.replay_after, " ") + 1, program.argv[0]);
	if (wanted.replay) {
		subject.tso = strstr(wanted.replay, ":tso:") != NULL;
		return show_seed(&show, wanted.replay, stdout) == 0;
	}
	search(&subject, verdict);
	verdict_put(scenario, verdict);
	if (verdict->failed)
		show_failure(&show, verdict, stdout);
	good = verdict->failed == ((scenario->flags & CHECK_EXPECT_FAILURE) != 0);
	free(verdict);
	return good;
}

static bool is_wanted(const struct check_scenario *scenario)
{
	size_t length = strlen(scenario->name);

	if (wanted.replay)
		return !strncmp(wanted.replay, scenario->name, length) && wanted.replay[length] == ':';
	return program.argc < 2 || !strcmp(program.argv[1], scenario->name);
}

static int scenarios_judge(void)
{
	const struct check_scenario *scenario;
	unsigned good = 0, bad = 0;

	for (unsigned i = 0; (scenario = check_scenario_at(i)); i++) {
		if (!is_wanted(scenario))
			continue;
		if (judge(scenario))
			good++;
		else
			bad++;
	}
	printf("%u passed, %u failed\n", good, bad);
	return bad || !good;
}

int SHIM(main)(int argc, char **argv, char **envp)
{
	static char folder[4096];
	struct check_scenario scenario = {
		.protocol = "", .claim = "", .threads = 1, .more = CHECK_MAX_THREADS - 1, .thread = { program_run }
	};

	check_start(argc, argv);
	program.argc = argc;
	program.argv = argv;
	program.envp = envp;
	wishes_read();
	if (getcwd(folder, sizeof(folder)))
		source_root(folder);
	if (check_scenario_at(0))
		return scenarios_judge();
	if (!REAL(main)) {
		fprintf(stderr, "vmmu-check: the program has neither a main nor a scenario\n");
		return 2;
	}
	scenario.name = program_name();
	if (!wanted.leaks)
		scenario.flags = CHECK_NO_LEAK_CHECK;
	return judge(&scenario) ? 0 : 1;
}
