/* SPDX-License-Identifier: MIT */
/*
 * Unmasked SSE exceptions, which are rare. The host runs with everything masked, and the flags that it raises are
 * right except in the few cases that are worked out here.
 */
#include "cpu/fpu/sse.h"

/*
 * Invalid operand, denormal operand and division by zero are detected before the computation. If one of them is
 * unmasked, nothing is computed, and overflow, underflow and precision are not reported.
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

/* A lane's number, by its fields. */
struct number {
	uint64_t fraction;
	unsigned exponent, exponent_max, fraction_bits;
};

static struct number number_get(const union xmm *v, bool wide, unsigned lane)
{
	if (wide)
		return (struct number){ v->q[lane] & ((UINT64_C(1) << 52) - 1), v->q[lane] >> 52 & 0x7ff, 0x7ff, 52 };
	return (struct number){ v->l[lane] & ((1u << 23) - 1), v->l[lane] >> 23 & 0xff, 0xff, 23 };
}

static void number_put(union xmm *v, bool wide, unsigned lane, const struct number *n)
{
	if (wide)
		v->q[lane] = (v->q[lane] & UINT64_C(1) << 63) | (uint64_t)n->exponent << 52 | n->fraction;
	else
		v->l[lane] = (v->l[lane] & 1u << 31) | n->exponent << 23 | (uint32_t)n->fraction;
}

static bool is_denormal(const struct number *n)
{
	return n->exponent == 0 && n->fraction != 0;
}

/*
 * Is the number one with which the host replaces a result that does not fit, while that is unmasked for the guest? For
 * underflow: 0, a denormal or the least normal number. For overflow: the greatest number or infinity.
 */
static bool is_extreme(const struct cpu *cpu, const struct number *n)
{
	if (n->exponent == 0 || (n->exponent == 1 && n->fraction == 0))
		return !(cpu->s.fx.mxcsr & MXCSR_UM);
	return n->exponent >= n->exponent_max - 1 && !(cpu->s.fx.mxcsr & MXCSR_OM);
}

struct sse_range sse_range_check(struct cpu *cpu, const union xmm *result, bool wide, unsigned lanes, uint32_t after)
{
	struct sse_range r = { after, false };
	uint32_t unmasked = ~(cpu->s.fx.mxcsr >> 7);

	if (unmasked & MXCSR_UE) {
		for (unsigned i = 0; i < lanes; i++) {
			struct number n = number_get(result, wide, i);

			if (is_denormal(&n))
				r.flags |= MXCSR_UE;
		}
	}
	r.again = r.flags & unmasked & (MXCSR_OE | MXCSR_UE);
	return r;
}

static bool is_too_great(const struct cpu *cpu, const union xmm *v, bool wide, unsigned lane)
{
	struct number n = number_get(v, wide, lane);

	return n.exponent != 0 && is_extreme(cpu, &n) && n.exponent >= n.exponent_max - 1;
}

/* Halve a lane. A sum that is too great shows no bit that is lost by this. */
static void halve(union xmm *operand, bool wide, unsigned lane)
{
	struct number n = number_get(operand, wide, lane);

	if (n.exponent == n.exponent_max || (n.exponent == 0 && n.fraction == 0))
		return;
	n.exponent = n.exponent > 1 ? n.exponent - 1 : 1;
	number_put(operand, wide, lane, &n);
}

/* Move a lane to between 1 and 2. */
static void center(union xmm *operand, bool wide, unsigned lane)
{
	struct number n = number_get(operand, wide, lane);

	if (n.exponent == n.exponent_max || (n.exponent == 0 && n.fraction == 0))
		return;
	while (n.exponent == 0) {
		n.fraction <<= 1;
		if (n.fraction >> n.fraction_bits)
			n.exponent = 1;
	}
	n.fraction &= (UINT64_C(1) << n.fraction_bits) - 1;
	n.exponent = n.exponent_max / 2;
	number_put(operand, wide, lane, &n);
}

void sse_rescale(const struct cpu *cpu, union xmm *operand, bool operand_wide, const union xmm *result, bool wide,
		 unsigned lanes, enum sse_scale scale)
{
	bool any = false;

	for (unsigned i = 0; i < lanes; i++) {
		struct number r = number_get(result, wide, i);
		bool great = is_too_great(cpu, result, wide, i);

		any |= great;
		if (scale == SCALE_PRODUCT && is_extreme(cpu, &r))
			center(operand, operand_wide, i);
		if (scale == SCALE_SUM && great) /* tiny sums are exact */
			halve(operand, operand_wide, i);
	}
	for (unsigned i = 0; any && scale == SCALE_ACROSS && i < lanes; i++)
		halve(operand, operand_wide, i);
}
