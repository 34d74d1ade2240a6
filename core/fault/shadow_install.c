/* SPDX-License-Identifier: MIT */
/* Installing what a fault asked for in shadow tables, for both contexts that walk such. */
#include "core/fault/shadow_fault.h"

enum vmmu_status fault_shadow_init(struct vm *vm, struct shadow_vcpu **sv)
{
	if (*sv)
		return VMMU_OK;
	*sv = vm_alloc(vm, sizeof(**sv));
	return *sv ? VMMU_OK : VMMU_ENOMEM;
}

void fault_shadow_drop(struct vmmu_vcpu *vcpu, struct shadow_vcpu *sv, bool only_obsolete)
{
	if (!sv)
		return;
	shadow_roots_drop(vcpu->vcpu.vm, sv, only_obsolete);
	vcpu->flush = true;
}

static bool map_is_stale(const struct mmu_token *token, const struct shadow_root *root,
                         const struct shadow_fault *fault)
{
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
static enum map_result map_alone(struct vmmu_vcpu *vcpu, struct shadow_vcpu *sv, struct shadow_fault *fault,
                                 enum map_result result)
{
	struct mmu_write token = mmu_write_lock(vcpu->vcpu.vm);

	if (result == RET_PF_ALONE) {
		/* Make room before the check: that may zap the very pages that the check is about (zoo 4). */
		shadow_make_room(&token);
		result = RET_PF_RETRY;
		if (!map_is_stale(&token.token, &sv->root, fault))
			result = shadow_map(&token, sv, fault, &vcpu->tables);
	}
	if (sv->crowded)
		shadow_rmap_recycle(&token, sv);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	return result;
}

enum map_result fault_shadow_install(struct vmmu_vcpu *vcpu, struct shadow_vcpu *sv, struct fault *common)
{
	struct shadow_fault *fault = container_of(common, struct shadow_fault, common);
	struct mmu_read token = mmu_read_lock(vcpu->vcpu.vm, vcpu->vcpu.id);
	enum map_result result = RET_PF_RETRY;

	if (!map_is_stale(&token.token, &sv->root, fault))
		result = shadow_map_beside(&token, sv, fault);
	mmu_read_unlock(&token);
	if (result == RET_PF_ALONE || sv->crowded)
		result = map_alone(vcpu, sv, fault, result);
	return result;
}
