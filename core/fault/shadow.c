/* SPDX-License-Identifier: MIT */
/*
 * A #PF in a VM that shadows: is it the guest's own, MMIO, a write to a guest table, or a hole in the shadow to be filled?
 */
#include "core/fault/admit.h"
#include "core/format/spte.h"
#include "core/notifier/notifier.h"

static void reader_init(struct vmmu_vcpu *vcpu, const struct memslots *slots, struct guest_reader *reader)
{
	*reader = (struct guest_reader){ &vcpu->shadow->mode, slots, &vcpu->table_cache, vcpu->vcpu.vm, &vcpu->ring };
}

/* Translate as the guest would. Without paging a virtual address is a physical one, with every right. */
static enum guest_walk_result translate(const struct shadow_vcpu *sv, const struct guest_reader *reader, struct shadow_fault *fault, uint32_t pkru)
{
	if (sv->mode.levels)
		return guest_walk(reader, sv->regs.cr3, sv->regs.pdpte, fault->gva, fault->error, pkru, &fault->walk);
	fault->walk.levels = 0;
	fault->walk.level = GUEST_MAX_LEVELS;
	fault->walk.rights[GUEST_MAX_LEVELS - 1] = ACC_ALL;
	fault->walk.key = 0;
	fault->walk.dirty = true;
	fault->walk.gfn = GFN((uint32_t)fault->gva.v >> PAGE_SHIFT); /* 32 bits, whatever the caller says: the tables reach no further */
	return GUEST_WALK_OK;
}

static bool fault_is_stale(const struct mmu_token *token, const struct vmmu_vcpu *vcpu, const struct shadow_fault *fault, uint64_t snapshot)
{
	hva_t start, end;

	if (!vcpu->shadow->root.valid || shadow_root_is_obsolete(token->vm, &vcpu->shadow->root))
		return true;
	if (!fault->slot)
		return false;
	shadow_fault_host_range(fault, &start, &end);
	return notifier_must_retry(token, snapshot, start, end);
}

static enum shadow_result map_beside(struct vmmu_vcpu *vcpu, const struct guest_reader *reader, struct shadow_fault *fault, uint64_t snapshot)
{
	struct mmu_read token = mmu_read_lock(vcpu->vcpu.vm, vcpu->vcpu.id);
	enum shadow_result result = SHADOW_RETRY;

	if (!fault_is_stale(&token.token, vcpu, fault, snapshot))
		result = shadow_map_beside(&token, vcpu->shadow, reader, fault);
	mmu_read_unlock(&token);
	return result;
}

/*
 * Do with mmu_lock held for write what map_beside could not, and recycle the chain of a frame with too many leaves. If
 * map_beside mapped the page its result stands: other vCPUs may have written through the new leaf, and the page must be
 * marked dirty.
 */
static enum shadow_result map_alone(struct vmmu_vcpu *vcpu, const struct guest_reader *reader, struct shadow_fault *fault, uint64_t snapshot,
                                    enum shadow_result result)
{
	struct mmu_write token = mmu_write_lock(vcpu->vcpu.vm);

	if (result == SHADOW_ALONE) {
		/* Room first: it may take the very pages that the check is about (zoo 4). */
		shadow_make_room(&token);
		result = SHADOW_RETRY;
		if (!fault_is_stale(&token.token, vcpu, fault, snapshot))
			result = shadow_map(&token, vcpu->shadow, reader, fault, &vcpu->tables);
	}
	if (vcpu->shadow->crowded)
		shadow_rmap_recycle(&token, vcpu->shadow);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return result;
}

static enum vmmu_page_fault map_under_lock(struct vmmu_vcpu *vcpu, const struct guest_reader *reader, struct shadow_fault *fault, uint64_t snapshot)
{
	static const enum vmmu_page_fault answer[] = {
		[SHADOW_FIXED] = VMMU_PAGE_FIXED,
		[SHADOW_SPURIOUS] = VMMU_PAGE_FIXED,
		[SHADOW_RETRY] = VMMU_PAGE_RETRY,
		[SHADOW_EMULATE] = VMMU_PAGE_EMULATE,
	};
	enum shadow_result result;

	if (!shadow_caches_fill(vcpu->vcpu.vm, vcpu->shadow, &vcpu->tables))
		return VMMU_PAGE_NOMEM;
	result = map_beside(vcpu, reader, fault, snapshot);
	if (result == SHADOW_ALONE || vcpu->shadow->crowded)
		result = map_alone(vcpu, reader, fault, snapshot, result);
	vcpu_count(&vcpu->vcpu.stats.fixed, result == SHADOW_FIXED);
	vcpu_count(&vcpu->vcpu.stats.spurious, result == SHADOW_SPURIOUS);
	return answer[result];
}

static enum vmmu_page_fault fault_mmio(struct vmmu_vcpu *vcpu, const struct guest_reader *reader, struct shadow_fault *fault)
{
	if (!(fault->mmio_generation & GENERATION_IN_PROGRESS))
		map_under_lock(vcpu, reader, fault, 0); /* whatever came of it: the next access asks again */
	return VMMU_PAGE_MMIO;
}

static enum vmmu_page_fault fault_memory(struct vmmu_vcpu *vcpu, const struct guest_reader *reader, struct shadow_fault *fault, uint64_t snapshot)
{
	static const enum vmmu_page_fault refused[] = {
		[VMMU_FAULT_RETRY] = VMMU_PAGE_RETRY,
		[VMMU_FAULT_MMIO] = VMMU_PAGE_MMIO,
		[VMMU_FAULT_HOST] = VMMU_PAGE_HOST,
		[VMMU_FAULT_NOMEM] = VMMU_PAGE_NOMEM,
	};
	unsigned access = fault->error & VMMU_PF_WRITE ? VMMU_READ | VMMU_WRITE : VMMU_READ;
	struct admitted admitted;
	enum vmmu_fault first = fault_admit(vcpu, fault->slot, fault->walk.gfn, access, &admitted);
	enum vmmu_page_fault answer;

	if (first == VMMU_FAULT_FIXED)
		first = fault_page_get(vcpu->vcpu.vm, &admitted, &fault->page);
	if (first != VMMU_FAULT_FIXED)
		return refused[first];
	answer = map_under_lock(vcpu, reader, fault, snapshot);
	/* An emulated write is marked by vmmu_guest_write, in the room that was found here. */
	if (answer == VMMU_PAGE_FIXED)
		fault_written(vcpu, &admitted);
	return answer;
}

static enum vmmu_page_fault page_fault(struct vmmu_vcpu *vcpu, const struct memslots *slots, struct shadow_fault *fault, uint32_t pkru,
                                       struct vmmu_page_info *info)
{
	uint64_t snapshot = notifier_snapshot(vcpu->vcpu.vm);
	struct guest_reader reader;

	reader_init(vcpu, slots, &reader);
	fault->mmio_generation = memslots_generation(slots);
	switch (translate(vcpu->shadow, &reader, fault, pkru)) {
	case GUEST_WALK_OK:
		break;
	case GUEST_WALK_FAULT:
		info->error = fault->walk.error;
		return VMMU_PAGE_GUEST;
	case GUEST_WALK_RING_FULL:
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_AGAIN:
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_HOST:
		return VMMU_PAGE_HOST;
	}
	info->gpa.v = gfn_to_gpa(fault->walk.gfn).v | (fault->gva.v & (PAGE_SIZE - 1));
	fault->slot = memslot_find_cached(&vcpu->slot_cache, slots, fault->walk.gfn);
	return fault->slot ? fault_memory(vcpu, &reader, fault, snapshot) : fault_mmio(vcpu, &reader, fault);
}

enum vmmu_page_fault vmmu_page_fault(struct vmmu_vcpu *vcpu, struct vmmu_gva gva, uint64_t error, uint32_t pkru, struct vmmu_page_info *info)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct shadow_fault fault = { .gva = gva, .error = error, .pkru = pkru };
	struct srcu_read token;
	enum vmmu_page_fault answer;

	ASSERT(load_relaxed(&vcpu->vcpu.mode) == VCPU_OUTSIDE);
	*info = (struct vmmu_page_info){ 0 };
	if (unlikely(vm_is_dead(vm)) || !vcpu->shadow)
		return VMMU_PAGE_DEAD;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	answer = page_fault(vcpu, memslots_active(vm, vcpu->as_id, token), &fault, pkru, info);
	srcu_read_unlock(&vm->srcu, token);
	vcpu_count(&vcpu->vcpu.stats.mmio, answer == VMMU_PAGE_MMIO);
	vcpu_count(&vcpu->vcpu.stats.retried, answer == VMMU_PAGE_RETRY);
	vcpu_count(&vcpu->vcpu.stats.host, answer == VMMU_PAGE_HOST);
	return answer;
}
