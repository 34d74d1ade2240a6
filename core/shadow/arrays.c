/* SPDX-License-Identifier: MIT */
/* Slots get their arrays: each slot on its own, and all of them at once before the first shadow root (P1). */
#include "core/shadow/arrays.h"

#include "core/memslot/slots.h"
#include "core/shadow/shadow_int.h"

static size_t used_words(const uint64_t blocks[ARRAY_LEVELS])
{
	return (blocks[1] + 63) / 64;
}

static size_t arrays_bytes(const uint64_t blocks[ARRAY_LEVELS])
{
	size_t bytes = sizeof(struct slot_arrays) + used_words(blocks) * sizeof(uint64_t) +
	               blocks[0] * sizeof(uint16_t);

	for (int i = 0; i < ARRAY_LEVELS; i++)
		bytes += blocks[i] * sizeof(struct rmap);
	for (int i = 1; i < ARRAY_LEVELS; i++)
		bytes += blocks[i] * sizeof(uint32_t);
	return bytes;
}

/* One allocation holds the struct and behind it the arrays, those with the largest alignment first. */
static struct slot_arrays *arrays_make(struct vm *vm, const struct memslot *slot)
{
	uint64_t blocks[ARRAY_LEVELS];
	struct slot_arrays *arrays;
	char *next;

	for (int i = 0; i < ARRAY_LEVELS; i++)
		blocks[i] = slot_block(slot, GFN(slot->base.v + slot->npages - 1), i + 1) + 1;
	arrays = vm_alloc(vm, arrays_bytes(blocks));
	if (!arrays)
		return NULL;
	add_relaxed(&vm->stats.rmap_bytes, arrays_bytes(blocks));
	next = (char *)(arrays + 1);
	for (int i = 0; i < ARRAY_LEVELS; i++) {
		arrays->blocks[i] = blocks[i];
		arrays->rmap[i] = (struct rmap *)next;
		next += blocks[i] * sizeof(struct rmap);
	}
	arrays->used = (uint64_t *)next;
	next += used_words(blocks) * sizeof(uint64_t);
	for (int i = 1; i < ARRAY_LEVELS; i++) {
		arrays->no_huge[i - 1] = (uint32_t *)next;
		next += blocks[i] * sizeof(uint32_t);
	}
	arrays->tracked = (uint16_t *)next;
	return arrays;
}

bool arrays_reserve(struct vm *vm, const struct memslot *slot, struct slot_arrays **out)
{
	*out = NULL;
	if (!vm->shadow)
		return true;
	*out = arrays_make(vm, slot);
	return *out;
}

void arrays_free(struct vm *vm, struct slot_arrays *arrays)
{
	if (!arrays)
		return;
	add_relaxed(&vm->stats.rmap_bytes, -arrays_bytes(arrays->blocks));
	vm_free(vm, arrays, arrays_bytes(arrays->blocks));
}

static bool slot_needs_arrays(void *arg, struct memslot *slot)
{
	struct vm *vm = arg;

	if (slot->arrays)
		return false;
	slot->arrays = arrays_make(vm, slot);
	return !slot->arrays;
}

enum vmmu_status arrays_first_root(struct vm *vm, struct srcu_read srcu)
{
	enum vmmu_status status = VMMU_OK;

	if (arrays_exist(vm))
		return VMMU_OK;
	/* A slot change reads the flag, and copies the old slot with its arrays, while it holds this lock (I1.3). */
	mutex_lock(&vm->slots_arch_lock);
	if (!load_relaxed(&vm->shadow_root_allocated)) {
		for (unsigned as_id = 0; as_id < vm->address_spaces && status == VMMU_OK; as_id++)
			if (memslots_for_each(memslots_active(vm, as_id, srcu), slot_needs_arrays, vm))
				status = VMMU_ENOMEM;
		if (status == VMMU_OK && !vm->shadow->hash) {
			vm->shadow->hash = vm_alloc(vm, HASH_SIZE * sizeof(*vm->shadow->hash));
			status = vm->shadow->hash ? VMMU_OK : VMMU_ENOMEM;
		}
		if (status == VMMU_OK)
			store_release(&vm->shadow_root_allocated, 1); /* I1.1: pairs with arrays_exist */
	}
	mutex_unlock(&vm->slots_arch_lock);
	return status;
}
