/* SPDX-License-Identifier: MIT */
/* System registers and instructions: segment bases, canonical addresses, differences by CPUID and vendor. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define KERNEL_ENTRY 0x70000u

GUEST_ASM(sys_to_user, "push $0x3b \n push $0x420000 \n push $0x202 \n push $0x43 \n push $0x400000 \n iretq")
GUEST_ASM(sys_fs_user, "mov %fs:8, %rax \n mov %gs:8, %rcx \n int $0x80")
GUEST_ASM(sys_lretq_user, "push $0x3b \n push $0x420000 \n push $0x43 \n push $0x400000 \n lretq")

/* A return to level 3 makes a segment of level 0 null. 64-bit code still uses its base. */
static void test_system_return_to_an_outer_level_keeps_bases(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu), start;

	*guest_pte(g, GUEST_DATA) |= 4;
	guest_write(g, GUEST_DATA + 8, 8, 0x1234);
	s->seg[CPU_FS].base = s->seg[CPU_GS].base = GUEST_DATA;
	start = *s;
	GUEST_LOAD(g, GUEST_USER_CODE, sys_fs_user);
	for (unsigned i = 0; i < 2; i++) {
		*s = start;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		if (i == 0)
			GUEST_LOAD(g, GUEST_CODE, sys_to_user);
		else
			GUEST_LOAD(g, GUEST_CODE, sys_lretq_user);
		assert_int_equal(guest_run_to_hlt(g), 0x80);
		assert_int_equal(s->gpr[CPU_RAX], 0x1234);
		assert_int_equal(s->gpr[CPU_RCX], 0x1234);
		assert_int_equal(s->seg[CPU_FS].selector, 0);
		assert_true(s->seg[CPU_FS].unusable && s->seg[CPU_GS].unusable);
	}
}

GUEST_ASM(sys_stac, "stac \n pushf \n pop %rax \n clac \n pushf \n pop %rcx \n hlt")

static void test_system_clac_and_stac_need_no_cr4(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, sys_stac);
	assert_int_equal(s->cr4 & 0x200000, 0);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX] & 0x40000, 0x40000);
	assert_int_equal(s->gpr[CPU_RCX] & 0x40000, 0);
}

GUEST_ASM(sys_ltr, "mov $0x48, %eax \n ltr %ax")
GUEST_ASM(sys_lldt, "mov $0x48, %eax \n lldt %ax")

static void test_system_system_segments_have_canonical_bases(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	guest_write(g, GUEST_GDT + 0x48 + 8, 4, 0x80000000); /* bits 63:32 of the base */
	GUEST_LOAD(g, GUEST_CODE, sys_ltr);
	assert_int_equal(guest_run_to_hlt(g), 13);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), 0x48);
	assert_int_equal(guest_read(g, GUEST_GDT + 0x48 + 5, 1), 0x89); /* not busy */
	guest_write(g, GUEST_GDT + 0x48 + 5, 1, 0x82);
	GUEST_LOAD(g, GUEST_CODE, sys_lldt);
	s->rip = GUEST_CODE;
	assert_int_equal(guest_run_to_hlt(g), 13);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), 0x48);
}

/* The vendor in CPUID, and whether it offers 57-bit addresses. */
static bool cpuid_la57, cpuid_intel;

static void some_cpuid(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)state;
	cpu_cpuid_max(leaf, subleaf, out);
	if (leaf == 7 && !cpuid_la57)
		out[2] &= ~(1u << 16);
	if (leaf == 0 && cpuid_intel) {
		memcpy(&out[1], "Genu", 4);
		memcpy(&out[3], "ineI", 4);
		memcpy(&out[2], "ntel", 4);
	}
}

GUEST_ASM(sys_invpcid, "xor %eax, %eax \n invpcid 0x100000, %rax \n hlt")
GUEST_ASM(sys_wrfsbase, "wrfsbase %rbx \n hlt")
GUEST_ASM(sys_lgdt, "lgdt 0x100010 \n hlt")

static void test_system_registers_are_as_wide_as_cpuid_says(void **state)
{
	static const uint32_t bases[] = { 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102 };
	const uint64_t wide = UINT64_C(1) << 50; /* canonical with 57 bits */
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.cpuid = some_cpuid;
	s->cr4 |= 0x10000; /* FSGSBASE; LA57 is off */
	for (unsigned la57 = 0; la57 < 2; la57++) {
		cpuid_la57 = la57;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
			assert_int_equal(cpu_msr_set(g->cpu, bases[i], wide, false), la57);
			assert_false(cpu_msr_set(g->cpu, bases[i], UINT64_C(1) << 60, false));
			assert_true(cpu_msr_set(g->cpu, bases[i], 0, false));
		}
		guest_write(g, 0x100008, 8, wide);
		guest_write(g, 0x100012, 8, wide);
		s->gpr[CPU_RBX] = wide;
		GUEST_LOAD(g, GUEST_CODE, sys_invpcid);
		s->rip = GUEST_CODE;
		assert_int_equal(guest_run_to_hlt(g), la57 ? -1 : 13);
		GUEST_LOAD(g, GUEST_CODE, sys_wrfsbase);
		s->rip = GUEST_CODE;
		assert_int_equal(guest_run_to_hlt(g), la57 ? -1 : 13);
		GUEST_LOAD(g, GUEST_CODE, sys_lgdt);
		s->rip = GUEST_CODE;
		assert_int_equal(guest_run_to_hlt(g), la57 ? -1 : 13);
	}
}

GUEST_ASM(sys_sysenter, "sysenter")
GUEST_ASM(sys_sysexit, "sysexit")

/* Where AMD has 32 bits it drops the upper half of what is written. It has no SYSENTER in long mode. */
static void test_system_registers_of_32_bits_by_vendor(void **state)
{
	static const uint32_t all[] = { 0x175, 0x176, 0xc0000103 };
	const uint64_t high = UINT64_C(0x1234567800000007), canonical = UINT64_C(0x567800000007);
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t value;

	g->ops.cpuid = some_cpuid;
	for (unsigned intel = 0; intel < 2; intel++) {
		cpuid_intel = intel;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(cpu_msr_set(g->cpu, all[i], high, false), !intel);
			assert_int_equal(cpu_msr_set(g->cpu, all[i], canonical, false), !intel || i < 2);
			assert_true(cpu_msr_get(g->cpu, all[i], &value, true));
			assert_int_equal(value, intel && i < 2 ? canonical : 7);
		}
		s->sysenter_cs = SEL_CODE64;
		s->sysenter_eip = KERNEL_ENTRY;
		s->sysenter_esp = GUEST_STACK;
		GUEST_CODE_BYTES(g, KERNEL_ENTRY, 0xf4);
		GUEST_LOAD(g, GUEST_CODE, sys_sysenter);
		s->rip = GUEST_CODE;
		assert_int_equal(guest_run_to_hlt(g), intel ? -1 : 6);
		if (!intel) {
			GUEST_LOAD(g, GUEST_CODE, sys_sysexit);
			s->rip = GUEST_CODE;
			assert_int_equal(guest_run_to_hlt(g), 6);
		}
	}
	cpuid_intel = false;
}

int main(void)
{
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		GUEST_TEST(test_system_return_to_an_outer_level_keeps_bases),
		GUEST_TEST(test_system_clac_and_stac_need_no_cr4),
		GUEST_TEST(test_system_system_segments_have_canonical_bases),
		GUEST_TEST(test_system_registers_are_as_wide_as_cpuid_says),
		GUEST_TEST(test_system_registers_of_32_bits_by_vendor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
