/* SPDX-License-Identifier: MIT */
/*
 * The dirty ring of a vCPU. An entry goes round like this:
 *
 *     empty --(the vCPU writes slot and offset, then DIRTY)--> DIRTY --(the program sets RESET)--> RESET --(taken back)--> empty
 *
 * The flags tell the program and us about each entry's contents; which entries are in use is told by `next` and `reset` alone. A program that
 * scribbles over flags, slots and offsets (zoo 20) loses its own log and nothing else: an entry is taken back once, in order, never beyond `next`.
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
	/* acquire: what was taken back was read before it is written again (pairs with dirty_ring_take_back), P11 */
	return ring->size - (load_relaxed(&ring->next) - load_acquire(&ring->reset));
}

bool dirty_ring_nearly_full(const struct dirty_ring *ring)
{
	if (!ring->size)
		return false;
	return !ring->entries || ring_left(ring) <= VMMU_DIRTY_RING_RESERVED;
}

bool dirty_ring_has_room(const struct dirty_ring *ring, uint64_t entries)
{
	return !ring->entries || entries <= ring_left(ring);
}

bool dirty_ring_is_empty(const struct dirty_ring *ring)
{
	return load_relaxed(&ring->next) == load_relaxed(&ring->reset);
}

/* Returns: false when there is no room. */
static bool ring_push(struct dirty_ring *ring, uint32_t slot, uint64_t offset)
{
	struct vmmu_dirty_gfn *entry;

	if (!ring->entries || !ring_left(ring))
		return false;
	entry = &ring->entries[ring->next & (ring->size - 1)];
	store_relaxed(&entry->slot, slot);
	store_relaxed(&entry->offset, offset);
	/* Counted before it is shown: a program that has seen the entry and set RESET has it taken back by its next call, not by some later one,
	 * with the page writable meanwhile. release: pairs with dirty_ring_take_back */
	store_release(&ring->next, ring->next + 1);
	/* release: pairs with the program's acquire; who sees DIRTY sees the rest of the entry, and the page as written so far */
	store_release(&entry->flags, VMMU_DIRTY_GFN_DIRTY);
	return true;
}

bool dirty_ring_take_back(struct dirty_ring *ring, struct dirty_claim *claim)
{
	struct vmmu_dirty_gfn *entry;

	/* The program could set RESET faster than we take back, and lead us round the ring for ever: `next` is where it ends. acquire: an entry
	 * counted in `next` was filled (pairs with ring_push). */
	if (!ring->entries || ring->reset == load_acquire(&ring->next))
		return false;
	entry = &ring->entries[ring->reset & (ring->size - 1)];
	/* acquire: pairs with the program's release; it is done with the entry */
	if (!(load_acquire(&entry->flags) & VMMU_DIRTY_GFN_RESET))
		return false;
	*claim = (struct dirty_claim){ load_relaxed(&entry->slot), load_relaxed(&entry->offset) };
	/*
	 * Before the page is write-protected, and that is enough: the guest may go on writing it, unlogged, until the flush; but the program reads
	 * the page after the call returned, as the interface asks, and finds those writes. The flags are cleared before the entry is given
	 * back, so that they cannot wipe out what the vCPU puts there next.
	 */
	store_release(&entry->flags, 0);
	store_release(&ring->reset, ring->reset + 1); /* pairs with ring_left */
	return true;
}

/* On the vCPU's own cache line: vCPUs that write to a logged slot share no counter. */
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
	/* Who may write has looked for room first: a fault at the reserve, a copy at dirty_ring_has_room. A page would be lost. */
	VM_BUG(vm, !pushed && ring->entries);
	if (pushed)
		marked(vm, ring);
	return dirty_ring_nearly_full(ring);
}

/*
 * Always a read-modify-write, although the bit is often set. Looking first would be wrong: the look could run ahead of the store that it reports
 * (of the entry, or of the page itself) and see the bit just before it is taken, while the take's owner does not see the store yet: store
 * buffering, and the page is lost. It needs a full barrier, which costs what the atomic or costs.
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
