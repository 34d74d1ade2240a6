/* SPDX-License-Identifier: MIT */
/* SSE2 integer and bitwise operations, shuffles and packs: no flags, no rounding. */
#include "cpu/fpu/sse.h"

/* a = f(a, b). b is a register or 16 aligned bytes. */
#define BINARY(X)                                                                                             \
	X(PADDB, i, _mm_add_epi8) X(PADDW, i, _mm_add_epi16) X(PADDD, i, _mm_add_epi32)                       \
	X(PADDQ, i, _mm_add_epi64) X(PADDSB, i, _mm_adds_epi8) X(PADDSW, i, _mm_adds_epi16)                   \
	X(PADDUSB, i, _mm_adds_epu8) X(PADDUSW, i, _mm_adds_epu16)                                            \
	X(PSUBB, i, _mm_sub_epi8) X(PSUBW, i, _mm_sub_epi16) X(PSUBD, i, _mm_sub_epi32)                       \
	X(PSUBQ, i, _mm_sub_epi64) X(PSUBSB, i, _mm_subs_epi8) X(PSUBSW, i, _mm_subs_epi16)                   \
	X(PSUBUSB, i, _mm_subs_epu8) X(PSUBUSW, i, _mm_subs_epu16)                                            \
	X(PMULLW, i, _mm_mullo_epi16) X(PMULHW, i, _mm_mulhi_epi16) X(PMULHUW, i, _mm_mulhi_epu16)            \
	X(PMULUDQ, i, _mm_mul_epu32) X(PMADDWD, i, _mm_madd_epi16) X(PSADBW, i, _mm_sad_epu8)                 \
	X(PAVGB, i, _mm_avg_epu8) X(PAVGW, i, _mm_avg_epu16)                                                  \
	X(PMINUB, i, _mm_min_epu8) X(PMINSW, i, _mm_min_epi16) X(PMAXUB, i, _mm_max_epu8)                     \
	X(PMAXSW, i, _mm_max_epi16)                                                                           \
	X(PCMPEQB, i, _mm_cmpeq_epi8) X(PCMPEQW, i, _mm_cmpeq_epi16) X(PCMPEQD, i, _mm_cmpeq_epi32)           \
	X(PCMPGTB, i, _mm_cmpgt_epi8) X(PCMPGTW, i, _mm_cmpgt_epi16) X(PCMPGTD, i, _mm_cmpgt_epi32)           \
	X(PAND, i, _mm_and_si128) X(PANDN, i, _mm_andnot_si128) X(POR, i, _mm_or_si128)                       \
	X(PXOR, i, _mm_xor_si128)                                                                             \
	X(ANDPS, i, _mm_and_si128) X(ANDPD, i, _mm_and_si128) X(ANDNPS, i, _mm_andnot_si128)                  \
	X(ANDNPD, i, _mm_andnot_si128) X(ORPS, i, _mm_or_si128) X(ORPD, i, _mm_or_si128)                      \
	X(XORPS, i, _mm_xor_si128) X(XORPD, i, _mm_xor_si128)                                                 \
	X(PACKSSWB, i, _mm_packs_epi16) X(PACKSSDW, i, _mm_packs_epi32) X(PACKUSWB, i, _mm_packus_epi16)      \
	X(PUNPCKLBW, i, _mm_unpacklo_epi8) X(PUNPCKLWD, i, _mm_unpacklo_epi16)                                \
	X(PUNPCKLDQ, i, _mm_unpacklo_epi32) X(PUNPCKLQDQ, i, _mm_unpacklo_epi64)                              \
	X(PUNPCKHBW, i, _mm_unpackhi_epi8) X(PUNPCKHWD, i, _mm_unpackhi_epi16)                                \
	X(PUNPCKHDQ, i, _mm_unpackhi_epi32) X(PUNPCKHQDQ, i, _mm_unpackhi_epi64)                              \
	X(UNPCKLPS, i, _mm_unpacklo_epi32) X(UNPCKLPD, i, _mm_unpacklo_epi64)                                 \
	X(UNPCKHPS, i, _mm_unpackhi_epi32) X(UNPCKHPD, i, _mm_unpackhi_epi64)

#define BINARY_HANDLER(name, field, f)                                                                        \
	static void binary_##name(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		union xmm a, b;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, 16);                                                                  \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		a.field = f(a.field, b.field);                                                                \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
BINARY(BINARY_HANDLER)

/* Shifts by the low 64 bits of the source, or by an immediate. */
#define SHIFT(X)                                                                                              \
	X(PSLLW, _mm_sll_epi16) X(PSLLD, _mm_sll_epi32) X(PSLLQ, _mm_sll_epi64) X(PSRLW, _mm_srl_epi16)       \
	X(PSRLD, _mm_srl_epi32) X(PSRLQ, _mm_srl_epi64) X(PSRAW, _mm_sra_epi16) X(PSRAD, _mm_sra_epi32)

#define SHIFT_HANDLER(name, f)                                                                                \
	static void shift_##name(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		union xmm a, b;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, 16);                                                                  \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		a.i = f(a.i, b.i);                                                                            \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}                                                                                                     \
	static void shift_imm_##name(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		union xmm a;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		a.i = f(a.i, _mm_cvtsi32_si128((uint8_t)op->imm));                                            \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
SHIFT(SHIFT_HANDLER)

/* Shifts of the whole register by bytes. */
static void pslldq(struct cpu *cpu, const struct op *op)
{
	unsigned n = (uint8_t)op->imm > 16 ? 16 : (uint8_t)op->imm;
	uint8_t wide[32] = { 0 };

	cpu_sse_check(cpu);
	memcpy(wide + 16, cpu_xmm(cpu, op->reg[0]), 16);
	memcpy(cpu_xmm(cpu, op->reg[0]), wide + 16 - n, 16);
}

static void psrldq(struct cpu *cpu, const struct op *op)
{
	unsigned n = (uint8_t)op->imm > 16 ? 16 : (uint8_t)op->imm;
	uint8_t wide[32] = { 0 };

	cpu_sse_check(cpu);
	memcpy(wide, cpu_xmm(cpu, op->reg[0]), 16);
	memcpy(cpu_xmm(cpu, op->reg[0]), wide + n, 16);
}

/* ---- shuffles: a selector of two bits (SHUFPD: one) for each lane -------------------------------------- */

static void pshufd(struct cpu *cpu, const struct op *op)
{
	union xmm a, b;

	cpu_sse_check(cpu);
	b = xmm_source(cpu, op, 16);
	for (unsigned i = 0; i < 4; i++)
		a.l[i] = b.l[op->imm >> (2 * i) & 3];
	xmm_write(cpu, op->reg[0], &a);
}

INLINE void shuffle_words(struct cpu *cpu, const struct op *op, unsigned first)
{
	union xmm a, b;

	cpu_sse_check(cpu);
	a = b = xmm_source(cpu, op, 16);
	for (unsigned i = 0; i < 4; i++)
		a.w[first + i] = b.w[first + (op->imm >> (2 * i) & 3)];
	xmm_write(cpu, op->reg[0], &a);
}

static void pshuflw(struct cpu *cpu, const struct op *op)
{
	shuffle_words(cpu, op, 0);
}

static void pshufhw(struct cpu *cpu, const struct op *op)
{
	shuffle_words(cpu, op, 4);
}

/* The lower half selects from the destination, the upper half from the source. */
static void shufps(struct cpu *cpu, const struct op *op)
{
	union xmm a, b, v;

	cpu_sse_check(cpu);
	b = xmm_source(cpu, op, 16);
	a = xmm_read(cpu, op->reg[0]);
	for (unsigned i = 0; i < 4; i++)
		v.l[i] = (i < 2 ? a : b).l[op->imm >> (2 * i) & 3];
	xmm_write(cpu, op->reg[0], &v);
}

static void shufpd(struct cpu *cpu, const struct op *op)
{
	union xmm a, b, v;

	cpu_sse_check(cpu);
	b = xmm_source(cpu, op, 16);
	a = xmm_read(cpu, op->reg[0]);
	v.q[0] = a.q[op->imm & 1];
	v.q[1] = b.q[op->imm >> 1 & 1];
	xmm_write(cpu, op->reg[0], &v);
}

/* ---- SSE3: lanes doubled ------------------------------------------------------------------------------- */

static void movddup(struct cpu *cpu, const struct op *op)
{
	union xmm v;

	cpu_sse_check(cpu);
	v = xmm_source(cpu, op, 8);
	v.q[1] = v.q[0];
	xmm_write(cpu, op->reg[0], &v);
}

INLINE void double_lanes(struct cpu *cpu, const struct op *op, unsigned odd)
{
	union xmm a, b;

	cpu_sse_check(cpu);
	b = xmm_source(cpu, op, 16);
	a.l[0] = a.l[1] = b.l[odd];
	a.l[2] = a.l[3] = b.l[2 + odd];
	xmm_write(cpu, op->reg[0], &a);
}

static void movsldup(struct cpu *cpu, const struct op *op)
{
	double_lanes(cpu, op, 0);
}

static void movshdup(struct cpu *cpu, const struct op *op)
{
	double_lanes(cpu, op, 1);
}

op_fn *sse_integer_select(const struct insn *insn, struct op *op)
{
	bool imm = insn->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	(void)op;
	switch (insn->z->mnemonic) {
#define BINARY_CASE(name, field, f) case ZYDIS_MNEMONIC_##name: return binary_##name;
		BINARY(BINARY_CASE)
#define SHIFT_CASE(name, f) case ZYDIS_MNEMONIC_##name: return imm ? shift_imm_##name : shift_##name;
		SHIFT(SHIFT_CASE)
	case ZYDIS_MNEMONIC_PSLLDQ: return pslldq;
	case ZYDIS_MNEMONIC_PSRLDQ: return psrldq;
	case ZYDIS_MNEMONIC_PSHUFD: return pshufd;
	case ZYDIS_MNEMONIC_PSHUFLW: return pshuflw;
	case ZYDIS_MNEMONIC_PSHUFHW: return pshufhw;
	case ZYDIS_MNEMONIC_SHUFPS: return shufps;
	case ZYDIS_MNEMONIC_SHUFPD: return shufpd;
	case ZYDIS_MNEMONIC_MOVDDUP: return movddup;
	case ZYDIS_MNEMONIC_MOVSLDUP: return movsldup;
	case ZYDIS_MNEMONIC_MOVSHDUP: return movshdup;
	default: return NULL;
	}
}
