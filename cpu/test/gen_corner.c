/* SPDX-License-Identifier: MIT */
#include "gen_corner.h"

struct layout {
	unsigned int exponent, fraction; /* bits of each */
};

static struct layout layout(struct gen_rand *r, unsigned int bits)
{
	switch (bits) {
	case 16:
		return gen_percent(r, 50) ? (struct layout){ 5, 10 } : (struct layout){ 8, 7 };
	case 32:
		return (struct layout){ 8, 23 };
	default:
		return (struct layout){ 11, 52 };
	}
}

static uint64_t ones(unsigned int bits)
{
	return (UINT64_C(1) << bits) - 1;
}

uint64_t gen_corner_fraction(struct gen_rand *r, unsigned int bits)
{
	uint64_t all = ones(bits), v = gen_next(r);

	switch (gen_below(r, 10)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return all;
	case 3:
		return all - 1;
	case 4:
		return UINT64_C(1) << (bits - 1);
	case 5:
		return UINT64_C(1) << v % bits;
	case 6: /* ones above */
		return all & ~ones((unsigned int)(v % bits));
	case 7: /* ones below */
		return ones((unsigned int)(v % bits));
	default:
		return v & all;
	}
}

static uint64_t corner_exponent(struct gen_rand *r, struct layout l)
{
	uint64_t max = ones(l.exponent), bias = max >> 1, v = gen_next(r);

	switch (gen_below(r, 8)) {
	case 0: /* zero, denormal, the smallest normal numbers */
		return v % 3;
	case 1: /* the largest, infinity, NaN */
		return max - v % 3;
	case 2: /* results at the limit of the normal numbers */
		return (v & 1 ? bias / 2 : bias + bias / 2) + v / 2 % 3 - 1;
	case 3: /* an ulp apart from one */
		return bias + (v & 1 ? l.fraction : 0 - (uint64_t)l.fraction) + v / 2 % 3 - 1;
	case 4: /* where integers of 32 and 64 bits end */
		return bias + (v & 1 ? 30 : 62) + v / 2 % 3;
	case 5:
		return v & max;
	default:
		return bias + v % 5 - 2;
	}
}

uint16_t gen_corner_extended(struct gen_rand *r)
{
	uint64_t sign = gen_next(r) & 0x8000;

	return (uint16_t)(sign | (corner_exponent(r, (struct layout){ 15, 63 }) & 0x7fff));
}

/* A number that has something to do with @other. */
static uint64_t near(struct gen_rand *r, struct layout l, uint64_t other)
{
	uint64_t sign = UINT64_C(1) << (l.exponent + l.fraction), v = gen_next(r);
	uint64_t exponent = other >> l.fraction & ones(l.exponent);

	switch (v & 7) {
	case 0:
		return other;
	case 1:
		return other ^ sign;
	case 2: /* half an ulp of it, or nearly */
	case 3:
		if (exponent > l.fraction + 1 && exponent != ones(l.exponent))
			return (v & 16 ? sign : 0) | (exponent - l.fraction - 1) << l.fraction |
			       (v & 32 ? gen_corner_fraction(r, l.fraction) : 0);
		return other + 1;
	case 4: /* the product is near one */
		return (other & sign) | ((ones(l.exponent) - 1 - exponent) & ones(l.exponent)) << l.fraction |
		       gen_corner_fraction(r, l.fraction);
	case 5: /* differs in the fraction only */
		return (other & ~ones(l.fraction)) | gen_corner_fraction(r, l.fraction);
	default:
		return (other ^ (v & 16 ? sign : 0)) + v / 32 % 7 - 3;
	}
}

uint64_t gen_corner(struct gen_rand *r, unsigned int bits, uint64_t other)
{
	struct layout l = layout(r, bits);
	uint64_t v = gen_next(r), all = ones(l.exponent + l.fraction + 1 == 64 ? 63 : bits) | UINT64_C(1) << (bits - 1);

	if (v % 10 < 3)
		return near(r, l, other) & all;
	if (v % 10 == 3)
		return gen_next(r) & all;
	return ((v >> 32 & 1) << (bits - 1) | (corner_exponent(r, l) & ones(l.exponent)) << l.fraction |
	        gen_corner_fraction(r, l.fraction)) & all;
}
