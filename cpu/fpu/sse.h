/* SPDX-License-Identifier: MIT */
/*
 * What the files of SSE semantics share: operands as vectors, and the host's SSE unit under the guest's MXCSR.
 *
 * These files need an x86-64 host: the guest's sum is the host's sum, with its rounding, exceptions and approximations.
 */
#ifndef CPU_FPU_SSE_H
#define CPU_FPU_SSE_H

#include <emmintrin.h>

#include "cpu/fpu/fpe.h"
#include "cpu/insn/insn.h"

/* An XMM register in all its formats. */
union xmm {
	__m128i i;
	__m128 s;
	__m128d d;
	uint8_t b[16];
	uint16_t w[8];
	uint32_t l[4];
	uint64_t q[2];
};

/*
 * A register's 16 bytes are loaded and stored as one: a load of what two stores have just written waits for both to
 * reach the cache.
 */
INLINE union xmm xmm_read(struct cpu *cpu, unsigned n)
{
	return (union xmm){ .i = _mm_load_si128((const __m128i *)(const void *)cpu_xmm(cpu, n)) };
}

INLINE void xmm_write(struct cpu *cpu, unsigned n, const union xmm *v)
{
	_mm_store_si128((__m128i *)(void *)cpu_xmm(cpu, n), v->i);
}

/* Load `size` bytes (2, 4, 8, 16) of memory; the rest is 0. `aligned`: a misaligned 16-byte operand is #GP. */
INLINE union xmm xmm_load(struct cpu *cpu, const struct op *op, unsigned size, bool aligned)
{
	uint64_t linear = op_linear(cpu, op, size, false);
	union xmm v;
	const uint8_t *at;

	if (size < 16)
		return (union xmm){ .i = _mm_cvtsi64_si128((long long)mem_read(cpu, linear, size)) };
	if (aligned && unlikely(linear & 15))
		cpu_gp(cpu);
	at = tlb_find(cpu, TLB_READ, linear, 16);
	if (likely(at != NULL))
		return (union xmm){ .i = _mm_set_epi64x((long long)host_load(at + 8, 8), (long long)host_load(at, 8)) };
	mem_read_bytes(cpu, linear, v.b, 16);
	return v;
}

INLINE void xmm_store(struct cpu *cpu, const struct op *op, unsigned size, bool aligned, const union xmm *v)
{
	uint64_t linear = op_linear(cpu, op, size, true);
	uint8_t *at;

	if (size < 16) {
		mem_write(cpu, linear, size, v->q[0]);
		return;
	}
	if (aligned && unlikely(linear & 15))
		cpu_gp(cpu);
	at = tlb_find(cpu, TLB_WRITE, linear, 16);
	if (likely(at != NULL)) {
		host_store(at, 8, v->q[0]);
		host_store(at + 8, 8, v->q[1]);
	} else {
		mem_write_bytes(cpu, linear, v->b, 16);
	}
}

/* Operand 1: a register, or memory of `size` bytes (16: must be aligned). */
INLINE union xmm xmm_source(struct cpu *cpu, const struct op *op, unsigned size)
{
	if (op->mem == 1)
		return xmm_load(cpu, op, size, true);
	return xmm_read(cpu, op->reg[1]);
}

/* ---- MMX registers (mmx.c) ------------------------------------------------------------------------------- */

/** What an instruction on MMX registers checks first: #UD, #NM, and a pending #MF. The registers are in s.fx then. */
void mmx_check(struct cpu *cpu);
uint64_t mmx_read(struct cpu *cpu, unsigned n);
/** Change the x87 state as each instruction on MMX registers does. Call after everything that can fault. */
void mmx_begin_write(struct cpu *cpu);
/** mmx_begin_write, and write the register. */
void mmx_write(struct cpu *cpu, unsigned n, uint64_t v);

/* Operand 1: a register, or memory of `size` bytes. */
INLINE uint64_t mmx_source(struct cpu *cpu, const struct op *op, unsigned size)
{
	return op->mem == 1 ? operand_load(cpu, op, size) : mmx_read(cpu, op->reg[1]);
}

/* ---- floating point ------------------------------------------------------------------------------------------ */

INLINE void sse_check_raised(struct cpu *cpu, uint32_t after)
{
	if (unlikely(cpu->mxcsr_careful))
		sse_raised(cpu, after & MXCSR_FLAGS);
}

/*
 * Run one host instruction under the guest's MXCSR. `asm` may name operands; result operands are "+x" or "=r". `after`:
 * the flags that it raised, if an exception is unmasked. sse_check_raised(cpu, after) comes next: an unmasked exception
 * has stopped the instruction, and there is no result.
 */
#define SSE_RUN(cpu, asm, after, outputs, ...)                                                                \
	do {                                                                                                  \
		if (likely(!(cpu)->mxcsr_careful)) {                                                          \
			__asm__ volatile(asm : outputs : __VA_ARGS__);                                        \
			(after) = 0;                                                                          \
		} else {                                                                                      \
			uint32_t guest_ = mxcsr_careful(cpu), clean_ = mxcsr_for_host(cpu), end_;             \
			struct fpe_window *window_ = fpe_open(cpu);                                           \
			void *at_;                                                                            \
                                                                                                              \
			__asm__ volatile("lea 71f(%%rip), %[at]\n\tmov %[at], %[from]\n\t"                   \
					 "lea 72f(%%rip), %[at]\n\tmov %[at], %[landing]\n\t"                \
					 "ldmxcsr %[guest]\n71:\t" asm                                        \
					 "\n72:\tstmxcsr %[end]\n\tldmxcsr %[clean]"                           \
					 : outputs, [end] "=&m"(end_), [at] "=&r"(at_),                       \
					   [from] "=&m"(window_->from), [landing] "=&m"(window_->landing)     \
					 : [guest] "m"(guest_), [clean] "m"(clean_), __VA_ARGS__);            \
			(after) = end_;                                                                       \
		}                                                                                             \
	} while (0)

#endif
