/* SPDX-License-Identifier: MIT */
/*
 * Guest memory for callers that are no vCPU: device models, loaders, savers (KVM's kvm_read_guest, kvm_write_guest,
 * mark_page_dirty). Call these from any thread that is not inside the guest. Calls on the same bytes do not order each
 * other.
 *
 * In a VM with a dirty bitmap everything written here is in the bitmap. In a VM with dirty rings
 * (vmmu_dirty_ring_enable) the ring of the writing vCPU logs a page, and a thread without a vCPU has no ring. So a
 * write to a logged slot is refused rather than made unlogged. A device in such a VM makes a vCPU of its own, with a
 * ring, never enters the guest on it, and calls vmmu_guest_write on its own thread.
 */
#ifndef VMMU_MEMORY_H
#define VMMU_MEMORY_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

/**
 * Copy [gpa, gpa + bytes) of an address space to `to`. Nothing is copied unless every byte lies in a slot. Sleeps as
 * any access to host memory may. A slot change waits until the copy is done; faults do not.
 * Returns: VMMU_OK; VMMU_ENOENT (a byte is in no slot); VMMU_EFAULT (host memory is gone; a part may have been
 * copied); VMMU_EINVAL (no such address space); VMMU_EDEAD.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_read(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, void *to, size_t bytes);

/**
 * Copy `from` to [gpa, gpa + bytes), and mark its pages dirty where they are logged. Nothing is copied unless every
 * byte lies in a slot that is not read-only. With shadow paging, a write to one of the guest's page tables is followed
 * up as a vCPU's is (P4).
 * Returns: as vmmu_memory_read; VMMU_ENOENT also for a read-only slot; VMMU_EBUSY (the VM uses rings and a slot is
 * logged; nothing was copied).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_write(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, const void *from, size_t bytes);

/**
 * The caller has written [gpa, gpa + bytes) through a mapping of its own: mark the pages dirty, and follow up what
 * vmmu_memory_write would. Call it after the last store, never before: a mark that is taken before the store loses it
 * (P11). Read-only slots are marked, too: read-only is for the guest.
 * Cost: one atomic or for each page; slot changes wait meanwhile.
 * Returns: as vmmu_memory_write; nothing is marked unless VMMU_OK.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_written(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, size_t bytes);

/**
 * Where the program's memory for a guest address is, by the slots (KVM's gfn_to_hva). It may be elsewhere at once: a
 * caller that uses the memory itself must know that the slot stays.
 * Returns: VMMU_OK, VMMU_ENOENT (no slot), VMMU_EINVAL (no such address space), VMMU_EDEAD.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_hva(struct vmmu_vm *vm, uint32_t address_space, struct vmmu_gpa gpa,
                                                 struct vmmu_hva *out);

VMMU_END_DECLS

#endif
