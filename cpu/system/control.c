/* SPDX-License-Identifier: MIT */
/*
 * The rules of CR0, CR3, CR4, EFER and RFLAGS: what may be written, and what follows.
 */
#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/control.h"
#include "cpu/system/seg.h"
#include "cpu/system/vmcb.h"

#define RFLAGS_VALID UINT64_C(0x3f7fd5)

void rflags_set(struct cpu *cpu, uint64_t flags)
{
	cpu->s.rflags = (flags & RFLAGS_VALID) | RFLAGS_FIXED1;
	flags_set(cpu, flags);
	tlb_tag_update(cpu);
}

/* ---- what combinations exist --------------------------------------------------------------------------- */

static bool cr0_valid(uint64_t cr0)
{
	if (cr0 >> 32)
		return false;
	if ((cr0 & CR0_PG) && !(cr0 & CR0_PE))
		return false;
	return !((cr0 & CR0_NW) && !(cr0 & CR0_CD));
}

static bool cr3_valid(const struct cpu *cpu, uint64_t cr3, bool is_long)
{
	return !is_long || !(cr3 & ~cpu->p->phys_mask & ~UINT64_C(0xfff));
}

bool cpu_sregs_valid(struct cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	bool is_long = (efer & EFER_LME) && (cr0 & CR0_PG);

	if (!cr0_valid(cr0) || (cr4 & ~cpu->p->cr4_valid) || (efer & ~cpu->p->efer_valid))
		return false;
	if (is_long) {
		if (!(cr4 & CR4_PAE) || !(efer & EFER_LMA) || !cr3_valid(cpu, cr3, true))
			return false;
	} else if (efer & EFER_LMA) {
		return false;
	}
	return true;
}

/* ---- writes by the guest ------------------------------------------------------------------------------- */

static bool cr0_legal(const struct cpu *cpu, uint64_t value)
{
	bool was = cpu->s.cr0 & CR0_PG, will = value & CR0_PG;

	if (!cr0_valid(value))
		return false;
	if (will && !was && (cpu->s.efer & EFER_LME))
		return (cpu->s.cr4 & CR4_PAE) && !cpu->s.seg[CPU_CS].l;
	if (was && !will)
		return !cpu_is_64(cpu) && !(cpu->s.cr4 & CR4_PCIDE);
	return true;
}

/* Setting CR0.PG with EFER.LME turns long mode on. */
static void long_mode_switch(struct cpu *cpu, uint64_t cr0)
{
	if (!(cr0 & CR0_PG))
		cpu->s.efer &= ~EFER_LMA;
	else if (cpu->s.efer & EFER_LME)
		cpu->s.efer |= EFER_LMA;
}

bool cr0_write(struct cpu *cpu, uint64_t value)
{
	value |= CR0_ET;
	if (!cr0_legal(cpu, value))
		return false;
	if ((value ^ cpu->s.cr0) & CR0_PG)
		long_mode_switch(cpu, value);
	if ((value ^ cpu->s.cr0) & (CR0_PG | CR0_WP | CR0_PE)) {
		tlb_flush(cpu);
		cpu->p->shadow.regs_written = true;
	}
	cpu->p->paging_switches += (value ^ cpu->s.cr0) & CR0_PG ? 1 : 0;
	cpu->s.cr0 = value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |
	                      CR0_PG);
	mode_update(cpu);
	return true;
}

/* With PCIDs, bit 63 says "keep this PCID's translations". A CPU may drop them all the same. */
static uint64_t cr3_value(const struct cpu *cpu, uint64_t written)
{
	return cpu->s.cr4 & CR4_PCIDE ? written & ~(UINT64_C(1) << 63) : written;
}

bool cr3_write(struct cpu *cpu, uint64_t value)
{
	bool is_long = cpu->s.efer & EFER_LMA;

	value = cr3_value(cpu, value);
	if (!cr3_valid(cpu, value, is_long))
		return false;
	cpu->s.cr3 = is_long ? value : (uint32_t)value;
	cpu->p->shadow.regs_written = true;
	tlb_flush(cpu);
	return true;
}

static bool cr4_legal(const struct cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->s.cr4;

	if (value & ~cpu->p->cr4_valid)
		return false;
	if (cpu->s.efer & EFER_LMA) {
		if (!(value & CR4_PAE) || (changed & CR4_LA57))
			return false;
	}
	return !(changed & value & CR4_PCIDE) || ((cpu->s.efer & EFER_LMA) && !(cpu->s.cr3 & 0xfff));
}

bool cr4_write(struct cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->s.cr4;

	if (!cr4_legal(cpu, value))
		return false;
	if (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PCIDE | CR4_LA57)) {
		tlb_flush(cpu);
		cpu->p->shadow.regs_written = true;
	}
	cpu->s.cr4 = value;
	mode_update(cpu);
	return true;
}

bool cr_legal(const struct cpu *cpu, unsigned n, uint64_t value)
{
	switch (n) {
	case 0: return cr0_legal(cpu, value | CR0_ET);
	case 3: return cr3_valid(cpu, cr3_value(cpu, value), cpu->s.efer & EFER_LMA);
	case 4: return cr4_legal(cpu, value);
	case 8: return value <= 15;
	default: return true;
	}
}

/* Without SVM nothing could set GIF again. A nested guest that takes SVM from under itself ends its hypervisor. */
static void svm_turned_off(struct cpu *cpu, bool host)
{
	if (!cpu->s.svm.guest)
		cpu->s.svm.gif = true;
	else if (!host)
		cpu->s.events.triple_fault = cpu->p->svm.fatal = true;
}

bool efer_write(struct cpu *cpu, uint64_t value, bool host)
{
	uint64_t lma = cpu->s.efer & EFER_LMA;

	if ((value & ~EFER_LMA) & ~cpu->p->efer_valid)
		return false;
	if (!host && (cpu->s.cr0 & CR0_PG) && ((value ^ cpu->s.efer) & EFER_LME))
		return false;
	if (!host && (value & ~cpu->s.efer & EFER_SVME) && (cpu->s.svm.vm_cr & VM_CR_SVMDIS))
		return false;
	if (!(value & EFER_SVME))
		svm_turned_off(cpu, host);
	cpu->s.efer = (value & ~EFER_LMA) | (host ? value & EFER_LMA : lma);
	cpu->p->shadow.regs_written = true;
	tlb_flush(cpu);
	mode_update(cpu);
	return true;
}
