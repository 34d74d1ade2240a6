/* SPDX-License-Identifier: MIT */
/* Page walks: modes, rights, error codes, accessed and dirty bits, the TLB and what flushes it, the second stage. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <vmmu/format.h>

#include "guest.h"
#include "guest_asm.h"

#define LINEAR UINT64_C(0x300000) /* the page that the tests change */

#define PTE_P  UINT64_C(1)
#define PTE_W  UINT64_C(2)
#define PTE_U  UINT64_C(4)
#define PTE_A  UINT64_C(0x20)
#define PTE_D  UINT64_C(0x40)
#define PTE_NX (UINT64_C(1) << 63)

GUEST_ASM(code_read, "mov (%rbx), %rax \n hlt")
GUEST_ASM(code_write, "mov %rax, (%rbx) \n hlt")
GUEST_ASM(code_jump, "jmp *%rbx")
GUEST_ASM(code_to_user, "push $0x3b \n push $0x420000 \n push $0x3002 \n push $0x43 \n push $0x400000 \n iretq")

/* The error code that the handler of a #PF found on its stack. */
static uint64_t pushed_error(struct guest *g)
{
	return guest_read(g, cpu_state(g->cpu)->gpr[CPU_RSP], 8);
}

enum kind { READ, WRITE, JUMP };

/* Do one access at a privilege level. Returns: the vector that it raised, -1 for none. */
static int access_at(struct guest *g, enum kind kind, bool user, uint64_t linear)
{
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RBX] = linear;
	s->gpr[CPU_RAX] = 0x1122334455667788;
	if (user) {
		GUEST_LOAD(g, GUEST_CODE, code_to_user);
		s->rip = GUEST_CODE;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = i == 0 ? GUEST_USER_CODE : GUEST_CODE + 0x800;

		if (kind == READ)
			GUEST_LOAD(g, at, code_read);
		else if (kind == WRITE)
			GUEST_LOAD(g, at, code_write);
		else
			GUEST_LOAD(g, at, code_jump);
	}
	if (!user)
		s->rip = GUEST_CODE + 0x800;
	s->gpr[CPU_RSP] = GUEST_STACK;
	return guest_run_to_hlt(g);
}

struct fault_case {
	const char *name;
	uint64_t set, clear; /* bits of the leaf entry */
	uint64_t cr0_clear, cr4_set;
	enum kind kind;
	bool user;
	int vector; /* -1: the access works; the HLT of user code is #GP (13) then */
	uint64_t error;
	uint32_t pkru;
};

#define PKE   UINT64_C(0x400000)
#define KEY   (UINT64_C(5) << 59) /* of the page */
#define KEY_A (UINT32_C(1) << 10) /* PKRU: no access with it */
#define KEY_W (UINT32_C(2) << 10) /* no write */

/* In each line: a present, writable supervisor leaf, changed as the line says. */
static const struct fault_case cases[] = {
	{ "read, fine", 0, 0, 0, 0, READ, false, -1, 0, 0 },
	{ "write, fine", 0, 0, 0, 0, WRITE, false, -1, 0, 0 },
	{ "read, not present", 0, PTE_P, 0, 0, READ, false, 14, 0, 0 },
	{ "write, not present", 0, PTE_P, 0, 0, WRITE, false, 14, 2, 0 },
	{ "fetch, not present", 0, PTE_P, 0, 0, JUMP, false, 14, 0x10, 0 },
	{ "user read, not present", 0, PTE_P, 0, 0, READ, true, 14, 4, 0 },
	{ "user read of a supervisor page", 0, 0, 0, 0, READ, true, 14, 5, 0 },
	{ "user write of a supervisor page", 0, 0, 0, 0, WRITE, true, 14, 7, 0 },
	{ "user read, fine", PTE_U, 0, 0, 0, READ, true, 13, 0, 0 },
	{ "user write of a read-only page", PTE_U, PTE_W, 0, 0, WRITE, true, 14, 7, 0 },
	{ "write, read-only, WP", 0, PTE_W, 0, 0, WRITE, false, 14, 3, 0 },
	{ "write, read-only, no WP", 0, PTE_W, 0x10000, 0, WRITE, false, -1, 0, 0 },
	{ "fetch, NX", PTE_NX, 0, 0, 0, JUMP, false, 14, 0x11, 0 },
	{ "read, NX", PTE_NX, 0, 0, 0, READ, false, -1, 0, 0 },
	{ "reserved bit", UINT64_C(1) << 50, 0, 0, 0, READ, false, 14, 9, 0 },
	{ "reserved bit, user write", UINT64_C(1) << 50 | PTE_U, 0, 0, 0, WRITE, true, 14, 15, 0 },
	{ "SMEP", PTE_U, 0, 0, 0x100000, JUMP, false, 14, 0x11, 0 },
	{ "SMAP read", PTE_U, 0, 0, 0x200000, READ, false, 14, 1, 0 },
	{ "SMAP write", PTE_U, 0, 0, 0x200000, WRITE, false, 14, 3, 0 },
	{ "SMAP, supervisor page", 0, 0, 0, 0x200000, WRITE, false, -1, 0, 0 },
	{ "key, read", PTE_U | KEY, 0, 0, PKE, READ, true, 14, 0x25, KEY_A },
	{ "key, read by the supervisor", PTE_U | KEY, 0, 0, PKE, READ, false, 14, 0x21, KEY_A },
	{ "key, write", PTE_U | KEY, 0, 0, PKE, WRITE, true, 14, 0x27, KEY_W },
	{ "key against writing, read", PTE_U | KEY, 0, 0, PKE, READ, true, 13, 0, KEY_W },
	{ "key and W", PTE_U | KEY, PTE_W, 0, PKE, WRITE, true, 14, 0x27, KEY_W },
	{ "key and W, supervisor", PTE_U | KEY, PTE_W, 0, PKE, WRITE, false, 14, 0x23, KEY_W },
	{ "key and SMAP", PTE_U | KEY, 0, 0, 0x200000 | PKE, READ, false, 14, 0x21, KEY_A },
	{ "key and U", KEY, 0, 0, PKE, READ, true, 14, 5, KEY_A },
	{ "key and NX", PTE_U | PTE_NX | KEY, 0, 0, PKE, JUMP, true, 14, 0x15, KEY_A },
};

static void test_paging_faults_have_exact_error_codes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct fault_case *c = &cases[i];
		struct guest *g = guest_make();
		struct cpu_state *s = cpu_state(g->cpu);
		int vector;

		guest_long(g);
		guest_write(g, LINEAR, 1, 0xf4);
		*guest_pte(g, LINEAR) = (*guest_pte(g, LINEAR) | c->set) & ~c->clear;
		/* The upper levels allow users. */
		s->cr0 &= ~c->cr0_clear;
		s->cr4 |= c->cr4_set;
		s->pkru = c->pkru;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		vector = access_at(g, c->kind, c->user, LINEAR);
		if (vector != c->vector || (vector == 14 && (pushed_error(g) != c->error || s->cr2 != LINEAR)))
			print_error("%s: vector %d error %#llx cr2 %#llx\n", c->name, vector,
			            (unsigned long long)pushed_error(g), (unsigned long long)s->cr2);
		assert_int_equal(vector, c->vector);
		if (vector == 14) {
			assert_int_equal(pushed_error(g), c->error);
			assert_int_equal(s->cr2, LINEAR);
			/* A walk that ends in a fault has set no bit. */
			assert_int_equal(*guest_pte(g, LINEAR) & PTE_D, 0);
		}
		guest_free(g);
	}
}

static void test_paging_access_sets_accessed_and_write_sets_dirty(void **state)
{
	struct guest *g = *state;

	assert_int_equal(*guest_pte(g, LINEAR) & (PTE_A | PTE_D), 0);
	access_at(g, READ, false, LINEAR);
	assert_int_equal(*guest_pte(g, LINEAR) & (PTE_A | PTE_D), PTE_A);
	assert_int_equal(guest_npte(g, LINEAR) & (VMMU_NPT_A | VMMU_NPT_D), VMMU_NPT_A);
	/* The TLB has the page for reading. A write must still set both Dirty bits. */
	access_at(g, WRITE, false, LINEAR);
	assert_int_equal(*guest_pte(g, LINEAR) & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_int_equal(guest_npte(g, LINEAR) & (VMMU_NPT_A | VMMU_NPT_D), VMMU_NPT_A | VMMU_NPT_D);
}

/* Setting an Accessed bit writes a guest table, which sets Dirty in the second stage, too. */
static void test_paging_accessed_bit_needs_a_writable_table(void **state)
{
	struct guest *g = *state;
	uint64_t table = (uint64_t)((uint8_t *)guest_pte(g, LINEAR) - g->ram);

	access_at(g, READ, false, LINEAR);
	assert_int_equal(guest_npte(g, table) & VMMU_NPT_D, VMMU_NPT_D);
}

GUEST_ASM(code_stale,
	"mov (%rbx), %rax \n"     /* fills the TLB */
	"mov %rdx, (%rcx) \n"     /* changes the entry: the TLB is stale now, as on hardware */
	"mov (%rbx), %rsi \n"
	"invlpg (%rbx) \n"
	"mov (%rbx), %rdi \n hlt")

static void test_paging_invlpg_ends_a_stale_translation(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_stale);
	guest_write(g, LINEAR, 8, 111);
	guest_write(g, LINEAR + 0x1000, 8, 222);
	s->gpr[CPU_RBX] = LINEAR;
	s->gpr[CPU_RCX] = (uint64_t)((uint8_t *)guest_pte(g, LINEAR) - g->ram);
	s->gpr[CPU_RDX] = (LINEAR + 0x1000) | 3;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 111);
	assert_int_equal(s->gpr[CPU_RSI], 111);
	assert_int_equal(s->gpr[CPU_RDI], 222);
}

GUEST_ASM(code_large_invlpg,
	"mov (%rbx), %rax \n mov 0x5000(%rbx), %rax \n"
	"mov %rdx, (%rcx) \n"
	"invlpg (%rbx) \n" /* names one 4 KiB piece of the 2 MiB page */
	"mov 0x5000(%rbx), %rdi \n hlt")

static void test_paging_invlpg_drops_all_pieces_of_a_large_page(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t linear = 0x2000000, pde = 0x3000 + 16 * 8; /* the 2 MiB page at 32 MiB */

	GUEST_LOAD(g, GUEST_CODE, code_large_invlpg);
	guest_write(g, linear + 0x5000, 8, 1);
	guest_write(g, linear + 0x205000, 8, 2);
	s->gpr[CPU_RBX] = linear;
	s->gpr[CPU_RCX] = pde;
	s->gpr[CPU_RDX] = (linear + 0x200000) | 0x83;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RDI], 2);
}

GUEST_ASM(code_cr3,
	"mov (%rbx), %rax \n mov %rdx, (%rcx) \n mov %cr3, %rsi \n mov %rsi, %cr3 \n mov (%rbx), %rdi \n hlt")

static void test_paging_cr3_write_flushes(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_cr3);
	guest_write(g, LINEAR + 0x1000, 8, 222);
	s->gpr[CPU_RBX] = LINEAR;
	s->gpr[CPU_RCX] = (uint64_t)((uint8_t *)guest_pte(g, LINEAR) - g->ram);
	s->gpr[CPU_RDX] = (LINEAR + 0x1000) | 3;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RDI], 222);
}

static void test_paging_flushes_more_often_than_there_are_generations(void **state)
{
	struct guest *g = *state;

	for (unsigned i = 0; i < 3000; i++) {
		uint64_t page = LINEAR + 0x1000 * (i & 1);

		guest_write(g, page, 8, i);
		*guest_pte(g, LINEAR) = page | 3;
		cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
		assert_int_equal(access_at(g, READ, false, LINEAR), -1);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], i);
	}
}

static void test_paging_nested_fault_reports_what_was_done(void **state)
{
	struct guest *g = *state;

	/* Map everything else first. */
	access_at(g, WRITE, false, LINEAR + 0x2000);
	access_at(g, READ, false, LINEAR);
	assert_int_equal(g->last_gpa, LINEAR);
	assert_int_equal(g->last_error, VMMU_PF_USER | VMMU_PF_GUEST_FINAL);
	access_at(g, WRITE, false, LINEAR + 0x1008);
	assert_int_equal(g->last_gpa, LINEAR + 0x1008);
	assert_int_equal(g->last_error, VMMU_PF_USER | VMMU_PF_WRITE | VMMU_PF_GUEST_FINAL);
	guest_write(g, LINEAR + 0x3000, 1, 0xf4);
	access_at(g, JUMP, false, LINEAR + 0x3000);
	assert_int_equal(g->last_error, VMMU_PF_USER | VMMU_PF_FETCH | VMMU_PF_GUEST_FINAL);
}

static void test_paging_no_paging_and_32_bit_tables(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	/* mov (%ebx),%eax; mov %eax,4(%ebx); hlt */
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8b, 0x03, 0x89, 0x43, 0x04, 0xf4);
	s->efer = s->cr4 = 0;
	guest_protected(g);
	guest_write(g, 0x500000, 4, 77);
	s->gpr[CPU_RBX] = 0x500000;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 77);

	/* 32-bit tables at 0x30000: the first 4 MiB by a large page, 0x800000 by a table to 0x500000. */
	guest_write(g, 0x30000, 4, 0x83);
	guest_write(g, 0x30000 + 2 * 4, 4, 0x31000 | 3);
	guest_write(g, 0x31000, 4, 0x500000 | 3);
	s->cr3 = 0x30000;
	s->cr4 = 0x10;
	s->cr0 |= 0x80010000;
	s->rip = GUEST_CODE;
	s->gpr[CPU_RBX] = 0x800000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, 0x500004, 4), 77);
	assert_int_equal(guest_read(g, 0x31000, 4), 0x500000 | 3 | PTE_A | PTE_D);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RBX] = 0x801000;
	assert_int_equal(guest_run_to_hlt(g), 14);
	assert_int_equal(s->cr2, 0x801000);
}

static void test_paging_pae_tables(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8b, 0x03, 0x89, 0x43, 0x04, 0xf4);
	s->efer = 0;
	guest_protected(g);
	guest_write(g, 0x30000, 8, 0x31000 | 1);
	guest_write(g, 0x30018, 8, 0x32000 | 1);          /* 3 GiB and up */
	guest_write(g, 0x31000, 8, 0x83);                 /* 2 MiB: the code */
	guest_write(g, 0x32000, 8, 0x33000 | 3);
	guest_write(g, 0x33008, 8, 0x500000 | 3);
	guest_write(g, 0x500000, 4, 5);
	s->cr3 = 0x30000;
	s->cr4 = 0x20;
	s->cr0 |= 0x80010000;
	s->gpr[CPU_RBX] = 0xc0001000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, 0x500004, 4), 5);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RBX] = 0x40000000;
	assert_int_equal(guest_run_to_hlt(g), 14);
}

static void test_paging_five_levels(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t high = UINT64_C(1) << 52;

	guest_write(g, 0x30000, 8, GUEST_PML4 | 7);
	guest_write(g, 0x30000 + 16 * 8, 8, GUEST_PML4 | 7); /* bit 52 */
	s->cr3 = 0x30000;
	s->cr4 |= 0x1000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	guest_write(g, LINEAR, 8, 99);
	assert_int_equal(access_at(g, READ, false, high + LINEAR), -1);
	assert_int_equal(s->gpr[CPU_RAX], 99);
	/* With four levels the same address is not canonical. */
	s->cr3 = GUEST_PML4;
	s->cr4 &= ~UINT64_C(0x1000);
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(access_at(g, READ, false, high + LINEAR), 13);
}

GUEST_ASM(code_cross,
	"mov %rax, -3(%rbx) \n mov -3(%rbx), %rdx \n lock addq $1, -3(%rbx) \n movups -7(%rbx), %xmm0 \n "
	"hlt")

static void test_paging_access_across_pages(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	/* The two linear pages are not neighbours in memory. */
	*guest_pte(g, LINEAR + 0x1000) = (LINEAR + 0x5000) | 3;
	GUEST_LOAD(g, GUEST_CODE, code_cross);
	s->gpr[CPU_RBX] = LINEAR + 0x1000;
	s->gpr[CPU_RAX] = 0x8877665544332211;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RDX], 0x8877665544332211);
	assert_int_equal(guest_read(g, LINEAR + 0xffd, 3), 0x332212);
	assert_int_equal(guest_read(g, LINEAR + 0x5000, 5), 0x8877665544);
}

static void test_paging_fault_on_the_second_page_changes_nothing(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	*guest_pte(g, LINEAR + 0x1000) = 0;
	GUEST_LOAD(g, GUEST_CODE, code_cross);
	s->gpr[CPU_RBX] = LINEAR + 0x1000;
	s->gpr[CPU_RAX] = ~UINT64_C(0);
	assert_int_equal(guest_run_to_hlt(g), 14);
	assert_int_equal(s->cr2, LINEAR + 0x1000);
	assert_int_equal(guest_read(g, LINEAR + 0xffd, 3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paging_faults_have_exact_error_codes),
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
		GUEST_TEST(test_paging_access_sets_accessed_and_write_sets_dirty),
		GUEST_TEST(test_paging_accessed_bit_needs_a_writable_table),
		GUEST_TEST(test_paging_invlpg_ends_a_stale_translation),
		GUEST_TEST(test_paging_invlpg_drops_all_pieces_of_a_large_page),
		GUEST_TEST(test_paging_cr3_write_flushes),
		GUEST_TEST(test_paging_flushes_more_often_than_there_are_generations),
		GUEST_TEST(test_paging_nested_fault_reports_what_was_done),
		GUEST_TEST(test_paging_no_paging_and_32_bit_tables),
		GUEST_TEST(test_paging_pae_tables),
		GUEST_TEST(test_paging_five_levels),
		GUEST_TEST(test_paging_access_across_pages),
		GUEST_TEST(test_paging_fault_on_the_second_page_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
