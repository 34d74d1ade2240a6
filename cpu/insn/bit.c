/* SPDX-License-Identifier: MIT */
/* BT BTS BTR BTC, BSF BSR, POPCNT LZCNT TZCNT. */
#include "cpu/insn/insn.h"

enum bit { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

INLINE uint64_t bit_apply(enum bit k, uint64_t a, uint64_t bit)
{
	switch (k) {
	case BIT_SET:
		return a | bit;
	case BIT_RESET:
		return a & ~bit;
	case BIT_COMPLEMENT:
		return a ^ bit;
	default:
		return a;
	}
}

INLINE void bit_reg(struct cpu *cpu, const struct op *op, enum bit k, unsigned size, uint64_t offset)
{
	uint64_t a = operand_read(cpu, op, 0, size), bit = UINT64_C(1) << (offset & (size * 8 - 1));

	flags_set_cf(cpu, a & bit);
	if (k != BIT_TEST)
		reg_write(cpu, op->reg[0], size, bit_apply(k, a, bit));
}

/* `far`: the offset comes from a register. It is signed and counts bits from the operand's address on. */
INLINE void bit_mem(struct cpu *cpu, const struct op *op, enum bit k, unsigned size, uint64_t offset, bool far,
                    bool lock)
{
	const unsigned bits = size * 8;
	uint64_t bit = UINT64_C(1) << (offset & (bits - 1)), a, seen, linear;
	int64_t words = far ? (int64_t)flags_extend(offset, size) >> __builtin_ctz(bits) : 0;
	struct mem_rmw m;

	linear = op_linear_at(cpu, op, (uint64_t)words * size, size, k != BIT_TEST);
	if (k == BIT_TEST) {
		flags_set_cf(cpu, mem_read(cpu, linear, size) & bit);
		return;
	}
	if (lock) {
		mem_lock_begin(cpu, linear, size, &m);
		for (a = host_load(m.host, size);; a = seen) {
			seen = atomic_cas_sized(m.host, size, a, bit_apply(k, a, bit));
			if (seen == a)
				break;
		}
		mem_lock_end(cpu, &m);
	} else {
		mem_rmw_begin(cpu, linear, size, &m);
		a = host_load(m.host, size);
		host_store(m.host, size, bit_apply(k, a, bit));
		mem_rmw_end(cpu, &m);
	}
	flags_set_cf(cpu, a & bit);
}

#define BIT_SIZE(name, k, size)                                                                               \
	static void name##size##_rr(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		bit_reg(cpu, op, k, size, operand_read(cpu, op, 1, size));                                    \
	}                                                                                                     \
	static void name##size##_ri(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		bit_reg(cpu, op, k, size, (uint64_t)op->imm);                                                 \
	}                                                                                                     \
	static void name##size##_mr(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		bit_mem(cpu, op, k, size, operand_read(cpu, op, 1, size), true, false);                       \
	}                                                                                                     \
	static void name##size##_mi(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		bit_mem(cpu, op, k, size, (uint64_t)op->imm, false, false);                                   \
	}                                                                                                     \
	static void name##size##_lmr(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		bit_mem(cpu, op, k, size, operand_read(cpu, op, 1, size), true, true);                        \
	}                                                                                                     \
	static void name##size##_lmi(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		bit_mem(cpu, op, k, size, (uint64_t)op->imm, false, true);                                    \
	}
#define BIT_ALL(name, k)                                                                                      \
	BIT_SIZE(name, k, 2)                                                                                  \
	BIT_SIZE(name, k, 4)                                                                                  \
	BIT_SIZE(name, k, 8)                                                                                  \
	static op_fn *const name##_forms[FORM_COUNT][4] = {                                                   \
		[FORM_RR] = BY_SIZE_WIDE(name, _rr),   [FORM_RI] = BY_SIZE_WIDE(name, _ri),                   \
		[FORM_MR] = BY_SIZE_WIDE(name, _mr),   [FORM_MI] = BY_SIZE_WIDE(name, _mi),                   \
		[FORM_LMR] = BY_SIZE_WIDE(name, _lmr), [FORM_LMI] = BY_SIZE_WIDE(name, _lmi),                 \
	};
BIT_ALL(bt, BIT_TEST)
BIT_ALL(bts, BIT_SET)
BIT_ALL(btr, BIT_RESET)
BIT_ALL(btc, BIT_COMPLEMENT)

/* ---- scans and counts ---------------------------------------------------------------------------------- */

enum scan { SCAN_BSF, SCAN_BSR, SCAN_LZCNT, SCAN_TZCNT, SCAN_POPCNT };

INLINE void scan(struct cpu *cpu, const struct op *op, enum scan k, unsigned size, uint64_t a)
{
	const unsigned bits = size * 8;
	uint64_t res;

	switch (k) {
	case SCAN_BSF:
	case SCAN_BSR:
		/* For an operand of 0 the destination stays as it is, its upper half too. */
		if (a != 0) {
			res = k == SCAN_BSF ? (unsigned)__builtin_ctzll(a) : 63u - (unsigned)__builtin_clzll(a);
			reg_write(cpu, op->reg[0], size, res);
		}
		flags_update(cpu, RFLAGS_ZF, a == 0 ? RFLAGS_ZF : 0);
		return;
	case SCAN_LZCNT:
		res = a == 0 ? bits : (unsigned)__builtin_clzll(a) - (64 - bits);
		break;
	case SCAN_TZCNT:
		res = a == 0 ? bits : (unsigned)__builtin_ctzll(a);
		break;
	default:
		res = (unsigned)__builtin_popcountll(a);
		reg_write(cpu, op->reg[0], size, res);
		flags_set(cpu, a == 0 ? RFLAGS_ZF : 0);
		return;
	}
	reg_write(cpu, op->reg[0], size, res);
	/* Undefined, and so on AMD's processors: OF stays, SF, AF and PF are clear. */
	flags_update(cpu, RFLAGS_ARITH & ~RFLAGS_OF, (res == 0 ? RFLAGS_ZF : 0) | (a == 0 ? RFLAGS_CF : 0));
}

#define SCAN_SIZE(name, k, size)                                                                              \
	static void name##size##_r(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		scan(cpu, op, k, size, operand_read(cpu, op, 1, size));                                       \
	}                                                                                                     \
	static void name##size##_m(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		scan(cpu, op, k, size, operand_load(cpu, op, size));                                          \
	}
#define SCAN_ALL(name, k)                                                                                     \
	SCAN_SIZE(name, k, 2)                                                                                 \
	SCAN_SIZE(name, k, 4)                                                                                 \
	SCAN_SIZE(name, k, 8)                                                                                 \
	static op_fn *const name##_forms[2][4] = { BY_SIZE_WIDE(name, _r), BY_SIZE_WIDE(name, _m) };
SCAN_ALL(bsf, SCAN_BSF)
SCAN_ALL(bsr, SCAN_BSR)
SCAN_ALL(lzcnt, SCAN_LZCNT)
SCAN_ALL(tzcnt, SCAN_TZCNT)
SCAN_ALL(popcnt, SCAN_POPCNT)

op_fn *bit_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), memory = op->mem == 1;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_BT: return bt_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_BTS: return bts_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_BTR: return btr_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_BTC: return btc_forms[form_of(insn, op)][n];
	case ZYDIS_MNEMONIC_BSF: return bsf_forms[memory][n];
	case ZYDIS_MNEMONIC_BSR: return bsr_forms[memory][n];
	case ZYDIS_MNEMONIC_LZCNT: return lzcnt_forms[memory][n];
	case ZYDIS_MNEMONIC_TZCNT: return tzcnt_forms[memory][n];
	case ZYDIS_MNEMONIC_POPCNT: return popcnt_forms[memory][n];
	default: return NULL;
	}
}
