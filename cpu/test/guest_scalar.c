/* SPDX-License-Identifier: MIT */
/*
 * Scalar instructions that exist where the host has them: on a host that has all of them, and on one that has none.
 * What they compute, the differential test compares.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/system/host.h"
#include "guest.h"
#include "guest_asm.h"

#define UD 6
#define GP 13
#define CR4_OSXSAVE (UINT64_C(1) << 18)
#define RFLAGS_VM   (UINT64_C(1) << 17)

/* Stands in for the host's CPUID: every bit of the leaves of features, or none. */
static bool has_all;

void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)subleaf;
	memset(out, has_all && (leaf == 1 || leaf == 7 || leaf > 0x80000000) ? 0xff : 0, 4 * sizeof(out[0]));
}

static int setup_all(void **state)
{
	has_all = true;
	return guest_setup(state);
}

static int setup_none(void **state)
{
	has_all = false;
	return guest_setup(state);
}

static int setup_machine(void **state)
{
	has_all = true;
	*state = guest_make();
	return 0;
}

/* Returns: the vector that the code ends in; -1 for its own HLT. */
static int run_code(struct guest *g, const void *bytes, unsigned size)
{
	struct cpu_state *s = cpu_state(g->cpu);

	guest_code(g, GUEST_CODE, bytes, size);
	s->rip = GUEST_CODE - s->seg[CPU_CS].base;
	s->gpr[CPU_RSP] = GUEST_STACK - s->seg[CPU_SS].base;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return guest_run_to_hlt(g);
}
#define RUN(g, ...) run_code(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void test_direct_stores(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint8_t expected[64], found[64];

	s->gpr[CPU_RBX] = GUEST_DATA + 1;
	s->gpr[CPU_RAX] = UINT64_C(0x1122334455667788);
	assert_int_equal(RUN(g, 0x48, 0x0f, 0x38, 0xf9, 0x03, 0xf4), -1); /* MOVDIRI [rbx], rax */
	assert_int_equal(guest_read(g, GUEST_DATA + 1, 8), s->gpr[CPU_RAX]);
	s->gpr[CPU_RAX] = 0;
	assert_int_equal(RUN(g, 0x0f, 0x38, 0xf9, 0x03, 0xf4), -1); /* MOVDIRI [rbx], eax */
	assert_int_equal(guest_read(g, GUEST_DATA + 1, 8), UINT64_C(0x1122334400000000));

	/* The source is not aligned, and lies on two pages. */
	for (unsigned i = 0; i < sizeof(expected); i++) {
		expected[i] = (uint8_t)(3 * i + 1);
		guest_write(g, GUEST_DATA + 0xfdd + i, 1, expected[i]);
	}
	s->gpr[CPU_RBX] = GUEST_DATA + 0xfdd;
	s->gpr[CPU_RDX] = GUEST_DATA + 0x2040;
	guest_write(g, GUEST_DATA + 0x2080, 8, 0);
	assert_int_equal(RUN(g, 0x66, 0x0f, 0x38, 0xf8, 0x13, 0xf4), -1); /* MOVDIR64B rdx, [rbx] */
	for (unsigned i = 0; i < sizeof(found); i++)
		found[i] = (uint8_t)guest_read(g, GUEST_DATA + 0x2040 + i, 1);
	assert_memory_equal(found, expected, sizeof(found));
	assert_int_equal(guest_read(g, GUEST_DATA + 0x2080, 8), 0);
	s->gpr[CPU_RDX]++;
	assert_int_equal(RUN(g, 0x66, 0x0f, 0x38, 0xf8, 0x13, 0xf4), GP);
}

/* The destination of MOVDIR64B is in ES, whatever segment the source has. Both addresses have the address size. */
static void test_the_destination_of_movdir64b(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_protected(g);
	s->seg[CPU_ES].base = GUEST_DATA;
	s->seg[CPU_FS].base = GUEST_DATA + 0x1000;
	guest_write(g, GUEST_DATA + 0x1004, 4, 0x89abcdef);
	s->gpr[CPU_RBX] = 0xff0004;
	s->gpr[CPU_RDX] = 0xff0040;
	s->gpr[CPU_RSI] = 0;
	/* MOVDIR64B dx, fs:[bx+si] */
	assert_int_equal(RUN(g, 0x64, 0x67, 0x66, 0x0f, 0x38, 0xf8, 0x10, 0xf4), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 0x40, 4), 0x89abcdef);
}

static void test_clzero_in_another_segment(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->seg[CPU_FS].base = GUEST_DATA + 0x20;
	for (unsigned i = 0; i < 0x100; i += 8)
		guest_write(g, GUEST_DATA + i, 8, ~UINT64_C(0));
	s->gpr[CPU_RAX] = 0x2f; /* in the second line from GUEST_DATA on */
	assert_int_equal(RUN(g, 0x26, 0x64, 0x2e, 0x0f, 0x01, 0xfc, 0xf4), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 0x38, 8), ~UINT64_C(0));
	assert_int_equal(guest_read(g, GUEST_DATA + 0x40, 8), 0);
	assert_int_equal(guest_read(g, GUEST_DATA + 0x78, 8), 0);
	assert_int_equal(guest_read(g, GUEST_DATA + 0x80, 8), ~UINT64_C(0));
}

static void test_hints_and_serialize(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->gpr[CPU_RBX] = UINT64_C(0x5555000000000000);
	assert_int_equal(RUN(g, 0x0f, 0x01, 0xe8, 0xf4), -1);                   /* SERIALIZE */
	for (unsigned reg = 0; reg < 8; reg++) {
		assert_int_equal(RUN(g, 0x0f, 0x0d, 0x03 | reg << 3, 0xf4), -1); /* PREFETCH, PREFETCHW, PREFETCHWT1 */
		assert_int_equal(RUN(g, 0x0f, 0x18, 0x03 | reg << 3, 0xf4), -1); /* PREFETCHh, PREFETCHITn */
	}
	assert_int_equal(RUN(g, 0xf3, 0x0f, 0x09, 0xf4), -1);                   /* WBNOINVD */
}

/* VEX.W and XCR0 do not matter: only general registers are touched. */
static void test_vex_on_general_registers(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->cr4 &= ~CR4_OSXSAVE;
	s->gpr[CPU_RAX] = UINT64_C(0x8000000000000018);
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0xe8, 0xf3, 0xc8, 0xf4), -1); /* BLSR rdx, rax */
	assert_int_equal(s->gpr[CPU_RDX], UINT64_C(0x8000000000000010));
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0xec, 0xf3, 0xc8, 0xf4), UD); /* VEX.L */
	assert_int_equal(RUN(g, 0x66, 0xc4, 0xe2, 0xe8, 0xf3, 0xc8, 0xf4), UD);
	assert_int_equal(RUN(g, 0xf0, 0xc4, 0xe2, 0xe8, 0xf3, 0x0b, 0xf4), UD);
}

static void test_vex_needs_protected_mode(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_real(g);
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0x68, 0xf3, 0xc8, 0xf4), UD);
	guest_protected(g);
	s->gpr[CPU_RAX] = 0x18;
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0xe8, 0xf3, 0xc8, 0xf4), -1); /* VEX.W counts in 64-bit mode only */
	assert_int_equal(s->gpr[CPU_RDX], 0x10);
	s->seg[CPU_CS].db = 0;
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0x68, 0xf3, 0xc8, 0xf4), -1);
}

static void test_vex_is_undefined_in_virtual_8086_mode(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_protected(g);
	s->rflags |= RFLAGS_VM;
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = (struct cpu_segment){ .base = GUEST_CODE, .selector = GUEST_CODE >> 4, .limit = 0xffff,
		                                  .type = 3, .present = 1, .dpl = 3, .s = 1 };
	GUEST_CODE_BYTES(g, GUEST_CODE, 0xc4, 0xe2, 0x68, 0xf3, 0xc8, 0xcd, 0x50);
	s->rip = 0;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(guest_run_to_hlt(g), UD);
}

/* RDRAND has a number nearly always, and two of 64 bits differ. */
static void test_random_numbers(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t first;

	s->gpr[CPU_RAX] = UINT64_C(0x1111111111111111);
	assert_int_equal(RUN(g, 0x66, 0x0f, 0xc7, 0xf0, 0xf4), -1); /* 16 bits: the rest stays */
	assert_int_equal(s->gpr[CPU_RAX] >> 16, UINT64_C(0x111111111111));
	assert_int_equal(RUN(g, 0x0f, 0xc7, 0xf0, 0xf4), -1); /* 32 bits: the rest is clear */
	assert_int_equal(s->gpr[CPU_RAX] >> 32, 0);
	assert_int_equal(RUN(g, 0x48, 0x0f, 0xc7, 0xf0, 0xf4), -1);
	first = s->gpr[CPU_RAX];
	assert_true(first == 0 || (s->rflags & 1));
	assert_int_equal(RUN(g, 0x48, 0x0f, 0xc7, 0xf8, 0xf4), -1); /* RDSEED */
	assert_true(s->gpr[CPU_RAX] != first);
	assert_int_equal(!(s->rflags & 1), s->gpr[CPU_RAX] == 0);
	assert_int_equal(s->rflags & 0x8d4, 0);
}

static void test_what_the_host_lacks_is_undefined(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RAX] = s->gpr[CPU_RBX] = s->gpr[CPU_RDX] = GUEST_DATA;
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0xe8, 0xf3, 0xc8, 0xf4), UD);       /* BLSR */
	assert_int_equal(RUN(g, 0xc4, 0xe2, 0xe8, 0xf5, 0xc8, 0xf4), UD);       /* BZHI */
	assert_int_equal(RUN(g, 0x66, 0x0f, 0x38, 0xf6, 0xc0, 0xf4), UD);       /* ADCX */
	assert_int_equal(RUN(g, 0x0f, 0xc7, 0xf0, 0xf4), UD);                   /* RDRAND */
	assert_int_equal(RUN(g, 0x0f, 0xc7, 0xf8, 0xf4), UD);                   /* RDSEED */
	assert_int_equal(RUN(g, 0x0f, 0x01, 0xe8, 0xf4), UD);                   /* SERIALIZE */
	assert_int_equal(RUN(g, 0x0f, 0x01, 0xfc, 0xf4), UD);                   /* CLZERO */
	assert_int_equal(RUN(g, 0x48, 0x0f, 0x38, 0xf9, 0x03, 0xf4), UD);       /* MOVDIRI */
	assert_int_equal(RUN(g, 0x66, 0x0f, 0x38, 0xf8, 0x13, 0xf4), UD);       /* MOVDIR64B */
}

/* Without BMI1, TZCNT is BSF with a prefix that means nothing: 0 leaves the destination. */
static void test_tzcnt_or_bsf(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RAX] = 0;
	s->gpr[CPU_RDX] = 77;
	assert_int_equal(RUN(g, 0xf3, 0x0f, 0xbc, 0xd0, 0xf4), -1);
	assert_int_equal(s->gpr[CPU_RDX], has_all ? 32 : 77);
	assert_int_equal(s->rflags & 0x41, has_all ? 0x01 : 0x40); /* CF, or ZF */
}

#define TEST(setup, name) cmocka_unit_test_setup_teardown(name, setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(setup_all, test_direct_stores), TEST(setup_machine, test_the_destination_of_movdir64b),
		TEST(setup_all, test_clzero_in_another_segment), TEST(setup_all, test_hints_and_serialize),
		TEST(setup_all, test_vex_on_general_registers), TEST(setup_machine, test_vex_needs_protected_mode),
		TEST(setup_machine, test_vex_is_undefined_in_virtual_8086_mode),
		TEST(setup_none, test_what_the_host_lacks_is_undefined), TEST(setup_none, test_tzcnt_or_bsf),
		TEST(setup_all, test_tzcnt_or_bsf),
	};
	const struct CMUnitTest random[] = { TEST(setup_all, test_random_numbers) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unsigned a, b, c, d;

	/* This one runs the host's own instructions. */
	if (__get_cpuid(1, &a, &b, &c, &d) && c >> 30 & 1 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 18 & 1)
		failed += cmocka_run_group_tests(random, NULL, NULL);
	return failed;
}
