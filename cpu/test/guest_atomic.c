/* SPDX-License-Identifier: MIT */
/*
 * Locked instructions of two vCPUs that run in parallel. Both increment each counter, each counter by another
 * instruction, and no increment may be lost. Counters are aligned, across a cache line, and across two pages that
 * are not neighbours in the host.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/base/private.h"
#include "cpu/memory/codemap.h"
#include "guest.h"
#include "guest_asm.h"

#define ROUNDS 200000u

static void *run_second(void *argument)
{
	struct cpu *cpu = argument;

	while (cpu_run(cpu) != CPU_EXIT_HLT)
		;
	return NULL;
}

/* Both CPUs run the code at GUEST_CODE, with RBX at @data and RBP counting @rounds. */
static void run_both(struct guest *g, uint64_t data, uint64_t rounds)
{
	struct cpu *second;
	pthread_t thread;

	cpu_state(g->cpu)->gpr[CPU_RBX] = data;
	cpu_state(g->cpu)->gpr[CPU_RBP] = rounds;
	second = guest_second(g);
	pthread_create(&thread, NULL, run_second, second);
	assert_int_equal(guest_run_to_hlt(g), -1);
	pthread_join(thread, NULL);
	cpu_destroy(second);
}

GUEST_ASM(atomic_arithmetic,
	"1: lock incq (%rbx) \n lock addl $3, 8(%rbx) \n mov $5, %eax \n lock xaddw %ax, 16(%rbx) \n"
	"lock decq 24(%rbx) \n lock subb $1, 32(%rbx) \n lock xorl $1, 40(%rbx) \n lock negl 48(%rbx) \n"
	"stc \n lock adcq $0, 56(%rbx) \n stc \n lock sbbl $0, 64(%rbx) \n lock notb 72(%rbx) \n"
	"dec %rbp \n jne 1b \n hlt")

static void test_atomic_arithmetic_loses_nothing(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, atomic_arithmetic);
	guest_write(g, GUEST_DATA + 48, 4, 7);
	run_both(g, GUEST_DATA, ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA, 8), 2 * ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA + 8, 4), 6 * ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA + 16, 2), (uint16_t)(10 * ROUNDS));
	assert_int_equal(guest_read(g, GUEST_DATA + 24, 8), 0 - (uint64_t)(2 * ROUNDS));
	assert_int_equal(guest_read(g, GUEST_DATA + 32, 1), (uint8_t)(0 - 2 * ROUNDS));
	assert_int_equal(guest_read(g, GUEST_DATA + 40, 4), 0);
	assert_int_equal(guest_read(g, GUEST_DATA + 48, 4), 7);
	assert_int_equal(guest_read(g, GUEST_DATA + 56, 8), 2 * ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA + 64, 4), (uint32_t)(0 - 2 * ROUNDS));
	assert_int_equal(guest_read(g, GUEST_DATA + 72, 1), 0);
}

GUEST_ASM(atomic_exchange,
	"1: mov (%rbx), %rax \n 2: lea 1(%rax), %rcx \n lock cmpxchg %rcx, (%rbx) \n jne 2b \n"
	"mov 16(%rbx), %rax \n mov 24(%rbx), %rdx \n"
	"3: mov %rbp, %r8 \n mov %rbx, %rdi \n mov %rax, %rbx \n mov %rdx, %rcx \n add $1, %rbx \n adc $1, %rcx \n"
	"lock cmpxchg16b 16(%rdi) \n mov %rdi, %rbx \n jne 3b \n"
	"dec %rbp \n jne 1b \n hlt")

static void test_atomic_compare_and_exchange_loses_nothing(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, atomic_exchange);
	run_both(g, GUEST_DATA, ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA, 8), 2 * ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA + 16, 8), 2 * ROUNDS);
	assert_int_equal(guest_read(g, GUEST_DATA + 24, 8), 2 * ROUNDS);
}

/* Two locks, one taken by XCHG and one by BTS. The counters that they guard are incremented without LOCK. */
GUEST_ASM(atomic_locks,
	"1: mov $1, %eax \n 2: xchg %eax, (%rbx) \n test %eax, %eax \n je 3f \n pause \n jmp 2b \n"
	"3: incq 64(%rbx) \n movl $0, (%rbx) \n"
	"4: lock btsl $37, 8(%rbx) \n jnc 5f \n pause \n jmp 4b \n"
	"5: mov 72(%rbx), %rax \n inc %rax \n mov %rax, 72(%rbx) \n lock btrl $37, 8(%rbx) \n"
	"dec %rbp \n jne 1b \n hlt")

static void test_atomic_locks_exclude(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, atomic_locks);
	run_both(g, GUEST_DATA, ROUNDS / 20);
	assert_int_equal(guest_read(g, GUEST_DATA + 64, 8), ROUNDS / 10);
	assert_int_equal(guest_read(g, GUEST_DATA + 72, 8), ROUNDS / 10);
	assert_int_equal(guest_read(g, GUEST_DATA, 4), 0);
	assert_int_equal(guest_read(g, GUEST_DATA + 8, 8), 0);
}

static void *ask_to_exit(void *cpu)
{
	usleep(10000); /* by then the CPU usually waits; the test is right either way */
	cpu_request_exit(cpu);
	return NULL;
}

GUEST_ASM(atomic_split, "1: lock incl (%rbx) \n lock addl $2, (%rbx) \n dec %rbp \n jne 1b \n hlt")

static void test_atomic_across_a_line_loses_nothing(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, atomic_split);
	run_both(g, GUEST_DATA + 62, ROUNDS / 100);
	assert_int_equal(guest_read(g, GUEST_DATA + 62, 4), 6 * ROUNDS / 100);
}

static void test_atomic_across_pages_loses_nothing(void **state)
{
	struct guest *g = *state;
	uint64_t *second = guest_pte(g, GUEST_DATA + 0x1000);

	/* The second page is not the host's next page. */
	*second += 0x5000;
	GUEST_LOAD(g, GUEST_CODE, atomic_split);
	run_both(g, GUEST_DATA + 0xffe, ROUNDS / 100);
	assert_int_equal(guest_read(g, GUEST_DATA + 0xffe, 2) | guest_read(g, GUEST_DATA + 0x6000, 2) << 16,
			 6 * ROUNDS / 100);
}

/* A CPU that waits to make a locked access answers a request to exit, and holds no lock when it has given up. */
static void test_atomic_across_pages_waits_and_gives_up(void **state)
{
	struct guest *g = *state;
	struct cpu *second = guest_second(g);

	GUEST_LOAD(g, GUEST_CODE, atomic_split);
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_DATA + 0xffe;
	cpu_state(g->cpu)->gpr[CPU_RBP] = 1;
	for (unsigned i = 0; i < 3; i++) {
		pthread_t asker;

		assert_true(codemap_atomic_try(second));
		assert_int_equal(pthread_create(&asker, NULL, ask_to_exit, g->cpu), 0);
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
		pthread_join(asker, NULL);
		assert_int_equal(cpu_state(g->cpu)->rip, GUEST_CODE);
		codemap_atomic_give(second);
	}
	assert_true(codemap_atomic_try(second)); /* the first CPU has left the queue */
	codemap_atomic_give(second);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 0xffe, 4), 3);
	cpu_destroy(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_atomic_arithmetic_loses_nothing, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_atomic_compare_and_exchange_loses_nothing, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_atomic_locks_exclude, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_atomic_across_a_line_loses_nothing, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_atomic_across_pages_loses_nothing, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_atomic_across_pages_waits_and_gives_up, guest_setup,
		                                guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
