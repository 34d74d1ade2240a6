/* SPDX-License-Identifier: MIT */
/* Code that changes: by itself, by another vCPU, by the program that owns the memory; and memory that goes away. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

/* A loop that rewrites the immediate of its own MOV, in the same block. */
GUEST_ASM(code_self,
	"mov $0x10000, %ebx \n xor %edx, %edx \n mov $100, %ecx \n"
	"1: \n"
	"mov %cl, 2f+1-code_self(%rbx) \n"
	"2: mov $0xaa, %al \n"
	"movzbl %al, %eax \n add %eax, %edx \n"
	"dec %ecx \n jne 1b \n hlt")

static void test_code_that_rewrites_the_next_instruction(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_self);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RDX], 5050);
}

/* A function is called, overwritten in each of several ways, and called again. */
GUEST_ASM(code_patch,
	"mov $0x50000, %ebx \n"
	"call *%rbx \n mov %eax, %r8d \n"
	"movl $2, 1(%rbx) \n call *%rbx \n mov %eax, %r9d \n"
	"lock addl $1, 1(%rbx) \n call *%rbx \n mov %eax, %r10d \n"
	"cld \n mov $0x10500, %esi \n mov %ebx, %edi \n mov $6, %ecx \n rep movsb \n call *%rbx \n mov %eax, %r11d \n"
	"movups 0x10600, %xmm0 \n movups %xmm0, (%rbx) \n call *%rbx \n mov %eax, %r12d \n hlt")

static void test_code_patched_by_every_kind_of_write(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_patch);
	GUEST_CODE_BYTES(g, 0x50000, 0xb8, 1, 0, 0, 0, 0xc3);
	GUEST_CODE_BYTES(g, 0x10500, 0xb8, 4, 0, 0, 0, 0xc3);
	GUEST_CODE_BYTES(g, 0x10600, 0xb8, 5, 0, 0, 0, 0xc3);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_R8], 1);
	assert_int_equal(s->gpr[CPU_R9], 2);
	assert_int_equal(s->gpr[CPU_R10], 3);
	assert_int_equal(s->gpr[CPU_R11], 4);
	assert_int_equal(s->gpr[CPU_R12], 5);
}

/* Bytes that are no instruction become one: the owner writes them between two runs, or the guest's handler does. */
static void undefined_then_written(struct guest *g, uint64_t at)
{
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t second = at + 1;

	/* 0f 04 is #UD, 0f 31 reads the TSC. */
	GUEST_CODE_BYTES(g, at, 0x0f, 0x04, 0xf4);
	s->rip = at;
	assert_int_equal(guest_run_to_hlt(g), 6);
	GUEST_CODE_BYTES(g, second, 0x31);
	s->rip = at;
	assert_int_equal(guest_run_to_hlt(g), -1);
	GUEST_CODE_BYTES(g, second, 0x04);
	s->rip = at;
	assert_int_equal(guest_run_to_hlt(g), 6);
	/* The handler of #UD: mov byte [second], 0x31; iretq. */
	GUEST_CODE_BYTES(g, GUEST_STUBS + 16 * 6, 0xc6, 0x04, 0x25, (uint8_t)second, (uint8_t)(second >> 8),
	                 (uint8_t)(second >> 16), (uint8_t)(second >> 24), 0x31, 0x48, 0xcf);
	s->rip = at;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->rip, at + 3);
}

static void test_code_that_was_undefined_and_is_written(void **state)
{
	undefined_then_written(*state, 0x50000);
}

static void test_code_that_was_undefined_and_is_written_in_the_next_page(void **state)
{
	undefined_then_written(*state, 0x50fff);
}

/* The byte that makes the code undefined is the last of its page, and the next page is absent. */
static void test_undefined_code_fetches_no_byte_that_does_not_matter(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, 0x50ffe, 0x0f, 0x04);
	*guest_pte(g, 0x51000) = 0;
	cpu_state(g->cpu)->rip = 0x50ffe;
	assert_int_equal(guest_run_to_hlt(g), 6);
}

/* Code and the data that it writes share a page, in different lines. */
GUEST_ASM(code_mixed,
	"mov $0x10400, %ebx \n mov $1000, %ecx \n 1: incq (%rbx) \n push (%rbx) \n pop %rax \n dec %ecx \n "
	"jne 1b \n hlt")

static void test_code_page_holds_data_too(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_mixed);
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_CODE + 0x800;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 1000);
}

/* An instruction that begins in one page and ends in another, either half of which changes. */
static void test_code_across_pages(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = 0; i < 4; i++) {
		s->rip = 0x50ffd;
		GUEST_CODE_BYTES(g, 0x50ffd, 0xb8, (uint8_t)i, 0, (uint8_t)(2 * i), 0, 0xf4);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(s->gpr[CPU_RAX], i | 2 * i << 16);
	}
	/* Now the second page leads to other code. */
	*guest_pte(g, 0x51000) = 0x60000 | 3;
	GUEST_CODE_BYTES(g, 0x60000, 9, 0, 0xf4);
	s->rip = 0x50ffd;
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 3 | 9 << 16);
	/* Now the second page leads nowhere: the fault names the second page, and the instruction has no effect. */
	*guest_pte(g, 0x51000) = 0;
	s->rip = 0x50ffd;
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
	assert_int_equal(guest_run_to_hlt(g), 14);
	assert_int_equal(s->cr2, 0x51000);
}

static void test_code_written_by_the_program_between_runs(void **state)
{
	struct guest *g = *state;

	for (unsigned i = 1; i < 20; i++) {
		GUEST_CODE_BYTES(g, GUEST_CODE, 0xb8, (uint8_t)i, 0, 0, 0, 0xf4);
		cpu_state(g->cpu)->rip = GUEST_CODE;
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], i);
	}
}

static void test_code_at_an_address_that_leads_elsewhere(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, 0x50000, 0xb8, 1, 0, 0, 0, 0xf4);
	GUEST_CODE_BYTES(g, 0x60000, 0xb8, 2, 0, 0, 0, 0xf4);
	for (unsigned i = 0; i < 4; i++) {
		*guest_pte(g, 0x50000) = (i & 1 ? 0x60000 : 0x50000) | 3;
		cpu_state(g->cpu)->rip = 0x50000;
		cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 1 + (i & 1));
	}
}

/* ---- two vCPUs ----------------------------------------------------------------------------------------- */

/* Calls the function at 0x50000 until it returns 0. */
GUEST_ASM(code_caller, "mov $0x50000, %ebx \n 1: call *%rbx \n mov %eax, 0x100000 \n test %eax, %eax \n jne 1b \n hlt")
/* Patches that function RCX times, and each time waits until the other CPU has run it. At last to return 0. */
GUEST_ASM(code_patcher,
	"mov $0x50000, %ebx \n mov $1, %eax \n"
	"1: inc %eax \n mov %eax, 1(%rbx) \n"
	"2: pause \n cmp %eax, 0x100000 \n jne 2b \n"
	"dec %ecx \n jne 1b \n movl $0, 1(%rbx) \n hlt")

static void *run_second(void *cpu)
{
	enum cpu_exit exit = cpu_run(cpu);

	assert_int_equal(exit, CPU_EXIT_HLT);
	return NULL;
}

static void test_code_patched_by_another_vcpu_is_seen(void **state)
{
	struct guest *g = *state;
	struct cpu *second = guest_second(g);
	pthread_t thread;

	GUEST_CODE_BYTES(g, 0x50000, 0xb8, 1, 0, 0, 0, 0xc3);
	GUEST_LOAD(g, GUEST_CODE, code_patcher);
	GUEST_LOAD(g, GUEST_CODE + 0x1000, code_caller);
	cpu_state(g->cpu)->gpr[CPU_RCX] = 200;
	cpu_state(second)->rip = GUEST_CODE + 0x1000;
	pthread_create(&thread, NULL, run_second, second);
	assert_int_equal(guest_run_to_hlt(g), -1);
	pthread_join(thread, NULL);
	assert_int_equal(guest_read(g, 0x100000, 4), 0);
	cpu_destroy(second);
}

/* Both CPUs write to a page and then run it, so that it becomes code and data again all the time. */
GUEST_ASM(code_both,
	"1: mov %ecx, 1(%rbx) \n movb $0xb8, (%rbx) \n movb $0xc3, 5(%rbx) \n"
	"call *%rbx \n cmp %ecx, %eax \n jne 3f \n dec %ecx \n jne 1b \n hlt \n 3: ud2")

static void test_code_pages_shared_by_two_writers(void **state)
{
	struct guest *g = *state;
	struct cpu *second = guest_second(g);
	pthread_t thread;

	GUEST_LOAD(g, GUEST_CODE, code_both);
	cpu_state(g->cpu)->gpr[CPU_RBX] = 0x50000;
	cpu_state(second)->gpr[CPU_RBX] = 0x50800;
	cpu_state(g->cpu)->gpr[CPU_RCX] = cpu_state(second)->gpr[CPU_RCX] = 200;
	pthread_create(&thread, NULL, run_second, second);
	assert_int_equal(guest_run_to_hlt(g), -1);
	pthread_join(thread, NULL);
	cpu_destroy(second);
}

/* A CPU whose thread does not leave the guest: its CPUID callback, which runs inside the guest, waits. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool inside, go;
} stuck = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

static void stuck_cpuid(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	cpu_cpuid_max(leaf, subleaf, out);
	(void)state;
	if (leaf != 0x77)
		return;
	pthread_mutex_lock(&stuck.lock);
	stuck.inside = true;
	pthread_cond_broadcast(&stuck.changed);
	while (!stuck.go)
		pthread_cond_wait(&stuck.changed, &stuck.lock);
	pthread_mutex_unlock(&stuck.lock);
}

static void *ask_to_exit(void *cpu)
{
	usleep(20000); /* by then the CPU usually waits; the test is right either way */
	cpu_request_exit(cpu);
	return NULL;
}

GUEST_ASM(code_stuck, "mov $0x77, %eax \n cpuid \n hlt")

/*
 * Code must not run before every other CPU has dropped its write translations. A CPU that waits for one that does
 * not answers a request to exit.
 */
static void test_code_wait_for_a_cpu_ends_when_asked_to_exit(void **state)
{
	struct guest *g = *state;
	struct cpu *second;
	pthread_t thread, asker;

	g->ops.cpuid = stuck_cpuid;
	second = guest_second(g);
	GUEST_LOAD(g, GUEST_CODE, code_stuck);
	GUEST_LOAD(g, GUEST_CODE + 0x1000, code_self); /* any code that ends in a HLT */
	pthread_create(&thread, NULL, run_second, second);
	pthread_mutex_lock(&stuck.lock);
	while (!stuck.inside)
		pthread_cond_wait(&stuck.changed, &stuck.lock);
	pthread_mutex_unlock(&stuck.lock);

	cpu_state(g->cpu)->rip = GUEST_CODE + 0x1000 + (uint64_t)(code_self_end - code_self) - 1;
	for (unsigned i = 0; i < 3; i++) {
		pthread_create(&asker, NULL, ask_to_exit, g->cpu);
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
		pthread_join(asker, NULL);
	}
	pthread_mutex_lock(&stuck.lock);
	stuck.go = true;
	pthread_cond_broadcast(&stuck.changed);
	pthread_mutex_unlock(&stuck.lock);
	assert_int_equal(guest_run_to_hlt(g), -1);
	pthread_join(thread, NULL);
	cpu_destroy(second);
}

/* ---- memory that goes away ----------------------------------------------------------------------------- */

GUEST_ASM(code_touch, "mov (%rbx), %rax \n mov (%rcx), %rax \n hlt")

static void test_host_page_gone_is_a_host_fault(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t gone = 0x800000;

	cpu_signals_install();
	GUEST_LOAD(g, GUEST_CODE, code_touch);
	s->gpr[CPU_RBX] = s->gpr[CPU_RCX] = gone;
	assert_int_equal(guest_run_to_hlt(g), -1);
	/* The second stage is not told. */
	mprotect(g->ram + gone, 4096, PROT_NONE);
	s->rip = GUEST_CODE;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	assert_int_equal(cpu_exit_info(g->cpu)->host_fault.gpa, gone);
	assert_int_equal(s->rip, GUEST_CODE);
	mprotect(g->ram + gone, 4096, PROT_READ | PROT_WRITE);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

GUEST_ASM(code_touch_x87, "fninit \n fld1 \n mov (%rbx), %rax \n flds (%rbx) \n fstp %st(0) \n fstp %st(0) \n hlt")

/* The x87 state, which may be in the host's registers, is that of the last instruction that was completed. */
static void test_host_page_gone_behind_x87(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t gone = 0x800000;

	cpu_signals_install();
	GUEST_LOAD(g, GUEST_CODE, code_touch_x87);
	s->gpr[CPU_RBX] = gone;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->fx.fip, GUEST_CODE + 11);
	mprotect(g->ram + gone, 4096, PROT_NONE);
	s->rip = GUEST_CODE;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	assert_int_equal(s->rip, GUEST_CODE + 4);
	assert_int_equal(s->fx.fip, GUEST_CODE + 2);
	assert_int_equal(s->fx.fop, 0x1e8);
	assert_int_equal(s->fx.fsw >> 11 & 7, 7);
	mprotect(g->ram + gone, 4096, PROT_READ | PROT_WRITE);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->fx.fip, GUEST_CODE + 11);
	assert_int_equal(s->fx.fdp, gone);
}

int main(void)
{
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		GUEST_TEST(test_code_that_rewrites_the_next_instruction),
		GUEST_TEST(test_code_patched_by_every_kind_of_write),
		GUEST_TEST(test_code_that_was_undefined_and_is_written),
		GUEST_TEST(test_code_that_was_undefined_and_is_written_in_the_next_page),
		GUEST_TEST(test_undefined_code_fetches_no_byte_that_does_not_matter),
		GUEST_TEST(test_code_page_holds_data_too),
		GUEST_TEST(test_code_across_pages),
		GUEST_TEST(test_code_written_by_the_program_between_runs),
		GUEST_TEST(test_code_at_an_address_that_leads_elsewhere),
		GUEST_TEST(test_code_patched_by_another_vcpu_is_seen),
		GUEST_TEST(test_code_pages_shared_by_two_writers),
		GUEST_TEST(test_code_wait_for_a_cpu_ends_when_asked_to_exit),
		GUEST_TEST(test_host_page_gone_is_a_host_fault),
		GUEST_TEST(test_host_page_gone_behind_x87),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
