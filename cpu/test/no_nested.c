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
