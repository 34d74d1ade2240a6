/* SPDX-License-Identifier: MIT */
/*
 * The software TLB: flushing and tagging. Filling is walk.c's, the lookup is in mem.h.
 *
 * A full flush is a new generation in the tag. Entries are wiped only when the generations ran out. Every flush also
 * moves code_gen on, so that blocks are validated again: a block stands for a fetch translation.
 */
#include "cpu/base/private.h"
#include "cpu/memory/tlb.h"

#include <string.h>

void tlb_tag_update(struct cpu *cpu)
{
	uint64_t tag = cpu->tlb_tag & ~(uint64_t)(TLB_USER | TLB_SMAP);

	if (cpu->cpl == 3)
		tag |= TLB_USER;
	else if ((cpu->s.cr4 & CR4_SMAP) && !(cpu->s.rflags & RFLAGS_AC))
		tag |= TLB_SMAP;
	cpu->tlb_tag = tag;
}

static void tlb_wipe(struct cpu *cpu, unsigned first, unsigned last)
{
	/* No access has a tag with all bits set. */
	memset(cpu->tlb[first], 0xff, sizeof(cpu->tlb[0]) * (last - first + 1));
}

void tlb_flush(struct cpu *cpu)
{
	uint64_t generation = cpu->tlb_tag >> TLB_GENERATION_SHIFT;

	/* Generation 0 is that of the zeroed entries of a new CPU: no access has it. */
	if (++generation >= TLB_GENERATIONS) {
		tlb_wipe(cpu, TLB_READ, TLB_EXEC);
		cpu->p->last_walk.tag = ~UINT64_C(0);
		generation = 1;
	}
	cpu->tlb_tag = generation << TLB_GENERATION_SHIFT;
	tlb_tag_update(cpu);
	cpu->code_gen++;
	cpu->p->tables_gen++;
	cpu->p->large_pages = false;
}

void tlb_flush_nested(struct cpu *cpu)
{
	if (!cpu->entry.shadow) {
		memset(cpu->p->ntlb, 0, sizeof(cpu->p->ntlb));
		memset(cpu->p->nested_tables, 0, sizeof(cpu->p->nested_tables));
	}
	tlb_flush(cpu);
}

void tlb_flush_writes(struct cpu *cpu)
{
	tlb_wipe(cpu, TLB_WRITE, TLB_WRITE);
}

void tlb_flush_page(struct cpu *cpu, uint64_t linear)
{
	unsigned slot = (linear >> 12) % TLB_ENTRIES;

	if (cpu->p->large_pages) {
		tlb_flush(cpu);
		return;
	}
	for (unsigned kind = 0; kind < TLB_KINDS; kind++)
		cpu->tlb[kind][slot].tag = ~UINT64_C(0);
	cpu->p->last_walk.tag = ~UINT64_C(0);
	cpu->p->tables_gen++;
	cpu->code_gen++;
}
