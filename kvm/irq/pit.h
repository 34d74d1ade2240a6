/* SPDX-License-Identifier: MIT */
/*
 * The PIT (Intel 8254) and port 0x61 of a PC. Channel 0 drives line 0, by edges.
 *
 * kvm->irq_lock protects it. A VM without one pays for a look at kvm->pit.
 */
#ifndef VMMU_KVM_PIT_H
#define VMMU_KVM_PIT_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;

/** A guest access to a port. Takes irq_lock if the port is the PIT's. Returns: false when it is not. */
bool pit_io(struct kvm *kvm, bool in, uint16_t port, unsigned size, void *data);

#endif
