/* SPDX-License-Identifier: MIT */
/*
 * Guest memory for what is no vCPU: device models, loaders, savers (KVM's kvm_read_guest, kvm_write_guest,
 * mark_page_dirty). From any thread that is not inside the guest; calls on the same bytes do not order each other.
 *
 * In a VM with a dirty bitmap everything written here is in the bitmap. In a VM with dirty rings
 * (vmmu_dirty_ring_enable) a page is logged by the ring of the vCPU that wrote it, and a thread without a vCPU has
 * none: a write to a slot that is logged is refused, rather than made and not logged. A device there takes a vCPU of
 * its own, with a ring and without ever entering the guest, and calls vmmu_guest_write on its own thread.
 */
#ifndef VMMU_MEMORY_H
#define VMMU_MEMORY_H

#include <vmmu/types.h>
#include <vmmu/vm.h>

VMMU_BEGIN_DECLS

/**
 * Copy [gpa, gpa + bytes) of an address space to `to`. Nothing is copied unless every byte lies in a slot.
 * Sleeps as any access to host memory. Takes no lock that a fault or a slot change waits for long: a slot change waits
 * until the copy is done.
 * Returns: VMMU_OK; VMMU_ENOENT (a byte is in no slot); VMMU_EFAULT (host memory is gone: a part may have been copied);
 * VMMU_EINVAL (no such address space); VMMU_EDEAD.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_read(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, void *to, size_t bytes);

/**
 * Copy `from` to [gpa, gpa + bytes), and mark its pages dirty where they are logged. Nothing is copied unless every
 * byte lies in a slot that is not read-only. With shadow paging a write to a page table of the guest is followed up as
 * a vCPU's is (P4).
 * Returns: as vmmu_memory_read; VMMU_ENOENT also for a read-only slot; VMMU_EBUSY (the VM uses rings and a slot is
 * logged: nothing was copied).
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_write(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, const void *from, size_t bytes);

/**
 * The caller has written [gpa, gpa + bytes) through a mapping of its own: mark the pages dirty, and follow up what
 * vmmu_memory_write would. After the last store, never before it: a mark that is taken before the store loses it (P11).
 * Read-only slots too: read-only is for the guest.
 * Cost: one atomic or for each page, during which slot changes wait.
 * Returns: as vmmu_memory_write; nothing is marked unless VMMU_OK.
 */
VMMU_MUST_CHECK enum vmmu_status vmmu_memory_written(struct vmmu_vm *vm, uint32_t address_space,
                                                  struct vmmu_gpa gpa, size_t bytes);

VMMU_END_DECLS

#endif
