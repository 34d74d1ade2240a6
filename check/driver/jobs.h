/* SPDX-License-Identifier: MIT */
/*
 * Work in child processes, as many at a time as there are cores. Each search has a process of its own, since the code
 * under test may crash it, and since the search restores that process's memory. A child puts what it found into a
 * slot of shared memory, which outlives the child. Files that it writes are its own.
 */
#ifndef CHECK_DRIVER_JOBS_H
#define CHECK_DRIVER_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct job {
	/* set by the caller */
	void (*run)(struct job *job);
	void *arg;
	void *shared;    /* memory of jobs_shared, or NULL */
	double limit;    /* seconds of real time until it is killed; 0: no limit. `begin` may set it */
	/* set by jobs_run */
	pid_t pid;
	double began, took;
	bool done;
	int status;      /* as of waitpid */
	bool timed_out;
};

struct jobs {
	struct job *job;
	unsigned count;
	unsigned at_once;                 /* 0: one for each core */
	void (*begin)(struct jobs *jobs, struct job *job); /* in the parent, before the job starts; or NULL */
	void (*end)(struct jobs *jobs, struct job *job);   /* in the parent, after the job has ended; or NULL */
	void (*tick)(struct jobs *jobs);  /* in the parent, about four times a second; or NULL */
	double every;                     /* seconds between two ticks */
	void *arg;
	bool stop;                        /* `end` may set it: no further job is started */
};

/** Memory that the parent and its children share, zeroed. */
void *jobs_shared(size_t bytes);

/**
 * Run all jobs; returns when all have ended. A child that outlives its limit is killed. All children are killed
 * when the parent is interrupted.
 */
void jobs_run(struct jobs *jobs);

/** Seconds of a clock that only moves forward. After jobs_count_cpu it is the CPU time of this process. */
double jobs_clock(void);
void jobs_count_cpu(void);

unsigned jobs_cores(void);

#endif
