/* SPDX-License-Identifier: MIT */
/* What puts the parts of core together. */
#ifndef CORE_VM_VM_INT_H
#define CORE_VM_VM_INT_H

#include <vmmu/vmmu.h>

#include "core/fault/vcpu.h"
#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/** What the tables do when a slot changes (region.c). */
extern const struct slots_hooks vm_slots_hooks;

/* --- what a store of the hypervisor needs before and after (guest.c). `vcpu`: whose ring logs it; NULL: a device's */

/**
 * Has the ring room? A page that does not fit would be written and not logged. `logged`: how many pages need an
 * entry.
 * Returns: VMMU_OK; VMMU_EBUSY, VMMU_EINVAL, VMMU_E2BIG as vmmu_guest_write and vmmu_memory_write.
 */
enum vmmu_status guest_has_room(const struct vm *vm, struct vmmu_vcpu *vcpu, uint64_t logged);

/**
 * The store may have hit a guest page table (P4), and it must be logged (P11): call it after the store, in the SRCU
 * read section that found the slot. The bytes lie in one page. Takes mmu_lock only if a table may be hit.
 */
void guest_written(struct vm *vm, struct vmmu_vcpu *vcpu, const struct memslot *slot, gpa_t gpa, size_t bytes);

/**
 * No pfn cache uses host memory of [start, end) any more (P12, pfn_cache.c). Call it after the range was noted as in
 * progress, outside mmu_lock. Waits for open windows on the range. Cost in a VM with no cache: one load.
 */
void pfn_caches_invalidate(struct vm *vm, hva_t start, hva_t end);

#endif
