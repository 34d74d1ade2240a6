/* SPDX-License-Identifier: MIT */
/*
 * System instructions: control and debug registers, descriptor tables, segment registers, flags, MSRs, hints.
 *
 * Long because: it is a list, one short handler per instruction; what they share is in run_int.h.
 */
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "cpu/run_int.h"
#include "cpu/shadow.h"

static uint64_t next_rip(const struct cpu *cpu, const struct op *op)
{
	return (op->rip + op->len) & cpu->lin_mask;
}

/* Most of these end a block, because they change what the following bytes mean or where they are. */
static void done(struct cpu *cpu, const struct op *op)
{
	cpu->s.rip = next_rip(cpu, op);
}

static void done_look(struct cpu *cpu, const struct op *op)
{
	done(cpu, op);
	if (unlikely(cpu_needs_look(cpu)))
		cpu_leave(cpu, LEAVE_DONE);
}

static void need_supervisor(struct cpu *cpu)
{
	if (cpu->cpl != 0)
		cpu_gp(cpu);
}

static void need_protected(struct cpu *cpu)
{
	if (!(cpu->mode & MODE_PROT))
		cpu_ud(cpu);
}

static void need_umip(struct cpu *cpu)
{
	if ((cpu->s.cr4 & CR4_UMIP) && cpu->cpl == 3)
		cpu_gp(cpu);
}

static void op_nop(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
}

static void op_undefined(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_ud(cpu);
}

/* Read a 16-bit register or memory operand 0 or 1. */
static uint16_t operand16(struct cpu *cpu, const struct op *op, unsigned i)
{
	if (op->mem == i)
		return (uint16_t)mem_read(cpu, op_linear(cpu, op, 2, false), 2);
	return (uint16_t)reg_read(cpu, op->reg[i], 2);
}

/* A selector or machine status word: 16 bits to memory, zero-extended to a register. */
static void store16(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->mem == 0)
		mem_write(cpu, op_linear(cpu, op, 2, true), 2, value);
	else if (op->size == 2)
		reg_write(cpu, op->reg[0], 2, value);
	else
		reg_write(cpu, op->reg[0], 8, value);
}

/* ---- control and debug registers -------------------------------------------------------------------------------------- */

static bool cr_write(struct cpu *cpu, unsigned n, uint64_t value)
{
	switch (n) {
	case 0: return cr0_write(cpu, value);
	case 2: cpu->s.cr2 = value; return true;
	case 3: return cr3_write(cpu, value);
	case 4: return cr4_write(cpu, value);
	case 8:
		if (value & ~UINT64_C(15))
			return false;
		cpu->s.cr8 = value;
		cpu->p->cr8_written = true;
		return true;
	default: cpu_ud(cpu);
	}
}

static void op_mov_to_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu_is_64(cpu) ? reg_read(cpu, op->reg[1], 8) : reg_read(cpu, op->reg[1], 4);

	need_supervisor(cpu);
	cpu_shadow_cr(cpu, op->reg[0], value);
	if (!cr_write(cpu, op->reg[0], value))
		cpu_gp(cpu);
	done(cpu, op);
	if (cpu->p->cr8_written)
		cpu_leave(cpu, LEAVE_DONE);
}

static void op_mov_from_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value = 0;

	need_supervisor(cpu);
	switch (op->reg[1]) {
	case 0: value = cpu->s.cr0; break;
	case 2: value = cpu->s.cr2; break;
	case 3: value = cpu->s.cr3; break;
	case 4: value = cpu->s.cr4; break;
	case 8: value = cpu->s.cr8; break;
	default: cpu_ud(cpu);
	}
	reg_write(cpu, op->reg[0], 8, cpu_is_64(cpu) ? value : (uint32_t)value);
}

/* Which of DR0-DR7 an encoded number means; DR4 and DR5 are aliases unless CR4.DE. */
static unsigned dr_number(struct cpu *cpu, unsigned n)
{
	if (n > 7 || ((n == 4 || n == 5) && (cpu->s.cr4 & CR4_DE)))
		cpu_ud(cpu);
	need_supervisor(cpu);
	debug_register_access(cpu);
	if (cpu->s.dr[7] & 0x2000) {
		cpu->s.events.exception.has_payload = true;
		cpu->s.events.exception.payload = 0x2000; /* BD */
		cpu_raise(cpu, VECTOR_DB);
	}
	return n == 4 ? 6 : n == 5 ? 7 : n;
}

static void op_mov_to_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = dr_number(cpu, op->reg[0]);
	uint64_t value = reg_read(cpu, op->reg[1], 8);

	if (!cpu_is_64(cpu))
		value = (uint32_t)value;
	if (n >= 6 && value >> 32)
		cpu_gp(cpu);
	if (n == 6)
		value = (value & 0xe00f) | 0xffff0ff0;
	if (n == 7)
		value = (value & 0xffff2bff) | 0x400;
	cpu->s.dr[n] = value;
	done_look(cpu, op);
}

static void op_mov_from_dr(struct cpu *cpu, const struct op *op)
{
	unsigned n = dr_number(cpu, op->reg[1]);

	reg_write(cpu, op->reg[0], 8, cpu_is_64(cpu) ? cpu->s.dr[n] : (uint32_t)cpu->s.dr[n]);
}

static void op_clts(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->s.cr0 &= ~CR0_TS;
}

static void op_lmsw(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	need_supervisor(cpu);
	value = operand16(cpu, op, 0) & 15;
	/* PE can be set, not cleared. */
	if (!cr0_write(cpu, (cpu->s.cr0 & ~UINT64_C(14)) | value))
		cpu_gp(cpu);
	done(cpu, op);
}

static void op_smsw(struct cpu *cpu, const struct op *op)
{
	need_umip(cpu);
	if (op->mem == 0 || op->size == 2)
		store16(cpu, op, cpu->s.cr0);
	else
		reg_write(cpu, op->reg[0], op->size == 4 ? 4 : 8, cpu->s.cr0);
}

/* ---- descriptor tables ------------------------------------------------------------------------------------------------------- */

static void table_load(struct cpu *cpu, const struct op *op, struct cpu_table *table)
{
	unsigned size = cpu_is_64(cpu) ? 8 : 4;
	uint64_t linear, base;
	uint16_t limit;

	need_supervisor(cpu);
	linear = op_linear(cpu, op, 2 + size, false);
	limit = (uint16_t)mem_read(cpu, linear, 2);
	base = mem_read(cpu, (linear + 2) & cpu->lin_mask, size == 8 ? 8 : 4);
	if (size == 4 && op->osize == 2)
		base &= 0xffffff;
	if (size == 8 && (uint64_t)((int64_t)(base << 7) >> 7) != base)
		cpu_gp(cpu);
	table->limit = limit;
	table->base = base;
}

static void table_store(struct cpu *cpu, const struct op *op, const struct cpu_table *table)
{
	unsigned size = cpu_is_64(cpu) ? 8 : 4;
	uint8_t image[10];

	need_umip(cpu);
	memcpy(image, &table->limit, 2);
	memcpy(image + 2, &table->base, 8);
	mem_write_bytes(cpu, op_linear(cpu, op, 2 + size, true), image, 2 + size);
}

static void op_lgdt(struct cpu *cpu, const struct op *op) { table_load(cpu, op, &cpu->s.gdt); }
static void op_lidt(struct cpu *cpu, const struct op *op) { table_load(cpu, op, &cpu->s.idt); }
static void op_sgdt(struct cpu *cpu, const struct op *op) { table_store(cpu, op, &cpu->s.gdt); }
static void op_sidt(struct cpu *cpu, const struct op *op) { table_store(cpu, op, &cpu->s.idt); }

static void op_sldt(struct cpu *cpu, const struct op *op)
{
	need_protected(cpu);
	need_umip(cpu);
	store16(cpu, op, cpu->s.seg[CPU_LDTR].selector);
}

static void op_str(struct cpu *cpu, const struct op *op)
{
	need_protected(cpu);
	need_umip(cpu);
	store16(cpu, op, cpu->s.seg[CPU_TR].selector);
}

/* LLDT and LTR: a system descriptor, 16 bytes of it in long mode. `types`: a bit for each allowed type. */
static struct cpu_segment system_segment(struct cpu *cpu, uint16_t selector, unsigned types)
{
	uint32_t error = selector & 0xfffcu;
	struct cpu_segment s;
	uint64_t low, high = 0;

	if ((selector & 4) || !descriptor_read(cpu, selector, &low))
		cpu_raise_error(cpu, VECTOR_GP, error);
	s = descriptor_segment(selector, low);
	if (s.s || !(types >> s.type & 1))
		cpu_raise_error(cpu, VECTOR_GP, error);
	if (!s.present)
		cpu_raise_error(cpu, VECTOR_NP, error);
	if (cpu->s.efer & EFER_LMA) {
		if (!descriptor_read(cpu, selector + 8, &high))
			cpu_raise_error(cpu, VECTOR_GP, error);
		s.base |= high << 32;
	}
	return s;
}

static void op_lldt(struct cpu *cpu, const struct op *op)
{
	uint16_t selector;

	need_protected(cpu);
	need_supervisor(cpu);
	selector = operand16(cpu, op, 0);
	if ((selector & 0xfffc) == 0)
		cpu->s.seg[CPU_LDTR] = (struct cpu_segment){ .selector = selector, .unusable = 1 };
	else
		cpu->s.seg[CPU_LDTR] = system_segment(cpu, selector, 1u << 2);
}

static void op_ltr(struct cpu *cpu, const struct op *op)
{
	struct cpu_segment tss;
	uint16_t selector;

	need_protected(cpu);
	need_supervisor(cpu);
	selector = operand16(cpu, op, 0);
	if ((selector & 0xfffc) == 0)
		cpu_gp(cpu);
	tss = system_segment(cpu, selector, cpu->s.efer & EFER_LMA ? 1u << 9 : 1u << 9 | 1u << 1);
	/* Busy now. */
	tss.type |= 2;
	sys_write(cpu, cpu->s.gdt.base + (selector & 0xfff8u) + 5, 1,
	          (unsigned)tss.type | (unsigned)tss.dpl << 5 | 0x80);
	cpu->s.seg[CPU_TR] = tss;
}

/* ---- asking about descriptors: LAR, LSL, VERR, VERW ---------------------------------------------------------------------------- */

/* Is the selector's segment visible at this privilege? `system`: a bit for each allowed system type. */
static bool segment_visible(struct cpu *cpu, uint16_t selector, unsigned system, uint64_t *descriptor)
{
	struct cpu_segment s;

	if ((selector & 0xfffc) == 0 || !descriptor_read(cpu, selector, descriptor))
		return false;
	s = descriptor_segment(selector, *descriptor);
	if (!s.s && !(system >> s.type & 1))
		return false;
	if (s.s && (s.type & 12) == 12)
		return true; /* conforming code: always */
	return s.dpl >= cpu->cpl && s.dpl >= (selector & 3);
}

static void op_lar(struct cpu *cpu, const struct op *op)
{
	unsigned system = cpu->s.efer & EFER_LMA ? 0x1a04 : 0x1a36;
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 1), system, &descriptor);
	if (ok)
		reg_write(cpu, op->reg[0], op->size == 2 ? 2 : 4, descriptor >> 32 & 0xf0ff00);
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

static void op_lsl(struct cpu *cpu, const struct op *op)
{
	unsigned system = cpu->s.efer & EFER_LMA ? 0x0a04 : 0x0a0e;
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 1), system, &descriptor);
	if (ok)
		reg_write(cpu, op->reg[0], op->size == 2 ? 2 : 4, descriptor_segment(0, descriptor).limit);
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

/* sub: 1 for VERW. */
static void op_verr(struct cpu *cpu, const struct op *op)
{
	uint64_t descriptor;
	bool ok;

	need_protected(cpu);
	ok = segment_visible(cpu, operand16(cpu, op, 0), 0, &descriptor);
	if (ok) {
		unsigned type = descriptor >> 40 & 15;

		ok = op->sub ? (type & 10) == 2 : !(type & 8) || (type & 2);
	}
	flags_update(cpu, RFLAGS_ZF, ok ? RFLAGS_ZF : 0);
}

static void op_arpl(struct cpu *cpu, const struct op *op)
{
	uint16_t rpl, dest;

	need_protected(cpu);
	rpl = (uint16_t)(reg_read(cpu, op->reg[1], 2) & 3);
	dest = operand16(cpu, op, 0);
	if ((dest & 3) < rpl) {
		dest = (uint16_t)((dest & ~3u) | rpl);
		if (op->mem == 0)
			mem_write(cpu, op_linear(cpu, op, 2, true), 2, dest);
		else
			reg_write(cpu, op->reg[0], 2, dest);
		flags_update(cpu, RFLAGS_ZF, RFLAGS_ZF);
	} else {
		flags_update(cpu, RFLAGS_ZF, 0);
	}
}

/* ---- segment registers --------------------------------------------------------------------------------------------------------------- */

/* After SS was loaded, interrupts and traps wait for one instruction, so that RSP can follow. */
static void segment_loaded(struct cpu *cpu, const struct op *op, unsigned seg)
{
	if (seg == CPU_SS) {
		cpu->s.events.shadow = CPU_SHADOW_MOV_SS;
		cpu->p->shadow_set = true;
	}
	done_look(cpu, op);
}

static void op_mov_to_seg(struct cpu *cpu, const struct op *op)
{
	seg_load(cpu, op->reg[0], operand16(cpu, op, 1));
	segment_loaded(cpu, op, op->reg[0]);
}

static void op_mov_from_seg(struct cpu *cpu, const struct op *op)
{
	store16(cpu, op, cpu->s.seg[op->reg[1]].selector);
}

static void op_push_seg(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = cpu->s.seg[op->reg[0]].selector;

	if (op->osize == 2)
		stack_push(cpu, 2, selector);
	else if (op->osize == 4)
		stack_push(cpu, 4, selector);
	else
		stack_push(cpu, 8, selector);
}

static void op_pop_seg(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = (uint16_t)stack_peek(cpu, 2, 0);
	uint64_t mask = stack_mask(cpu), sp = cpu->s.gpr[CPU_RSP] + op->osize;

	seg_load(cpu, op->reg[0], selector);
	/* The width of the stack pointer is the old stack's. */
	cpu->s.gpr[CPU_RSP] = mask == 0xffff ? (cpu->s.gpr[CPU_RSP] & ~mask) | (sp & mask) : sp & mask;
	segment_loaded(cpu, op, op->reg[0]);
}

/* LDS, LES, LFS, LGS, LSS: sub is the segment. */
static void op_load_far(struct cpu *cpu, const struct op *op)
{
	unsigned size = op->osize;
	uint64_t linear = op_linear(cpu, op, size + 2, false), offset = mem_read(cpu, linear, size);
	uint16_t selector = (uint16_t)mem_read(cpu, (linear + size) & cpu->lin_mask, 2);

	seg_load(cpu, op->sub, selector);
	reg_write(cpu, op->reg[0], size, offset);
	done(cpu, op);
}

static void op_swapgs(struct cpu *cpu, const struct op *op)
{
	uint64_t base = cpu->s.seg[CPU_GS].base;

	(void)op;
	if (!cpu_is_64(cpu))
		cpu_ud(cpu);
	need_supervisor(cpu);
	cpu->s.seg[CPU_GS].base = cpu->s.kernel_gs_base;
	cpu->s.kernel_gs_base = base;
	cpu->seg_base[CPU_GS] = cpu->s.seg[CPU_GS].base;
}

/* RDFSBASE .. WRGSBASE: sub is the segment. */
static void need_fsgsbase(struct cpu *cpu)
{
	if (!cpu_is_64(cpu) || !(cpu->s.cr4 & CR4_FSGSBASE))
		cpu_ud(cpu);
}

static void op_rdbase(struct cpu *cpu, const struct op *op)
{
	need_fsgsbase(cpu);
	reg_write(cpu, op->reg[0], op->size == 4 ? 4 : 8, cpu->s.seg[op->sub].base);
}

static void op_wrbase(struct cpu *cpu, const struct op *op)
{
	uint64_t value = reg_read(cpu, op->reg[0], op->size == 4 ? 4 : 8);

	need_fsgsbase(cpu);
	if ((uint64_t)((int64_t)(value << 7) >> 7) != value)
		cpu_gp(cpu);
	cpu->s.seg[op->sub].base = cpu->seg_base[op->sub] = value;
}

/* ---- flags --------------------------------------------------------------------------------------------------------------------------------- */

static unsigned iopl(const struct cpu *cpu)
{
	return cpu->s.rflags >> 12 & 3;
}

static void op_pushf(struct cpu *cpu, const struct op *op)
{
	uint64_t flags = rflags_get(cpu) & ~(RFLAGS_VM | RFLAGS_RF);

	if ((cpu->mode & MODE_V86) && iopl(cpu) != 3)
		cpu_gp(cpu);
	if (op->osize == 2)
		stack_push(cpu, 2, flags);
	else if (op->osize == 4)
		stack_push(cpu, 4, flags);
	else
		stack_push(cpu, 8, flags);
}

static void op_popf(struct cpu *cpu, const struct op *op)
{
	uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT, flags;

	if ((cpu->mode & MODE_V86) && iopl(cpu) != 3)
		cpu_gp(cpu);
	flags = stack_peek(cpu, op->osize, 0);
	if (op->osize != 2)
		mask |= RFLAGS_AC | RFLAGS_ID;
	if (cpu->cpl == 0)
		mask |= RFLAGS_IOPL;
	if (cpu->cpl <= iopl(cpu))
		mask |= RFLAGS_IF;
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + op->osize);
	rflags_set(cpu, (rflags_get(cpu) & ~mask & ~RFLAGS_RF) | (flags & mask));
	done_look(cpu, op);
}

static void op_cli(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->cpl > iopl(cpu))
		cpu_gp(cpu);
	cpu->s.rflags &= ~RFLAGS_IF;
}

static void op_sti(struct cpu *cpu, const struct op *op)
{
	if (cpu->cpl > iopl(cpu))
		cpu_gp(cpu);
	if (!(cpu->s.rflags & RFLAGS_IF)) {
		cpu->s.rflags |= RFLAGS_IF;
		cpu->s.events.shadow = CPU_SHADOW_STI;
		cpu->p->shadow_set = true;
	}
	done_look(cpu, op);
}

/* sub: 1 for STAC. */
static void op_stac(struct cpu *cpu, const struct op *op)
{
	if (!(cpu->s.cr4 & CR4_SMAP) || cpu->cpl != 0)
		cpu_ud(cpu);
	cpu->s.rflags = op->sub ? cpu->s.rflags | RFLAGS_AC : cpu->s.rflags & ~RFLAGS_AC;
	tlb_tag_update(cpu);
}

/* ---- TLB ---------------------------------------------------------------------------------------------------------------------------------------- */

static void op_invlpg(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = (cpu->seg_base[op->seg] + op_ea(cpu, op)) & cpu->lin_mask;

	need_supervisor(cpu);
	cpu_shadow_invlpg(cpu, linear);
	tlb_flush_page(cpu, linear);
	done(cpu, op);
}

static void op_invpcid(struct cpu *cpu, const struct op *op)
{
	uint64_t type, linear, pcid, address;
	unsigned shift = cpu->s.cr4 & CR4_LA57 ? 64 - 57 : 64 - 48;

	need_supervisor(cpu);
	type = reg_read(cpu, op->reg[0], cpu_is_64(cpu) ? 8 : 4);
	linear = op_linear(cpu, op, 16, false);
	pcid = mem_read(cpu, linear, 8);
	address = mem_read(cpu, (linear + 8) & cpu->lin_mask, 8);
	if (type > 3 || pcid >> 12 || (type < 2 && pcid != 0 && !(cpu->s.cr4 & CR4_PCIDE)) ||
	    (type == 0 && (uint64_t)((int64_t)(address << shift) >> shift) != address))
		cpu_gp(cpu);
	cpu_shadow_invpcid(cpu, (unsigned)type, pcid, address);
	tlb_flush(cpu);
	done(cpu, op);
}

static void op_supervisor_nop(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
}

/* CLFLUSH is a read as far as faults go. */
static void op_clflush(struct cpu *cpu, const struct op *op)
{
	(void)mem_read(cpu, op_linear(cpu, op, 1, false), 1);
}

/* ---- information ------------------------------------------------------------------------------------------------------------------------------------ */

static void op_cpuid(struct cpu *cpu, const struct op *op)
{
	uint32_t out[4];

	(void)op;
	cpu_cpuid(cpu, (uint32_t)cpu->s.gpr[CPU_RAX], (uint32_t)cpu->s.gpr[CPU_RCX], out);
	cpu->s.gpr[CPU_RAX] = out[0];
	cpu->s.gpr[CPU_RBX] = out[1];
	cpu->s.gpr[CPU_RCX] = out[2];
	cpu->s.gpr[CPU_RDX] = out[3];
}

/* sub: 1 for RDTSCP. */
static void op_rdtsc(struct cpu *cpu, const struct op *op)
{
	uint64_t tsc;

	if ((cpu->s.cr4 & CR4_TSD) && cpu->cpl != 0)
		cpu_gp(cpu);
	tsc = cpu_tsc(cpu);
	cpu->s.gpr[CPU_RAX] = (uint32_t)tsc;
	cpu->s.gpr[CPU_RDX] = tsc >> 32;
	if (op->sub)
		cpu->s.gpr[CPU_RCX] = (uint32_t)cpu->s.tsc_aux;
}

static void op_rdpid(struct cpu *cpu, const struct op *op)
{
	reg_write(cpu, op->reg[0], 8, cpu->s.tsc_aux);
}

static void op_rdpmc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_gp(cpu); /* no counters */
}

static void op_rdmsr(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->p->exit.msr.index = (uint32_t)cpu->s.gpr[CPU_RCX];
	cpu->p->exit.msr.data = 0;
	cpu_leave_exit(cpu, CPU_EXIT_RDMSR, COMPLETE_RDMSR);
}

static void op_wrmsr(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu->p->exit.msr.index = (uint32_t)cpu->s.gpr[CPU_RCX];
	cpu->p->exit.msr.data = (uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32;
	cpu_leave_exit(cpu, CPU_EXIT_WRMSR, COMPLETE_WRMSR);
}

static void op_xgetbv(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0)
		cpu_gp(cpu);
	cpu->s.gpr[CPU_RAX] = (uint32_t)cpu->s.xcr0;
	cpu->s.gpr[CPU_RDX] = cpu->s.xcr0 >> 32;
}

static void op_xsetbv(struct cpu *cpu, const struct op *op)
{
	uint64_t value = (uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32;

	(void)op;
	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	need_supervisor(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0 || (value & ~cpu->p->xcr0_valid) || !(value & 1))
		cpu_gp(cpu);
	cpu->s.xcr0 = value;
}

/* sub: 1 for WRPKRU. */
static void op_pkru(struct cpu *cpu, const struct op *op)
{
	if (!(cpu->s.cr4 & CR4_PKE))
		cpu_ud(cpu);
	if ((uint32_t)cpu->s.gpr[CPU_RCX] != 0 || (op->sub && (uint32_t)cpu->s.gpr[CPU_RDX] != 0))
		cpu_gp(cpu);
	if (op->sub) {
		cpu->s.pkru = (uint32_t)cpu->s.gpr[CPU_RAX];
		tlb_flush(cpu);
		done(cpu, op);
		return;
	}
	cpu->s.gpr[CPU_RAX] = cpu->s.pkru;
	cpu->s.gpr[CPU_RDX] = 0;
	done(cpu, op);
}

/* ---- the outside --------------------------------------------------------------------------------------------------------------------------------------- */

static void op_hlt(struct cpu *cpu, const struct op *op)
{
	(void)op;
	need_supervisor(cpu);
	cpu_leave_exit(cpu, CPU_EXIT_HLT, COMPLETE_STEP);
}

static void op_hypercall(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if (cpu->p->ops->hypercall == NULL)
		cpu_ud(cpu);
	cpu_leave_exit(cpu, CPU_EXIT_HYPERCALL, COMPLETE_STEP);
}

static void op_monitor(struct cpu *cpu, const struct op *op)
{
	uint32_t out[4];

	(void)op;
	cpu_cpuid(cpu, 1, 0, out);
	if (!(out[2] & 1u << 3) || cpu->cpl != 0)
		cpu_ud(cpu);
}

/* ---- selection ------------------------------------------------------------------------------------------------------------------------------------------- */

static bool operand_is(const struct insn *insn, unsigned i, ZydisRegisterClass class)
{
	return insn->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(insn->o[i].reg.value) == class;
}

static op_fn *ends(struct op *op, op_fn *fn)
{
	op->flags |= OPF_END;
	return fn;
}

static op_fn *with(struct op *op, unsigned sub, op_fn *fn)
{
	op->sub = (uint8_t)sub;
	return fn;
}

static op_fn *select_mov(const struct insn *insn, struct op *op)
{
	if (operand_is(insn, 0, ZYDIS_REGCLASS_CONTROL))
		return ends(op, op_mov_to_cr);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_CONTROL))
		return op_mov_from_cr;
	if (operand_is(insn, 0, ZYDIS_REGCLASS_DEBUG))
		return ends(op, op_mov_to_dr);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_DEBUG))
		return op_mov_from_dr;
	if (operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT))
		return ends(op, op->reg[0] == CPU_CS ? op_undefined : op_mov_to_seg);
	if (operand_is(insn, 1, ZYDIS_REGCLASS_SEGMENT))
		return op_mov_from_seg;
	return NULL;
}

static op_fn *select_table(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_LGDT: return op_lgdt;
	case ZYDIS_MNEMONIC_LIDT: return op_lidt;
	case ZYDIS_MNEMONIC_SGDT: return op_sgdt;
	case ZYDIS_MNEMONIC_SIDT: return op_sidt;
	case ZYDIS_MNEMONIC_LLDT: return op_lldt;
	case ZYDIS_MNEMONIC_SLDT: return op_sldt;
	case ZYDIS_MNEMONIC_LTR: return op_ltr;
	case ZYDIS_MNEMONIC_STR: return op_str;
	case ZYDIS_MNEMONIC_LAR: return op_lar;
	case ZYDIS_MNEMONIC_LSL: return op_lsl;
	case ZYDIS_MNEMONIC_VERR: return with(op, 0, op_verr);
	case ZYDIS_MNEMONIC_VERW: return with(op, 1, op_verr);
	case ZYDIS_MNEMONIC_ARPL: return op_arpl;
	case ZYDIS_MNEMONIC_LES: return ends(op, with(op, CPU_ES, op_load_far));
	case ZYDIS_MNEMONIC_LDS: return ends(op, with(op, CPU_DS, op_load_far));
	case ZYDIS_MNEMONIC_LSS: return ends(op, with(op, CPU_SS, op_load_far));
	case ZYDIS_MNEMONIC_LFS: return ends(op, with(op, CPU_FS, op_load_far));
	case ZYDIS_MNEMONIC_LGS: return ends(op, with(op, CPU_GS, op_load_far));
	case ZYDIS_MNEMONIC_SWAPGS: return op_swapgs;
	case ZYDIS_MNEMONIC_RDFSBASE: return with(op, CPU_FS, op_rdbase);
	case ZYDIS_MNEMONIC_RDGSBASE: return with(op, CPU_GS, op_rdbase);
	case ZYDIS_MNEMONIC_WRFSBASE: return with(op, CPU_FS, op_wrbase);
	case ZYDIS_MNEMONIC_WRGSBASE: return with(op, CPU_GS, op_wrbase);
	case ZYDIS_MNEMONIC_PUSH: return operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT) ? op_push_seg : NULL;
	case ZYDIS_MNEMONIC_POP: return operand_is(insn, 0, ZYDIS_REGCLASS_SEGMENT) ? ends(op, op_pop_seg) : NULL;
	case ZYDIS_MNEMONIC_MOV: return select_mov(insn, op);
	case ZYDIS_MNEMONIC_CLTS: return op_clts;
	case ZYDIS_MNEMONIC_LMSW: return ends(op, op_lmsw);
	case ZYDIS_MNEMONIC_SMSW: return op_smsw;
	default: return NULL;
	}
}

static op_fn *select_system(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD: case ZYDIS_MNEMONIC_PUSHFQ: return op_pushf;
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ: return ends(op, op_popf);
	case ZYDIS_MNEMONIC_CLI: return op_cli;
	case ZYDIS_MNEMONIC_STI: return ends(op, op_sti);
	case ZYDIS_MNEMONIC_STAC: return with(op, 1, op_stac);
	case ZYDIS_MNEMONIC_CLAC: return with(op, 0, op_stac);
	case ZYDIS_MNEMONIC_INVLPG: return ends(op, op_invlpg);
	case ZYDIS_MNEMONIC_INVPCID: return ends(op, op_invpcid);
	case ZYDIS_MNEMONIC_INVD: case ZYDIS_MNEMONIC_WBINVD: return op_supervisor_nop;
	case ZYDIS_MNEMONIC_CLFLUSH: case ZYDIS_MNEMONIC_CLFLUSHOPT: case ZYDIS_MNEMONIC_CLWB: return op_clflush;
	case ZYDIS_MNEMONIC_CPUID: return op_cpuid;
	case ZYDIS_MNEMONIC_RDTSC: return with(op, 0, op_rdtsc);
	case ZYDIS_MNEMONIC_RDTSCP: return with(op, 1, op_rdtsc);
	case ZYDIS_MNEMONIC_RDPID: return op_rdpid;
	case ZYDIS_MNEMONIC_RDPMC: return op_rdpmc;
	case ZYDIS_MNEMONIC_RDMSR: return ends(op, op_rdmsr);
	case ZYDIS_MNEMONIC_WRMSR: return ends(op, op_wrmsr);
	case ZYDIS_MNEMONIC_XGETBV: return op_xgetbv;
	case ZYDIS_MNEMONIC_XSETBV: return op_xsetbv;
	case ZYDIS_MNEMONIC_RDPKRU: return ends(op, with(op, 0, op_pkru));
	case ZYDIS_MNEMONIC_WRPKRU: return ends(op, with(op, 1, op_pkru));
	case ZYDIS_MNEMONIC_HLT: return ends(op, op_hlt);
	case ZYDIS_MNEMONIC_VMCALL: case ZYDIS_MNEMONIC_VMMCALL: return ends(op, op_hypercall);
	case ZYDIS_MNEMONIC_MONITOR: case ZYDIS_MNEMONIC_MWAIT: return op_monitor;
	default: return NULL;
	}
}

static op_fn *select_nothing(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_RSM:
		return ends(op, op_undefined);
	case ZYDIS_MNEMONIC_NOP: case ZYDIS_MNEMONIC_PAUSE: case ZYDIS_MNEMONIC_LFENCE: case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_ENDBR32: case ZYDIS_MNEMONIC_ENDBR64: case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHNTA: case ZYDIS_MNEMONIC_PREFETCHT0: case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2: case ZYDIS_MNEMONIC_PREFETCHW: case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_RDSSPD: case ZYDIS_MNEMONIC_RDSSPQ:
		return op_nop;
	default:
		break;
	}
	switch (insn->z->meta.isa_set) {
	case ZYDIS_ISA_SET_VTX: case ZYDIS_ISA_SET_SVM: case ZYDIS_ISA_SET_SMX: case ZYDIS_ISA_SET_RTM:
		return ends(op, op_undefined); /* CPUID says that they are not there */
	default:
		return NULL;
	}
}

static void op_mfence(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

op_fn *sys_select(const struct insn *insn, struct op *op)
{
	op_fn *fn = jump_select(insn, op);

	if (fn == NULL)
		fn = io_select(insn, op);
	if (fn == NULL)
		fn = select_table(insn, op);
	if (fn == NULL)
		fn = select_system(insn, op);
	if (fn == NULL && insn->z->mnemonic == ZYDIS_MNEMONIC_MFENCE)
		fn = op_mfence;
	if (fn == NULL)
		fn = select_nothing(insn, op);
	return fn;
}
