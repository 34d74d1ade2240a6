/* SPDX-License-Identifier: MIT */
/* Single flags, XLAT, BOUND. The order in which the selectors of general instructions are asked. */
#include "cpu/insn/insn.h"

/* ---- flags ------------------------------------------------------------------------------------------------- */

static void clc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	flags_set_cf(cpu, false);
}

static void stc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	flags_set_cf(cpu, true);
}

static void cmc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	flags_set_cf(cpu, !flag_cf(cpu));
}

static void cld(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu->s.rflags &= ~RFLAGS_DF;
}

static void std_(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu->s.rflags |= RFLAGS_DF;
}

static void lahf(struct cpu *cpu, const struct op *op)
{
	(void)op;
	reg_write(cpu, OPR_AH(CPU_RAX), 1, flags_get(cpu) | RFLAGS_FIXED1);
}

static void sahf(struct cpu *cpu, const struct op *op)
{
	(void)op;
	flags_update(cpu, 0xff, reg_read(cpu, OPR_AH(CPU_RAX), 1));
}

/* ---- the rest ---------------------------------------------------------------------------------------------- */

static void xlat(struct cpu *cpu, const struct op *op)
{
	uint64_t ea = cpu->s.gpr[CPU_RBX] + (uint8_t)cpu->s.gpr[CPU_RAX];

	if (op->asize != 8)
		ea &= op->asize == 4 ? 0xffffffffu : 0xffffu;
	reg_write(cpu, OPR(CPU_RAX), 1, mem_read(cpu, seg_linear(cpu, op->seg, ea, 1, false), 1));
}

INLINE void bound(struct cpu *cpu, const struct op *op, unsigned size)
{
	int64_t v = (int64_t)flags_extend(operand_read(cpu, op, 0, size), size), low, high;

	low = (int64_t)flags_extend(mem_read(cpu, op_linear_at(cpu, op, 0, size, false), size), size);
	high = (int64_t)flags_extend(mem_read(cpu, op_linear_at(cpu, op, size, size, false), size), size);
	if (v < low || v > high)
		cpu_raise(cpu, VECTOR_BR);
}

static void bound2(struct cpu *cpu, const struct op *op) { bound(cpu, op, 2); }
static void bound4(struct cpu *cpu, const struct op *op) { bound(cpu, op, 4); }

op_fn *misc_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_CLC: return clc;
	case ZYDIS_MNEMONIC_STC: return stc;
	case ZYDIS_MNEMONIC_CMC: return cmc;
	case ZYDIS_MNEMONIC_CLD: return cld;
	case ZYDIS_MNEMONIC_STD: return std_;
	case ZYDIS_MNEMONIC_LAHF: return lahf;
	case ZYDIS_MNEMONIC_SAHF: return sahf;
	case ZYDIS_MNEMONIC_XLAT: return xlat;
	case ZYDIS_MNEMONIC_BOUND: return op->size == 2 ? bound2 : bound4;
	default: return NULL;
	}
}

op_fn *insn_int_select(const struct insn *insn, struct op *op)
{
	static op_fn *(*const select[])(const struct insn *insn, struct op *op) = {
		move_select, alu_select, stack_select, shift_select, bit_select, exchange_select, muldiv_select,
		string_select, misc_select, bmi_select, borrow_select, line_select,
	};
	op_fn *fn = NULL;

	for (unsigned i = 0; fn == NULL && i < sizeof(select) / sizeof(select[0]); i++)
		fn = select[i](insn, op);
	return fn;
}
