/* SPDX-License-Identifier: MIT */
/* For machines without the library that never have nested guests: nothing of memory is mirrored. */
#include <vmmu/mmu.h>
#include <vmmu/nested.h>

#include <stdlib.h>

void vmmu_guest_written(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, size_t bytes)
{
	(void)vcpu;
	(void)gpa;
	(void)bytes;
	abort();
}

bool vmmu_unprotect(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa)
{
	(void)vcpu;
	(void)gpa;
	abort();
}

enum vmmu_status vmmu_nested_enter(struct vmmu_vcpu *vcpu, const struct vmmu_nested *l1)
{
	(void)vcpu;
	(void)l1;
	return VMMU_EINVAL;
}

void vmmu_nested_leave(struct vmmu_vcpu *vcpu)
{
	(void)vcpu;
}

enum vmmu_page_fault vmmu_nested_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error,
                                       struct vmmu_page_info *info)
{
	(void)vcpu;
	(void)gpa;
	(void)error;
	(void)info;
	abort();
}
