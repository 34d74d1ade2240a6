/* SPDX-License-Identifier: MIT */
/*
 * The software TLB: flushing and tagging. Filling is walk.c's, the lookup is in mem.h.
 *
 * A full flush is a new generation in the tag. Entries are wiped only when the generations ran out. Every flush also
 * moves code_gen on, so that blocks are validated again: a block stands for a fetch translation.
 *
 * Each context has a generation of its own, so contexts share the TLB, and a lookup compares one tag. The same holds
 * for tables_gen and code_gen: no two contexts ever have the same one. A context that is not the current one is flushed
 * when its generation is forgotten.
 */
#include "cpu/base/private.h"
#include "cpu/memory/tlb.h"

#include <string.h>

void tlb_tag_update(struct cpu *cpu)
{
	uint64_t tag = cpu->tlb_tag & ~(uint64_t)(TLB_USER | TLB_SMAP);

	if (cpu->cpl == 3 && unlikely((cpu->s.rflags & RFLAGS_AC) && (cpu->s.cr0 & CR0_AM)))
		tag |= TLB_ALIGNED;
	else if (cpu->cpl == 3)
		tag |= TLB_USER;
	else if ((cpu->s.cr4 & CR4_SMAP) && !(cpu->s.rflags & RFLAGS_AC))
		tag |= TLB_SMAP;
	cpu->tlb_tag = tag;
}

/* Drop what translated code knows, of accesses of these kinds. */
static void fast_wipe(struct cpu *cpu, unsigned first, unsigned last)
{
	for (unsigned mode = 0; mode < FAST_MODES; mode++) {
		for (unsigned kind = first; kind <= last; kind++) {
			struct fast_entry *entries = cpu->fast.tlb[mode][kind];

			for (uint64_t used = cpu->fast.used[mode][kind]; used != 0; used &= used - 1)
				memset(&entries[16 * __builtin_ctzll(used)], 0, 16 * sizeof(entries[0]));
			cpu->fast.used[mode][kind] = 0;
			entries[0].tag = ~UINT64_C(0);
		}
	}
}

static void fast_drop(struct cpu *cpu, uint64_t linear)
{
	unsigned slot = (linear >> 12) % TLB_ENTRIES;

	for (unsigned mode = 0; mode < FAST_MODES; mode++)
		for (unsigned kind = 0; kind < FAST_KINDS; kind++)
			cpu->fast.tlb[mode][kind][slot].tag = slot == 0 ? ~UINT64_C(0) : 0;
}

static void tlb_wipe(struct cpu *cpu, unsigned first, unsigned last)
{
	/* No access has a tag with all bits set. */
	memset(cpu->tlb[first], 0xff, sizeof(cpu->tlb[0]) * (last - first + 1));
}

/* Give the current context a generation that no entry has. */
static void generation_next(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	/* Generation 0 is that of the zeroed entries of a new CPU: no access has it. */
	if (++p->tlb_generation >= TLB_GENERATIONS) {
		tlb_wipe(cpu, TLB_READ, TLB_EXEC);
		p->last_walk.tag = ~UINT64_C(0);
		for (unsigned i = 0; i < TLB_CONTEXTS; i++)
			p->contexts[i].saved.generation = 0;
		p->tlb_generation = 1;
	}
	if (p->translate != NULL)
		fast_wipe(cpu, TLB_READ, TLB_WRITE);
	cpu->tlb_tag = p->tlb_generation << TLB_GENERATION_SHIFT;
	tlb_tag_update(cpu);
}

void tlb_flush(struct cpu *cpu)
{
	generation_next(cpu);
	code_gen_next(cpu);
	cpu->p->tables_gen = ++cpu->p->tables_gen_last;
	cpu->p->large_pages = false;
}

void tlb_flush_contexts(struct cpu *cpu)
{
	for (unsigned i = 0; i < TLB_CONTEXTS; i++)
		cpu->p->contexts[i].saved.generation = 0;
	tlb_flush(cpu);
}

static void second_stage_flush(struct tlb_context *context)
{
	memset(context->ntlb, 0, sizeof(context->ntlb));
	memset(context->nested_tables, 0, sizeof(context->nested_tables));
}

void tlb_flush_nested(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	for (unsigned i = 0; i < TLB_CONTEXTS && !cpu->entry.shadow; i++) {
		/* Pages of a context that was never entered are not touched. */
		if (i == 0 || p->contexts[i].entered != 0)
			second_stage_flush(&p->contexts[i]);
	}
	tlb_flush_contexts(cpu);
}

void tlb_flush_writes(struct cpu *cpu)
{
	tlb_wipe(cpu, TLB_WRITE, TLB_WRITE);
	if (cpu->p->translate != NULL)
		fast_wipe(cpu, TLB_WRITE, TLB_WRITE);
}

/* Drop one page of every context. */
static void page_drop(struct cpu *cpu, uint64_t linear)
{
	for (unsigned kind = 0; kind < TLB_KINDS; kind++)
		cpu->tlb[kind][(linear >> 12) % TLB_ENTRIES].tag = ~UINT64_C(0);
	if (cpu->p->translate != NULL)
		fast_drop(cpu, linear);
	cpu->p->last_walk.tag = ~UINT64_C(0);
}

void tlb_flush_page(struct cpu *cpu, uint64_t linear)
{
	if (cpu->p->large_pages) {
		tlb_flush(cpu);
		return;
	}
	page_drop(cpu, linear);
	cpu->p->tables_gen = ++cpu->p->tables_gen_last;
	code_gen_next(cpu);
}

/* ---- contexts ---------------------------------------------------------------------------------------------- */

/*
 * An entry stands for an access that was allowed, by rules that these bits choose. So a hypervisor that changes them
 * from outside, and need not flush for it, still gets what it changed. The same holds for the PCID: hardware tags its
 * translations with it, and Linux's KVM without nested paging goes from one to another by VMRUN alone.
 */
static void controls_get(const struct cpu *cpu, uint64_t controls[2])
{
	controls[0] = (cpu->s.cr0 & (CR0_PG | CR0_WP)) | (cpu->s.efer & (EFER_LMA | EFER_NX)) << 32;
	controls[1] = cpu->s.cr4 & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE);
	if (cpu->s.cr4 & CR4_PCIDE)
		controls[0] |= cpu->s.cr3 & 0xfff;
	if (cpu->s.cr4 & CR4_PKE)
		controls[1] |= (uint64_t)cpu->s.pkru << 32;
}

void tlb_context_leave(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	struct tlb_context *context = p->context;

	if (p->context_left)
		return;
	p->context_left = true;
	context->saved.generation = cpu->tlb_tag >> TLB_GENERATION_SHIFT;
	context->saved.tables_gen = p->tables_gen;
	context->saved.code_gen = cpu->code_gen;
	context->saved.large_pages = p->large_pages;
	controls_get(cpu, context->saved.controls);
	context->saved.cs_base = cpu->seg_base[CPU_CS];
	context->saved.cs_mask = cpu->lin_mask;
	context->saved.cs_limit = p->cs_limit;
}

static struct tlb_context *context_find(struct cpu *cpu, uint32_t asid)
{
	struct tlb_context *contexts = cpu->p->contexts;

	if (asid == TLB_ASID_HOST)
		return &contexts[0];
	for (unsigned i = 1; i < TLB_CONTEXTS; i++) {
		if (contexts[i].asid == asid)
			return &contexts[i];
	}
	return NULL;
}

/* The context that was entered longest ago is `asid`'s from now on. */
static struct tlb_context *context_make(struct cpu *cpu, uint32_t asid)
{
	struct tlb_context *oldest = &cpu->p->contexts[1];

	for (unsigned i = 2; i < TLB_CONTEXTS; i++) {
		if (cpu->p->contexts[i].entered < oldest->entered)
			oldest = &cpu->p->contexts[i];
	}
	oldest->asid = asid;
	oldest->saved.generation = 0;
	if (oldest->entered != 0)
		second_stage_flush(oldest);
	return oldest;
}

/* Is what the context had still right for the state in cpu->s? */
static bool context_holds(const struct cpu *cpu, const struct tlb_context *context)
{
	uint64_t controls[2];

	controls_get(cpu, controls);
	return context->saved.generation != 0 && memcmp(controls, context->saved.controls, sizeof(controls)) == 0;
}

static void context_load(struct cpu *cpu, const struct tlb_context *context)
{
	struct cpu_private *p = cpu->p;

	if (p->translate != NULL)
		fast_wipe(cpu, TLB_READ, TLB_WRITE);
	cpu->tlb_tag = context->saved.generation << TLB_GENERATION_SHIFT;
	p->tables_gen = context->saved.tables_gen;
	p->large_pages = context->saved.large_pages;
	if (context->saved.code_gen >= p->code_gen_least)
		cpu->code_gen = context->saved.code_gen;
	else
		code_gen_next(cpu);
	/* mode_update compares these with the new ones. */
	cpu->seg_base[CPU_CS] = context->saved.cs_base;
	cpu->lin_mask = context->saved.cs_mask;
	p->cs_limit = context->saved.cs_limit;
}

void tlb_context_enter(struct cpu *cpu, uint32_t asid, const struct vmmu_nested *nested)
{
	struct cpu_private *p = cpu->p;
	struct tlb_context *context;

	if (!p->context_left)
		tlb_context_leave(cpu);
	p->context_left = false;
	context = context_find(cpu, asid);
	if (context == NULL)
		context = context_make(cpu, asid);
	p->context = context;
	context->entered = ++p->context_entries;
	if (context->nested != (nested != NULL)) {
		context->nested = nested != NULL;
		context->saved.generation = 0;
		second_stage_flush(context);
	}
	if (nested != NULL)
		context->table = *nested;
	if (context_holds(cpu, context))
		context_load(cpu, context);
	else
		tlb_flush(cpu);
	p->resume = NULL;
}

/* Drop what `context` has. */
static void context_flush(struct cpu *cpu, struct tlb_context *context)
{
	second_stage_flush(context);
	if (context == cpu->p->context && !cpu->p->context_left)
		tlb_flush(cpu);
	else
		context->saved.generation = 0;
}

void tlb_flush_asid(struct cpu *cpu, uint32_t asid)
{
	struct tlb_context *context = context_find(cpu, asid);

	if (context != NULL)
		context_flush(cpu, context);
}

void tlb_flush_asids(struct cpu *cpu)
{
	tlb_flush_nested(cpu);
}

void tlb_flush_asid_page(struct cpu *cpu, uint32_t asid, uint64_t linear)
{
	struct tlb_context *context = context_find(cpu, asid);

	if (context == NULL)
		return;
	if (context == cpu->p->context && !cpu->p->context_left) {
		tlb_flush_page(cpu, linear);
	} else if (context->saved.large_pages) {
		context->saved.generation = 0;
	} else {
		page_drop(cpu, linear);
		context->saved.tables_gen = ++cpu->p->tables_gen_last;
		context->saved.code_gen = ++cpu->p->code_gen_last;
	}
}
