/* SPDX-License-Identifier: MIT */
/* Is a page on record as dirty? */
#include "core/audit/audit_int.h"

#include "core/fault/vcpu.h"

static bool in_bitmap(const struct memslot *slot, uint64_t offset, uint64_t pages)
{
	for (uint64_t page = offset; page < offset + pages; page++)
		if (!(load_relaxed(&slot->dirty[page / 64]) >> (page % 64) & 1))
			return false;
	return true;
}

/*
 * Is the page in an entry that was not taken back? Here the program's entries are believed: the tests are the program.
 */
static bool in_ring(const struct dirty_ring *ring, uint32_t slot, uint64_t offset)
{
	if (!ring->entries)
		return false;
	for (uint32_t at = ring->reset; at != ring->next; at++) {
		const struct vmmu_dirty_gfn *entry = &ring->entries[at & (ring->size - 1)];

		if (load_relaxed(&entry->slot) == slot && load_relaxed(&entry->offset) == offset)
			return true;
	}
	return false;
}

static bool in_rings(struct vm *vm, const struct memslot *slot, uint64_t offset)
{
	for (unsigned id = 0; id < vm->vcpus.limit; id++) {
		struct vcpu *vcpu = vm->vcpus.by_id[id];

		if (vcpu && in_ring(&container_of(vcpu, struct vmmu_vcpu, vcpu)->ring,
		                    (uint32_t)slot->as_id << 16 | slot->id, offset))
			return true;
	}
	return false;
}

bool audit_pages_dirty(struct vm *vm, const struct memslot *slot, uint64_t offset, uint64_t pages)
{
	if (!vm->slots->ring_entries)
		return slot->dirty && in_bitmap(slot, offset, pages);
	if (vm->slots->ring_gone)
		return true; /* the destroyed ring may have held them */
	for (uint64_t page = offset; page < offset + pages; page++)
		if (!in_rings(vm, slot, page))
			return false;
	return true;
}
