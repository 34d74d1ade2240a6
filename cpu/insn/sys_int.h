/* SPDX-License-Identifier: MIT */
/*
 * What the files of system instructions share (sys*.c, jump.c, io.c): how most handlers begin and end, 16-bit
 * operands, and selection.
 */
#ifndef CPU_INSN_SYS_INT_H
#define CPU_INSN_SYS_INT_H

#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/system/svm.h"

/** The selectors behind sys_select, one for each file. */
op_fn *jump_select(const struct insn *insn, struct op *op);
op_fn *io_select(const struct insn *insn, struct op *op);
op_fn *sys_control_select(const struct insn *insn, struct op *op);
op_fn *sys_descriptor_select(const struct insn *insn, struct op *op);
op_fn *sys_segment_select(const struct insn *insn, struct op *op);
op_fn *sys_info_select(const struct insn *insn, struct op *op);
op_fn *sys_svm_select(const struct insn *insn, struct op *op);

/* RIP behind the instruction. */
static inline uint64_t rip_behind(const struct cpu *cpu, const struct op *op)
{
	return (op->rip + op->len) & cpu->lin_mask;
}

/*
 * The instruction is complete: RIP moves behind it. For handlers that end their block, because they change what the
 * following bytes mean or where they are.
 */
static inline void done(struct cpu *cpu, const struct op *op)
{
	cpu->s.rip = rip_behind(cpu, op);
}

/* The same, and leave if interrupts or stepping have become possible. */
static inline void done_look(struct cpu *cpu, const struct op *op)
{
	done(cpu, op);
	if (unlikely(cpu_needs_look(cpu)))
		cpu_leave(cpu, LEAVE_DONE);
}

static inline void need_supervisor(struct cpu *cpu)
{
	if (cpu->cpl != 0)
		cpu_gp(cpu);
}

static inline void need_protected(struct cpu *cpu)
{
	if (!(cpu->mode & MODE_PROT))
		cpu_ud(cpu);
}

static inline void need_umip(struct cpu *cpu)
{
	if ((cpu->s.cr4 & CR4_UMIP) && cpu->cpl == 3)
		cpu_gp(cpu);
}

/* Read a 16-bit register or memory operand 0 or 1. */
static inline uint16_t operand16(struct cpu *cpu, const struct op *op, unsigned i)
{
	if (op->mem == i)
		return (uint16_t)mem_read(cpu, op_linear(cpu, op, 2, false), 2);
	return (uint16_t)reg_read(cpu, op->reg[i], 2);
}

/* The checks of a 16-bit operand's segment, where they come before something else that may happen. */
static inline void operand16_check(struct cpu *cpu, const struct op *op, bool write)
{
	if (op->mem == 0)
		(void)op_linear(cpu, op, 2, write);
}

/* A selector or machine status word: 16 bits to memory, zero-extended to a register. */
static inline void store16(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->mem == 0)
		mem_write(cpu, op_linear(cpu, op, 2, true), 2, value);
	else if (op->size == 2)
		reg_write(cpu, op->reg[0], 2, value);
	else
		reg_write(cpu, op->reg[0], 8, value);
}

static inline bool operand_is(const struct insn *insn, unsigned i, ZydisRegisterClass class)
{
	return insn->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(insn->o[i].reg.value) == class;
}

static inline op_fn *ends(struct op *op, op_fn *fn)
{
	op->flags |= OPF_END;
	return fn;
}

static inline op_fn *with(struct op *op, unsigned sub, op_fn *fn)
{
	op->sub = (uint8_t)sub;
	return fn;
}

#endif
