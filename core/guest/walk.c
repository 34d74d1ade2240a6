/* SPDX-License-Identifier: MIT */
#include "core/guest/walk.h"

/* The slot of a table, or NULL if no slot makes it readable. */
static const struct memslot *table_slot(const struct guest_reader *reader, gfn_t table)
{
	const struct memslot *slot = memslot_find_cached(reader->cache, reader->slots, table);

	return slot && !(slot->flags & SLOT_INVALID) ? slot : NULL;
}

bool guest_table_find(const struct guest_reader *reader, gfn_t table, hva_t *hva)
{
	const struct memslot *slot = table_slot(reader, table);

	if (!slot)
		return false;
	*hva = memslot_hva(slot, table);
	return true;
}

/*
 * The slot of a table if its entries can be written, else NULL. Entries in read-only memory keep their bits, as with
 * hardware that cannot write.
 */
static const struct memslot *table_slot_writable(const struct guest_reader *reader, gfn_t table)
{
	const struct memslot *slot = table_slot(reader, table);

	return slot && !(slot->flags & VMMU_SLOT_READONLY) ? slot : NULL;
}

/* Set bits in an entry that was used. */
static enum guest_walk_result entry_set(const struct guest_reader *reader, struct guest_walk *walk, int level,
                                        uint64_t bits)
{
	uint64_t old = walk->value[level - 1], new = old | bits;
	const struct memslot *slot;
	bool swapped;

	if (old == new)
		return GUEST_WALK_OK;
	slot = table_slot_writable(reader, walk->table[level - 1]);
	if (!slot)
		return GUEST_WALK_OK;
	/* Ask before each bit: a walk starts again when another CPU changes an entry, so it may set many. */
	if (!dirty_has_room(slot, reader->ring))
		return GUEST_WALK_RING_FULL;
	if (!port_cas_in_host(walk->hva[level - 1].v, guest_entry_bytes(reader->mode), old, new, &swapped))
		return GUEST_WALK_HOST;
	if (!swapped)
		return GUEST_WALK_AGAIN;
	dirty_mark(reader->vm, slot, walk->table[level - 1], reader->ring);
	walk->value[level - 1] = new;
	return GUEST_WALK_OK;
}

static enum guest_walk_result accessed_and_dirty_set(const struct guest_reader *reader, struct guest_walk *walk,
                                                     uint64_t error)
{
	const struct guest_mode *mode = reader->mode;
	enum guest_walk_result result = GUEST_WALK_OK;

	for (int level = walk->levels; level >= walk->level && result == GUEST_WALK_OK; level--) {
		uint64_t bits = mode->accessed | (level == walk->level && (error & VMMU_PF_WRITE) ? mode->dirty : 0);

		result = entry_set(reader, walk, level, bits);
	}
	/*
	 * Where D cannot be set, a write goes on without it, or it would fault for ever. A read must report the same
	 * `dirty` as a write, or each would undo what the other did.
	 */
	walk->dirty = guest_entry_is_dirty(mode, walk->value[walk->level - 1]) ||
	              !table_slot_writable(reader, walk->table[walk->level - 1]);
	return result;
}

static enum guest_walk_result fault(const struct guest_mode *mode, struct guest_walk *walk, uint64_t error,
                                    uint64_t more)
{
	/* The I bit is reported only when something can make a page not executable (SDM vol. 3, 4.7). */
	walk->error = (error & (VMMU_PF_WRITE | VMMU_PF_USER)) | more |
	              (mode->nx || mode->smep ? error & VMMU_PF_FETCH : 0);
	return GUEST_WALK_FAULT;
}

/* Follow the tables down to a leaf. `table`: the first table's frame. */
static enum guest_walk_result walk_tables(const struct guest_reader *reader, gfn_t table, gva_t gva, uint64_t error,
                                          struct guest_walk *walk)
{
	const struct guest_mode *mode = reader->mode;
	unsigned rights = ACC_ALL;

	for (int level = walk->levels;; level--) {
		unsigned index = guest_index(mode, gva, level), offset = index * guest_entry_bytes(mode);
		uint64_t entry;
		hva_t at;

		walk->level = level;
		walk->table[level - 1] = table;
		if (!guest_table_find(reader, table, &at) || !guest_entry_read(mode, at, index, &entry))
			return fault(mode, walk, error, 0); /* table outside memory: not present, as in KVM */
		walk->hva[level - 1] = HVA(at.v + offset);
		walk->value[level - 1] = entry;
		if (!guest_entry_is_present(mode, entry))
			return fault(mode, walk, error, 0);
		if (guest_entry_is_reserved(mode, entry, level))
			return fault(mode, walk, error, VMMU_PF_PRESENT | VMMU_PF_RSVD);
		rights &= guest_entry_rights(mode, entry);
		walk->rights[level - 1] = rights;
		if (guest_entry_is_leaf(mode, entry, level))
			return GUEST_WALK_OK;
		table = GFN((entry & BIT_MASK(51, 12)) >> PAGE_SHIFT);
	}
}

static enum guest_walk_result walk_once(const struct guest_reader *reader, uint64_t cr3, const uint64_t pdpte[4],
                                        gva_t gva, uint64_t error, uint32_t pkru, struct guest_walk *walk)
{
	const struct guest_mode *mode = reader->mode;
	uint64_t top = cr3, denied;
	enum guest_walk_result result;

	walk->levels = mode->levels;
	/* PDPTEs are registers, loaded with CR3. They are not read here and get no A bit (SDM vol. 3, 4.4.1). */
	if (mode->levels == 3) {
		top = pdpte[gva.v >> 30 & 3];
		if (!(top & GPTE_P))
			return fault(mode, walk, error, 0);
		walk->levels = 2;
	}
	result = walk_tables(reader, GFN((top & BIT_MASK(51, 12)) >> PAGE_SHIFT), gva, error, walk);
	if (result != GUEST_WALK_OK)
		return result;
	walk->key = mode->pke ? walk->value[walk->level - 1] >> 59 & 15 : 0;
	denied = guest_mode_check(mode, error, walk->rights[walk->level - 1], walk->key, pkru);
	if (denied)
		return fault(mode, walk, error, denied);
	walk->gfn = guest_leaf_gfn(mode, walk->value[walk->level - 1], walk->level);
	walk->gfn.v += gva.v >> PAGE_SHIFT & (guest_level_pages(mode, walk->level) - 1);
	return accessed_and_dirty_set(reader, walk, error);
}

enum guest_walk_result guest_walk(const struct guest_reader *reader, uint64_t cr3, const uint64_t pdpte[4], gva_t gva,
                                  uint64_t error, uint32_t pkru, struct guest_walk *walk)
{
	enum guest_walk_result result;

	/* Bounded: if the guest keeps changing its tables, its CPU raises the fault again. */
	for (int tries = 0; tries < 16; tries++) {
		result = walk_once(reader, cr3, pdpte, gva, error, pkru, walk);
		if (result != GUEST_WALK_AGAIN)
			return result;
	}
	return result;
}
