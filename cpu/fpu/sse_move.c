/* SPDX-License-Identifier: MIT */
/* SSE and SSE2 moves, masks, inserts and extracts. The order in which selectors are asked. */
#include "cpu/fpu/sse.h"

#define HANDLER(name) static void name(struct cpu *cpu, const struct op *op)

/* ---- whole registers ------------------------------------------------------------------------------------------ */

HANDLER(move_reg)
{
	union xmm v;

	cpu_sse_check(cpu);
	v = xmm_read(cpu, op->reg[1]);
	xmm_write(cpu, op->reg[0], &v);
}

#define MOVE16(name, aligned)                                                                                 \
	HANDLER(load_##name)                                                                                  \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v = xmm_load(cpu, op, 16, aligned);                                                           \
		xmm_write(cpu, op->reg[0], &v);                                                               \
	}                                                                                                     \
	HANDLER(store_##name)                                                                                 \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v = xmm_read(cpu, op->reg[1]);                                                                \
		xmm_store(cpu, op, 16, aligned, &v);                                                          \
	}
MOVE16(aligned, true)
MOVE16(unaligned, false)

static op_fn *move16(const struct op *op, bool aligned)
{
	if (op->mem == OP_NO_MEM)
		return move_reg;
	if (op->mem == 1)
		return aligned ? load_aligned : load_unaligned;
	return aligned ? store_aligned : store_unaligned;
}

/* ---- parts of registers -------------------------------------------------------------------------------- */

/* Load the low `size` bytes from memory or a register and clear the rest; or store them. */
#define MOVE_LOW(size)                                                                                        \
	HANDLER(load_low##size)                                                                               \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v = xmm_load(cpu, op, size, false);                                                           \
		xmm_write(cpu, op->reg[0], &v);                                                               \
	}                                                                                                     \
	HANDLER(store_low##size)                                                                              \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v = xmm_read(cpu, op->reg[1]);                                                                \
		xmm_store(cpu, op, size, false, &v);                                                          \
	}                                                                                                     \
	HANDLER(merge_low##size)                                                                              \
	{                                                                                                     \
		union xmm a, b;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		b = xmm_read(cpu, op->reg[1]);                                                                \
		memcpy(a.b, b.b, size);                                                                       \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}                                                                                                     \
	HANDLER(gpr_to_low##size)                                                                             \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v.q[0] = operand_read(cpu, op, 1, size);                                                      \
		v.q[1] = 0;                                                                                   \
		xmm_write(cpu, op->reg[0], &v);                                                               \
	}                                                                                                     \
	HANDLER(low_to_gpr##size)                                                                             \
	{                                                                                                     \
		cpu_sse_check(cpu);                                                                           \
		reg_write(cpu, op->reg[0], size, xmm_read(cpu, op->reg[1]).q[0]);                             \
	}
MOVE_LOW(4)
MOVE_LOW(8)

HANDLER(movq_reg)
{
	union xmm v;

	cpu_sse_check(cpu);
	v = xmm_read(cpu, op->reg[1]);
	v.q[1] = 0;
	xmm_write(cpu, op->reg[0], &v);
}

/* Half of a register from memory or to memory: 0 low, 1 high. */
#define HALF(n)                                                                                               \
	HANDLER(load_half##n)                                                                                 \
	{                                                                                                     \
		union xmm v;                                                                                  \
		uint64_t half;                                                                                \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		half = operand_load(cpu, op, 8);                                                              \
		v = xmm_read(cpu, op->reg[0]);                                                                \
		v.q[n] = half;                                                                                \
		xmm_write(cpu, op->reg[0], &v);                                                               \
	}                                                                                                     \
	HANDLER(store_half##n)                                                                                \
	{                                                                                                     \
		cpu_sse_check(cpu);                                                                           \
		operand_store(cpu, op, 8, xmm_read(cpu, op->reg[1]).q[n]);                                    \
	}                                                                                                     \
	/* To half n from the other half. */                                                                  \
	HANDLER(cross_half##n)                                                                                \
	{                                                                                                     \
		union xmm v;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		v = xmm_read(cpu, op->reg[0]);                                                                \
		v.q[n] = xmm_read(cpu, op->reg[1]).q[1 - n];                                                  \
		xmm_write(cpu, op->reg[0], &v);                                                               \
	}
HALF(0)
HALF(1)

static op_fn *move_low(const struct insn *insn, const struct op *op, bool wide)
{
	ZydisRegisterClass to, from;

	if (op->mem == 1)
		return wide ? load_low8 : load_low4;
	if (op->mem == 0)
		return wide ? store_low8 : store_low4;
	to = ZydisRegisterGetClass(insn->o[0].reg.value);
	from = ZydisRegisterGetClass(insn->o[1].reg.value);
	if (to != ZYDIS_REGCLASS_XMM)
		return wide ? low_to_gpr8 : low_to_gpr4;
	if (from != ZYDIS_REGCLASS_XMM)
		return wide ? gpr_to_low8 : gpr_to_low4;
	return movq_reg;
}

/* ---- masks --------------------------------------------------------------------------------------------- */

HANDLER(movmskps)
{
	cpu_sse_check(cpu);
	reg_write(cpu, op->reg[0], 4, (unsigned)_mm_movemask_ps(xmm_read(cpu, op->reg[1]).s));
}

HANDLER(movmskpd)
{
	cpu_sse_check(cpu);
	reg_write(cpu, op->reg[0], 4, (unsigned)_mm_movemask_pd(xmm_read(cpu, op->reg[1]).d));
}

HANDLER(pmovmskb)
{
	cpu_sse_check(cpu);
	reg_write(cpu, op->reg[0], 4, (unsigned)_mm_movemask_epi8(xmm_read(cpu, op->reg[1]).i));
}

/* Store to [rDI] the bytes whose mask byte has its top bit set. Without any, memory is not accessed. */
HANDLER(maskmovdqu)
{
	uint64_t at = reg_read(cpu, OPR(CPU_RDI), op->asize), linear;
	union xmm v, mask;
	unsigned bits;

	cpu_sse_check(cpu);
	v = xmm_read(cpu, op->reg[0]);
	mask = xmm_read(cpu, op->reg[1]);
	bits = (unsigned)_mm_movemask_epi8(mask.i);
	linear = seg_linear(cpu, op->seg, at, 16, true);
	/* As AMD's processors have it, the whole operand must be writable, whatever the mask is. */
	mem_check_write(cpu, linear, 8); /* and it checks the alignment of halves */
	mem_check_write(cpu, (linear + 8) & cpu->lin_mask, 8);
	for (unsigned i = 0; i < 16; i++)
		if (bits >> i & 1)
			mem_write(cpu, (linear + i) & cpu->lin_mask, 1, v.b[i]);
}

/* ---- words --------------------------------------------------------------------------------------------- */

HANDLER(pinsrw)
{
	union xmm v;
	uint64_t w;

	cpu_sse_check(cpu);
	w = op->mem == 1 ? operand_load(cpu, op, 2) : operand_read(cpu, op, 1, 2);
	v = xmm_read(cpu, op->reg[0]);
	v.w[op->imm & 7] = (uint16_t)w;
	xmm_write(cpu, op->reg[0], &v);
}

HANDLER(pextrw)
{
	cpu_sse_check(cpu);
	reg_write(cpu, op->reg[0], 4, xmm_read(cpu, op->reg[1]).w[op->imm & 7]);
}

/* ---- general registers --------------------------------------------------------------------------------- */

HANDLER(movnti4)
{
	operand_store(cpu, op, 4, operand_read(cpu, op, 1, 4));
}

HANDLER(movnti8)
{
	operand_store(cpu, op, 8, operand_read(cpu, op, 1, 8));
}

static op_fn *half(const struct op *op, bool high)
{
	if (op->mem == 1)
		return high ? load_half1 : load_half0;
	return high ? store_half1 : store_half0;
}

static op_fn *scalar(const struct op *op, bool wide)
{
	if (op->mem == 1)
		return wide ? load_low8 : load_low4;
	if (op->mem == 0)
		return wide ? store_low8 : store_low4;
	return wide ? merge_low8 : merge_low4;
}

op_fn *sse_move_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU: return move16(op, false);
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVAPD:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_MOVNTDQ:
	case ZYDIS_MNEMONIC_MOVNTPS:
	case ZYDIS_MNEMONIC_MOVNTPD: return move16(op, true);
	case ZYDIS_MNEMONIC_MOVQ: return move_low(insn, op, true);
	case ZYDIS_MNEMONIC_MOVD: return move_low(insn, op, false);
	case ZYDIS_MNEMONIC_MOVSS: return scalar(op, false);
	case ZYDIS_MNEMONIC_MOVSD: return scalar(op, true);
	case ZYDIS_MNEMONIC_MOVLPS:
	case ZYDIS_MNEMONIC_MOVLPD: return half(op, false);
	case ZYDIS_MNEMONIC_MOVHPS:
	case ZYDIS_MNEMONIC_MOVHPD: return half(op, true);
	case ZYDIS_MNEMONIC_MOVHLPS: return cross_half0;
	case ZYDIS_MNEMONIC_MOVLHPS: return cross_half1;
	case ZYDIS_MNEMONIC_MOVNTI: return op->size == 8 ? movnti8 : movnti4;
	case ZYDIS_MNEMONIC_MASKMOVDQU:
		op->seg = CPU_DS;
		for (unsigned i = 0; i < insn->z->operand_count; i++)
			if (insn->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
				op->seg = (uint8_t)(insn->o[i].mem.segment - ZYDIS_REGISTER_ES);
		return maskmovdqu;
	case ZYDIS_MNEMONIC_MOVMSKPS: return movmskps;
	case ZYDIS_MNEMONIC_MOVMSKPD: return movmskpd;
	case ZYDIS_MNEMONIC_PMOVMSKB: return pmovmskb;
	case ZYDIS_MNEMONIC_PINSRW: return pinsrw;
	case ZYDIS_MNEMONIC_PEXTRW: return op->mem == 0 ? NULL : pextrw;
	default: return NULL;
	}
}

/* The same mnemonics name MMX instructions. */
static bool names_mmx(const struct insn *insn)
{
	if (insn->z->mnemonic == ZYDIS_MNEMONIC_EMMS)
		return true;
	for (unsigned i = 0; i < insn->z->operand_count_visible; i++)
		if (insn->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(insn->o[i].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

op_fn *insn_sse_select(const struct insn *insn, struct op *op)
{
	static op_fn *(*const select[])(const struct insn *insn, struct op *op) = {
		sse_move_select, sse_integer_select, sse_float_select, sse_convert_select,
	};
	op_fn *fn = mmx_convert_select(insn, op);

	if (fn == NULL && names_mmx(insn))
		return mmx_select(insn, op);
	for (unsigned i = 0; fn == NULL && i < sizeof(select) / sizeof(select[0]); i++)
		fn = select[i](insn, op);
	return fn;
}
