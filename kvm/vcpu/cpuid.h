/* SPDX-License-Identifier: MIT */
/* CPUID: what the software CPU can do, and what a client made of it for one vCPU. */
#ifndef VMMU_KVM_CPUID_H
#define VMMU_KVM_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;

/** Guest CPUID: out is EAX EBX ECX EDX. Before KVM_SET_CPUID2 all zeros, as in KVM. On the vCPU's thread. */
void cpuid_answer(struct kvm_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/**
 * The bits that no guest physical address has: those above the MAXPHYADDR of the guest's CPUID, of 36 where that is not told. A client may
 * say 0, and then all are; or 64 and more, and then none is.
 */
uint64_t cpuid_guest_reserved_gpa(struct kvm_vcpu *vcpu);

enum cpuid_register { CPUID_EBX, CPUID_ECX, CPUID_EDX };

/** What decides whether the guest has an MSR. */
enum cpuid_feature { CPUID_X2APIC, CPUID_PDCM, CPUID_SPEC_CTRL, CPUID_TSC_AUX };
bool cpuid_guest_has(struct kvm_vcpu *vcpu, enum cpuid_feature feature);

/** Of the software CPU, whatever guests are told. */
bool cpuid_has_xsave(void);
uint64_t cpuid_xcr0_max(void);

#endif
