/* SPDX-License-Identifier: MIT */
/*
 * CVTPI2PS CVTPI2PD, CVTPS2PI CVTTPS2PI CVTPD2PI CVTTPD2PI, run by the host's SSE unit.
 *
 * The two integers of an MMX register are the lower half of a vector, and SSE2's conversion from or to a vector of
 * integers gives the same result for them. A conversion from memory does not use the MMX registers: it leaves the
 * x87 state alone, and a pending x87 exception stays pending. Otherwise the x87 state changes to MMX's before #XM is
 * raised.
 */
#include "cpu/fpu/sse.h"

#define FROM_MMX(X) X(CVTPI2PS, "cvtdq2ps", 1) X(CVTPI2PD, "cvtdq2pd", 2)
#define FROM_MMX_HANDLER(name, insn, quads)                                                                   \
	static void from_mmx_##name(struct cpu *cpu, const struct op *op)                                     \
	{                                                                                                     \
		union xmm a, b, result;                                                                       \
		uint32_t after;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		if (op->mem != 1)                                                                             \
			mmx_check(cpu);                                                                       \
		b = (union xmm){ .q = { mmx_source(cpu, op, 8) } };                                           \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn " %[b], %[r]", after, [r] "=x"(result.i), [b] "x"(b.i));                    \
		if (op->mem != 1)                                                                             \
			mmx_begin_write(cpu);                                                                 \
		sse_check_raised(cpu, after);                                                                 \
		memcpy(&a, &result, 8 * (quads));                                                             \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
FROM_MMX(FROM_MMX_HANDLER)

#define TO_MMX(X)                                                                                             \
	X(CVTPS2PI, "cvtps2dq", 8) X(CVTTPS2PI, "cvttps2dq", 8)                                               \
	X(CVTPD2PI, "cvtpd2dq", 16) X(CVTTPD2PI, "cvttpd2dq", 16)
#define TO_MMX_HANDLER(name, insn, bytes)                                                                     \
	static void to_mmx_##name(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		union xmm b, result;                                                                          \
		uint32_t after;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		mmx_check(cpu);                                                                               \
		b = xmm_source(cpu, op, bytes);                                                               \
		if ((bytes) == 8)                                                                             \
			b.q[1] = 0;                                                                           \
		SSE_RUN(cpu, insn " %[b], %[r]", after, [r] "=x"(result.i), [b] "x"(b.i));                    \
		mmx_begin_write(cpu);                                                                         \
		sse_check_raised(cpu, after);                                                                 \
		mmx_write(cpu, op->reg[0], result.q[0]);                                                      \
	}
TO_MMX(TO_MMX_HANDLER)

op_fn *mmx_convert_select(const struct insn *insn, struct op *op)
{
	(void)op;
	switch (insn->z->mnemonic) {
#define FROM_MMX_CASE(name, insn, quads) case ZYDIS_MNEMONIC_##name: return from_mmx_##name;
		FROM_MMX(FROM_MMX_CASE)
#define TO_MMX_CASE(name, insn, bytes) case ZYDIS_MNEMONIC_##name: return to_mmx_##name;
		TO_MMX(TO_MMX_CASE)
	default: return NULL;
	}
}
