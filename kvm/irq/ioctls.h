/* SPDX-License-Identifier: MIT */
/* Handlers of the ioctls about interrupts. kvm/ioctl/dispatch.h says what a handler may expect. */
#ifndef VMMU_KVM_IRQ_IOCTLS_H
#define VMMU_KVM_IRQ_IOCTLS_H

struct kvm;
struct kvm_vcpu;

long vm_create_irqchip(struct kvm *kvm, unsigned long argument);
long vm_get_irqchip(struct kvm *kvm, unsigned long argument);
long vm_set_irqchip(struct kvm *kvm, unsigned long argument);
long vm_create_pit(struct kvm *kvm, unsigned long argument);
long vm_create_pit2(struct kvm *kvm, unsigned long argument);
long vm_get_pit(struct kvm *kvm, unsigned long argument);
long vm_set_pit(struct kvm *kvm, unsigned long argument);
long vm_get_pit2(struct kvm *kvm, unsigned long argument);
long vm_set_pit2(struct kvm *kvm, unsigned long argument);
long vm_reinject_control(struct kvm *kvm, unsigned long argument);
long vm_set_gsi_routing(struct kvm *kvm, unsigned long argument);
long vm_signal_msi(struct kvm *kvm, unsigned long argument);
long vm_ioeventfd(struct kvm *kvm, unsigned long argument);
long vm_irqfd(struct kvm *kvm, unsigned long argument);
long vm_irq_line(struct kvm *kvm, unsigned long argument);
long vm_irq_line_status(struct kvm *kvm, unsigned long argument);
long vcpu_get_lapic(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_lapic(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_set_vapic_addr(struct kvm_vcpu *vcpu, unsigned long argument);
long vcpu_tpr_access_reporting(struct kvm_vcpu *vcpu, unsigned long argument);

#endif
