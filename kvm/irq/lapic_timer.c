/* SPDX-License-Identifier: MIT */
#include "kvm/irq/lapic_timer.h"
#include "kvm/vm/vm.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct lapic_timer {
	struct kvm_vcpu *vcpu;
	struct lapic_timer *next; /* list_lock; in the list from creation to destruction */
	_Atomic uint64_t due;     /* monotonic ns; 0: stopped */
	uint64_t period;          /* only the vCPU's thread */
	uint64_t deadline;        /* only the vCPU's thread */
	bool woken;               /* list_lock; the thread has woken the vCPU for this due time */
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static struct lapic_timer *list; /* list_lock */
static bool thread_runs;         /* list_lock */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
}

static void *waker(void *argument)
{
	(void)argument;
	pthread_mutex_lock(&list_lock);
	for (;;) {
		uint64_t now = now_ns(), first = 0;

		for (struct lapic_timer *t = list; t; t = t->next) {
			uint64_t due = atomic_load(&t->due);

			if (!due || t->woken)
				continue;
			if (due <= now) {
				t->woken = true;
				vcpu_wake(t->vcpu);
			} else if (!first || due < first) {
				first = due;
			}
		}
		if (first) {
			struct timespec until = to_timespec(first);

			pthread_cond_timedwait(&changed, &list_lock, &until);
		} else {
			pthread_cond_wait(&changed, &list_lock);
		}
	}
	return NULL;
}

/*
 * Holds: list_lock. If no thread can be made, the timer still ends HLT, but a running guest notices it only at
 * its next exit.
 */
static void thread_start(void)
{
	pthread_condattr_t attributes;
	pthread_t thread;
	sigset_t all, old;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attributes);
	pthread_condattr_destroy(&attributes);
	/* Block all signals: those of the client must be handled by the client's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	thread_runs = pthread_create(&thread, NULL, waker, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (thread_runs)
		pthread_detach(thread);
}

void lapic_timer_start(void)
{
	pthread_mutex_lock(&list_lock);
	if (!thread_runs)
		thread_start();
	pthread_mutex_unlock(&list_lock);
}

struct lapic_timer *lapic_timer_create(struct kvm_vcpu *vcpu)
{
	struct lapic_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return NULL;
	timer->vcpu = vcpu;
	pthread_mutex_lock(&list_lock);
	timer->next = list;
	list = timer;
	pthread_mutex_unlock(&list_lock);
	return timer;
}

void lapic_timer_destroy(struct lapic_timer *timer)
{
	pthread_mutex_lock(&list_lock);
	for (struct lapic_timer **t = &list; *t; t = &(*t)->next) {
		if (*t != timer)
			continue;
		*t = timer->next;
		break;
	}
	pthread_mutex_unlock(&list_lock);
	free(timer);
}

static void set_due(struct lapic_timer *timer, uint64_t due)
{
	pthread_mutex_lock(&list_lock);
	if (!thread_runs)
		thread_start();
	atomic_store(&timer->due, due);
	timer->woken = false;
	if (thread_runs)
		pthread_cond_signal(&changed);
	pthread_mutex_unlock(&list_lock);
}

void lapic_timer_arm(struct lapic_timer *timer, uint64_t ns, uint64_t period)
{
	timer->period = period;
	timer->deadline = 0;
	set_due(timer, now_ns() + ns);
}

void lapic_timer_arm_deadline(struct lapic_timer *timer, uint64_t tsc, uint64_t now, uint32_t khz)
{
	lapic_timer_stop(timer);
	if (!tsc)
		return;
	timer->deadline = tsc;
	set_due(timer, now_ns() + (tsc > now ? (uint64_t)((unsigned __int128)(tsc - now) * 1000000u / khz) : 0));
}

void lapic_timer_period(struct lapic_timer *timer, uint64_t period)
{
	timer->period = period;
}

void lapic_timer_stop(struct lapic_timer *timer)
{
	atomic_store(&timer->due, 0);
	timer->period = 0;
	timer->deadline = 0;
}

bool lapic_timer_expired(struct lapic_timer *timer)
{
	uint64_t due = atomic_load_explicit(&timer->due, memory_order_relaxed), now;

	if (!due)
		return false;
	now = now_ns();
	if (now < due)
		return false;
	timer->deadline = 0;
	if (timer->period)
		set_due(timer, due + ((now - due) / timer->period + 1) * timer->period);
	else
		atomic_store(&timer->due, 0);
	return true;
}

bool lapic_timer_due(struct lapic_timer *timer, struct timespec *due)
{
	uint64_t at = atomic_load(&timer->due);

	*due = to_timespec(at);
	return at != 0;
}

uint64_t lapic_timer_left(struct lapic_timer *timer)
{
	uint64_t due = atomic_load(&timer->due), now = now_ns();

	return due > now ? due - now : 0;
}

uint64_t lapic_timer_deadline(struct lapic_timer *timer)
{
	return timer->deadline;
}

void lapic_timer_fork(enum fork_step step)
{
	if (step == FORK_PREPARE) {
		pthread_mutex_lock(&list_lock);
		return;
	}
	if (step == FORK_CHILD) {
		list = NULL;
		thread_runs = false;
	}
	pthread_mutex_unlock(&list_lock);
}
