/* SPDX-License-Identifier: MIT */
/*
 * About 290 KiB of code, run in random order: what a kernel of an operating system looks like to whoever runs its code.
 * 1024 functions that differ in their constants, called through a table.
 */
#include "bench/cpu/kernels.h"

#define FUNCTIONS 1024u
#define CALLS     2000000u

static uint64_t words[256];

#define PIECE(n) \
static __attribute__((noinline)) uint64_t piece_##n(uint64_t x) \
{ \
	uint64_t y = x * (0x##n##9u | 1) + 0x1##n##u; \
	if (x & 1) \
		y ^= words[(x >> 8) % 256] + 0x##n##5u; \
	else \
		words[(y >> 8) % 256] += x ^ 0x##n##7u; \
	for (unsigned i = 0; i < (x >> 5 & 3); i++) \
		y = (y << 7 | y >> 57) + 0x##n##3u; \
	if ((y >> 16 & 0xfff) <= 0x##n##u) \
		y -= words[0x##n##u % 256] ^ x >> 3; \
	words[0x##n##u / 4 % 256] ^= y; \
	if (y & 8) \
		y += (x >> 11) * 0x##n##bu; \
	if ((int64_t)y < 0x##n##1) \
		y ^= x << 9 ^ words[(y ^ x) >> 3 & 255]; \
	return y ^ y >> 29; \
}

#define SIXTEEN(each, n) \
	each(n##0) each(n##1) each(n##2) each(n##3) each(n##4) each(n##5) each(n##6) each(n##7) \
	each(n##8) each(n##9) each(n##a) each(n##b) each(n##c) each(n##d) each(n##e) each(n##f)
/* The same once more: a macro does not expand inside itself. */
#define ROW(each, n) \
	each(n##0) each(n##1) each(n##2) each(n##3) each(n##4) each(n##5) each(n##6) each(n##7) \
	each(n##8) each(n##9) each(n##a) each(n##b) each(n##c) each(n##d) each(n##e) each(n##f)

#define NAME(n)      piece_##n,
#define ROW_PIECE(n) ROW(PIECE, n)
#define ROW_NAME(n)  ROW(NAME, n)

SIXTEEN(ROW_PIECE, 0) SIXTEEN(ROW_PIECE, 1) SIXTEEN(ROW_PIECE, 2) SIXTEEN(ROW_PIECE, 3)

static uint64_t (*const pieces[FUNCTIONS])(uint64_t) = {
	SIXTEEN(ROW_NAME, 0) SIXTEEN(ROW_NAME, 1) SIXTEEN(ROW_NAME, 2) SIXTEEN(ROW_NAME, 3)
};

uint64_t large_code(void)
{
	uint64_t state = 88172645463325252u, x = 1;

	for (unsigned i = 0; i < 256; i++)
		words[i] = i;
	for (unsigned i = 0; i < CALLS; i++)
		x = pieces[kernel_random(&state) % FUNCTIONS](x + i);
	return x;
}
