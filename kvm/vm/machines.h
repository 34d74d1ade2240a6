/* SPDX-License-Identifier: MIT */
/*
 * The VMs of this process, and the client's memory calls as invalidations (P5).
 *
 * A call that may take memory away from a guest is made between begin and end, for every VM. No VM is added or
 * removed while such a call is under way, so begin and its end see the same VMs.
 */
#ifndef VMMU_KVM_MACHINES_H
#define VMMU_KVM_MACHINES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "port/posix/fork.h"

struct kvm;

/** Add a VM. Sleeps until no invalidation is under way. Returns: 0 or -ENOMEM. */
int machines_add(struct kvm *kvm);

/** Remove a VM. After: no invalidation of it is under way, and none will begin. */
void machines_remove(struct kvm *kvm);

/** Call `each` for every VM. No VM is destroyed meanwhile. */
void machines_each(void (*each)(struct kvm *kvm, void *context), void *context);

extern atomic_uint machines_count;

/** Is there a VM that a memory call could concern? One load. */
static inline bool machines_any(void)
{
	return atomic_load_explicit(&machines_count, memory_order_acquire) != 0;
}

struct host_range {
	uintptr_t start, end;
};

/**
 * The host is about to change these ranges. Between begin and end this thread holds the list of VMs, shared.
 * Empty ranges are allowed. Every begin needs an end with the same ranges on the same thread.
 */
void invalidate_begin(const struct host_range *ranges, size_t count);
void invalidate_end(const struct host_range *ranges, size_t count);

/** A forked child has none of its parent's VMs. */
fork_fn machines_fork;

#endif
