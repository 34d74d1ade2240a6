/* SPDX-License-Identifier: MIT */
/*
 * Handlers of the ioctls about the VM, its memory slots and its clock. kvm/ioctl/dispatch.h says what a handler
 * may expect.
 */
#ifndef VMMU_KVM_VM_IOCTLS_H
#define VMMU_KVM_VM_IOCTLS_H

struct kvm;

long vm_set_region(struct kvm *kvm, unsigned long argument);
long vm_set_region2(struct kvm *kvm, unsigned long argument);
long vm_get_dirty_log(struct kvm *kvm, unsigned long argument);
long vm_clear_dirty_log(struct kvm *kvm, unsigned long argument);
long vm_reset_rings(struct kvm *kvm, unsigned long argument);
long vm_register_coalesced(struct kvm *kvm, unsigned long argument);
long vm_unregister_coalesced(struct kvm *kvm, unsigned long argument);
long vm_set_nr_mmu_pages(struct kvm *kvm, unsigned long argument);
long vm_get_nr_mmu_pages(struct kvm *kvm, unsigned long argument);
long vm_set_tss_addr(struct kvm *kvm, unsigned long argument);
long vm_set_identity_map(struct kvm *kvm, unsigned long argument);
long vm_set_boot_cpu(struct kvm *kvm, unsigned long argument);
long vm_set_tsc_khz(struct kvm *kvm, unsigned long argument);
long vm_get_tsc_khz(struct kvm *kvm, unsigned long argument);
long vm_get_clock(struct kvm *kvm, unsigned long argument);
long vm_set_clock(struct kvm *kvm, unsigned long argument);

#endif
