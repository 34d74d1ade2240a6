/* SPDX-License-Identifier: MIT */
/*
 * Unsync (P8): the guest may write one of its 4K-level tables without a fault, like any other page, because it must
 * flush before it may rely on what it wrote. At that flush every table under the root whose shadow page is unsync is
 * write-protected again, and its entries are read again.
 */
#include "core/shadow/shadow_int.h"

#include "core/base/assert.h"

/* Asks the slots of all address spaces (zoo 5), since a slot counts only the tables of its own address space. */
bool gfn_try_unsync(struct mmu_token *token, const struct memslot *slot, gfn_t gfn, bool can_unsync)
{
	struct vm *vm = token->vm;
	bool mirrored = false;

	for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
		const struct memslot *one = as_id == slot->as_id ? slot : slot_of_gfn(vm, as_id, gfn);

		if (!one || !one->arrays->no_huge[0][slot_block(one, gfn, 2)])
			continue; /* no table in these 2 MiB is mirrored: no need to search the hash */
		if (one->arrays->tracked[gfn.v - one->base.v])
			return false; /* I4.4: a page above 4K level mirrors it, and such a page may not go unsync */
		mirrored = true;
	}
	for (struct shadow *page = mirrored ? shadow_next_of(vm, gfn, NULL) : NULL; page;
	     page = shadow_next_of(vm, gfn, page)) {
		if (page->unsync)
			continue;
		/* L1's stores to its nested table are all seen: what L1 flushes need not be known here. */
		if (!can_unsync || (page->role & ROLE_GUEST_MODE))
			return false;
		shadow_unsync_mark(page);
	}
	return true;
}

/* Bring one entry up to date. `table`: the guest's table in host memory; NULL: it is in no slot any more. */
static void entry_sync(struct mmu_token *token, const struct guest_mode *mode, const hva_t *table, struct shadow *page,
                       unsigned index)
{
	spte_t *entry = &page->spt[index], old = load_relaxed(entry);
	struct leaf leaf = { .gfn = shadow_entry_gfn(page, index) };
	unsigned rights;
	uint64_t value;

	if (!table || !guest_entry_read(mode, *table, guest_entry_index(page, index), &value) || !(value & GPTE_P) ||
	    !(value & GPTE_A) || guest_entry_is_reserved(mode, value, 1) ||
	    guest_leaf_gfn(mode, value, 1).v != leaf.gfn.v) {
		entry_zap(token, page, entry);
		return;
	}
	if (!spte_is_present(old))
		return; /* an MMIO entry, for the gfn that the guest's table still has */
	rights = guest_entry_leaf_rights(mode, page, value);
	/*
	 * Never make a leaf writable that was not. If the guest's table now allows writes, the first write faults,
	 * and the fault takes care of dirty logging and of shadowed frames.
	 */
	leaf.spte = shadow_make_leaf(token->vm, spte_pfn(old), 1, old & VMMU_NPT_W ? rights : rights & ~ACC_WRITE,
	                             mode->pke ? value >> 59 & 15 : 0, old & SPTE_HOST_W, old & VMMU_NPT_A);
	entry_set_leaf(token, NULL, NULL, page, entry, &leaf);
}

void shadow_sync_page(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page)
{
	hva_t table;
	bool found = guest_table_find(reader, page->gfn, &table);

	for (unsigned i = 0; i < ENTRIES; i++)
		if (load_relaxed(&page->spt[i]))
			entry_sync(token, reader->mode, found ? &table : NULL, page, i);
	/* Last: a vCPU that finds no unsync page under its root uses the entries without taking mmu_lock (P8). */
	shadow_unsync_clear(page);
}

#define SYNC_BATCH 32

/* Collect unsync pages at or below `page`. Depth: at most five levels. */
static unsigned unsync_collect(struct shadow *page, struct shadow **batch, unsigned count)
{
	if (page->unsync) {
		for (unsigned i = 0; i < count; i++)
			if (batch[i] == page)
				return count; /* it was collected before, by another way down */
		batch[count++] = page;
	}
	for (unsigned word = 0; word < array_size(page->unsync_map) && page->unsync_children; word++)
		for (uint64_t bits = page->unsync_map[word]; bits && count < SYNC_BATCH; bits &= bits - 1)
			count = unsync_collect(
				shadow_of(port_pfn_to_ptr(spte_pfn(page->spt[word * 64 + __builtin_ctzll(bits)]).v)),
				batch, count);
	return count;
}

/*
 * Write-protect the tables before they are read, in every address space, and flush once for all of them. The guest
 * then cannot write a table between our reading it and our using what was read (P4, P8).
 */
static void batch_protect(struct mmu_token *token, struct shadow **batch, unsigned count)
{
	struct vm *vm = token->vm;

	for (unsigned i = 0; i < count; i++)
		for (unsigned as_id = 0; as_id < vm->address_spaces; as_id++) {
			const struct memslot *slot = slot_of_gfn(vm, as_id, batch[i]->gfn);

			if (slot && gfn_write_protect(token, slot, batch[i]->gfn, 1))
				token->flush = true;
		}
	mmu_flush(token);
}

void shadow_sync_below(struct mmu_token *token, const struct guest_reader *reader, struct shadow *page)
{
	struct shadow *batch[SYNC_BATCH];
	unsigned count;

	while ((count = unsync_collect(page, batch, 0))) {
		batch_protect(token, batch, count);
		for (unsigned i = 0; i < count; i++)
			shadow_sync_page(token, reader, batch[i]);
	}
}
