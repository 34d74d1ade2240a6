/* SPDX-License-Identifier: MIT */
/* The VM's clock, and the VM's ioctls about time: KVM_GET_CLOCK, KVM_SET_CLOCK, and the TSC rate of new vCPUs. */
#include "kvm/vm/clock.h"
#include "kvm/process/config.h"
#include "kvm/process/user.h"
#include "kvm/vm/ioctls.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define TSC_KHZ_MAX   0x7fffffffu /* as in KVM */

void clock_init(struct vm_clock *clock)
{
	pthread_mutex_init(&clock->lock, NULL);
	clock->base_tsc = __rdtsc();
}

void clock_fini(struct vm_clock *clock)
{
	pthread_mutex_destroy(&clock->lock);
}

struct clock_scale clock_scale_for(uint32_t khz)
{
	struct clock_scale scale = { 0, 0 };
	uint64_t hz = (uint64_t)khz * 1000;

	/* A rate of 1 to 2 GHz leaves the most significant bit of the multiplier set: the best precision. */
	while (hz > NS_PER_SECOND << (1 - scale.shift))
		scale.shift--;
	while (scale.shift >= 0 && hz << scale.shift <= NS_PER_SECOND)
		scale.shift++;
	scale.mul = (uint32_t)(((unsigned __int128)NS_PER_SECOND << (32 - scale.shift)) / hz);
	return scale;
}

uint64_t clock_scale_apply(struct clock_scale scale, uint64_t cycles)
{
	cycles = scale.shift < 0 ? cycles >> -scale.shift : cycles << scale.shift;
	return (uint64_t)((unsigned __int128)cycles * scale.mul >> 32);
}

uint64_t clock_at(const struct vm_clock *clock, uint64_t tsc)
{
	/* The TSC of another processor may be a few cycles behind. */
	if ((int64_t)(tsc - clock->base_tsc) < 0)
		return clock->base_ns;
	return clock->base_ns + clock_scale_apply(clock_scale_for(config_tsc_khz()), tsc - clock->base_tsc);
}

uint64_t clock_realtime(uint64_t *tsc)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*tsc = __rdtsc();
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

bool clock_master_update(struct vm_clock *clock)
{
	bool master = clock->sync.matched + 1 == clock->sync.vcpus && !clock->old_msr;
	bool changed = master != clock->master;

	clock->master = master;
	return changed;
}

void clock_update_all(struct kvm *kvm)
{
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(kvm, id);

		if (vcpu)
			vcpu_pv_request(vcpu, PV_CLOCK_UPDATE);
	}
}

/*
 * A guest may read the page of one vCPU on another: Linux' vDSO does. So no vCPU may run before that page is new, and
 * the vCPU whose page it is may come last.
 */
static void update_now(struct kvm *kvm)
{
	for (unsigned id = 0; id < MAX_VCPU_ID; id++) {
		struct kvm_vcpu *vcpu = vm_vcpu(kvm, id);

		if (vcpu)
			vcpu_clock_update(vcpu);
	}
}

/* ---- ioctls ----------------------------------------------------------------------------------------------- */

long vm_get_clock(struct kvm *kvm, unsigned long argument)
{
	struct kvm_clock_data data = { 0 };
	uint64_t tsc, realtime = clock_realtime(&tsc);

	pthread_mutex_lock(&kvm->clock.lock);
	data.clock = clock_at(&kvm->clock, tsc);
	if (kvm->clock.master) {
		data.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
		data.realtime = realtime;
		data.host_tsc = tsc;
	}
	pthread_mutex_unlock(&kvm->clock.lock);
	return user_write(argument, &data, sizeof(data));
}

long vm_set_clock(struct kvm *kvm, unsigned long argument)
{
	struct kvm_clock_data data;
	uint64_t tsc, realtime;

	if (user_read(&data, argument, sizeof(data)) != 0)
		return -EFAULT;
	if (data.flags & ~(uint32_t)(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	pthread_mutex_lock(&kvm->clock.lock);
	realtime = clock_realtime(&tsc);
	/* Add the time that passed since the client read `realtime`, but never turn the clock back. */
	if (data.flags & KVM_CLOCK_REALTIME && realtime > data.realtime)
		data.clock += realtime - data.realtime;
	kvm->clock.base_tsc = tsc;
	kvm->clock.base_ns = data.clock;
	clock_master_update(&kvm->clock);
	pthread_mutex_unlock(&kvm->clock.lock);
	clock_update_all(kvm);
	update_now(kvm);
	return 0;
}

bool clock_tsc_ratio(uint32_t khz, uint64_t *ratio)
{
	unsigned __int128 wide = ((unsigned __int128)khz << CPU_TSC_RATIO_BITS) / config_tsc_khz();

	if (khz == 0 || khz >= TSC_KHZ_MAX || wide == 0 || wide > UINT64_MAX)
		return false;
	*ratio = config_tsc_khz_close(khz) ? CPU_TSC_RATIO_ONE : (uint64_t)wide;
	return true;
}

long vm_set_tsc_khz(struct kvm *kvm, unsigned long argument)
{
	uint32_t khz = (uint32_t)argument ? (uint32_t)argument : config_tsc_khz();
	uint64_t ratio;
	long result = 0;

	pthread_mutex_lock(&kvm->lock);
	if (!clock_tsc_ratio(khz, &ratio))
		result = -EINVAL;
	else
		kvm->default_tsc_khz = khz;
	pthread_mutex_unlock(&kvm->lock);
	return result;
}

long vm_get_tsc_khz(struct kvm *kvm, unsigned long argument)
{
	uint32_t khz;

	(void)argument;
	pthread_mutex_lock(&kvm->lock);
	khz = kvm->default_tsc_khz;
	pthread_mutex_unlock(&kvm->lock);
	return (long)khz;
}
