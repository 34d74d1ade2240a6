/* SPDX-License-Identifier: MIT */
/* Floating-point numbers at the corners: as TestFloat does, from corner exponents and corner fractions. */
#ifndef VMMU_CPU_TEST_GEN_CORNER_H
#define VMMU_CPU_TEST_GEN_CORNER_H

#include "gen_rand.h"

/*
 * A number of @bits: 16 (half precision or bfloat16), 32 or 64.
 * @other: another operand. Some numbers are near it: a few ulp away, its negative, half its ulp, about its reciprocal.
 */
uint64_t gen_corner(struct gen_rand *r, unsigned int bits, uint64_t other);

/* The fraction of such a number, @bits long. */
uint64_t gen_corner_fraction(struct gen_rand *r, unsigned int bits);

/* An exponent of x87's 80-bit numbers, with the sign. */
uint16_t gen_corner_extended(struct gen_rand *r);

#endif
