/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/pv.h"
#include "kvm/vcpu/async_pf.h"
#include "kvm/vcpu/kvmclock.h"
#include "kvm/vcpu/tsc.h"
#include "kvm/vm/vm.h"
#include <linux/kvm_para.h>
#include <string.h>

#define BIT(feature) (1u << (feature))

uint32_t pv_features(void)
{
	return BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
	       BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) | BIT(KVM_FEATURE_ASYNC_PF) |
	       BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) | BIT(KVM_FEATURE_ASYNC_PF_INT);
}

/* May the vCPU use the feature? A client may enforce what it wrote in CPUID; without that all may be used. */
static bool has(const struct kvm_vcpu *vcpu, unsigned feature)
{
	return !vcpu->pv_enforced || vcpu->pv_features & BIT(feature);
}

/* ---- MSRs ------------------------------------------------------------------------------------------------- */

static const struct {
	uint32_t index;
	unsigned feature; /* that it comes with */
} msrs[] = {
	{ MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_ASYNC_PF_EN, KVM_FEATURE_ASYNC_PF },
	{ MSR_KVM_ASYNC_PF_INT, KVM_FEATURE_ASYNC_PF_INT },
	{ MSR_KVM_ASYNC_PF_ACK, KVM_FEATURE_ASYNC_PF_INT },
};
_Static_assert(sizeof(msrs) / sizeof(*msrs) == PV_MSRS, "all of them");

/* Returns: a number below PV_MSRS, or PV_MSRS. */
static unsigned msr_find(uint32_t index)
{
	unsigned i = 0;

	while (i < PV_MSRS && msrs[i].index != index)
		i++;
	return i;
}

bool pv_msr_is(uint32_t index)
{
	return msr_find(index) < PV_MSRS;
}

void pv_msr_list(uint32_t list[PV_MSRS])
{
	for (unsigned i = 0; i < PV_MSRS; i++)
		list[i] = msrs[i].index;
}

bool pv_msr_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool host)
{
	(void)host; /* KVM asks the same of the client */
	if (!has(vcpu, msrs[msr_find(index)].feature))
		return false;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: *value = kvmclock_wall_clock_read(vcpu); break;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: *value = vcpu->pv.system_time; break;
	case MSR_KVM_ASYNC_PF_EN: *value = vcpu->pv.async_pf; break;
	case MSR_KVM_ASYNC_PF_INT: *value = vcpu->pv.async_pf_vector; break;
	case MSR_KVM_ASYNC_PF_ACK: *value = 0; break;
	default: return false;
	}
	return true;
}

/* Has the guest the features that the bits of MSR_KVM_ASYNC_PF_EN need? */
static bool async_pf_features(const struct kvm_vcpu *vcpu, uint64_t value)
{
	return (!(value & KVM_ASYNC_PF_DELIVERY_AS_INT) || has(vcpu, KVM_FEATURE_ASYNC_PF_INT)) &&
	       (!(value & KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT) || has(vcpu, KVM_FEATURE_ASYNC_PF_VMEXIT));
}

bool pv_msr_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host)
{
	if (!has(vcpu, msrs[msr_find(index)].feature))
		return false;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: kvmclock_wall_clock_write(vcpu, value); break;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		kvmclock_system_time_write(vcpu, value, index == MSR_KVM_SYSTEM_TIME, host);
		break;
	case MSR_KVM_ASYNC_PF_EN:
		if (!async_pf_features(vcpu, value) || !async_pf_enable_write(vcpu, value))
			return false;
		break;
	case MSR_KVM_ASYNC_PF_INT:
		if (!async_pf_vector_write(vcpu, value))
			return false;
		break;
	case MSR_KVM_ASYNC_PF_ACK: async_pf_ack_write(vcpu, value); break;
	default: return false;
	}
	/* The guest's next instruction may read what its write asked for. */
	if (!host)
		pv_requests_do(vcpu);
	return true;
}

/* ---- requests --------------------------------------------------------------------------------------------- */

void vcpu_pv_request(struct kvm_vcpu *vcpu, unsigned requests)
{
	atomic_fetch_or(&vcpu->pv_requests, requests);
	cpu_request_exit(vcpu->cpu);
}

void pv_requests_do(struct kvm_vcpu *vcpu)
{
	unsigned requests = atomic_exchange(&vcpu->pv_requests, 0), again = 0;

	if (requests & PV_CLOCK_MASTER) {
		tsc_master_update(vcpu);
		/* That may have asked this vCPU for more. */
		requests |= atomic_exchange(&vcpu->pv_requests, 0);
	}
	if (requests & PV_CLOCK_UPDATE && !kvmclock_page_update(vcpu))
		again |= PV_CLOCK_UPDATE;
	if (requests & PV_WALL_CLOCK && !kvmclock_wall_update(vcpu))
		again |= PV_WALL_CLOCK;
	if (requests & PV_ASYNC_PF)
		async_pf_check(vcpu);
	if (again)
		atomic_fetch_or(&vcpu->pv_requests, again);
}

void pv_reset(struct kvm_vcpu *vcpu)
{
	memset(&vcpu->pv, 0, sizeof(vcpu->pv));
	async_pf_clear(vcpu);
}
