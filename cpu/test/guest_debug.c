/* SPDX-License-Identifier: MIT */
/*
 * The guest's own debugging: TF, RF and breakpoints, and how they go with MOV SS, INT1, string instructions and
 * system calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define HANDLER 0x70000u
#define KERNEL  0x71000u /* of SYSCALL */
#define LOG     0x110000u
#define TF      0x100u
#define RF      0x10000u
#define BS      0x4000u

/* Log RIP, DR6 and RFLAGS of each #DB. Clear DR6, and set RF so that the next instruction runs. */
GUEST_ASM(db_handler,
	"push %rax \n push %rbx \n mov 0x110000, %rbx \n mov 16(%rsp), %rax \n mov %rax, 0x110008(%rbx) \n"
	"mov %dr6, %rax \n mov %rax, 0x110010(%rbx) \n xor %eax, %eax \n mov %rax, %dr6 \n"
	"mov 32(%rsp), %rax \n mov %rax, 0x110018(%rbx) \n orl $0x10000, 32(%rsp) \n"
	"addq $24, 0x110000 \n pop %rbx \n pop %rax \n iretq")

static int setup(void **state)
{
	struct guest *g;

	guest_setup(state);
	g = *state;
	GUEST_LOAD(g, HANDLER, db_handler);
	guest_write(g, GUEST_IDT + 16, 8,
	            (HANDLER & 0xffff) | SEL_CODE64 << 16 | UINT64_C(0x8e00) << 32 | (uint64_t)(HANDLER >> 16) << 48);
	return 0;
}

static unsigned traps(struct guest *g)
{
	return (unsigned)guest_read(g, LOG, 8) / 24;
}

/* Assert that trap `n` was at `rip`, for `why` (bits of DR6). */
static void assert_trap(struct guest *g, unsigned n, uint64_t rip, uint64_t why)
{
	assert_true(n < traps(g));
	assert_int_equal(guest_read(g, LOG + 8 + 24 * n, 8), rip);
	assert_int_equal(guest_read(g, LOG + 16 + 24 * n, 8) ^ 0xffff0ff0, why);
}

static uint64_t trap_flags(struct guest *g, unsigned n)
{
	return guest_read(g, LOG + 24 + 24 * n, 8);
}

static uint64_t end_of(const uint8_t *code, const uint8_t *end)
{
	return GUEST_CODE + (uint64_t)(end - code);
}

/* ---- single steps ---------------------------------------------------------------------------------------- */

#define STEP "pushf \n orl $0x100, (%rsp) \n popf \n"

GUEST_ASM(db_mov_ss, "mov %ss, %ecx \n" STEP "mov %ecx, %ss \n nop \n nop \n hlt")
GUEST_ASM(db_int1, "mov %ss, %ecx \n" STEP "mov %ecx, %ss \n .byte 0xf1 \n .byte 0xf1 \n nop \n hlt")
GUEST_ASM(db_int, STEP "int $0x80")

static void test_debug_step_waits_for_the_instruction_after_mov_ss(void **state)
{
	struct guest *g = *state;
	uint64_t end = end_of(db_mov_ss, db_mov_ss_end);

	GUEST_LOAD(g, GUEST_CODE, db_mov_ss);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(traps(g), 2);
	assert_trap(g, 0, end - 2, BS);
	assert_trap(g, 1, end - 1, BS);
}

static void test_debug_int1_is_one_trap_and_no_step(void **state)
{
	struct guest *g = *state;
	uint64_t end = end_of(db_int1, db_int1_end);

	GUEST_LOAD(g, GUEST_CODE, db_int1);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(traps(g), 3);
	assert_trap(g, 0, end - 3, 0);
	assert_trap(g, 1, end - 2, 0);
	assert_trap(g, 2, end - 1, BS);
}

static void test_debug_int_takes_the_step_with_it(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_int);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(traps(g), 0);
	assert_int_equal(guest_read(g, cpu_state(g->cpu)->gpr[CPU_RSP] + 16, 8) & TF, TF);
}

GUEST_ASM(db_to_user, "push $0x3b \n push $0x420000 \n push $0x202 \n push $0x43 \n push $0x400000 \n iretq")
GUEST_ASM(db_user_syscall, STEP "syscall")
GUEST_ASM(db_kernel, "nop \n hlt")

/* TF counts as it is after SFMASK, not as it was before. */
static void test_debug_syscall_steps_as_it_leaves_tf(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->star = (uint64_t)SEL_CODE64 << 32;
	s->lstar = KERNEL;
	GUEST_LOAD(g, GUEST_USER_CODE, db_user_syscall);
	GUEST_LOAD(g, KERNEL, db_kernel);
	for (unsigned masked = 0; masked < 2; masked++) {
		guest_write(g, LOG, 8, 0);
		s->sfmask = masked ? TF : 0;
		s->rip = GUEST_CODE;
		s->gpr[CPU_RSP] = GUEST_STACK;
		s->rflags = 2;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		GUEST_LOAD(g, GUEST_CODE, db_to_user);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(s->gpr[CPU_R11] & TF, TF);
		assert_int_equal(traps(g), masked ? 0 : 2);
		if (masked)
			break;
		assert_trap(g, 0, KERNEL, BS);
		assert_trap(g, 1, KERNEL + 1, BS);
		s->events.exception.pending = false; /* the step over the HLT */
	}
}

GUEST_ASM(db_sysret, "mov $0x400000, %ecx \n mov $0x302, %r11d \n mov $0x420000, %esp \n sysretq")
GUEST_ASM(db_user_int, "nop \n int $0x80")

static void test_debug_sysret_that_sets_tf_traps_at_once(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->star = UINT64_C(0x33) << 48;
	GUEST_LOAD(g, GUEST_CODE, db_sysret);
	GUEST_LOAD(g, GUEST_USER_CODE, db_user_int);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(traps(g), 2);
	assert_trap(g, 0, GUEST_USER_CODE, BS);
	assert_trap(g, 1, GUEST_USER_CODE + 1, BS);
}

GUEST_ASM(db_rep, "mov $3, %ecx \n mov $0x100000, %esi \n mov $0x100100, %edi \n" STEP "rep movsb \n nop \n hlt")

/* Between two elements RF is set in the frame: the instruction goes on, and its breakpoint was already hit. */
static void test_debug_steps_of_a_string_instruction(void **state)
{
	struct guest *g = *state;
	uint64_t end = end_of(db_rep, db_rep_end);

	GUEST_LOAD(g, GUEST_CODE, db_rep);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(traps(g), 4);
	for (unsigned i = 0; i < 2; i++) {
		assert_trap(g, i, end - 4, BS);
		assert_int_equal(trap_flags(g, i) & RF, RF);
	}
	assert_trap(g, 2, end - 2, BS);
	assert_int_equal(trap_flags(g, 2) & RF, 0);
}

/* ---- breakpoints ----------------------------------------------------------------------------------------- */

static void breakpoint(struct guest *g, uint64_t linear, uint64_t dr7)
{
	cpu_state(g->cpu)->dr[0] = linear;
	cpu_state(g->cpu)->dr[7] = 0x400 | dr7;
	cpu_state_changed(g->cpu, CPU_CHANGED_DEBUG);
}

#define IRET_TO_100 "mov %rsp, %rax \n push $0x10 \n push %rax \n push $0x10002 \n push $8 \n push $0x10100 \n iretq \n"

GUEST_ASM(db_rf, IRET_TO_100 ".skip 0x100-(.-db_rf) \n nop \n int $0x80")
GUEST_ASM(db_rf_loop, IRET_TO_100 ".skip 0x100-(.-db_rf_loop) \n 1: nop \n inc %edx \n cmp $3, %edx \n jb 1b \n hlt")

static void test_debug_rf_is_for_one_instruction(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	/* RF is also cleared when no breakpoint is set. */
	GUEST_LOAD(g, GUEST_CODE, db_rf);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 16, 8) & RF, 0);
	/* A breakpoint does not hit when IRET came there with RF, and hits once a time (the handler sets RF). */
	GUEST_LOAD(g, GUEST_CODE, db_rf_loop);
	breakpoint(g, GUEST_CODE + 0x100, 1);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RDX] = 0;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RDX], 3);
	assert_int_equal(traps(g), 2);
	assert_trap(g, 0, GUEST_CODE + 0x100, 1);
}

GUEST_ASM(db_watch_nop, "mov 0x100000, %ss \n nop \n nop \n hlt")
GUEST_ASM(db_watch_int1, "mov 0x100000, %ss \n .byte 0xf1 \n nop \n hlt")
GUEST_ASM(db_watch_int, "mov 0x100000, %ss \n int $0x80")
GUEST_ASM(db_watch_ud, "mov 0x100000, %ss \n ud2")

/* MOV SS reads a watched selector: the trap comes after the next instruction, or at the entry of that one's handler. */
static void test_debug_watchpoint_of_mov_ss_waits(void **state)
{
	static const struct {
		const uint8_t *code, *end;
		uint64_t rip;
		int vector;
	} cases[] = {
		{ db_watch_nop, db_watch_nop_end, GUEST_CODE + 8, -1 },
		{ db_watch_int1, db_watch_int1_end, GUEST_CODE + 8, -1 },
		{ db_watch_int, db_watch_int_end, GUEST_STUBS + 0x80 * 16, 0x80 },
		{ db_watch_ud, db_watch_ud_end, GUEST_STUBS + 6 * 16, 6 },
	};
	struct guest *g = *state;

	guest_write(g, 0x100000, 4, SEL_DATA);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		guest_write(g, LOG, 8, 0);
		breakpoint(g, 0x100000, 0xf0001);
		cpu_state(g->cpu)->rip = GUEST_CODE;
		cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
		guest_code(g, GUEST_CODE, cases[i].code, (unsigned)(cases[i].end - cases[i].code));
		assert_int_equal(guest_run_to_hlt(g), cases[i].vector);
		assert_int_equal(traps(g), 1);
		assert_trap(g, 0, cases[i].rip, 1);
	}
}

GUEST_ASM(db_gif, "clgi \n mov 0x100000, %eax \n nop \n mov %eax, 0x100000 \n .byte 0xf1 \n" STEP "nop \n"
                  "push $2 \n popfq \n stgi \n nop \n mov 0x100000, %eax \n hlt")

/* Breakpoints that are hit while GIF is clear are lost. INT1 and steps are not. */
static void test_debug_breakpoints_need_gif(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t end = end_of(db_gif, db_gif_end);

	s->efer |= UINT64_C(0x1000); /* SVME */
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	GUEST_LOAD(g, GUEST_CODE, db_gif);
	s->dr[1] = GUEST_CODE + 3 + 7; /* the NOP */
	s->dr[2] = end - 1 - 7 - 1;    /* the NOP behind STGI */
	breakpoint(g, 0x100000, 0xf0015);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(traps(g), 6);
	assert_trap(g, 0, GUEST_CODE + 3 + 7 + 1 + 7 + 1, 0); /* INT1 */
	assert_trap(g, 1, end - 9 - 3 - 1 - 2, BS);
	assert_trap(g, 2, end - 9 - 3 - 1, BS);
	assert_trap(g, 3, end - 9 - 3, BS);
	assert_trap(g, 4, end - 9, 4);
	assert_trap(g, 5, end - 1, 1);
}

int main(void)
{
#define DEBUG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		DEBUG_TEST(test_debug_step_waits_for_the_instruction_after_mov_ss),
		DEBUG_TEST(test_debug_int1_is_one_trap_and_no_step),
		DEBUG_TEST(test_debug_int_takes_the_step_with_it),
		DEBUG_TEST(test_debug_syscall_steps_as_it_leaves_tf),
		DEBUG_TEST(test_debug_sysret_that_sets_tf_traps_at_once),
		DEBUG_TEST(test_debug_steps_of_a_string_instruction),
		DEBUG_TEST(test_debug_rf_is_for_one_instruction),
		DEBUG_TEST(test_debug_watchpoint_of_mov_ss_waits),
		DEBUG_TEST(test_debug_breakpoints_need_gif),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
