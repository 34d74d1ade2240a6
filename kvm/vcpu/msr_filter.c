/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/msr_filter.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/msr.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stdlib.h>

#define BITMAP_MAX 0x600u /* bytes of a range, as in KVM */

struct msr_range {
	uint32_t flags, base, count;
	uint8_t *bitmap;
};

struct msr_filter {
	struct msr_filter *older;
	bool default_allow;
	unsigned ranges;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
};

bool msr_filter_allows(struct kvm *kvm, uint32_t index, uint32_t what)
{
	const struct msr_filter *filter = atomic_load_explicit(&kvm->msr_filter, memory_order_acquire);

	/* Registers of the x2APIC are never filtered. */
	if (!filter || (index >= 0x800 && index <= 0x8ff))
		return true;
	for (unsigned i = 0; i < filter->ranges; i++) {
		const struct msr_range *r = &filter->range[i];

		if (index - r->base < r->count && r->flags & what)
			return r->bitmap[(index - r->base) / 8] >> ((index - r->base) % 8) & 1;
	}
	return filter->default_allow;
}

static void filter_free(struct msr_filter *filter)
{
	for (unsigned i = 0; i < filter->ranges; i++)
		free(filter->range[i].bitmap);
	free(filter);
}

static long range_read(struct msr_range *to, const struct kvm_msr_filter_range *from)
{
	size_t bytes = ((size_t)from->nmsrs + 63) / 64 * 8;

	if (from->flags & ~(uint32_t)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) || !from->flags)
		return -EINVAL;
	if (bytes > BITMAP_MAX)
		return -EINVAL;
	to->bitmap = malloc(bytes);
	if (!to->bitmap)
		return -ENOMEM;
	if (user_read(to->bitmap, (unsigned long)from->bitmap, bytes) != 0) {
		free(to->bitmap);
		return -EFAULT;
	}
	to->flags = from->flags;
	to->base = from->base;
	to->count = from->nmsrs;
	return 0;
}

long vm_set_msr_filter(struct kvm *kvm, unsigned long argument)
{
	struct kvm_msr_filter in;
	struct msr_filter *filter, *old;
	bool empty = true;
	long result = 0;

	if (user_read(&in, argument, sizeof(in)) != 0)
		return -EFAULT;
	if (in.flags & ~(uint32_t)KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		empty &= !in.ranges[i].nmsrs;
	if (empty && in.flags & KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	filter = calloc(1, sizeof(*filter));
	if (!filter)
		return -ENOMEM;
	filter->default_allow = !(in.flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES && !result; i++) {
		if (!in.ranges[i].nmsrs)
			continue;
		result = range_read(&filter->range[filter->ranges], &in.ranges[i]);
		if (!result)
			filter->ranges++;
	}
	if (result) {
		filter_free(filter);
		return result;
	}
	pthread_mutex_lock(&kvm->lock);
	old = atomic_load(&kvm->msr_filter);
	/* Keep the old filter until the VM is destroyed, since running vCPUs may be reading it. */
	filter->older = old;
	atomic_store_explicit(&kvm->msr_filter, filter, memory_order_release);
	pthread_mutex_unlock(&kvm->lock);
	return 0;
}

void msr_filter_free(struct kvm *kvm)
{
	struct msr_filter *filter = atomic_load(&kvm->msr_filter);

	while (filter) {
		struct msr_filter *older = filter->older;

		filter_free(filter);
		filter = older;
	}
}
