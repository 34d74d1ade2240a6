/* SPDX-License-Identifier: MIT */
#ifndef VMMU_KVM_IRQ_H
#define VMMU_KVM_IRQ_H

struct vm;

/** Free a VM's interrupt routes. */
void irq_routes_free(struct vm *vm);

#endif
