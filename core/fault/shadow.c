/* SPDX-License-Identifier: MIT */
/*
 * The context of a vCPU that walks a shadow of its guest's tables. A page fault there is the guest's own, or MMIO,
 * or a write to a table of the guest's, or a hole in the shadow to be filled.
 */
#include "core/fault/fault.h"
#include "core/shadow/shadow.h"

static enum vmmu_status init(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;

	if (vcpu->shadow)
		return VMMU_OK;
	vcpu->shadow = vm_alloc(vm, sizeof(*vcpu->shadow));
	if (!vcpu->shadow)
		return VMMU_ENOMEM;
	vcpu->shadow->regs.phys_bits = vm->guest_phys_bits;
	return VMMU_OK;
}

/* --- the root --- */

static enum vmmu_status load(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	struct vm *vm = vcpu->vcpu.vm;
	const struct shadow *before = vcpu->shadow->root.page[0];
	enum vmmu_status status = shadow_root_load(vm, vcpu->shadow, &vcpu->tables, vcpu->vcpu.id);

	if (vcpu->shadow->root.page[0] != before)
		vcpu->flush = true;
	if (status != VMMU_OK)
		return status;
	/* Bring the tables up to date with what the guest wrote before it flushed (P8). */
	if (vcpu->sync || vcpu->shadow->root.behind) {
		shadow_sync_roots(vm, vcpu->shadow, vcpu->as_id);
		vcpu->sync = vcpu->shadow->root.behind = false;
	}
	entry->root = shadow_root_entries(vcpu->shadow, &entry->levels);
	entry->shadow = true;
	return VMMU_OK;
}

static void drop(struct vmmu_vcpu *vcpu, bool only_obsolete)
{
	if (!vcpu->shadow)
		return;
	shadow_roots_drop(vcpu->vcpu.vm, vcpu->shadow, only_obsolete);
	vcpu->flush = true;
}

static void mode(struct vmmu_vcpu *vcpu)
{
	shadow_mode_set(vcpu->shadow, vcpu->as_id);
}

/* --- installing --- */

static bool fill(struct vmmu_vcpu *vcpu)
{
	return shadow_caches_fill(vcpu->vcpu.vm, vcpu->shadow, &vcpu->tables);
}

static bool map_is_stale(const struct mmu_token *token, const struct vmmu_vcpu *vcpu, const struct shadow_fault *fault)
{
	const struct shadow_root *root = &vcpu->shadow->root;
	hva_t start = { 0 }, end = { 0 };

	if (fault->common.slot)
		shadow_fault_host_range(fault, &start, &end);
	return fault_is_stale(token, &fault->common, root->valid && !shadow_root_is_obsolete(token->vm, root), start,
	                      end);
}

/*
 * Do with mmu_lock held for write what shadow_map_beside could not, and recycle the chain of a frame with too many
 * leaves. If shadow_map_beside did map the page, its result stands: other vCPUs may have written through the new
 * leaf, and the page must be marked dirty.
 */
static enum map_result map_alone(struct vmmu_vcpu *vcpu, struct shadow_fault *fault, enum map_result result)
{
	struct mmu_write token = mmu_write_lock(vcpu->vcpu.vm);

	if (result == RET_PF_ALONE) {
		/* Make room before the check: that may zap the very pages that the check is about (zoo 4). */
		shadow_make_room(&token);
		result = RET_PF_RETRY;
		if (!map_is_stale(&token.token, vcpu, fault))
			result = shadow_map(&token, vcpu->shadow, fault, &vcpu->tables);
	}
	if (vcpu->shadow->crowded)
		shadow_rmap_recycle(&token, vcpu->shadow);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return result;
}

static enum map_result map(struct vmmu_vcpu *vcpu, struct fault *common)
{
	struct shadow_fault *fault = container_of(common, struct shadow_fault, common);
	struct mmu_read token = mmu_read_lock(vcpu->vcpu.vm, vcpu->vcpu.id);
	enum map_result result = RET_PF_RETRY;

	if (!map_is_stale(&token.token, vcpu, fault))
		result = shadow_map_beside(&token, vcpu->shadow, fault);
	mmu_read_unlock(&token);
	if (result == RET_PF_ALONE || vcpu->shadow->crowded)
		result = map_alone(vcpu, fault, result);
	return result;
}

/* --- faults --- */

/* Translate as the guest would. Without paging a linear address is a physical one, with every right. */
static enum guest_walk_result translate(const struct shadow_vcpu *sv, struct shadow_fault *fault)
{
	if (sv->mode.levels)
		return guest_walk(fault->reader, sv->regs.cr3, sv->regs.pdpte, fault->gva, fault->error, fault->pkru,
		                  &fault->walk);
	fault->walk.levels = 0;
	fault->walk.level = GUEST_MAX_LEVELS;
	fault->walk.rights[GUEST_MAX_LEVELS - 1] = ACC_ALL;
	fault->walk.key = 0;
	fault->walk.dirty = true;
	/* Without paging the tables reach 32 bits: ignore any higher bits that the caller passed. */
	fault->walk.gfn = GFN((uint32_t)fault->gva.v >> PAGE_SHIFT);
	return GUEST_WALK_OK;
}

static enum vmmu_page_fault page_fault(struct vmmu_vcpu *vcpu, const struct memslots *slots, gva_t gva, uint64_t error,
                                       uint32_t pkru, struct vmmu_page_info *info)
{
	const struct guest_reader reader = { &vcpu->shadow->mode, slots, &vcpu->table_cache, vcpu->vcpu.vm,
	                                     &vcpu->ring };
	struct shadow_fault fault = { .gva = gva, .error = error & ~VMMU_PF_NOWAIT, .pkru = pkru, .reader = &reader };
	struct fault *common = &fault.common;

	common->generation = memslots_generation(slots);
	common->snapshot = notifier_snapshot(vcpu->vcpu.vm);
	switch (translate(vcpu->shadow, &fault)) {
	case GUEST_WALK_OK:
		break;
	case GUEST_WALK_FAULT:
		info->error = fault.walk.error;
		return VMMU_PAGE_GUEST;
	case GUEST_WALK_RING_FULL:
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_AGAIN:
		return VMMU_PAGE_RETRY;
	case GUEST_WALK_HOST:
		return VMMU_PAGE_HOST;
	}
	common->gfn = fault.walk.gfn;
	common->access = error & VMMU_PF_WRITE ? VMMU_READ | VMMU_WRITE : VMMU_READ;
	if (error & VMMU_PF_NOWAIT)
		common->access |= VMMU_NOWAIT;
	common->slot = memslot_find_cached(&vcpu->slot_cache, slots, common->gfn);
	info->gpa.v = gfn_to_gpa(common->gfn).v | (gva.v & (PAGE_SIZE - 1));
	return common->slot ? fault_on_memory(vcpu, common, error, &context_shadow) :
	                      fault_on_mmio(vcpu, common, &context_shadow);
}

/* --- what the guest does to its translations --- */

/* Are all registers equal that the mode is derived from? Most writes change CR3 alone. */
static bool same_mode(const struct vmmu_guest_regs *a, const struct vmmu_guest_regs *b)
{
	return a->cr0 == b->cr0 && a->cr4 == b->cr4 && a->efer == b->efer && a->phys_bits == b->phys_bits &&
	       a->gbpages == b->gbpages;
}

static void regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep)
{
	bool same = same_mode(&vcpu->shadow->regs, regs);

	vcpu->shadow->regs = *regs;
	/*
	 * Roots are cached under their role. If the number of levels changes, none of them is of use any more.
	 * Shadow pages stay in the hash in either case.
	 */
	if (!same && shadow_mode_set(vcpu->shadow, vcpu->as_id))
		shadow_roots_drop(vcpu->vcpu.vm, vcpu->shadow, false);
	else if (vcpu->shadow->mode.levels && vcpu->shadow->mode.levels < 4)
		shadow_root_forget(vcpu->vcpu.vm, vcpu->shadow); /* PDPTEs are loaded with CR3 */
	vcpu->flush = true;
	if (!keep)
		vcpu->sync = true;
	if (!keep && !same) /* a write of CR0, CR4 or EFER changes every address space */
		shadow_flushed_all(vcpu->shadow);
}

static void invlpg(struct vmmu_vcpu *vcpu, gva_t gva)
{
	shadow_invlpg(vcpu->vcpu.vm, vcpu->shadow, gva);
}

static void flush_all(struct vmmu_vcpu *vcpu)
{
	vcpu->sync = true;
	vcpu->flush = true;
	shadow_flushed_all(vcpu->shadow);
}

const struct context_ops context_shadow = {
	.init = init,
	.load = load,
	.drop = drop,
	.mode = mode,
	.page_fault = page_fault,
	.fill = fill,
	.map = map,
	.regs_set = regs_set,
	.invlpg = invlpg,
	.flush_all = flush_all,
};
