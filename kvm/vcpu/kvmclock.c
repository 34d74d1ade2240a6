/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/kvmclock.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vcpu/pv_page.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <x86intrin.h>

#define ENABLED 1u /* in the MSR */

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

static uint64_t page_gpa(const struct kvm_vcpu *vcpu)
{
	return vcpu->pv.system_time & ~(uint64_t)ENABLED;
}

static bool is_on(const struct kvm_vcpu *vcpu)
{
	return vcpu->pv.system_time & ENABLED && pv_page_fits(page_gpa(vcpu), sizeof(struct time_page));
}

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

bool kvmclock_page_update(struct kvm_vcpu *vcpu)
{
	uint64_t gpa = page_gpa(vcpu);
	struct time_page page, old;
	enum pv_page_result result;

	if (!is_on(vcpu) || !pv_page_read(vcpu, gpa, &old, sizeof(old)))
		return true;
	page = (struct time_page){ .version = (old.version + 1) | 1 };
	page.flags = (uint8_t)(time_fill(vcpu, &page) | (old.flags & GUEST_STOPPED));
	if (vcpu->pv.clock_stopped)
		page.flags |= GUEST_STOPPED;
	/* On x86 other processors see these three stores in their order. */
	result = pv_page_write(vcpu, gpa, &page.version, sizeof(page.version));
	if (result == PV_PAGE_DONE)
		result = pv_page_write(vcpu, gpa, &page, sizeof(page));
	page.version++;
	if (result == PV_PAGE_DONE)
		result = pv_page_write(vcpu, gpa, &page.version, sizeof(page.version));
	if (result == PV_PAGE_DONE)
		vcpu->pv.clock_stopped = false;
	return result != PV_PAGE_LATER;
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
	enum pv_page_result result;
	struct wall_page page;

	if (gpa == 0 || !pv_page_read(vcpu, gpa, &page.version, sizeof(page.version)))
		return true;
	pthread_mutex_lock(&clock->lock);
	boot -= clock_at(clock, tsc);
	pthread_mutex_unlock(&clock->lock);
	page.version = (page.version + 1) | 1;
	page.seconds = (uint32_t)(boot / 1000000000);
	page.nanoseconds = (uint32_t)(boot % 1000000000);
	result = pv_page_write(vcpu, gpa, &page, sizeof(page));
	page.version++;
	if (result == PV_PAGE_DONE)
		result = pv_page_write(vcpu, gpa, &page.version, sizeof(page.version));
	return result != PV_PAGE_LATER;
}

long vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	if (!is_on(vcpu))
		return -EINVAL;
	vcpu->pv.clock_stopped = true;
	vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
	return 0;
}
