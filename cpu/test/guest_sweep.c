/* SPDX-License-Identifier: MIT */
/*
 * Every opcode of the maps that hardware without AVX has, with every prefix that selects among instructions, and
 * with every register form and one memory form of ModRM, in 64-bit, 32-bit and real mode. Each runs once, at CPL 0.
 * An instruction that CPUID does not offer must be #UD, and one that CPUID offers must be carried out. None may be
 * an internal error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "guest.h"

static const uint8_t prefix_list[][2] = {
	{ 0, 0 }, { 0x66, 0 }, { 0xf2, 0 }, { 0xf3, 0 }, { 0x67, 0 }, { 0x3e, 0 }, { 0xf0, 0 }, { 0x66, 0xf2 },
	{ 0x66, 0xf3 },
	{ 0x48, 0 }, { 0x66, 0x48 }, { 0xf2, 0x48 }, { 0xf3, 0x48 },
};

/* One byte, 0F, 0F 38, 0F 3A. */
static const uint8_t map_list[][2] = { { 0, 0 }, { 0x0f, 0 }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };

struct sweep {
	struct guest *g;
	struct cpu_state begin;
	ZydisDecoder decoder;
	unsigned bits;
	unsigned long run, failed;
};

static void report(struct sweep *s, const uint8_t *bytes)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z = { .mnemonic = ZYDIS_MNEMONIC_INVALID };

	ZydisDecoderDecodeFull(&s->decoder, bytes, 15, &z, operands);
	s->failed++;
	print_error("%u-bit: %02x %02x %02x %02x %02x %02x: internal error: %s (%s)\n", s->bits, bytes[0], bytes[1],
	            bytes[2], bytes[3], bytes[4], bytes[5], ZydisMnemonicGetString(z.mnemonic),
	            ZydisISASetGetString(z.meta.isa_set));
}

/* The instruction may access devices: answer them. The single step ends the run. */
static void run_one(struct sweep *s, const uint8_t *bytes)
{
	struct cpu *cpu = s->g->cpu;
	enum cpu_exit exit;

	memcpy(s->g->ram + GUEST_CODE, bytes, 16);
	*cpu_state(cpu) = s->begin;
	cpu_state_changed(cpu, CPU_CHANGED_ALL);
	s->run++;
	for (unsigned i = 0; i < 64; i++) {
		exit = cpu_run(cpu);
		if (exit == CPU_EXIT_INTERNAL_ERROR && cpu_exit_info(cpu)->error.suberror == CPU_ERROR_EMULATION)
			report(s, bytes);
		if (exit != CPU_EXIT_IO && exit != CPU_EXIT_MMIO)
			break;
	}
}

/* Check that the machine still works, whatever has run. */
static void check_machine(struct sweep *s)
{
	static const uint8_t nop[16] = { 0x90 };

	run_one(s, nop);
	assert_int_equal(cpu_exit_info(s->g->cpu)->reason, CPU_EXIT_DEBUG);
	assert_int_equal(cpu_state(s->g->cpu)->rip, s->begin.rip + 1);
}

static void sweep_opcode(struct sweep *s, const uint8_t prefix[2], const uint8_t map[2], unsigned opcode)
{
	uint8_t bytes[16];

	for (unsigned modrm = 0; modrm < 256; modrm++) {
		unsigned at = 0;

		/* Memory: [rBX] or [BP + DI] without displacement is enough. */
		if (modrm < 0xc0 && (modrm & 0xc7) != 3)
			continue;
		memset(bytes, 0, sizeof(bytes));
		for (unsigned i = 0; i < 2; i++)
			if (prefix[i] != 0)
				bytes[at++] = prefix[i];
		for (unsigned i = 0; i < 2; i++)
			if (map[i] != 0)
				bytes[at++] = map[i];
		bytes[at++] = (uint8_t)opcode;
		bytes[at++] = (uint8_t)modrm;
		run_one(s, bytes);
	}
	check_machine(s);
}

static void sweep(struct guest *g, unsigned bits, ZydisMachineMode mode, ZydisStackWidth width)
{
	struct sweep s = { .g = g, .bits = bits };
	struct cpu_state *state = cpu_state(g->cpu);

	ZydisDecoderInit(&s.decoder, mode, width);
	cpu_debug_set(g->cpu, CPU_DEBUG_STEP, NULL);
	state->cr4 |= 0x50600; /* OSXSAVE FSGSBASE, and SSE */
	state->xcr0 = 3;
	for (unsigned i = 0; i < CPU_GPR_COUNT; i++)
		state->gpr[i] = bits == 16 ? 0x4000 : GUEST_DATA;
	s.begin = *state;
	for (size_t p = 0; p < sizeof(prefix_list) / sizeof(prefix_list[0]); p++) {
		if ((prefix_list[p][0] == 0x48 || prefix_list[p][1] == 0x48) && bits != 64)
			continue;
		for (size_t m = 0; m < sizeof(map_list) / sizeof(map_list[0]); m++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				sweep_opcode(&s, prefix_list[p], map_list[m], opcode);
	}
	print_message("%u-bit: %lu run, %lu internal errors\n", bits, s.run, s.failed);
	assert_true(s.run > 500000);
	assert_int_equal(s.failed, 0);
}

static void test_every_opcode_of_64_bit_mode_is_known(void **state)
{
	sweep(*state, 64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static void test_every_opcode_of_32_bit_mode_is_known(void **state)
{
	guest_protected(*state);
	sweep(*state, 32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

static void test_every_opcode_of_real_mode_is_known(void **state)
{
	guest_real(*state);
	sweep(*state, 16, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
}

static int setup_machine(void **state)
{
	*state = guest_make();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_opcode_of_64_bit_mode_is_known, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_every_opcode_of_32_bit_mode_is_known, setup_machine,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_every_opcode_of_real_mode_is_known, setup_machine, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
