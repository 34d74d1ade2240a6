/* SPDX-License-Identifier: MIT */
/*
 * Flushing and tagging of the software TLB. The lookup is in mem.h, the filling in walk.c and shadow.c.
 *
 * Translations belong to a context, which AMD SVM names by an ASID: 0 is the guest itself, others are its nested
 * guests. VMRUN and #VMEXIT change the context and flush nothing. A flush without a word about ASIDs concerns the
 * current context alone, as the guest's own flushes do.
 */
#ifndef CPU_MEMORY_TLB_H
#define CPU_MEMORY_TLB_H

#include "cpu/base/types.h"

struct vmmu_nested;

/** Drop the current context's translations of linear addresses. */
void tlb_flush(struct cpu *cpu);
/** Drop every context's translations of linear addresses: the owner changed what they are checked by. */
void tlb_flush_contexts(struct cpu *cpu);
/** Drop every translation, of the second stage, too: the library demands it. */
void tlb_flush_nested(struct cpu *cpu);
void tlb_flush_page(struct cpu *cpu, uint64_t linear);
void tlb_flush_writes(struct cpu *cpu);
/** Compute cpu->tlb_tag anew, after CPL, AC or CR4 changed or after a longjmp. */
void tlb_tag_update(struct cpu *cpu);

/* ---- nested guests ---- */

#define TLB_ASID_HOST 0u /* the guest itself: the hypervisor of nested guests */

/**
 * VMRUN and #VMEXIT, in two steps: leave the current context before a register of cpu->s is replaced, and enter the
 * next one when all are. Another enter may follow the first without a leave between.
 */
void tlb_context_leave(struct cpu *cpu);
/**
 * Translations of `asid` count from here on. cpu->s has its state. `nested`: the hypervisor's table, as it was given to
 * vmmu_nested_enter, or NULL without nested paging. The caller calls mode_update afterwards.
 * Keeps what the context had, unless it was checked by other controls (CR0.PG and WP, CR4, EFER, PKRU). The CPU
 * remembers TLB_CONTEXTS of them. A new one takes the place of the one that was entered longest ago, as in hardware.
 */
void tlb_context_enter(struct cpu *cpu, uint32_t asid, const struct vmmu_nested *nested);

/** TLB_CONTROL 3 and 7: drop every translation of `asid`, of its second stage, too. May be the current context. */
void tlb_flush_asid(struct cpu *cpu, uint32_t asid);
/** TLB_CONTROL 1: the same for every ASID and the guest itself. */
void tlb_flush_asids(struct cpu *cpu);
/** INVLPGA: one linear address of `asid`. */
void tlb_flush_asid_page(struct cpu *cpu, uint32_t asid, uint64_t linear);

#endif
