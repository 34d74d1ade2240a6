/* SPDX-License-Identifier: MIT */
/* KVM's paravirtual interface: its MSRs, its hypercalls, and what a vCPU does for it before it runs guest code. */
#ifndef VMMU_KVM_PV_H
#define VMMU_KVM_PV_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;

/** KVM_FEATURE_* of CPUID leaf 0x40000001: all that there is here. */
uint32_t pv_features(void);

/** Is it an MSR of the paravirtual interface? */
bool pv_msr_is(uint32_t index);
/** Returns: false for #GP. `host`: it is the client's. On the vCPU's thread. */
bool pv_msr_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool host);
bool pv_msr_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host);
#define PV_MSRS 7u
/** The MSRs for KVM_GET_MSR_INDEX_LIST. */
void pv_msr_list(uint32_t list[PV_MSRS]);

/** Do what pv_requests asks for. On the vCPU's thread, outside the guest. */
void pv_requests_do(struct kvm_vcpu *vcpu);

/** INIT switches all off. */
void pv_reset(struct kvm_vcpu *vcpu);

#endif
