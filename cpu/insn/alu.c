/* SPDX-License-Identifier: MIT */
/* ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT: with and without LOCK. */
#include "cpu/insn/insn.h"

enum alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };

/* Returns: the result. Sets the flags when `flags`. `carry` is CF before the instruction. */
INLINE uint64_t alu(struct cpu *cpu, enum alu k, uint64_t a, uint64_t b, unsigned size, uint64_t carry, bool flags)
{
	uint64_t res;

	switch (k) {
	case ALU_ADD:
		res = a + b;
		if (flags)
			flags_add(cpu, a, b, res, size);
		return res;
	case ALU_ADC:
		res = a + b + carry;
		if (flags)
			flags_add(cpu, a, b, res, size);
		return res;
	case ALU_SUB:
	case ALU_CMP:
		res = a - b;
		if (flags)
			flags_sub(cpu, a, b, res, size);
		return res;
	case ALU_SBB:
		res = a - b - carry;
		if (flags)
			flags_sub(cpu, a, b, res, size);
		return res;
	case ALU_OR:
		res = a | b;
		break;
	case ALU_XOR:
		res = a ^ b;
		break;
	default:
		res = a & b;
		break;
	}
	if (flags)
		flags_logic(cpu, res, size);
	return res;
}

INLINE bool alu_writes(enum alu k)
{
	return k != ALU_CMP && k != ALU_TEST;
}

INLINE uint64_t alu_carry(const struct cpu *cpu, enum alu k)
{
	return k == ALU_ADC || k == ALU_SBB ? flag_cf(cpu) : 0;
}

/* The destination is a register. */
INLINE void alu_reg(struct cpu *cpu, const struct op *op, enum alu k, unsigned size, uint64_t b)
{
	uint64_t res = alu(cpu, k, operand_read(cpu, op, 0, size), b, size, alu_carry(cpu, k), true);

	if (alu_writes(k))
		reg_write(cpu, op->reg[0], size, res);
}

/* The destination is in memory. */
INLINE void alu_mem(struct cpu *cpu, const struct op *op, enum alu k, unsigned size, uint64_t b)
{
	struct mem_rmw m;

	if (!alu_writes(k)) {
		alu(cpu, k, operand_load(cpu, op, size), b, size, 0, true);
		return;
	}
	mem_rmw_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	host_store(m.host, size,
		   alu(cpu, k, host_load(m.host, size), b, size, alu_carry(cpu, k), true));
	mem_rmw_end(cpu, &m);
}

INLINE void alu_lock(struct cpu *cpu, const struct op *op, enum alu k, unsigned size, uint64_t b)
{
	uint64_t a, seen, carry = alu_carry(cpu, k);
	struct mem_rmw m;

	mem_lock_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	if (k == ALU_ADD) {
		a = atomic_add_sized(m.host, size, b);
	} else if (k == ALU_SUB) {
		a = atomic_add_sized(m.host, size, 0 - b);
	} else {
		for (a = host_load(m.host, size);; a = seen) {
			seen = atomic_cas_sized(m.host, size, a, alu(cpu, k, a, b, size, carry, false));
			if (seen == a)
				break;
		}
	}
	alu(cpu, k, a, b, size, carry, true);
	mem_lock_end(cpu, &m);
}

/* Seven forms of one operation at one size. */
#define ALU_INSTANCES(name, k, size)                                                                          \
	static void name##size##_rr(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		alu_reg(cpu, op, k, size, operand_read(cpu, op, 1, size));                                    \
	}                                                                                                     \
	static void name##size##_ri(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		alu_reg(cpu, op, k, size, (uint64_t)op->imm & size_mask(size));                               \
	}                                                                                                     \
	static void name##size##_rm(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		alu_reg(cpu, op, k, size, operand_load(cpu, op, size));                                       \
	}                                                                                                     \
	static void name##size##_mr(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		alu_mem(cpu, op, k, size, operand_read(cpu, op, 1, size));                                    \
	}                                                                                                     \
	static void name##size##_mi(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		alu_mem(cpu, op, k, size, (uint64_t)op->imm & size_mask(size));                               \
	}                                                                                                     \
	static void name##size##_lmr(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		alu_lock(cpu, op, k, size, operand_read(cpu, op, 1, size));                                   \
	}                                                                                                     \
	static void name##size##_lmi(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		alu_lock(cpu, op, k, size, (uint64_t)op->imm & size_mask(size));                              \
	}

#define ALU_ALL(name, k)                                                                                      \
	ALU_INSTANCES(name, k, 1)                                                                             \
	ALU_INSTANCES(name, k, 2)                                                                             \
	ALU_INSTANCES(name, k, 4)                                                                             \
	ALU_INSTANCES(name, k, 8)                                                                             \
	static op_fn *const name##_forms[FORM_COUNT][4] = {                                                   \
		[FORM_RR] = BY_SIZE(name, _rr),	  [FORM_RI] = BY_SIZE(name, _ri),                             \
		[FORM_RM] = BY_SIZE(name, _rm),	  [FORM_MR] = BY_SIZE(name, _mr),                             \
		[FORM_MI] = BY_SIZE(name, _mi),	  [FORM_LMR] = BY_SIZE(name, _lmr),                           \
		[FORM_LMI] = BY_SIZE(name, _lmi),                                                             \
	};

ALU_ALL(add, ALU_ADD)
ALU_ALL(or, ALU_OR)
ALU_ALL(adc, ALU_ADC)
ALU_ALL(sbb, ALU_SBB)
ALU_ALL(and, ALU_AND)
ALU_ALL(sub, ALU_SUB)
ALU_ALL(xor, ALU_XOR)
ALU_ALL(cmp, ALU_CMP)
ALU_ALL(test, ALU_TEST)

/* ---- one operand -------------------------------------------------------------------------------------- */

enum unary { UNARY_INC, UNARY_DEC, UNARY_NEG, UNARY_NOT };

INLINE uint64_t unary_result(enum unary k, uint64_t a)
{
	switch (k) {
	case UNARY_INC:
		return a + 1;
	case UNARY_DEC:
		return a - 1;
	case UNARY_NEG:
		return 0 - a;
	default:
		return ~a;
	}
}

INLINE void unary_flags(struct cpu *cpu, enum unary k, uint64_t a, unsigned size)
{
	if (k == UNARY_INC)
		flags_inc(cpu, a, a + 1, size);
	else if (k == UNARY_DEC)
		flags_dec(cpu, a, a - 1, size);
	else if (k == UNARY_NEG)
		flags_sub(cpu, 0, a, 0 - a, size);
}

INLINE void unary_reg(struct cpu *cpu, const struct op *op, enum unary k, unsigned size)
{
	uint64_t a = operand_read(cpu, op, 0, size);

	reg_write(cpu, op->reg[0], size, unary_result(k, a));
	unary_flags(cpu, k, a, size);
}

INLINE void unary_mem(struct cpu *cpu, const struct op *op, enum unary k, unsigned size)
{
	struct mem_rmw m;
	uint64_t a;

	mem_rmw_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	a = host_load(m.host, size);
	host_store(m.host, size, unary_result(k, a));
	unary_flags(cpu, k, a, size);
	mem_rmw_end(cpu, &m);
}

INLINE void unary_lock(struct cpu *cpu, const struct op *op, enum unary k, unsigned size)
{
	struct mem_rmw m;
	uint64_t a, seen;

	mem_lock_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	if (k == UNARY_INC || k == UNARY_DEC) {
		a = atomic_add_sized(m.host, size, k == UNARY_INC ? 1 : ~UINT64_C(0));
	} else {
		for (a = host_load(m.host, size);; a = seen) {
			seen = atomic_cas_sized(m.host, size, a, unary_result(k, a));
			if (seen == a)
				break;
		}
	}
	unary_flags(cpu, k, a, size);
	mem_lock_end(cpu, &m);
}

#define UNARY_INSTANCES(name, k, size)                                                                        \
	static void name##size##_r(struct cpu *cpu, const struct op *op) { unary_reg(cpu, op, k, size); }     \
	static void name##size##_m(struct cpu *cpu, const struct op *op) { unary_mem(cpu, op, k, size); }     \
	static void name##size##_l(struct cpu *cpu, const struct op *op) { unary_lock(cpu, op, k, size); }

#define UNARY_ALL(name, k)                                                                                    \
	UNARY_INSTANCES(name, k, 1)                                                                           \
	UNARY_INSTANCES(name, k, 2)                                                                           \
	UNARY_INSTANCES(name, k, 4)                                                                           \
	UNARY_INSTANCES(name, k, 8)                                                                           \
	static op_fn *const name##_forms[3][4] = { BY_SIZE(name, _r), BY_SIZE(name, _m), BY_SIZE(name, _l) };

UNARY_ALL(inc, UNARY_INC)
UNARY_ALL(dec, UNARY_DEC)
UNARY_ALL(neg, UNARY_NEG)
UNARY_ALL(not, UNARY_NOT)

op_fn *alu_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), unary = op->mem == OP_NO_MEM ? 0 : op->flags & OPF_LOCK ? 2 : 1;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_INC: return inc_forms[unary][n];
	case ZYDIS_MNEMONIC_DEC: return dec_forms[unary][n];
	case ZYDIS_MNEMONIC_NEG: return neg_forms[unary][n];
	case ZYDIS_MNEMONIC_NOT: return not_forms[unary][n];
	case ZYDIS_MNEMONIC_ADD: return add_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_OR: return or_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_ADC: return adc_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_SBB: return sbb_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_AND: return and_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_SUB: return sub_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_XOR: return xor_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_CMP: return cmp_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_TEST: return test_forms[form_of(insn, op)][n];
	default: return NULL;
	}
}
