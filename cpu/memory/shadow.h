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

/* ---- outside the guest ---- */

enum shadow_answer { SHADOW_RUN, SHADOW_MMIO, SHADOW_HOST, SHADOW_WAIT, SHADOW_NOMEM, SHADOW_DEAD, SHADOW_STUCK };

/**
 * A fault of cpu_shadow_walk: ask the library. p->fault_gpa and fault_error are set for MMIO and HOST, fault_gpa for
 * WAIT.
 * `nowait`: VMMU_PF_NOWAIT or 0.
 */
enum shadow_answer cpu_shadow_fault(struct cpu *cpu, uint64_t nowait);

#endif
