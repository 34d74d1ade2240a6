/* SPDX-License-Identifier: MIT */
/*
 * Dekker's entry: each thread says that it is there, then looks for the other. Without a full barrier on both sides
 * neither may see the other, on any machine.
 */
#include <stdatomic.h>

#include "check/check.h"

static atomic_int here[2];
static int saw[2];

static void enter(int me, int other)
{
	atomic_store_explicit(&here[me], 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	saw[me] = atomic_load_explicit(&here[other], memory_order_relaxed);
}

/* Release and acquire look as if they were enough. */
static void enter_too_weak(int me, int other)
{
	atomic_store_explicit(&here[me], 1, memory_order_release);
	saw[me] = atomic_load_explicit(&here[other], memory_order_acquire);
}

static void enter0(void) { enter(0, 1); }
static void enter1(void) { enter(1, 0); }
static void weak0(void) { enter_too_weak(0, 1); }
static void weak1(void) { enter_too_weak(1, 0); }

static void at_least_one_saw(void)
{
	check_assert(saw[0] || saw[1]);
}

CHECK_SCENARIO(store_buffering) = {
	.name = "store_buffering",
	.protocol = "",
	.claim = "at least one sees the other",
	.threads = 2,
	.thread = { enter0, enter1 },
	.finish = at_least_one_saw,
};

CHECK_SCENARIO(store_buffering_broken) = {
	.name = "store_buffering_broken",
	.protocol = "",
	.claim = "release and acquire do not do for a full barrier",
	.threads = 2,
	.thread = { weak0, weak1 },
	.finish = at_least_one_saw,
	.flags = CHECK_EXPECT_FAILURE,
};
