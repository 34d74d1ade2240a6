/* SPDX-License-Identifier: MIT */
/*
 * For machines without the library. They have a second stage, so no call of vmmu/mmu.h has an effect, and one address
 * space.
 */
#include <vmmu/mmu.h>

#include <stdlib.h>

void vmmu_guest_regs_set(struct vmmu_vcpu *vcpu, const struct vmmu_guest_regs *regs, bool keep)
{
	(void)vcpu;
	(void)regs;
	(void)keep;
}

enum vmmu_status vmmu_vcpu_address_space_set(struct vmmu_vcpu *vcpu, unsigned address_space)
{
	(void)vcpu;
	return address_space == 0 ? VMMU_OK : VMMU_EINVAL;
}

void vmmu_invlpg(struct vmmu_vcpu *vcpu, struct vmmu_gva gva)
{
	(void)vcpu;
	(void)gva;
	abort();
}

void vmmu_invpcid(struct vmmu_vcpu *vcpu, unsigned type, uint64_t pcid, struct vmmu_gva gva)
{
	(void)vcpu;
	(void)type;
	(void)pcid;
	(void)gva;
	abort();
}

enum vmmu_page_fault vmmu_page_fault(struct vmmu_vcpu *vcpu, struct vmmu_gva gva, uint64_t error, uint32_t pkru,
                                     struct vmmu_page_info *info)
{
	(void)vcpu;
	(void)gva;
	(void)error;
	(void)pkru;
	(void)info;
	abort();
}
