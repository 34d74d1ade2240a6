/* SPDX-License-Identifier: MIT */
/*
 * SHL SHR SAR ROL ROR RCL RCR SHLD SHRD.
 *
 * The count is masked to 5 bits, or 6 for 64-bit operands. A masked count of 0 changes nothing, except that it
 * clears the upper half of a 32-bit destination register. Flags that the manuals leave undefined get the value of
 * the formula for a count of 1.
 */
#include "cpu/insn/insn.h"

enum shift { SHIFT_SHL, SHIFT_SHR, SHIFT_SAR, SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR };

/* Returns: the result. Sets the flags. `count` is masked and not 0. */
INLINE uint64_t shift(struct cpu *cpu, enum shift k, uint64_t a, unsigned count, unsigned size)
{
	const unsigned bits = size * 8;
	uint64_t res, carry;
	bool cf;

	switch (k) {
	case SHIFT_SHL:
		res = a << count;
		cf = (size == 8 ? a >> (64 - count) : res >> bits) & 1;
		flags_result(cpu, res, size, cf, size_msb(res, size) ^ cf);
		return res;
	case SHIFT_SHR:
		res = a >> count;
		flags_result(cpu, res, size, (a >> (count - 1)) & 1, size_msb(a, size));
		return res;
	case SHIFT_SAR:
		a = flags_extend(a, size);
		res = (uint64_t)((int64_t)a >> count);
		flags_result(cpu, res, size, (uint64_t)((int64_t)a >> (count - 1)) & 1, false);
		return res;
	case SHIFT_ROL:
		count %= bits;
		res = count ? a << count | a >> (bits - count) : a;
		flags_set_cf_of(cpu, res & 1, size_msb(res, size) ^ (res & 1));
		return res;
	case SHIFT_ROR:
		count %= bits;
		res = count ? a >> count | a << (bits - count) : a;
		flags_set_cf_of(cpu, size_msb(res, size), size_msb(res, size) ^ (res >> (bits - 2) & 1));
		return res;
	case SHIFT_RCL:
		count %= bits + 1;
		if (count == 0)
			return a;
		carry = flag_cf(cpu);
		res = (count == 64 ? 0 : a << count) | carry << (count - 1);
		if (count > 1)
			res |= a >> (bits + 1 - count);
		cf = a >> (bits - count) & 1;
		flags_set_cf_of(cpu, cf, size_msb(res, size) ^ cf);
		return res;
	default:
		count %= bits + 1;
		if (count == 0)
			return a;
		carry = flag_cf(cpu);
		res = (count == 64 ? 0 : a >> count) | carry << (bits - count);
		if (count > 1)
			res |= a << (bits + 1 - count);
		flags_set_cf_of(cpu, a >> (count - 1) & 1, size_msb(res, size) ^ (res >> (bits - 2) & 1));
		return res;
	}
}

INLINE unsigned count_mask(unsigned size)
{
	return size == 8 ? 63 : 31;
}

INLINE void shift_reg(struct cpu *cpu, const struct op *op, enum shift k, unsigned size, unsigned count)
{
	uint64_t a = operand_read(cpu, op, 0, size);

	count &= count_mask(size);
	if (count == 0)
		reg_write(cpu, op->reg[0], size, a);
	else
		reg_write(cpu, op->reg[0], size, shift(cpu, k, a, count, size));
}

INLINE void shift_mem(struct cpu *cpu, const struct op *op, enum shift k, unsigned size, unsigned count)
{
	struct mem_rmw m;
	uint64_t a;

	count &= count_mask(size);
	mem_rmw_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	a = host_load(m.host, size); /* with a count of 0, too: the host may have no page there */
	if (count != 0)
		host_store(m.host, size, shift(cpu, k, a, count, size));
	mem_rmw_end(cpu, &m);
}

/* Forms: register or memory, count immediate or in CL. */
enum { SHIFT_RI, SHIFT_RC, SHIFT_MI, SHIFT_MC, SHIFT_FORMS };

#define SHIFT_SIZE(name, k, size)                                                                             \
	static void name##size##_ri(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		shift_reg(cpu, op, k, size, (unsigned)op->imm);                                               \
	}                                                                                                     \
	static void name##size##_rc(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		shift_reg(cpu, op, k, size, (unsigned)cpu->s.gpr[CPU_RCX]);                                   \
	}                                                                                                     \
	static void name##size##_mi(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		shift_mem(cpu, op, k, size, (unsigned)op->imm);                                               \
	}                                                                                                     \
	static void name##size##_mc(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		shift_mem(cpu, op, k, size, (unsigned)cpu->s.gpr[CPU_RCX]);                                   \
	}
#define SHIFT_ALL(name, k)                                                                                    \
	SHIFT_SIZE(name, k, 1)                                                                                \
	SHIFT_SIZE(name, k, 2)                                                                                \
	SHIFT_SIZE(name, k, 4)                                                                                \
	SHIFT_SIZE(name, k, 8)                                                                                \
	static op_fn *const name##_forms[SHIFT_FORMS][4] = {                                                  \
		BY_SIZE(name, _ri), BY_SIZE(name, _rc), BY_SIZE(name, _mi), BY_SIZE(name, _mc)                \
	};
SHIFT_ALL(shl, SHIFT_SHL)
SHIFT_ALL(shr, SHIFT_SHR)
SHIFT_ALL(sar, SHIFT_SAR)
SHIFT_ALL(rol, SHIFT_ROL)
SHIFT_ALL(ror, SHIFT_ROR)
SHIFT_ALL(rcl, SHIFT_RCL)
SHIFT_ALL(rcr, SHIFT_RCR)

/* ---- double width -------------------------------------------------------------------------------------------- */

/* Bits of b move into a. With 16-bit operands a count above 16 is undefined; here b repeats, as on most CPUs. */
INLINE uint64_t shift_double(struct cpu *cpu, bool left, uint64_t a, uint64_t b, unsigned count, unsigned size)
{
	const unsigned bits = size * 8;
	uint64_t res;
	bool cf;

	if (size == 2) {
		uint64_t wide = left ? a << 32 | b << 16 | a : a << 32 | b << 16 | a;

		if (left) {
			res = (wide << count) >> 32 & 0xffff;
			cf = (wide << (count - 1)) >> 47 & 1;
		} else {
			res = (wide >> count) & 0xffff;
			cf = (wide >> (count - 1)) & 1;
		}
	} else if (left) {
		res = a << count | b >> (bits - count);
		cf = a >> (bits - count) & 1;
	} else {
		res = a >> count | b << (bits - count);
		cf = a >> (count - 1) & 1;
	}
	res &= size_mask(size);
	flags_result(cpu, res, size, cf, size_msb(res, size) ^ size_msb(a, size));
	return res;
}

INLINE void double_reg(struct cpu *cpu, const struct op *op, bool left, unsigned size, unsigned count)
{
	uint64_t a = operand_read(cpu, op, 0, size);

	count &= count_mask(size);
	if (count != 0)
		a = shift_double(cpu, left, a, operand_read(cpu, op, 1, size), count, size);
	reg_write(cpu, op->reg[0], size, a);
}

INLINE void double_mem(struct cpu *cpu, const struct op *op, bool left, unsigned size, unsigned count)
{
	struct mem_rmw m;
	uint64_t a;

	count &= count_mask(size);
	mem_rmw_begin(cpu, op_linear(cpu, op, size, true), size, &m);
	a = host_load(m.host, size);
	if (count != 0)
		host_store(m.host, size, shift_double(cpu, left, a, operand_read(cpu, op, 1, size), count, size));
	mem_rmw_end(cpu, &m);
}

#define DOUBLE_SIZE(name, left, size)                                                                         \
	static void name##size##_ri(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		double_reg(cpu, op, left, size, (unsigned)op->imm);                                           \
	}                                                                                                     \
	static void name##size##_rc(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		double_reg(cpu, op, left, size, (unsigned)cpu->s.gpr[CPU_RCX]);                               \
	}                                                                                                     \
	static void name##size##_mi(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		double_mem(cpu, op, left, size, (unsigned)op->imm);                                           \
	}                                                                                                     \
	static void name##size##_mc(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		double_mem(cpu, op, left, size, (unsigned)cpu->s.gpr[CPU_RCX]);                               \
	}
#define DOUBLE_ALL(name, left)                                                                                \
	DOUBLE_SIZE(name, left, 2)                                                                            \
	DOUBLE_SIZE(name, left, 4)                                                                            \
	DOUBLE_SIZE(name, left, 8)                                                                            \
	static op_fn *const name##_forms[SHIFT_FORMS][4] = { BY_SIZE_WIDE(name, _ri), BY_SIZE_WIDE(name, _rc), \
							     BY_SIZE_WIDE(name, _mi), BY_SIZE_WIDE(name, _mc) };
DOUBLE_ALL(shld, true)
DOUBLE_ALL(shrd, false)

op_fn *shift_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), last = insn->z->mnemonic == ZYDIS_MNEMONIC_SHLD ||
						  insn->z->mnemonic == ZYDIS_MNEMONIC_SHRD ? 2 : 1;
	unsigned form = (op->mem == 0 ? SHIFT_MI : SHIFT_RI) +
			(insn->o[last].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? 0 : 1);
	op_fn *fn;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_SHL: fn = shl_forms[form][n]; break;
	case ZYDIS_MNEMONIC_SHR: fn = shr_forms[form][n]; break;
	case ZYDIS_MNEMONIC_SAR: fn = sar_forms[form][n]; break;
	case ZYDIS_MNEMONIC_ROL: fn = rol_forms[form][n]; break;
	case ZYDIS_MNEMONIC_ROR: fn = ror_forms[form][n]; break;
	case ZYDIS_MNEMONIC_RCL: fn = rcl_forms[form][n]; break;
	case ZYDIS_MNEMONIC_RCR: fn = rcr_forms[form][n]; break;
	case ZYDIS_MNEMONIC_SHLD: fn = shld_forms[form][n]; break;
	case ZYDIS_MNEMONIC_SHRD: fn = shrd_forms[form][n]; break;
	default: return NULL;
	}
	if (insn->o[last].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		op->imm = (int64_t)(insn->o[last].imm.value.u & count_mask(op->size)); /* also for the implied 1 */
	return fn;
}
