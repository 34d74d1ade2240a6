/* SPDX-License-Identifier: MIT */
/* KVM_X86_SET_MSR_FILTER: which MSRs a guest may read and write. */
#ifndef VMMU_KVM_MSR_FILTER_H
#define VMMU_KVM_MSR_FILTER_H

#include <stdbool.h>
#include <stdint.h>

struct kvm;

/** May the guest do `what` (KVM_MSR_FILTER_READ or _WRITE) with the MSR? Any thread; takes no lock. */
bool msr_filter_allows(struct kvm *kvm, uint32_t index, uint32_t what);

#endif
