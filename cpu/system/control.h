/* SPDX-License-Identifier: MIT */
/* The rules of CR0, CR3, CR4, EFER and RFLAGS: what may be written, and what follows. */
#ifndef CPU_SYSTEM_CONTROL_H
#define CPU_SYSTEM_CONTROL_H

#include "cpu/base/types.h"

void rflags_set(struct cpu *cpu, uint64_t flags);
/** Returns: false when the value is not legal (#GP). `host`: the owner writes. */
bool cr0_write(struct cpu *cpu, uint64_t value);
bool cr3_write(struct cpu *cpu, uint64_t value);
bool cr4_write(struct cpu *cpu, uint64_t value);
/** Would a write of CR`n` by the guest be legal, as far as the value alone decides? Changes nothing. */
bool cr_legal(const struct cpu *cpu, unsigned n, uint64_t value);
bool efer_write(struct cpu *cpu, uint64_t value, bool host);
/** Would WRMSR accept this PAT? */
bool cpu_pat_is_legal(uint64_t value);
/**
 * What RDTSC, RDTSCP and RDMSR read: in guest mode the nested guest's TSC. WRMSR writes that of cpu_tsc there, too (APM
 * vol. 2, 15.30.5).
 */
uint64_t cpu_tsc_read(struct cpu *cpu);

#endif
