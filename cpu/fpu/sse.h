/* SPDX-License-Identifier: MIT */
/*
 * What the files of SSE semantics share: operands as vectors, and the host's SSE unit under the guest's MXCSR.
 *
 * These files need an x86-64 host: the guest's sum is the host's sum, with its rounding, exceptions and approximations.
 */
#ifndef CPU_FPU_SSE_H
#define CPU_FPU_SSE_H

#include <emmintrin.h>

#include "cpu/base/mxcsr.h"
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

INLINE union xmm xmm_read(struct cpu *cpu, unsigned n)
{
	union xmm v;

	memcpy(&v, cpu_xmm(cpu, n), sizeof(v));
	return v;
}

INLINE void xmm_write(struct cpu *cpu, unsigned n, const union xmm *v)
{
	memcpy(cpu_xmm(cpu, n), v, sizeof(*v));
}

/* Load `size` bytes (2, 4, 8, 16) of memory; the rest is 0. `aligned`: a misaligned 16-byte operand is #GP. */
INLINE union xmm xmm_load(struct cpu *cpu, const struct op *op, unsigned size, bool aligned)
{
	uint64_t linear = op_linear(cpu, op, size, false);
	union xmm v;
	const uint8_t *at;

	v.q[0] = v.q[1] = 0;
	if (size < 16) {
		v.q[0] = mem_read(cpu, linear, size);
		return v;
	}
	if (aligned && unlikely(linear & 15))
		cpu_gp(cpu);
	at = tlb_find(cpu, TLB_READ, linear, 16);
	if (likely(at != NULL)) {
		v.q[0] = host_load(at, 8);
		v.q[1] = host_load(at + 8, 8);
	} else {
		mem_read_bytes(cpu, linear, v.b, 16);
	}
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

/** What an instruction on MMX registers checks first: #UD, #NM, and a pending #MF. */
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

/**
 * `raised`: the flags of this instruction. Raises #XM if one of them is unmasked. Call before the result is written.
 */
void sse_raised(struct cpu *cpu, uint32_t raised);

INLINE void sse_check_raised(struct cpu *cpu, uint32_t after)
{
	if (unlikely(cpu->mxcsr_careful))
		sse_raised(cpu, after & MXCSR_FLAGS);
}

/*
 * Run one host instruction under the guest's MXCSR. `asm` may name operands; result operands are "+x" or "=r". `after`:
 * the flags that it raised, if an exception is unmasked.
 */
#define SSE_RUN(cpu, asm, after, outputs, ...)                                                                \
	do {                                                                                                  \
		if (likely(!(cpu)->mxcsr_careful)) {                                                          \
			__asm__ volatile(asm : outputs : __VA_ARGS__);                                        \
			(after) = 0;                                                                          \
		} else {                                                                                      \
			uint32_t clean_ = mxcsr_for_host(cpu), end_;                                          \
                                                                                                              \
			__asm__ volatile(asm "\n\tstmxcsr %[end]\n\tldmxcsr %[clean]"                        \
					 : outputs, [end] "=&m"(end_) : [clean] "m"(clean_), __VA_ARGS__);    \
			(after) = end_;                                                                       \
		}                                                                                             \
	} while (0)

/*
 * The host answers for masked overflow and underflow. Unmasked ones ask another question: is the result out of range
 * before it is made to fit, and is it exact there? A denormal result is an underflow even if it is exact. `again` is
 * true when the instruction must run once more to learn the precision flag, with the operands of the lanes concerned
 * moved into the middle of the range (sse_rescale). Lanes of the result are doubles when `wide`.
 */
struct sse_range {
	uint32_t flags;
	bool again;
};

struct sse_range sse_range_check(struct cpu *cpu, const union xmm *result, bool wide, unsigned lanes, uint32_t after);

enum sse_scale {
	SCALE_NONE,	/* never out of range */
	SCALE_SUM,	/* move both operands together */
	SCALE_ACROSS,	/* the same, and a lane of the result comes from other lanes of the operands */
	SCALE_PRODUCT,	/* move each operand alone */
};

/* Move the lanes of an operand into range for which the lane of the result is out of range. */
void sse_rescale(const struct cpu *cpu, union xmm *operand, bool operand_wide, const union xmm *result, bool wide,
		 unsigned lanes, enum sse_scale scale);

INLINE bool sse_range_matters(const struct cpu *cpu)
{
	return unlikely(cpu->mxcsr_careful) && (~cpu->s.fx.mxcsr & (MXCSR_UM | MXCSR_OM));
}

#endif
