/* SPDX-License-Identifier: MIT */
/* Exceptions, interrupts, privilege changes, segments, and the modes in which they differ. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

/* Word n of the handler's stack. */
static uint64_t stacked(struct guest *g, unsigned n)
{
	return guest_read(g, cpu_state(g->cpu)->gpr[CPU_RSP] + 8 * n, 8);
}

/* ---- exceptions in 64-bit mode ------------------------------------------------------------------------- */

GUEST_ASM(ev_ud, "nop \n ud2")
GUEST_ASM(ev_de, "xor %ecx, %ecx \n div %ecx")
GUEST_ASM(ev_bp, "int3")
GUEST_ASM(ev_int, "int $0x80")
GUEST_ASM(ev_gp_canonical, "mov $0x8000000000000000, %rbx \n mov (%rbx), %rax")
GUEST_ASM(ev_ss_canonical, "mov $0x8000000000000000, %rsp \n push %rax")
GUEST_ASM(ev_ss_canonical_bp, "mov $0x8000000000000000, %rbp \n mov (%rbp), %rax")
GUEST_ASM(ev_jump_canonical, "mov $0x8000000000000000, %rbx \n jmp *%rbx")
GUEST_ASM(ev_bad_selector, "mov $0x1003, %eax \n mov %eax, %ds")
GUEST_ASM(ev_absent_selector, "mov $0x60, %eax \n mov %eax, %es")
GUEST_ASM(ev_absent_ss, "mov $0x60, %eax \n mov %eax, %ss")
GUEST_ASM(ev_null_ss, "xor %eax, %eax \n mov %eax, %ss \n hlt")
GUEST_ASM(ev_cr4, "mov %cr4, %rax \n bts $14, %rax \n mov %rax, %cr4")
GUEST_ASM(ev_cr0, "mov %cr0, %rax \n bts $40, %rax \n mov %rax, %cr0")
GUEST_ASM(ev_cr4_pae, "mov %cr4, %rax \n btr $5, %rax \n mov %rax, %cr4")
GUEST_ASM(ev_wrmsr, "mov $0x12345, %ecx \n wrmsr")
GUEST_ASM(ev_efer, "mov $0xc0000080, %ecx \n rdmsr \n btr $8, %eax \n wrmsr")
GUEST_ASM(ev_nm, "mov %cr0, %rax \n bts $3, %rax \n mov %rax, %cr0 \n movups %xmm0, %xmm1")
GUEST_ASM(ev_vmcall, "vmcall")

struct event_case {
	const char *name;
	const uint8_t *code, *end;
	int vector;
	bool has_error;
	uint64_t error;
	unsigned rip; /* offset of the instruction that is pushed */
};

#define CASE(name, vector, has_error, error, rip) { #name, name, name##_end, vector, has_error, error, rip }

static const struct event_case exceptions[] = {
	CASE(ev_ud, 6, false, 0, 1),
	CASE(ev_de, 0, false, 0, 2),
	CASE(ev_bp, 3, false, 0, 1),
	CASE(ev_int, 0x80, false, 0, 2),
	CASE(ev_gp_canonical, 13, true, 0, 10),
	CASE(ev_ss_canonical, 12, true, 0, 10),
	CASE(ev_ss_canonical_bp, 12, true, 0, 10),
	CASE(ev_jump_canonical, 13, true, 0, 10),
	CASE(ev_bad_selector, 13, true, 0x1000, 5),
	CASE(ev_absent_selector, 11, true, 0x60, 5),
	CASE(ev_absent_ss, 12, true, 0x60, 5),
	CASE(ev_null_ss, -1, false, 0, 0),
	CASE(ev_cr4, 13, true, 0, 8),
	CASE(ev_cr0, 13, true, 0, 8),
	CASE(ev_cr4_pae, 13, true, 0, 8),
	CASE(ev_wrmsr, 13, true, 0, 5),
	CASE(ev_efer, 13, true, 0, 11),
	CASE(ev_nm, 7, false, 0, 11),
	CASE(ev_vmcall, 6, false, 0, 0),
};

static void test_event_exceptions_push_the_right_frame(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++) {
		const struct event_case *c = &exceptions[i];
		struct guest *g = guest_make();
		uint64_t rip;
		int vector;

		guest_long(g);
		/* #SS because of a bad stack needs a stack of its own (IST). */
		guest_write(g, GUEST_IDT + 12 * 16 + 4, 1, 1);
		guest_code(g, GUEST_CODE, c->code, (unsigned)(c->end - c->code));
		vector = guest_run_to_hlt(g);
		rip = stacked(g, c->has_error ? 1 : 0);
		if (vector != c->vector || (c->vector >= 0 && rip != GUEST_CODE + c->rip))
			print_error("%s: vector %d, rip %#llx\n", c->name, vector, (unsigned long long)rip);
		assert_int_equal(vector, c->vector);
		if (vector >= 0)
			assert_int_equal(rip, GUEST_CODE + c->rip);
		if (c->has_error)
			assert_int_equal(stacked(g, 0), c->error);
		guest_free(g);
	}
}

static enum cpu_msr_result kick_and_refuse(void *state, uint32_t index, uint64_t value)
{
	struct guest *g = state;

	(void)index, (void)value;
	cpu_request_exit(g->cpu);
	return CPU_MSR_GP;
}

/* The stack's page is touched for the first time, so that the delivery leaves the guest, too. */
static void test_event_a_request_does_not_come_between_fault_and_handler(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.wrmsr = kick_and_refuse;
	GUEST_LOAD(g, GUEST_CODE, ev_wrmsr);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
	assert_false(s->events.exception.pending || s->events.exception.injected);
	assert_int_equal(stacked(g, 1), GUEST_CODE + 5);
	assert_int_equal(guest_run_to_hlt(g), 13);
}

GUEST_ASM(ev_ud_loop, "1: ud2 \n jmp 1b")
GUEST_ASM(ev_step_over, "addq $2, (%rsp) \n iretq")

struct kicker {
	struct cpu *cpu;
	atomic_bool stop;
};

static void *kick_often(void *state)
{
	struct kicker *k = state;

	while (!atomic_load(&k->stop)) {
		cpu_request_exit(k->cpu);
		usleep(10);
	}
	return NULL;
}

/* The same with an exception of the instruction's own, which a request of another thread often finds on its way. */
static void test_event_a_kick_does_not_come_between_fault_and_handler(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t gate = GUEST_IDT + 6 * 16;
	struct kicker kicker = { .cpu = g->cpu };
	pthread_t thread;

	GUEST_LOAD(g, GUEST_CODE, ev_ud_loop);
	GUEST_LOAD(g, GUEST_CODE + 0x40, ev_step_over);
	guest_write(g, gate, 2, GUEST_CODE + 0x40);
	guest_write(g, gate + 6, 2, (GUEST_CODE + 0x40) >> 16);
	assert_int_equal(pthread_create(&thread, NULL, kick_often, &kicker), 0);
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
		assert_false(s->events.exception.pending || s->events.exception.injected);
	}
	atomic_store(&kicker.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

GUEST_ASM(ev_to_user, "push $0x3b \n push $0x420000 \n push $0x202 \n push $0x43 \n push $0x400000 \n iretq")
GUEST_ASM(ev_user_int, "mov $0x1234, %eax \n int $0x80")
GUEST_ASM(ev_user_hlt, "hlt")
GUEST_ASM(ev_user_int13, "int $13")

static void test_event_user_code_comes_to_the_kernel_stack(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, ev_to_user);
	GUEST_LOAD(g, GUEST_USER_CODE, ev_user_int);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(s->gpr[CPU_RSP], GUEST_RSP0 - 40);
	assert_int_equal(stacked(g, 0), GUEST_USER_CODE + 7);
	assert_int_equal(stacked(g, 1), SEL_UCODE64);
	assert_int_equal(stacked(g, 2), 0x202);
	assert_int_equal(stacked(g, 3), 0x420000);
	assert_int_equal(stacked(g, 4), SEL_UDATA);
	assert_int_equal(s->seg[CPU_SS].selector, 0);
	assert_int_equal(s->seg[CPU_CS].selector, SEL_CODE64);
	assert_int_equal(s->rflags & 0x200, 0);
}

static void test_event_user_may_not_halt_or_call_any_vector(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, ev_to_user);
	GUEST_LOAD(g, GUEST_USER_CODE, ev_user_hlt);
	assert_int_equal(guest_run_to_hlt(g), 13);
	assert_int_equal(stacked(g, 0), 0);
	cpu_state(g->cpu)->rip = GUEST_CODE;
	GUEST_LOAD(g, GUEST_USER_CODE, ev_user_int13);
	assert_int_equal(guest_run_to_hlt(g), 13);
	assert_int_equal(stacked(g, 0), 13 * 8 + 2);
}

static void test_event_interrupt_stack_table(void **state)
{
	struct guest *g = *state;

	guest_write(g, GUEST_IDT + 6 * 16 + 4, 1, 1);
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK - 3; /* frames are aligned */
	GUEST_LOAD(g, GUEST_CODE, ev_ud);
	assert_int_equal(guest_run_to_hlt(g), 6);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RSP], GUEST_IST1 - 40);
	assert_int_equal(stacked(g, 3), GUEST_STACK - 3);
}

static void test_event_fault_in_delivery_is_a_double_fault(void **state)
{
	struct guest *g = *state;

	/* The gate of #PF is absent, so delivering a #PF raises #NP. */
	guest_write(g, GUEST_IDT + 14 * 16 + 5, 1, 0);
	*guest_pte(g, 0x300000) = 0;
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8b, 0x04, 0x25, 0, 0, 0x30, 0); /* mov 0x300000,%eax */
	assert_int_equal(guest_run_to_hlt(g), 8);
	assert_int_equal(stacked(g, 0), 0);
	assert_int_equal(cpu_state(g->cpu)->cr2, 0x300000);
}

static void test_event_third_fault_shuts_down(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->idt.limit = 0;
	GUEST_LOAD(g, GUEST_CODE, ev_ud);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_SHUTDOWN);
}

static void test_event_stack_page_is_mapped_during_delivery(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, ev_ud);
	cpu_state(g->cpu)->gpr[CPU_RSP] = 0x600013; /* crosses into a page that the second stage lacks */
	assert_int_equal(guest_run_to_hlt(g), 6);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RSP], 0x600010 - 40);
	assert_int_equal(stacked(g, 3), 0x600013);
}

/* ---- interrupts ---------------------------------------------------------------------------------------- */

static int one_vector(void *state)
{
	struct guest *g = state;
	int vector = (int)guest_read(g, 0x100000, 4) - 1;

	guest_write(g, 0x100000, 4, 0);
	return vector;
}

GUEST_ASM(ev_sti, "sti \n inc %eax \n inc %eax \n hlt")

static void test_event_sti_holds_interrupts_for_one_instruction(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.interrupt = one_vector;
	guest_write(g, 0x100000, 4, 0x41 + 1);
	cpu_interrupt_raise(g->cpu);
	GUEST_LOAD(g, GUEST_CODE, ev_sti);
	assert_int_equal(guest_run_to_hlt(g), 0x41);
	assert_int_equal(s->gpr[CPU_RAX], 1);
	assert_int_equal(stacked(g, 0), GUEST_CODE + 3);
	assert_int_equal(stacked(g, 2) & 0x200, 0x200);
}

GUEST_ASM(ev_long_loop, "sti \n mov $100000, %ecx \n 1: dec %ecx \n jnz 1b \n hlt")

static void raise_now(struct guest *g)
{
	guest_write(g, 0x100000, 4, 0x41 + 1);
	cpu_interrupt_raise(g->cpu);
}

/* The raise comes after the CPU has looked for interrupts, and its kick before the CPU is in the guest. */
static void test_event_interrupt_raised_on_the_way_in_is_taken(void **state)
{
	struct guest *g = *state;

	g->ops.interrupt = one_vector;
	GUEST_LOAD(g, GUEST_CODE, ev_long_loop);
	assert_int_equal(guest_run_to_hlt(g), -1);
	/* All pages are mapped now, so the CPU enters the guest only once. */
	cpu_state(g->cpu)->rip = GUEST_CODE;
	g->entering = raise_now;
	assert_int_equal(guest_run_to_hlt(g), 0x41);
}

/* The same while an instruction is to be completed: the interrupt is taken after it. */
static void test_event_interrupt_waits_for_a_completion(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.interrupt = one_vector;
	s->rflags |= 0x200;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	/* movabs 0xd0000000,%eax; nop; hlt */
	GUEST_CODE_BYTES(g, GUEST_CODE, 0xa1, 0, 0, 0, 0xd0, 0, 0, 0, 0, 0x90, 0xf4);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	memset(cpu_exit_info(g->cpu)->mmio.data, 0x11, 8);
	raise_now(g);
	assert_int_equal(guest_run_to_hlt(g), 0x41);
	assert_int_equal(s->gpr[CPU_RAX], 0x11111111);
	assert_int_equal(stacked(g, 0), GUEST_CODE + 9);
}

GUEST_ASM(ev_sti_hlt, "sti \n hlt \n inc %eax \n hlt")

static void test_event_interrupt_after_a_halt(void **state)
{
	struct guest *g = *state;

	g->ops.interrupt = one_vector;
	guest_write(g, 0x100000, 4, 0x41 + 1);
	cpu_interrupt_raise(g->cpu);
	GUEST_LOAD(g, GUEST_CODE, ev_sti_hlt);
	/* The HLT comes first, as the one instruction after STI. The owner lets the CPU go on after it. */
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_run_to_hlt(g), 0x41);
	assert_int_equal(stacked(g, 0), GUEST_CODE + 2);
}

static void test_event_window_opens_when_interrupts_do(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, ev_sti);
	cpu_irq_window_want(g->cpu, true);
	assert_false(cpu_interrupt_ready(g->cpu));
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IRQ_WINDOW);
	assert_true(cpu_interrupt_ready(g->cpu));
	assert_int_equal(s->gpr[CPU_RAX], 1);
	cpu_irq_window_want(g->cpu, false);
	s->events.interrupt.injected = true;
	s->events.interrupt.vector = 0x55;
	assert_int_equal(guest_run_to_hlt(g), 0x55);
}

static void test_event_nmi_is_masked_until_iret(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x90, 0xf4);
	GUEST_CODE_BYTES(g, GUEST_STUBS + 2 * 16, 0xff, 0xc0, 0x48, 0xcf); /* inc %eax; iretq */
	s->events.nmi.pending = 1;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 1);
	assert_false(s->events.nmi.masked);
	s->events.nmi.masked = true;
	s->events.nmi.pending = 1;
	s->rip = GUEST_CODE;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 1);
	assert_int_equal(s->events.nmi.pending, 1);
}

GUEST_ASM(ev_trap, "pushf \n orl $0x100, (%rsp) \n popf \n nop \n nop \n hlt")

static void test_event_trap_flag_steps(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	/* The handler counts and returns. */
	GUEST_CODE_BYTES(g, GUEST_STUBS + 1 * 16, 0xff, 0xc0, 0x48, 0xcf);
	GUEST_LOAD(g, GUEST_CODE, ev_trap);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 2);
	assert_int_equal(s->dr[6] & 0x4000, 0x4000);
}

GUEST_ASM(ev_dr, "mov $0x100000, %eax \n mov %rax, %dr0 \n mov $0xd0001, %eax \n mov %rax, %dr7 \n"
	"mov %ecx, 0x100004 \n nop \n mov %ecx, 0x100000 \n nop \n hlt")

static void test_event_data_breakpoint_of_the_guest(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, ev_dr);
	assert_int_equal(guest_run_to_hlt(g), 1);
	assert_int_equal(s->dr[6] & 0xf, 1);
	assert_int_equal(stacked(g, 0), GUEST_CODE + (uint64_t)(ev_dr_end - ev_dr) - 2);
}

/* ---- system calls -------------------------------------------------------------------------------------- */

GUEST_ASM(ev_syscall_kernel, "mov $0x400000, %ecx \n mov $0x202, %r11d \n mov $0x420000, %esp \n sysretq")
GUEST_ASM(ev_syscall_user, "mov $7, %eax \n syscall \n mov $8, %eax \n int $0x80")

static void test_event_syscall_and_sysret(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->star = UINT64_C(0x33) << 48 | (uint64_t)SEL_CODE64 << 32;
	s->lstar = 0x70000;
	s->sfmask = 0x200;
	GUEST_LOAD(g, GUEST_CODE, ev_syscall_kernel);
	GUEST_LOAD(g, GUEST_USER_CODE, ev_syscall_user);
	GUEST_CODE_BYTES(g, 0x70000, 0x89, 0xc7, 0x48, 0x0f, 0x07); /* mov %eax,%edi; sysretq */
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(s->gpr[CPU_RDI], 7);
	assert_int_equal(s->gpr[CPU_RAX], 8);
	assert_int_equal(s->gpr[CPU_RCX], GUEST_USER_CODE + 7);
	assert_int_equal(s->gpr[CPU_R11], 0x202);
	assert_int_equal(stacked(g, 1), SEL_UCODE64);
}

GUEST_ASM(ev_swapgs, "swapgs \n mov %gs:8, %rax \n swapgs \n mov %gs:8, %rcx \n hlt")

static void test_event_swapgs(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, ev_swapgs);
	s->seg[CPU_GS].base = 0x100000;
	s->kernel_gs_base = 0x110000;
	guest_write(g, 0x100008, 8, 1);
	guest_write(g, 0x110008, 8, 2);
	cpu_state_changed(g->cpu, CPU_CHANGED_MODE);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 2);
	assert_int_equal(s->gpr[CPU_RCX], 1);
}

/* ---- other modes --------------------------------------------------------------------------------------- */

/* 64 -> compatibility -> 64. */
GUEST_ASM(ev_compat,
	"push $0x18 \n push $0x10100 \n lretq \n"
	".skip 0x100-(.-ev_compat) \n .code32 \n mov $0x11223344, %eax \n dec %eax \n ljmp $0x08, $0x10200 \n"
	".skip 0x200-(.-ev_compat) \n .code64 \n mov %rsp, %rbx \n hlt")

static void test_event_compatibility_mode_and_back(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, ev_compat);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 0x11223343);
	assert_int_equal(cpu_state(g->cpu)->seg[CPU_CS].selector, SEL_CODE64);
}

GUEST_ASM(ev_limits,
	".code32 \n mov $0x68, %eax \n mov %eax, %fs \n mov %fs:0xfc, %ebx \n mov $0x58, %eax \n mov %eax, %gs \n"
	"mov %gs:0x1000, %ecx \n mov %fs:0xfd, %edx \n hlt")
GUEST_ASM(ev_expand_down, ".code32 \n mov $0x58, %eax \n mov %eax, %gs \n mov %gs:0xffe, %ecx \n hlt")
GUEST_ASM(ev_null_use, ".code32 \n xor %eax, %eax \n mov %eax, %es \n mov %es:0, %ecx \n hlt")
GUEST_ASM(ev_code_write, ".code32 \n mov %eax, %cs:0x100000 \n hlt")

static void test_event_segment_limits(void **state)
{
	static const struct {
		const uint8_t *code, *end;
	} bad[] = {
		{ ev_limits, ev_limits_end }, { ev_expand_down, ev_expand_down_end },
		{ ev_null_use, ev_null_use_end }, { ev_code_write, ev_code_write_end },
	};
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = guest_make();
		struct cpu_state *s = cpu_state(g->cpu);

		guest_protected(g);
		guest_write(g, GUEST_DATA + 0xfc, 4, 0x5678);
		guest_write(g, 0x1000, 4, 0x1234);
		guest_code(g, GUEST_CODE, bad[i].code, (unsigned)(bad[i].end - bad[i].code));
		assert_int_equal(guest_run_to_hlt(g), 13);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 4), 0);
		if (i == 0) {
			assert_int_equal(s->gpr[CPU_RBX], 0x5678);
			assert_int_equal(s->gpr[CPU_RCX], 0x1234);
		}
		assert_in_range(guest_read(g, s->gpr[CPU_RSP] + 4, 4), GUEST_CODE, GUEST_CODE + 40);
		guest_free(g);
	}
}

GUEST_ASM(ev_user32, ".code32 \n push $0x3b \n push $0x420000 \n push $0x202 \n push $0x33 \n push $0x400000 \n iret")
GUEST_ASM(ev_user32_int, ".code32 \n int $0x80")

static void test_event_32_bit_level_change(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->cr4 = s->efer = 0;
	guest_protected(g);
	GUEST_LOAD(g, GUEST_CODE, ev_user32);
	GUEST_LOAD(g, GUEST_USER_CODE, ev_user32_int);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(s->gpr[CPU_RSP], GUEST_RSP0 - 20);
	assert_int_equal(guest_read(g, GUEST_RSP0 - 20, 4), GUEST_USER_CODE + 2);
	assert_int_equal(guest_read(g, GUEST_RSP0 - 16, 4), SEL_UCODE32);
	assert_int_equal(guest_read(g, GUEST_RSP0 - 8, 4), 0x420000);
	assert_int_equal(guest_read(g, GUEST_RSP0 - 4, 4), SEL_UDATA);
	assert_int_equal(s->seg[CPU_SS].selector, SEL_DATA);
}

/* Real mode: segments, an interrupt and back, then protected mode. */
GUEST_ASM(ev_real,
	".code16 \n mov $0x2000, %ax \n mov %ax, %ss \n mov $0x100, %sp \n mov %ax, %ds \n movw $0xbeef, (0x10) \n"
	"push %ax \n pop %es \n mov %es:(0x10), %bx \n"
	"int $0x20 \n"
	"lgdtl %cs:(0x80) \n mov %cr0, %eax \n or $1, %al \n mov %eax, %cr0 \n ljmpl $0x18, $0x10060 \n"
	".skip 0x60-(.-ev_real) \n .code32 \n mov $0x10, %ax \n mov %ax, %ds \n mov $0x12345678, %edx \n "
	"mov %edx, 0x100000 \n hlt \n"
	".skip 0x80-(.-ev_real) \n .word 0x6f \n .long 0x8000")

static void test_event_real_mode_to_protected_mode(void **state)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	(void)state;
	guest_protected(g); /* for its descriptors */
	cpu_reset(g->cpu, false);
	guest_real(g);
	guest_write(g, 4 * 0x20, 4, 0x15000000); /* 0x1500:0 */
	GUEST_CODE_BYTES(g, 0x15000, 0xb9, 0x34, 0x12, 0xcf); /* mov $0x1234,%cx; iret */
	GUEST_LOAD(g, GUEST_CODE, ev_real);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, 0x20010, 2), 0xbeef);
	assert_int_equal(s->gpr[CPU_RBX] & 0xffff, 0xbeef);
	assert_int_equal(s->gpr[CPU_RCX] & 0xffff, 0x1234);
	assert_int_equal(s->gpr[CPU_RSP] & 0xffff, 0x100);
	assert_int_equal(guest_read(g, 0x100000, 4), 0x12345678);
	guest_free(g);
}

/* Real mode -> long mode, the way a boot loader does it. */
GUEST_ASM(ev_boot,
	".code16 \n lgdtl %cs:(0x80) \n mov %cr4, %eax \n or $0x20, %al \n mov %eax, %cr4 \n "
	"mov $0x1000, %eax \n mov %eax, %cr3 \n"
	"mov $0xc0000080, %ecx \n rdmsr \n or $0x100, %ax \n wrmsr \n"
	"mov %cr0, %eax \n or $0x80000001, %eax \n mov %eax, %cr0 \n ljmpl $0x08, $0x10060 \n"
	".skip 0x60-(.-ev_boot) \n .code64 \n mov $0x123456789abcdef0, %rax \n mov %rax, 0x100000 \n hlt \n"
	".skip 0x80-(.-ev_boot) \n .word 0x6f \n .long 0x8000")

static void test_event_boot_to_long_mode(void **state)
{
	struct guest *g = *state;

	cpu_reset(g->cpu, false);
	guest_real(g);
	GUEST_LOAD(g, GUEST_CODE, ev_boot);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, 0x100000, 8), 0x123456789abcdef0);
	assert_int_equal(cpu_state(g->cpu)->efer & 0x500, 0x500);
}

GUEST_ASM(ev_x87, "fninit \n flds (%rbx) \n fmuls (%rbx) \n fld1 \n faddp \n fstpl 8(%rbx) \n fnstcw 16(%rbx) \n"
	"fxsave 0x40(%rbx) \n pxor %xmm0, %xmm0 \n fxrstor 0x40(%rbx) \n movups %xmm0, 0x20(%rbx) \n hlt")

static void test_event_x87_and_its_saving(void **state)
{
	struct guest *g = *state;
	float three = 3;
	double ten;

	memcpy(g->ram + 0x100000, &three, 4);
	memset(cpu_state(g->cpu)->vectors.v[0], 0x5a, 16);
	cpu_state(g->cpu)->gpr[CPU_RBX] = 0x100000;
	GUEST_LOAD(g, GUEST_CODE, ev_x87);
	assert_int_equal(guest_run_to_hlt(g), -1);
	memcpy(&ten, g->ram + 0x100008, 8);
	assert_true(ten == 10.0);
	assert_int_equal(guest_read(g, 0x100010, 2), 0x37f);
	assert_int_equal(guest_read(g, 0x100020, 8), 0x5a5a5a5a5a5a5a5a);
}

int main(void)
{
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_event_exceptions_push_the_right_frame),
		GUEST_TEST(test_event_user_code_comes_to_the_kernel_stack),
		GUEST_TEST(test_event_user_may_not_halt_or_call_any_vector),
		GUEST_TEST(test_event_interrupt_stack_table),
		GUEST_TEST(test_event_fault_in_delivery_is_a_double_fault),
		GUEST_TEST(test_event_third_fault_shuts_down),
		GUEST_TEST(test_event_stack_page_is_mapped_during_delivery),
		GUEST_TEST(test_event_sti_holds_interrupts_for_one_instruction),
		GUEST_TEST(test_event_interrupt_raised_on_the_way_in_is_taken),
		GUEST_TEST(test_event_interrupt_waits_for_a_completion),
		GUEST_TEST(test_event_interrupt_after_a_halt),
		GUEST_TEST(test_event_window_opens_when_interrupts_do),
		GUEST_TEST(test_event_nmi_is_masked_until_iret),
		GUEST_TEST(test_event_trap_flag_steps),
		GUEST_TEST(test_event_data_breakpoint_of_the_guest),
		GUEST_TEST(test_event_syscall_and_sysret),
		GUEST_TEST(test_event_swapgs),
		GUEST_TEST(test_event_compatibility_mode_and_back),
		cmocka_unit_test(test_event_segment_limits),
		GUEST_TEST(test_event_32_bit_level_change),
		cmocka_unit_test(test_event_real_mode_to_protected_mode),
		GUEST_TEST(test_event_boot_to_long_mode),
		GUEST_TEST(test_event_a_request_does_not_come_between_fault_and_handler),
		GUEST_TEST(test_event_a_kick_does_not_come_between_fault_and_handler),
		GUEST_TEST(test_event_x87_and_its_saving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
