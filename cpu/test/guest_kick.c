/* SPDX-License-Identifier: MIT */
/*
 * A request to exit ends cpu_run in every loop, also one that accesses no memory. What is counted is that it ends: a
 * loop that nobody can leave is found by the alarm. How long it takes is printed.
 */
#include "guest.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KICKS 60u
#define PAGE  4096u

struct loop {
	const char *name;
	uint16_t at; /* from GUEST_CODE */
	uint8_t bytes[40];
	/* The second half, from GUEST_CODE + at2. */
	uint16_t at2;
	uint8_t bytes2[16];
};

/* RAX: GUEST_CODE. RBX: GUEST_DATA. RCX: large. */
static const struct loop loops[] = {
	{ .name = "jmp to itself", .bytes = { 0xeb, 0xfe } },
	{ .name = "jcc to itself", .bytes = { 0x31, 0xd2, 0x74, 0xfe } },
	{ .name = "registers", .bytes = { 0x48, 0xff, 0xc2, 0x48, 0x01, 0xd6, 0xeb, 0xf8 } },
	{ .name = "carry lives around it", .bytes = { 0xf9, 0x48, 0x83, 0xd2, 0x00, 0x48, 0x8d, 0x49, 0xff, 0xe3, 0xf5,
	                                             0xeb, 0xf3 } }, /* jrcxz, which is a handler's */
	{ .name = "flags across a branch", .bytes = { 0x48, 0xff, 0xc2, 0x73, 0xfb, 0xeb, 0xf9 } },
	{ .name = "jmp *%rax", .bytes = { 0xff, 0xe0 } },
	{ .name = "call and ret", .bytes = { 0xe8, 0x02, 0, 0, 0, 0xeb, 0xf9, 0xc3 } },
	{ .name = "push and ret", .bytes = { 0x50, 0xc3 } },
	{ .name = "load and store", .bytes = { 0x48, 0x8b, 0x13, 0x48, 0x89, 0x53, 0x08, 0xeb, 0xf7 } },
	{ .name = "locked", .bytes = { 0xf0, 0xff, 0x03, 0xeb, 0xfb } },
	{ .name = "vectors", .bytes = { 0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x58, 0xc8, 0xeb, 0xf7 } },
	{ .name = "x87", .bytes = { 0xd9, 0xe8, 0xdd, 0xd8, 0xeb, 0xfa } },
	{ .name = "pause", .bytes = { 0xf3, 0x90, 0xeb, 0xfc } },
	{ .name = "loop", .bytes = { 0x48, 0x83, 0xc1, 0x01, 0xe2, 0xfa, 0xeb, 0xf8 } },
	{ .name = "handler", .bytes = { 0x0f, 0xa2, 0x89, 0xd9, 0xeb, 0xfa } }, /* cpuid */
	{ .name = "rep movsb", .bytes = { 0x48, 0x89, 0xde, 0x48, 0x89, 0xdf, 0xb9, 0x00, 0x00, 0x10, 0x00, 0xf3, 0xa4,
	                                  0xeb, 0xf1 } },
	{ .name = "rep stosb without memory", .bytes = { 0x31, 0xc9, 0xf3, 0xaa, 0xeb, 0xfa } },
	{ .name = "two pages", .bytes = { 0xe9, 0xfb, 0x1f, 0, 0 }, .at2 = 0x2000,
	  .bytes2 = { 0xe9, 0xfb, 0xdf, 0xff, 0xff } },
	{ .name = "over the end of a page", .at = PAGE - 3, .bytes = { 0x48, 0x81, 0xc2, 0x01, 0, 0, 0, 0xeb, 0xf7 } },
	{ .name = "forward and indirectly back", .bytes = { 0x74, 0x02, 0xeb, 0x04, 0x90, 0x90, 0x90, 0x90, 0xff,
	                                                   0xe0 } },
	{ .name = "a device", .bytes = { 0xb8, 0, 0, 0, 0xd0, 0x8b, 0x10, 0xeb, 0xfc } },
};

struct kicker {
	struct guest *g;
	struct timespec asked;
	unsigned wait_us;
};

static void *kick(void *argument)
{
	struct kicker *k = argument;

	/* Until it runs; devices' loops come out all the time. */
	while (atomic_load_explicit(&k->g->vcpu[0].poll, memory_order_relaxed) != 1)
		;
	if (k->wait_us != 0)
		usleep(k->wait_us);
	clock_gettime(CLOCK_MONOTONIC, &k->asked);
	cpu_request_exit(k->g->cpu);
	return NULL;
}

static unsigned device_answered(struct guest *g)
{
	memset(cpu_exit_info(g->cpu)->mmio.data, 0, 8);
	return 1;
}

/* Returns: microseconds from the request to the exit. */
static double kick_once(struct guest *g, unsigned wait_us)
{
	struct kicker k = { .g = g, .wait_us = wait_us };
	struct timespec now;
	pthread_t thread;
	enum cpu_exit exit;

	assert_int_equal(pthread_create(&thread, NULL, kick, &k), 0);
	do
		exit = cpu_run(g->cpu);
	while (exit == CPU_EXIT_MMIO && device_answered(g));
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_join(thread, NULL);
	assert_int_equal(exit, CPU_EXIT_KICKED);
	return (double)(now.tv_sec - k.asked.tv_sec) * 1e6 + (double)(now.tv_nsec - k.asked.tv_nsec) / 1e3;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void loop_begin(struct guest *g, const struct loop *loop)
{
	struct cpu_state *s = cpu_state(g->cpu);

	memset(g->ram + GUEST_CODE, 0xcc, 4 * PAGE);
	guest_code(g, GUEST_CODE + loop->at, loop->bytes, sizeof(loop->bytes));
	if (loop->at2 != 0)
		guest_code(g, GUEST_CODE + loop->at2, loop->bytes2, sizeof(loop->bytes2));
	s->gpr[CPU_RAX] = s->rip = GUEST_CODE + loop->at;
	s->gpr[CPU_RBX] = GUEST_DATA;
	s->gpr[CPU_RCX] = UINT64_C(1) << 40;
	s->gpr[CPU_RSP] = GUEST_STACK;
	s->rflags = 2;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

static void test_loops(void **state)
{
	struct guest *g = *state;

	for (unsigned i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
		double us[KICKS];

		loop_begin(g, &loops[i]);
		alarm(60);
		for (unsigned n = 0; n < KICKS; n++)
			us[n] = kick_once(g, n % 4 == 0 ? 0 : 200 * (n % 4));
		alarm(0);
		/* It is still in its loop, but for devices'. */
		assert_in_range(cpu_state(g->cpu)->rip, GUEST_CODE, GUEST_CODE + 4 * PAGE);
		qsort(us, KICKS, sizeof(us[0]), by_size);
		print_message("%-28s median %6.1f us, most %7.1f us\n", loops[i].name, us[KICKS / 2], us[KICKS - 1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_loops, guest_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
