/* SPDX-License-Identifier: MIT */
/* How fast the CPU is in a few loops, and what a TLB miss costs. A benchmark, not a test. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "guest.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run(struct guest *g, uint64_t count)
{
	double start;

	cpu_state(g->cpu)->gpr[CPU_RCX] = count;
	cpu_state(g->cpu)->rip = GUEST_CODE;
	start = now();
	guest_run_to_hlt(g);
	return now() - start;
}

static void loop_of(const char *name, const uint8_t *code, unsigned size, double instructions, uint64_t count,
                    const char *unit)
{
	struct guest *g = guest_make();
	double best = 1e9;

	guest_long(g);
	guest_code(g, GUEST_CODE, code, size);
	for (unsigned i = 0; i < 5; i++) {
		double t = run(g, count);

		if (t < best)
			best = t;
	}
	if (unit != NULL)
		printf("%-16s %8.1f %s\n", name, best * 1e9 / ((double)count * instructions), unit);
	else
		printf("%-16s %8.0f MIPS\n", name, (double)count * instructions / best / 1e6);
	guest_free(g);
}

int main(void)
{
	/* mov $0x100000,%rdi; 1: mov %rcx,(%rdi); add $8,%rdi; and $0x17ffff,%edi; sub $1,%rcx; jne 1b; hlt */
	static const uint8_t store[] = { 0x48, 0xc7, 0xc7, 0, 0, 0x10, 0, 0x48, 0x89, 0x0f, 0x48, 0x83, 0xc7, 8, 0x81,
		0xe7, 0xff, 0xff, 0x17, 0, 0x48, 0x83, 0xe9, 1, 0x75, 0xee, 0xf4 };
	/*
	 * mov $0x100000,%rbx; xor %eax,%eax; 1: lea 3(%rax),%rax; and $0xffff,%eax; movb $1,(%rbx,%rax);
	 * cmpb $0,1(%rbx,%rax); jne 2f; inc %edx; 2: dec %rcx; jne 1b; hlt
	 */
	static const uint8_t sieve[] = { 0x48, 0xc7, 0xc3, 0, 0, 0x10, 0, 0x31, 0xc0, 0x48, 0x8d, 0x40, 3, 0x25, 0xff,
		0xff, 0, 0, 0xc6, 0x04, 0x03, 1, 0x80, 0x7c, 0x03, 1, 0, 0x75, 2, 0xff, 0xc2, 0x48, 0xff, 0xc9, 0x75,
		0xe5, 0xf4 };
	/* 1: call 2f; dec %rcx; jne 1b; hlt; 2: push %rbx; pop %rbx; ret */
	static const uint8_t call[] = { 0xe8, 6, 0, 0, 0, 0x48, 0xff, 0xc9, 0x75, 0xf6, 0xf4, 0x53, 0x5b, 0xc3 };
	/*
	 * mov $0x200000,%rdi; 1: mov (%rdi),%rax; add $4096,%rdi; and $0x1ffffff,%edi; or $0x200000,%edi;
	 * sub $1,%rcx; jne 1b; hlt. It goes through more than 4096 pages in turn, so every load misses.
	 */
	static const uint8_t miss[] = { 0x48, 0xc7, 0xc7, 0, 0, 0x20, 0, 0x48, 0x8b, 0x07, 0x48, 0x81, 0xc7, 0, 0x10,
		0, 0, 0x81, 0xe7, 0xff, 0xff, 0xff, 1, 0x81, 0xcf, 0, 0, 0x20, 0, 0x48, 0x83, 0xe9, 1, 0x75, 0xe5,
		0xf4 };
	/* 1: mulsd %xmm1,%xmm0; addsd %xmm2,%xmm0; dec %rcx; jne 1b; hlt */
	static const uint8_t scalar[] = { 0xf2, 0x0f, 0x59, 0xc1, 0xf2, 0x0f, 0x58, 0xc2, 0x48, 0xff, 0xc9, 0x75, 0xf3,
		0xf4 };
	/* 1: pshufb %xmm1,%xmm0; aesenc %xmm2,%xmm0; dec %rcx; jne 1b; hlt */
	static const uint8_t vector[] = { 0x66, 0x0f, 0x38, 0x00, 0xc1, 0x66, 0x0f, 0x38, 0xdc, 0xc2, 0x48, 0xff, 0xc9,
		0x75, 0xf1, 0xf4 };
	/*
	 * mov $0x100000,%ebx; fninit; 1: fldl (%rbx); fmul %st,%st; faddl 8(%rbx); fstpl 16(%rbx); dec %rcx; jne 1b;
	 * hlt
	 */
	static const uint8_t x87[] = { 0xbb, 0, 0, 0x10, 0, 0xdb, 0xe3, 0xdd, 0x03, 0xd8, 0xc8, 0xdc, 0x43, 8, 0xdd,
		0x5b, 16, 0x48, 0xff, 0xc9, 0x75, 0xf1, 0xf4 };
	/* fninit; 1: fldpi; fsin; fstp %st; dec %rcx; jne 1b; hlt */
	static const uint8_t sine[] = { 0xdb, 0xe3, 0xd9, 0xeb, 0xd9, 0xfe, 0xdd, 0xd8, 0x48, 0xff, 0xc9, 0x75, 0xf5,
		0xf4 };
	/* fninit; fld1; fldz; 1: fcomi %st(1),%st; fcmovb %st(1),%st; dec %rcx; jne 1b; hlt */
	static const uint8_t compare[] = { 0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xee, 0xdb, 0xf1, 0xda, 0xc1, 0x48, 0xff, 0xc9,
		0x75, 0xf7, 0xf4 };

	loop_of("store loop", store, sizeof(store), 5, 20000000, NULL);
	loop_of("sieve", sieve, sizeof(sieve), 7, 20000000, NULL);
	loop_of("call and return", call, sizeof(call), 6, 20000000, NULL);
	loop_of("TLB miss", miss, sizeof(miss), 1, 2000000, "ns each");
	loop_of("mulsd, addsd", scalar, sizeof(scalar), 1, 20000000, "ns a loop");
	loop_of("pshufb, aesenc", vector, sizeof(vector), 1, 20000000, "ns a loop");
	loop_of("x87, 4 of them", x87, sizeof(x87), 4, 5000000, "ns each");
	loop_of("fsin", sine, sizeof(sine), 1, 2000000, "ns a loop");
	loop_of("fcomi, fcmovb", compare, sizeof(compare), 2, 5000000, "ns each");
	return 0;
}
