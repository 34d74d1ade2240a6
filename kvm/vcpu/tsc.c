/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/tsc.h"
#include "kvm/process/config.h"
#include "kvm/process/user.h"
#include "kvm/vcpu/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <x86intrin.h>

/* Returns: false if the CPU cannot have that rate; nothing changed then. */
static bool rate_set(struct kvm_vcpu *vcpu, uint32_t khz)
{
	uint64_t ratio;

	if (!clock_tsc_ratio(khz, &ratio))
		return false;
	cpu_state(vcpu->cpu)->tsc_ratio = ratio;
	vcpu->tsc_khz = ratio == CPU_TSC_RATIO_ONE ? config_tsc_khz() : khz;
	vcpu->tsc_khz_wanted = khz;
	vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
	return true;
}

/*
 * The TSC of this vCPU is set: to `value` at `now`, by `offset`. Like KVM's __kvm_synchronize_tsc.
 * Holds: clock.lock.
 */
static void offset_set(struct kvm_vcpu *vcpu, uint64_t now, uint64_t value, uint64_t offset, bool matches)
{
	struct tsc_sync *sync = &vcpu->kvm->clock.sync;

	sync->written_at = now;
	sync->written = value;
	sync->written_offset = offset;
	sync->written_khz = vcpu->tsc_khz_wanted;
	cpu_state(vcpu->cpu)->tsc_offset = offset;
	if (!matches) {
		sync->generation++;
		sync->offset = offset;
		sync->matched = 0;
	} else if (vcpu->tsc_generation != sync->generation) {
		sync->matched++;
	}
	vcpu->tsc_generation = sync->generation;
}

/* Is `value`, written `now`, within a second of what the TSC that was written last is now? Holds: clock.lock. */
static bool is_close(struct kvm_vcpu *vcpu, uint64_t now, uint64_t value)
{
	const struct tsc_sync *sync = &vcpu->kvm->clock.sync;
	uint64_t second = (uint64_t)vcpu->tsc_khz * 1000;
	uint64_t expected = sync->written +
		cpu_tsc_scale(now - sync->written_at, cpu_state(vcpu->cpu)->tsc_ratio);

	return value < expected + second && value + second > expected;
}

/* Like KVM's kvm_synchronize_tsc. 0, which every new vCPU gets, always means the TSC of the others. */
static void synchronize(struct kvm_vcpu *vcpu, uint64_t value, bool by_client)
{
	struct vm_clock *clock = &vcpu->kvm->clock;
	struct tsc_sync *sync = &clock->sync;
	uint64_t now, offset;
	bool matches;

	pthread_mutex_lock(&clock->lock);
	now = __rdtsc();
	offset = value - cpu_tsc_scale(now, cpu_state(vcpu->cpu)->tsc_ratio);
	matches = value == 0 || (sync->by_client && is_close(vcpu, now, value));
	if (by_client)
		sync->by_client = true;
	if (vcpu->tsc_khz_wanted != sync->written_khz)
		matches = false;
	offset_set(vcpu, now, value, matches ? sync->offset : offset, matches);
	pthread_mutex_unlock(&clock->lock);
	vcpu_pv_request(vcpu, PV_CLOCK_MASTER | PV_CLOCK_UPDATE);
}

void tsc_vcpu_created(struct kvm_vcpu *vcpu)
{
	struct vm_clock *clock = &vcpu->kvm->clock;

	rate_set(vcpu, vcpu->kvm->default_tsc_khz);
	pthread_mutex_lock(&clock->lock);
	clock->sync.vcpus++;
	pthread_mutex_unlock(&clock->lock);
	synchronize(vcpu, 0, false);
}

void tsc_client_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	synchronize(vcpu, value, true);
}

void tsc_guest_adjust(struct kvm_vcpu *vcpu, uint64_t delta)
{
	cpu_state(vcpu->cpu)->tsc_offset += delta;
	vcpu->tsc_adjust += delta;
	vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
}

void tsc_master_update(struct kvm_vcpu *vcpu)
{
	struct vm_clock *clock = &vcpu->kvm->clock;
	bool changed;

	pthread_mutex_lock(&clock->lock);
	changed = clock_master_update(clock);
	pthread_mutex_unlock(&clock->lock);
	if (changed)
		clock_update_all(vcpu->kvm);
}

/* ---- ioctls ----------------------------------------------------------------------------------------------- */

long vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, unsigned long argument)
{
	uint32_t khz = (uint32_t)argument ? (uint32_t)argument : config_tsc_khz();

	return rate_set(vcpu, khz) ? 0 : -EINVAL;
}

long vcpu_get_tsc_khz(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	return (long)vcpu->tsc_khz_wanted;
}

static void client_offset(struct kvm_vcpu *vcpu, uint64_t offset)
{
	struct vm_clock *clock = &vcpu->kvm->clock;
	struct tsc_sync *sync = &clock->sync;
	uint64_t now;
	bool matches;

	pthread_mutex_lock(&clock->lock);
	now = __rdtsc();
	matches = vcpu->tsc_khz_wanted == sync->written_khz && offset == sync->written_offset;
	sync->by_client = true;
	offset_set(vcpu, now, cpu_tsc_scale(now, cpu_state(vcpu->cpu)->tsc_ratio) + offset, offset, matches);
	pthread_mutex_unlock(&clock->lock);
	vcpu_pv_request(vcpu, PV_CLOCK_MASTER | PV_CLOCK_UPDATE);
}

/* Read the attribute's name. Returns: 0, -EFAULT, or -ENXIO if there is no such attribute. */
static long attr_read(struct kvm_device_attr *attr, unsigned long argument)
{
	if (user_read(attr, argument, sizeof(*attr)) != 0)
		return -EFAULT;
	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

long vcpu_has_attr(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_device_attr attr;

	(void)vcpu;
	return attr_read(&attr, argument);
}

long vcpu_get_attr(struct kvm_vcpu *vcpu, unsigned long argument)
{
	uint64_t offset = cpu_state(vcpu->cpu)->tsc_offset;
	struct kvm_device_attr attr;
	long result = attr_read(&attr, argument);

	return result ? result : user_write(attr.addr, &offset, sizeof(offset));
}

long vcpu_set_attr(struct kvm_vcpu *vcpu, unsigned long argument)
{
	struct kvm_device_attr attr;
	uint64_t offset;
	long result = attr_read(&attr, argument);

	if (result)
		return result;
	if (user_read(&offset, attr.addr, sizeof(offset)) != 0)
		return -EFAULT;
	client_offset(vcpu, offset);
	return 0;
}
