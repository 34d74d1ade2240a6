/* SPDX-License-Identifier: MIT */
/* The hypervisor's own access to guest memory, through the slots (KVM's kvm_vcpu_read_guest and kvm_vcpu_write_guest). */
#include "core/base/string.h"
#include "core/shadow/shadow.h"
#include "core/vm/vm_int.h"

/* The slot of gfn if it can serve the access, else NULL. */
static const struct memslot *slot_for(struct vmmu_vcpu *vcpu, const struct memslots *slots, gfn_t gfn, bool write)
{
	const struct memslot *slot = memslot_find_cached(&vcpu->slot_cache, slots, gfn);

	if (!slot || (slot->flags & SLOT_INVALID) || (write && (slot->flags & VMMU_SLOT_READONLY)))
		return NULL;
	return slot;
}

/* P4: the store may have hit a table. P11: and it is logged. */
static void page_written(struct vmmu_vcpu *vcpu, const struct memslot *slot, gpa_t gpa, size_t bytes)
{
	if (vcpu->vcpu.vm->shadow)
		shadow_track_write(vcpu->vcpu.vm, gpa, bytes);
	if (dirty_mark(vcpu->vcpu.vm, slot, gpa_to_gfn(gpa), &vcpu->ring))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

static enum vmmu_status page_copy(struct vmmu_vcpu *vcpu, const struct memslot *slot, gpa_t gpa, void *buffer, size_t bytes, bool write)
{
	uint64_t hva = memslot_hva(slot, gpa_to_gfn(gpa)).v + (gpa.v & (PAGE_SIZE - 1));

	if (!write)
		return port_copy_from_host(buffer, hva, bytes) ? VMMU_OK : VMMU_EFAULT;
	if (!port_copy_to_host(hva, buffer, bytes))
		return VMMU_EFAULT;
	page_written(vcpu, slot, gpa, bytes);
	return VMMU_OK;
}

/* Two rounds: the first only looks, so that nothing is copied if a part has no slot, or the ring no room. */
static enum vmmu_status copy(struct vmmu_vcpu *vcpu, gpa_t gpa, char *buffer, size_t bytes, bool write)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token;
	const struct memslots *slots;
	enum vmmu_status status = VMMU_OK;
	uint64_t logged = 0; /* pages that need an entry in the ring */

	if (gpa.v + bytes < gpa.v)
		return VMMU_ENOENT;
	token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	slots = memslots_active(vm, vcpu->as_id, token);
	for (int round = 0; round < 2 && status == VMMU_OK; round++) {
		/* A page that does not fit in the ring would be written and not logged. */
		if (write && logged && !dirty_ring_has_room(&vcpu->ring, logged)) {
			vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
			status = VMMU_EBUSY;
		}
		for (size_t done = 0, part; done < bytes && status == VMMU_OK; done += part) {
			gpa_t at = GPA(gpa.v + done);
			const struct memslot *slot = slot_for(vcpu, slots, gpa_to_gfn(at), write);

			part = min_u64(bytes - done, PAGE_SIZE - (at.v & (PAGE_SIZE - 1)));
			if (!slot)
				status = VMMU_ENOENT;
			else if (round == 1)
				status = page_copy(vcpu, slot, at, buffer + done, part, write);
			else
				logged += memslot_logs(slot);
		}
	}
	srcu_read_unlock(&vm->srcu, token);
	return status;
}

enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, void *to, size_t bytes)
{
	return copy(vcpu, gpa, to, bytes, false);
}

enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, const void *from, size_t bytes)
{
	return copy(vcpu, gpa, (char *)from, bytes, true);
}

void vmmu_guest_written(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, size_t bytes)
{
	struct vm *vm = vcpu->vcpu.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, vcpu->vcpu.id);
	const struct memslot *slot = slot_for(vcpu, memslots_active(vm, vcpu->as_id, token), gpa_to_gfn(gpa), true);

	/* Without a slot any more the store went to memory that is on its way out, and its mirrors with it. */
	if (slot)
		page_written(vcpu, slot, gpa, bytes);
	srcu_read_unlock(&vm->srcu, token);
}
