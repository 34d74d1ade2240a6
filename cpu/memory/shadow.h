/* SPDX-License-Identifier: MIT */
/*
 * The CPU's part of shadow paging (vmmu/mmu.h): when entry.shadow, it walks entry.root with linear addresses, and what
 * concerns the guest's own tables is asked of the library outside the guest. Nothing of this is reached in a VM with a second stage.
 */
#ifndef CPU_MEMORY_SHADOW_H
#define CPU_MEMORY_SHADOW_H

#include "cpu/base/private.h"

/** walk() in shadow mode; canonicity was checked. Raises #PF, or leaves for the library. Fills the TLB. */
struct place cpu_shadow_walk(struct cpu *cpu, uint64_t linear, enum access access);

/** A write of the instruction to `place` (place->behind is set), for the library to make. */
void cpu_shadow_write(struct cpu *cpu, const struct place *place, unsigned size, uint64_t value);

/** A locked access to such a page, all in it: where to make it. The library is told when the instruction is complete. */
void *cpu_shadow_in_place(struct cpu *cpu, const struct place *place, unsigned size);

/*
 * MOV to CR0, CR3, CR4, INVLPG and INVPCID concern the library: in shadow mode these leave the guest and do not return. The others return
 * at once. cpu_shadow_cr: only when the write changes something for paging.
 */
void cpu_shadow_cr(struct cpu *cpu, unsigned n, uint64_t value);
void cpu_shadow_invlpg(struct cpu *cpu, uint64_t linear);
void cpu_shadow_invpcid(struct cpu *cpu, unsigned type, uint64_t pcid, uint64_t linear);

/* ---- outside the guest ---- */

enum shadow_answer { SHADOW_RUN, SHADOW_MMIO, SHADOW_HOST, SHADOW_NOMEM, SHADOW_DEAD, SHADOW_STUCK };

/** A fault of cpu_shadow_walk: ask the library. p->fault_gpa and fault_error are set for MMIO and HOST. */
enum shadow_answer cpu_shadow_fault(struct cpu *cpu);

/** The library writes what the last instruction wrote to guest tables. Returns: false when that is no memory any more. */
bool cpu_shadow_writes(struct cpu *cpu);

/** What shadow_cr and the others left for. Returns: false when the instruction raises #GP(0). */
bool cpu_shadow_system(struct cpu *cpu);

/** Before an entry, after the guest or its owner wrote CR0, CR3, CR4 or EFER. */
void cpu_shadow_regs(struct cpu *cpu);

#endif
