/* SPDX-License-Identifier: MIT */
/* The dirty bitmap of a slot. */
#include "core/memslot/dirty.h"
#include "core/memslot/slots_int.h"

#include "core/base/assert.h"
#include "core/base/string.h"

size_t bitmap_bytes(uint64_t npages)
{
	return (npages + 63) / 64 * 2 * sizeof(uint64_t);
}

/* One bit for every page and none beyond: a bit that names no page must never count as a page. */
static void bitmap_set_all(const struct memslot *slot)
{
	uint64_t whole = slot->npages / 64, rest = slot->npages % 64;

	memset(slot->dirty, 0xff, whole * sizeof(uint64_t));
	if (rest)
		slot->dirty[whole] = BIT(rest) - 1;
}

bool bitmap_make(struct vm *vm, struct memslot *slot)
{
	size_t bytes = bitmap_bytes(slot->npages);

	slot->dirty = vm_alloc(vm, bytes);
	if (!slot->dirty)
		return false;
	add_relaxed(&vm->stats.slot_bytes, bytes);
	if (vm->slots->dirty_mode & VMMU_DIRTY_INITIALLY_SET)
		bitmap_set_all(slot);
	return true;
}

void bitmap_free(struct vm *vm, const struct memslot *slot)
{
	size_t bytes = bitmap_bytes(slot->npages);

	vm_free(vm, slot->dirty, bytes);
	add_relaxed(&vm->stats.slot_bytes, -bytes);
}

uint64_t dirty_take(const struct memslot *slot, uint64_t word, uint64_t mask)
{
	uint64_t *bits = &slot->dirty[word];

	ASSERT(word < dirty_words(slot));
	/* A mark that this look misses is not lost: the next call finds it. */
	if (!(load_relaxed(bits) & mask))
		return 0;
	/*
	 * acquire: a mark seen here means that its page was made writable, or written (P11). Pairs with
	 * mark_in_bitmap.
	 */
	return and_acqrel(bits, ~mask) & mask;
}

void dirty_put_back(const struct memslot *slot, uint64_t word, uint64_t mask)
{
	ASSERT(word < dirty_words(slot));
	/*
	 * An atomic or, because the guest marks at the same time. Relaxed is enough. dirty_take saw what was behind
	 * each mark, and slots_lock hands it on to the next taker.
	 */
	if (mask)
		or_relaxed(&slot->dirty[word], mask);
}
