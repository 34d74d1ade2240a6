/* SPDX-License-Identifier: MIT */
/*
 * Guests on the software CPU and the library, in a VM with a second stage and in one with shadow paging: instructions
 * of every kind that write to page tables in use, tables that map themselves, code and stacks in tables, two vCPUs.
 * The result must be that of a processor, so it is the same for both.
 */
#include "test/shadow/machine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- instructions that write to tables in use --- */

/* Run before a write, so that the second directory is in use. */
GUEST_ASM(look, "mov (%rbx), %rdx \n hlt")
GUEST_ASM(do_mov8, "mov %rcx, (%rax) \n hlt")
GUEST_ASM(do_mov4, "mov %ecx, (%rax) \n hlt")
GUEST_ASM(do_mov2, "mov %cx, (%rax) \n hlt")
GUEST_ASM(do_mov1, "mov %cl, (%rax) \n hlt")
GUEST_ASM(do_add, "add %rcx, (%rax) \n hlt")
GUEST_ASM(do_lock_add, "lock add %rcx, (%rax) \n hlt")
GUEST_ASM(do_xchg, "xchg %rcx, (%rax) \n hlt")
GUEST_ASM(do_xadd, "lock xadd %rcx, (%rax) \n hlt")
GUEST_ASM(do_bts, "lock btsq $4, (%rax) \n hlt")
GUEST_ASM(do_cx16,
          "mov %rax, %rsi \n mov (%rsi), %rax \n mov 8(%rsi), %rdx \n mov %rcx, %rbx \n lock cmpxchg16b (%rsi) \n hlt")
GUEST_ASM(do_push, "lea 8(%rax), %rsp \n push %rcx \n hlt")
GUEST_ASM(do_call, "lea 8(%rax), %rsp \n call 1f \n 1: hlt")
GUEST_ASM(do_stos, "mov %rax, %rdi \n mov %rcx, %rax \n mov $24, %ecx \n rep stosq \n hlt")
GUEST_ASM(do_movs, "mov %rax, %rdi \n mov $0x100000, %esi \n mov $100, %ecx \n rep movsb \n hlt")
GUEST_ASM(do_fxsave, "fxsave (%rax) \n hlt")
GUEST_ASM(do_movups, "movups %xmm1, (%rax) \n hlt")

static const struct {
	const char *name;
	const uint8_t *code, *end;
	bool aligned;
} writers[] = {
#define WRITER(name, aligned) { #name, name, name##_end, aligned }
	WRITER(do_mov8, false), WRITER(do_mov4, false), WRITER(do_mov2, false), WRITER(do_mov1, false),
	WRITER(do_add, false),
	WRITER(do_lock_add, false), WRITER(do_xchg, false), WRITER(do_xadd, false), WRITER(do_bts, false),
	WRITER(do_cx16, true),
	WRITER(do_push, false), WRITER(do_call, false), WRITER(do_stos, false), WRITER(do_movs, false),
	WRITER(do_fxsave, true),
	WRITER(do_movups, false),
};

/* After an instruction both VMs must have the same memory. */
static void write_at(struct machine *m[2], unsigned writer, uint64_t linear, unsigned times)
{
	for (int i = 0; i < 2; i++) {
		struct cpu_state *s = cpu_state(m[i]->cpu[0]);

		s->gpr[CPU_RBX] = 0x40000000 + (300u << 21) + DATA;
		LOAD(m[i], CODE, look);
		assert_int_equal(machine_run(m[i], 0, CODE), -1);
		memcpy(m[i]->ram + CODE, writers[writer].code, (size_t)(writers[writer].end - writers[writer].code));
		for (unsigned n = 0; n < times; n++) {
			s->gpr[CPU_RAX] = linear;
			s->gpr[CPU_RCX] = 0x5a5a0f0ef0e0 + 0x10000 * n;
			s->gpr[CPU_RSP] = STACK;
			assert_int_equal(machine_run(m[i], 0, CODE), -1);
		}
	}
	for (unsigned r = 0; r < CPU_GPR_COUNT; r++) {
		if (cpu_state(m[0]->cpu[0])->gpr[r] != cpu_state(m[1]->cpu[0])->gpr[r])
			print_error("%s at %#llx: register %u\n", writers[writer].name, (unsigned long long)linear, r);
		assert_int_equal(cpu_state(m[0]->cpu[0])->gpr[r], cpu_state(m[1]->cpu[0])->gpr[r]);
	}
	assert_memory_equal(m[0]->ram + PML4, m[1]->ram + PML4, 0x5000);
}

static void test_writers_of_tables_in_use(void **state)
{
	/* In a directory; across its end into another; in a directory and in the root through the map of themselves. */
	static const uint64_t places[] = { PD + FREE, PD + 0xffd,
	                                   0xffffff0000000000 | (uint64_t)SELF << 39 | (uint64_t)SELF << 30 | FREE,
	                                   0xffff000000000000 | (uint64_t)SELF << 39 | (uint64_t)SELF << 30 |
	                                   (uint64_t)SELF << 21 | (uint64_t)SELF << 12 | FREE };
	struct machine *m[2];

	(void)state;
	for (unsigned w = 0; w < sizeof(writers) / sizeof(*writers); w++) {
		for (unsigned p = 0; p < sizeof(places) / sizeof(*places); p++) {
			if (writers[w].aligned && (places[p] & 15))
				continue;
			m[0] = machine_make(VMMU_MMU_TDP);
			m[1] = machine_make(VMMU_MMU_SHADOW);
			for (int i = 0; i < 2; i++)
				for (unsigned at = 0; at < 200; at++)
					m[i]->ram[DATA + at] = (uint8_t)(2 * at);
			write_at(m, w, places[p], 1);
			write_at(m, w, places[p], 7);
			machine_free(m[0]);
			machine_free(m[1]);
		}
	}
}

/* --- other guests, in each VM --- */

/* A thousand times: store r8 in an entry, INVLPG, read; the same with r9. The entry is in a table or in a directory. */
GUEST_ASM(remap,
          "mov $1000, %ecx \n 1: mov %r8, (%rbx) \n invlpg (%rax) \n add (%rax), %r10 \n "
          "mov %r9, (%rbx) \n invlpg (%rax) \n add (%rax), %r10 \n"
          "dec %ecx \n jnz 1b \n hlt")

static void remapping(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	LOAD(m, CODE, remap);
	store(m, 0x200000, 1);
	store(m, 0x201000, 1000000);
	s->gpr[CPU_RAX] = 0x200000;
	s->gpr[CPU_RBX] = PT + 0x1000;
	s->gpr[CPU_R8] = 0x201003;
	s->gpr[CPU_R9] = 0x200003;
	s->gpr[CPU_R10] = 0;
	assert_int_equal(machine_run(m, 0, CODE), -1);
	assert_int_equal(s->gpr[CPU_R10], 1000001000);
	/* Now the entry of the directory changes: it leads to the third table and to the second in turn. */
	store(m, 0x400000, 7);
	s->gpr[CPU_RBX] = PD + 8;
	s->gpr[CPU_R8] = (PT + 0x2000) | 3;
	s->gpr[CPU_R9] = (PT + 0x1000) | 3;
	s->gpr[CPU_R10] = 0;
	assert_int_equal(machine_run(m, 0, CODE), -1);
	assert_int_equal(s->gpr[CPU_R10], 8000);
}

static void test_remapping(void **state)
{
	(void)state;
	machine_each(remapping);
}

/* Code that lies in a directory and changes itself: the library makes the store. */
GUEST_ASM(self_change, "movb $42, 1f+1(%rip) \n jmp 1f \n 1: mov $7, %al \n hlt")

static void code_in_a_table(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	for (int i = 0; i < 5; i++) {
		LOAD(m, PD + FREE, self_change);
		s->gpr[CPU_RAX] = 0;
		assert_int_equal(machine_run(m, 0, PD + FREE), -1);
		assert_int_equal(s->gpr[CPU_RAX], 42);
	}
}

static void test_code_in_a_table(void **state)
{
	(void)state;
	machine_each(code_in_a_table);
}

GUEST_ASM(undefined, "ud2")

static void stack_in_a_table(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	LOAD(m, CODE, undefined);
	for (int i = 0; i < 5; i++) {
		s->gpr[CPU_RSP] = PD + FREE + 0x100;
		assert_int_equal(machine_run(m, 0, CODE), 6);
		assert_int_equal(s->gpr[CPU_RSP], PD + FREE + 0x100 - 40);
		assert_int_equal(load(m, PD + FREE + 0x100 - 40), CODE);
		assert_int_equal(load(m, PD + FREE + 0x100 - 16), PD + FREE + 0x100);
		memset(m->ram + PD + FREE, 0, 0x100);
	}
}

static void test_stack_in_a_table(void **state)
{
	(void)state;
	machine_each(stack_in_a_table);
}

/* MOVSQ from a device to a directory, and from the directory to a device: two kinds of emulation in one instruction. */
GUEST_ASM(device_moves,
          "mov $0xc0000100, %esi \n mov $0x3800, %edi \n movsq \n mov $0x3800, %esi \n mov $0xc0000200, %edi \n "
          "movsq \n hlt")

static void devices(struct machine *m, bool shadow)
{
	(void)shadow;
	LOAD(m, CODE, device_moves);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(machine_run(m, 0, CODE), -1);
		assert_int_equal(load(m, PD + FREE), 0x5a5a5a5a5a5a5a5a);
		assert_int_equal(m->device, 0x5a5a5a5a5a5a5a5a);
		assert_int_equal(m->device_writes, i);
	}
}

static void test_devices(void **state)
{
	(void)state;
	machine_each(devices);
}

/* Page faults of the guest: for a page that is not present, then for one that is read-only. The handler halts. */
GUEST_ASM(touch, "mov %rcx, (%rax) \n hlt")

static void guest_faults(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	LOAD(m, CODE, touch);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t page = DATA + 0x1000 * i;

		store(m, PT + page / 4096 * 8, i & 1 ? page | 1 : 0);
		s->gpr[CPU_RAX] = page + 8;
		s->gpr[CPU_RSP] = STACK;
		s->cr2 = 0;
		cpu_state_changed(m->cpu[0], CPU_CHANGED_PAGING);
		assert_int_equal(machine_run(m, 0, CODE), 14);
		assert_int_equal(s->cr2, page + 8);
		assert_int_equal(load(m, s->gpr[CPU_RSP]), i & 1 ? 3 : 2);
	}
}

static void test_guest_faults(void **state)
{
	(void)state;
	machine_each(guest_faults);
}

/* PAE: MOV to CR3 faults if a PDPTE has reserved bits. (AMD's second stage reads PDPTEs only when they are used.) */
GUEST_ASM(pae_load, ".code32 \n mov %eax, %cr3 \n hlt \n .code64")

static void test_pae_pdptes_reserved_gp(void **state)
{
	struct machine *m = machine_make(VMMU_MMU_SHADOW);
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)state;
	store(m, 0x5000, 0x6000 | 1);
	store(m, 0x6000, PT | 7);
	store(m, 0x5020, 0x6000 | 3);
	for (unsigned v = 0; v < 32; v++)
		store(m, IDT + 8 * v, (STUBS + 16 * v) | 8u << 16 | 0x8e00ull << 32);
	store(m, GDT + 8, 0x00cf9b000000ffff);
	LOAD(m, CODE, pae_load);
	s->seg[CPU_CS].l = 0;
	s->seg[CPU_CS].db = 1;
	s->efer = 0;
	s->cr3 = 0x5000;
	s->gpr[CPU_RAX] = 0x5020;
	cpu_state_changed(m->cpu[0], CPU_CHANGED_ALL);
	assert_int_equal(machine_run(m, 0, CODE), 13);
	assert_int_equal(s->cr3, 0x5000);
	s->gpr[CPU_RAX] = 0x5000;
	assert_int_equal(machine_run(m, 0, CODE), -1);
	machine_free(m);
}

/*
 * No paging; long mode by CR4, EFER and CR0; no paging; 32-bit paging with 4 MiB pages; no paging. In each mode the
 * guest reads what is mapped at 3 or 4 MiB.
 */
GUEST_ASM(modes, ".code32 \n mov 0x300000, %ebx \n mov $0x1000, %eax \n mov %eax, %cr3 \n mov $0x620, %eax \n "
                 "mov %eax, %cr4 \n"
                 "mov $0xc0000080, %ecx \n mov $0x100, %eax \n xor %edx, %edx \n wrmsr \n mov $0x80010033, %eax \n "
                 "mov %eax, %cr0 \n jmp 1f \n"
                 "1: mov 0x300000, %esi \n mov $0x10033, %eax \n mov %eax, %cr0 \n add 0x300000, %ebx \n"
                 "xor %eax, %eax \n wrmsr \n mov $0x610, %eax \n mov %eax, %cr4 \n mov $0x7000, %eax \n "
                 "mov %eax, %cr3 \n"
                 "mov $0x80010033, %eax \n mov %eax, %cr0 \n jmp 1f \n 1: mov 0x400000, %edi \n "
                 "mov $0x10033, %eax \n mov %eax, %cr0 \n"
                 "mov 0x400000, %ebp \n hlt \n .code64")

static void mode_switches(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	store(m, PT + 0x1000 + 8 * 256, 0x301003); /* linear 0x300000 */
	store(m, 0x7000, 0x83 | 0x83ull << 32);    /* 0 and 4 MiB are both physical 0 */
	store(m, 0, 3);
	store(m, 0x300000, 10);
	store(m, 0x301000, 200);
	store(m, 0x400000, 4000);
	LOAD(m, CODE, modes);
	s->seg[CPU_CS].l = 0;
	s->seg[CPU_CS].db = 1;
	s->efer = 0;
	s->cr0 = 0x10033;
	s->cr4 = 0x600;
	for (int i = 0; i < 3; i++) {
		cpu_state_changed(m->cpu[0], CPU_CHANGED_ALL);
		assert_int_equal(machine_run(m, 0, CODE), -1);
		assert_int_equal(s->gpr[CPU_RBX], 20);
		assert_int_equal(s->gpr[CPU_RSI], 200);
		assert_int_equal(s->gpr[CPU_RDI], 3);
		assert_int_equal(s->gpr[CPU_RBP], 4000);
	}
}

static void test_mode_switches(void **state)
{
	(void)state;
	machine_each(mode_switches);
}

/*
 * The four kinds of INVPCID, and a load of CR3 without and one with "keep". After the latter the guest needs an
 * INVLPG to see its edit for certain.
 */
GUEST_ASM(pcids, "xor %r10, %r10 \n xor %esi, %esi \n"
                 "1: mov %r8, (%rbx) \n invpcid (%rdi), %rsi \n add (%rax), %r10 \n mov %r9, (%rbx) \n "
                 "invpcid (%rdi), %rsi \n add (%rax), %r10 \n"
                 "inc %esi \n cmp $4, %esi \n jne 1b \n mov %r8, (%rbx) \n mov %cr3, %rdx \n mov %rdx, %cr3 \n "
                 "add (%rax), %r10 \n"
                 "mov %r9, (%rbx) \n bts $63, %rdx \n mov %rdx, %cr3 \n invlpg (%rax) \n add (%rax), %r10 \n hlt")

static void address_space_numbers(struct machine *m, bool shadow)
{
	struct cpu_state *s = cpu_state(m->cpu[0]);

	(void)shadow;
	LOAD(m, CODE, pcids);
	store(m, 0x200000, 1);
	store(m, 0x201000, 100);
	store(m, DATA, 5); /* the operand of INVPCID: the PCID, and the address behind it */
	store(m, DATA + 8, 0x200000);
	s->cr3 = PML4 | 5;
	s->cr4 |= 1u << 17;
	s->gpr[CPU_RAX] = 0x200000;
	s->gpr[CPU_RBX] = PT + 0x1000;
	s->gpr[CPU_RDI] = DATA;
	s->gpr[CPU_R8] = 0x201003;
	s->gpr[CPU_R9] = 0x200003;
	cpu_state_changed(m->cpu[0], CPU_CHANGED_ALL);
	assert_int_equal(machine_run(m, 0, CODE), -1);
	assert_int_equal(s->gpr[CPU_R10], 505);
	store(m, DATA, 5 | 1u << 12); /* reserved */
	assert_int_equal(machine_run(m, 0, CODE), 13);
}

static void test_address_space_numbers(void **state)
{
	(void)state;
	machine_each(address_space_numbers);
}

/* --- two vCPUs --- */

#define TURNS 3000

/* Locked additions to a directory in use, through two addresses. A flush now and then makes the CPU walk the tables. */
GUEST_ASM(count,
          "1: lock incq (%rax) \n test $31, %ecx \n jnz 2f \n mov %cr3, %rdx \n mov %rdx, %cr3 \n "
          "2: mov (%rbx), %rdx \n dec %ecx \n jnz 1b \n hlt")

struct half {
	struct machine *m;
	unsigned id;
	int vector;
};

static void *half_run(void *state)
{
	struct half *half = state;

	half->vector = machine_run(half->m, half->id, CODE);
	return NULL;
}

static void two_count(struct machine *m, bool shadow)
{
	struct half half[2] = { { m, 0, 0 }, { m, 1, 0 } };
	pthread_t thread[2];

	(void)shadow;
	LOAD(m, CODE, count);
	machine_cpu_make(m, 1);
	for (unsigned id = 0; id < 2; id++) {
		struct cpu_state *s = cpu_state(m->cpu[id]);

		s->gpr[CPU_RAX] = id ? 0xffffff0000000000 | (uint64_t)SELF << 39 | (uint64_t)SELF << 30 | FREE
		                     : PD + FREE;
		s->gpr[CPU_RBX] = 0x600000;
		s->gpr[CPU_RCX] = TURNS;
	}
	for (unsigned id = 0; id < 2; id++)
		pthread_create(&thread[id], NULL, half_run, &half[id]);
	for (unsigned id = 0; id < 2; id++) {
		pthread_join(thread[id], NULL);
		assert_int_equal(half[id].vector, -1);
	}
	assert_int_equal(load(m, PD + FREE), 2 * TURNS);
}

static void test_two_count(void **state)
{
	(void)state;
	machine_each(two_count);
}

/* --- the dirty log --- */

GUEST_ASM(store_one, "mov %rcx, (%rax) \n hlt")

/*
 * A page that is written is dirty, and no other: not code that runs, nor data that is read. The guest's tables are
 * dirty, too, since the processor sets A and D there.
 */
static void log_of_code(struct machine *m, bool shadow)
{
	static const uint64_t written[] = { PML4, PDPT, PD, PT, DATA };
	struct vmmu_region region = { .bytes = RAM, .flags = VMMU_SLOT_LOG_DIRTY, .hva = { (uintptr_t)m->ram } };
	uint64_t log[RAM / 4096 / 64], expected[RAM / 4096 / 64] = { 0 };

	(void)shadow;
	assert_int_equal(vmmu_region_set(m->mmu, &region), VMMU_OK);
	LOAD(m, CODE, store_one);
	LOAD(m, CODE + 0x1000, look);
	for (unsigned i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		expected[(written[i] >> 12) / 64] |= 1ull << ((written[i] >> 12) % 64);
	for (unsigned round = 0; round < 2; round++) {
		cpu_state(m->cpu[0])->gpr[CPU_RAX] = DATA;
		cpu_state(m->cpu[0])->gpr[CPU_RBX] = DATA + 0x1000;
		assert_int_equal(machine_run(m, 0, CODE), -1);
		assert_int_equal(machine_run(m, 0, CODE + 0x1000), -1);
		assert_int_equal(vmmu_dirty_get(m->mmu, 0, 0, log, RAM / 4096 / 64), VMMU_OK);
		assert_memory_equal(log, expected, sizeof(log));
		/* In the second round A and D are set already. */
		memset(expected, 0, sizeof(expected));
		expected[(DATA >> 12) / 64] |= 1ull << ((DATA >> 12) % 64);
	}
}

static void test_log_of_code(void **state)
{
	(void)state;
	machine_each(log_of_code);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writers_of_tables_in_use), cmocka_unit_test(test_remapping),
		cmocka_unit_test(test_code_in_a_table),
		cmocka_unit_test(test_stack_in_a_table), cmocka_unit_test(test_devices),
		cmocka_unit_test(test_guest_faults),
		cmocka_unit_test(test_pae_pdptes_reserved_gp), cmocka_unit_test(test_mode_switches),
		cmocka_unit_test(test_address_space_numbers), cmocka_unit_test(test_two_count),
		cmocka_unit_test(test_log_of_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
