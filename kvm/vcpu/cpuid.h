/* SPDX-License-Identifier: MIT */
/* CPUID: what the software CPU can do, and what a client made of that for one vCPU. */
#ifndef VMMU_KVM_CPUID_H
#define VMMU_KVM_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_vcpu;

/** The guest's CPUID; `out` is EAX EBX ECX EDX. All zeros before KVM_SET_CPUID2, as in KVM. On the vCPU's thread. */
void cpuid_answer(struct kvm_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/**
 * The bits that no guest physical address of this vCPU has: those from MAXPHYADDR of its CPUID up. MAXPHYADDR is
 * 36 if the CPUID does not give it. If a client sets it to 0, all bits are reserved; if to 64 or more, none is.
 */
uint64_t cpuid_guest_reserved_gpa(struct kvm_vcpu *vcpu);

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/** This bit of the MSR MISC_ENABLE shows MONITOR and MWAIT, once the client has disabled the quirk that it does not. */
#define MISC_ENABLE_MWAIT (1u << 18)

/** Features that decide whether the guest has an MSR, or may write one. */
enum cpuid_feature { CPUID_SSE3, CPUID_X2APIC, CPUID_PDCM, CPUID_SPEC_CTRL, CPUID_TSC_AUX, CPUID_XSAVES };
bool cpuid_guest_has(struct kvm_vcpu *vcpu, enum cpuid_feature feature);

/** The state components that the guest's CPUID has, as bits of XCR0. 0 before KVM_SET_CPUID2. */
uint64_t cpuid_guest_components(struct kvm_vcpu *vcpu);

/** What the software CPU has, whatever guests are told. SVM: unless `vmmu run` hides it. */
bool cpuid_has_xsave(void);
bool cpuid_has_svm(void);
uint64_t cpuid_xcr0_max(void);

#endif
