/* SPDX-License-Identifier: MIT */
/*
 * Nested guests with nested paging: faults of the hypervisor's nested table, devices, read-only memory and mirrored
 * pages behind it, and cpu_translate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "guest_asm.h"
#include "hypervisor.h"

/* ---- faults of the access itself --------------------------------------------------------------------------- */

GUEST_ASM(l2_read_code, "mov (%rbx), %rcx \n vmmcall")
GUEST_ASM(l2_write_code, "mov %rdx, (%rbx) \n vmmcall")
GUEST_ASM(l2_vmmcall, "vmmcall")
GUEST_ASM(l2_jump_code, "jmp *%rbx")

static void test_nested_memory_is_the_hypervisors(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	L2_LOAD(g, L2, l2_write_code);
	s->gpr[CPU_RDX] = 0x1234567;
	assert_l2_runs(g);
	assert_int_equal(l2_read(g, L2_DATA), 0x1234567);
	assert_int_equal(guest_read(g, L2_DATA, 8), 0);
	L2_LOAD(g, L2, l2_read_code);
	assert_l2_runs(g);
	assert_int_equal(s->gpr[CPU_RCX], 0x1234567);
	assert_int_equal(*l1_npte(g, L2_DATA) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

enum kind { READ, WRITE, JUMP };

/* One access of L2_DATA with the nested table's entry changed. `found`: P and RSVD as they are to be. */
static void final_fault(struct guest *g, enum kind kind, uint64_t clear, uint64_t set, uint64_t found)
{
	static const uint64_t bits[] = { 0, NPF_W, NPF_ID };
	uint64_t *entry = l1_npte(g, L2_DATA), old = *entry;
	struct vmcb *v = l1_vmcb(g);

	if (kind == READ)
		L2_LOAD(g, L2, l2_read_code);
	else if (kind == WRITE)
		L2_LOAD(g, L2, l2_write_code);
	else
		L2_LOAD(g, L2, l2_jump_code);
	L2_LOAD(g, L2_DATA, l2_vmmcall);
	v->save.rip = L2;
	*entry = (old & ~clear) | set;
	guest_nested_changed(g);
	assert_l2_npf(g, NPF_FINAL | NPF_U | bits[kind] | found, L2_DATA);
	assert_int_equal(v->save.rip, kind == JUMP ? L2_DATA : L2);
	assert_int_equal(v->control.exit_int_info, 0);
	assert_int_equal(v->control.fetched_count, kind == JUMP ? 0 : 15);
	if (kind != JUMP)
		assert_memory_equal(v->control.fetched, g->ram + HIGH + L2, 15);
	*entry = old;
	guest_nested_changed(g);
	assert_l2_vmmcall(g);
}

static void test_nested_final_faults(void **state)
{
	struct guest *g = *state;

	for (enum kind kind = READ; kind <= JUMP; kind++) {
		final_fault(g, kind, PTE_P, 0, 0);
		final_fault(g, kind, PTE_U, 0, NPF_P);
		final_fault(g, kind, 0, PTE_RESERVED, NPF_P | NPF_RSVD);
	}
	final_fault(g, WRITE, PTE_W, 0, NPF_P);
	final_fault(g, JUMP, 0, PTE_NX, NPF_P);
}

/* Rights that the access does not need. */
static void test_nested_rights_that_are_not_asked_for(void **state)
{
	struct guest *g = *state;

	*l1_npte(g, L2_DATA) &= ~PTE_W;
	*l1_npte(g, L2_DATA) |= PTE_NX;
	L2_LOAD(g, L2, l2_read_code);
	assert_l2_runs(g);
	assert_int_equal(*l1_npte(g, L2_DATA) & (PTE_A | PTE_D), PTE_A);
	L2_LOAD(g, L2, l2_write_code);
	l1_vmcb(g)->save.rip = L2;
	assert_l2_npf(g, NPF_FINAL | NPF_U | NPF_W | NPF_P, L2_DATA);
}

/* An instruction that reaches into a page which the nested table does not have. RIP stays at its first byte. */
static void test_nested_fetch_across_pages(void **state)
{
	struct guest *g = *state;
	static const uint8_t mov[] = { 0x48, 0xb9, 1, 2, 3, 4, 5, 6, 7, 8 }; /* mov $..., %rcx */
	uint64_t at = L2_DATA + 0x1000 - 4;

	L2_LOAD(g, L2, l2_jump_code);
	guest_code(g, HIGH + at, mov, sizeof(mov));
	L2_LOAD(g, at + sizeof(mov), l2_vmmcall);
	cpu_state(g->cpu)->gpr[CPU_RBX] = at;
	*l1_npte(g, L2_DATA + 0x1000) = 0;
	assert_l2_npf(g, NPF_FINAL | NPF_U | NPF_ID, L2_DATA + 0x1000);
	assert_int_equal(l1_vmcb(g)->save.rip, at);
	assert_int_equal(l1_vmcb(g)->control.fetched_count, 0);
	*l1_npte(g, L2_DATA + 0x1000) = (L2_DATA + 0x1000 + HIGH) | PTE_P | PTE_W | PTE_U;
	assert_l2_vmmcall(g);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 0x0807060504030201);
}

/* A store across pages has no effect when the second page faults, and the bytes of code end at its page. */
GUEST_ASM(l2_cross, "mov %rdx, -4(%rbx) \n vmmcall")

static void test_nested_store_across_pages(void **state)
{
	struct guest *g = *state;
	uint64_t code = L2 + 0x1000 - 7;

	guest_code(g, HIGH + code, l2_cross, 7);
	*l1_npte(g, L2 + 0x1000) = 0;
	*l1_npte(g, L2_DATA) &= ~PTE_W;
	l1_vmcb(g)->save.rip = code;
	cpu_state(g->cpu)->gpr[CPU_RDX] = UINT64_MAX;
	assert_l2_npf(g, NPF_FINAL | NPF_U | NPF_W | NPF_P, L2_DATA);
	assert_int_equal(l2_read(g, L2_DATA - 8), 0);
	assert_int_equal(l1_vmcb(g)->control.fetched_count, 7);
	assert_memory_equal(l1_vmcb(g)->control.fetched, l2_cross, 7);
}

/* ---- faults of the nested guest's own tables ----------------------------------------------------------------- */

/* To the nested table a walk is a user's write, whatever the access. */
static void table_fault(struct guest *g, uint64_t table, uint64_t entry, enum kind kind)
{
	uint64_t *at = l1_npte(g, table), old = *at;

	if (kind == READ)
		L2_LOAD(g, L2, l2_read_code);
	else if (kind == WRITE)
		L2_LOAD(g, L2, l2_write_code);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t clear[] = { PTE_P, PTE_W, PTE_U };

		*at = old & ~clear[i];
		guest_nested_changed(g);
		l1_vmcb(g)->control.tlb_control = TLB_CONTROL_ASID;
		l1_vmcb(g)->save.rip = L2;
		assert_l2_npf(g, NPF_TABLE | NPF_U | NPF_W | (i > 0 ? NPF_P : 0), entry);
		assert_int_equal(l1_vmcb(g)->save.rip, L2);
	}
	*at = old | PTE_RESERVED;
	guest_nested_changed(g);
	assert_l2_npf(g, NPF_TABLE | NPF_U | NPF_W | NPF_P | NPF_RSVD, entry);
	*at = old;
	guest_nested_changed(g);
	assert_l2_vmmcall(g);
	l1_vmcb(g)->control.tlb_control = TLB_CONTROL_NOTHING;
	assert_int_equal(*at & (PTE_A | PTE_D), PTE_A | PTE_D);
}

static void test_nested_table_faults(void **state)
{
	struct guest *g = *state;
	/* The data lies where the code does not, below a table of its own. */
	uint64_t data = 0x900000;

	cpu_state(g->cpu)->gpr[CPU_RBX] = data;
	for (enum kind kind = READ; kind <= WRITE; kind++) {
		table_fault(g, 0x1000, 0x1000, kind); /* already the fetch's */
		table_fault(g, 0x2000, 0x2000, kind);
		table_fault(g, 0x3000, 0x3000 + (L2 >> 21) * 8, kind);
		table_fault(g, L2_PT(data), L2_PT(data) + (data >> 12 & 511) * 8, kind);
	}
}

/* The guest's own #PF comes before a fault of the page behind it, and after one of its table. */
static void test_nested_order_of_faults(void **state)
{
	struct guest *g = *state;

	L2_LOAD(g, L2, l2_read_code);
	l1_intercept(g, SVM_EXIT_EXCEPTION + 14);
	*l1_npte(g, L2_DATA) = 0;
	*l2_pte(g, L2_DATA) = 0;
	assert_int_equal(l2_run(g), SVM_EXIT_EXCEPTION + 14);
	assert_int_equal(l1_vmcb(g)->control.exit_info2, L2_DATA);
	*l2_pte(g, L2_DATA) = L2_DATA | PTE_P;
	assert_l2_npf(g, NPF_FINAL | NPF_U, L2_DATA);
	*l1_npte(g, L2_PT(L2_DATA)) &= ~PTE_W;
	guest_nested_changed(g);
	l1_vmcb(g)->control.tlb_control = TLB_CONTROL_ASID;
	assert_l2_npf(g, NPF_TABLE | NPF_U | NPF_W | NPF_P, L2_PT(L2_DATA) + (L2 >> 12 & 511) * 8);
}

/* ---- faults while an event is delivered -------------------------------------------------------------------- */

GUEST_ASM(l2_ud2, "ud2")
GUEST_ASM(l2_int, "int $0x80")

#define INT_INFO(type, vector) (EVENT_VALID | (uint64_t)(type) << EVENT_TYPE_SHIFT | (vector))

/* The page at `gone` is not in the nested table while the event is delivered. */
static void delivery_fault(struct guest *g, uint64_t gone, uint64_t info1, uint64_t info2, uint64_t int_info)
{
	uint64_t old = *l1_npte(g, gone);
	struct vmcb *v = l1_vmcb(g);

	v->save.rip = L2;
	v->save.rsp = L2_STACK;
	*l1_npte(g, gone) = 0;
	guest_nested_changed(g);
	assert_l2_npf(g, info1, info2);
	assert_int_equal(v->control.exit_int_info, int_info);
	assert_int_equal(v->save.rip, L2);
	assert_int_equal(v->save.rsp, L2_STACK);
	assert_int_equal(v->control.event_inject, 0);
	*l1_npte(g, gone) = old;
	guest_nested_changed(g);
}

static void test_nested_faults_of_a_delivery(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);
	uint64_t stack = L2_STACK - 0x1000;

	for (unsigned page = 0; page < 2; page++) {
		uint64_t gone = page == 0 ? GUEST_IDT : stack, write = page == 0 ? 0 : NPF_W;
		uint64_t info = NPF_FINAL | NPF_U | write;

		L2_LOAD(g, L2, l2_ud2);
		delivery_fault(g, gone, info, page == 0 ? GUEST_IDT + 6 * 16 : L2_STACK - 8,
		               INT_INFO(EVENT_TYPE_EXCEPTION, 6));
		assert_int_equal(v->control.fetched_count, 0);
		L2_LOAD(g, L2, l2_int);
		delivery_fault(g, gone, info, page == 0 ? GUEST_IDT + 0x80 * 16 : L2_STACK - 8,
		               INT_INFO(EVENT_TYPE_SOFTWARE, 0x80));
		for (unsigned i = 0; i < 2; i++) {
			uint64_t event = i == 0 ? INT_INFO(EVENT_TYPE_INTERRUPT, 0x33)
			                        : INT_INFO(EVENT_TYPE_EXCEPTION, 13) | EVENT_ERROR |
			                                  UINT64_C(0x1234) << 32;

			L2_LOAD(g, L2, l2_vmmcall);
			v->control.event_inject = event;
			delivery_fault(g, gone, info,
			               page == 0 ? GUEST_IDT + (event & 0xff) * 16 : L2_STACK - 8, event);
		}
	}
}

/* ---- devices, read-only memory, mirrored pages --------------------------------------------------------------- */

GUEST_ASM(l2_device, "mov 8(%rbx), %rcx \n addl $5, 0x10(%rbx) \n mov %rdx, -4(%rbx) \n vmmcall")

static void test_nested_device(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t value = 37;

	L2_LOAD(g, L2, l2_device);
	*l1_npte(g, L2_DATA) = GUEST_MMIO | ALL;
	s->gpr[CPU_RDX] = 0x1122334455667788;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_true(!info->mmio.write && info->mmio.gpa == GUEST_MMIO + 8 && info->mmio.len == 8);
	assert_true(s->svm.guest);
	memcpy(info->mmio.data, &value, 8);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_int_equal(s->gpr[CPU_RCX], 37);
	assert_true(!info->mmio.write && info->mmio.gpa == GUEST_MMIO + 0x10 && info->mmio.len == 4);
	memcpy(info->mmio.data, &value, 8);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_true(info->mmio.write && info->mmio.gpa == GUEST_MMIO + 0x10 && info->mmio.data[0] == 42);
	/* The first half of the last store is in memory. */
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_true(info->mmio.write && info->mmio.gpa == GUEST_MMIO && info->mmio.len == 4);
	assert_int_equal(info->mmio.data[0], 0x44);
	assert_l2_vmmcall(g);
	assert_int_equal(l2_read(g, L2_DATA - 8) >> 32, 0x55667788);
}

/* Its second access faults: the first one's answer from the device is given up with the instruction. */
GUEST_ASM(l2_push_device, "mov %rbx, %rsi \n mov $0x340000, %edi \n cld \n movsq \n vmmcall")

static void test_nested_device_then_fault(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	L2_LOAD(g, L2, l2_push_device);
	*l1_npte(g, L2_DATA) = GUEST_MMIO | ALL;
	*l1_npte(g, 0x340000) = 0;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_l2_npf(g, NPF_FINAL | NPF_U | NPF_W, 0x340000);
	assert_int_equal(l1_vmcb(g)->save.rip, L2 + 9);
	*l1_npte(g, 0x340000) = (0x340000 + HIGH) | ALL;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_int_equal(info->mmio.gpa, GUEST_MMIO);
	memcpy(info->mmio.data, "\x99\0\0\0\0\0\0", 8);
	assert_l2_vmmcall(g);
	assert_int_equal(l2_read(g, 0x340000), 0x99);
}

/* Nothing can be fetched from a device, nor can an event be delivered to one. The owner is told its own address. */
static void test_nested_internal_errors(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	L2_LOAD(g, L2, l2_ud2);
	*l1_npte(g, L2_STACK - 0x1000) = GUEST_MMIO | ALL;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_INTERNAL_ERROR);
	assert_int_equal(info->error.suberror, CPU_ERROR_DELIVERY_EV);
	assert_int_equal(info->error.gpa, GUEST_MMIO + 0xff8);
	assert_int_equal(info->error.event, 0x80000306);
}

static void test_nested_read_only_memory(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);
	uint64_t table = L2_PT(L2_DATA);

	memset(g->rom, 0x11, 4096);
	*l1_npte(g, L2_DATA) = GUEST_ROM | ALL;
	L2_LOAD(g, L2, l2_read_code);
	assert_l2_runs(g);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 0x1111111111111111);
	L2_LOAD(g, L2, l2_write_code);
	l1_vmcb(g)->save.rip = L2;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_true(info->mmio.write && info->mmio.gpa == GUEST_ROM);
	assert_l2_vmmcall(g);
	/* The nested guest's own table lies in read-only memory, and keeps its bits. */
	*l1_npte(g, L2_DATA) = (L2_DATA + HIGH) | ALL;
	memcpy(g->rom, g->ram + HIGH + table, 4096);
	for (unsigned i = 0; i < 512; i++)
		((uint64_t *)(void *)g->rom)[i] &= ~(PTE_A | PTE_D);
	*l1_npte(g, table) = GUEST_ROM | ALL;
	guest_nested_changed(g);
	assert_l2_runs(g);
	assert_int_equal(((uint64_t *)(void *)g->rom)[L2_DATA >> 12 & 511] & (PTE_A | PTE_D), 0);
}

GUEST_ASM(l2_mirrored, "mov %rdx, (%rbx) \n lock incq 8(%rbx) \n mov %rdx, -3(%rbx) \n lea 0x800(%rbx), %rsp \n ud2")

/* The nested guest writes memory in which its hypervisor has a nested table. */
static void test_nested_mirrored(void **state)
{
	struct guest *g = *state;

	L2_LOAD(g, L2, l2_mirrored);
	GUEST_CODE_BYTES(g, HIGH + GUEST_STUBS + 16 * 6, 0x0f, 0x01, 0xd9);
	guest_mirror(g, L2_DATA + HIGH);
	cpu_state(g->cpu)->gpr[CPU_RDX] = 0x1122334455667788;
	assert_l2_runs(g);
	assert_int_equal(l2_read(g, L2_DATA + 5), 0x01112233);
	assert_int_equal(l2_read(g, L2_DATA + 8), 1);
	assert_int_equal(l2_read(g, L2_DATA - 3), 0x1122334455667788);
	assert_int_equal(l2_read(g, L2_DATA + 0x800 - 40), L2 + 19);
	assert_int_equal(g->mirrored_written, 1);
	assert_int_equal(g->mirrored_stores, 2 + 5);
	assert_int_equal(g->unprotected, 0);
}

/* The nested guest's own table is such memory. */
static void test_nested_mirrored_table(void **state)
{
	struct guest *g = *state;

	L2_LOAD(g, L2, l2_write_code);
	guest_mirror(g, L2_PT(L2_DATA) + HIGH);
	assert_l2_runs(g);
	assert_int_equal(g->unprotected, 1);
	assert_int_equal(*l2_pte(g, L2_DATA) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

static void test_nested_host_page_gone(void **state)
{
	struct guest *g = *state;

	cpu_signals_install();
	L2_LOAD(g, L2, l2_read_code);
	assert_l2_runs(g);
	mprotect(g->ram + HIGH + L2_DATA, 4096, PROT_NONE);
	l1_vmcb(g)->save.rip = L2;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	assert_int_equal(cpu_exit_info(g->cpu)->host_fault.gpa, HIGH + L2_DATA);
	mprotect(g->ram + HIGH + L2_DATA, 4096, PROT_READ | PROT_WRITE);
	assert_l2_vmmcall(g);
}

/* cpu_translate leads to the hypervisor's addresses, through both tables and without effects. */
static void test_nested_translate(void **state)
{
	struct guest *g = *state;
	bool writable, user;
	uint64_t gpa;

	GUEST_CODE_BYTES(g, HIGH + L2, 0xe6, 0x71, 0x0f, 0x01, 0xd9);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_true(cpu_state(g->cpu)->svm.guest);
	assert_true(cpu_translate(g->cpu, L2_DATA + 0x123, &gpa, &writable, &user));
	assert_int_equal(gpa, L2_DATA + HIGH + 0x123);
	assert_int_equal(*l1_npte(g, L2_DATA) & PTE_A, 0);
	*l1_npte(g, L2_DATA) &= ~PTE_U;
	assert_false(cpu_translate(g->cpu, L2_DATA, &gpa, &writable, &user));
	*l1_npte(g, L2_DATA) = 0;
	assert_false(cpu_translate(g->cpu, L2_DATA, &gpa, &writable, &user));
	assert_false(cpu_translate(g->cpu, HIGH, &gpa, &writable, &user));
	assert_l2_vmmcall(g);
	assert_true(cpu_translate(g->cpu, L2_DATA, &gpa, &writable, &user));
	assert_int_equal(gpa, L2_DATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, hypervisor_setup, guest_teardown)
		T(test_nested_memory_is_the_hypervisors),
		T(test_nested_final_faults),
		T(test_nested_rights_that_are_not_asked_for),
		T(test_nested_fetch_across_pages),
		T(test_nested_store_across_pages),
		T(test_nested_table_faults),
		T(test_nested_order_of_faults),
		T(test_nested_faults_of_a_delivery),
		T(test_nested_device),
		T(test_nested_device_then_fault),
		T(test_nested_internal_errors),
		T(test_nested_read_only_memory),
		T(test_nested_mirrored),
		T(test_nested_mirrored_table),
		T(test_nested_host_page_gone),
		T(test_nested_translate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
