/* SPDX-License-Identifier: MIT */
/*
 * vmmu_dirty_*: where the record of what was written meets the tables that must be write-protected again (P11).
 *
 * slots_lock orders everything here. Two calls never take marks at once, so a page that one of them write-protected
 * is flushed before another relies on it. The caller's memory is touched only without mmu_lock.
 */
#include "core/memslot/dirty.h"

#include "core/base/string.h"
#include "core/mmu/mmu.h"
#include "core/vm/vm_int.h"

/* --- the bitmap --- */

enum vmmu_status vmmu_dirty_mode_set(struct vmmu_vm *vmmu, unsigned mode)
{
	struct vm *vm = &vmmu->vm;

	if (mode & ~(VMMU_DIRTY_MANUAL_PROTECT | VMMU_DIRTY_INITIALLY_SET))
		return VMMU_EINVAL;
	if ((mode & VMMU_DIRTY_INITIALLY_SET) && !(mode & VMMU_DIRTY_MANUAL_PROTECT))
		return VMMU_EINVAL;
	mutex_lock(&vm->slots_lock);
	vm->slots->dirty_mode = mode;
	mutex_unlock(&vm->slots_lock);
	return VMMU_OK;
}

/* Find a slot that has a bitmap. Holds: slots_lock. */
static enum vmmu_status logged_slot(struct vm *vm, uint32_t as_id, uint32_t id, const struct memslot **slot)
{
	if (vm_is_dead(vm))
		return VMMU_EDEAD;
	if (vm->slots->ring_entries)
		return VMMU_EBUSY;
	if (as_id >= vm->address_spaces || id >= VMMU_MAX_SLOTS)
		return VMMU_EINVAL;
	*slot = memslot_find_id(memslots_current(vm, as_id), id);
	return *slot && (*slot)->dirty ? VMMU_OK : VMMU_ENOENT;
}

/*
 * Copy the bitmap once, straight to the caller, whose memory may be anything. A mark that is made meanwhile is in
 * the copy or not. Each bit stands for itself, and a mark that the copy missed stays in the bitmap.
 */
static enum vmmu_status hand_out(uint64_t *bitmap, const struct memslot *slot, const uint64_t *words)
{
	return port_copy_to_host((uintptr_t)bitmap, words, dirty_words(slot) * sizeof(*words)) ? VMMU_OK : VMMU_EFAULT;
}

/* Snapshot and clear, then write-protect, then flush, and only then hand out. If that fails, put the marks back. */
static enum vmmu_status bitmap_take(struct vm *vm, const struct memslot *slot, uint64_t *bitmap)
{
	struct mmu_protect p = { .vm = vm };
	uint64_t *snapshot = dirty_snapshot(slot);
	enum vmmu_status status;

	for (uint64_t word = 0; word < dirty_words(slot); word++) {
		snapshot[word] = dirty_take(slot, word, ~UINT64_C(0));
		if (snapshot[word])
			mmu_protect_word(&p, slot, word, snapshot[word]);
		else
			mmu_protect_pause(&p, word);
	}
	mmu_protect_end(&p);
	status = hand_out(bitmap, slot, snapshot);
	for (uint64_t word = 0; status != VMMU_OK && word < dirty_words(slot); word++)
		dirty_put_back(slot, word, snapshot[word]);
	return status;
}

enum vmmu_status vmmu_dirty_get(struct vmmu_vm *vmmu, uint32_t address_space, uint32_t slot_id, uint64_t *bitmap,
                                size_t words)
{
	struct vm *vm = &vmmu->vm;
	const struct memslot *slot = NULL;
	enum vmmu_status status;

	mutex_lock(&vm->slots_lock);
	status = logged_slot(vm, address_space, slot_id, &slot);
	if (status == VMMU_OK && words < dirty_words(slot))
		status = VMMU_EINVAL;
	if (status == VMMU_OK && vm->slots->dirty_mode & VMMU_DIRTY_MANUAL_PROTECT)
		status = hand_out(bitmap, slot, slot->dirty);
	else if (status == VMMU_OK)
		status = bitmap_take(vm, slot, bitmap);
	mutex_unlock(&vm->slots_lock);
	return status;
}

static enum vmmu_status bitmap_clear(struct vm *vm, const struct memslot *slot, uint64_t first_word, uint64_t words,
                                     const uint64_t *bitmap)
{
	struct mmu_protect p = { .vm = vm };
	uint64_t *wanted = dirty_snapshot(slot);

	/* Copy the caller's bitmap once, before anything is cleared: its memory may turn out not to be there. */
	if (!port_copy_from_host(wanted, (uintptr_t)bitmap, words * sizeof(*bitmap)))
		return VMMU_EFAULT;
	for (uint64_t i = 0; i < words; i++) {
		/*
		 * Protect only pages whose mark was set. A page without a mark is write-protected already, and a
		 * vCPU may be writing and marking it right now.
		 */
		uint64_t mask = wanted[i] ? dirty_take(slot, first_word + i, wanted[i]) : 0;

		if (!mask) {
			mmu_protect_pause(&p, i);
			continue;
		}
		mmu_protect_split(&p, slot, first_word + i);
		mmu_protect_word(&p, slot, first_word + i, mask);
	}
	mmu_protect_end(&p);
	return VMMU_OK;
}

static bool clear_is_well_formed(const struct memslot *slot, uint64_t first_page, uint64_t num_pages)
{
	if (first_page % 64 || first_page > slot->npages || num_pages > slot->npages - first_page)
		return false;
	return num_pages % 64 == 0 || num_pages == slot->npages - first_page;
}

enum vmmu_status vmmu_dirty_clear(struct vmmu_vm *vmmu, uint32_t address_space, uint32_t slot_id, uint64_t first_page,
                                  uint64_t num_pages, const uint64_t *bitmap)
{
	struct vm *vm = &vmmu->vm;
	const struct memslot *slot = NULL;
	enum vmmu_status status;

	mutex_lock(&vm->slots_lock);
	status = logged_slot(vm, address_space, slot_id, &slot);
	if (status == VMMU_OK && !clear_is_well_formed(slot, first_page, num_pages))
		status = VMMU_EINVAL;
	if (status == VMMU_OK)
		status = bitmap_clear(vm, slot, first_page / 64, (num_pages + 63) / 64, bitmap);
	mutex_unlock(&vm->slots_lock);
	return status;
}

/* --- the ring --- */

static bool vcpu_exists(struct vm *vm)
{
	for (unsigned id = 0; id < vm->vcpus.max; id++)
		if (load_relaxed(&vm->vcpus.by_id[id]))
			return true;
	return false;
}

static enum vmmu_status ring_enable(struct vm *vm, uint32_t entries)
{
	struct slots *slots = vm->slots;

	if (vcpu_exists(vm) || slots->ring_entries)
		return VMMU_EBUSY;
	slots->batches = vm_alloc(vm, DIRTY_BATCHES * sizeof(*slots->batches));
	if (!slots->batches)
		return VMMU_ENOMEM;
	slots->ring_entries = entries;
	return VMMU_OK;
}

enum vmmu_status vmmu_dirty_ring_enable(struct vmmu_vm *vmmu, uint32_t entries)
{
	struct vm *vm = &vmmu->vm;
	enum vmmu_status status;

	if (entries & (entries - 1) || entries < 2 * VMMU_DIRTY_RING_RESERVED || entries > VMMU_DIRTY_RING_MAX)
		return VMMU_EINVAL;
	mutex_lock(&vm->vcpus.lock); /* no vCPU is made meanwhile */
	mutex_lock(&vm->slots_lock);
	status = ring_enable(vm, entries);
	mutex_unlock(&vm->slots_lock);
	mutex_unlock(&vm->vcpus.lock);
	return status;
}

void vmmu_vcpu_dirty_ring_set(struct vmmu_vcpu *vcpu, struct vmmu_dirty_gfn *ring)
{
	struct vm *vm = vcpu->vcpu.vm;

	mutex_lock(&vm->vcpus.lock); /* the vCPU is in the set already, and a reset may be reading the rings */
	dirty_ring_init(&vcpu->ring, ring, vm->slots->ring_entries);
	mutex_unlock(&vm->vcpus.lock);
}

void vmmu_vcpu_dirty_ring_reserve(struct vmmu_vcpu *vcpu, bool open)
{
	vcpu->ring.reserve_open = open;
	/* A request that came while it was open was answered by "there is room". */
	if (!open && dirty_ring_nearly_full(&vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

/* The slot that a claim names, or NULL if it is not a logged one. Pages beyond its end are taken out of the mask. */
static const struct memslot *batch_slot(struct vm *vm, const struct dirty_batch *batch, uint64_t *mask)
{
	const struct memslot *slot;
	uint64_t pages;

	if (batch->slot >> 16 >= vm->address_spaces)
		return NULL;
	slot = memslot_find_id(memslots_current(vm, batch->slot >> 16), batch->slot & 0xffff);
	if (!slot || !memslot_logs(slot) || batch->word >= dirty_words(slot))
		return NULL;
	pages = slot->npages - batch->word * 64;
	*mask = pages < 64 ? batch->mask & (BIT(pages) - 1) : batch->mask;
	return slot;
}

static void batches_protect(struct vm *vm, unsigned count)
{
	struct mmu_protect p = { .vm = vm };

	for (unsigned i = 0; i < count; i++) {
		uint64_t mask = 0;
		const struct memslot *slot = batch_slot(vm, &vm->slots->batches[i], &mask);

		if (slot && mask)
			mmu_protect_word(&p, slot, vm->slots->batches[i].word, mask);
	}
	mmu_protect_end(&p);
}

/* Add a page to the last batch, or to a new one. Returns: the number of batches now. */
static unsigned batch_add(struct dirty_batch *batches, unsigned count, const struct dirty_claim *claim)
{
	uint64_t word = claim->offset / 64, bit = BIT(claim->offset % 64);
	struct dirty_batch *last = count ? &batches[count - 1] : NULL;

	if (last && last->slot == claim->slot && last->word == word) {
		last->mask |= bit;
		return count;
	}
	batches[count] = (struct dirty_batch){ claim->slot, word, bit };
	return count + 1;
}

/* The rings are read without mmu_lock: they are the program's memory. Returns: entries taken back. */
static uint64_t rings_reset(struct vm *vm)
{
	uint64_t taken = 0;
	unsigned count = 0;

	for (unsigned id = 0; id < load_relaxed(&vm->vcpus.limit); id++) {
		struct vcpu *vcpu = load_relaxed(&vm->vcpus.by_id[id]);
		struct dirty_claim claim;

		if (!vcpu)
			continue;
		while (dirty_ring_take_back(&container_of(vcpu, struct vmmu_vcpu, vcpu)->ring, &claim)) {
			if (count == DIRTY_BATCHES) {
				batches_protect(vm, count);
				count = 0;
			}
			count = batch_add(vm->slots->batches, count, &claim);
			taken++;
		}
	}
	batches_protect(vm, count);
	return taken;
}

/*
 * When a vCPU is destroyed, the entries left in its ring are lost. Their pages are writable, and no log will see
 * the next write to them. Nobody knows which pages they are, so protect all that is logged. Not when the vCPU goes,
 * since mostly its VM goes with it.
 */
static void gone_rings_reset(struct vm *vm)
{
	if (vm->slots->ring_gone)
		mmu_log_begin_again(vm);
	vm->slots->ring_gone = false;
}

enum vmmu_status vmmu_dirty_ring_reset(struct vmmu_vm *vmmu, uint64_t *count)
{
	struct vm *vm = &vmmu->vm;
	enum vmmu_status status = VMMU_OK;

	*count = 0;
	mutex_lock(&vm->vcpus.lock); /* no vCPU, and no ring, goes away */
	mutex_lock(&vm->slots_lock);
	if (vm_is_dead(vm)) {
		status = VMMU_EDEAD;
	} else if (!vm->slots->ring_entries) {
		status = VMMU_EINVAL;
	} else {
		*count = rings_reset(vm);
		gone_rings_reset(vm);
	}
	mutex_unlock(&vm->slots_lock);
	mutex_unlock(&vm->vcpus.lock);
	return status;
}
