/* SPDX-License-Identifier: MIT */
/* MUL IMUL DIV IDIV, and the decimal adjustments of 16- and 32-bit code. */
#include "cpu/insn/insn.h"

/* ---- multiplication ------------------------------------------------------------------------------------ */

/* rDX:rAX (AX for bytes) = rAX * b. CF and OF are set when the upper half is more than an extension of the lower. */
INLINE void multiply(struct cpu *cpu, unsigned size, bool is_signed, uint64_t b)
{
	uint64_t a = reg_read(cpu, OPR(CPU_RAX), size), low, high;
	bool over;

	if (size == 8) {
		unsigned __int128 p;

		if (is_signed)
			p = (unsigned __int128)((__int128)(int64_t)a * (int64_t)b);
		else
			p = (unsigned __int128)a * b;
		low = (uint64_t)p;
		high = (uint64_t)(p >> 64);
	} else {
		low = is_signed ? flags_extend(a, size) * flags_extend(b, size) : a * b;
		high = low >> (8 * size) & size_mask(size);
	}
	over = high != (is_signed ? (0 - size_msb(low, size)) & size_mask(size) : 0);
	if (size == 1) {
		reg_write(cpu, OPR(CPU_RAX), 2, low);
	} else {
		reg_write(cpu, OPR(CPU_RAX), size, low);
		reg_write(cpu, OPR(CPU_RDX), size, high);
	}
	flags_result(cpu, low, size, over, over);
}

/* With two and three operands the product is truncated. */
INLINE void multiply_reg(struct cpu *cpu, const struct op *op, unsigned size, uint64_t a, uint64_t b)
{
	int64_t res;
	bool over = __builtin_mul_overflow((int64_t)flags_extend(a, size), (int64_t)flags_extend(b, size), &res);

	over |= flags_extend((uint64_t)res, size) != (uint64_t)res;
	reg_write(cpu, op->reg[0], size, (uint64_t)res);
	flags_result(cpu, (uint64_t)res, size, over, over);
}

/* ---- division ------------------------------------------------------------------------------------------ */

/* All checks come before the first write. */
INLINE void divide(struct cpu *cpu, unsigned size, bool is_signed, uint64_t b)
{
	uint64_t low = reg_read(cpu, OPR(CPU_RAX), size == 1 ? 2 : size), q, r;

	if (b == 0)
		cpu_raise(cpu, VECTOR_DE);
	if (size == 8) {
		unsigned __int128 n = (unsigned __int128)cpu->s.gpr[CPU_RDX] << 64 | low;

		if (is_signed) {
			bool n_negative = cpu->s.gpr[CPU_RDX] >> 63, b_negative = b >> 63;
			unsigned __int128 un = n_negative ? -n : n, uq;
			uint64_t ub = b_negative ? 0 - b : b;

			if ((uint64_t)(un >> 64) >= ub) /* after this check the division below is one instruction */
				cpu_raise(cpu, VECTOR_DE);
			uq = un / ub;
			if (uq > (UINT64_C(1) << 63) - (n_negative == b_negative))
				cpu_raise(cpu, VECTOR_DE);
			q = n_negative == b_negative ? (uint64_t)uq : 0 - (uint64_t)uq;
			r = (uint64_t)(un % ub);
			r = n_negative ? 0 - r : r;
		} else {
			if (cpu->s.gpr[CPU_RDX] >= b)
				cpu_raise(cpu, VECTOR_DE);
			q = (uint64_t)(n / b);
			r = (uint64_t)(n % b);
		}
	} else {
		uint64_t n = size == 1 ? low : low | reg_read(cpu, OPR(CPU_RDX), size) << (8 * size);

		if (is_signed) {
			int64_t sn = (int64_t)flags_extend(n, 2 * size), sb = (int64_t)flags_extend(b, size);

			if (sn == INT64_MIN && sb == -1)
				cpu_raise(cpu, VECTOR_DE);
			q = (uint64_t)(sn / sb);
			r = (uint64_t)(sn % sb);
			if (flags_extend(q, size) != q)
				cpu_raise(cpu, VECTOR_DE);
		} else {
			q = n / b;
			r = n % b;
			if (q >> (8 * size))
				cpu_raise(cpu, VECTOR_DE);
		}
	}
	if (size == 1) {
		reg_write(cpu, OPR(CPU_RAX), 2, (q & 0xff) | (r & 0xff) << 8);
	} else {
		reg_write(cpu, OPR(CPU_RAX), size, q);
		reg_write(cpu, OPR(CPU_RDX), size, r);
	}
}

#define MULDIV_SIZE(size)                                                                                     \
	static void mul##size##_r(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		multiply(cpu, size, false, operand_read(cpu, op, 0, size));                                   \
	}                                                                                                     \
	static void mul##size##_m(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		multiply(cpu, size, false, operand_load(cpu, op, size));                                      \
	}                                                                                                     \
	static void imul##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		multiply(cpu, size, true, operand_read(cpu, op, 0, size));                                    \
	}                                                                                                     \
	static void imul##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		multiply(cpu, size, true, operand_load(cpu, op, size));                                       \
	}                                                                                                     \
	static void div##size##_r(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		divide(cpu, size, false, operand_read(cpu, op, 0, size));                                     \
	}                                                                                                     \
	static void div##size##_m(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		divide(cpu, size, false, operand_load(cpu, op, size));                                        \
	}                                                                                                     \
	static void idiv##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		divide(cpu, size, true, operand_read(cpu, op, 0, size));                                      \
	}                                                                                                     \
	static void idiv##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		divide(cpu, size, true, operand_load(cpu, op, size));                                         \
	}
MULDIV_SIZE(1)
MULDIV_SIZE(2)
MULDIV_SIZE(4)
MULDIV_SIZE(8)

#define IMUL_SIZE(size)                                                                                       \
	static void imul2##size##_r(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		multiply_reg(cpu, op, size, operand_read(cpu, op, 0, size), operand_read(cpu, op, 1, size));  \
	}                                                                                                     \
	static void imul2##size##_m(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		multiply_reg(cpu, op, size, operand_read(cpu, op, 0, size), operand_load(cpu, op, size));     \
	}                                                                                                     \
	static void imul3##size##_r(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		multiply_reg(cpu, op, size, operand_read(cpu, op, 1, size), (uint64_t)op->imm);               \
	}                                                                                                     \
	static void imul3##size##_m(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		multiply_reg(cpu, op, size, operand_load(cpu, op, size), (uint64_t)op->imm);                  \
	}
IMUL_SIZE(2)
IMUL_SIZE(4)
IMUL_SIZE(8)

static op_fn *const mul_forms[2][4] = { BY_SIZE(mul, _r), BY_SIZE(mul, _m) };
static op_fn *const imul_forms[2][4] = { BY_SIZE(imul, _r), BY_SIZE(imul, _m) };
static op_fn *const div_forms[2][4] = { BY_SIZE(div, _r), BY_SIZE(div, _m) };
static op_fn *const idiv_forms[2][4] = { BY_SIZE(idiv, _r), BY_SIZE(idiv, _m) };
static op_fn *const imul2_forms[2][4] = { BY_SIZE_WIDE(imul2, _r), BY_SIZE_WIDE(imul2, _m) };
static op_fn *const imul3_forms[2][4] = { BY_SIZE_WIDE(imul3, _r), BY_SIZE_WIDE(imul3, _m) };

/* ---- decimal ------------------------------------------------------------------------------------------- */

/* SF ZF PF from the new AL, OF clear. */
static void decimal_flags(struct cpu *cpu, uint64_t al, bool cf, bool af)
{
	cpu->fl_res = flags_extend(al, 1);
	cpu->fl_aux = (cf ? UINT64_C(3) << 62 : 0) | (uint64_t)af << 3;
}

static void decimal_adjust(struct cpu *cpu, bool subtract)
{
	uint8_t al = (uint8_t)cpu->s.gpr[CPU_RAX], old = al;
	bool cf = flag_cf(cpu), af = (al & 0xf) > 9 || flag_af(cpu), high = old > 0x99 || cf;

	/* The borrow of DAS's first step counts. DAA has a carry there only if the second step sets it anyway. */
	if (af) {
		cf |= subtract ? al < 6 : al > 0xf9;
		al = (uint8_t)(subtract ? al - 6 : al + 6);
	}
	if (high)
		al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
	cf = high || cf;
	reg_write(cpu, OPR(CPU_RAX), 1, al);
	decimal_flags(cpu, al, cf, af);
}

static void daa(struct cpu *cpu, const struct op *op)
{
	(void)op;
	decimal_adjust(cpu, false);
}

static void das(struct cpu *cpu, const struct op *op)
{
	(void)op;
	decimal_adjust(cpu, true);
}

static void ascii_adjust(struct cpu *cpu, int by)
{
	uint64_t ax = reg_read(cpu, OPR(CPU_RAX), 2);
	bool adjust = (ax & 0xf) > 9 || flag_af(cpu);

	if (adjust)
		ax += (uint64_t)(int64_t)(by * 0x106);
	ax &= 0xff0f;
	reg_write(cpu, OPR(CPU_RAX), 2, ax);
	decimal_flags(cpu, ax & 0xff, adjust, adjust);
}

static void aaa(struct cpu *cpu, const struct op *op)
{
	(void)op;
	ascii_adjust(cpu, 1);
}

static void aas(struct cpu *cpu, const struct op *op)
{
	(void)op;
	ascii_adjust(cpu, -1);
}

static void aam(struct cpu *cpu, const struct op *op)
{
	unsigned base = (uint8_t)op->imm, al = (uint8_t)cpu->s.gpr[CPU_RAX];

	if (base == 0)
		cpu_raise(cpu, VECTOR_DE);
	reg_write(cpu, OPR(CPU_RAX), 2, al / base << 8 | al % base);
	decimal_flags(cpu, al % base, false, false);
}

static void aad(struct cpu *cpu, const struct op *op)
{
	unsigned base = (uint8_t)op->imm, ax = (uint16_t)cpu->s.gpr[CPU_RAX];
	unsigned al = ((ax & 0xff) + (ax >> 8) * base) & 0xff;

	reg_write(cpu, OPR(CPU_RAX), 2, al);
	decimal_flags(cpu, al, false, false);
}

static void salc(struct cpu *cpu, const struct op *op)
{
	(void)op;
	reg_write(cpu, OPR(CPU_RAX), 1, flag_cf(cpu) ? 0xff : 0);
}

op_fn *muldiv_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), memory = op->mem != OP_NO_MEM;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_MUL: return mul_forms[memory][n];
	case ZYDIS_MNEMONIC_DIV: return div_forms[memory][n];
	case ZYDIS_MNEMONIC_IDIV: return idiv_forms[memory][n];
	case ZYDIS_MNEMONIC_IMUL:
		switch (insn->z->operand_count_visible) {
		case 1: return imul_forms[memory][n];
		case 2: return imul2_forms[memory][n];
		default: return imul3_forms[memory][n];
		}
	case ZYDIS_MNEMONIC_DAA: return daa;
	case ZYDIS_MNEMONIC_DAS: return das;
	case ZYDIS_MNEMONIC_AAA: return aaa;
	case ZYDIS_MNEMONIC_AAS: return aas;
	case ZYDIS_MNEMONIC_SALC: return salc;
	case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_AAD:
		op->imm = (int64_t)(insn->o[0].imm.value.u & 0xff);
		return insn->z->mnemonic == ZYDIS_MNEMONIC_AAM ? aam : aad;
	default: return NULL;
	}
}
