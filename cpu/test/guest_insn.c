/* SPDX-License-Identifier: MIT */
/*
 * Single instructions that the differential test cannot reach, because they need another mode, another privilege
 * level, or state that the host's kernel hides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define UD 6
#define MF 16

/* Run code in long mode, at its usual place. Returns: the vector that it ends in; -1 for its own HLT. */
static int run_code(struct guest *g, const void *bytes, unsigned size)
{
	guest_code(g, GUEST_CODE, bytes, size);
	cpu_state(g->cpu)->rip = GUEST_CODE;
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return guest_run_to_hlt(g);
}

static int run_real(struct guest *g, const void *bytes, unsigned size)
{
	guest_code(g, GUEST_CODE, bytes, size);
	cpu_state(g->cpu)->seg[CPU_CS].base = GUEST_CODE;
	cpu_state(g->cpu)->seg[CPU_CS].selector = GUEST_CODE >> 4;
	cpu_state(g->cpu)->rip = 0;
	cpu_state(g->cpu)->gpr[CPU_RSP] = 0xf000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return guest_run_to_hlt(g);
}
#define RUN(how, g, ...) how(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static int setup_machine(void **state)
{
	*state = guest_make();
	return 0;
}

/* ---- which instructions exist -------------------------------------------------------------------------------- */

static void test_les_and_lds_of_a_register_are_undefined_in_real_mode(void **state)
{
	struct guest *g = *state;

	guest_real(g);
	assert_int_equal(RUN(run_real, g, 0xc4, 0xc0, 0xf4), UD);
	assert_int_equal(RUN(run_real, g, 0xc5, 0xf8, 0x77, 0xf4), UD); /* VZEROUPPER in other modes */
	assert_int_equal(RUN(run_real, g, 0xc4, 0xe2, 0x79, 0x18, 0xc0, 0xf4), UD);
}

static void test_vex_and_evex_and_xop_are_undefined_without_avx(void **state)
{
	struct guest *g = *state;

	assert_int_equal(RUN(run_code, g, 0xc5, 0xf8, 0x77, 0xf4), UD);
	assert_int_equal(RUN(run_code, g, 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1, 0xf4), UD);
	assert_int_equal(RUN(run_code, g, 0x8f, 0xe9, 0x78, 0x81, 0xc0, 0xf4), UD);
}

static void test_hint_opcodes_do_nothing(void **state)
{
	/* The memory operand is not canonical, and must not be accessed. */
	static const uint8_t opcodes[] = { 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f };
	static const uint8_t prefixes[] = { 0x66, 0xf2, 0xf3 };
	struct guest *g = *state;

	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		for (unsigned p = 0; p < sizeof(prefixes); p++) {
			cpu_state(g->cpu)->gpr[CPU_RBX] = UINT64_C(0x5555000000000000);
			assert_int_equal(RUN(run_code, g, 0x0f, opcodes[i], 0x03, 0xf4), -1);
			assert_int_equal(RUN(run_code, g, 0x0f, opcodes[i], 0xc8, 0xf4), -1);
			assert_int_equal(RUN(run_code, g, prefixes[p], 0x0f, opcodes[i], 0x03, 0xf4), -1);
		}
	}
}

static void test_what_cpuid_does_not_offer_is_undefined(void **state)
{
	struct guest *g = *state;

	assert_int_equal(RUN(run_code, g, 0xc7, 0xf8, 0, 0, 0, 0, 0xf4), UD);          /* XBEGIN */
	assert_int_equal(RUN(run_code, g, 0x8f, 0xe9, 0x78, 0x80, 0xc0, 0xf4), UD);    /* VFRCZPS */
	assert_int_equal(RUN(run_code, g, 0x0f, 0x01, 0xfd, 0xf4), UD);                /* RDPRU */
	assert_int_equal(RUN(run_code, g, 0x0f, 0x0f, 0xc0, 0x9e, 0xf4), UD);          /* PFADD */
}

/* For each bit of CPUID, the instruction that it promises. */
static void test_what_cpuid_offers_is_there(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint32_t one[4], seven[4], extended[4];

	cpu_cpuid_max(1, 0, one);
	cpu_cpuid_max(7, 0, seven);
	cpu_cpuid_max(0x80000001, 0, extended);
	assert_true(one[2] >> 22 & 1 && one[2] >> 23 & 1 && seven[1] >> 23 & 1 && seven[1] >> 24 & 1 &&
	            extended[2] >> 5 & 1);
	s->gpr[CPU_RBX] = GUEST_DATA;
	guest_write(g, GUEST_DATA, 4, 0x01020304);
	assert_int_equal(RUN(run_code, g, 0x0f, 0x38, 0xf0, 0x03, 0xf4), -1); /* MOVBE */
	assert_int_equal(s->gpr[CPU_RAX], 0x04030201);
	assert_int_equal(RUN(run_code, g, 0xf3, 0x0f, 0xb8, 0x03, 0xf4), -1); /* POPCNT */
	assert_int_equal(s->gpr[CPU_RAX], 5);
	assert_int_equal(RUN(run_code, g, 0xf3, 0x0f, 0xbd, 0x03, 0xf4), -1); /* LZCNT */
	assert_int_equal(s->gpr[CPU_RAX], 7);
	assert_int_equal(RUN(run_code, g, 0x66, 0x0f, 0xae, 0x3b, 0xf4), -1); /* CLFLUSHOPT */
	assert_int_equal(RUN(run_code, g, 0x66, 0x0f, 0xae, 0x33, 0xf4), -1); /* CLWB */
}

static void test_lock_makes_cr8_of_cr0(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_protected(g);
	s->gpr[CPU_RAX] = 5;
	/* lock mov cr0, eax; lock mov ebx, cr0 */
	assert_int_equal(RUN(run_code, g, 0xf0, 0x0f, 0x22, 0xc0, 0xf0, 0x0f, 0x20, 0xc3, 0xf4), -1);
	assert_int_equal(s->cr8, 5);
	assert_int_equal(s->gpr[CPU_RBX], 5);
	assert_int_equal(s->rip, GUEST_CODE + 9);
	assert_int_equal(RUN(run_code, g, 0xf0, 0x0f, 0x20, 0xdb, 0xf4), UD); /* CR3 */
	assert_int_equal(RUN(run_code, g, 0xf0, 0x89, 0xc0, 0xf4), UD);
}

/* Without CET, 3E is the DS prefix. Without the prefix, [EBP] would be in SS. */
static void test_a_ds_prefix_of_an_indirect_call_is_a_segment(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_protected(g);
	guest_write(g, GUEST_DATA, 4, GUEST_CODE + 0x100);
	guest_write(g, GUEST_DATA + 0x1000, 4, GUEST_CODE + 0x200);
	GUEST_CODE_BYTES(g, GUEST_CODE + 0x100, 0xb0, 1, 0xf4);
	GUEST_CODE_BYTES(g, GUEST_CODE + 0x200, 0xb0, 2, 0xf4);
	s->seg[CPU_SS].base = GUEST_DATA;
	s->seg[CPU_DS].base = GUEST_DATA + 0x1000;
	for (unsigned reg = 2; reg <= 4; reg += 2) {
		s->gpr[CPU_RBP] = 0;
		assert_int_equal(RUN(run_code, g, 0xff, 0x45 | reg << 3, 0x00), -1);
		assert_int_equal(s->gpr[CPU_RAX] & 0xff, 1);
		assert_int_equal(RUN(run_code, g, 0x3e, 0xff, 0x45 | reg << 3, 0x00), -1);
		assert_int_equal(s->gpr[CPU_RAX] & 0xff, 2);
	}
}

/* ---- frames -------------------------------------------------------------------------------------------- */

/* The stack pointer wraps at 64 KiB. The upper half of ESP is not part of it, and goes into EBP. */
static void test_enter_of_32_bits_at_the_end_of_a_16_bit_stack(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_real(g);
	guest_code(g, GUEST_CODE, (const uint8_t[]){ 0x66, 0xc8, 8, 0, 0, 0xf4 }, 6);
	s->gpr[CPU_RSP] = 0x12340000;
	s->gpr[CPU_RBP] = 0xabcd5678;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RBP], 0x1234fffc);
	assert_int_equal(s->gpr[CPU_RSP], 0x1234fff4);
	assert_int_equal(guest_read(g, 0xfffc, 4), 0xabcd5678);
}

/* ---- x87 in memory ------------------------------------------------------------------------------------- */

#define FCW_ZERO_DIVIDE 0x037bu /* all other exceptions masked */
#define FSW_ZERO_DIVIDE 0xb884u /* ES B ZE, TOP 7 */

/* fninit; fldcw [rbx]; fld1; fdiv m32 [rbx+disp8], which is 0; then the code of the test. */
#define DIVIDE 0xdb, 0xe3, 0xd9, 0x2b, 0xd9, 0xe8, 0xd8, 0x73, 0x10
#define DIVIDE_AT 6u /* offset of the division */

static void divide_setup(struct guest *g, uint64_t data)
{
	cpu_state(g->cpu)->gpr[CPU_RBX] = data;
	guest_write(g, data, 4, FCW_ZERO_DIVIDE);
	guest_write(g, data + 0x10, 4, 0);
}

static void test_an_unmasked_exception_waits_and_leaves_the_operands(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	static const uint8_t one[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f };

	divide_setup(g, GUEST_DATA);
	assert_int_equal(RUN(run_code, g, DIVIDE, 0xf4), -1);
	assert_int_equal(s->fx.fsw, FSW_ZERO_DIVIDE);
	assert_memory_equal(s->fx.st[0], one, sizeof(one));
	/* fnstsw ax does not wait, fwait does */
	assert_int_equal(RUN(run_code, g, DIVIDE, 0xdf, 0xe0, 0x9b, 0xf4), MF);
	assert_int_equal(s->gpr[CPU_RAX] & 0xffff, FSW_ZERO_DIVIDE);
	/* fld1; fistp of a number that does not fit: it stores nothing and pops nothing. */
	guest_write(g, GUEST_DATA, 4, 0x037e);
	guest_write(g, GUEST_DATA + 0x10, 4, 0x7f000000);
	guest_write(g, GUEST_DATA + 0x20, 4, 0x11223344);
	assert_int_equal(RUN(run_code, g, 0xdb, 0xe3, 0xd9, 0x2b, 0xd9, 0x43, 0x10, 0xdb, 0x5b, 0x20, 0xf4), -1);
	assert_int_equal(s->fx.fsw, 0xb881);
	assert_int_equal(s->fx.ftw, 0x80);
	assert_int_equal(guest_read(g, GUEST_DATA + 0x20, 4), 0x11223344);
}

static void test_fxsave_and_xsave_show_the_pending_exception_and_its_instruction(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	divide_setup(g, GUEST_DATA);
	s->cr4 |= 1u << 18; /* OSXSAVE */
	s->xcr0 = 3;
	s->gpr[CPU_RAX] = 3;
	s->gpr[CPU_RDX] = 0;
	/* fxsave64 [rbx+0x100]; xsave64 [rbx+0x400] */
	assert_int_equal(RUN(run_code, g, DIVIDE, 0x48, 0x0f, 0xae, 0x83, 0, 1, 0, 0, 0x48, 0x0f, 0xae, 0xa3, 0, 4, 0,
	                     0, 0xf4), -1);
	for (uint64_t at = GUEST_DATA + 0x100; at <= GUEST_DATA + 0x400; at += 0x300) {
		assert_int_equal(guest_read(g, at, 2), FCW_ZERO_DIVIDE);
		assert_int_equal(guest_read(g, at + 2, 2), FSW_ZERO_DIVIDE);
		assert_int_equal(guest_read(g, at + 6, 2), 0x073); /* D8 /6 with its ModRM */
		assert_int_equal(guest_read(g, at + 8, 8), GUEST_CODE + DIVIDE_AT);
		assert_int_equal(guest_read(g, at + 16, 8), GUEST_DATA + 0x10);
	}
}

static void test_masking_an_exception_makes_it_not_pending(void **state)
{
	struct guest *g = *state;

	divide_setup(g, GUEST_DATA);
	/* fnstenv [rbx+0x40] masks all; fwait; fnstsw ax */
	assert_int_equal(RUN(run_code, g, DIVIDE, 0xd9, 0x73, 0x40, 0x9b, 0xdf, 0xe0, 0xf4), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX] & 0xffff, FSW_ZERO_DIVIDE & 0x7f7f);
	/* fldenv brings masks and exception back. */
	assert_int_equal(RUN(run_code, g, DIVIDE, 0xd9, 0x73, 0x40, 0xd9, 0x63, 0x40, 0x9b, 0xf4), MF);
	assert_int_equal(cpu_state(g->cpu)->fx.fsw, FSW_ZERO_DIVIDE);
	/* ES and B also follow from a status word that the owner of the CPU sets. */
	cpu_state(g->cpu)->fx.fsw = 4;
	cpu_state(g->cpu)->fx.fcw = FCW_ZERO_DIVIDE;
	cpu_state_changed(g->cpu, CPU_CHANGED_FPU);
	assert_int_equal(cpu_state(g->cpu)->fx.fsw, 0x8084);
}

/* Check the words of an image, 2 or 4 bytes each. */
static void check_words(struct guest *g, uint64_t at, unsigned unit, const uint32_t words[7])
{
	for (unsigned i = 0; i < 7; i++) {
		uint32_t mask = unit == 2 ? 0xffffu : 0xffffffffu;

		assert_int_equal(guest_read(g, at + i * unit, unit), words[i] & mask);
	}
}

static void test_environments_of_protected_mode(void **state)
{
	struct guest *g = *state;
	const uint32_t fip = GUEST_CODE + DIVIDE_AT, fdp = GUEST_DATA + 0x10;
	/* R7 is valid, all others are empty. */
	const uint32_t words4[7] = { 0xffff0000 | FCW_ZERO_DIVIDE, 0xffff0000 | FSW_ZERO_DIVIDE, 0xffff3fff, fip,
	                             0x073u << 16, fdp, 0xffff0000 };
	const uint32_t words2[7] = { FCW_ZERO_DIVIDE, FSW_ZERO_DIVIDE, 0x3fff, fip, 0, fdp, 0 };

	divide_setup(g, GUEST_DATA);
	assert_int_equal(RUN(run_code, g, DIVIDE, 0xd9, 0x73, 0x40, 0xf4), -1);
	check_words(g, GUEST_DATA + 0x40, 4, words4);
	assert_int_equal(RUN(run_code, g, DIVIDE, 0x66, 0xd9, 0x73, 0x40, 0xf4), -1);
	check_words(g, GUEST_DATA + 0x40, 2, words2);
}

static void test_environments_of_real_mode(void **state)
{
	struct guest *g = *state;
	const uint32_t fdp = 0x3010, fop = 0x077; /* [BX + disp8] */
	const uint32_t words4[7] = { 0xffff0000 | FCW_ZERO_DIVIDE, 0xffff0000 | FSW_ZERO_DIVIDE, 0xffff3fff,
	                             0xffff0000 | DIVIDE_AT, fop, 0xffff0000 | fdp, 0 };
	const uint32_t words2[7] = { FCW_ZERO_DIVIDE, FSW_ZERO_DIVIDE, 0x3fff, DIVIDE_AT, fop, fdp, 0 };

	guest_real(g);
	divide_setup(g, 0x3000);
	assert_int_equal(RUN(run_real, g, 0xdb, 0xe3, 0xd9, 0x2f, 0xd9, 0xe8, 0xd8, 0x77, 0x10, 0x66, 0xd9, 0x77, 0x40,
	                     0xf4), -1);
	check_words(g, 0x3040, 4, words4);
	assert_int_equal(RUN(run_real, g, 0xdb, 0xe3, 0xd9, 0x2f, 0xd9, 0xe8, 0xd8, 0x77, 0x10, 0xd9, 0x77, 0x40,
	                     0xf4), -1);
	check_words(g, 0x3040, 2, words2);
}

static void test_fnsave_empties_and_frstor_brings_back(void **state)
{
	static const uint8_t prefix[] = { 0x90, 0x66 };
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = 0; i < 2; i++) {
		struct cpu_fx before;

		divide_setup(g, GUEST_DATA);
		assert_int_equal(RUN(run_code, g, DIVIDE, 0xf4), -1);
		before = s->fx;
		/* fnsave [rbx+0x40] */
		assert_int_equal(RUN(run_code, g, prefix[i], 0xdd, 0x73, 0x40, 0xf4), -1);
		assert_int_equal(s->fx.fcw, 0x37f);
		assert_int_equal(s->fx.fsw, 0);
		assert_int_equal(s->fx.ftw, 0);
		/* frstor [rbx+0x40] */
		assert_int_equal(RUN(run_code, g, prefix[i], 0xdd, 0x63, 0x40, 0xf4), -1);
		assert_int_equal(s->fx.fcw, before.fcw);
		assert_int_equal(s->fx.fsw, before.fsw);
		assert_int_equal(s->fx.ftw, before.ftw);
		assert_memory_equal(s->fx.st, before.st, sizeof(before.st));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_les_and_lds_of_a_register_are_undefined_in_real_mode,
		                                setup_machine, guest_teardown),
		cmocka_unit_test_setup_teardown(test_vex_and_evex_and_xop_are_undefined_without_avx, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_hint_opcodes_do_nothing, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_what_cpuid_does_not_offer_is_undefined, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_what_cpuid_offers_is_there, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_lock_makes_cr8_of_cr0, setup_machine, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_ds_prefix_of_an_indirect_call_is_a_segment, setup_machine,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_enter_of_32_bits_at_the_end_of_a_16_bit_stack, setup_machine,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_unmasked_exception_waits_and_leaves_the_operands, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_fxsave_and_xsave_show_the_pending_exception_and_its_instruction,
		                                guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_masking_an_exception_makes_it_not_pending, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_environments_of_protected_mode, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_environments_of_real_mode, setup_machine, guest_teardown),
		cmocka_unit_test_setup_teardown(test_fnsave_empties_and_frstor_brings_back, guest_setup,
		                                guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
