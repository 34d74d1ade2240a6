/* SPDX-License-Identifier: MIT */
/* libm's functions, of which some are there with FMA and without, to the last bit. */
#include <math.h>
#include <stdio.h>

int main(void)
{
	for (int i = 1; i < 400; i++) {
		double x = i * 0.0371, y = i * 1.7e-3 - 0.3;
		long double z = x;

		float g = (float)x, h = (float)y;

		printf("%a %a %a %a %a %a\n", sin(x), cos(x), tan(x), exp(y), log(x), pow(x, y));
		printf("%a %a %a %a %a %a\n", sinf(g), cosf(g), expf(h), powf(g, h), log2f(g), sqrtf(g));
		printf("%a %a\n", atan2(y, x), fma(x, y, x));
		printf("%La %La %La %La %La\n", sinl(z), expl(z), logl(z), powl(z, 0.37L), fmodl(z, 0.11L));
		printf("%a %a %a %a %ld\n", floor(x * 3), ceil(-x), rint(x * 7), trunc(y), lrint(x * 5));
	}
	return 0;
}
