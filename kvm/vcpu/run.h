/* SPDX-License-Identifier: MIT */
#ifndef VMMU_KVM_RUN_H
#define VMMU_KVM_RUN_H

#include "cpu/cpu.h"

struct kvm_vcpu;

/* The calls that the CPU makes to the front end. Their state is a struct kvm_vcpu. */
extern const struct cpu_ops run_cpu_ops;

/** KVM_RUN. Returns: 0 or -errno. */
long vcpu_run(struct kvm_vcpu *vcpu, unsigned long argument);

/** Must KVM_RUN return EINTR: a signal was put off, or the thread was cancelled? On the vCPU's thread. */
bool run_must_end(struct kvm_vcpu *vcpu);

#endif
