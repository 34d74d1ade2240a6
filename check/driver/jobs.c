/* SPDX-License-Identifier: MIT */
#include "check/driver/jobs.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static clockid_t the_clock = CLOCK_MONOTONIC;

void jobs_count_cpu(void)
{
	the_clock = CLOCK_PROCESS_CPUTIME_ID;
}

double jobs_clock(void)
{
	struct timespec now;

	clock_gettime(the_clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

unsigned jobs_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

void *jobs_shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("vmmu-check: shared memory");
		exit(3);
	}
	return memory;
}

static void job_start(struct jobs *jobs, struct job *job)
{
	if (jobs->begin)
		jobs->begin(jobs, job);
	fflush(NULL);
	job->began = jobs_clock();
	job->pid = fork();
	if (job->pid < 0) {
		perror("vmmu-check: fork");
		exit(3);
	}
	if (job->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a search ends with the process that asked for it */
		job->run(job);
		fflush(NULL);
		_exit(0);
	}
}

static void job_finish(struct jobs *jobs, struct job *job, int status)
{
	job->took = jobs_clock() - job->began;
	job->status = status;
	job->done = true;
	if (jobs->end)
		jobs->end(jobs, job);
}

/* Collect the children that have ended. Returns: how many. */
static unsigned jobs_collect(struct jobs *jobs)
{
	unsigned ended = 0;

	for (unsigned i = 0; i < jobs->count; i++) {
		struct job *job = &jobs->job[i];
		int status;

		if (job->pid <= 0 || job->done || waitpid(job->pid, &status, WNOHANG) != job->pid)
			continue;
		job_finish(jobs, job, status);
		ended++;
	}
	return ended;
}

static void jobs_watch(struct jobs *jobs)
{
	double now = jobs_clock();

	for (unsigned i = 0; i < jobs->count; i++) {
		struct job *job = &jobs->job[i];

		if (job->pid > 0 && !job->done && job->limit > 0 && now - job->began > job->limit && !job->timed_out) {
			job->timed_out = true;
			kill(job->pid, SIGKILL);
		}
	}
}

void jobs_run(struct jobs *jobs)
{
	unsigned next = 0, running = 0, at_once = jobs->at_once ? jobs->at_once : jobs_cores();
	double ticked = jobs_clock();

	while ((next < jobs->count && !jobs->stop) || running) {
		while (next < jobs->count && running < at_once && !jobs->stop) {
			job_start(jobs, &jobs->job[next++]);
			running++;
		}
		running -= jobs_collect(jobs);
		jobs_watch(jobs);
		if (jobs->tick && jobs_clock() - ticked >= jobs->every) {
			ticked = jobs_clock();
			jobs->tick(jobs);
		}
		if (running)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}
