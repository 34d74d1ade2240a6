/* SPDX-License-Identifier: MIT */
/*
 * The dirty ring of a vCPU. An entry goes round like this:
 *
 *     empty --(the vCPU writes slot and offset, then DIRTY)--> DIRTY --(the program sets RESET)--> RESET
 *           --(taken back)--> empty
 *
 * The flags tell the program and us about the contents of each entry. Only `next` and `reset` tell which entries are
 * in use. A program that scribbles over flags, slots and offsets (zoo 20) loses its own log and nothing else: an entry
 * is taken back once, in order, never beyond `next`.
 */
#include "core/memslot/dirty.h"

#include "core/base/assert.h"

void dirty_ring_init(struct dirty_ring *ring, struct vmmu_dirty_gfn *entries, uint32_t size)
{
	ring->entries = entries;
	ring->size = size;
	ring->next = ring->reset = 0;
}

static uint32_t ring_left(const struct dirty_ring *ring)
{
	/* acquire: an entry taken back was read before it is written again. Pairs with dirty_ring_take_back, P11. */
	return ring->size - (load_relaxed(&ring->next) - load_acquire(&ring->reset));
}

bool dirty_ring_nearly_full(const struct dirty_ring *ring)
{
	uint32_t reserved = ring->reserve_open ? VMMU_DIRTY_RING_RESERVED / 2 : VMMU_DIRTY_RING_RESERVED;

	if (!ring->size)
		return false;
	return !ring->entries || ring_left(ring) <= reserved;
}

bool dirty_ring_has_room(const struct dirty_ring *ring, uint64_t entries)
{
	return !ring->entries || entries <= ring_left(ring);
}

bool dirty_ring_is_empty(const struct dirty_ring *ring)
{
	return load_relaxed(&ring->next) == load_relaxed(&ring->reset);
}

/* Returns: false if there is no room. */
static bool ring_push(struct dirty_ring *ring, uint32_t slot, uint64_t offset)
{
	struct vmmu_dirty_gfn *entry;

	if (!ring->entries || !ring_left(ring))
		return false;
	entry = &ring->entries[ring->next & (ring->size - 1)];
	store_relaxed(&entry->slot, slot);
	store_relaxed(&entry->offset, offset);
	/*
	 * Count the entry before showing it. A program that has seen the entry and set RESET then has it taken back by
	 * its next call, and not by a later one, with the page writable meanwhile. release: pairs with
	 * dirty_ring_take_back.
	 */
	store_release(&ring->next, ring->next + 1);
	/*
	 * release: a program that sees DIRTY sees the rest of the entry, and the page as written so far. Pairs with
	 * the program's acquire.
	 */
	store_release(&entry->flags, VMMU_DIRTY_GFN_DIRTY);
	return true;
}

bool dirty_ring_take_back(struct dirty_ring *ring, struct dirty_claim *claim)
{
	struct vmmu_dirty_gfn *entry;

	/*
	 * Stop at `next`: the program could set RESET as fast as we take back, and lead us round the ring for ever.
	 * acquire: an entry counted in `next` was filled. Pairs with ring_push.
	 */
	if (!ring->entries || ring->reset == load_acquire(&ring->next))
		return false;
	entry = &ring->entries[ring->reset & (ring->size - 1)];
	/* acquire: the program is done with the entry. Pairs with the program's release. */
	if (!(load_acquire(&entry->flags) & VMMU_DIRTY_GFN_RESET))
		return false;
	*claim = (struct dirty_claim){ load_relaxed(&entry->slot), load_relaxed(&entry->offset) };
	/*
	 * To take the entry back before the page is write-protected is early enough. The guest may write the page,
	 * unlogged, until the flush. But the program reads the page only after the call has returned, as the interface
	 * asks, and finds those writes.
	 *
	 * Clear the flags before giving the entry back, or the clear could wipe out what the vCPU puts there next.
	 */
	store_release(&entry->flags, 0); /* the claim was read before; pairs with the program's acquire */
	store_release(&ring->reset, ring->reset + 1); /* pairs with ring_left */
	return true;
}

/* The count is on the vCPU's own cache line: vCPUs that write to a logged slot share no counter. */
static void marked(struct vm *vm, struct dirty_ring *ring)
{
	if (ring)
		store_relaxed(&ring->marked, ring->marked + 1);
	else
		add_relaxed(&vm->stats.dirty, 1);
}

static bool mark_in_ring(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring)
{
	bool pushed;

	if (!ring)
		return false;
	pushed = ring_push(ring, (uint32_t)slot->as_id << 16 | slot->id, gfn.v - slot->base.v);
	/*
	 * Every writer has looked for room first: a fault at the reserve, a copy at dirty_ring_has_room. Without room
	 * the page is lost.
	 */
	VM_BUG(vm, !pushed && ring->entries);
	if (pushed)
		marked(vm, ring);
	return dirty_ring_nearly_full(ring);
}

/*
 * Always a read-modify-write, although the bit is often set already. To look first would be wrong. The look could run
 * ahead of the store that this mark reports, a store to the entry or to the page itself. It could see the bit just
 * before a taker clears it, while the taker does not see the store yet: store buffering, and the page is lost. Only a
 * full barrier would help, and that costs as much as the atomic or.
 */
static void mark_in_bitmap(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring)
{
	uint64_t page = gfn.v - slot->base.v, bit = BIT(page % 64);

	/* release: pairs with dirty_take */
	if (!(or_release(&slot->dirty[page / 64], bit) & bit))
		marked(vm, ring);
}

bool dirty_mark(struct vm *vm, const struct memslot *slot, gfn_t gfn, struct dirty_ring *ring)
{
	ASSERT(memslot_contains(slot, gfn));
	if (!memslot_logs(slot))
		return false;
	if (vm->slots->ring_entries)
		return mark_in_ring(vm, slot, gfn, ring);
	if (slot->dirty)
		mark_in_bitmap(vm, slot, gfn, ring);
	return false;
}
