/* SPDX-License-Identifier: MIT */
/* What puts the parts of core together. */
#ifndef CORE_VM_VM_INT_H
#define CORE_VM_VM_INT_H

#include <vmmu/vmmu.h>

#include "core/fault/vcpu.h"
#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/** What the tables do when a slot changes (zap.c). */
extern const struct slots_hooks vm_slots_hooks;

/**
 * Make every mapping of the VM obsolete and take them apart (P3). Holds: slots_lock. Sleeps.
 * After: no vCPU uses anything that was mapped when this was called (I3.1, I3.2).
 */
void vm_zap_all_fast(struct vm *vm);

/**
 * All slots that are logged, as if their logs began now: every page faults on its next write. For a VM with rings. Holds: slots_lock. Sleeps.
 * Cost: a walk of all tables.
 */
void vm_logging_begin_again(struct vm *vm);

#endif
