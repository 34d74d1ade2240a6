/* SPDX-License-Identifier: MIT */
/* Floating point: doubles in SSE registers, vectors and scalars, and x87. */
#include "bench/cpu/kernels.h"

#define N 160u

static double left[N][N], right[N][N], product[N][N];

static uint64_t bits(double x)
{
	union {
		double value;
		uint64_t bits;
	} u = { x };

	return u.bits;
}

uint64_t matrix_multiply(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < N; i++) {
		for (unsigned j = 0; j < N; j++) {
			left[i][j] = 1.0 + i * 0.25 - j * 0.125;
			right[i][j] = 0.5 + j * 0.0625 - i * 0.03125;
			product[i][j] = 0;
		}
	}
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < N; i++) {
			for (unsigned k = 0; k < N; k++) {
				double a = left[i][k];

				for (unsigned j = 0; j < N; j++)
					product[i][j] += a * right[k][j];
			}
		}
	}
	for (unsigned i = 0; i < N; i++)
		sum += bits(product[i][i]);
	return sum;
}

uint64_t double_multiply_add(void)
{
	double x = 0.5, y = 0.25;

	for (unsigned i = 0; i < 12000000; i++) {
		x = x * 0.999999 + 0.000001;
		y = y * 1.0000001 - x * 0.0000001;
	}
	return bits(x) ^ bits(y);
}

uint64_t x87(void)
{
	long double x = 0.5L, y = 0.25L;

	for (unsigned i = 0; i < 3000000; i++) {
		x = x * 0.999999L + y * 0.000001L;
		y = y / 1.0000001L - x * 0.0000001L;
	}
	return bits((double)x) ^ bits((double)y);
}
