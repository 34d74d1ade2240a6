/* SPDX-License-Identifier: MIT */
/* A thread writes a message, then sets a flag that says so. */
#include <stdatomic.h>

#include "check/check.h"

static int message;
static atomic_int ready;

static void send(void)
{
	message = 42;
	atomic_store_explicit(&ready, 1, memory_order_release);
}

static void receive(void)
{
	while (!atomic_load_explicit(&ready, memory_order_acquire))
		check_pause();
	check_assert(message == 42);
}

/*
 * Right on x86, which keeps stores in order, and loads too. In C11 it is a data race. It fails on
 * ARM, or with a clever compiler.
 */
static void send_relaxed(void)
{
	message = 42;
	atomic_store_explicit(&ready, 1, memory_order_relaxed);
}

CHECK_SCENARIO(message_passing) = {
	.name = "message_passing",
	.protocol = "",
	.claim = "who sees the flag sees the message",
	.threads = 2,
	.thread = { send, receive },
};

CHECK_SCENARIO(message_passing_broken) = {
	.name = "message_passing_broken",
	.protocol = "",
	.claim = "a relaxed flag orders nothing",
	.threads = 2,
	.thread = { send_relaxed, receive },
	.flags = CHECK_EXPECT_FAILURE,
};
