/* SPDX-License-Identifier: MIT */
/* The client's signal handlers as it set them, behind the wrapper that the kernel has (signals.h says when the wrapper calls them). */
#ifndef VMMU_KVM_HANDLERS_H
#define VMMU_KVM_HANDLERS_H

#include <signal.h>

#include "port/posix/fork.h"

/** From a constructor, before there is a second thread. */
void handlers_begin(void);

/**
 * Do what the client, or by default the kernel, does about a signal. In the wrapper, with what the kernel gave to it; may not return, as a handler may not.
 */
void handlers_call(int number, siginfo_t *info, void *context);

fork_fn handlers_fork;

#endif
