/* SPDX-License-Identifier: MIT */
/*
 * The memory of a guest that a paravirtual interface shares with it: a piece of one page. The guest gives its address
 * in an MSR. It may have no memory there, now or ever; then nothing is read or written. As in KVM the address is one of
 * address space 0, also in SMM.
 * All on the vCPU's thread, outside the guest.
 */
#ifndef VMMU_KVM_PV_PAGE_H
#define VMMU_KVM_PV_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmmu/pfn_cache.h>

struct kvm_vcpu;

/* Its address and size, and where it is found. */
struct pv_page {
	struct vmmu_pfn_cache *cache;
	bool on;
};

/** Returns: false when there is no memory. */
bool pv_page_create(struct pv_page *page, struct kvm_vcpu *vcpu);
void pv_page_destroy(struct pv_page *page);

/** Switch it on. A piece that crosses a page is off: KVM shares none. */
void pv_page_set(struct pv_page *page, uint64_t gpa, size_t bytes);
void pv_page_clear(struct pv_page *page);

/*
 * PV_PAGE_NONE: it is off, or the guest has no such memory now. PV_PAGE_FULL: the dirty ring is full. The next
 * vmmu_vcpu_enter answers that, before it runs any instruction of the guest.
 */
enum pv_page_result { PV_PAGE_DONE, PV_PAGE_NONE, PV_PAGE_FULL };

/** What is done with the memory: vmmu_pfn_cache_read, vmmu_pfn_cache_write, vmmu_pfn_cache_cas and no other call. */
typedef void pv_page_fn(struct vmmu_pfn_cache *cache, void *argument);

/**
 * Call `use` with the memory. Waits for an invalidation of the page, or a change of its slot, that is under way.
 * Returns: PV_PAGE_DONE if `use` was called.
 */
enum pv_page_result pv_page_use(struct pv_page *page, struct kvm_vcpu *vcpu, pv_page_fn *use, void *argument);

#endif
