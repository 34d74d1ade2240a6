/* SPDX-License-Identifier: MIT */
/* Flushing and tagging of the software TLB. The lookup is in mem.h, the filling in walk.c and shadow.c. */
#ifndef CPU_MEMORY_TLB_H
#define CPU_MEMORY_TLB_H

#include "cpu/base/types.h"

/** Drop the guest's translations. */
void tlb_flush(struct cpu *cpu);
/** Drop the guest's translations and the second stage's. */
void tlb_flush_nested(struct cpu *cpu);
void tlb_flush_page(struct cpu *cpu, uint64_t linear);
void tlb_flush_writes(struct cpu *cpu);
/** Compute cpu->tlb_tag anew, after CPL, AC or CR4 changed or after a longjmp. */
void tlb_tag_update(struct cpu *cpu);

#endif
