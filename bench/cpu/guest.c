/* SPDX-License-Identifier: MIT */
/*
 * The kernels as a guest without an operating system. On port 0xe9 it writes "begin", and after each kernel a line
 * "name|checksum": bench/run reads the CPU time of the process at each line.
 */
#include "bench/cpu/kernels.h"

void guest_main(void);

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void text(const char *s)
{
	while (*s)
		out8(0xe9, (uint8_t)*s++);
}

static void number(uint64_t n)
{
	if (n >= 10)
		number(n / 10);
	out8(0xe9, (uint8_t)('0' + n % 10));
}

void guest_main(void)
{
	text("begin\n");
	for (const struct kernel *kernel = kernels; kernel->name; kernel++) {
		uint64_t sum = kernel->run();

		text(kernel->name);
		text("|");
		number(sum);
		text("\n");
	}
	out8(0xf4, 0); /* QEMU's isa-debug-exit: it ends with status 1 */
	for (;;)
		continue;
}
