/* SPDX-License-Identifier: MIT */
/* Waiting and waking by futex; reports of failed checks. */
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "port/contract/port.h"
#include "port/posix/raw.h"

void port_wait(const uint32_t *word, uint32_t expected)
{
	raw_syscall(SYS_futex, (long)(uintptr_t)word, FUTEX_WAIT_PRIVATE, expected, 0, 0, 0);
}

void port_wake(const uint32_t *word)
{
	raw_syscall(SYS_futex, (long)(uintptr_t)word, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
}

void port_yield(void)
{
	sched_yield();
}

void port_rest(void)
{
	raw_rest();
}

void port_panic(const char *file, int line, const char *what)
{
	fprintf(stderr, "vmmu: %s:%d: assertion failed: %s\n", file, line, what);
	abort();
}

void port_warn(const char *file, int line, const char *what)
{
	fprintf(stderr, "vmmu: %s:%d: internal check failed: %s; this VM is dead. Please report this.\n",
	        file, line, what);
}
