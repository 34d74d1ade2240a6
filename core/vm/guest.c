/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own access to guest memory, through the slots: for a vCPU (KVM's kvm_vcpu_read_guest and
 * kvm_vcpu_write_guest) or, without one, for a device (kvm_read_guest, kvm_write_guest, mark_page_dirty).
 */
#include <vmmu/memory.h>

#include "core/base/string.h"
#include "core/shadow/shadow.h"
#include "core/vm/vm_int.h"

struct access {
	struct vm *vm;
	unsigned as_id;
	unsigned stripe;             /* of SRCU */
	struct memslot_cache *cache;
	struct vmmu_vcpu *vcpu;      /* NULL: a device's, which has no ring */
	bool write;                  /* the slot must allow it */
};

static struct access vcpu_access(struct vmmu_vcpu *vcpu, bool write)
{
	return (struct access){ vcpu->vcpu.vm, vcpu->as_id, vcpu->vcpu.id, &vcpu->slot_cache, vcpu, write };
}

/* The slot of gfn if it can serve the access, else NULL. */
static const struct memslot *slot_for(const struct access *access, const struct memslots *slots, gfn_t gfn)
{
	const struct memslot *slot = memslot_find_cached(access->cache, slots, gfn);

	if (!slot || (slot->flags & SLOT_INVALID) || (access->write && (slot->flags & VMMU_SLOT_READONLY)))
		return NULL;
	return slot;
}

void guest_written(struct vm *vm, struct vmmu_vcpu *vcpu, const struct memslot *slot, gpa_t gpa, size_t bytes)
{
	shadow_track_write(vm, gpa, bytes);
	if (dirty_mark(vm, slot, gpa_to_gfn(gpa), vcpu ? &vcpu->ring : NULL))
		vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
}

static void page_written(const struct access *access, const struct memslot *slot, gpa_t gpa, size_t bytes)
{
	guest_written(access->vm, access->vcpu, slot, gpa, bytes);
}

/* What to do with the part of an access that lies in one page. */
typedef enum vmmu_status part_fn(const struct access *access, const struct memslot *slot, gpa_t gpa, void *buffer,
                                 size_t bytes);

static uint64_t part_hva(const struct memslot *slot, gpa_t gpa)
{
	return memslot_hva(slot, gpa_to_gfn(gpa)).v + (gpa.v & (PAGE_SIZE - 1));
}

static enum vmmu_status part_read(const struct access *access, const struct memslot *slot, gpa_t gpa, void *buffer,
                                  size_t bytes)
{
	(void)access;
	return port_copy_from_host(buffer, part_hva(slot, gpa), bytes) ? VMMU_OK : VMMU_EFAULT;
}

static enum vmmu_status part_write(const struct access *access, const struct memslot *slot, gpa_t gpa, void *buffer,
                                   size_t bytes)
{
	if (!port_copy_to_host(part_hva(slot, gpa), buffer, bytes))
		return VMMU_EFAULT;
	page_written(access, slot, gpa, bytes);
	return VMMU_OK;
}

static enum vmmu_status part_written(const struct access *access, const struct memslot *slot, gpa_t gpa, void *buffer,
                                     size_t bytes)
{
	(void)buffer;
	page_written(access, slot, gpa, bytes);
	return VMMU_OK;
}

enum vmmu_status guest_has_room(const struct vm *vm, struct vmmu_vcpu *vcpu, uint64_t logged)
{
	uint32_t entries = vm->slots->ring_entries;

	if (!logged || !entries)
		return VMMU_OK;
	if (!vcpu)
		return VMMU_EBUSY;
	if (!vcpu->ring.entries)
		return VMMU_EINVAL;
	if (logged > entries)
		return VMMU_E2BIG;
	if (dirty_ring_has_room(&vcpu->ring, logged))
		return VMMU_OK;
	vcpu_request(&vcpu->vcpu, REQ_RING_FULL);
	return VMMU_EBUSY;
}

static enum vmmu_status part_where(const struct access *access, const struct memslot *slot, gpa_t gpa, void *buffer,
                                   size_t bytes)
{
	(void)access;
	(void)bytes;
	((hva_t *)buffer)->v = part_hva(slot, gpa);
	return VMMU_OK;
}

/*
 * Do `part` to each page of [gpa, gpa + bytes).
 * `part` NULL: only check that each has a slot, and count those that are logged.
 */
static enum vmmu_status parts_each(const struct access *access, const struct memslots *slots, gpa_t gpa, char *buffer,
                                   size_t bytes, part_fn *part, uint64_t *logged)
{
	enum vmmu_status status = VMMU_OK;

	for (size_t done = 0, size; done < bytes && status == VMMU_OK; done += size) {
		gpa_t at = GPA(gpa.v + done);
		const struct memslot *slot = slot_for(access, slots, gpa_to_gfn(at));

		size = min_u64(bytes - done, PAGE_SIZE - (at.v & (PAGE_SIZE - 1)));
		if (!slot)
			return VMMU_ENOENT;
		if (part)
			status = part(access, slot, at, buffer ? buffer + done : NULL, size);
		else
			*logged += memslot_logs(slot);
	}
	return status;
}

/* Two rounds. The first only looks, so that nothing is done if a part has no slot or the ring no room. */
static enum vmmu_status access_each(const struct access *access, gpa_t gpa, char *buffer, size_t bytes, part_fn *part)
{
	struct vm *vm = access->vm;
	enum vmmu_status status;
	const struct memslots *slots;
	struct srcu_read token;
	uint64_t logged = 0;

	if (gpa.v + bytes < gpa.v)
		return VMMU_ENOENT;
	token = srcu_read_lock(&vm->srcu, access->stripe);
	slots = memslots_active(vm, access->as_id, token);
	status = parts_each(access, slots, gpa, buffer, bytes, NULL, &logged);
	if (status == VMMU_OK && part != part_read && part != part_where)
		status = guest_has_room(vm, access->vcpu, logged);
	if (status == VMMU_OK)
		status = parts_each(access, slots, gpa, buffer, bytes, part, &logged);
	srcu_read_unlock(&vm->srcu, token);
	return status;
}

enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, void *to, size_t bytes)
{
	const struct access access = vcpu_access(vcpu, false);

	return access_each(&access, gpa, to, bytes, part_read);
}

enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, const void *from, size_t bytes)
{
	const struct access access = vcpu_access(vcpu, true);

	return access_each(&access, gpa, (char *)from, bytes, part_write);
}

void vmmu_guest_written(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, size_t bytes)
{
	const struct access access = vcpu_access(vcpu, true);
	struct vm *vm = access.vm;
	struct srcu_read token = srcu_read_lock(&vm->srcu, access.stripe);
	const struct memslot *slot = slot_for(&access, memslots_active(vm, access.as_id, token), gpa_to_gfn(gpa));

	/* If the slot is gone, the store went to memory that is being removed, and its mirrors go with it. */
	if (slot)
		page_written(&access, slot, gpa, bytes);
	srcu_read_unlock(&vm->srcu, token);
}

/* --- access by a device --- */

static enum vmmu_status device_access(struct vmmu_vm *vmmu, uint32_t address_space, struct vmmu_gpa gpa, char *buffer,
                                      size_t bytes, bool write, part_fn *part)
{
	struct memslot_cache cache = { 0 };
	const struct access access = { &vmmu->vm, address_space, 0, &cache, NULL, write };

	if (vm_is_dead(&vmmu->vm))
		return VMMU_EDEAD;
	if (address_space >= vmmu->vm.address_spaces)
		return VMMU_EINVAL;
	return access_each(&access, gpa, buffer, bytes, part);
}

enum vmmu_status vmmu_memory_read(struct vmmu_vm *vm, uint32_t address_space, struct vmmu_gpa gpa, void *to,
                                  size_t bytes)
{
	return device_access(vm, address_space, gpa, to, bytes, false, part_read);
}

enum vmmu_status vmmu_memory_write(struct vmmu_vm *vm, uint32_t address_space, struct vmmu_gpa gpa, const void *from,
                                   size_t bytes)
{
	return device_access(vm, address_space, gpa, (char *)from, bytes, true, part_write);
}

enum vmmu_status vmmu_memory_written(struct vmmu_vm *vm, uint32_t address_space, struct vmmu_gpa gpa, size_t bytes)
{
	return device_access(vm, address_space, gpa, NULL, bytes, false, part_written);
}

enum vmmu_status vmmu_memory_hva(struct vmmu_vm *vm, uint32_t address_space, struct vmmu_gpa gpa, struct vmmu_hva *out)
{
	return device_access(vm, address_space, gpa, (char *)out, 1, false, part_where);
}
