/* SPDX-License-Identifier: MIT */
/*
 * The guest's own debugging: TF, RF and breakpoints, and how they go with MOV SS, INT1, string instructions and
 * system calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/base/private.h"
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

/* ---- what a breakpoint does not touch ------------------------------------------------------------------------- */

static void breakpoint_n(struct guest *g, unsigned n, uint64_t linear, unsigned kind_and_length)
{
	struct cpu_state *s = cpu_state(g->cpu);

	s->dr[n] = linear;
	s->dr[7] |= 0x400 | UINT64_C(1) << (2 * n) | (uint64_t)kind_and_length << (16 + 4 * n);
	cpu_state_changed(g->cpu, CPU_CHANGED_DEBUG);
}

static void run_again(struct guest *g)
{
	guest_write(g, LOG, 8, 0);
	cpu_state(g->cpu)->rip = GUEST_CODE;
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
	assert_int_equal(guest_run_to_hlt(g), -1);
}

GUEST_ASM(db_middle, "mov $1000, %ecx \n 1: nop \n inc %eax \n nop \n dec %ecx \n jnz 1b \n hlt")

/* The loop was decoded before the breakpoint came into the middle of it; and it is found without it afterwards. */
static void test_debug_breakpoint_comes_into_known_code(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_middle);
	for (unsigned round = 0; round < 2; round++) {
		run_again(g);
		assert_int_equal(traps(g), 0);
		breakpoint(g, GUEST_CODE + 6, 1);
		run_again(g);
		assert_int_equal(traps(g), 1000);
		assert_trap(g, 0, GUEST_CODE + 6, 1);
		assert_trap(g, 999, GUEST_CODE + 6, 1);
		breakpoint(g, 0, 0);
	}
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 4000);
}

GUEST_ASM(db_set, "xor %eax, %eax \n mov $0x401, %ecx \n mov $3, %edx \n 1: cmp $2, %edx \n jne 2f \n mov %rcx, %dr7 \n"
                  "2: nop \n db_set_at: inc %eax \n dec %edx \n jnz 1b \n hlt")
extern const uint8_t db_set_at[];

/* The guest sets it itself, between two runs of the same code. */
static void test_debug_breakpoint_that_the_guest_sets(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_set);
	cpu_state(g->cpu)->dr[0] = GUEST_CODE + (uint64_t)(db_set_at - db_set);
	run_again(g);
	assert_int_equal(traps(g), 2);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 3);
}

GUEST_ASM(db_long, "mov $20000, %ecx \n 1: add 0x100000, %eax \n mov %eax, 0x100000 \n nop \n nop \n dec %ecx \n"
                   "jnz 1b \n hlt")

/* Run db_long. Returns: how many instructions ran alone. *looks: how many accesses were held against breakpoints. */
static uint64_t slow_ones(struct guest *g, uint64_t *looks)
{
	struct cpu_private *p = g->cpu->p;
	uint64_t alone = p->runs_alone, looked = p->armed_breakpoints.looks;

	run_again(g);
	assert_int_equal(traps(g), 0);
	*looks = p->armed_breakpoints.looks - looked;
	return p->runs_alone - alone;
}

/* An instruction that runs alone costs a hundred times as much as one of a block. The loop has 120,000. */
static void test_debug_other_code_and_pages_stay_fast(void **state)
{
	struct guest *g = *state;
	uint64_t looks;

	GUEST_LOAD(g, GUEST_CODE, db_long);
	breakpoint_n(g, 0, GUEST_CODE + 0x800, 0);
	breakpoint_n(g, 1, 0x101000, 0xf);
	breakpoint_n(g, 2, 0x102000, 0x1);
	assert_in_range(slow_ones(g, &looks), 0, 50);
	assert_in_range(looks, 0, 50);
	/* And the same page is slower, but not that slow. (A block that is checked is run twice.) */
	breakpoint_n(g, 3, 0x100800, 0xf);
	assert_in_range(slow_ones(g, &looks), 0, 50);
	assert_in_range(looks, 40000, 80100);
}

GUEST_ASM(db_copy, "mov $0x100, %ecx \n mov $0x100000, %esi \n mov $0x103000, %edi \n rep movsb \n"
                   "mov 0x100ff8, %rax \n mov 0x100ffc, %rax \n hlt")

static void test_debug_watchpoints_of_copies_and_page_ends(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_copy);
	breakpoint_n(g, 0, 0x103080, 0x1); /* written, 1 byte */
	breakpoint_n(g, 1, 0x100083, 0x1); /* read, and so not hit */
	breakpoint_n(g, 2, 0x101000, 0x7); /* 2 bytes behind the page's end */
	run_again(g);
	assert_int_equal(traps(g), 2);
	assert_int_equal(trap_flags(g, 0) & RF, RF);
	assert_trap(g, 0, GUEST_CODE + 15, 1);
	assert_trap(g, 1, end_of(db_copy, db_copy_end) - 1, 4);
}

GUEST_ASM(db_rep_at, "mov $6, %ecx \n mov $0x100000, %esi \n mov $0x103000, %edi \n rep movsb \n nop \n hlt")

/* A string instruction hits its own breakpoint once, however often it is interrupted. */
static void test_debug_breakpoint_at_a_string_instruction(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_rep_at);
	breakpoint_n(g, 0, GUEST_CODE + 15, 0);
	breakpoint_n(g, 1, 0x103000, 0x1);
	breakpoint_n(g, 2, 0x103001, 0x1);
	run_again(g);
	assert_int_equal(traps(g), 3);
	assert_trap(g, 0, GUEST_CODE + 15, 1);
	assert_trap(g, 1, GUEST_CODE + 15, 2);
	assert_trap(g, 2, GUEST_CODE + 15, 4);
}

GUEST_ASM(db_divide, "xor %ecx, %ecx \n div %ecx")

/* A push of an exception's delivery traps before the handler's first instruction. */
static void test_debug_watchpoint_of_a_delivery(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, db_divide);
	breakpoint_n(g, 0, GUEST_STACK - 40, 0xd);
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
	assert_int_equal(guest_run_to_hlt(g), 0);
	assert_int_equal(traps(g), 1);
	assert_trap(g, 0, GUEST_STUBS, 1);
}

#define PORT UINT64_C(0x42)
GUEST_ASM(db_ports, "out %al, $0x41 \n nop \n out %ax, $0x41 \n nop \n mov $0x42, %edx \n mov $0x100000, %esi \n"
                    "mov $2, %ecx \n rep outsb \n in %dx, %al \n nop \n mov $0x100010, %edi \n insb \n hlt")

static bool any_port(void *state, bool in, uint16_t port, unsigned size, void *data)
{
	(void)state, (void)port;
	if (in)
		memset(data, 0x5a, size);
	return true;
}

/* Only with CR4.DE, after the access, and once for each element. The address is that of the next instruction. */
static void test_debug_io_breakpoints(void **state)
{
	static const uint8_t at[] = { 6, 22, 24, 25, 32 };
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.io = any_port;
	GUEST_LOAD(g, GUEST_CODE, db_ports);
	breakpoint_n(g, 0, PORT, 0x2);
	run_again(g);
	assert_int_equal(traps(g), 0);
	s->cr4 |= 8;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	run_again(g);
	for (unsigned i = 0; i < sizeof(at); i++)
		assert_trap(g, i, GUEST_CODE + at[i], 1);
	assert_int_equal(traps(g), sizeof(at));
	assert_int_equal(trap_flags(g, 1) & RF, RF); /* between two elements */
	assert_int_equal(guest_read(g, 0x100010, 1), 0x5a);
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
		DEBUG_TEST(test_debug_breakpoint_comes_into_known_code),
		DEBUG_TEST(test_debug_breakpoint_that_the_guest_sets),
		DEBUG_TEST(test_debug_other_code_and_pages_stay_fast),
		DEBUG_TEST(test_debug_watchpoints_of_copies_and_page_ends),
		DEBUG_TEST(test_debug_breakpoint_at_a_string_instruction),
		DEBUG_TEST(test_debug_watchpoint_of_a_delivery),
		DEBUG_TEST(test_debug_io_breakpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
