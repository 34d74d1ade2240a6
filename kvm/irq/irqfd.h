/* SPDX-License-Identifier: MIT */
/*
 * KVM_IRQFD: a write to an eventfd is an interrupt. The write may come from a thread of the client, from another
 * process or from the kernel, so a thread of ours waits for it.
 */
#ifndef VMMU_KVM_IRQFD_H
#define VMMU_KVM_IRQFD_H

#include "port/posix/fork.h"

/** A forked child has none of its parent's irqfds. */
fork_fn irqfd_fork;

#endif
