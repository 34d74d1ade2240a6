/* SPDX-License-Identifier: MIT */
/* Model-specific registers: those of the CPU, those of the front end, and which accesses exit to the client. */
#ifndef VMMU_KVM_MSR_H
#define VMMU_KVM_MSR_H

#include "cpu/cpu.h"

struct kvm;
struct kvm_vcpu;

/** Set the front end's MSRs of a new vCPU. */
void msr_reset(struct kvm_vcpu *vcpu);

/** The guest's RDMSR and WRMSR. On the vCPU's thread. */
enum cpu_msr_result msr_guest_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value);
enum cpu_msr_result msr_guest_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value);

/** May IA32_APIC_BASE become `value`? `host`: the client writes it, and may change from any mode to any other. */
bool msr_apic_base_is_legal(struct kvm_vcpu *vcpu, uint64_t value, bool host);

#endif
