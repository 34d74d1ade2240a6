/* SPDX-License-Identifier: MIT */
/*
 * Page tables in use are edited in every possible way: through the tables' own address, an alias of it, or the
 * tables' map of themselves; by another vCPU, by the hypervisor, and by the client in the guest's memory, as far as
 * KVM allows it; at the last level and above it; followed by INVLPG, by a load of CR3, or by nothing. The result must
 * be that of a processor, so it is the same with a second stage and with shadow paging: after a flush the new page;
 * without one the new or the old.
 */
#include "test/shadow/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "test/common/quiet.h"

#define X       0x200000u /* the address that is read; entry 1 of PD leads to PT1, whose entry 0 maps X */
#define PT1     (PT + 0x1000u)
#define PT2     (PT + 0x2000u)
#define OTHER   0x400000u /* the page that X maps if PD leads to PT2 */
#define ALIAS   0x300000u /* maps the table that is edited */
#define ROUNDS  8u

GUEST_ASM(look, "mov (%rbx), %rdx \n hlt")
GUEST_ASM(look_invlpg, "invlpg (%rbx) \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(look_cr3, "mov %cr3, %rsi \n mov %rsi, %cr3 \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(edit, "mov %rcx, (%rax) \n hlt")
GUEST_ASM(edit_look, "mov %rcx, (%rax) \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(edit_invlpg, "mov %rcx, (%rax) \n invlpg (%rbx) \n mov (%rbx), %rdx \n hlt")
GUEST_ASM(edit_cr3, "mov %rcx, (%rax) \n mov %cr3, %rsi \n mov %rsi, %cr3 \n mov (%rbx), %rdx \n hlt")

enum flush { INVLPG, CR3, NOTHING, FLUSHES };
enum way { DIRECT, BY_ALIAS, BY_SELF, OTHER_VCPU, HYPERVISOR, WAYS };

#define SELF_BASE    (0xffff000000000000 | (uint64_t)SELF << 39)
#define SELF_PTE(v)  (SELF_BASE | (uint64_t)(v) >> 12 << 3)
#define SELF_PDE(v)  (SELF_BASE | (uint64_t)SELF << 30 | (uint64_t)(v) >> 21 << 3)

static void code_load(struct machine *m, const uint8_t *code, const uint8_t *end, unsigned id)
{
	memcpy(m->ram + CODE + 0x100 * id, code, (size_t)(end - code));
}

static uint64_t run(struct machine *m, unsigned id, const uint8_t *code, const uint8_t *end, uint64_t at,
                    uint64_t value)
{
	struct cpu_state *s = cpu_state(m->cpu[id]);

	code_load(m, code, end, id);
	s->gpr[CPU_RAX] = at;
	s->gpr[CPU_RCX] = value;
	s->gpr[CPU_RBX] = X;
	s->gpr[CPU_RSP] = STACK - id * 0x4000;
	assert_int_equal(machine_run(m, id, CODE + 0x100 * id), -1);
	return s->gpr[CPU_RDX];
}

#define RUN(m, id, name, at, value) run(m, id, name, name##_end, at, value)

static uint64_t flushed_look(struct machine *m, enum flush flush)
{
	return flush == INVLPG ? RUN(m, 0, look_invlpg, 0, 0) :
	       flush == CR3 ? RUN(m, 0, look_cr3, 0, 0) : RUN(m, 0, look, 0, 0);
}

/* Edit `entry` (a gpa). Returns: what vCPU 0 reads at X after that. */
static uint64_t edit_and_look(struct machine *m, enum way way, enum flush flush, uint64_t entry, uint64_t self,
                              uint64_t value)
{
	uint64_t at = way == BY_ALIAS ? ALIAS + (entry & 0xfff) : way == BY_SELF ? self : entry;

	switch (way) {
	case OTHER_VCPU:
		RUN(m, 1, edit, at, value);
		return flushed_look(m, flush);
	case HYPERVISOR:
		assert_int_equal(vmmu_guest_write(m->vcpu[0], (struct vmmu_gpa){ entry }, &value, 8), VMMU_OK);
		return flushed_look(m, flush);
	default:
		return flush == INVLPG ? RUN(m, 0, edit_invlpg, at, value)
		     : flush == CR3    ? RUN(m, 0, edit_cr3, at, value)
		                       : RUN(m, 0, edit_look, at, value);
	}
}

static void ways(struct machine *m, bool directory, enum way way, enum flush flush)
{
	uint64_t entry = directory ? PD + 8 : PT1, self = directory ? SELF_PDE(X) : SELF_PTE(X);
	uint64_t value[2] = { directory ? PT1 | 7 : X | 3, directory ? PT2 | 7 : OTHER | 3 };

	uint64_t alias = (entry & ~0xfffull) | 3;

	store(m, X, 100);
	store(m, OTHER, 200);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vmmu_guest_write(m->vcpu[0],
		                                  (struct vmmu_gpa){ (i ? PT2 : PT1) + 8 * ((ALIAS >> 12) & 511) },
		                                  &alias, 8), VMMU_OK);
	if (way == OTHER_VCPU && !m->cpu[1])
		machine_cpu_make(m, 1);
	assert_int_equal(RUN(m, 0, look_cr3, 0, 0), 100);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		uint64_t seen = edit_and_look(m, way, flush, entry, self, value[i % 2]), now = i % 2 ? 200 : 100;

		if (flush == NOTHING) {
			assert_true(seen == now || seen == 300 - now);
			seen = RUN(m, 0, look_invlpg, 0, 0);
		}
		if (seen != now)
			print_error("%s, way %d, flush %d, edit %u\n", directory ? "directory" : "last level", way,
			            flush, i);
		assert_int_equal(seen, now);
	}
}

static void every_way(struct machine *m, bool shadow)
{
	(void)shadow;
	for (int directory = 0; directory < 2; directory++)
		for (enum way way = 0; way < WAYS; way++)
			for (enum flush flush = 0; flush < FLUSHES; flush++)
				ways(m, directory, way, flush);
}

static void test_edits_of_every_kind(void **state)
{
	(void)state;
	machine_each(every_way);
}

/*
 * The client writes guest memory itself. KVM is not told, so it promises nothing about a table that it mirrors. But
 * an entry is read when it is first used; a 4K-level table that the guest has just written is read again at the
 * flush; and a new look-up takes what is there at that time.
 */
static void by_the_client(struct machine *m, bool shadow)
{
	(void)shadow;
	store(m, X, 100);
	store(m, OTHER, 200);
	/* An entry that was never used. */
	store(m, PT1 + 8 * 7, OTHER | 3);
	run(m, 0, look, look_end, 0, 0);
	cpu_state(m->cpu[0])->gpr[CPU_RBX] = X + 7 * 0x1000;
	assert_int_equal(machine_run(m, 0, CODE), -1);
	assert_int_equal(cpu_state(m->cpu[0])->gpr[CPU_RDX], 200);
	for (unsigned i = 1; i <= ROUNDS; i++) {
		/* The guest writes the table, which makes it unsync. Then the client writes it; the guest flushes. */
		RUN(m, 0, edit, PT1 + FREE, i);
		store(m, PT1, i % 2 ? OTHER | 3 : X | 3);
		assert_int_equal(flushed_look(m, i % 3 ? CR3 : INVLPG), i % 2 ? 200 : 100);
	}
}

static void test_edits_by_the_client(void **state)
{
	(void)state;
	machine_each(by_the_client);
}

/* The client points a directory's entry to another table. A new address is looked up through that (F25, zoo 2). */
static void child_moves(struct machine *m, bool shadow)
{
	(void)shadow;
	store(m, X, 100);
	store(m, X + 0x5000, 150);
	store(m, OTHER, 200);
	store(m, OTHER + 0x5000, 250);
	assert_int_equal(RUN(m, 0, look, 0, 0), 100);
	store(m, PD + 8, PT2 | 7);
	LOAD(m, CODE, look_cr3);
	cpu_state(m->cpu[0])->gpr[CPU_RBX] = X + 0x5000;
	assert_int_equal(machine_run(m, 0, CODE), -1);
	assert_int_equal(cpu_state(m->cpu[0])->gpr[CPU_RDX], 250);
	/* From now on edits of the new table take effect. */
	LOAD(m, CODE, edit_invlpg);
	for (unsigned i = 0; i < ROUNDS; i++) {
		cpu_state(m->cpu[0])->gpr[CPU_RAX] = PT2 + 8 * 5;
		cpu_state(m->cpu[0])->gpr[CPU_RCX] = i & 1 ? (OTHER + 0x5000) | 3 : X | 3;
		assert_int_equal(machine_run(m, 0, CODE), -1);
		assert_int_equal(cpu_state(m->cpu[0])->gpr[CPU_RDX], i & 1 ? 250 : 100);
	}
}

static void test_edit_by_the_client_of_a_directory_moves_the_child(void **state)
{
	(void)state;
	machine_each(child_moves);
}

/* --- A and D --- */

GUEST_ASM(clear_d,
          "mov %rcx, (%rax) \n mov %cr3, %rsi \n mov %rsi, %cr3 \n mov (%rax), %rdx \n mov %rbx, (%rbx) \n hlt")

/* The guest clears D of a page (every second time A, too), flushes, and writes the page: each time D is set again. */
static void clean_again(struct machine *m, bool shadow)
{
	(void)shadow;
	for (unsigned i = 0; i < ROUNDS; i++) {
		RUN(m, 0, clear_d, PT1, X | (i & 1 ? 0x23 : 3));
		assert_int_equal(load(m, PT1), X | 0x63);
		assert_int_equal(load(m, X), X);
	}
}

static void test_clean_page_becomes_dirty_again(void **state)
{
	(void)state;
	machine_each(clean_again);
}

/* Tables in read-only memory work, but A and D are not set there. KVM supports that with shadow paging only. */
static void tables_in_rom(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);
	struct vmmu_region rom = { .slot = 1, .flags = VMMU_SLOT_READONLY, .gpa = { 0x4000000 }, .bytes = 0x4000,
	                           .hva = { (uintptr_t)m->ram + 0x800000 } };

	if (!shadow)
		return;
	memcpy(m->ram + 0x800000, m->ram + PML4, 0x4000);
	store(m, 0x800000, 0x4001007);
	store(m, 0x801000, 0x4002007);
	store(m, 0x802000 + 8, 0x4003007);
	for (uint64_t i = 0; i < 512; i++)
		store(m, 0x803000 + 8 * i, (X + 0x1000 * i) | 3);
	assert_int_equal(vmmu_region_set(m->mmu, &rom), VMMU_OK);
	LOAD(m, CODE, edit_look);
	s->cr3 = 0x4000000;
	cpu_state_changed(m->cpu[0], CPU_CHANGED_ALL);
	for (unsigned i = 0; i < 4; i++) {
		store(m, X + 0x3000 * i, i);
		assert_int_equal(RUN(m, 0, edit_look, X + 0x2000 * i + 8, 0x77 + i), load(m, X));
		assert_int_equal(load(m, X + 0x2000 * i + 8), 0x77 + i);
		assert_int_equal(load(m, 0x803000), X | 3);
	}
	assert_true(quiet_audit(m->mmu, NULL));
	s->cr3 = PML4;
	cpu_state_changed(m->cpu[0], CPU_CHANGED_ALL);
}

static void test_tables_in_read_only_memory(void **state)
{
	(void)state;
	machine_each(tables_in_rom);
}

/* --- tables of two roots --- */

#define PML4B 0x1f0000u

GUEST_ASM(switch_look, "mov %rax, %cr3 \n mov (%rbx), %rdx \n hlt")

/* Two roots lead to the same directory. An edit under one root is seen under the other after that one is loaded. */
static void two_roots(struct machine *m, bool shadow)
{
	(void)shadow;
	memcpy(m->ram + PML4B, m->ram + PML4, 0x1000);
	store(m, X, 100);
	store(m, OTHER, 200);
	for (unsigned i = 0; i < 3 * ROUNDS; i++) {
		bool directory = i & 4;
		uint64_t other = i & 1 ? PML4 : PML4B, now;

		RUN(m, 0, edit, directory ? PD + 8 : PT1,
		    directory ? (i & 2 ? PT1 : PT2) | 7 : i & 2 ? OTHER | 3 : X | 3);
		now = (load(m, PD + 8) & ~0xfffull) == PT2 || (load(m, PT1) & ~0xfffull) == OTHER ? 200 : 100;
		assert_int_equal(RUN(m, 0, switch_look, other, 0), now);
		assert_int_equal(RUN(m, 0, switch_look, PML4 + PML4B - other, 0), now);
	}
	RUN(m, 0, switch_look, PML4, 0);
}

static void test_tables_of_two_roots(void **state)
{
	(void)state;
	machine_each(two_roots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edits_of_every_kind), cmocka_unit_test(test_edits_by_the_client),
		cmocka_unit_test(test_edit_by_the_client_of_a_directory_moves_the_child),
		cmocka_unit_test(test_clean_page_becomes_dirty_again),
		cmocka_unit_test(test_tables_in_read_only_memory), cmocka_unit_test(test_tables_of_two_roots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
