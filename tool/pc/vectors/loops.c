/* SPDX-License-Identifier: MIT */
/* Loops that gcc vectorises. The results are exact, or printed so that the order of sums does not matter. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#define N 4096

static double a[N], b[N];
static float f[N];
static int p[N], q[N];
static unsigned char bytes[N];

void fill(unsigned seed)
{
	for (size_t i = 0; i < N; i++) {
		seed = seed * 1664525u + 1013904223u;
		a[i] = (seed >> 8) * 0x1p-24;
		b[i] = 1 + a[i] * 0.5;
		f[i] = (float)a[i] * 3;
		p[i] = (int)(seed >> 3) - 0x10000000;
		q[i] = (int)(seed % 1000);
		bytes[i] = (unsigned char)(seed >> 24);
	}
}

double triad(double s)
{
	double sum = 0;

	for (size_t i = 0; i < N; i++)
		a[i] = a[i] * s + b[i];
	for (size_t i = 0; i < N; i++)
		sum += a[i] * b[i];
	return sum;
}

float largest(void)
{
	float m = f[0];

	for (size_t i = 1; i < N; i++)
		m = f[i] > m ? f[i] : m;
	return m;
}

unsigned mix(void)
{
	unsigned h = 0;

	for (size_t i = 0; i < N; i++)
		p[i] = q[i] > 500 ? p[i] * q[i] : p[i] - q[i];
	for (size_t i = 0; i < N; i++)
		h += (unsigned)p[i] ^ (unsigned)q[N - 1 - i];
	for (size_t i = 0; i < N; i++)
		h += (unsigned)__builtin_popcount((unsigned)p[i]) + bytes[(unsigned)q[i]];
	return h;
}

unsigned saturate(void)
{
	unsigned h = 0;

	for (size_t i = 0; i < N; i++) {
		int v = bytes[i] * 3 - 200;

		bytes[i] = (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
	}
	for (size_t i = 0; i < N; i++)
		h += bytes[i];
	return h;
}

int main(void)
{
	double s = 0;

	fill(7);
	for (int i = 0; i < 20; i++)
		s = triad(0.25);
	printf("%.9g %.7g %u %u\n", s, largest(), mix(), saturate());
	for (int i = 0; i < N; i++)
		a[i] = sqrt(a[i]) / b[i];
	printf("%.9g\n", triad(0.5));
	return 0;
}
