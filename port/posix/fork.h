/* SPDX-License-Identifier: MIT */
/*
 * What fork does with the locks of this process. A lock that another thread holds at a fork would stay held in the
 * child for ever, over data that is half changed. So fork takes every static lock first, in lock order, and both sides
 * release them: the child finds whole data and free locks.
 *
 * The owner of a static lock supplies a fork_fn for it. Two lists name them all, outermost lock first: the port's own
 * in fork.c, and above it the list given to posix_fork_above. tool/check-locks finds a lock that is on neither.
 */
#ifndef PORT_POSIX_FORK_H
#define PORT_POSIX_FORK_H

enum fork_step {
	FORK_PREPARE, /* before the fork: take the lock */
	FORK_PARENT,  /* after the fork, in the parent: release the lock */
	FORK_CHILD,   /* release it, and forget what only the parent has: its threads, its VMs */
};

/* Called with every signal blocked, from FORK_PREPARE to the end of the step after the fork. */
typedef void fork_fn(enum fork_step step);

/** `list` ends in NULL and stays. Call it once, from a constructor, when there is no fork yet. */
void posix_fork_above(fork_fn *const *list);

/* The port's own. */
fork_fn signals_fork, hint_fork, rcu_fork;

#endif
