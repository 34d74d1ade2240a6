/* SPDX-License-Identifier: MIT */
/* SSE and SSE2 arithmetic and comparisons, run by the host's SSE unit. */
#include "cpu/insn_sse.h"

/*
 * Invalid operand, denormal operand and division by zero are found before anything is computed: if one of them is
 * unmasked, nothing was computed, and overflow, underflow and precision are not reported.
 */
void sse_raised(struct cpu *cpu, uint32_t raised)
{
	uint32_t unmasked = raised & ~(cpu->s.fx.mxcsr >> 7);

	if (unmasked & (MXCSR_IE | MXCSR_DE | MXCSR_ZE))
		raised &= MXCSR_IE | MXCSR_DE | MXCSR_ZE;
	cpu->s.fx.mxcsr |= raised;
	if (unmasked == 0)
		return;
	if (!(cpu->s.cr4 & CR4_OSXMMEXCPT))
		cpu_ud(cpu);
	cpu_raise(cpu, VECTOR_XM);
}

/* mnemonic, bytes of a memory source, which lanes of the result can underflow */
#define NEVER(v)      false
#define SINGLES(v)    tiny_single(v, 4)
#define SINGLE(v)     tiny_single(v, 1)
#define DOUBLES(v)    tiny_double(v, 2)
#define DOUBLE(v)     tiny_double(v, 1)

#define ALL_FOUR(X, NAME, name, PSRESULT, SSRESULT, PDRESULT, SDRESULT)                                       \
	X(NAME##PS, #name "ps", 16, PSRESULT) X(NAME##SS, #name "ss", 4, SSRESULT)                            \
	X(NAME##PD, #name "pd", 16, PDRESULT) X(NAME##SD, #name "sd", 8, SDRESULT)

#define ARITHMETIC(X)                                                                                         \
	ALL_FOUR(X, ADD, add, SINGLES, SINGLE, DOUBLES, DOUBLE)                                               \
	ALL_FOUR(X, SUB, sub, SINGLES, SINGLE, DOUBLES, DOUBLE)                                               \
	ALL_FOUR(X, MUL, mul, SINGLES, SINGLE, DOUBLES, DOUBLE)                                               \
	ALL_FOUR(X, DIV, div, SINGLES, SINGLE, DOUBLES, DOUBLE)                                               \
	ALL_FOUR(X, MIN, min, NEVER, NEVER, NEVER, NEVER)                                                     \
	ALL_FOUR(X, MAX, max, NEVER, NEVER, NEVER, NEVER)                                                     \
	ALL_FOUR(X, SQRT, sqrt, NEVER, NEVER, NEVER, NEVER)                                                   \
	X(RCPPS, "rcpps", 16, NEVER) X(RCPSS, "rcpss", 4, NEVER)                                              \
	X(RSQRTPS, "rsqrtps", 16, NEVER) X(RSQRTSS, "rsqrtss", 4, NEVER)

#define ARITHMETIC_HANDLER(name, insn, bytes, tiny)                                                           \
	static void arithmetic_##name(struct cpu *cpu, const struct op *op)                                   \
	{                                                                                                     \
		union xmm a, b;                                                                               \
		uint32_t after;                                                                               \
                                                                                                              \
		cpu_sse_check(cpu);                                                                           \
		b = xmm_source(cpu, op, bytes);                                                               \
		a = xmm_read(cpu, op->reg[0]);                                                                \
		SSE_RUN(cpu, insn " %[b], %[a]", after, [a] "+x"(a.i), [b] "x"(b.i));                         \
		if (unlikely(!(cpu->s.fx.mxcsr & MXCSR_UM)) && tiny(&a))                                      \
			after |= MXCSR_UE;                                                                    \
		sse_check_raised(cpu, after);                                                                 \
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

/* ---- comparisons that set flags ------------------------------------------------------------------------------------ */

#define ORDER(X) X(COMISS, "comiss", 4) X(UCOMISS, "ucomiss", 4) X(COMISD, "comisd", 8) X(UCOMISD, "ucomisd", 8)

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
		{                                                                                             \
			uint32_t guest = mxcsr_for_host(cpu), host;                                           \
                                                                                                              \
			__asm__ volatile("stmxcsr %[host]\n\tldmxcsr %[guest]\n\t" insn                       \
					 " %[b], %[a]\n\tstmxcsr %[end]\n\tldmxcsr %[host]"                   \
					 : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf), [host] "=&m"(host),         \
					   [end] "=&m"(after)                                                 \
					 : [guest] "m"(guest), [a] "x"(a.i), [b] "x"(b.i));                   \
		}                                                                                             \
		sse_check_raised(cpu, after);                                                                 \
		flags_set(cpu, (zf ? RFLAGS_ZF : 0) | (pf ? RFLAGS_PF : 0) | (cf ? RFLAGS_CF : 0));           \
	}
ORDER(ORDER_HANDLER)

op_fn *sse_float_select(const struct insn *insn, struct op *op)
{
	(void)op;
	switch (insn->z->mnemonic) {
#define ARITHMETIC_CASE(name, insn, bytes, tiny) case ZYDIS_MNEMONIC_##name: return arithmetic_##name;
		ARITHMETIC(ARITHMETIC_CASE)
#define ORDER_CASE(name, insn, bytes) case ZYDIS_MNEMONIC_##name: return order_##name;
		ORDER(ORDER_CASE)
	case ZYDIS_MNEMONIC_CMPPS: return compare_ps;
	case ZYDIS_MNEMONIC_CMPPD: return compare_pd;
	case ZYDIS_MNEMONIC_CMPSS: return compare_ss;
	case ZYDIS_MNEMONIC_CMPSD: return compare_sd; /* the string instruction was taken before */
	default: return NULL;
	}
}
