/* SPDX-License-Identifier: MIT */
#include "gen_rand.h"

uint64_t gen_integer(struct gen_rand *r)
{
	static const uint64_t edge[] = {
		0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		UINT64_C(0x7fffffffffffffff), UINT64_C(0x8000000000000000), UINT64_C(0xffffffff80000000),
		UINT64_C(0xffffffff7fffffff), UINT64_C(0x100000000), UINT64_C(0xaaaaaaaaaaaaaaaa),
	};
	uint64_t v = gen_next(r);

	switch (gen_below(r, 10)) {
	case 0:
		return edge[v % (sizeof(edge) / sizeof(edge[0]))];
	case 1:
		return ~edge[v % (sizeof(edge) / sizeof(edge[0]))];
	case 2:
		return v % 64;
	case 3:
		return 0 - v % 64;
	case 4:
	case 5:
		return v >> gen_below(r, 64);
	case 6:
		return 0 - (v >> gen_below(r, 64));
	default:
		return v;
	}
}

static uint32_t float_bits(struct gen_rand *r)
{
	static const uint32_t edge[] = {
		0,          0x3f800000, 0x7f800000, 0x7fc00000, 0x7f800001, 0x7fffffff, 0x00000001, 0x007fffff,
		0x00800000, 0x7f7fffff, 0x4f000000, 0x4effffff, 0x5f000000, 0x40490fdb, 0x3f000000, 0x4b800001,
	};
	uint64_t v = gen_next(r);
	uint32_t sign = (uint32_t)(v >> 32) & 0x80000000;

	switch (gen_below(r, 4)) {
	case 0:
		return sign | edge[v % 16];
	case 1:
		return (uint32_t)v;
	default: /* near one, so that sums round and products do not overflow */
		return sign | (uint32_t)((127 - 32 + v % 64) << 23) | (uint32_t)((v >> 8) & 0x7fffff);
	}
}

static uint64_t double_bits(struct gen_rand *r)
{
	static const uint64_t edge[] = {
		0,
		UINT64_C(0x3ff0000000000000),
		UINT64_C(0x7ff0000000000000),
		UINT64_C(0x7ff8000000000000),
		UINT64_C(0x7ff0000000000001),
		UINT64_C(0x7fffffffffffffff),
		1,
		UINT64_C(0x000fffffffffffff),
		UINT64_C(0x0010000000000000),
		UINT64_C(0x7fefffffffffffff),
		UINT64_C(0x41e0000000000000),
		UINT64_C(0x41dfffffffc00000),
		UINT64_C(0x43e0000000000000),
		UINT64_C(0x36a0000000000000),
		UINT64_C(0x47efffffe0000000),
		UINT64_C(0x3fe0000000000000),
	};
	uint64_t v = gen_next(r);
	uint64_t sign = v & UINT64_C(0x8000000000000000);

	switch (gen_below(r, 4)) {
	case 0:
		return sign | edge[v % 16];
	case 1:
		return v;
	default:
		return sign | (1023 - 64 + v % 128) << 52 | ((v >> 8) & UINT64_C(0xfffffffffffff));
	}
}

uint64_t gen_float(struct gen_rand *r)
{
	if (gen_percent(r, 50))
		return double_bits(r);
	return float_bits(r) | (uint64_t)float_bits(r) << 32;
}

uint64_t gen_lane(struct gen_rand *r)
{
	switch (gen_below(r, 4)) {
	case 0:
		return gen_float(r);
	case 1: /* bytes at their limits, for saturation */
		return gen_next(r) & UINT64_C(0x8180ff7f8081ff01);
	case 2:
		return gen_integer(r);
	default:
		return gen_next(r);
	}
}
