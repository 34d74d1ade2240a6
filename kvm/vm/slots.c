/* SPDX-License-Identifier: MIT */
/* Memory slots and dirty logs: the ioctls over vmmu/memslot.h and vmmu/dirty.h. */
#include "kvm/vm/ioctls.h"
#include "kvm/vm/host_memory.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>

_Static_assert(sizeof(struct vmmu_dirty_gfn) == sizeof(struct kvm_dirty_gfn), "the ring is shared as it is");

/*
 * Reserve room in the arena for the tables of the slots. Tables are made while vCPUs run, when we ask the kernel
 * for no memory.
 */
static void tables_expect(struct kvm *kvm, const struct vmmu_region *region)
{
	uint64_t units = region->bytes / SLOT_SIZE_UNIT;
	unsigned now = units < UINT32_MAX ? (unsigned)units : UINT32_MAX, before;
	atomic_uint *size = &kvm->slot_size[region->address_space][region->slot];
	unsigned long long sum;

	if (atomic_load_explicit(size, memory_order_relaxed) == now)
		return;
	before = atomic_exchange(size, now);
	sum = atomic_fetch_add(&kvm->slots_size, (unsigned long long)now - before) + now - before;
	if (now > before)
		arena_expect(&kvm->arena, sum * SLOT_SIZE_UNIT);
}

static long region_set(struct kvm *kvm, const struct kvm_userspace_memory_region *in)
{
	struct vmmu_region region;
	enum vmmu_status status;

	if (in->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	region = (struct vmmu_region){
		.slot = in->slot & 0xffff,
		.address_space = in->slot >> 16,
		.flags = (in->flags & KVM_MEM_LOG_DIRTY_PAGES ? VMMU_SLOT_LOG_DIRTY : 0) |
		         (in->flags & KVM_MEM_READONLY ? VMMU_SLOT_READONLY : 0),
		.gpa = { in->guest_phys_addr },
		.bytes = in->memory_size,
		.hva = { in->userspace_addr },
	};
	status = vmmu_region_set(kvm->mmu, &region);
	if (status == VMMU_OK)
		tables_expect(kvm, &region);
	if (status == VMMU_OK && region.bytes)
		host_memory_slot(region.hva.v, region.hva.v + region.bytes);
	return status_errno(status);
}

long vm_set_region(struct kvm *kvm, unsigned long argument)
{
	struct kvm_userspace_memory_region in;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	return region_set(kvm, &in);
}

/* The argument of KVM_SET_USER_MEMORY_REGION2: that of KVM_SET_USER_MEMORY_REGION, and what guest_memfd needs. */
struct region2 {
	struct kvm_userspace_memory_region region;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd, pad1;
	uint64_t pad2[14];
};
_Static_assert(sizeof(struct region2) == 160, "the size in the number of the request");

long vm_set_region2(struct kvm *kvm, unsigned long argument)
{
	struct region2 in;

	/* The whole structure must be there. KVM reads the fields after the region for KVM_MEM_GUEST_MEMFD alone. */
	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	return region_set(kvm, &in.region);
}

/* The number of pages in a slot that has a log. Returns: 0 or KVM's -errno. */
static long logged_slot(struct kvm *kvm, uint32_t number, uint64_t *pages)
{
	struct vmmu_region region;

	/* With dirty rings there is no bitmap. */
	if (kvm->ring_bytes)
		return -ENXIO;
	if (number >> 16 >= ADDRESS_SPACES || (number & 0xffff) >= VMMU_MAX_SLOTS)
		return -EINVAL;
	if (vmmu_region_get(kvm->mmu, number >> 16, number & 0xffff, &region) != VMMU_OK ||
	    !(region.flags & VMMU_SLOT_LOG_DIRTY))
		return -ENOENT;
	*pages = region.bytes / VMMU_PAGE_SIZE;
	return 0;
}

long vm_get_dirty_log(struct kvm *kvm, unsigned long argument)
{
	struct kvm_dirty_log log;
	uint64_t pages;
	long result;

	if (user_read(&log, argument, sizeof(log)) != 0)
		return -EFAULT;
	result = logged_slot(kvm, log.slot, &pages);
	if (result)
		return result;
	return status_errno(vmmu_dirty_get(kvm->mmu, log.slot >> 16, log.slot & 0xffff, log.dirty_bitmap,
	                                   (pages + 63) / 64));
}

long vm_clear_dirty_log(struct kvm *kvm, unsigned long argument)
{
	struct kvm_clear_dirty_log log;
	uint64_t pages;
	long result;

	if (user_read(&log, argument, sizeof(log)) != 0)
		return -EFAULT;
	if (kvm->ring_bytes)
		return -ENXIO;
	if (log.first_page & 63)
		return -EINVAL;
	result = logged_slot(kvm, log.slot, &pages);
	if (result)
		return result;
	if (log.first_page > pages || log.num_pages > pages - log.first_page ||
	    (log.num_pages < pages - log.first_page && (log.num_pages & 63)))
		return -EINVAL;
	return status_errno(vmmu_dirty_clear(kvm->mmu, log.slot >> 16, log.slot & 0xffff, log.first_page, log.num_pages,
	                                     log.dirty_bitmap));
}

long vm_reset_rings(struct kvm *kvm, unsigned long argument)
{
	uint64_t count = 0;
	long result;

	(void)argument;
	if (!kvm->ring_bytes)
		return -EINVAL;
	result = status_errno(vmmu_dirty_ring_reset(kvm->mmu, &count));
	return result ? result : (long)(count > INT32_MAX ? INT32_MAX : count);
}
