/* SPDX-License-Identifier: MIT */
/* What CPUID says, to the guest and to the CPU itself. */
#ifndef CPU_SYSTEM_CPUID_H
#define CPU_SYSTEM_CPUID_H

#include "cpu/base/types.h"

/** Ask the owner again what CPUID says, and keep what the CPU needs of it. */
void features_update(struct cpu *cpu);
/** CPUID as the guest sees it: out is EAX EBX ECX EDX. */
void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif
