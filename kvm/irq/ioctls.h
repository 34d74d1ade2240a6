/* SPDX-License-Identifier: MIT */
/* The ioctls about interrupts: handlers, as kvm/ioctl/dispatch.h says. */
#ifndef VMMU_KVM_IRQ_IOCTLS_H
#define VMMU_KVM_IRQ_IOCTLS_H

struct vm;
struct vcpu;

long vm_create_irqchip(struct vm *vm, unsigned long argument);
long vm_set_gsi_routing(struct vm *vm, unsigned long argument);
long vm_signal_msi(struct vm *vm, unsigned long argument);
long vm_ioeventfd(struct vm *vm, unsigned long argument);
long vm_irq_line(struct vm *vm, unsigned long argument);
long vm_irq_line_status(struct vm *vm, unsigned long argument);
long vcpu_get_lapic(struct vcpu *vcpu, unsigned long argument);
long vcpu_set_lapic(struct vcpu *vcpu, unsigned long argument);

#endif
