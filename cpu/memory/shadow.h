/* SPDX-License-Identifier: MIT */
/*
 * The CPU's part of shadow paging (vmmu/mmu.h). With entry.shadow the CPU walks entry.root with linear addresses. What
 * concerns the guest's own tables it asks of the library, outside the guest. A VM with a second stage reaches nothing
 * of this.
 */
#ifndef CPU_MEMORY_SHADOW_H
#define CPU_MEMORY_SHADOW_H

#include "cpu/base/private.h"
#include "cpu/memory/walk.h"

/** walk() in shadow mode, of a canonical address. Raises #PF, or leaves for the library. Fills the TLB. */
struct place cpu_shadow_walk(struct cpu *cpu, uint64_t linear, enum access access);

/** Collect a write to `place`, of which place->behind is set. The library makes it. */
void cpu_shadow_write(struct cpu *cpu, const struct place *place, unsigned size, uint64_t value);

/**
 * A locked access to such a page, which does not cross it. Returns: where to make it. The library is told when the
 * instruction is complete.
 */
void *cpu_shadow_in_place(struct cpu *cpu, const struct place *place, unsigned size);

/* ---- outside the guest ---- */

enum shadow_answer { SHADOW_RUN, SHADOW_MMIO, SHADOW_HOST, SHADOW_WAIT, SHADOW_NOMEM, SHADOW_DEAD, SHADOW_STUCK };

/**
 * A fault of cpu_shadow_walk: ask the library. p->fault_gpa and fault_error are set for MMIO and HOST, fault_gpa for
 * WAIT.
 * `nowait`: VMMU_PF_NOWAIT or 0.
 */
enum shadow_answer cpu_shadow_fault(struct cpu *cpu, uint64_t nowait);

/** The library writes what the last instruction wrote to guest tables. Returns: false when memory there is gone. */
bool cpu_shadow_writes(struct cpu *cpu);

#endif
