/* SPDX-License-Identifier: MIT */
/*
 * Stores to pages that the library mirrors under a second stage, as when the guest is a hypervisor and its nested
 * tables lie there. Whatever instruction makes the store, the library makes it, or is told of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define PAGE UINT64_C(0x200000) /* the page that most tests mirror */

#define PTE_W UINT64_C(2)
#define PTE_A UINT64_C(0x20)
#define PTE_D UINT64_C(0x40)

/* Run code with RBX at `at`. Returns: the vector that it raised, -1 for none. */
static int run_at(struct guest *g, uint64_t at)
{
	cpu_state(g->cpu)->gpr[CPU_RBX] = at;
	return guest_run_to_hlt(g);
}

/* The page is still mirrored, and no CPU can write it. */
static void assert_protected(struct guest *g, uint64_t gpa)
{
	assert_true(guest_is_mirrored(g, gpa));
	assert_int_equal(guest_npte(g, gpa) & PTE_W, 0);
	assert_int_equal(g->unprotected, 0);
}

GUEST_ASM(code_store, "movq $0x11223344, (%rbx) \n mov (%rbx), %rax \n movb $0x55, 1(%rbx) \n hlt")

static void test_mirrored_store_is_the_librarys(void **state)
{
	struct guest *g = *state;

	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_store);
	assert_int_equal(run_at(g, PAGE + 0x10), -1);
	assert_int_equal(guest_read(g, PAGE + 0x10, 8), 0x11225544);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 0x11223344);
	assert_int_equal(g->mirrored_stores, 2);
	assert_protected(g, PAGE);
}

/* A translation for writing was there before the page was mirrored. */
static void test_mirrored_later(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_store);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(g->mirrored_stores, 0);
	guest_mirror(g, PAGE);
	cpu_state(g->cpu)->rip = GUEST_CODE;
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(g->mirrored_stores, 2);
	assert_protected(g, PAGE);
}

GUEST_ASM(code_cross, "movabs $0x1122334455667788, %rax \n mov %rax, -3(%rbx) \n hlt")

static void test_mirrored_store_across_pages(void **state)
{
	struct guest *g = *state;

	for (unsigned mask = 1; mask < 4; mask++) {
		uint64_t at = PAGE + mask * 0x10000;

		for (unsigned half = 0; half < 2; half++) {
			if (mask >> half & 1)
				guest_mirror(g, at + half * 0x1000);
		}
		g->mirrored_stores = 0;
		GUEST_LOAD(g, GUEST_CODE, code_cross);
		cpu_state(g->cpu)->rip = GUEST_CODE;
		assert_int_equal(run_at(g, at + 0x1000), -1);
		assert_int_equal(guest_read(g, at + 0xffd, 8), 0x1122334455667788);
		assert_int_equal(g->mirrored_stores, mask == 3 ? 2 : 1);
	}
	assert_int_equal(g->unprotected, 0);
}

GUEST_ASM(code_rmw, "addl $5, (%rbx) \n notq 8(%rbx) \n addq $1, 0x1000-4(%rbx) \n hlt")

static void test_mirrored_read_modify_write(void **state)
{
	struct guest *g = *state;

	guest_write(g, PAGE, 4, 37);
	guest_write(g, PAGE + 0xffc, 8, 0xffffffff);
	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_rmw);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(guest_read(g, PAGE, 4), 42);
	assert_int_equal(guest_read(g, PAGE + 8, 8), UINT64_MAX);
	assert_int_equal(guest_read(g, PAGE + 0xffc, 8), 0x100000000);
	assert_int_equal(g->mirrored_stores, 3);
	assert_protected(g, PAGE);
}

GUEST_ASM(code_locked,
	"mov $7, %eax \n mov $9, %ecx \n lock cmpxchg %rcx, (%rbx) \n setz %dl \n"
	"mov $1, %ecx \n lock xadd %ecx, 8(%rbx) \n xchg %rax, 16(%rbx) \n hlt")

static void test_mirrored_locked_store_is_told(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_write(g, PAGE, 8, 7);
	guest_write(g, PAGE + 8, 8, 30);
	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_locked);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(guest_read(g, PAGE, 8), 9);
	assert_int_equal(s->gpr[CPU_RDX] & 0xff, 1);
	assert_int_equal(guest_read(g, PAGE + 8, 8), 31);
	assert_int_equal(s->gpr[CPU_RCX], 30);
	assert_int_equal(guest_read(g, PAGE + 16, 8), 7);
	assert_int_equal(g->mirrored_written, 3);
	assert_int_equal(g->mirrored_stores, 0);
	assert_protected(g, PAGE);
}

GUEST_ASM(code_locked_cross, "lock incl -2(%rbx) \n lock btsq $40, -4(%rbx) \n hlt")

static void test_mirrored_locked_store_across_pages(void **state)
{
	struct guest *g = *state;

	guest_write(g, PAGE + 0xffe, 4, 0x1ffff);
	guest_mirror(g, PAGE + 0x1000);
	GUEST_LOAD(g, GUEST_CODE, code_locked_cross);
	assert_int_equal(run_at(g, PAGE + 0x1000), -1);
	assert_int_equal(guest_read(g, PAGE + 0xffe, 4), 0x1020000);
	assert_int_equal(g->mirrored_stores, 2);
	assert_int_equal(g->mirrored_written, 0);
	assert_protected(g, PAGE + 0x1000);
}

GUEST_ASM(code_wide,
	"movups (%rbx), %xmm3 \n movups %xmm3, 0x100(%rbx) \n fxsave64 0xf00(%rbx) \n cmpxchg16b 0x20(%rbx) \n hlt")

static void test_mirrored_wide_stores(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->fx.mxcsr = 0x1f80;
	guest_write(g, PAGE, 8, 0x1234567812345678);
	guest_write(g, PAGE + 8, 8, 0x9abc);
	guest_mirror(g, PAGE);
	guest_mirror(g, PAGE + 0x1000);
	GUEST_LOAD(g, GUEST_CODE, code_wide);
	cpu_state(g->cpu)->gpr[CPU_RCX] = 5;
	cpu_state(g->cpu)->gpr[CPU_RAX] = cpu_state(g->cpu)->gpr[CPU_RDX] = 0;
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(guest_read(g, PAGE + 0x100, 8), 0x1234567812345678);
	assert_int_equal(guest_read(g, PAGE + 0x108, 8), 0x9abc);
	/* The image reaches into the second page. */
	assert_int_equal(guest_read(g, PAGE + 0xf00, 2), 0x37f);
	assert_int_equal(guest_read(g, PAGE + 0xf00 + 160 + 3 * 16, 8), 0x1234567812345678);
	assert_true(g->mirrored_stores >= 2 + 416 / 8);
	assert_int_equal(guest_read(g, PAGE + 0x20, 8), PAGE);
	assert_int_equal(guest_read(g, PAGE + 0x28, 8), 5);
	assert_protected(g, PAGE);
	assert_protected(g, PAGE + 0x1000);
}

GUEST_ASM(code_area, "mov $0xe7, %eax \n xor %edx, %edx \n xsave64 0x40(%rbx) \n hlt")

/* The largest area there is: of AVX-512's registers. */
static void test_mirrored_xsave_area(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	unsigned bytes = cpu_xsave_bytes(0xe7, false);

	s->cr4 |= UINT64_C(1) << 18;
	s->xcr0 = 0xe7;
	for (unsigned i = 0; i < 32; i++)
		memset(s->vectors.v[i], 1 + (int)i, sizeof(s->vectors.v[i]));
	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_area);
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(guest_read(g, PAGE + 0x40 + 160, 8), 0x0101010101010101);
	assert_int_equal(guest_read(g, PAGE + 0x40 + bytes - 8, 8), 0x2020202020202020);
	assert_int_equal(guest_read(g, PAGE + 0x40 + 512, 8), 0xc6); /* the mask registers are 0 */
	assert_true(g->mirrored_stores >= 280);
	assert_protected(g, PAGE);
}

GUEST_ASM(code_string,
	"cld \n lea 0xff0(%rbx), %rdi \n mov $0x77, %eax \n mov $5, %ecx \n rep stosq \n"
	"lea 0xff0(%rbx), %rsi \n mov %rbx, %rdi \n mov $33, %ecx \n rep movsb \n hlt")

static void test_mirrored_string_stores(void **state)
{
	struct guest *g = *state;

	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_string);
	assert_int_equal(run_at(g, PAGE), -1);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(guest_read(g, PAGE + 0xff0 + 8 * i, 8), 0x77);
		assert_int_equal(guest_read(g, PAGE + 8 * i, 8), 0x77);
	}
	assert_int_equal(g->mirrored_stores, 2 + 33);
	assert_protected(g, PAGE);
}

/* The frame of an exception goes to a mirrored page, and the next one to the page before it. */
GUEST_ASM(code_event, "mov %rbx, %rsp \n ud2")
GUEST_ASM(code_soft, "mov %rbx, %rsp \n int $0x80")

static void test_mirrored_stack_of_an_event(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_event);
	assert_int_equal(run_at(g, PAGE + 0x800), 6);
	assert_int_equal(s->gpr[CPU_RSP], PAGE + 0x800 - 40);
	assert_int_equal(guest_read(g, PAGE + 0x800 - 40, 8), GUEST_CODE + 3);
	assert_int_equal(guest_read(g, PAGE + 0x800 - 16, 8), PAGE + 0x800);
	assert_int_equal(g->mirrored_stores, 5);
	GUEST_LOAD(g, GUEST_CODE, code_soft);
	s->rip = GUEST_CODE;
	assert_int_equal(run_at(g, PAGE + 0x1010), 0x80);
	assert_int_equal(guest_read(g, PAGE + 0x1010 - 40, 8), GUEST_CODE + 5);
	assert_int_equal(g->mirrored_stores, 5 + 3);
	assert_protected(g, PAGE);
}

/* The guest's own table of 4 KiB pages lies in the mirrored page, and its entry wants Accessed and Dirty. */
static void test_mirrored_page_table_is_given_up(void **state)
{
	struct guest *g = *state;
	uint64_t *pte = guest_pte(g, PAGE);
	uint64_t table = 0x40000 + (PAGE >> 21 << 12);

	guest_mirror(g, table);
	GUEST_LOAD(g, GUEST_CODE, code_store);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_false(guest_is_mirrored(g, table));
	assert_int_equal(g->unprotected, 1);
	assert_int_equal(guest_read(g, PAGE, 8), 0x11225544);
}

/* It needs no write when the bits are set already. */
static void test_mirrored_page_table_with_its_bits_stays(void **state)
{
	struct guest *g = *state;
	uint64_t table = 0x40000 + (PAGE >> 21 << 12);

	*guest_pte(g, PAGE) |= PTE_A | PTE_D;
	guest_mirror(g, table);
	GUEST_LOAD(g, GUEST_CODE, code_store);
	assert_int_equal(run_at(g, PAGE), -1);
	assert_protected(g, table);
}

/* The handler at RBX is overwritten by the library, and the CPU has decoded it. */
GUEST_ASM(code_patch, "call *%rbx \n movb $2, 1(%rbx) \n call *%rbx \n hlt")
GUEST_ASM(code_patched, "mov $1, %al \n add %al, %cl \n ret")

static void test_mirrored_code_is_seen_to_change(void **state)
{
	struct guest *g = *state;

	guest_mirror(g, PAGE);
	GUEST_LOAD(g, PAGE, code_patched);
	GUEST_LOAD(g, GUEST_CODE, code_patch);
	cpu_state(g->cpu)->gpr[CPU_RCX] = 0;
	assert_int_equal(run_at(g, PAGE), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 3);
	assert_int_equal(g->mirrored_stores, 1);
}

static void test_mirrored_memory_that_is_gone(void **state)
{
	struct guest *g = *state;

	guest_mirror(g, PAGE);
	g->stores_fail = true;
	GUEST_LOAD(g, GUEST_CODE, code_store);
	cpu_state(g->cpu)->gpr[CPU_RBX] = PAGE;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	assert_int_equal(cpu_exit_info(g->cpu)->host_fault.gpa, PAGE);
}

/* A device's data goes to a mirrored page, byte by byte. */
GUEST_ASM(code_from_device, "cld \n mov $0xd0000000, %esi \n mov %rbx, %rdi \n mov $20, %ecx \n rep movsb \n hlt")

static void test_mirrored_string_from_a_device(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	guest_mirror(g, PAGE);
	GUEST_LOAD(g, GUEST_CODE, code_from_device);
	cpu_state(g->cpu)->gpr[CPU_RBX] = PAGE;
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
		assert_int_equal(info->mmio.gpa, GUEST_MMIO + i);
		info->mmio.data[0] = (uint8_t)(0x40 + i);
	}
	assert_int_equal(guest_run_to_hlt(g), -1);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(guest_read(g, PAGE + i, 1), 0x40 + i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
		T(test_mirrored_store_is_the_librarys),
		T(test_mirrored_later),
		T(test_mirrored_store_across_pages),
		T(test_mirrored_read_modify_write),
		T(test_mirrored_locked_store_is_told),
		T(test_mirrored_locked_store_across_pages),
		T(test_mirrored_wide_stores), T(test_mirrored_xsave_area),
		T(test_mirrored_string_stores),
		T(test_mirrored_stack_of_an_event),
		T(test_mirrored_page_table_is_given_up),
		T(test_mirrored_page_table_with_its_bits_stays),
		T(test_mirrored_code_is_seen_to_change),
		T(test_mirrored_memory_that_is_gone),
		T(test_mirrored_string_from_a_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
