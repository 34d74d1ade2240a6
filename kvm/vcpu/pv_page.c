/* SPDX-License-Identifier: MIT */
#include "kvm/vcpu/pv_page.h"
#include "kvm/vm/vm.h"

bool pv_page_fits(uint64_t gpa, size_t bytes)
{
	return gpa % VMMU_PAGE_SIZE + bytes <= VMMU_PAGE_SIZE;
}

bool pv_page_read(struct kvm_vcpu *vcpu, uint64_t gpa, void *to, size_t bytes)
{
	return vmmu_guest_read(vcpu->mmu, (struct vmmu_gpa){ gpa }, to, bytes) == VMMU_OK;
}

enum pv_page_result pv_page_write(struct kvm_vcpu *vcpu, uint64_t gpa, const void *from, size_t bytes)
{
	switch (vmmu_guest_write(vcpu->mmu, (struct vmmu_gpa){ gpa }, from, bytes)) {
	case VMMU_OK: return PV_PAGE_DONE;
	case VMMU_EBUSY: return PV_PAGE_LATER;
	default: return PV_PAGE_NONE;
	}
}
