/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/kvmclock.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <linux/kvm_para.h>
#include <stddef.h>
#include <x86intrin.h>

#define TSC_STABLE    (1u << 0) /* the pages of all vCPUs give the same time, whichever TSC is read */
#define GUEST_STOPPED (1u << 1) /* the guest did not run for a while, and did not hang. It clears this itself */

/* The guest's memory. `version` is odd while the rest changes. */
struct time_page {
	uint32_t version;
	uint32_t padding0;
	uint64_t tsc, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags;
	uint8_t padding[2];
};
_Static_assert(sizeof(struct time_page) == 32, "as the guest sees it");

struct wall_page {
	uint32_t version, seconds, nanoseconds;
};

void kvmclock_system_time_write(struct kvm_vcpu *vcpu, uint64_t value, bool old, bool host)
{
	struct vm_clock *clock = &vcpu->kvm->clock;

	/* Guests that know only the old MSR do not know the flag TSC_STABLE, so they are never shown it. */
	if (vcpu->id == 0 && !host) {
		pthread_mutex_lock(&clock->lock);
		clock->old_msr = old;
		pthread_mutex_unlock(&clock->lock);
		vcpu_pv_request(vcpu, PV_CLOCK_MASTER);
	}
	vcpu->pv.system_time = value;
	if (value & KVM_MSR_ENABLED)
		pv_page_set(&vcpu->pv.time_page, value & ~(uint64_t)KVM_MSR_ENABLED, sizeof(struct time_page));
	else
		pv_page_clear(&vcpu->pv.time_page);
	vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
}

/* Fill in all but version and flags. Returns: TSC_STABLE or 0. */
static uint8_t time_fill(struct kvm_vcpu *vcpu, struct time_page *page)
{
	const struct cpu_state *state = cpu_state(vcpu->cpu);
	struct clock_scale scale = clock_scale_for(vcpu->tsc_khz);
	struct vm_clock *clock = &vcpu->kvm->clock;
	bool master;

	pthread_mutex_lock(&clock->lock);
	page->tsc = cpu_tsc_scale(clock->base_tsc, state->tsc_ratio) + state->tsc_offset;
	page->system_time = clock->base_ns;
	master = clock->master;
	pthread_mutex_unlock(&clock->lock);
	page->mul = scale.mul;
	page->shift = scale.shift;
	return master ? TSC_STABLE : 0;
}

struct update {
	struct time_page page; /* but version, and the flag GUEST_STOPPED */
	bool stopped, written;
};

static void time_write(struct vmmu_pfn_cache *cache, void *argument)
{
	struct update *u = argument;
	struct time_page old;

	if (vmmu_pfn_cache_read(cache, 0, &old, sizeof(old)) != VMMU_OK)
		return;
	u->page.version = (old.version + 1) | 1;
	u->page.flags |= (old.flags & GUEST_STOPPED) | (u->stopped ? GUEST_STOPPED : 0);
	if (vmmu_pfn_cache_write(cache, 0, &u->page.version, sizeof(u->page.version)) != VMMU_OK ||
	    vmmu_pfn_cache_write(cache, 0, &u->page, sizeof(u->page)) != VMMU_OK)
		return;
	u->page.version++;
	u->written = vmmu_pfn_cache_write(cache, 0, &u->page.version, sizeof(u->page.version)) == VMMU_OK;
}

bool kvmclock_page_update(struct kvm_vcpu *vcpu)
{
	struct update u = { .stopped = vcpu->pv.clock_stopped };

	if (!vcpu->pv.time_page.on)
		return true;
	u.page.flags = time_fill(vcpu, &u.page);
	if (pv_page_use(&vcpu->pv.time_page, vcpu, time_write, &u) == PV_PAGE_FULL)
		return false;
	if (u.written)
		vcpu->pv.clock_stopped = false;
	return true;
}

void kvmclock_wall_clock_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	struct vm_clock *clock = &vcpu->kvm->clock;

	pthread_mutex_lock(&clock->lock);
	clock->wall_msr = value;
	pthread_mutex_unlock(&clock->lock);
	if (!kvmclock_wall_update(vcpu))
		vcpu_pv_request(vcpu, PV_WALL_CLOCK);
}

uint64_t kvmclock_wall_clock_read(struct kvm_vcpu *vcpu)
{
	struct vm_clock *clock = &vcpu->kvm->clock;
	uint64_t value;

	pthread_mutex_lock(&clock->lock);
	value = clock->wall_msr;
	pthread_mutex_unlock(&clock->lock);
	return value;
}

bool kvmclock_wall_update(struct kvm_vcpu *vcpu)
{
	struct vm_clock *clock = &vcpu->kvm->clock;
	uint64_t gpa = kvmclock_wall_clock_read(vcpu), tsc, boot = clock_realtime(&tsc);
	enum vmmu_status status;
	struct vmmu_gpa at = { gpa };
	struct wall_page page;

	if (gpa == 0 || vmmu_guest_read(vcpu->mmu, at, &page.version, sizeof(page.version)) != VMMU_OK)
		return true;
	pthread_mutex_lock(&clock->lock);
	boot -= clock_at(clock, tsc);
	pthread_mutex_unlock(&clock->lock);
	page.version = (page.version + 1) | 1;
	page.seconds = (uint32_t)(boot / 1000000000);
	page.nanoseconds = (uint32_t)(boot % 1000000000);
	status = vmmu_guest_write(vcpu->mmu, at, &page, sizeof(page));
	page.version++;
	if (status == VMMU_OK)
		status = vmmu_guest_write(vcpu->mmu, at, &page.version, sizeof(page.version));
	return status != VMMU_EBUSY;
}

long vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	if (!vcpu->pv.time_page.on)
		return -EINVAL;
	vcpu->pv.clock_stopped = true;
	vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
	return 0;
}
