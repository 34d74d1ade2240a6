/* SPDX-License-Identifier: MIT */
/* SSE, SSE2 and SSE3 arithmetic and comparisons, run by the host's SSE unit. */
#include "cpu/fpu/sse.h"

/* mnemonic, instruction, bytes of a memory source */
#define ALL_FOUR(X, NAME, name)                                                                               \
	X(NAME##PS, #name "ps", 16) X(NAME##SS, #name "ss", 4) X(NAME##PD, #name "pd", 16) X(NAME##SD, #name "sd", 8)

#define ARITHMETIC(X)                                                                                         \
	ALL_FOUR(X, ADD, add) ALL_FOUR(X, SUB, sub) ALL_FOUR(X, MUL, mul) ALL_FOUR(X, DIV, div)               \
	ALL_FOUR(X, MIN, min) ALL_FOUR(X, MAX, max) ALL_FOUR(X, SQRT, sqrt)                                   \
	X(ADDSUBPS, "addsubps", 16) X(ADDSUBPD, "addsubpd", 16) X(HADDPS, "haddps", 16)                       \
	X(HADDPD, "haddpd", 16) X(HSUBPS, "hsubps", 16) X(HSUBPD, "hsubpd", 16)                               \
	X(RCPPS, "rcpps", 16) X(RCPSS, "rcpss", 4) X(RSQRTPS, "rsqrtps", 16) X(RSQRTSS, "rsqrtss", 4)

/*
 * Of registers, the host's instruction takes the second one from its place: no copy, no call, no stack frame.
 * careful_: an exception is unmasked.
 */
#define ARITHMETIC_HANDLER(name, insn, bytes)                                                                 \
	static __attribute__((noinline)) void careful_##name(struct cpu *cpu, const struct op *op)            \
	{                                                                                                     \
		union xmm a, b;                                                                               \
		uint32_t after;                                                                               \
                                                                                                              \
		b = xmm_source(cpu, op, bytes);                                                               \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn " %[b], %[a]", after, [a] "+x"(a.i), [b] "x"(b.i));                         \
		sse_check_raised(cpu, after);                                                                 \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}                                                                                                     \
                                                                                                              \
	static void memory_##name(struct cpu *cpu, const struct op *op)                                       \
	{                                                                                                     \
		union xmm a, b;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		if (unlikely(cpu->mxcsr_careful)) {                                                           \
			careful_##name(cpu, op);                                                              \
			return;                                                                               \
		}                                                                                             \
		b = xmm_load(cpu, op, bytes, true);                                                           \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		__asm__ volatile(insn " %[b], %[a]" : [a] "+x"(a.i) : [b] "x"(b.i));                         \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}                                                                                                     \
                                                                                                              \
	static void registers_##name(struct cpu *cpu, const struct op *op)                                    \
	{                                                                                                     \
		const __m128i *b = (const __m128i *)(const void *)cpu_xmm(cpu, op->reg[1]);                   \
		union xmm a;                                                                                  \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		if (unlikely(cpu->mxcsr_careful)) {                                                           \
			careful_##name(cpu, op);                                                              \
			return;                                                                               \
		}                                                                                             \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		__asm__ volatile(insn " %[b], %[a]" : [a] "+x"(a.i) : [b] "m"(*b));                          \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
ARITHMETIC(ARITHMETIC_HANDLER)

/* ---- comparisons that make masks: eight predicates ------------------------------------------------------------- */

#define PREDICATE(n, insn)                                                                                    \
	case n:                                                                                               \
		SSE_RUN(cpu, insn " $" #n ", %[b], %[a]", after, [a] "+x"(a.i), [b] "x"(b.i));                \
		break;
#define COMPARE_HANDLER(name, insn, bytes)                                                                    \
	static void compare_##name(struct cpu *cpu, const struct op *op)                                      \
	{                                                                                                     \
		union xmm a, b;                                                                               \
		uint32_t after = 0;                                                                           \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, bytes);                                                               \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		switch (op->imm & 7) {                                                                        \
			PREDICATE(0, insn)                                                                    \
			PREDICATE(1, insn)                                                                    \
			PREDICATE(2, insn)                                                                    \
			PREDICATE(3, insn)                                                                    \
			PREDICATE(4, insn)                                                                    \
			PREDICATE(5, insn)                                                                    \
			PREDICATE(6, insn)                                                                    \
			PREDICATE(7, insn)                                                                    \
		}                                                                                             \
		sse_check_raised(cpu, after);                                                                 \
		xmm_write(cpu, op->reg[0], &a);                                                               \
	}
COMPARE_HANDLER(ps, "cmpps", 16)
COMPARE_HANDLER(pd, "cmppd", 16)
COMPARE_HANDLER(ss, "cmpss", 4)
COMPARE_HANDLER(sd, "cmpsd", 8)

/* ---- comparisons that set flags ------------------------------------------------------------------------ */

#define ORDER(X) X(COMISS, "comiss", 4) X(UCOMISS, "ucomiss", 4) X(COMISD, "comisd", 8) X(UCOMISD, "ucomisd", 8)

#define ORDER_FLAGS(zf, pf, cf) "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)
#define ORDER_HANDLER(name, insn, bytes)                                                                      \
	static void order_##name(struct cpu *cpu, const struct op *op)                                        \
	{                                                                                                     \
		union xmm a, b;                                                                               \
		uint32_t after;                                                                               \
		bool zf, pf, cf;                                                                              \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, bytes);                                                               \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn " %[b], %[a]", after, ORDER_FLAGS(zf, pf, cf), [a] "x"(a.i), [b] "x"(b.i)); \
		sse_check_raised(cpu, after);                                                                 \
		flags_set(cpu, (zf ? RFLAGS_ZF : 0) | (pf ? RFLAGS_PF : 0) | (cf ? RFLAGS_CF : 0));           \
	}
ORDER(ORDER_HANDLER)

op_fn *sse_float_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
#define ARITHMETIC_CASE(name, insn, bytes) \
	case ZYDIS_MNEMONIC_##name: return op->mem == 1 ? memory_##name : registers_##name;
		ARITHMETIC(ARITHMETIC_CASE)
#define ORDER_CASE(name, insn, bytes) case ZYDIS_MNEMONIC_##name: return order_##name;
		ORDER(ORDER_CASE)
	case ZYDIS_MNEMONIC_CMPPS: return compare_ps;
	case ZYDIS_MNEMONIC_CMPPD: return compare_pd;
	case ZYDIS_MNEMONIC_CMPSS: return compare_ss;
	case ZYDIS_MNEMONIC_CMPSD: return compare_sd; /* insn/string.c took the string instruction of that name */
	default: return NULL;
	}
}
