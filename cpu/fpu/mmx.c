/* SPDX-License-Identifier: MIT */
/*
 * MMX, with the additions of SSE and SSE2. A register of 8 bytes is taken as the lower half of a vector. The SSE2
 * operation on that vector gives the right lower half, or nearly.
 *
 * MMn is the fraction of physical x87 register n. Each of these instructions makes physical and stack numbers the same
 * (TOP = 0) and all registers valid. A register that is written gets an exponent of all ones.
 */
#include "cpu/fpu/sse.h"
#include "cpu/fpu/x87.h"

/* ---- the register file ---------------------------------------------------------------------------------------- */

void mmx_check(struct cpu *cpu)
{
	if (unlikely(cpu->s.cr0 & CR0_EM))
		cpu_ud(cpu);
	if (unlikely(cpu->s.cr0 & CR0_TS))
		cpu_raise(cpu, VECTOR_NM);
	if (unlikely(cpu->s.fx.fsw & FSW_ES))
		cpu_raise(cpu, VECTOR_MF);
	x87_unload(cpu);
}

/* The FXSAVE image is in stack order. */
static uint8_t *mmx_at(struct cpu *cpu, unsigned n)
{
	unsigned top = cpu->s.fx.fsw >> 11 & 7;

	return cpu->s.fx.st[(n - top) & 7];
}

uint64_t mmx_read(struct cpu *cpu, unsigned n)
{
	uint64_t v;

	memcpy(&v, mmx_at(cpu, n), sizeof(v));
	return v;
}

void mmx_begin_write(struct cpu *cpu)
{
	x87_top_clear(cpu);
	cpu->s.fx.ftw = 0xff;
}

void mmx_write(struct cpu *cpu, unsigned n, uint64_t v)
{
	static const uint8_t exponent[2] = { 0xff, 0xff };

	mmx_begin_write(cpu);
	memcpy(cpu->s.fx.st[n], &v, sizeof(v));
	memcpy(cpu->s.fx.st[n] + 8, exponent, sizeof(exponent));
}

static __m128i low(uint64_t v)
{
	return _mm_set_epi64x(0, (int64_t)v);
}

static __m128i both(uint64_t a, uint64_t b)
{
	return _mm_set_epi64x((int64_t)b, (int64_t)a);
}

static uint64_t low_half(__m128i v)
{
	union xmm x = { .i = v };

	return x.q[0];
}

static uint64_t high_half(__m128i v)
{
	union xmm x = { .i = v };

	return x.q[1];
}

/* ---- a = f(a, b) --------------------------------------------------------------------------------------- */

#define PLAIN(f, a, b)       low_half(f(low(a), low(b)))
#define PACK(f, a, b)        low_half(f(both(a, b), both(a, b)))
#define INTERLEAVE(f, a, b)  low_half(f(low(a), low(b)))
#define INTERLEAVE_HIGH(f, a, b) high_half(f(low(a), low(b)))

/* name, how the vector operation is used, bytes of a memory source, the operation */
#define BINARY(X)                                                                                             \
	X(PADDB, PLAIN, 8, _mm_add_epi8) X(PADDW, PLAIN, 8, _mm_add_epi16) X(PADDD, PLAIN, 8, _mm_add_epi32)  \
	X(PADDQ, PLAIN, 8, _mm_add_epi64) X(PADDSB, PLAIN, 8, _mm_adds_epi8)                                  \
	X(PADDSW, PLAIN, 8, _mm_adds_epi16) X(PADDUSB, PLAIN, 8, _mm_adds_epu8)                               \
	X(PADDUSW, PLAIN, 8, _mm_adds_epu16) X(PSUBB, PLAIN, 8, _mm_sub_epi8)                                 \
	X(PSUBW, PLAIN, 8, _mm_sub_epi16) X(PSUBD, PLAIN, 8, _mm_sub_epi32)                                   \
	X(PSUBQ, PLAIN, 8, _mm_sub_epi64) X(PSUBSB, PLAIN, 8, _mm_subs_epi8)                                  \
	X(PSUBSW, PLAIN, 8, _mm_subs_epi16) X(PSUBUSB, PLAIN, 8, _mm_subs_epu8)                               \
	X(PSUBUSW, PLAIN, 8, _mm_subs_epu16) X(PMULLW, PLAIN, 8, _mm_mullo_epi16)                             \
	X(PMULHW, PLAIN, 8, _mm_mulhi_epi16) X(PMULHUW, PLAIN, 8, _mm_mulhi_epu16)                            \
	X(PMULUDQ, PLAIN, 8, _mm_mul_epu32) X(PMADDWD, PLAIN, 8, _mm_madd_epi16)                              \
	X(PSADBW, PLAIN, 8, _mm_sad_epu8) X(PAVGB, PLAIN, 8, _mm_avg_epu8)                                    \
	X(PAVGW, PLAIN, 8, _mm_avg_epu16) X(PMINUB, PLAIN, 8, _mm_min_epu8)                                   \
	X(PMINSW, PLAIN, 8, _mm_min_epi16) X(PMAXUB, PLAIN, 8, _mm_max_epu8)                                  \
	X(PMAXSW, PLAIN, 8, _mm_max_epi16) X(PCMPEQB, PLAIN, 8, _mm_cmpeq_epi8)                               \
	X(PCMPEQW, PLAIN, 8, _mm_cmpeq_epi16) X(PCMPEQD, PLAIN, 8, _mm_cmpeq_epi32)                           \
	X(PCMPGTB, PLAIN, 8, _mm_cmpgt_epi8) X(PCMPGTW, PLAIN, 8, _mm_cmpgt_epi16)                            \
	X(PCMPGTD, PLAIN, 8, _mm_cmpgt_epi32) X(PAND, PLAIN, 8, _mm_and_si128)                                \
	X(PANDN, PLAIN, 8, _mm_andnot_si128) X(POR, PLAIN, 8, _mm_or_si128) X(PXOR, PLAIN, 8, _mm_xor_si128)  \
	X(PACKSSWB, PACK, 8, _mm_packs_epi16) X(PACKSSDW, PACK, 8, _mm_packs_epi32)                           \
	X(PACKUSWB, PACK, 8, _mm_packus_epi16)                                                                \
	X(PUNPCKLBW, INTERLEAVE, 4, _mm_unpacklo_epi8) X(PUNPCKLWD, INTERLEAVE, 4, _mm_unpacklo_epi16)        \
	X(PUNPCKLDQ, INTERLEAVE, 4, _mm_unpacklo_epi32)                                                       \
	X(PUNPCKHBW, INTERLEAVE_HIGH, 8, _mm_unpacklo_epi8) X(PUNPCKHWD, INTERLEAVE_HIGH, 8, _mm_unpacklo_epi16) \
	X(PUNPCKHDQ, INTERLEAVE_HIGH, 8, _mm_unpacklo_epi32)

#define BINARY_HANDLER(name, how, size, f)                                                                    \
	static void mmx_##name(struct cpu *cpu, const struct op *op)                                          \
	{                                                                                                     \
		uint64_t a, b;                                                                                \
                                                                                                              \
		mmx_check(cpu);                                                                               \
		b = mmx_source(cpu, op, size);                                                                \
		a = mmx_read(cpu, op->reg[0]);                                                                \
		mmx_write(cpu, op->reg[0], how(f, a, b));                                                     \
	}
BINARY(BINARY_HANDLER)

#define SHIFT(X)                                                                                              \
	X(PSLLW, _mm_sll_epi16) X(PSLLD, _mm_sll_epi32) X(PSLLQ, _mm_sll_epi64) X(PSRLW, _mm_srl_epi16)       \
	X(PSRLD, _mm_srl_epi32) X(PSRLQ, _mm_srl_epi64) X(PSRAW, _mm_sra_epi16) X(PSRAD, _mm_sra_epi32)

#define SHIFT_HANDLER(name, f)                                                                                \
	static void mmx_##name(struct cpu *cpu, const struct op *op)                                          \
	{                                                                                                     \
		uint64_t a, b;                                                                                \
                                                                                                              \
		mmx_check(cpu);                                                                               \
		b = mmx_source(cpu, op, 8);                                                                   \
		a = mmx_read(cpu, op->reg[0]);                                                                \
		mmx_write(cpu, op->reg[0], low_half(f(low(a), low(b))));                                      \
	}                                                                                                     \
	static void mmx_imm_##name(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		mmx_check(cpu);                                                                               \
		mmx_write(cpu, op->reg[0],                                                                    \
			  low_half(f(low(mmx_read(cpu, op->reg[0])), low((uint8_t)op->imm))));                \
	}
SHIFT(SHIFT_HANDLER)

static void pshufw(struct cpu *cpu, const struct op *op)
{
	uint64_t b, v = 0;

	mmx_check(cpu);
	b = mmx_source(cpu, op, 8);
	for (unsigned i = 0; i < 4; i++)
		v |= (b >> (16 * (op->imm >> (2 * i) & 3)) & 0xffff) << (16 * i);
	mmx_write(cpu, op->reg[0], v);
}

/* ---- moves --------------------------------------------------------------------------------------------- */

/* To memory or a general register, 4 or 8 bytes. They change the x87 stack as all MMX instructions do. */
#define MOVE(size)                                                                                            \
	static void from_gpr##size(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		mmx_check(cpu);                                                                               \
		mmx_write(cpu, op->reg[0], operand_read(cpu, op, 1, size));                                   \
	}                                                                                                     \
	static void load##size(struct cpu *cpu, const struct op *op)                                          \
	{                                                                                                     \
		mmx_check(cpu);                                                                               \
		mmx_write(cpu, op->reg[0], operand_load(cpu, op, size));                                      \
	}                                                                                                     \
	static void to_gpr##size(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		uint64_t v;                                                                                   \
                                                                                                              \
		mmx_check(cpu);                                                                               \
		v = mmx_read(cpu, op->reg[1]);                                                                \
		mmx_begin_write(cpu);                                                                         \
		reg_write(cpu, op->reg[0], size, v);                                                          \
	}                                                                                                     \
	static void store##size(struct cpu *cpu, const struct op *op)                                         \
	{                                                                                                     \
		mmx_check(cpu);                                                                               \
		operand_store(cpu, op, size, mmx_read(cpu, op->reg[1]));                                      \
		mmx_begin_write(cpu);                                                                         \
	}
MOVE(4)
MOVE(8)

static void move_mmx(struct cpu *cpu, const struct op *op)
{
	mmx_check(cpu);
	mmx_write(cpu, op->reg[0], mmx_read(cpu, op->reg[1]));
}

static void movq2dq(struct cpu *cpu, const struct op *op)
{
	union xmm v;

	cpu_sse_check(cpu);
	mmx_check(cpu);
	v.q[0] = mmx_read(cpu, op->reg[1]);
	v.q[1] = 0;
	mmx_begin_write(cpu);
	xmm_write(cpu, op->reg[0], &v);
}

static void movdq2q(struct cpu *cpu, const struct op *op)
{
	cpu_sse_check(cpu);
	mmx_check(cpu);
	mmx_write(cpu, op->reg[0], xmm_read(cpu, op->reg[1]).q[0]);
}

static void pinsrw(struct cpu *cpu, const struct op *op)
{
	unsigned shift = 16 * (op->imm & 3);
	uint64_t v, w;

	mmx_check(cpu);
	w = op->mem == 1 ? operand_load(cpu, op, 2) : operand_read(cpu, op, 1, 2);
	v = mmx_read(cpu, op->reg[0]);
	mmx_write(cpu, op->reg[0], (v & ~(UINT64_C(0xffff) << shift)) | w << shift);
}

static void pextrw(struct cpu *cpu, const struct op *op)
{
	uint64_t v;

	mmx_check(cpu);
	v = mmx_read(cpu, op->reg[1]);
	mmx_begin_write(cpu);
	reg_write(cpu, op->reg[0], 4, v >> (16 * (op->imm & 3)) & 0xffff);
}

static void pmovmskb(struct cpu *cpu, const struct op *op)
{
	uint64_t v;

	mmx_check(cpu);
	v = mmx_read(cpu, op->reg[1]);
	mmx_begin_write(cpu);
	reg_write(cpu, op->reg[0], 4, (unsigned)_mm_movemask_epi8(low(v)) & 0xff);
}

static void maskmovq(struct cpu *cpu, const struct op *op)
{
	uint64_t at = reg_read(cpu, OPR(CPU_RDI), op->asize), linear, v, mask;

	mmx_check(cpu);
	v = mmx_read(cpu, op->reg[0]);
	mask = mmx_read(cpu, op->reg[1]) & UINT64_C(0x8080808080808080);
	linear = seg_linear(cpu, op->seg, at, 8, true);
	/* As AMD's processors have it: a fault finds the tags set, and comes whatever the mask is. */
	mmx_begin_write(cpu);
	mem_check_write(cpu, linear, 8);
	for (unsigned i = 0; i < 8; i++)
		if (mask >> (8 * i) & 0x80)
			mem_write(cpu, (linear + i) & cpu->lin_mask, 1, v >> (8 * i) & 0xff);
}

/* All registers empty. */
static void emms(struct cpu *cpu, const struct op *op)
{
	(void)op;
	mmx_check(cpu);
	mmx_begin_write(cpu);
	cpu->s.fx.ftw = 0;
}

static op_fn *move(const struct insn *insn, const struct op *op)
{
	bool wide = insn->z->mnemonic == ZYDIS_MNEMONIC_MOVQ;
	ZydisRegisterClass to, from;

	if (op->mem == 1)
		return wide ? load8 : load4;
	if (op->mem == 0)
		return wide ? store8 : store4;
	to = ZydisRegisterGetClass(insn->o[0].reg.value);
	from = ZydisRegisterGetClass(insn->o[1].reg.value);
	if (to != ZYDIS_REGCLASS_MMX)
		return wide ? to_gpr8 : to_gpr4;
	if (from != ZYDIS_REGCLASS_MMX)
		return wide ? from_gpr8 : from_gpr4;
	return move_mmx;
}

op_fn *mmx_select(const struct insn *insn, struct op *op)
{
	bool imm = insn->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	switch (insn->z->mnemonic) {
#define BINARY_CASE(name, how, size, f) case ZYDIS_MNEMONIC_##name: return mmx_##name;
		BINARY(BINARY_CASE)
#define SHIFT_CASE(name, f) case ZYDIS_MNEMONIC_##name: return imm ? mmx_imm_##name : mmx_##name;
		SHIFT(SHIFT_CASE)
	case ZYDIS_MNEMONIC_PSHUFW: return pshufw;
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVQ: return move(insn, op);
	case ZYDIS_MNEMONIC_MOVNTQ: return store8;
	case ZYDIS_MNEMONIC_MOVQ2DQ: return movq2dq;
	case ZYDIS_MNEMONIC_MOVDQ2Q: return movdq2q;
	case ZYDIS_MNEMONIC_PINSRW: return pinsrw;
	case ZYDIS_MNEMONIC_PEXTRW: return pextrw;
	case ZYDIS_MNEMONIC_PMOVMSKB: return pmovmskb;
	case ZYDIS_MNEMONIC_EMMS: return emms;
	case ZYDIS_MNEMONIC_MASKMOVQ:
		op->seg = CPU_DS;
		for (unsigned i = 0; i < insn->z->operand_count; i++)
			if (insn->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
				op->seg = (uint8_t)(insn->o[i].mem.segment - ZYDIS_REGISTER_ES);
		return maskmovq;
	default: return NULL;
	}
}
