/* SPDX-License-Identifier: MIT */
#include "kvm/vm/pv_page.h"
#include "kvm/process/sys.h"
#include "kvm/vm/vm.h"
#include <linux/futex.h>
#include <time.h>

#define SPINS 100u

bool pv_page_create(struct pv_page *page, struct kvm_vcpu *vcpu)
{
	page->on = false;
	return vmmu_pfn_cache_create(vcpu->kvm->mmu, &page->cache) == VMMU_OK;
}

void pv_page_destroy(struct pv_page *page)
{
	vmmu_pfn_cache_destroy(page->cache);
}

void pv_page_set(struct pv_page *page, uint64_t gpa, size_t bytes)
{
	page->on = vmmu_pfn_cache_activate(page->cache, 0, (struct vmmu_gpa){ gpa }, bytes) == VMMU_OK;
	if (!page->on)
		vmmu_pfn_cache_deactivate(page->cache);
}

void pv_page_clear(struct pv_page *page)
{
	vmmu_pfn_cache_deactivate(page->cache);
	page->on = false;
}

/* Let another thread finish. A futex is the only system call that KVM_RUN may make. */
static void pause_for(unsigned tries)
{
	const struct timespec a_moment = { .tv_nsec = 50000 };
	uint32_t word = 0;

	if (tries < SPINS)
		__builtin_ia32_pause();
	else
		SYS4(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &a_moment);
}

/* Returns: false if the guest has no such memory now. */
static bool find(struct pv_page *page, unsigned tries)
{
	if (vmmu_pfn_cache_check(page->cache))
		return true;
	switch (vmmu_pfn_cache_refresh(page->cache)) {
	case VMMU_OK:
		return true;
	case VMMU_EAGAIN:
		pause_for(tries);
		return true;
	default:
		return false;
	}
}

enum pv_page_result pv_page_use(struct pv_page *page, struct kvm_vcpu *vcpu, pv_page_fn *use, void *argument)
{
	enum vmmu_status status = VMMU_EAGAIN;

	if (!page->on)
		return PV_PAGE_NONE;
	for (unsigned tries = 0; status == VMMU_EAGAIN; tries++) {
		if (!find(page, tries))
			return PV_PAGE_NONE;
		status = vmmu_pfn_cache_open(page->cache, vcpu->mmu);
		if (status == VMMU_OK) {
			use(page->cache, argument);
			vmmu_pfn_cache_close(page->cache);
		}
	}
	return status == VMMU_OK ? PV_PAGE_DONE : status == VMMU_EBUSY ? PV_PAGE_FULL : PV_PAGE_NONE;
}
