/* SPDX-License-Identifier: MIT */
/*
 * Shadow paging (memory/shadow.c): the registers that decide how the guest's tables are read, and the instructions
 * that change them or invalidate translations. These leave the guest, and the library is told outside.
 */
#include <string.h>

#include <vmmu/mmu.h>

#include "cpu/base/private.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/control.h"
#include "cpu/system/intercept.h"
#include "cpu/system/seg.h"
#include "cpu/system/shadow_regs.h"

static bool is_pae(const struct cpu *cpu)
{
	return (cpu->s.cr0 & CR0_PG) && (cpu->s.cr4 & CR4_PAE) && !(cpu->s.efer & EFER_LMA);
}

/* Returns: false when a present PDPTE has reserved bits, or when they do not lie in memory. */
static bool pdptes_read(struct cpu *cpu, uint64_t cr3, uint64_t pdpte[4])
{
	uint64_t reserved = (~cpu->p->phys_mask & ~UINT64_C(0)) | UINT64_C(0x1e6);

	if (vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ cr3 & UINT64_C(0xffffffe0) }, pdpte, 32) != VMMU_OK)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		if ((pdpte[i] & 1) && (pdpte[i] & reserved))
			return false;
	}
	return true;
}

bool cpu_pdptes_legal(struct cpu *cpu, uint64_t cr3)
{
	uint64_t pdpte[4];

	return pdptes_read(cpu, cr3, pdpte);
}

static void regs_give(struct cpu *cpu, bool keep)
{
	struct cpu_private *p = cpu->p;
	struct vmmu_guest_regs regs = {
		.cr0 = cpu->s.cr0, .cr3 = cpu->s.cr3, .cr4 = cpu->s.cr4, .efer = cpu->s.efer, .gbpages = p->gbpages,
		.phys_bits = (unsigned)__builtin_popcountll(p->phys_mask), .amd = !p->intel,
	};

	memcpy(regs.pdpte, p->shadow.pdpte, sizeof(regs.pdpte));
	p->shadow.regs_written = false;
	vmmu_guest_regs_set(p->vcpu, &regs, keep);
}

void cpu_shadow_regs(struct cpu *cpu)
{
	struct shadow_state *s = &cpu->p->shadow;

	s->regs_written = false;
	if (cpu->entry.root != NULL && !cpu->entry.shadow)
		return; /* the VM has a second stage */
	/* If the owner's CR3 leads to PDPTEs that cannot be loaded, the guest has none. */
	if (s->owner_wrote && is_pae(cpu) && !pdptes_read(cpu, cpu->s.cr3, s->pdpte))
		memset(s->pdpte, 0, sizeof(s->pdpte));
	s->owner_wrote = false;
	regs_give(cpu, false);
}

#define CR0_PDPTE (CR0_PG | CR0_CD | CR0_NW)
#define CR4_PDPTE (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)
#define CR4_PAGES (CR4_PDPTE | CR4_SMAP | CR4_PKE | CR4_PCIDE | CR4_LA57)

enum { SYSTEM_CR, SYSTEM_INVLPG, SYSTEM_INVPCID };

static _Noreturn void system_leave(struct cpu *cpu, unsigned what, unsigned n, uint64_t value, uint64_t linear)
{
	struct shadow_state *s = &cpu->p->shadow;

	s->system = what;
	s->system_n = n;
	s->system_value = value;
	s->system_linear = linear;
	cpu_leave_exit(cpu, EXIT_SYSTEM, COMPLETE_STEP);
}

#define INVPCID_ALL 2u

void cpu_guest_tlb_flush(struct cpu *cpu)
{
	tlb_flush_contexts(cpu);
	vmmu_invpcid(cpu->p->vcpu, INVPCID_ALL, 0, (struct vmmu_gva){ 0 }); /* with a second stage, this does nothing */
}

void cpu_shadow_cr(struct cpu *cpu, unsigned n, uint64_t value)
{
	if (likely(!cpu->entry.shadow))
		return;
	if (n == 3 || (n == 0 && ((value ^ cpu->s.cr0) & (CR0_PDPTE | CR0_WP))) ||
	    (n == 4 && ((value ^ cpu->s.cr4) & CR4_PAGES)))
		system_leave(cpu, SYSTEM_CR, n, value, 0);
}

void cpu_shadow_invlpg(struct cpu *cpu, uint64_t linear)
{
	if (unlikely(cpu->entry.shadow))
		system_leave(cpu, SYSTEM_INVLPG, 0, 0, linear);
}

void cpu_shadow_invpcid(struct cpu *cpu, unsigned type, uint64_t pcid, uint64_t linear)
{
	if (unlikely(cpu->entry.shadow))
		system_leave(cpu, SYSTEM_INVPCID, type, pcid, linear);
}

static bool cr_write_paging(struct cpu *cpu, unsigned n, uint64_t value)
{
	uint64_t cr0 = cpu->s.cr0, cr3 = cpu->s.cr3, cr4 = cpu->s.cr4, efer = cpu->s.efer, pdpte[4];
	bool keep = n == 3 && (cr4 & CR4_PCIDE) && value >> 63;

	if (!(n == 0 ? cr0_write(cpu, value) : n == 3 ? cr3_write(cpu, value) : cr4_write(cpu, value)))
		return false;
	if (is_pae(cpu) && (n == 3 || ((cr0 ^ cpu->s.cr0) & CR0_PDPTE) || ((cr4 ^ cpu->s.cr4) & CR4_PDPTE))) {
		if (!pdptes_read(cpu, cpu->s.cr3, pdpte)) {
			cpu->s.cr0 = cr0;
			cpu->s.cr3 = cr3;
			cpu->s.cr4 = cr4;
			cpu->s.efer = efer;
			mode_update(cpu);
			return false;
		}
		memcpy(cpu->p->shadow.pdpte, pdpte, sizeof(pdpte));
	}
	regs_give(cpu, keep);
	return true;
}

bool cpu_shadow_system(struct cpu *cpu)
{
	struct shadow_state *s = &cpu->p->shadow;

	switch (s->system) {
	case SYSTEM_CR:
		if (!cr_write_paging(cpu, s->system_n, s->system_value))
			return false;
		(void)intercept_cr_note(cpu, s->system_n);
		return true;
	case SYSTEM_INVLPG:
		tlb_flush_page(cpu, s->system_linear);
		vmmu_invlpg(cpu->p->vcpu, (struct vmmu_gva){ s->system_linear });
		return true;
	default:
		tlb_flush(cpu);
		vmmu_invpcid(cpu->p->vcpu, s->system_n, s->system_value, (struct vmmu_gva){ s->system_linear });
		return true;
	}
}
