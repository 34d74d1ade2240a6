/* SPDX-License-Identifier: MIT */
/*
 * Nested guests with nested paging: which translations, and which decoded code, survive VMRUN, #VMEXIT and flushes.
 *
 * A test changes a guest's page table without a flush. What the guest reads then says whether the CPU has kept the old
 * translation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest_asm.h"
#include "hypervisor.h"

GUEST_ASM(l2_read_code, "mov (%rbx), %rcx \n vmmcall")
GUEST_ASM(l2_write_code, "mov %rdx, (%rbx) \n vmmcall")

#define OLD UINT64_C(0x320000) /* L2_DATA: where the nested guest's page is at first */
#define NEW UINT64_C(0x330000) /* where its entry leads later */
#define HOST_OLD UINT64_C(0x3a0000) /* the same for the hypervisor's */
#define HOST_NEW UINT64_C(0x3b0000)

/* The hypervisor reads the page at RBP before each VMRUN and after it. */
GUEST_ASM(host_reads,
	"1: mov (%rbp), %r8 \n vmrun \n mov (%rbp), %r9 \n out %al, $0x70 \n jmp 1b")

/* Each guest reads a page of its own, and then their entries are changed. */
static void tlb_setup(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);

	guest_write(g, OLD + HIGH, 8, 1);
	guest_write(g, NEW + HIGH, 8, 2);
	guest_write(g, HOST_OLD, 8, 1);
	guest_write(g, HOST_NEW, 8, 2);
	GUEST_LOAD(g, GUEST_CODE, host_reads);
	L2_LOAD(g, L2, l2_read_code);
	s->gpr[CPU_RBP] = HOST_OLD;
	s->rip = GUEST_CODE;
	assert_l2_runs(g);
	assert_int_equal(s->gpr[CPU_R8], 1);
	assert_int_equal(s->gpr[CPU_RCX], 1);
	*guest_pte(g, HOST_OLD) = HOST_NEW | PTE_P | PTE_W | PTE_A | PTE_D;
	*l2_pte(g, OLD) = NEW | PTE_P | PTE_W | PTE_A | PTE_D;
}

/* One more round. `l1`, `l2`: 1 if the guest still has its old translation, 2 if the new one. */
static void assert_sees(struct guest *g, uint64_t l1, uint64_t l2)
{
	struct cpu_state *s = cpu_state(g->cpu);

	assert_l2_runs(g);
	assert_int_equal(s->gpr[CPU_R9], l1);
	assert_int_equal(s->gpr[CPU_RCX], l2);
}

static void test_tlb_is_kept(void **state)
{
	struct guest *g = *state;

	tlb_setup(g);
	for (unsigned i = 0; i < 3; i++)
		assert_sees(g, 1, 1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_R8], 1);
	/* Another ASID has nothing. */
	l1_vmcb(g)->control.asid = 2;
	assert_sees(g, 1, 2);
	l1_vmcb(g)->control.asid = 1;
	/* What the library demands concerns everything. */
	guest_unmap_all(g);
	assert_sees(g, 2, 2);
}

/* While another ASID runs, which needs other pages, the first one's translations stay. */
static void test_tlb_is_kept_for_two(void **state)
{
	struct guest *g = *state;

	tlb_setup(g);
	l1_vmcb(g)->control.asid = 2;
	cpu_state(g->cpu)->gpr[CPU_RBX] = OLD + 0x1000;
	assert_sees(g, 1, 0);
	l1_vmcb(g)->control.asid = 1;
	cpu_state(g->cpu)->gpr[CPU_RBX] = OLD;
	assert_sees(g, 1, 1);
	l1_vmcb(g)->control.asid = 2;
	assert_sees(g, 1, 2);
}

static void test_tlb_control(void **state)
{
	static const struct {
		unsigned command;
		uint64_t l1, l2;
	} cases[] = {
		{ TLB_CONTROL_NOTHING, 1, 1 }, { TLB_CONTROL_ASID_LOCAL, 1, 2 }, { TLB_CONTROL_ASID, 1, 2 },
		{ TLB_CONTROL_ALL, 2, 2 },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest *g;

		hypervisor_setup((void **)&g);
		tlb_setup(g);
		l1_vmcb(g)->control.tlb_control = (uint8_t)cases[i].command;
		assert_sees(g, cases[i].l1, cases[i].l2);
		guest_free(g);
	}
	(void)state;
}

GUEST_ASM(l2_flush_cr3, "mov %cr3, %rdx \n mov %rdx, %cr3 \n mov (%rbx), %rcx \n vmmcall")
GUEST_ASM(l2_flush_page, "invlpg (%rbx) \n mov (%rbx), %rcx \n vmmcall")
GUEST_ASM(host_flush_cr3, "mov %cr3, %rdx \n mov %rdx, %cr3 \n vmrun \n mov (%rbp), %r9 \n out %al, $0x70")
GUEST_ASM(host_flush_page, "invlpg (%rbp) \n vmrun \n mov (%rbp), %r9 \n out %al, $0x70")

static void test_tlb_flushes_concern_one_guest(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g;

		hypervisor_setup((void **)&g);
		tlb_setup(g);
		if (i == 0)
			L2_LOAD(g, L2, l2_flush_cr3);
		else if (i == 1)
			L2_LOAD(g, L2, l2_flush_page);
		else if (i == 2)
			GUEST_LOAD(g, GUEST_CODE, host_flush_cr3);
		else
			GUEST_LOAD(g, GUEST_CODE, host_flush_page);
		cpu_state(g->cpu)->rip = GUEST_CODE;
		/* INVLPG may take more than it names, but not another guest's. */
		assert_sees(g, i < 2 ? 1 : 2, i < 2 ? 2 : 1);
		guest_free(g);
	}
	(void)state;
}

/* INVLPGA of the page in an ASID. */
GUEST_ASM(host_invlpga,
	"mov %rax, %r12 \n mov %r11, %rax \n mov %r10d, %ecx \n invlpga \n mov %r12, %rax \n"
	"vmrun \n mov (%rbp), %r9 \n out %al, $0x70")

static void test_tlb_invlpga(void **state)
{
	/* An ASID, and whose translation it takes. */
	static const uint64_t cases[][3] = { { 1, 1, 2 }, { 2, 1, 1 }, { 0, 2, 1 } };

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest *g;

		hypervisor_setup((void **)&g);
		tlb_setup(g);
		GUEST_LOAD(g, GUEST_CODE, host_invlpga);
		cpu_state(g->cpu)->rip = GUEST_CODE;
		cpu_state(g->cpu)->gpr[CPU_R10] = cases[i][0];
		cpu_state(g->cpu)->gpr[CPU_R11] = cases[i][0] == 0 ? HOST_OLD : OLD;
		assert_sees(g, cases[i][1], cases[i][2]);
		guest_free(g);
	}
	(void)state;
}

/* More ASIDs than the CPU remembers: a new one finds nothing of the one whose place it takes. */
static void test_tlb_many_asids(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	tlb_setup(g);
	for (unsigned asid = 2; asid < 12; asid++) {
		l1_vmcb(g)->control.asid = asid;
		s->gpr[CPU_RBX] = OLD + 0x1000;
		assert_sees(g, 1, 0);
		if (asid < 4)
			continue;
		s->gpr[CPU_RBX] = OLD;
		assert_sees(g, 1, 2);
	}
	l1_vmcb(g)->control.asid = 1;
	assert_sees(g, 1, 2);
}

/* More flushes than there are generations. */
static void test_tlb_many_flushes(void **state)
{
	struct guest *g = *state;

	tlb_setup(g);
	L2_LOAD(g, L2, l2_flush_cr3);
	for (unsigned i = 0; i < 1100; i++) {
		uint64_t to = i & 1 ? OLD : NEW;

		l1_vmcb(g)->control.asid = 1 + i % 2;
		*l2_pte(g, OLD) = to | PTE_P | PTE_W | PTE_A | PTE_D;
		assert_l2_runs(g);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], i & 1 ? 1 : 2);
	}
}

/* One ASID flushes so often that generations come again. The other one, which never does, is not taken for it. */
static void test_tlb_generations_come_again(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);

	tlb_setup(g);
	L2_LOAD(g, L2 + 0x800, l2_flush_cr3);
	for (unsigned i = 0; i < 1100; i++) {
		v->control.asid = 2;
		v->save.rip = L2 + 0x800;
		*l2_pte(g, OLD) = NEW | PTE_P | PTE_W | PTE_A | PTE_D;
		assert_l2_vmmcall(g);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 2);
		v->control.asid = 1;
		*l2_pte(g, OLD) = OLD | PTE_P | PTE_W | PTE_A | PTE_D;
		assert_l2_runs(g);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 1);
	}
}

/* In both guests a region has a table of its own, and each walks there with the other's walk just before. */
#define REGION UINT64_C(0x800000)

static void test_tlb_tables_of_both(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	tlb_setup(g);
	memcpy(g->ram + HIGH + 0x700000, g->ram + HIGH + L2_PT(REGION), 4096);
	guest_write(g, HIGH + 0x700000, 8, NEW | PTE_P);
	guest_write(g, HIGH + 0x3000 + (REGION >> 21) * 8, 8, 0x700000 | ALL);
	s->gpr[CPU_RBP] = REGION + 0x1000;
	s->gpr[CPU_RBX] = REGION;
	assert_l2_runs(g);
	assert_int_equal(s->gpr[CPU_RCX], 2);
	guest_write(g, REGION + 0x2000, 8, 4);
	s->gpr[CPU_RBP] = REGION + 0x2000;
	assert_l2_runs(g);
	assert_int_equal(s->gpr[CPU_R9], 4);
}

/* The hypervisor sets its guest's CR0.WP. Processors ask about it at each access, so that needs no flush. */
static void test_tlb_rights_follow_the_vmcb(void **state)
{
	struct guest *g = *state;

	L2_LOAD(g, L2, l2_write_code);
	l1_intercept(g, SVM_EXIT_EXCEPTION + 14);
	*l2_pte(g, L2_DATA) &= ~PTE_W;
	l1_vmcb(g)->save.cr0 &= ~UINT64_C(0x10000);
	assert_l2_runs(g);
	l1_vmcb(g)->save.cr0 |= UINT64_C(0x10000);
	l1_vmcb(g)->save.rip = L2;
	assert_int_equal(l2_run(g), SVM_EXIT_EXCEPTION + 14);
	assert_int_equal(l1_vmcb(g)->control.exit_info1, 3);
}

/* Another PCID in the VMCB has nothing of the first one, though the hypervisor flushes nothing. */
static void test_tlb_pcid(void **state)
{
	struct guest *g = *state;

	l1_vmcb(g)->save.cr4 |= UINT64_C(1) << 17;
	l1_vmcb(g)->save.cr3 |= 1;
	tlb_setup(g);
	assert_sees(g, 1, 1);
	l1_vmcb(g)->save.cr3 ^= 3;
	assert_sees(g, 1, 2);
}

/* Both guests run other code at the same address, and the nested guest's changes while it does not run. */
GUEST_ASM(both_code, "mov $1, %ecx \n vmmcall")
GUEST_ASM(both_host, "1: call *%rsi \n vmrun \n out %al, $0x70 \n jmp 1b")
GUEST_ASM(both_host_code, "mov $7, %r8d \n ret")

static void test_tlb_code_of_both(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, both_host);
	GUEST_LOAD(g, L2, both_host_code);
	L2_LOAD(g, L2, both_code);
	s->gpr[CPU_RSI] = L2;
	for (unsigned i = 1; i < 20; i++) {
		s->gpr[CPU_R8] = 0;
		g->ram[HIGH + L2 + 1] = (uint8_t)i;
		assert_l2_runs(g);
		assert_int_equal(s->gpr[CPU_R8], 7);
		assert_int_equal(s->gpr[CPU_RCX], i);
	}
}

/* The hypervisor itself writes its guest's code, by another translation of the same memory. */
GUEST_ASM(patch_host, "1: incb (%rdi) \n vmrun \n incb (%rdi) \n out %al, $0x70 \n jmp 1b")

static void test_tlb_code_that_the_hypervisor_writes(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, patch_host);
	L2_LOAD(g, L2, both_code);
	s->gpr[CPU_RDI] = HIGH + L2 + 1;
	for (unsigned i = 1; i < 10; i++) {
		assert_l2_runs(g);
		assert_int_equal(s->gpr[CPU_RCX], 2 * i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, hypervisor_setup, guest_teardown)
		T(test_tlb_is_kept),
		T(test_tlb_is_kept_for_two),
		T(test_tlb_control),
		T(test_tlb_flushes_concern_one_guest),
		T(test_tlb_invlpga),
		T(test_tlb_many_asids),
		T(test_tlb_many_flushes),
		T(test_tlb_generations_come_again),
		T(test_tlb_tables_of_both),
		T(test_tlb_rights_follow_the_vmcb),
		T(test_tlb_pcid),
		T(test_tlb_code_of_both),
		T(test_tlb_code_that_the_hypervisor_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
