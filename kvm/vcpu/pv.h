/* SPDX-License-Identifier: MIT */
/* KVM's paravirtual interface: its MSRs, its hypercalls, and what a vCPU does for it before it runs guest code. */
#ifndef VMMU_KVM_PV_H
#define VMMU_KVM_PV_H

#include "kvm/vcpu/steal.h"
#include "kvm/vm/vm.h"
#include <stdbool.h>
#include <stdint.h>

/** KVM_FEATURE_* of CPUID leaf 0x40000001: all that there is here. */
uint32_t pv_features(void);

/** May the vCPU use KVM_FEATURE_*? A client may enforce what it wrote in CPUID; without that all may be used. */
bool pv_has(const struct kvm_vcpu *vcpu, unsigned feature);

/** Is it an MSR of the paravirtual interface? */
bool pv_msr_is(uint32_t index);
/** Returns: false for #GP, and for the client as well. `host`: it is the client's. On the vCPU's thread. */
bool pv_msr_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value);
bool pv_msr_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host);
#define PV_MSRS 10u
/** The MSRs for KVM_GET_MSR_INDEX_LIST. */
void pv_msr_list(uint32_t list[PV_MSRS]);

/** Do what pv_requests asks for. On the vCPU's thread, outside the guest. */
void pv_requests_do(struct kvm_vcpu *vcpu);

/** The same, when there is something to do. Before the guest runs, and whenever its vCPU is outside for long. */
static inline void pv_look(struct kvm_vcpu *vcpu)
{
	if (vcpu->pv.steal_page.on)
		steal_look(vcpu);
	if (atomic_load_explicit(&vcpu->pv_requests, memory_order_relaxed))
		pv_requests_do(vcpu);
}

/** VMCALL or VMMCALL. CPU_CALL_EXIT: kvm_run is filled in, and pv_hypercall_complete takes the client's answer. */
enum cpu_call_result pv_hypercall(struct kvm_vcpu *vcpu);
void pv_hypercall_complete(struct kvm_vcpu *vcpu);

/** A new vCPU, with its CPU and MMU. Returns: false when there is no memory. */
bool pv_create(struct kvm_vcpu *vcpu);
void pv_destroy(struct kvm_vcpu *vcpu);

/** INIT switches all off. */
void pv_reset(struct kvm_vcpu *vcpu);

#endif
