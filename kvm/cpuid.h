/* SPDX-License-Identifier: MIT */
/* CPUID: what the software CPU can do, and what a client made of it for one vCPU. */
#ifndef VMMU_KVM_CPUID_H
#define VMMU_KVM_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/** Guest CPUID: out is EAX EBX ECX EDX. Before KVM_SET_CPUID2 all zeros, as in KVM. On the vCPU's thread. */
void cpuid_answer(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/** Width of a guest physical address: the guest's CPUID, else KVM's default of 36. */
unsigned cpuid_guest_phys_bits(struct vcpu *vcpu);
bool cpuid_guest_has_x2apic(struct vcpu *vcpu);

/** Of the software CPU, whatever guests are told. */
bool cpuid_has_xsave(void);
uint64_t cpuid_xcr0_max(void);

#endif
