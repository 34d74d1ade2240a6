/* SPDX-License-Identifier: MIT */
/*
 * Dirty logging: which guest pages were written (P11). There are two interfaces, as in KVM: a bitmap per slot, and a
 * ring per vCPU. A VM uses one of them.
 *
 * A page becomes dirty when the guest writes it, when A or D bits are set in it because it is one of the guest's
 * tables, or when vmmu_guest_write or vmmu_guest_written marks it. Reading or executing a page does not make it dirty.
 */
#ifndef VMMU_DIRTY_H
#define VMMU_DIRTY_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

struct vmmu_vcpu;

#define VMMU_DIRTY_MANUAL_PROTECT (1u << 0) /* get does not clear: vmmu_dirty_clear does */
#define VMMU_DIRTY_INITIALLY_SET  (1u << 1) /* a log starts with every page dirty */

/**
 * Choose how the bitmap works, for logs started from now on: a set of VMMU_DIRTY_*.
 * Returns: VMMU_EINVAL for an unknown bit, or INITIALLY_SET without MANUAL_PROTECT.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_dirty_mode_set(struct vmmu_vm *vm, unsigned mode);

/**
 * Fetch a slot's dirty bitmap: bit n is page n of the slot. `bitmap`: `words` 64-bit words, at least the slot's pages
 * rounded up to 64. If that memory is not there, the call does not crash but answers VMMU_EFAULT; it may have written
 * part of it. Without MANUAL_PROTECT the call also clears the log and write-protects the pages. It loses nothing
 * (P11): after VMMU_EFAULT every page is as dirty as before. Sleeps.
 * Returns: VMMU_OK; VMMU_ENOENT (no such slot, or it has no log); VMMU_EINVAL (bad numbers, too few words); VMMU_EBUSY
 * (the VM uses rings); VMMU_EFAULT.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_dirty_get(struct vmmu_vm *vm, uint32_t address_space, uint32_t slot,
                                uint64_t *bitmap, size_t words);

/**
 * Clear the pages whose bit is set in `bitmap` (bit 0 is page `first_page`) and write-protect them. `first_page` is a
 * multiple of 64; so is `num_pages`, unless it reaches the end of the slot. `bitmap`: num_pages rounded up to 64, in
 * 64-bit words. If that memory is not there, the answer is VMMU_EFAULT, and nothing was cleared.
 * Returns: as vmmu_dirty_get.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_dirty_clear(struct vmmu_vm *vm, uint32_t address_space, uint32_t slot,
                                  uint64_t first_page, uint64_t num_pages, const uint64_t *bitmap);

/* One ring entry, laid out as struct kvm_dirty_gfn. */
struct vmmu_dirty_gfn {
	uint32_t flags;  /* VMMU_DIRTY_GFN_*; release-stored by the writer, acquire-loaded by the reader */
	uint32_t slot;   /* address space << 16 | slot id */
	uint64_t offset; /* page within the slot */
};
#define VMMU_DIRTY_GFN_DIRTY (1u << 0)
#define VMMU_DIRTY_GFN_RESET (1u << 1)

#define VMMU_DIRTY_RING_MAX 65536u /* entries */
/* A ring asks for an exit when this many entries are left (KVM: reserved entries + PML's 512). */
#define VMMU_DIRTY_RING_RESERVED 64u

/**
 * Switch the VM to rings of `entries` each: a power of two from 2 * VMMU_DIRTY_RING_RESERVED to VMMU_DIRTY_RING_MAX.
 * Call it before the first vCPU.
 * Returns: VMMU_EINVAL (size), VMMU_EBUSY (a vCPU exists, or rings are on).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_dirty_ring_enable(struct vmmu_vm *vm, uint32_t entries);

/**
 * Give a vCPU its ring. When rings are on, a vCPU needs one before it first enters. `ring` is shared with the program
 * that harvests it; core never trusts what it reads there. The ring must stay mapped while the vCPU lives. Entries
 * that it holds when the vCPU is destroyed are taken back by the next vmmu_dirty_ring_reset, unread.
 */
void vmmu_vcpu_dirty_ring_set(struct vmmu_vcpu *vcpu, struct vmmu_dirty_gfn *ring);

/**
 * From now on (`open`) this vCPU may fill half of the reserved entries, too, before its ring counts as nearly full. The
 * caller is in the middle of something after which alone the vCPU's state makes sense to anybody else. `open` false: no
 * more. If only the reserve is left by now, the next vmmu_vcpu_enter answers VMMU_ENTER_RING_FULL. Without a ring there
 * is no effect. On the vCPU's thread, outside the guest.
 */
void vmmu_vcpu_dirty_ring_reserve(struct vmmu_vcpu *vcpu, bool open);

/**
 * Take back every entry that the harvester marked RESET, on all vCPUs, and write-protect their pages. `count`: number
 * of entries taken back, without those of destroyed vCPUs.
 * After: what was written before to a page named there is in the page; what is written later is logged. Read the pages
 * now, not before the call.
 * Cost: the pages named. The first call after a vCPU was destroyed with entries in its ring walks all that is mapped
 * of logged slots.
 * Returns: VMMU_OK, VMMU_EINVAL if rings are off.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_dirty_ring_reset(struct vmmu_vm *vm, uint64_t *count);

VMMU_END_DECLS

#endif
