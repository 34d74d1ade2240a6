/* SPDX-License-Identifier: MIT */
#include "cpu/system/vme.h"

#include "cpu/base/flags.h"
#include "cpu/memory/mem.h"
#include "cpu/system/control.h"
#include "cpu/system/seg.h"

/* May the program use the real IF and IOPL? */
static bool has_iopl(const struct cpu *cpu)
{
	return (cpu->s.rflags & RFLAGS_IOPL) == RFLAGS_IOPL;
}

/* Below IOPL 3 only the 16-bit forms have VIF in the place of IF. */
static void need_vme(struct cpu *cpu, unsigned osize)
{
	if (!(cpu->s.cr4 & CR4_VME) || osize != 2)
		cpu_gp(cpu);
}

uint64_t vme_flags(struct cpu *cpu, unsigned osize)
{
	uint64_t flags = rflags_get(cpu) & ~(RFLAGS_VM | RFLAGS_RF);

	if (has_iopl(cpu))
		return flags;
	need_vme(cpu, osize);
	return (flags & ~RFLAGS_IF) | RFLAGS_IOPL | (flags & RFLAGS_VIF ? RFLAGS_IF : 0);
}

void vme_flags_check(struct cpu *cpu, uint64_t flags, unsigned osize)
{
	if (has_iopl(cpu))
		return;
	need_vme(cpu, osize);
	if ((flags & RFLAGS_TF) || ((flags & RFLAGS_IF) && (cpu->s.rflags & RFLAGS_VIP)))
		cpu_gp(cpu);
}

void vme_flags_load(struct cpu *cpu, uint64_t flags, unsigned osize, uint64_t rf)
{
	uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;

	if (has_iopl(cpu)) {
		mask |= RFLAGS_IF | (osize == 2 ? 0 : RFLAGS_AC | RFLAGS_ID | rf);
	} else {
		mask |= RFLAGS_VIF;
		flags = (flags & ~RFLAGS_VIF) | (flags & RFLAGS_IF ? RFLAGS_VIF : 0);
	}
	rflags_set(cpu, (rflags_get(cpu) & ~mask & ~RFLAGS_RF) | (flags & mask));
}

void vme_interrupt_flag(struct cpu *cpu, bool set)
{
	bool v86 = cpu->mode & MODE_V86;

	if (!(cpu->s.cr4 & (v86 ? CR4_VME : CR4_PVI)) || cpu->cpl != 3 || (set && (cpu->s.rflags & RFLAGS_VIP)))
		cpu_gp(cpu);
	cpu->s.rflags = (cpu->s.rflags & ~RFLAGS_VIF) | (set ? RFLAGS_VIF : 0);
}

/* ---- INT n --------------------------------------------------------------------------------------------- */

/* The interrupt redirection bitmap lies below the I/O permission bitmap of the TSS. A 0 is for the program. */
static bool is_redirected(struct cpu *cpu, unsigned vector)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	uint64_t at;

	if (tr->unusable || !(tr->type & 8) || tr->limit < 103)
		cpu_gp(cpu);
	at = sys_read(cpu, tr->base + 102, 2) - 32 + vector / 8;
	if (at > tr->limit)
		cpu_gp(cpu);
	return !(sys_read(cpu, tr->base + at, 1) >> vector % 8 & 1);
}

bool vme_int(struct cpu *cpu, unsigned vector, uint64_t next_rip)
{
	uint64_t values[3] = { 0, cpu->s.seg[CPU_CS].selector, next_rip }, clear;
	uint32_t target;

	if (!(cpu->s.cr4 & CR4_VME) || !is_redirected(cpu, vector)) {
		if (!has_iopl(cpu))
			cpu_gp(cpu);
		return false;
	}
	values[0] = vme_flags(cpu, 2);
	clear = RFLAGS_TF | RFLAGS_RF | (has_iopl(cpu) ? RFLAGS_IF : RFLAGS_VIF);
	target = (uint32_t)mem_read(cpu, vector * 4, 4);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t sp = (cpu->s.gpr[CPU_RSP] - 2 * (i + 1)) & stack_mask(cpu);

		mem_write(cpu, seg_linear(cpu, CPU_SS, sp, 2, true), 2, values[i]);
	}
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] - 6);
	cpu->s.rflags &= ~clear;
	seg_load_real(cpu, CPU_CS, (uint16_t)(target >> 16));
	cpu->s.rip = target & 0xffff;
	return true;
}
