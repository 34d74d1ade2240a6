/* SPDX-License-Identifier: MIT */
#include "port/posix/fork.h"

#include <pthread.h>
#include <stddef.h>

#include "port/posix/raw.h"

/* liburcu last: while its locks are held nothing may read under RCU, and nothing it calls takes a lock of ours. */
static fork_fn *const port_list[] = { signals_fork, hint_fork, rcu_fork, NULL };
static fork_fn *const nothing[] = { NULL };
static fork_fn *const *above = nothing;
static uint64_t mask; /* of the forking thread; the locks of the lists keep others away */

void posix_fork_above(fork_fn *const *list)
{
	above = list;
}

static void list_run(fork_fn *const *list, enum fork_step step)
{
	size_t count = 0;

	while (list[count])
		count++;
	for (size_t i = 0; i < count; i++)
		list[step == FORK_PREPARE ? i : count - 1 - i](step);
}

static void prepare(void)
{
	uint64_t before = raw_signals_block();

	list_run(above, FORK_PREPARE);
	list_run(port_list, FORK_PREPARE);
	mask = before;
}

static void finish(enum fork_step step)
{
	uint64_t before = mask;

	list_run(port_list, step);
	list_run(above, step);
	raw_signals_restore(before);
}

static void parent(void)
{
	finish(FORK_PARENT);
}

static void child(void)
{
	finish(FORK_CHILD);
}

__attribute__((constructor)) static void init(void)
{
	pthread_atfork(prepare, parent, child);
}
