/* SPDX-License-Identifier: MIT */
/* KVM_IOEVENTFD: a guest's write to a port or an address signals an eventfd and causes no exit. */
#ifndef VMMU_KVM_IOEVENTFD_H
#define VMMU_KVM_IOEVENTFD_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;

/**
 * The guest wrote `len` bytes. Any thread. Costs a look into a hash table, and no lock unless an ioeventfd is at this
 * address or hashes like it. Returns: true when one was signalled.
 */
bool ioeventfd_write(struct kvm *kvm, bool port, uint64_t address, unsigned len, const void *data);

#endif
