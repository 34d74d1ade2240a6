/* SPDX-License-Identifier: MIT */
/* Into translated code, and what is done when it comes back. */
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/decode/hot.h"
#include "cpu/translate/translate_int.h"

static struct block *block_of(const struct op *first)
{
	return (struct block *)(uintptr_t)((const char *)first - offsetof(struct block, ops));
}

/* ---- proving a page ---------------------------------------------------------------------------------------------- */

static void block_kill(struct translate *t, struct translated *x)
{
	x->dead = true;
	x->block->translated[x->page->tlb >> 1] = NULL;
	t->stats.kills++;
	if (!entries_close(t, x))
		t->full = true;
}

/*
 * The block at which the page is entered is valid: so the page's address leads to its host page. What is left to see is
 * that no code of the page has changed.
 */
static void page_prove(struct cpu *cpu, const struct block *b, struct translated_page *page)
{
	struct translate *t = cpu->p->translate;
	uint64_t version = atomic_load(&b->page->version);

	if (page->version != version || page->run_serial != cpu->p->run_serial ||
	    unlikely(cpu->p->armed_breakpoints.code)) {
		for (struct translated **at = &page->blocks; *at != NULL;) {
			struct translated *x = *at;

			if (block_unchanged(cpu, x->block)) {
				at = &x->next;
				continue;
			}
			*at = x->next;
			block_kill(t, x);
		}
	}
	page->version = version;
	page->run_serial = cpu->p->run_serial;
	page->gen = cpu->code_gen;
}

/* ---- entering ---------------------------------------------------------------------------------------------------- */

/* The jump that led out, to this block, may lead to it from now on. */
static void pending_resolve(struct cpu *cpu, struct translated *x)
{
	struct translate *t = cpu->p->translate;
	struct pending_jump *jump = &t->pending;

	if (jump->displacement != NULL && jump->rip == x->block->rip && jump->page == x->page &&
	    jump->gen == cpu->code_gen)
		jump_aim(t, jump->displacement, x->entry[jump->entry]);
	jump->displacement = NULL;
}

static struct translated *translated_of(struct cpu *cpu, struct block *b)
{
	unsigned tlb = cpu->tlb_tag & (TLB_USER | TLB_SMAP);
	struct translated *x = b->translated[tlb >> 1];

	if (unlikely(tlb == TLB_ALIGNED))
		return NULL; /* the interpreter checks alignment */
	if (likely(x != NULL))
		return x;
	if (++b->runs < translate_tuning()->runs)
		return NULL;
	x = translate_block(cpu, b, tlb);
	b->translated[tlb >> 1] = x;
	return x;
}

static const void *label_of(struct cpu *cpu, const struct op *op)
{
	return op->label == cpu->p->labels[HOT_TRANSLATE] ? block_of(op)->first_label : op->label;
}

/* Translated code came back. Returns: as translate_run. */
static const void *came_back(struct cpu *cpu, const struct translated *x, uint64_t why, const struct op **op)
{
	struct translate *t = cpu->p->translate;
	unsigned kind = why & ((1u << LEAVE_SHIFT) - 1);
	uint64_t address = why >> LEAVE_SHIFT;

	flags_set(cpu, rflags_of_fast(cpu->fast.flags));
	if (unlikely(translate_engine() == CPU_ENGINE_CHECK))
		check_end(cpu, x->block, kind == LEAVE_OP ? (struct op *)(uintptr_t)address : NULL);
	if (kind == LEAVE_OP) {
		*op = (const struct op *)(uintptr_t)address;
		return label_of(cpu, *op);
	}
	if (kind >= LEAVE_JUMP && translate_engine() != CPU_ENGINE_CHECK)
		t->pending = (struct pending_jump){
			.displacement = (uint8_t *)(uintptr_t)address, .page = translate_find(t,
				t->code.run + ((uint8_t *)(uintptr_t)address - t->code.write))->page,
			.rip = cpu->s.rip, .gen = cpu->code_gen, .entry = (enum entry)(kind - LEAVE_JUMP),
		};
	return NULL;
}

const void *translate_run(struct cpu *cpu, const struct op **op)
{
	struct block *b = block_of(*op);
	struct translated *x = translated_of(cpu, b);
	struct translate *t = cpu->p->translate;

	if (unlikely(t != NULL && t->full)) {
		cpu->s.rip = b->rip;
		blocks_forget(cpu);
		return NULL;
	}
	if (x == NULL)
		return b->first_label;
	if (x->page->gen != cpu->code_gen) {
		cpu->op = &b->ops[0]; /* the one that has not begun, should the host have no page there any more */
		page_prove(cpu, b, x->page);
	}
	if (unlikely(x->dead || t->full)) {
		cpu->s.rip = b->rip;
		b->gen = 0;
		return NULL;
	}
	if (translate_engine() == CPU_ENGINE_TRANSLATE) {
		*fast_jump_of(cpu, x->page->tlb, b->rip) = (struct fast_jump){ b->rip, x->entry_checked };
		pending_resolve(cpu, x);
	}
	t->stats.entries++;
	if (unlikely(translate_engine() == CPU_ENGINE_CHECK))
		check_begin(cpu);
	cpu->fast.flags = (uint32_t)fast_flags_of(flags_get(cpu));
	return came_back(cpu, x, t->enter(cpu, x->entry[ENTRY_MEMORY]), op);
}
