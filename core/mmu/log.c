/* SPDX-License-Identifier: MIT */
/* What a dirty log asks of the tables: write protection, and splitting and restoring huge leaves (P11). */
#include "core/fault/vcpu.h"
#include "core/memslot/dirty.h"
#include "core/mmu/mmu.h"
#include "core/shadow/arrays.h"
#include "core/shadow/shadow.h"
#include "core/tdp/tdp.h"

static void shadow_log_begin(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token;

	/*
	 * If a vCPU made a shadow leaf before the slot was published with its log, the flag had risen before that,
	 * and is seen here.
	 */
	if (!arrays_exist(vm))
		return;
	token = mmu_write_lock(vm);
	shadow_write_protect(&token, slot, slot->base, memslot_end(slot));
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

static void tdp_log_begin(struct vm *vm, const struct memslot *slot)
{
	struct mmu_read token = mmu_read_lock(vm, 0);

	tdp_split(&token.token, slot, slot->base, memslot_end(slot), VMMU_LEVEL_4K);
	tdp_write_protect(&token.token, slot, slot->base, memslot_end(slot), VMMU_LEVEL_4K);
	mmu_flush(&token.token);
	mmu_read_unlock(&token);
}

void mmu_log_begin(struct vm *vm, const struct memslot *slot)
{
	if (vm->slots->dirty_mode & VMMU_DIRTY_INITIALLY_SET && !vm->slots->ring_entries)
		return;
	shadow_log_begin(vm, slot);
	tdp_log_begin(vm, slot);
}

static bool slot_log_begin(void *arg, struct memslot *slot)
{
	if (memslot_logs(slot))
		mmu_log_begin(arg, slot);
	return false;
}

void mmu_log_begin_again(struct vm *vm)
{
	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++)
		memslots_for_each(memslots_current(vm, as_id), slot_log_begin, vm);
}

static void shadow_log_end(struct vm *vm, const struct memslot *slot)
{
	struct mmu_write token;

	if (!arrays_exist(vm))
		return;
	token = mmu_write_lock(vm);
	shadow_zap_collapsible(&token, slot);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

void mmu_log_end(struct vm *vm, const struct memslot *slot)
{
	shadow_log_end(vm, slot);
	fault_recover_huge(vm, slot);
}

/* --- write protection of what a log gives out --- */

/*
 * TDP tables are changed under mmu_lock for read, beside faults; reverse maps are walked under mmu_lock for write.
 * The flag (arrays_exist) is read for each word, after the marks of the word were taken. A shadow leaf that made
 * such a mark was made after the flag rose, so taking the mark makes both visible. The first shadow root may come
 * between two words: then this section ends, and another begins, for write.
 */
static void protect_begin(struct mmu_protect *p)
{
	bool shadows = arrays_exist(p->vm);

	if (p->token && (p->token->write || !shadows))
		return;
	mmu_protect_end(p);
	if (shadows) {
		p->write = mmu_write_lock(p->vm);
		p->token = &p->write.token;
	} else {
		p->read = mmu_read_lock(p->vm, 0);
		p->token = &p->read.token;
	}
}

void mmu_protect_word(struct mmu_protect *p, const struct memslot *slot, uint64_t word, uint64_t mask)
{
	gfn_t base = GFN(slot->base.v + word * 64);

	protect_begin(p);
	tdp_write_protect_mask(p->token, slot, base, mask);
	if (p->token->write)
		shadow_write_protect_mask(&p->write, slot, base, mask);
	/* A yield flushes first. The next walk begins anew: nothing that was read from tables outlives a word. */
	if (mmu_lock_contended(p->token))
		mmu_yield(p->token);
}

void mmu_protect_pause(struct mmu_protect *p, uint64_t word)
{
	if (p->token && !(word % 512) && mmu_lock_contended(p->token))
		mmu_yield(p->token);
}

void mmu_protect_end(struct mmu_protect *p)
{
	if (!p->token)
		return;
	mmu_flush(p->token);
	if (p->token->write)
		mmu_write_unlock(&p->write);
	else
		mmu_read_unlock(&p->read);
	p->token = NULL;
}

void mmu_protect_split(struct mmu_protect *p, const struct memslot *slot, uint64_t word)
{
	uint64_t page = word * 64;
	gfn_t block = gfn_round(GFN(slot->base.v + page), VMMU_LEVEL_2M), end;

	if (!(p->vm->slots->dirty_mode & VMMU_DIRTY_INITIALLY_SET) || page + 64 <= p->split_end)
		return;
	protect_begin(p);
	/* The word may reach into the next block: a slot need not begin at a block. */
	end = GFN(block.v + level_pages(VMMU_LEVEL_2M));
	if (end.v < slot->base.v + page + 64)
		end.v += level_pages(VMMU_LEVEL_2M);
	end.v = min_u64(end.v, memslot_end(slot).v);
	tdp_split(p->token, slot, GFN(max_u64(block.v, slot->base.v)), end, VMMU_LEVEL_4K);
	p->split_end = end.v - slot->base.v;
}
