/* SPDX-License-Identifier: MIT */
/*
 * Timers of the whole process: a function that is called when its time has come, on one thread for all timers. The
 * thread sleeps until the first of them, and so exactly as the host's kernel can.
 *
 * All times are CLOCK_MONOTONIC, in ns. No function allocates. Arming and stopping make no system call but futex.
 */
#ifndef VMMU_KVM_TIMER_H
#define VMMU_KVM_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "port/posix/fork.h"

/* A node of the heap of armed timers, so it stays where it is. Zero, but for `expired`, is a timer that is stopped. */
struct timer {
	/*
	 * The timer was due, and is stopped now. Called on the timers' thread, with no lock held. It may arm the timer
	 * again. The next function waits for it to return, so it must be short.
	 */
	void (*expired)(struct timer *timer);
	uint64_t due;
	/* Its place in the heap. `back`: the left sibling, or the parent if there is none. */
	struct timer *child, *next, *back;
	bool armed;
};

uint64_t timer_now(void);

static inline struct timespec timer_timespec(uint64_t ns)
{
	return (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
}

/**
 * Let `expired` be called at `due`, once. If the timer was armed before, only the new time counts. Any thread. The
 * caller may hold locks that `expired` takes. Cost: O(1), and O(log n) if it was armed.
 */
void timer_arm(struct timer *timer, uint64_t due);

/** Stop it. `expired` may still be running, or about to. Any thread, with any locks. Cost: O(log n). */
void timer_stop(struct timer *timer);

/**
 * Stop it, and wait until `expired` is not running. The caller holds no lock that `expired` takes, and sees to it that
 * nobody arms the timer any more. After: the timer's memory may be freed. Not from a timer's function. Sleeps.
 */
void timer_cancel(struct timer *timer);

/**
 * Start the thread, if it does not run. Called where threads may be made, since the thread that arms a timer may be
 * forbidden to make any. Returns: does it run?
 */
bool timers_start(void);

/** A forked child has no timers, and no thread for them. */
fork_fn timers_fork;

#endif
