/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/pv.h"
#include "kvm/irq/pv_eoi.h"
#include "kvm/vcpu/async_pf.h"
#include "kvm/vcpu/kvmclock.h"
#include "kvm/vcpu/tsc.h"
#include "kvm/vm/vm.h"
#include <linux/kvm_para.h>

#define BIT(feature) (1u << (feature))

uint32_t pv_features(void)
{
	return BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
	       BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_EOI) |
	       BIT(KVM_FEATURE_PV_UNHALT) | BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) |
	       BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD) |
	       BIT(KVM_FEATURE_ASYNC_PF_INT) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
}

bool pv_has(const struct kvm_vcpu *vcpu, unsigned feature)
{
	return !vcpu->pv_enforced || vcpu->pv_features & BIT(feature);
}

/* ---- MSRs ------------------------------------------------------------------------------------------------- */

static const struct {
	uint32_t index;
	unsigned feature; /* that it comes with */
} msrs[PV_MSRS] = {
	{ MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE },
	{ MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2 },
	{ MSR_KVM_ASYNC_PF_EN, KVM_FEATURE_ASYNC_PF },
	{ MSR_KVM_ASYNC_PF_INT, KVM_FEATURE_ASYNC_PF_INT },
	{ MSR_KVM_ASYNC_PF_ACK, KVM_FEATURE_ASYNC_PF_INT },
	{ MSR_KVM_STEAL_TIME, KVM_FEATURE_STEAL_TIME },
	{ MSR_KVM_PV_EOI_EN, KVM_FEATURE_PV_EOI },
	{ MSR_KVM_POLL_CONTROL, KVM_FEATURE_POLL_CONTROL },
};

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

bool pv_msr_read(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value)
{
	if (!pv_has(vcpu, msrs[msr_find(index)].feature))
		return false;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: *value = kvmclock_wall_clock_read(vcpu); return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: *value = vcpu->pv.system_time; return true;
	case MSR_KVM_ASYNC_PF_EN: *value = vcpu->pv.async_pf; return true;
	case MSR_KVM_ASYNC_PF_INT: *value = vcpu->pv.async_pf_vector; return true;
	case MSR_KVM_ASYNC_PF_ACK: *value = 0; return true;
	case MSR_KVM_STEAL_TIME: *value = vcpu->pv.steal_time; return true;
	case MSR_KVM_PV_EOI_EN: *value = vcpu->pv.eoi; return true;
	case MSR_KVM_POLL_CONTROL: *value = vcpu->pv.poll_control; return true;
	default: return false;
	}
}

/* Has the guest the features that the bits of MSR_KVM_ASYNC_PF_EN need? */
static bool async_pf_features(const struct kvm_vcpu *vcpu, uint64_t value)
{
	return (!(value & KVM_ASYNC_PF_DELIVERY_AS_INT) || pv_has(vcpu, KVM_FEATURE_ASYNC_PF_INT)) &&
	       (!(value & KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT) || pv_has(vcpu, KVM_FEATURE_ASYNC_PF_VMEXIT));
}

static bool msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		kvmclock_wall_clock_write(vcpu, value);
		return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		kvmclock_system_time_write(vcpu, value, index == MSR_KVM_SYSTEM_TIME, host);
		return true;
	case MSR_KVM_ASYNC_PF_EN: return async_pf_features(vcpu, value) && async_pf_enable_write(vcpu, value);
	case MSR_KVM_ASYNC_PF_INT: return async_pf_vector_write(vcpu, value);
	case MSR_KVM_ASYNC_PF_ACK:
		async_pf_ack_write(vcpu, value);
		return true;
	case MSR_KVM_STEAL_TIME: return steal_msr_write(vcpu, value);
	case MSR_KVM_PV_EOI_EN: return pv_eoi_msr_write(vcpu, value);
	case MSR_KVM_POLL_CONTROL:
		if (value & ~UINT64_C(1))
			return false;
		vcpu->pv.poll_control = value; /* a halted vCPU never polls here: nothing to switch off */
		return true;
	default: return false;
	}
}

bool pv_msr_write(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool host)
{
	if (!pv_has(vcpu, msrs[msr_find(index)].feature) || !msr_set(vcpu, index, value, host))
		return false;
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
	if (requests & PV_STEAL_UPDATE && !steal_update(vcpu))
		again |= PV_STEAL_UPDATE;
	/* Those for which the dirty ring had no room. The next entry into the guest ends for that. */
	if (again)
		atomic_fetch_or(&vcpu->pv_requests, again);
}

void vcpu_clock_update(struct kvm_vcpu *vcpu)
{
	if (pthread_mutex_trylock(&vcpu->lock) != 0)
		return; /* in KVM_RUN it answers the request by itself */
	if (atomic_fetch_and(&vcpu->pv_requests, ~PV_CLOCK_UPDATE) & PV_CLOCK_UPDATE && !kvmclock_page_update(vcpu))
		atomic_fetch_or(&vcpu->pv_requests, PV_CLOCK_UPDATE);
	pthread_mutex_unlock(&vcpu->lock);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

bool pv_create(struct kvm_vcpu *vcpu)
{
	vcpu->pv.poll_control = 1;
	return pv_page_create(&vcpu->pv.time_page, vcpu) && pv_page_create(&vcpu->pv.steal_page, vcpu) &&
	       pv_page_create(&vcpu->pv.eoi_page, vcpu);
}

void pv_destroy(struct kvm_vcpu *vcpu)
{
	pv_page_destroy(&vcpu->pv.time_page);
	pv_page_destroy(&vcpu->pv.steal_page);
	pv_page_destroy(&vcpu->pv.eoi_page);
}

void pv_reset(struct kvm_vcpu *vcpu)
{
	struct pv_guest *pv = &vcpu->pv;

	pv_page_clear(&pv->time_page);
	pv_page_clear(&pv->steal_page);
	pv_page_clear(&pv->eoi_page);
	pv->system_time = pv->steal_time = pv->eoi = pv->async_pf = pv->async_pf_vector = 0;
	pv->clock_stopped = pv->away = pv->eoi_offered = false;
	async_pf_clear(vcpu);
}
