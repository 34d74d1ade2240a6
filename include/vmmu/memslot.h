/* SPDX-License-Identifier: MIT */
/*
 * Memory slots: which host memory backs which guest physical ranges. The rules are those of KVM_SET_USER_MEMORY_REGION
 * (Documentation/virt/kvm/api.rst, 4.35).
 */
#ifndef VMMU_MEMSLOT_H
#define VMMU_MEMSLOT_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

#define VMMU_MAX_SLOTS      32764u        /* user slots per address space */
#define VMMU_MAX_SLOT_PAGES ((UINT64_C(1) << 31) - 1)

#define VMMU_SLOT_LOG_DIRTY (1u << 0)
#define VMMU_SLOT_READONLY  (1u << 1)

struct vmmu_region {
	uint32_t slot;          /* 0 .. VMMU_MAX_SLOTS - 1 */
	uint32_t address_space; /* 0 .. config.address_spaces - 1 */
	uint32_t flags;         /* VMMU_SLOT_* */
	struct vmmu_gpa gpa;    /* page-aligned */
	uint64_t bytes;         /* page-aligned; 0 deletes the slot */
	struct vmmu_hva hva;    /* page-aligned */
};

/**
 * Create, delete, move or re-flag one slot. All or nothing.
 * After: no vCPU uses what the old slot mapped (I3.1).
 * Holds: none. Sleeps (slots_lock, invalidations in flight, a grace period), allocates.
 * Cost: O(log slots), plus zapping what a deleted or moved slot had mapped.
 * Returns: VMMU_OK; VMMU_EINVAL (alignment, unknown flag, slot number, wrap, size change,
 * READONLY toggled, delete of an empty slot); VMMU_EEXIST (overlaps another slot); VMMU_ENOMEM.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_region_set(struct vmmu_vm *vm, const struct vmmu_region *region);

/**
 * What a slot's deletion or move zaps from now on. True: that slot's range alone; false: everything, as with KVM's
 * quirk SLOT_ZAP_ALL. At first it is as slot_delete_zaps_slot of the config says. Holds: none. Sleeps (slots_lock).
 */
void vmmu_slot_delete_set(struct vmmu_vm *vm, bool zaps_slot);

/**
 * What a slot holds now. Returns: VMMU_OK, or VMMU_ENOENT and *out untouched.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_region_get(struct vmmu_vm *vm, uint32_t address_space, uint32_t slot,
                                 struct vmmu_region *out);

VMMU_END_DECLS

#endif
