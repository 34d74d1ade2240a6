/* SPDX-License-Identifier: MIT */
/*
 * vmmu-check-mpi: one search, shared among the ranks of an MPI job, on one machine or on many.
 *
 *     samples        rank r takes executions r, r + n, r + 2n, ... of the sequence of the seed
 *     depth first    rank 0 begins with the whole tree; a rank without work asks another for a part of its tree
 *
 * A rank that searches looks for messages a few times a second, and never waits for one.
 *
 * Rank 0 asks all ranks to find out that the work is over. It is over when every rank is idle, as many parts were
 * taken as given, and a second round of questions gives the same answers.
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
#define PART_ROOM  (1u << 20) /* the most bytes of a sub-tree that is sent */

enum tag {
	TAG_WANT,   /* give me a part */
	TAG_PART,   /* the part's bytes, or none */
	TAG_ASK,    /* rank 0: what is your stand? */
	TAG_STAND,  /* struct stand */
	TAG_END,    /* rank 0: the work is over */
	TAG_STOP,   /* the sender found a failure */
};

struct stand {
	uint64_t idle, given, taken;
};

struct crew {
	int rank, size;
	char *part;           /* a sub-tree, received or to send */
	double deadline;
	bool shares;          /* the search is depth first, so it is shared */
	bool stop, end;
	struct stand mine;
	struct stand sum, last_sum; /* rank 0: the sum of this round's answers, and of the round before */
	int answers;
	struct check_result found;
};

static bool is_over(const struct crew *crew)
{
	return crew->stop || crew->end || jobs_clock() > crew->deadline;
}

static void tell_others(const struct crew *crew, enum tag tag)
{
	for (int r = 0; r < crew->size; r++)
		if (r != crew->rank)
			MPI_Send(NULL, 0, MPI_BYTE, r, tag, MPI_COMM_WORLD);
}

static void part_give(struct crew *crew, int to, bool searching)
{
	size_t bytes = searching ? check_share_take(crew->part, PART_ROOM) : 0;

	crew->mine.given += bytes != 0;
	MPI_Send(crew->part, (int)bytes, MPI_BYTE, to, TAG_PART, MPI_COMM_WORLD);
}

/*
 * Answer all messages that have come. Parts are not received here: part_get waits for them. `searching`: a search is
 * running from which parts can be taken.
 */
static void messages_answer(struct crew *crew, bool searching)
{
	struct stand stand;
	MPI_Status status;
	int here;

	for (;;) {
		MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &here, &status);
		if (!here || status.MPI_TAG == TAG_PART)
			return;
		MPI_Recv(&stand, sizeof(stand), MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD,
		         MPI_STATUS_IGNORE);
		switch ((enum tag)status.MPI_TAG) {
		case TAG_WANT:
			part_give(crew, status.MPI_SOURCE, searching);
			break;
		case TAG_ASK:
			MPI_Send(&crew->mine, sizeof(crew->mine), MPI_BYTE, status.MPI_SOURCE, TAG_STAND,
			         MPI_COMM_WORLD);
			break;
		case TAG_STAND:
			crew->sum.idle += stand.idle;
			crew->sum.given += stand.given;
			crew->sum.taken += stand.taken;
			crew->answers++;
			break;
		case TAG_END:
			crew->end = true;
			break;
		case TAG_STOP:
			crew->stop = true;
			break;
		case TAG_PART:
			break;
		}
	}
}

static bool crew_progress(void *arg, const struct check_result *so_far)
{
	struct crew *crew = arg;

	(void)so_far;
	messages_answer(crew, crew->shares);
	return !is_over(crew);
}

/* Rank 0 calls this when it is idle: one step of finding out whether all ranks are. */
static void end_look_for(struct crew *crew)
{
	bool same;

	if (crew->answers < crew->size - 1)
		return; /* not all ranks have answered */
	crew->sum.idle += crew->mine.idle;
	crew->sum.given += crew->mine.given;
	crew->sum.taken += crew->mine.taken;
	same = !memcmp(&crew->sum, &crew->last_sum, sizeof(crew->sum));
	if (same && crew->sum.idle == (uint64_t)crew->size && crew->sum.given == crew->sum.taken) {
		crew->end = true;
		tell_others(crew, TAG_END);
		return;
	}
	crew->last_sum = crew->sum;
	crew->sum = (struct stand){ 0 };
	crew->answers = 0;
	tell_others(crew, TAG_ASK);
}

/* Ask one rank after the other for a part. Returns: its bytes; 0 when the work is over. */
static size_t part_get(struct crew *crew)
{
	int victim = crew->rank;

	crew->mine.idle = 1;
	while (!is_over(crew)) {
		MPI_Request request;
		MPI_Status status;
		int done = 0, bytes;

		messages_answer(crew, false);
		if (crew->rank == 0)
			end_look_for(crew);
		victim = (victim + 1) % crew->size;
		if (victim == crew->rank)
			continue;
		MPI_Irecv(crew->part, PART_ROOM, MPI_BYTE, victim, TAG_PART, MPI_COMM_WORLD, &request);
		MPI_Send(NULL, 0, MPI_BYTE, victim, TAG_WANT, MPI_COMM_WORLD);
		while (!done) { /* the other rank may be asking this one at the same time */
			messages_answer(crew, false);
			MPI_Test(&request, &done, &status);
		}
		MPI_Get_count(&status, MPI_BYTE, &bytes);
		if (bytes) {
			crew->mine.idle = 0;
			crew->mine.taken++;
			return (size_t)bytes;
		}
	}
	return 0;
}

/* --- working --- */

static void found_add(struct check_result *sum, const struct check_result *result)
{
	uint64_t executions = sum->executions + result->executions, points = sum->points + result->points;
	double seconds = sum->seconds + result->seconds;
	bool exhausted = sum->exhausted && result->exhausted;

	if (result->verdict != CHECK_PASSED)
		*sum = *result;
	sum->executions = executions;
	sum->points = points;
	sum->seconds = seconds;
	sum->exhausted = exhausted;
}

static void search_once(struct crew *crew, const struct check_search *search)
{
	struct check_result *result = memory_get(sizeof(*result));
	struct check_search now = *search;

	now.seconds = crew->deadline - jobs_clock();
	if (now.seconds > 0 && !crew->stop) {
		check_run(&now, result);
		found_add(&crew->found, result);
		if (result->verdict != CHECK_PASSED && !crew->stop) {
			crew->stop = true;
			tell_others(crew, TAG_STOP);
		}
	} else {
		crew->found.exhausted = false;
	}
	free(result);
}

/*
 * After the work a rank goes on answering until all ranks are here. Otherwise a rank that still waits for
 * an answer would wait for ever.
 */
static void crew_leave(struct crew *crew)
{
	MPI_Request request;
	int all_here = 0;

	MPI_Ibarrier(MPI_COMM_WORLD, &request);
	while (!all_here) {
		messages_answer(crew, false);
		MPI_Test(&request, &all_here, MPI_STATUS_IGNORE);
	}
	messages_answer(crew, false);
}

static void crew_work(struct crew *crew, struct check_search *search)
{
	search->progress = crew_progress;
	search->arg = crew;
	crew->shares = search->strategy == CHECK_GRAPH || search->strategy == CHECK_DFS;
	crew->found.exhausted = true;
	crew->answers = crew->size - 1; /* no question is open, so rank 0 may begin to ask */
	if (!crew->shares) {
		search->first = (uint64_t)crew->rank;
		search->stride = (uint64_t)crew->size;
		search_once(crew, search);
	} else {
		if (crew->rank == 0)
			search_once(crew, search);
		for (size_t bytes; (bytes = part_get(crew));) {
			check_share_give(crew->part, bytes);
			search_once(crew, search);
		}
	}
	crew_leave(crew);
}

/* --- the results, collected by rank 0 --- */

struct share {
	uint64_t executions, points, parts_given;
	double seconds; /* CPU time */
	int failed, exhausted;
};

static int crew_report(struct crew *crew, const struct options *options, const struct subject *subject,
                       const struct weakened *weakened, const struct check_search *search, double began)
{
	struct share mine = {
		crew->found.executions, crew->found.points, crew->mine.given, crew->found.seconds,
		crew->found.verdict != CHECK_PASSED, crew->found.exhausted
	};
	struct share *share = memory_get((size_t)crew->size * sizeof(*share));
	struct verdict *verdict = memory_get(sizeof(*verdict));
	struct show show = {
		.subject = subject, .weakened = weakened->words, .weaken_options = weakened->options,
		.shrink_seconds = 10, .tso_seconds = 10, .all = options->all
	};
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
		MPI_Bcast(&crew->found, sizeof(crew->found), MPI_BYTE, failing, MPI_COMM_WORLD);
	if (crew->rank != 0)
		return failing >= 0;
	verdict->seconds = jobs_clock() - began;
	for (int r = 0; r < crew->size; r++)
		printf("rank %d: %llu executions, %llu points, %.2f s of CPU time, gave %llu parts away\n", r,
		       (unsigned long long)share[r].executions, (unsigned long long)share[r].points,
		       share[r].seconds, (unsigned long long)share[r].parts_given);
	printf("%s: %s; %s, %d ranks, %llu executions, %.2f s (%.0f executions a second)\n",
	       subject->scenario->name, failing >= 0 ? check_verdict_name(crew->found.verdict) : "no violation",
	       exhausted      ? "exhausted"
	       : failing >= 0 ? "stopped there"
	                      : "not exhausted",
	       crew->size, (unsigned long long)verdict->executions, verdict->seconds,
	       (double)verdict->executions / verdict->seconds);
	if (failing < 0)
		return 0;
	verdict->failed = true;
	verdict->failure = crew->found;
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
	struct subject subject = {
		.scenario = options->words == 1 ? check_scenario_find(options->word[0]) : NULL,
		.tso = options->tso
	};
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

static const char help[] =
	"mpirun -n N vmmu-check-mpi run SCENARIO [options]\n"
	"\n"
	"One search on all ranks; scenario and options are those of `vmmu-check run`. Without --strategy it is "
	"exhaustive.\n";

int main(int argc, char **argv)
{
	struct crew *crew;
	struct options options;
	int code = 2;

	check_start(argc, argv); /* starts the program again, so it comes first */
	MPI_Init(&argc, &argv);
	crew = memory_get(sizeof(*crew));
	crew->part = memory_get(PART_ROOM);
	MPI_Comm_rank(MPI_COMM_WORLD, &crew->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &crew->size);
	if (options_read(&options, argc, argv) && !strcmp(options.command, "run"))
		code = crew_run(crew, &options);
	else if (crew->rank == 0)
		fputs(help, stdout);
	MPI_Finalize();
	return code;
}
