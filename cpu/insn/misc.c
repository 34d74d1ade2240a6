/* SPDX-License-Identifier: MIT */
/* Single flags, XLAT, BOUND, ARPL, fences, and instructions that do nothing. The order in which selectors are asked. */
#include "cpu/insn/insn.h"

static void nop(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
}

static void pause_hint(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
	__builtin_ia32_pause();
}

/* Guest accesses are plain host accesses, so a host fence orders them. */
static void fence(struct cpu *cpu, const struct op *op)
{
	(void)cpu;
	(void)op;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void undefined(struct cpu *cpu, const struct op *op)
{
	(void)op;
	cpu_ud(cpu);
}

/* Faults like a read; there is no cache to flush. */
static void clflush(struct cpu *cpu, const struct op *op)
{
	operand_load(cpu, op, 1);
}

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

/* Raise the destination selector's RPL to the source's. Memory is written only when it changes. */
static void arpl(struct cpu *cpu, const struct op *op)
{
	uint64_t source = operand_read(cpu, op, 1, 2), a;
	bool raise;

	if (!(cpu->mode & MODE_PROT))
		cpu_ud(cpu);
	a = op->mem == 0 ? operand_load(cpu, op, 2) : operand_read(cpu, op, 0, 2);
	raise = (a & 3) < (source & 3);
	a = (a & ~UINT64_C(3)) | (source & 3);
	if (raise && op->mem == 0)
		operand_store(cpu, op, 2, a);
	else if (raise)
		reg_write(cpu, op->reg[0], 2, a);
	flags_update(cpu, RFLAGS_ZF, raise ? RFLAGS_ZF : 0);
}

op_fn *misc_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2: return nop;
	case ZYDIS_MNEMONIC_PAUSE: return pause_hint;
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_SFENCE: return fence;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2: return undefined;
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB: return clflush;
	case ZYDIS_MNEMONIC_CLC: return clc;
	case ZYDIS_MNEMONIC_STC: return stc;
	case ZYDIS_MNEMONIC_CMC: return cmc;
	case ZYDIS_MNEMONIC_CLD: return cld;
	case ZYDIS_MNEMONIC_STD: return std_;
	case ZYDIS_MNEMONIC_LAHF: return lahf;
	case ZYDIS_MNEMONIC_SAHF: return sahf;
	case ZYDIS_MNEMONIC_XLAT: return xlat;
	case ZYDIS_MNEMONIC_BOUND: return op->size == 2 ? bound2 : bound4;
	case ZYDIS_MNEMONIC_ARPL: return arpl;
	default: return NULL;
	}
}

op_fn *insn_int_select(const struct insn *insn, struct op *op)
{
	static op_fn *(*const select[])(const struct insn *insn, struct op *op) = {
		move_select, alu_select, stack_select, shift_select, bit_select, exchange_select, muldiv_select,
		string_select, misc_select,
	};
	op_fn *fn = NULL;

	for (unsigned i = 0; fn == NULL && i < sizeof(select) / sizeof(select[0]); i++)
		fn = select[i](insn, op);
	return fn;
}
