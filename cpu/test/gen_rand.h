/* SPDX-License-Identifier: MIT */
/* Random values that find bugs: boundaries, small numbers, and floating-point numbers of every class. */
#ifndef VMMU_CPU_TEST_GEN_RAND_H
#define VMMU_CPU_TEST_GEN_RAND_H

#include <stdbool.h>
#include <stdint.h>

struct gen_rand {
	uint64_t state;
};

static inline uint64_t gen_next(struct gen_rand *r)
{
	uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline uint64_t gen_below(struct gen_rand *r, uint64_t n)
{
	return gen_next(r) % n;
}

static inline bool gen_percent(struct gen_rand *r, unsigned int percent)
{
	return gen_below(r, 100) < percent;
}

static inline uint64_t gen_mask(unsigned int bytes)
{
	return bytes >= 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * bytes)) - 1;
}

static inline uint64_t gen_sign_extend(uint64_t v, unsigned int bytes)
{
	uint64_t sign = UINT64_C(1) << (8 * bytes - 1);

	return ((v & gen_mask(bytes)) ^ sign) - sign;
}

uint64_t gen_integer(struct gen_rand *r);
uint64_t gen_float(struct gen_rand *r);		/* 64 bits: a double or two floats */
uint64_t gen_lane(struct gen_rand *r);		/* 64 bits of anything */

#endif
