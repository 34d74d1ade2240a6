/* SPDX-License-Identifier: MIT */
/*
 * System management mode as the CPU alone has it: when an SMI is taken, what is kept for RSM, and code of handlers
 * above 64 KiB. The machine has one address space, so SMRAM is ordinary memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define SMBASE  0x30000u
#define HANDLER (SMBASE + 0x8000u)
#define AREA(at) (SMBASE + (at))

GUEST_ASM(smm_rsm, ".code16 \n rsm")
GUEST_ASM(smm_out, ".code16 \n out %al, $0x80 \n rsm")
GUEST_ASM(smm_restart, ".code16 \n movb $0xff, %cs:0xfec8 \n rsm")

static void smi(struct guest *g)
{
	cpu_state(g->cpu)->events.smi.pending = true;
}

/* Run to an exit that is not the end of SMM. */
static enum cpu_exit run(struct guest *g)
{
	enum cpu_exit exit;

	do
		exit = cpu_run(g->cpu);
	while (exit == CPU_EXIT_RSM);
	return exit;
}

static int port(struct guest *g)
{
	return cpu_exit_info(g->cpu)->io.port;
}

GUEST_ASM(smm_sti, "sti \n out %al, $0x10 \n hlt")

static int vector_20(void *state)
{
	(void)state;
	return 0x20;
}

/* An SMI comes between STI and the next instruction. After RSM interrupts are still held off for that one. */
static void test_smm_keeps_the_interrupt_shadow(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.interrupt = vector_20;
	GUEST_LOAD(g, GUEST_CODE, smm_sti);
	GUEST_LOAD(g, HANDLER, smm_rsm);
	s->rip = GUEST_CODE + 1;
	s->rflags |= 0x200;
	s->events.shadow = CPU_SHADOW_STI;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	cpu_interrupt_raise(g->cpu);
	smi(g);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_RSM);
	assert_int_equal(guest_read(g, AREA(0xfecb), 1), CPU_SHADOW_STI);
	assert_int_equal(s->events.shadow, CPU_SHADOW_STI);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 0x10); /* and not the interrupt's */
	g->ops.interrupt = NULL;
}

/* An exception whose delivery has begun comes first: the SMI finds the handler's first instruction. */
static void test_smm_waits_for_an_event_on_its_way(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, HANDLER, smm_out);
	s->events.exception.pending = true;
	s->events.exception.vector = 3;
	smi(g);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 0x80);
	assert_int_equal(guest_read(g, AREA(0xff78), 8), GUEST_STUBS + 16 * 3);
	assert_true(s->events.smi.smm);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 3);
	assert_false(s->events.smi.smm);
	assert_int_equal(s->smi_count, 1);
}

GUEST_ASM(smm_rep, "mov $0x5000, %ecx \n mov $0x100000, %edi \n rep stosb \n hlt")
#define REP_AT (GUEST_CODE + 10)

/* Asked outside the guest, where a new page of the second stage was made: in the middle of the string. */
static bool smi_in_the_string(void *state)
{
	struct guest *g = state;
	struct cpu_state *s = cpu_state(g->cpu);
	static uint64_t left;

	if (s->rip == REP_AT && !s->events.smi.smm && s->gpr[CPU_RCX] != left) {
		left = s->gpr[CPU_RCX];
		smi(g);
	}
	return false;
}

/* SMIs between the elements of a string instruction: it goes on where it was. */
static void test_smm_in_a_string_instruction(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, smm_rep);
	GUEST_LOAD(g, HANDLER, smm_rsm);
	g->ops.check = smi_in_the_string;
	s->gpr[CPU_RAX] = 0x5a;
	assert_int_equal(run(g), CPU_EXIT_HLT);
	g->ops.check = NULL;
	assert_in_range(s->smi_count, 4, 100);
	assert_int_equal(guest_read(g, AREA(0xff78), 8), REP_AT);
	assert_int_equal(s->gpr[CPU_RCX], 0);
	for (unsigned i = 0; i < 0x5000; i++)
		assert_int_equal(guest_read(g, 0x100000 + i, 1), 0x5a);
}

GUEST_ASM(smm_io, "mov $7, %ecx \n in $0x44, %al \n hlt")

/* With an IN: the handler finds what it was, and may let it run again. */
static void test_smm_restarts_an_in(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, smm_io);
	GUEST_LOAD(g, HANDLER, smm_restart);
	assert_int_equal(run(g), CPU_EXIT_IO);
	cpu_exit_info(g->cpu)->io.data[0] = 1;
	smi(g);
	assert_int_equal(run(g), CPU_EXIT_IO); /* the IN again */
	assert_int_equal(port(g), 0x44);
	assert_int_equal(s->smi_count, 1);
	assert_int_equal(guest_read(g, AREA(0xfec0), 4), 0x440013);
	assert_int_equal(guest_read(g, AREA(0xfea0), 8), GUEST_CODE + 5);
	assert_int_equal(guest_read(g, AREA(0xff78), 8), GUEST_CODE + 7);
	cpu_exit_info(g->cpu)->io.data[0] = 2;
	assert_int_equal(run(g), CPU_EXIT_HLT);
	assert_int_equal(s->gpr[CPU_RAX] & 0xff, 2);
	/* With no IN or OUT the same handler changes nothing. */
	s->rip = GUEST_CODE;
	smi(g);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(guest_read(g, AREA(0xfec0), 4), 0);
	assert_int_equal(guest_read(g, AREA(0xfea0), 8), GUEST_CODE);
	assert_int_equal(s->gpr[CPU_RCX], 7);
}

/* RSM goes back to the HLT that the SMI ended. */
static void test_smm_returns_to_hlt(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, HANDLER, smm_rsm);
	smi(g);
	s->events.smi.from_halt = true;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
	assert_false(s->events.smi.smm || s->events.smi.from_halt);
	assert_int_equal(s->rip, GUEST_CODE);
}

GUEST_ASM(smm_far, ".code16 \n mov $0x100000, %eax \n jmp *%eax")
GUEST_ASM(smm_above, ".code16 \n xor %ecx, %ecx \n inc %ecx \n jz 2f \n jcxz 2f \n 1: loop 1b \n calll 3f \n"
                     "out %al, $0x81 \n 2: out %al, $0x66 \n 3: out %al, $0x82 \n retl")

/* 16-bit code in a segment of 4 GiB does not wrap at 64 KiB, unless it jumps with 16 bits. */
static void test_smm_code_above_64_kib(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, HANDLER, smm_far);
	GUEST_LOAD(g, SMBASE + 0x100000, smm_above);
	for (unsigned i = 0; i < 64; i += 2) /* where code that wraps would go on */
		GUEST_CODE_BYTES(g, SMBASE + i, 0xe6, 0x67);
	smi(g);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 0x82);
	assert_true(s->rip > 0x100000);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 0x81);
	assert_true(s->rip > 0x100000);
}

/* With no memory for the state the SMI cannot be taken, and nothing changes. */
static void test_smm_without_memory(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu), before;

	s->smbase = GUEST_RAM;
	smi(g);
	before = *s;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_DEAD);
	assert_memory_equal(&before, s, sizeof(before));
	s->smbase = SMBASE;
	GUEST_LOAD(g, HANDLER, smm_out);
	assert_int_equal(run(g), CPU_EXIT_IO);
	assert_int_equal(port(g), 0x80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_smm_keeps_the_interrupt_shadow, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_waits_for_an_event_on_its_way, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_in_a_string_instruction, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_restarts_an_in, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_returns_to_hlt, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_code_above_64_kib, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_smm_without_memory, guest_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
