/* SPDX-License-Identifier: MIT */
/* MOV MOVZX MOVSX MOVSXD LEA CMOVcc SETcc BSWAP MOVBE, and the widenings of the accumulator. */
#include "cpu/insn/insn.h"

#define SIZES(X) X(1) X(2) X(4) X(8)

#define MOV(size)                                                                                             \
	static void mov##size##_rr(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, operand_read(cpu, op, 1, size));                             \
	}                                                                                                     \
	static void mov##size##_ri(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, (uint64_t)op->imm);                                          \
	}                                                                                                     \
	static void mov##size##_rm(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, operand_load(cpu, op, size));                                \
	}                                                                                                     \
	static void mov##size##_mr(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		operand_store(cpu, op, size, operand_read(cpu, op, 1, size));                                 \
	}                                                                                                     \
	static void mov##size##_mi(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		operand_store(cpu, op, size, (uint64_t)op->imm);                                              \
	}
SIZES(MOV)

static op_fn *const mov_forms[FORM_COUNT][4] = {
	[FORM_RR] = BY_SIZE(mov, _rr), [FORM_RI] = BY_SIZE(mov, _ri), [FORM_RM] = BY_SIZE(mov, _rm),
	[FORM_MR] = BY_SIZE(mov, _mr), [FORM_MI] = BY_SIZE(mov, _mi),
};

/* ---- widening -------------------------------------------------------------------------------------------- */

#define WIDEN(name, to, from, extend)                                                                         \
	static void name##to##from##_r(struct cpu *cpu, const struct op *op)                                  \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], to, extend(operand_read(cpu, op, 1, from), from));                 \
	}                                                                                                     \
	static void name##to##from##_m(struct cpu *cpu, const struct op *op)                                  \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], to, extend(operand_load(cpu, op, from), from));                    \
	}
#define ZERO(v, size) (v)
#define WIDEN_TO(to)                                                                                          \
	WIDEN(zx, to, 1, ZERO) WIDEN(zx, to, 2, ZERO) WIDEN(sx, to, 1, flags_extend)                          \
	WIDEN(sx, to, 2, flags_extend) WIDEN(sx, to, 4, flags_extend)
WIDEN_TO(2)
WIDEN_TO(4)
WIDEN_TO(8)

#define WIDEN_PAIR(name, to, from) { name##to##from##_r, name##to##from##_m }
/* [to 2 4 8][from 1 2 4][memory] */
static op_fn *const zx_forms[3][2][2] = {
	{ WIDEN_PAIR(zx, 2, 1), WIDEN_PAIR(zx, 2, 2) },
	{ WIDEN_PAIR(zx, 4, 1), WIDEN_PAIR(zx, 4, 2) },
	{ WIDEN_PAIR(zx, 8, 1), WIDEN_PAIR(zx, 8, 2) },
};
static op_fn *const sx_forms[3][3][2] = {
	{ WIDEN_PAIR(sx, 2, 1), WIDEN_PAIR(sx, 2, 2), WIDEN_PAIR(sx, 2, 4) },
	{ WIDEN_PAIR(sx, 4, 1), WIDEN_PAIR(sx, 4, 2), WIDEN_PAIR(sx, 4, 4) },
	{ WIDEN_PAIR(sx, 8, 1), WIDEN_PAIR(sx, 8, 2), WIDEN_PAIR(sx, 8, 4) },
};

/* CBW CWDE CDQE widen the accumulator in place; CWD CDQ CQO fill rDX with its sign. */
#define ACCUMULATOR(size)                                                                                     \
	static void widen##size(struct cpu *cpu, const struct op *op)                                         \
	{                                                                                                     \
		(void)op;                                                                                     \
		reg_write(cpu, OPR(CPU_RAX), size,                                                            \
			  flags_extend(reg_read(cpu, OPR(CPU_RAX), size / 2), size / 2));                     \
	}                                                                                                     \
	static void spread##size(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		(void)op;                                                                                     \
		reg_write(cpu, OPR(CPU_RDX), size,                                                            \
			  0 - size_msb(reg_read(cpu, OPR(CPU_RAX), size), size));                             \
	}
ACCUMULATOR(2)
ACCUMULATOR(4)
ACCUMULATOR(8)

/* ---- address ---------------------------------------------------------------------------------------------- */

#define LEA(size)                                                                                             \
	static void lea##size(struct cpu *cpu, const struct op *op)                                           \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, op_ea(cpu, op));                                             \
	}
LEA(2)
LEA(4)
LEA(8)
static op_fn *const lea_forms[4] = BY_SIZE_WIDE(lea, );

/* ---- conditional --------------------------------------------------------------------------------------------- */

#define CONDITIONS(X, ...)                                                                                    \
	X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__)             \
	X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__) X(8, __VA_ARGS__) X(9, __VA_ARGS__)             \
	X(10, __VA_ARGS__) X(11, __VA_ARGS__) X(12, __VA_ARGS__) X(13, __VA_ARGS__) X(14, __VA_ARGS__)        \
	X(15, __VA_ARGS__)

/* The source is read in any case, and the upper half of a 32-bit destination is cleared in any case. */
#define CMOV(cc, size)                                                                                        \
	static void cmov##size##_##cc##_r(struct cpu *cpu, const struct op *op)                               \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, operand_read(cpu, op, !!flags_cond(cpu, cc), size));         \
	}                                                                                                     \
	static void cmov##size##_##cc##_m(struct cpu *cpu, const struct op *op)                               \
	{                                                                                                     \
		uint64_t v = operand_load(cpu, op, size);                                                     \
                                                                                                              \
		reg_write(cpu, op->reg[0], size, flags_cond(cpu, cc) ? v : operand_read(cpu, op, 0, size));   \
	}
CONDITIONS(CMOV, 2)
CONDITIONS(CMOV, 4)
CONDITIONS(CMOV, 8)

#define CMOV_ENTRY(cc, size) { cmov##size##_##cc##_r, cmov##size##_##cc##_m },
static op_fn *const cmov_forms[3][16][2] = {
	{ CONDITIONS(CMOV_ENTRY, 2) },
	{ CONDITIONS(CMOV_ENTRY, 4) },
	{ CONDITIONS(CMOV_ENTRY, 8) },
};

#define SET(cc, unused)                                                                                       \
	static void set_##cc##_r(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], 1, flags_cond(cpu, cc));                                           \
	}                                                                                                     \
	static void set_##cc##_m(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		operand_store(cpu, op, 1, flags_cond(cpu, cc));                                               \
	}
CONDITIONS(SET, )
#define SET_ENTRY(cc, unused) { set_##cc##_r, set_##cc##_m },
static op_fn *const set_forms[16][2] = { CONDITIONS(SET_ENTRY, ) };

/* ---- byte order ----------------------------------------------------------------------------------------------- */

INLINE uint64_t swap_bytes(uint64_t v, unsigned size)
{
	return size == 8 ? __builtin_bswap64(v) : size == 4 ? __builtin_bswap32((uint32_t)v)
							    : __builtin_bswap16((uint16_t)v);
}

static void bswap4(struct cpu *cpu, const struct op *op)
{
	reg_write(cpu, op->reg[0], 4, swap_bytes(operand_read(cpu, op, 0, 4), 4));
}

static void bswap8(struct cpu *cpu, const struct op *op)
{
	reg_write(cpu, op->reg[0], 8, swap_bytes(operand_read(cpu, op, 0, 8), 8));
}

/* The manuals leave this undefined. Every CPU so far clears the register. */
static void bswap2(struct cpu *cpu, const struct op *op)
{
	reg_write(cpu, op->reg[0], 2, 0);
}
static op_fn *const bswap_forms[4] = BY_SIZE_WIDE(bswap, );

#define MOVBE(size)                                                                                           \
	static void movbe##size##_load(struct cpu *cpu, const struct op *op)                                  \
	{                                                                                                     \
		reg_write(cpu, op->reg[0], size, swap_bytes(operand_load(cpu, op, size), size));              \
	}                                                                                                     \
	static void movbe##size##_store(struct cpu *cpu, const struct op *op)                                 \
	{                                                                                                     \
		operand_store(cpu, op, size, swap_bytes(operand_read(cpu, op, 1, size), size));               \
	}
MOVBE(2)
MOVBE(4)
MOVBE(8)
static op_fn *const movbe_forms[2][4] = { BY_SIZE_WIDE(movbe, _load), BY_SIZE_WIDE(movbe, _store) };

static bool is_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass c;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return o->type == ZYDIS_OPERAND_TYPE_MEMORY || o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	c = ZydisRegisterGetClass(o->reg.value);
	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
	       c == ZYDIS_REGCLASS_GPR64;
}

op_fn *move_select(const struct insn *insn, struct op *op)
{
	unsigned n = size_index(op->size), memory = op->mem == 1;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		/* MOV to and from segment, control and debug registers is in sys_segment.c and sys_control.c. */
		return is_gpr(&insn->o[0]) && is_gpr(&insn->o[1]) ? mov_forms[form_of(insn, op)][n] : NULL;
	case ZYDIS_MNEMONIC_MOVZX: return zx_forms[n - 1][size_index(op->size2)][memory];
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD: return sx_forms[n - 1][size_index(op->size2)][memory];
	case ZYDIS_MNEMONIC_LEA: return lea_forms[n];
	case ZYDIS_MNEMONIC_BSWAP: return bswap_forms[n];
	case ZYDIS_MNEMONIC_MOVBE: return movbe_forms[op->mem == 0][n];
	case ZYDIS_MNEMONIC_CBW: return widen2;
	case ZYDIS_MNEMONIC_CWDE: return widen4;
	case ZYDIS_MNEMONIC_CDQE: return widen8;
	case ZYDIS_MNEMONIC_CWD: return spread2;
	case ZYDIS_MNEMONIC_CDQ: return spread4;
	case ZYDIS_MNEMONIC_CQO: return spread8;
	default: break;
	}
	if (insn->z->meta.category == ZYDIS_CATEGORY_CMOV && insn->o[0].size <= 64)
		return cmov_forms[n - 1][op->sub & 15][memory];
	if (insn->z->meta.category == ZYDIS_CATEGORY_SETCC)
		return set_forms[op->sub & 15][op->mem == 0];
	return NULL;
}
