/* SPDX-License-Identifier: MIT */
/*
 * The context of a vCPU that walks a shadow of its guest's tables. A page fault there is the guest's own, or MMIO,
 * or a write to a table of the guest's, or a hole in the shadow to be filled.
 */
#include "core/fault/shadow_fault.h"

static enum vmmu_status init(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	bool first = !vcpu->shadow;

	if (fault_shadow_init(vm, &vcpu->shadow) != VMMU_OK)
		return VMMU_ENOMEM;
	if (first)
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
	fault_shadow_drop(vcpu, vcpu->shadow, only_obsolete);
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

static enum map_result map(struct vmmu_vcpu *vcpu, struct fault *fault)
{
	return fault_shadow_install(vcpu, vcpu->shadow, fault);
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

	fault_shadow_begin(vcpu, slots, &fault);
	return fault_shadow_walked(vcpu, slots, &fault, translate(vcpu->shadow, &fault), error, info,
	                           &context_shadow);
}

/* --- what the guest does to its translations --- */

static void regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep)
{
	bool same = fault_shadow_same_mode(&vcpu->shadow->regs, regs);

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
