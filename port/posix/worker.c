/* SPDX-License-Identifier: MIT */
/* What liburcu's callback thread needs, for either rcu.c: no signals, and care around fork. */
#include "port/posix/worker.h"

#include <stdbool.h>
#include <urcu/urcu-bp.h>

#include "port/posix/fork.h"
#include "port/posix/lock.h"

static struct posix_lock lock = POSIX_LOCK_INIT;
static bool runs;      /* lock; read without it */
static bool inherited; /* lock: liburcu's thread was the parent's, and liburcu must still be told so */

/* liburcu would make the thread at the first callback, with the signal mask of the caller. */
void rcu_worker_start(void)
{
	if (__atomic_load_n(&runs, __ATOMIC_ACQUIRE)) /* acquire: pairs with the release below */
		return;
	posix_lock(&lock);
	if (!runs) {
		if (inherited)
			urcu_bp_call_rcu_after_fork_child();
		inherited = false;
		urcu_bp_get_default_call_rcu_data();
		__atomic_store_n(&runs, true, __ATOMIC_RELEASE);
	}
	posix_unlock(&lock);
}

/*
 * liburcu has two halves, and the callback threads must be still first. Their half is told of the child only when the
 * child first needs a callback. Told at once, it would make a thread, and a program that forks expects a child with
 * one thread.
 */
void rcu_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		posix_lock(&lock);
		if (!inherited)
			urcu_bp_call_rcu_before_fork();
		urcu_bp_before_fork();
		return;
	}
	if (step == FORK_CHILD) {
		urcu_bp_after_fork_child();
		runs = false;
		inherited = true;
	} else {
		urcu_bp_after_fork_parent();
		if (!inherited)
			urcu_bp_call_rcu_after_fork_parent();
	}
	posix_unlock(&lock);
}

/* Later versions of liburcu end their thread at exit, under a lock that stays held until they are told of the fork. */
__attribute__((destructor)) static void end(void)
{
	posix_lock(&lock);
	if (inherited)
		urcu_bp_call_rcu_after_fork_child();
	inherited = false;
	posix_unlock(&lock);
}
