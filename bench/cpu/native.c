/* SPDX-License-Identifier: MIT */
/* The kernels as a program: what they take without a virtual machine. The same lines as guest.c writes. */
#include <inttypes.h>
#include <stdio.h>

#include "bench/cpu/kernels.h"

int main(void)
{
	printf("begin\n");
	fflush(stdout);
	for (const struct kernel *kernel = kernels; kernel->name; kernel++) {
		uint64_t sum = kernel->run();

		printf("%s|%" PRIu64 "\n", kernel->name, sum);
		fflush(stdout);
	}
	return 0;
}
