/* SPDX-License-Identifier: MIT */
#include "core/fault/admit.h"

enum vmmu_fault fault_page_get(struct vm *vm, const struct admitted *fault, struct vmmu_host_page *page)
{
	unsigned access = fault->access & (VMMU_READ | VMMU_WRITE);

	switch (vm->host->page_get(vm->host_state, memslot_hva(fault->slot, fault->gfn), access, page)) {
	case VMMU_OK:
		return (access & VMMU_WRITE) && !page->writable ? VMMU_FAULT_HOST : VMMU_FAULT_FIXED;
	case VMMU_EAGAIN:
		return VMMU_FAULT_RETRY;
	case VMMU_ENOMEM:
		return VMMU_FAULT_NOMEM;
	default:
		return VMMU_FAULT_HOST;
	}
}
