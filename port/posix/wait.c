/* SPDX-License-Identifier: MIT */
/* Waiting and waking by futex; reports of failed checks. */
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <errno.h>

#include "port/contract/port.h"

/*
 * errno is the interrupted program's: core runs inside its calls and its signal handlers.
 */
void port_wait(const uint32_t *word, uint32_t expected)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
	errno = saved;
}

void port_wake(const uint32_t *word)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

void port_yield(void)
{
	sched_yield();
}

void port_panic(const char *file, int line, const char *what)
{
	fprintf(stderr, "vmmu: %s:%d: assertion failed: %s\n", file, line, what);
	abort();
}

void port_warn(const char *file, int line, const char *what)
{
	fprintf(stderr, "vmmu: %s:%d: internal check failed: %s; this VM is dead. Please report this.\n", file, line, what);
}
