/* SPDX-License-Identifier: MIT */
/*
 * The client's signal handlers as it set them. The kernel has our wrapper in their place; signals.h says when the
 * wrapper calls them.
 */
#ifndef VMMU_KVM_HANDLERS_H
#define VMMU_KVM_HANDLERS_H

#include <signal.h>

#include "port/posix/fork.h"

/** Called by the library's constructor, before there is a second thread. */
void handlers_begin(void);

/**
 * Do what the client asked for on this signal, or else the kernel's default. Called by the wrapper with the
 * arguments that the kernel gave it. May not return, since a client's handler may not.
 */
void handlers_call(int number, siginfo_t *info, void *context);

fork_fn handlers_fork;

#endif
