/* SPDX-License-Identifier: MIT */
/* With shadow paging: control registers and invalidations, of which the library is told. */
#ifndef CPU_SYSTEM_SHADOW_REGS_H
#define CPU_SYSTEM_SHADOW_REGS_H

#include "cpu/base/types.h"

/*
 * MOV to CR0, CR3, CR4, INVLPG and INVPCID concern the library. In shadow mode these functions leave the guest and
 * do not return; cpu_shadow_cr does so only when the write changes something for paging. Without shadow mode they
 * return at once.
 */
void cpu_shadow_cr(struct cpu *cpu, unsigned n, uint64_t value);
void cpu_shadow_invlpg(struct cpu *cpu, uint64_t linear);
void cpu_shadow_invpcid(struct cpu *cpu, unsigned type, uint64_t pcid, uint64_t linear);

/** What cpu_shadow_cr and the others left for, outside the guest. Returns: false when the instruction raises #GP(0). */
bool cpu_shadow_system(struct cpu *cpu);

/**
 * Outside the guest: may the PDPTEs at `cr3` be loaded (PAE paging)? They must be in memory, and have no reserved bits.
 */
bool cpu_pdptes_legal(struct cpu *cpu, uint64_t cr3);

/** Before an entry, after the guest or its owner wrote CR0, CR3, CR4 or EFER. */
void cpu_shadow_regs(struct cpu *cpu);

#endif
