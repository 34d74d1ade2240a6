/* SPDX-License-Identifier: MIT */
#ifndef VMMU_KVM_RUN_H
#define VMMU_KVM_RUN_H

#include "cpu/cpu.h"

/* What the CPU asks of the front end; the state is a struct vcpu. */
extern const struct cpu_ops run_cpu_ops;

#endif
