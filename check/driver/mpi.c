/* SPDX-License-Identifier: MIT */
/*
 * vmmu-check-mpi: one search, shared out among the ranks of an MPI job, on one machine or on many.
 *
 *     samples        rank r takes executions r, r + n, r + 2n, ... of the sequence that the seed starts
 *     depth first    rank 0 begins with the whole tree; who has nothing asks another for a part of what it has left
 *
 * Two numbers live with rank 0: how many ranks have work, or work on its way to them; and whether one of them found a failure. There is no other coordinator.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/driver/commands.h"
#include "check/driver/files.h"
#include "check/driver/jobs.h"
#include "check/driver/show.h"
#include "check/driver/weaken.h"
#include "check/report/memory.h"

#define RUN_BUDGET 60.0
#define PART_ROOM  (1u << 20) /* bytes of a sub-tree on its way */

enum { TAG_WANT, TAG_PART };
enum { NUMBER_WORKING, NUMBER_STOP, NUMBERS };

struct crew {
	int rank, size;
	MPI_Win window;
	long *numbers;        /* rank 0's */
	char *part;           /* a sub-tree, in or out */
	double deadline;
	bool shares;          /* depth first */
	struct check_result sum;
	uint64_t parts_given;
};

/* --- the numbers --- */

static long number_add(const struct crew *crew, int which, long change)
{
	long old = 0;

	MPI_Fetch_and_op(&change, &old, MPI_LONG, 0, which, MPI_SUM, crew->window);
	MPI_Win_flush(0, crew->window);
	return old + change;
}

static bool must_stop(const struct crew *crew)
{
	return jobs_clock() > crew->deadline || number_add(crew, NUMBER_STOP, 0);
}

/* --- giving --- */

/* Whoever asked gets a part, or an empty message. `from_search`: there is a search that parts can be taken from. */
static void wants_answer(struct crew *crew, bool from_search)
{
	MPI_Status status;
	int asked;

	for (;;) {
		size_t bytes = 0;

		MPI_Iprobe(MPI_ANY_SOURCE, TAG_WANT, MPI_COMM_WORLD, &asked, &status);
		if (!asked)
			return;
		MPI_Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, TAG_WANT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		if (from_search)
			bytes = check_share_take(crew->part, PART_ROOM);
		if (bytes) {
			number_add(crew, NUMBER_WORKING, 1); /* before it is on its way, so that nobody thinks that all is done */
			crew->parts_given++;
		}
		MPI_Send(crew->part, (int)bytes, MPI_BYTE, status.MPI_SOURCE, TAG_PART, MPI_COMM_WORLD);
	}
}

static bool crew_progress(void *arg, const struct check_result *so_far)
{
	struct crew *crew = arg;

	(void)so_far;
	if (crew->shares)
		wants_answer(crew, true);
	return !must_stop(crew);
}

/* --- taking --- */

/* Asks one rank after the other. Returns: the bytes of a part; 0 when nobody works any more, or all are to stop. */
static size_t part_get(struct crew *crew)
{
	int victim = crew->rank;

	while (number_add(crew, NUMBER_WORKING, 0) > 0 && !must_stop(crew)) {
		MPI_Request request;
		MPI_Status status;
		int done = 0, bytes;

		victim = (victim + 1) % crew->size;
		if (victim == crew->rank)
			continue;
		MPI_Irecv(crew->part, PART_ROOM, MPI_BYTE, victim, TAG_PART, MPI_COMM_WORLD, &request);
		MPI_Send(NULL, 0, MPI_BYTE, victim, TAG_WANT, MPI_COMM_WORLD);
		while (!done) { /* it may be asking us at the same time */
			wants_answer(crew, false);
			MPI_Test(&request, &done, &status);
		}
		MPI_Get_count(&status, MPI_BYTE, &bytes);
		if (bytes)
			return (size_t)bytes;
	}
	return 0;
}

/* --- working --- */

static void sum_add(struct check_result *sum, const struct check_result *result)
{
	uint64_t executions = sum->executions + result->executions, points = sum->points + result->points;
	bool exhausted = sum->exhausted && result->exhausted;

	if (result->verdict != CHECK_PASSED)
		*sum = *result;
	sum->executions = executions;
	sum->points = points;
	sum->exhausted = exhausted;
}

static void search_once(struct crew *crew, const struct check_search *search)
{
	struct check_result *result = memory_get(sizeof(*result));
	struct check_search now = *search;

	now.seconds = crew->deadline - jobs_clock();
	if (now.seconds > 0) {
		check_run(&now, result);
		sum_add(&crew->sum, result);
		if (result->verdict != CHECK_PASSED)
			number_add(crew, NUMBER_STOP, 1);
	} else {
		crew->sum.exhausted = false;
	}
	free(result);
}

/* After the end of the work a rank goes on answering until everybody is here, or who still waits for an answer would wait for ever. */
static void crew_leave(struct crew *crew)
{
	MPI_Request request;
	int all_here = 0;

	MPI_Ibarrier(MPI_COMM_WORLD, &request);
	while (!all_here) {
		wants_answer(crew, false);
		MPI_Test(&request, &all_here, MPI_STATUS_IGNORE);
	}
}

static void crew_work(struct crew *crew, struct check_search *search)
{
	search->progress = crew_progress;
	search->arg = crew;
	crew->shares = search->strategy == CHECK_GRAPH || search->strategy == CHECK_DFS;
	crew->sum.exhausted = true;
	if (!crew->shares) {
		search->first = (uint64_t)crew->rank;
		search->stride = (uint64_t)crew->size;
		search_once(crew, search);
	} else {
		if (crew->rank == 0) {
			search_once(crew, search);
			number_add(crew, NUMBER_WORKING, -1);
		}
		for (size_t bytes; (bytes = part_get(crew));) {
			check_share_give(crew->part, bytes);
			search_once(crew, search);
			number_add(crew, NUMBER_WORKING, -1);
		}
	}
	crew_leave(crew);
}

/* --- what came of it, to rank 0 --- */

struct share {
	uint64_t executions, points, parts_given;
	int failed, exhausted;
};

static int crew_report(struct crew *crew, const struct options *options, const struct subject *subject, const struct weakened *weakened,
                       const struct check_search *search, double began)
{
	struct share mine = { crew->sum.executions, crew->sum.points, crew->parts_given, crew->sum.verdict != CHECK_PASSED, crew->sum.exhausted };
	struct share *share = memory_get((size_t)crew->size * sizeof(*share));
	struct verdict *verdict = memory_get(sizeof(*verdict));
	struct show show = { .subject = subject, .weakened = weakened->words, .weaken_options = weakened->options, .shrink_seconds = 10, .tso_seconds = 10,
		             .all = options->all };
	bool exhausted = crew->shares;
	int failing = -1;
	char page[4400];

	MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, share, sizeof(mine), MPI_BYTE, MPI_COMM_WORLD);
	for (int r = crew->size; r-- > 0;) {
		verdict->executions += share[r].executions;
		verdict->points += share[r].points;
		exhausted = exhausted && share[r].exhausted;
		failing = share[r].failed ? r : failing;
	}
	if (failing >= 0)
		MPI_Bcast(&crew->sum, sizeof(crew->sum), MPI_BYTE, failing, MPI_COMM_WORLD);
	if (crew->rank != 0)
		return failing >= 0;
	verdict->seconds = jobs_clock() - began;
	for (int r = 0; r < crew->size; r++)
		printf("rank %d: %llu executions, %llu points, gave %llu parts away\n", r, (unsigned long long)share[r].executions,
		       (unsigned long long)share[r].points, (unsigned long long)share[r].parts_given);
	printf("%s: %s; %s, %d ranks, %llu executions, %.2f s (%.0f executions a second)\n", subject->scenario->name,
	       failing >= 0 ? check_verdict_name(crew->sum.verdict) : "no violation", exhausted ? "exhausted" : failing >= 0 ? "stopped there" : "not exhausted",
	       crew->size, (unsigned long long)verdict->executions, verdict->seconds, (double)verdict->executions / verdict->seconds);
	if (failing < 0)
		return 0;
	verdict->failed = true;
	verdict->failure = crew->sum;
	verdict->found_by = *search;
	snprintf(verdict->bound, sizeof(verdict->bound), "%d ranks", crew->size);
	if (files_make(options->html)) {
		files_path(page, sizeof(page), options->html, subject->scenario->name, "html");
		show.html = page;
	}
	show_failure(&show, verdict, stdout);
	return 1;
}

static int crew_run(struct crew *crew, const struct options *options)
{
	struct subject subject = { .scenario = options->words == 1 ? check_scenario_find(options->word[0]) : NULL, .tso = options->tso };
	struct weakened weakened;
	struct check_search search = {
		.scenario = subject.scenario,
		.strategy = options->strategy == STRATEGY_PCT                                ? CHECK_PCT
		            : options->strategy == STRATEGY_RANDOM                           ? CHECK_RANDOM
		            : options->preemptions >= 0 || options->stale >= 0 ? CHECK_DFS
		                                                                             : CHECK_GRAPH,
		.model = options->tso ? CHECK_TSO : CHECK_C11,
		.preemptions = options->preemptions < 0 ? CHECK_NO_BOUND : (unsigned)options->preemptions,
		.stale = options->stale < 0 ? CHECK_NO_BOUND : (unsigned)options->stale,
		.depth = 3,
		.seed = options->seed_given ? options->seed : 1,
	};
	double began = jobs_clock();

	if (!subject.scenario) {
		if (crew->rank == 0)
			fprintf(stderr, "vmmu-check-mpi: run wants one scenario; `vmmu-check list` shows them\n");
		return 2;
	}
	if (!weakened_read(options, &weakened))
		return 2;
	search.weak = subject.weak = weakened.weak;
	search.weak_count = subject.weak_count = weakened.count;
	crew->deadline = began + (options->budget > 0 ? options->budget : RUN_BUDGET);
	crew_work(crew, &search);
	return crew_report(crew, options, &subject, &weakened, &search, began);
}

static const char help[] = "mpirun -n N vmmu-check-mpi run SCENARIO [options]\n"
			   "\n"
			   "One search on all ranks; scenario and options are those of `vmmu-check run`. Without --strategy it is exhaustive.\n";

int main(int argc, char **argv)
{
	struct crew *crew;
	struct options options;
	int code = 2;

	check_start(argc, argv); /* begins the program anew, so it comes first */
	MPI_Init(&argc, &argv);
	crew = memory_get(sizeof(*crew));
	crew->part = memory_get(PART_ROOM);
	MPI_Comm_rank(MPI_COMM_WORLD, &crew->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &crew->size);
	MPI_Win_allocate(crew->rank ? 0 : NUMBERS * (MPI_Aint)sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &crew->numbers, &crew->window);
	if (crew->rank == 0) {
		crew->numbers[NUMBER_WORKING] = 1; /* rank 0 itself */
		crew->numbers[NUMBER_STOP] = 0;
	}
	MPI_Barrier(MPI_COMM_WORLD);
	MPI_Win_lock_all(0, crew->window);
	if (options_read(&options, argc, argv) && !strcmp(options.command, "run"))
		code = crew_run(crew, &options);
	else if (crew->rank == 0)
		fputs(help, stdout);
	MPI_Win_unlock_all(crew->window);
	MPI_Win_free(&crew->window);
	MPI_Finalize();
	return code;
}
