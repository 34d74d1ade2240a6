/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/steal.h"
#include "kvm/process/config.h"
#include "kvm/process/delay.h"
#include "kvm/vm/vm.h"
#include <linux/kvm_para.h>
#include <stddef.h>
#include <x86intrin.h>

#define ALIGNMENT 64u /* of the page's address; KVM reserves the bits between that and the one that switches it on */

/* The guest's memory. `version` is odd while the rest changes. `preempted` has KVM_VCPU_* in its first byte. */
struct steal_page {
	uint64_t steal;
	uint32_t version, flags;
	uint32_t preempted;
	uint32_t padding[11];
};
_Static_assert(sizeof(struct steal_page) == ALIGNMENT, "as the guest sees it");

#define OFFSET(field) offsetof(struct steal_page, field)

bool steal_msr_write(struct kvm_vcpu *vcpu, uint64_t value)
{
	struct pv_guest *pv = &vcpu->pv;

	if (value & (ALIGNMENT - 1) & ~(uint64_t)KVM_MSR_ENABLED)
		return false;
	pv->steal_time = value;
	pv->away = false;
	if (!(value & KVM_MSR_ENABLED)) {
		pv_page_clear(&pv->steal_page);
		return true;
	}
	pv_page_set(&pv->steal_page, value & ~(uint64_t)KVM_MSR_ENABLED, sizeof(struct steal_page));
	/* What the thread waited for before is not counted. */
	pv->stolen = 0;
	pv->delay_seen_at = 0;
	pv->delay_known = false;
	vcpu_pv_request(vcpu, PV_STEAL_UPDATE);
	return true;
}

void steal_look(struct kvm_vcpu *vcpu)
{
	struct pv_guest *pv = &vcpu->pv;
	uint64_t now = __rdtsc(), delay;
	bool same = pv->delay_known && pthread_equal(pv->delay_thread, pthread_self());

	/* 5000 looks in a second cost some 2 % of it. Delays that matter to a guest are longer. */
	if (same && now - pv->delay_seen_at < config_tsc_khz() / 5)
		return;
	pv->delay_seen_at = now;
	pv->delay_known = delay_read(&delay);
	if (!pv->delay_known)
		return;
	if (same && delay > pv->delay_seen) {
		pv->stolen += delay - pv->delay_seen;
		atomic_fetch_or(&vcpu->pv_requests, PV_STEAL_UPDATE);
	}
	pv->delay_seen = delay;
	pv->delay_thread = pthread_self();
}

/* The vCPU runs, says its page. Returns: what the byte was: KVM_VCPU_*. */
static uint32_t preempted_clear(struct vmmu_pfn_cache *cache)
{
	uint32_t word;
	bool swapped = false;

	/* Other vCPUs leave their note by a compare-and-swap. Either we see it, or they see that the vCPU runs. */
	do {
		if (vmmu_pfn_cache_read(cache, OFFSET(preempted), &word, sizeof(word)) != VMMU_OK)
			return KVM_VCPU_FLUSH_TLB;
		if (!(word & 0xff))
			return 0;
		if (vmmu_pfn_cache_cas(cache, OFFSET(preempted), sizeof(word), word, word & ~0xffu, &swapped) !=
		    VMMU_OK)
			return KVM_VCPU_FLUSH_TLB;
	} while (!swapped);
	return word & 0xff;
}

/* Returns: false if the memory has gone. */
static bool time_write(struct vmmu_pfn_cache *cache, uint64_t stolen)
{
	struct steal_page now;

	if (vmmu_pfn_cache_read(cache, 0, &now, sizeof(now)) != VMMU_OK)
		return false;
	now.version = (now.version + 1) | 1;
	now.steal += stolen;
	if (vmmu_pfn_cache_write(cache, OFFSET(version), &now.version, sizeof(now.version)) != VMMU_OK ||
	    vmmu_pfn_cache_write(cache, OFFSET(steal), &now.steal, sizeof(now.steal)) != VMMU_OK)
		return false;
	now.version++;
	return vmmu_pfn_cache_write(cache, OFFSET(version), &now.version, sizeof(now.version)) == VMMU_OK;
}

struct update {
	uint64_t stolen;
	bool written, flush;
};

static void page_update(struct vmmu_pfn_cache *cache, void *argument)
{
	struct update *u = argument;

	u->flush = preempted_clear(cache) & KVM_VCPU_FLUSH_TLB;
	u->written = time_write(cache, u->stolen);
}

bool steal_update(struct kvm_vcpu *vcpu)
{
	struct pv_guest *pv = &vcpu->pv;
	struct update u = { .stolen = pv->stolen };

	switch (pv_page_use(&pv->steal_page, vcpu, page_update, &u)) {
	case PV_PAGE_FULL:
		return false;
	case PV_PAGE_NONE:
		u.flush = pv->away; /* the page took its notes with it */
		break;
	case PV_PAGE_DONE:
		break;
	}
	if (u.written)
		pv->stolen = 0;
	pv->away = false;
	if (u.flush)
		cpu_guest_tlb_flush(vcpu->cpu);
	return true;
}

static void preempted_set(struct vmmu_pfn_cache *cache, void *away)
{
	uint32_t word;
	bool swapped = false;

	if (vmmu_pfn_cache_read(cache, OFFSET(preempted), &word, sizeof(word)) == VMMU_OK &&
	    vmmu_pfn_cache_cas(cache, OFFSET(preempted), sizeof(word), word, (word & ~0xffu) | KVM_VCPU_PREEMPTED,
	                       &swapped) == VMMU_OK)
		*(bool *)away = swapped;
}

void steal_away(struct kvm_vcpu *vcpu)
{
	struct pv_guest *pv = &vcpu->pv;

	if (pv->away)
		return;
	pv_page_use(&pv->steal_page, vcpu, preempted_set, &pv->away);
	if (pv->away)
		atomic_fetch_or(&vcpu->pv_requests, PV_STEAL_UPDATE);
}
