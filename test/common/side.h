/* SPDX-License-Identifier: MIT */
/*
 * Several processes of a test side by side. A random test with audits mostly waits for grace periods, so several of
 * them do several times the work in the same time.
 */
#ifndef TEST_COMMON_SIDE_H
#define TEST_COMMON_SIDE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/** Wait for one child. Returns: false when it failed, after saying how. */
static inline bool side_wait(void)
{
	int status;

	if (wait(&status) < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return true;
	fprintf(stderr, "a process ended by %s %d\n", WIFSIGNALED(status) ? "signal" : "exit",
	        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return false;
}

/**
 * Call run(0) .. run(count - 1), each in its own process; a single one in this process, where a debugger sees it.
 * Returns: whether all returned 0.
 */
static inline bool side_by_side(unsigned count, int (*run)(unsigned index))
{
	bool good = true;

	if (count == 1)
		return run(0) == 0;
	for (unsigned i = 0; i < count; i++) {
		fflush(NULL);
		if (fork() == 0)
			exit(run(i));
	}
	for (unsigned i = 0; i < count; i++)
		good &= side_wait();
	return good;
}

#endif
