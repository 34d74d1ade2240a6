/* SPDX-License-Identifier: MIT */
/*
 * Timers. The armed ones are in a pairing heap, which lives in the timers themselves: arming allocates nothing, and
 * most timers are armed anew long before they are due, which costs little here.
 *
 * The thread sleeps on a futex. Who arms a timer that is due before the thread would wake changes the futex's word.
 */
#include "kvm/irq/timer.h"
#include "kvm/process/sys.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t returned = PTHREAD_COND_INITIALIZER; /* `running` changed, and somebody waits for that */
static struct timer *first;     /* lock; the root of the heap */
static struct timer *running;   /* lock; its function is being called */
static unsigned waiters;        /* lock; threads that wait for `running` to change */
static uint64_t sleeps_until;   /* lock; when the thread will wake, 0 while it is awake */
static atomic_uint changed;     /* futex; changes when the thread must look at the heap before that time */
static bool thread_runs;        /* lock */

uint64_t timer_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the heap -------------------------------------------------------------------------------------------- */

/* Join two heaps, whose roots have no siblings; each may be NULL. Returns: the root. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	struct timer *root = a, *below = b;

	if (!a || !b)
		return a ? a : b;
	if (b->due < a->due) {
		root = b;
		below = a;
	}
	below->next = root->child;
	below->back = root;
	if (root->child)
		root->child->back = below;
	root->child = below;
	return root;
}

static struct timer *detach(struct timer *t)
{
	struct timer *next = t->next;

	t->next = t->back = NULL;
	return next;
}

/* Make one heap of siblings: join them in pairs from the left, and the pairs from the right. */
static struct timer *meld_siblings(struct timer *list)
{
	struct timer *pairs = NULL, *root = NULL;

	while (list) {
		struct timer *a = list, *b = detach(a), *pair;

		list = b ? detach(b) : NULL;
		pair = meld(a, b);
		pair->next = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct timer *pair = pairs;

		pairs = detach(pair);
		root = meld(root, pair);
	}
	return root;
}

/* Take an armed timer out of the heap. Holds: lock. */
static void take(struct timer *t)
{
	struct timer *rest = meld_siblings(t->child);

	t->child = NULL;
	t->armed = false;
	if (t == first) {
		first = rest;
		return;
	}
	if (t->back->child == t)
		t->back->child = t->next;
	else
		t->back->next = t->next;
	if (t->next)
		t->next->back = t->back;
	t->next = t->back = NULL;
	first = meld(first, rest);
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

/* Call the function of the first timer. Holds: lock, but not during the call. */
static void expire_first(void)
{
	struct timer *t = first;

	take(t);
	running = t;
	pthread_mutex_unlock(&lock);
	t->expired(t);
	pthread_mutex_lock(&lock);
	running = NULL;
	if (waiters)
		pthread_cond_broadcast(&returned);
}

/* Holds: lock, but not while it sleeps. */
static void sleep_until(uint64_t due)
{
	struct timespec until = timer_timespec(due);
	unsigned seen = atomic_load(&changed);

	sleeps_until = due;
	pthread_mutex_unlock(&lock);
	SYS6(SYS_futex, &changed, FUTEX_WAIT_BITSET_PRIVATE, seen, due == UINT64_MAX ? NULL : &until, 0,
	     FUTEX_BITSET_MATCH_ANY);
	pthread_mutex_lock(&lock);
	sleeps_until = 0;
}

static void *thread_main(void *unused)
{
	(void)unused;
	/* The kernel may put off other sleeps by 50 us, to wake for several of them at once. */
	prctl(PR_SET_TIMERSLACK, 1);
	pthread_mutex_lock(&lock);
	for (;;) {
		if (first && first->due <= timer_now())
			expire_first();
		else
			sleep_until(first ? first->due : UINT64_MAX);
	}
	return NULL;
}

bool timers_start(void)
{
	pthread_t thread;
	sigset_t all, old;
	bool runs;

	pthread_mutex_lock(&lock);
	if (!thread_runs) {
		/* Block all signals: those of the client must be handled by the client's threads. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		thread_runs = pthread_create(&thread, NULL, thread_main, NULL) == 0;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (thread_runs)
			pthread_detach(thread);
	}
	runs = thread_runs;
	pthread_mutex_unlock(&lock);
	return runs;
}

/* ---- arming ---------------------------------------------------------------------------------------------- */

void timer_arm(struct timer *timer, uint64_t due)
{
	bool wake;

	pthread_mutex_lock(&lock);
	if (timer->armed)
		take(timer);
	timer->due = due;
	timer->armed = true;
	first = meld(first, timer);
	wake = due < sleeps_until;
	if (wake) {
		sleeps_until = 0; /* one wake is enough */
		atomic_fetch_add(&changed, 1);
	}
	pthread_mutex_unlock(&lock);
	if (wake)
		SYS3(SYS_futex, &changed, FUTEX_WAKE_PRIVATE, 1);
}

void timer_stop(struct timer *timer)
{
	pthread_mutex_lock(&lock);
	if (timer->armed)
		take(timer);
	pthread_mutex_unlock(&lock);
}

void timer_cancel(struct timer *timer)
{
	pthread_mutex_lock(&lock);
	while (running == timer) {
		waiters++;
		pthread_cond_wait(&returned, &lock);
		waiters--;
	}
	if (timer->armed)
		take(timer);
	pthread_mutex_unlock(&lock);
}

void timers_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		pthread_mutex_lock(&lock);
		return;
	}
	if (step == FORK_CHILD) {
		first = running = NULL;
		waiters = 0;
		sleeps_until = 0;
		thread_runs = false;
		pthread_cond_init(&returned, NULL);
	}
	pthread_mutex_unlock(&lock);
}
