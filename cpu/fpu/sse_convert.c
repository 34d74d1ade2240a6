/* SPDX-License-Identifier: MIT */
/* SSE and SSE2 conversions, run by the host's SSE unit. */
#include "cpu/fpu/sse.h"

/* mnemonic, instruction, bytes of a memory source */
#define CONVERT(X)                                                                                            \
	X(CVTDQ2PS, "cvtdq2ps", 16) X(CVTPS2DQ, "cvtps2dq", 16) X(CVTTPS2DQ, "cvttps2dq", 16)                 \
	X(CVTDQ2PD, "cvtdq2pd", 8) X(CVTPD2DQ, "cvtpd2dq", 16) X(CVTTPD2DQ, "cvttpd2dq", 16)                  \
	X(CVTPS2PD, "cvtps2pd", 8) X(CVTPD2PS, "cvtpd2ps", 16)                                                \
	X(CVTSS2SD, "cvtss2sd", 4) X(CVTSD2SS, "cvtsd2ss", 8)

#define CONVERT_HANDLER(name, insn, bytes)                                                                    \
	static void convert_##name(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		union xmm a, b;                                                                               \
		uint32_t after;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, bytes);                                                               \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn " %[b], %[a]", after, [a] "+x"(a.i), [b] "x"(b.i));                         \
		sse_check_raised(cpu, after);                                                                 \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
CONVERT(CONVERT_HANDLER)

/* General register or memory to the low lane. */
#define FROM_INTEGER(X)                                                                                       \
	X(CVTSI2SS, "cvtsi2ssl %k[b], %[a]", 4) X(CVTSI2SS, "cvtsi2ssq %[b], %[a]", 8)                        \
	X(CVTSI2SD, "cvtsi2sdl %k[b], %[a]", 4) X(CVTSI2SD, "cvtsi2sdq %[b], %[a]", 8)
#define FROM_HANDLER(name, insn, size)                                                                        \
	static void from_##name##size(struct cpu *cpu, const struct op *op)                                   \
	{                                                                                                     \
		uint32_t after;                                                                               \
		union xmm a;                                                                                  \
		uint64_t b;                                                                                   \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = op->mem == 1 ? operand_load(cpu, op, size) : operand_read(cpu, op, 1, size);              \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn, after, [a] "+x"(a.i), [b] "r"(b));                                         \
		sse_check_raised(cpu, after);                                                                 \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
FROM_INTEGER(FROM_HANDLER)

/* Low lane to a general register. */
#define TO_INTEGER(X)                                                                                         \
	X(CVTSS2SI, "cvtss2si %[b], %k[a]", 4, 4) X(CVTSS2SI, "cvtss2si %[b], %q[a]", 4, 8)                   \
	X(CVTTSS2SI, "cvttss2si %[b], %k[a]", 4, 4) X(CVTTSS2SI, "cvttss2si %[b], %q[a]", 4, 8)               \
	X(CVTSD2SI, "cvtsd2si %[b], %k[a]", 8, 4) X(CVTSD2SI, "cvtsd2si %[b], %q[a]", 8, 8)                   \
	X(CVTTSD2SI, "cvttsd2si %[b], %k[a]", 8, 4) X(CVTTSD2SI, "cvttsd2si %[b], %q[a]", 8, 8)
#define TO_HANDLER(name, insn, bytes, size)                                                                   \
	static void to_##name##size(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		uint32_t after;                                                                               \
		union xmm b;                                                                                  \
		uint64_t a;                                                                                   \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, bytes);                                                               \
		SSE_RUN(cpu, insn, after, [a] "=&r"(a), [b] "x"(b.i));                                         \
		sse_check_raised(cpu, after);                                                                 \
		reg_write(cpu, op->reg[0], size, a);                                                          \
	}
TO_INTEGER(TO_HANDLER)

op_fn *sse_convert_select(const struct insn *insn, struct op *op)
{
	bool wide_from = op->size2 == 8, wide_to = op->size == 8;

	switch (insn->z->mnemonic) {
#define CONVERT_CASE(name, insn, bytes) case ZYDIS_MNEMONIC_##name: return convert_##name;
		CONVERT(CONVERT_CASE)
	case ZYDIS_MNEMONIC_CVTSI2SS: return wide_from ? from_CVTSI2SS8 : from_CVTSI2SS4;
	case ZYDIS_MNEMONIC_CVTSI2SD: return wide_from ? from_CVTSI2SD8 : from_CVTSI2SD4;
	case ZYDIS_MNEMONIC_CVTSS2SI: return wide_to ? to_CVTSS2SI8 : to_CVTSS2SI4;
	case ZYDIS_MNEMONIC_CVTTSS2SI: return wide_to ? to_CVTTSS2SI8 : to_CVTTSS2SI4;
	case ZYDIS_MNEMONIC_CVTSD2SI: return wide_to ? to_CVTSD2SI8 : to_CVTSD2SI4;
	case ZYDIS_MNEMONIC_CVTTSD2SI: return wide_to ? to_CVTTSD2SI8 : to_CVTTSD2SI4;
	default: return NULL;
	}
}
