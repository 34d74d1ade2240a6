/* SPDX-License-Identifier: MIT */
/* A vCPU on its way into the guest and out of it: requests and the root (P3, P9). */
#include "core/fault/vcpu.h"
#include "core/tdp/tdp.h"

void vcpu_root_drop(struct vmmu_vcpu *vcpu)
{
	if (vcpu->shadow) {
		shadow_roots_drop(vcpu->vcpu.vm, vcpu->shadow, false);
		vcpu->flush = true;
		return;
	}
	if (!vcpu->root)
		return;
	tdp_root_put(vcpu->vcpu.vm, vcpu->root);
	vcpu->root = NULL;
	vcpu->flush = true; /* translations of one root mean nothing under another */
}

enum vmmu_status vcpu_root_load(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct mmu_read token;

	if (vcpu->root && tdp_root_is_valid(vcpu->root))
		return VMMU_OK;
	vcpu_root_drop(vcpu);
	if (!table_cache_fill(vm, &vcpu->tables, 1))
		return VMMU_ENOMEM;
	token = mmu_read_lock(vm, vcpu->vcpu.id);
	vcpu->root = tdp_root_get(&token, vcpu->as_id, &vcpu->tables);
	mmu_read_unlock(&token);
	return vcpu->root ? VMMU_OK : VMMU_ENOMEM;
}

/* Act on every pending request. Returns: true when the user must be told that the ring is nearly full. */
static bool requests_handle(struct vmmu_vcpu *vcpu)
{
	uint32_t requests = vcpu_requests_take(&vcpu->vcpu);

	if (likely(!requests))
		return false;
	for (uint32_t rest = requests; rest; rest &= rest - 1) /* no popcount: gcc's is a libgcc call */
		vcpu_count(&vcpu->vcpu.stats.requests, 1);
	if (requests & REQ_TLB_FLUSH)
		vcpu->flush = true;
	/* Exactly the roots that are obsolete (P3). */
	if ((requests & REQ_FREE_OBSOLETE_ROOTS) && vcpu->shadow) {
		shadow_roots_drop(vcpu->vcpu.vm, vcpu->shadow, true);
		vcpu->flush = true;
	} else if ((requests & REQ_FREE_OBSOLETE_ROOTS) && vcpu->root && !tdp_root_is_valid(vcpu->root))
		vcpu_root_drop(vcpu);
	if (!(requests & REQ_RING_FULL) || !dirty_ring_nearly_full(&vcpu->ring))
		return false;
	vcpu_request(&vcpu->vcpu, REQ_RING_FULL); /* until it has been emptied */
	return true;
}

/* A shadow root for the guest's CR3, up to date with what the guest wrote before it flushed. */
static enum vmmu_status shadow_ready(struct vmmu_vcpu *vcpu)
{
	struct vm *vm = vcpu->vcpu.vm;
	const struct shadow *before = vcpu->shadow->root.page[0];
	enum vmmu_status status = shadow_root_load(vm, vcpu->shadow, &vcpu->tables, vcpu->vcpu.id);

	if (vcpu->shadow->root.page[0] != before)
		vcpu->flush = true;
	if (status == VMMU_OK && (vcpu->sync || vcpu->shadow->root.behind)) {
		shadow_sync_roots(vm, vcpu->shadow, vcpu->as_id);
		vcpu->sync = vcpu->shadow->root.behind = false;
	}
	return status;
}

static enum vmmu_status root_ready(struct vmmu_vcpu *vcpu)
{
	return vcpu->shadow ? shadow_ready(vcpu) : vcpu_root_load(vcpu);
}

static void entry_fill(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	entry->shadow = vcpu->shadow;
	if (vcpu->shadow) {
		entry->root = shadow_root_entries(vcpu->shadow, &entry->levels);
	} else {
		entry->root = table_entries(vcpu->root);
		entry->levels = vcpu->vcpu.vm->levels;
	}
	entry->format = vcpu->vcpu.vm->format;
	entry->flush = vcpu->flush;
	entry->poll = &vcpu->vcpu.mode;
	vcpu->flush = false;
}

enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	struct vm *vm = vcpu->vcpu.vm;

	do {
		if (unlikely(vm_is_dead(vm)))
			return VMMU_ENTER_DEAD;
		if (requests_handle(vcpu))
			return VMMU_ENTER_RING_FULL;
		if (unlikely(root_ready(vcpu) != VMMU_OK))
			return VMMU_ENTER_NOMEM;
	} while (!vcpu_mode_enter(&vcpu->vcpu));
	entry_fill(vcpu, entry);
	return VMMU_ENTER_RUN;
}

void vmmu_vcpu_leave(struct vmmu_vcpu *vcpu)
{
	vcpu_mode_leave(&vcpu->vcpu);
}

void vmmu_vcpu_kick(struct vmmu_vcpu *vcpu)
{
	vcpu_kick(&vcpu->vcpu);
}

enum vmmu_status vmmu_vcpu_address_space_set(struct vmmu_vcpu *vcpu, unsigned address_space)
{
	if (address_space >= vcpu->vcpu.vm->address_spaces)
		return VMMU_EINVAL;
	if (address_space == vcpu->as_id)
		return VMMU_OK;
	vcpu_root_drop(vcpu);
	vcpu->as_id = address_space;
	vcpu->mmio.generation = 0;
	if (vcpu->shadow)
		shadow_mode_set(vcpu->shadow, address_space);
	return VMMU_OK;
}

/* Everything that the mode is derived from; most writes are of CR3. */
static bool same_mode(const struct vmmu_guest_regs *a, const struct vmmu_guest_regs *b)
{
	return a->cr0 == b->cr0 && a->cr4 == b->cr4 && a->efer == b->efer && a->phys_bits == b->phys_bits && a->gbpages == b->gbpages;
}

void vmmu_guest_regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep)
{
	bool same;

	if (!vcpu->shadow)
		return;
	same = same_mode(&vcpu->shadow->regs, regs);
	vcpu->shadow->regs = *regs;
	/* Roots are cached under their role; but with another number of levels they mean something else. Pages stay in the hash in any case. */
	if (!same && shadow_mode_set(vcpu->shadow, vcpu->as_id))
		shadow_roots_drop(vcpu->vcpu.vm, vcpu->shadow, false);
	else if (vcpu->shadow->mode.levels && vcpu->shadow->mode.levels < 4)
		shadow_root_forget(vcpu->vcpu.vm, vcpu->shadow); /* PDPTEs are loaded with CR3 */
	vcpu->flush = true;
	if (!keep)
		vcpu->sync = true;
	if (!keep && !same) /* CR0, CR4 and EFER: no context is left as it was */
		shadow_flushed_all(vcpu->shadow);
}

void vmmu_invlpg(struct vmmu_vcpu *vcpu, struct vmmu_gva gva)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token;

	if (!vcpu->shadow)
		return;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id); /* entries leave the rmaps of slots */
	shadow_invlpg(vm, vcpu->shadow, gva);
	srcu_read_unlock(&vm->srcu, token);
}

bool vmmu_unprotect(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token;
	bool any;

	if (!vcpu->shadow)
		return false;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	any = shadow_unprotect(vm, gpa_to_gfn(gpa));
	srcu_read_unlock(&vm->srcu, token);
	return any;
}

void vmmu_invpcid(struct vmmu_vcpu *vcpu, unsigned type, uint64_t pcid, struct vmmu_gva gva)
{
	if (!vcpu->shadow)
		return;
	if (type == 0) {
		/* The roots are not kept apart by PCID: one page, in all of them. */
		(void)pcid;
		vmmu_invlpg(vcpu, gva);
		return;
	}
	vcpu->sync = true;
	vcpu->flush = true;
	shadow_flushed_all(vcpu->shadow);
}
