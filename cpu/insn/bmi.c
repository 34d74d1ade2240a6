/* SPDX-License-Identifier: MIT */
/*
 * BMI1 and BMI2 but TZCNT, and ADX. Flags that the manuals leave undefined are as AMD's processors leave them: PF of
 * the result, AF clear.
 */
#include "cpu/insn/insn.h"

/* ---- one result and its flags -------------------------------------------------------------------------- */

enum bmi { BMI_ANDN, BMI_BEXTR, BMI_BLSI, BMI_BLSMSK, BMI_BLSR, BMI_BZHI };

INLINE uint64_t low_bits(uint64_t v, unsigned count)
{
	return count < 64 ? v & ((UINT64_C(1) << count) - 1) : v;
}

/* `a`: the operand that may be in memory; `b`: the other one. *carry: CF after it. */
INLINE uint64_t bmi_result(enum bmi k, unsigned size, uint64_t a, uint64_t b, bool *carry)
{
	unsigned start = (uint8_t)b, count = (uint8_t)(b >> 8);

	*carry = false;
	switch (k) {
	case BMI_ANDN:
		return ~b & a;
	case BMI_BEXTR:
		return low_bits(start < 64 ? a >> start : 0, count);
	case BMI_BLSI:
		*carry = a != 0;
		return (0 - a) & a;
	case BMI_BLSMSK:
		*carry = a == 0;
		return (a - 1) ^ a;
	case BMI_BLSR:
		*carry = a == 0;
		return (a - 1) & a;
	default:
		*carry = start >= 8 * size;
		return low_bits(a, start);
	}
}

INLINE void bmi(struct cpu *cpu, const struct op *op, enum bmi k, unsigned size, uint64_t a, uint64_t b)
{
	bool carry;
	uint64_t res = bmi_result(k, size, a, b, &carry);

	reg_write(cpu, op->reg[0], size, res);
	flags_result(cpu, res, size, carry, false);
	if (k == BMI_BEXTR)
		cpu->fl_aux |= 8 | cpu->fl_res >> 63; /* AF set, SF clear */
}

/* `at`: which operand may be in memory; `other`: the other source. */
#define BMI_SIZE(name, k, size, at, other)                                                                    \
	static void name##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		bmi(cpu, op, k, size, operand_read(cpu, op, at, size), operand_read(cpu, op, other, size));   \
	}                                                                                                     \
	static void name##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		bmi(cpu, op, k, size, operand_load(cpu, op, size), operand_read(cpu, op, other, size));       \
	}
/* [memory][8 bytes] */
#define FORMS(name) static op_fn *const name##_forms[2][2] = { { name##4_r, name##8_r }, { name##4_m, name##8_m } };
#define BMI_ALL(name, k, at, other) BMI_SIZE(name, k, 4, at, other) BMI_SIZE(name, k, 8, at, other) FORMS(name)
BMI_ALL(andn, BMI_ANDN, 2, 1)
BMI_ALL(bextr, BMI_BEXTR, 1, 2)
BMI_ALL(bzhi, BMI_BZHI, 1, 2)
/* One source: the other is not looked at. */
BMI_ALL(blsi, BMI_BLSI, 1, 0)
BMI_ALL(blsmsk, BMI_BLSMSK, 1, 0)
BMI_ALL(blsr, BMI_BLSR, 1, 0)

/* ---- no flags -------------------------------------------------------------------------------------------- */

enum quiet { QUIET_RORX, QUIET_SARX, QUIET_SHLX, QUIET_SHRX, QUIET_PDEP, QUIET_PEXT };

/* The bits of `v`, from the lowest on, go to the places that `mask` names. */
INLINE uint64_t deposit(uint64_t v, uint64_t mask)
{
	uint64_t res = 0;

	for (; mask != 0; mask &= mask - 1, v >>= 1)
		if (v & 1)
			res |= mask & (0 - mask);
	return res;
}

INLINE uint64_t extract(uint64_t v, uint64_t mask)
{
	uint64_t res = 0;

	for (uint64_t bit = 1; mask != 0; mask &= mask - 1, bit <<= 1)
		if (v & mask & (0 - mask))
			res |= bit;
	return res;
}

INLINE uint64_t quiet_result(enum quiet k, unsigned size, uint64_t a, uint64_t b)
{
	unsigned count = (unsigned)b & (8 * size - 1);

	switch (k) {
	case QUIET_RORX:
		return count == 0 ? a : a >> count | a << (8 * size - count);
	case QUIET_SARX:
		return (uint64_t)((int64_t)flags_extend(a, size) >> count);
	case QUIET_SHLX:
		return a << count;
	case QUIET_SHRX:
		return a >> count;
	case QUIET_PDEP:
		return deposit(b, a);
	default:
		return extract(b, a);
	}
}

/* `b`: the second source, or the count. */
#define QUIET_SIZE(name, k, size, at, b)                                                                      \
	static void name##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, quiet_result(k, size, operand_read(cpu, op, at, size), b));  \
	}                                                                                                     \
	static void name##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, quiet_result(k, size, operand_load(cpu, op, size), b));      \
	}
#define QUIET_ALL(name, k, at, b) QUIET_SIZE(name, k, 4, at, b) QUIET_SIZE(name, k, 8, at, b) FORMS(name)
QUIET_ALL(rorx, QUIET_RORX, 1, (uint64_t)op->imm)
QUIET_ALL(sarx, QUIET_SARX, 1, operand_read(cpu, op, 2, 8))
QUIET_ALL(shlx, QUIET_SHLX, 1, operand_read(cpu, op, 2, 8))
QUIET_ALL(shrx, QUIET_SHRX, 1, operand_read(cpu, op, 2, 8))
QUIET_ALL(pdep, QUIET_PDEP, 2, operand_read(cpu, op, 1, 8))
QUIET_ALL(pext, QUIET_PEXT, 2, operand_read(cpu, op, 1, 8))

/* Two destinations. When they are the same register, it has the upper half. */
INLINE void mulx(struct cpu *cpu, const struct op *op, unsigned size, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)reg_read(cpu, OPR(CPU_RDX), size) * b;

	reg_write(cpu, op->reg[1], size, (uint64_t)product);
	reg_write(cpu, op->reg[0], size, (uint64_t)(product >> (8 * size)));
}

/* ADCX: with CF; ADOX: with OF. The other flags stay. */
INLINE void add_flag(struct cpu *cpu, const struct op *op, unsigned size, bool with_of, uint64_t b)
{
	bool cf = flag_cf(cpu), of = flag_of(cpu);
	unsigned __int128 sum = (unsigned __int128)operand_read(cpu, op, 0, size) + b + (with_of ? of : cf);
	bool carry = sum >> (8 * size) & 1;

	reg_write(cpu, op->reg[0], size, (uint64_t)sum);
	flags_set_cf_of(cpu, with_of ? cf : carry, with_of ? carry : of);
}

#define SOURCE_SIZE(name, size, at, f)                                                                        \
	static void name##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		f(operand_read(cpu, op, at, size));                                                           \
	}                                                                                                     \
	static void name##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		f(operand_load(cpu, op, size));                                                               \
	}
#define MULX4(b) mulx(cpu, op, 4, b)
#define MULX8(b) mulx(cpu, op, 8, b)
SOURCE_SIZE(mulx, 4, 2, MULX4) SOURCE_SIZE(mulx, 8, 2, MULX8) FORMS(mulx)
#define ADCX4(b) add_flag(cpu, op, 4, false, b)
#define ADCX8(b) add_flag(cpu, op, 8, false, b)
SOURCE_SIZE(adcx, 4, 1, ADCX4) SOURCE_SIZE(adcx, 8, 1, ADCX8) FORMS(adcx)
#define ADOX4(b) add_flag(cpu, op, 4, true, b)
#define ADOX8(b) add_flag(cpu, op, 8, true, b)
SOURCE_SIZE(adox, 4, 1, ADOX4) SOURCE_SIZE(adox, 8, 1, ADOX8) FORMS(adox)

op_fn *bmi_select(const struct insn *insn, struct op *op)
{
	unsigned wide = op->size == 8, memory = op->mem != OP_NO_MEM;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_ANDN: return andn_forms[memory][wide];
	case ZYDIS_MNEMONIC_BEXTR: return bextr_forms[memory][wide];
	case ZYDIS_MNEMONIC_BLSI: return blsi_forms[memory][wide];
	case ZYDIS_MNEMONIC_BLSMSK: return blsmsk_forms[memory][wide];
	case ZYDIS_MNEMONIC_BLSR: return blsr_forms[memory][wide];
	case ZYDIS_MNEMONIC_BZHI: return bzhi_forms[memory][wide];
	case ZYDIS_MNEMONIC_MULX: return mulx_forms[memory][wide];
	case ZYDIS_MNEMONIC_PDEP: return pdep_forms[memory][wide];
	case ZYDIS_MNEMONIC_PEXT: return pext_forms[memory][wide];
	case ZYDIS_MNEMONIC_RORX: return rorx_forms[memory][wide];
	case ZYDIS_MNEMONIC_SARX: return sarx_forms[memory][wide];
	case ZYDIS_MNEMONIC_SHLX: return shlx_forms[memory][wide];
	case ZYDIS_MNEMONIC_SHRX: return shrx_forms[memory][wide];
	case ZYDIS_MNEMONIC_ADCX: return adcx_forms[memory][wide];
	case ZYDIS_MNEMONIC_ADOX: return adox_forms[memory][wide];
	default: return NULL;
	}
}
