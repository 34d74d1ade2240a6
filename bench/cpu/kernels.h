/* SPDX-License-Identifier: MIT */
/*
 * Small programs that measure how fast guest code runs. The same source is built as a guest without an operating system
 * (guest.c) and as a program of the host (native.c).
 */
#ifndef BENCH_CPU_KERNELS_H
#define BENCH_CPU_KERNELS_H

#include <stdint.h>

struct kernel {
	const char *name;
	uint64_t (*run)(void); /* returns a checksum, the same wherever it runs */
};

/** All of them; the last one has no name. Some fill in tables at their first run. */
extern const struct kernel kernels[];

/** Each in a file of its own, for their size: code.c, float.c. */
uint64_t large_code(void);
uint64_t matrix_multiply(void);
uint64_t double_multiply_add(void);
uint64_t x87(void);

/** A generator of numbers that look random: one step of it. */
static inline uint64_t kernel_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
