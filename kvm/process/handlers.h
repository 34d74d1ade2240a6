/* SPDX-License-Identifier: MIT */
/*
 * The client's signal handlers as it set them. The kernel has our wrapper in their place; signals.h says when the
 * wrapper calls them.
 */
#ifndef VMMU_KVM_HANDLERS_H
#define VMMU_KVM_HANDLERS_H

#include <signal.h>
#include <stdint.h>

#include "port/posix/fork.h"

/** Called by the library's constructor, before there is a second thread. */
void handlers_begin(void);

/**
 * Do what the client asked for on this signal, or else the kernel's default. Called by the wrapper with the
 * arguments that the kernel gave it. May not return, since a client's handler may not.
 */
void handlers_call(int number, siginfo_t *info, void *context);

/** As sigaction, for any signal that the kernel lets a process handle. Returns: 0, or -1 with errno set. */
int handlers_change(int number, const struct sigaction *action, struct sigaction *old);

/** From now on a program is hosted. Called before it runs, while there is one thread. */
void handlers_host(void);

/* A handler as rt_sigaction(2) passes it. */
struct handlers_kernel {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

void handlers_to_kernel(const struct sigaction *action, struct handlers_kernel *out);
void handlers_from_kernel(const struct handlers_kernel *action, struct sigaction *out);

fork_fn handlers_fork;

#endif
