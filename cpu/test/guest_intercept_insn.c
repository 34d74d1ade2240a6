/* SPDX-License-Identifier: MIT */
/*
 * Intercepts of instructions (APM vol. 2, 15.8 and 15.9): with its bit set an instruction is a #VMEXIT that has had no
 * effect. Without it is what it always was. Which exceptions come first is table 15-7's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/system/intercept.h"
#include "guest_asm.h"
#include "nested.h"

#define MOV_CR (UINT64_C(1) << 63)

static const struct nested_row instructions[] = {
	{ "clts", BYTES(0x0f, 0x06), .bit = 0x10 },
	{ "lmsw ax", BYTES(0x0f, 0x01, 0xf0), .bit = 0x10 },
	{ "lmsw (rbx)", BYTES(0x0f, 0x01, 0x33), .bit = 0x10 },
	{ "lmsw (rbx), no page", BYTES(0x0f, 0x01, 0x33), .bit = 0x10, .how = UNMAPPED },
	{ "lmsw ax, selective", BYTES(0x0f, 0x01, 0xf0), .bit = 0x65 },
	{ "lmsw (rbx), selective, no page", BYTES(0x0f, 0x01, 0x33), .bit = 0x65, .how = UNMAPPED },
	{ "smsw eax", BYTES(0x0f, 0x01, 0xe0), .bit = 0x00 },
	{ "smsw (rbx)", BYTES(0x0f, 0x01, 0x23), .bit = 0x00 },
	{ "smsw (rbx), no page", BYTES(0x0f, 0x01, 0x23), .bit = 0x00, .how = UNMAPPED },
	{ "smsw eax, user", BYTES(0x0f, 0x01, 0xe0), .bit = 0x00, .how = USER | ONLY_WITH },
	{ "sidt", BYTES(0x0f, 0x01, 0x0b), .bit = 0x66 },
	{ "sgdt", BYTES(0x0f, 0x01, 0x03), .bit = 0x67 },
	{ "sgdt, no page", BYTES(0x0f, 0x01, 0x03), .bit = 0x67, .how = UNMAPPED },
	{ "sgdt, user", BYTES(0x0f, 0x01, 0x03), .bit = 0x67, .how = USER | ONLY_WITH },
	{ "sldt ax", BYTES(0x0f, 0x00, 0xc0), .bit = 0x68 },
	{ "sldt (rbx), no page", BYTES(0x0f, 0x00, 0x03), .bit = 0x68, .how = UNMAPPED },
	{ "str eax", BYTES(0x0f, 0x00, 0xc8), .bit = 0x69 },
	{ "str (rbx)", BYTES(0x0f, 0x00, 0x0b), .bit = 0x69 },
	{ "lidt", BYTES(0x0f, 0x01, 0x1b), .bit = 0x6a, .how = ONLY_WITH },
	{ "lidt, no page", BYTES(0x0f, 0x01, 0x1b), .bit = 0x6a, .how = UNMAPPED },
	{ "lgdt", BYTES(0x0f, 0x01, 0x13), .bit = 0x6b, .how = ONLY_WITH },
	{ "lgdt, no page", BYTES(0x0f, 0x01, 0x13), .bit = 0x6b, .how = UNMAPPED },
	{ "lldt ax", BYTES(0x0f, 0x00, 0xd0), .bit = 0x6c },
	{ "lldt (rbx), no page", BYTES(0x0f, 0x00, 0x13), .bit = 0x6c, .how = UNMAPPED },
	{ "ltr ax", BYTES(0x0f, 0x00, 0xd8), .bit = 0x6d },
	{ "ltr (rbx), no page", BYTES(0x0f, 0x00, 0x1b), .bit = 0x6d, .how = UNMAPPED },
	{ "rdtsc", BYTES(0x0f, 0x31), .bit = 0x6e },
	{ "rdtsc, user", BYTES(0x0f, 0x31), .bit = 0x6e, .how = USER },
	{ "rdpmc", BYTES(0x0f, 0x33), .bit = 0x6f },
	{ "pushf", BYTES(0x9c), .bit = 0x70 },
	{ "pushf, no stack", BYTES(0x9c), .bit = 0x70, .how = UNMAPPED },
	{ "pushf, user", BYTES(0x9c), .bit = 0x70, .how = USER },
	{ "popf", BYTES(0x9d), .bit = 0x71 },
	{ "popf, no stack", BYTES(0x9d), .bit = 0x71, .how = UNMAPPED },
	{ "cpuid", BYTES(0x0f, 0xa2), .bit = 0x72 },
	{ "cpuid, user", BYTES(0x0f, 0xa2), .bit = 0x72, .how = USER },
	{ "rsm", BYTES(0x0f, 0xaa), .bit = 0x73 },
	{ "rsm, user", BYTES(0x0f, 0xaa), .bit = 0x73, .how = USER },
	{ "iretq", BYTES(0x48, 0xcf), .bit = 0x74 },
	{ "iret, no stack", BYTES(0xcf), .bit = 0x74, .how = UNMAPPED },
	{ "int 0x80", BYTES(0xcd, 0x80), .bit = 0x75, 0x80 },
	{ "int 13", BYTES(0xcd, 0x0d), .bit = 0x75, 0x0d },
	{ "int 0xff, user: no right to the gate", BYTES(0xcd, 0xff), .bit = 0x75, 0xff, .how = USER },
	{ "invd", BYTES(0x0f, 0x08), .bit = 0x76 },
	{ "pause", BYTES(0xf3, 0x90), .bit = 0x77 },
	{ "pause, user", BYTES(0xf3, 0x90), .bit = 0x77, .how = USER },
	{ "hlt", BYTES(0xf4), .bit = 0x78 },
	{ "invlpg (rbx)", BYTES(0x0f, 0x01, 0x3b), .bit = 0x79, GUEST_DATA },
	{ "invlpg fs:(rbx)", BYTES(0x64, 0x0f, 0x01, 0x3b), .bit = 0x79, GUEST_DATA + 0x1000, .how = FS_BASE },
	{ "invlpg 8(ebx)", BYTES(0x67, 0x0f, 0x01, 0x7b, 0x08), .bit = 0x79, GUEST_DATA + 8 },
	{ "vmmcall", BYTES(0x0f, 0x01, 0xd9), .bit = 0x81 },
	{ "vmmcall, user", BYTES(0x0f, 0x01, 0xd9), .bit = 0x81, .how = USER },
	{ "rdtscp", BYTES(0x0f, 0x01, 0xf9), .bit = 0x87 },
	{ "int1", BYTES(0xf1), .bit = 0x88 },
	{ "int1, user", BYTES(0xf1), .bit = 0x88, .how = USER },
	{ "wbinvd", BYTES(0x0f, 0x09), .bit = 0x89 },
	{ "monitor", BYTES(0x0f, 0x01, 0xc8), .bit = 0x8a, .how = RCX_0 },
	{ "mwait", BYTES(0x0f, 0x01, 0xc9), .bit = 0x8b, .how = RCX_0 },
	{ "xsetbv", BYTES(0x0f, 0x01, 0xd1), .bit = 0x8d, .how = XSAVE },
	{ "xsetbv, user", BYTES(0x0f, 0x01, 0xd1), .bit = 0x8d, .how = XSAVE | USER },
	{ "invpcid rsi, (rbx)", BYTES(0x66, 0x0f, 0x38, 0x82, 0x33), .bit = 0xa2, GUEST_DATA, GUEST_DATA },
	{ "invpcid rsi, (rbx), no page", BYTES(0x66, 0x0f, 0x38, 0x82, 0x33), .bit = 0xa2, GUEST_DATA, GUEST_DATA,
	  .how = UNMAPPED },
	{ "vmrun", BYTES(0x0f, 0x01, 0xd8), .bit = 0x80, .how = SVME | ONLY_WITH },
	{ "vmload", BYTES(0x0f, 0x01, 0xda), .bit = 0x82, .how = SVME | ONLY_WITH },
	{ "vmsave", BYTES(0x0f, 0x01, 0xdb), .bit = 0x83, .how = SVME | ONLY_WITH },
	{ "stgi", BYTES(0x0f, 0x01, 0xdc), .bit = 0x84, .how = SVME },
	{ "clgi", BYTES(0x0f, 0x01, 0xdd), .bit = 0x85, .how = SVME },
	{ "skinit", BYTES(0x0f, 0x01, 0xde), .bit = 0x86, .how = SVME },
	{ "invlpga", BYTES(0x0f, 0x01, 0xdf), .bit = 0x7a, GUEST_DATA, .how = SVME },
};

static void test_instructions(void **state)
{
	(void)state;
	NESTED_ROWS(instructions);
}

#define FIRST(name, code, bit, flags, vector_) { name, code, bit, .how = EXCEPTION | (flags), .vector = vector_ }
static const struct nested_row exceptions_first[] = {
	FIRST("clts, user", BYTES(0x0f, 0x06), 0x10, USER, 13),
	FIRST("lmsw, user", BYTES(0x0f, 0x01, 0xf0), 0x10, USER, 13),
	FIRST("mov cr0, user", BYTES(0x0f, 0x22, 0xc0), 0x10, USER, 13),
	FIRST("mov from cr3, user", BYTES(0x0f, 0x20, 0xd8), 0x03, USER, 13),
	FIRST("mov from cr1", BYTES(0x0f, 0x20, 0xc8), 0x01, 0, 6),
	FIRST("mov to cr5", BYTES(0x0f, 0x22, 0xe8), 0x15, 0, 6),
	FIRST("mov from cr15", BYTES(0x44, 0x0f, 0x20, 0xf8), 0x0f, 0, 6),
	FIRST("mov dr0, user", BYTES(0x0f, 0x23, 0xc0), 0x30, USER, 13),
	FIRST("mov from dr7, user", BYTES(0x0f, 0x21, 0xf8), 0x27, USER, 13),
	FIRST("smsw, UMIP", BYTES(0x0f, 0x01, 0xe0), 0x00, USER | UMIP, 13),
	FIRST("sidt, UMIP", BYTES(0x0f, 0x01, 0x0b), 0x66, USER | UMIP, 13),
	FIRST("sgdt, UMIP", BYTES(0x0f, 0x01, 0x03), 0x67, USER | UMIP, 13),
	FIRST("sldt, UMIP", BYTES(0x0f, 0x00, 0xc0), 0x68, USER | UMIP, 13),
	FIRST("str, UMIP", BYTES(0x0f, 0x00, 0xc8), 0x69, USER | UMIP, 13),
	FIRST("lidt, user", BYTES(0x0f, 0x01, 0x1b), 0x6a, USER, 13),
	FIRST("lgdt, user", BYTES(0x0f, 0x01, 0x13), 0x6b, USER, 13),
	FIRST("lldt, user", BYTES(0x0f, 0x00, 0xd0), 0x6c, USER, 13),
	FIRST("ltr, user", BYTES(0x0f, 0x00, 0xd8), 0x6d, USER, 13),
	FIRST("rdtsc, TSD", BYTES(0x0f, 0x31), 0x6e, USER | TSD, 13),
	FIRST("rdtscp, TSD", BYTES(0x0f, 0x01, 0xf9), 0x87, USER | TSD, 13),
	FIRST("rdpmc, user", BYTES(0x0f, 0x33), 0x6f, USER, 13),
	FIRST("invd, user", BYTES(0x0f, 0x08), 0x76, USER, 13),
	FIRST("hlt, user", BYTES(0xf4), 0x78, USER, 13),
	FIRST("invlpg, user", BYTES(0x0f, 0x01, 0x3b), 0x79, USER, 13),
	FIRST("wbinvd, user", BYTES(0x0f, 0x09), 0x89, USER, 13),
	FIRST("monitor, user", BYTES(0x0f, 0x01, 0xc8), 0x8a, USER, 6),
	FIRST("mwait, user", BYTES(0x0f, 0x01, 0xc9), 0x8b, USER, 6),
	FIRST("xsetbv without OSXSAVE", BYTES(0x0f, 0x01, 0xd1), 0x8d, 0, 6),
	FIRST("invpcid, user", BYTES(0x66, 0x0f, 0x38, 0x82, 0x33), 0xa2, USER, 13),
	FIRST("rdmsr, user", BYTES(0x0f, 0x32), 0x7c, USER, 13),
	FIRST("wrmsr, user", BYTES(0x0f, 0x30), 0x7c, USER, 13),
	FIRST("in, user", BYTES(0xec), 0x7b, USER, 13),
	FIRST("vmrun without SVME", BYTES(0x0f, 0x01, 0xd8), 0x80, 0, 6),
	FIRST("vmrun, user", BYTES(0x0f, 0x01, 0xd8), 0x80, SVME | USER, 13),
	FIRST("vmload, user", BYTES(0x0f, 0x01, 0xda), 0x82, SVME | USER, 13),
	FIRST("vmsave, user", BYTES(0x0f, 0x01, 0xdb), 0x83, SVME | USER, 13),
	FIRST("stgi, user", BYTES(0x0f, 0x01, 0xdc), 0x84, SVME | USER, 13),
	FIRST("clgi without SVME", BYTES(0x0f, 0x01, 0xdd), 0x85, 0, 6),
	FIRST("invlpga, user", BYTES(0x0f, 0x01, 0xdf), 0x7a, SVME | USER, 13),
	FIRST("rdpru", BYTES(0x0f, 0x01, 0xfd), 0x8e, 0, 6),
	FIRST("vmcall", BYTES(0x0f, 0x01, 0xc1), 0x81, 0, 6),
	FIRST("clts with the selective intercept", BYTES(0x0f, 0x06), 0x65, 0, NESTED_HLT),
	FIRST("int3 is no INT n", BYTES(0xcc), 0x75, 0, 3),
	FIRST("int 3 is no #BP", BYTES(0xcd, 0x03), 0x43, 0, 3),
	FIRST("int 13 is no #GP", BYTES(0xcd, 0x0d), 0x4d, 0, 13),
	FIRST("int1 is no #DB", BYTES(0xf1), 0x41, 0, 1),
	FIRST("int1 is no INT n", BYTES(0xf1), 0x75, 0, 1),
	FIRST("rdtscp is no RDTSC", BYTES(0x0f, 0x01, 0xf9), 0x6e, 0, NESTED_HLT),
	FIRST("wbinvd is no INVD", BYTES(0x0f, 0x09), 0x76, 0, NESTED_HLT),
};

static void test_exceptions_come_first(void **state)
{
	(void)state;
	NESTED_ROWS(exceptions_first);
}

/* ---- control and debug registers ----------------------------------------------------------------------- */

static struct nested_row mov_row(unsigned opcode, unsigned n, unsigned gpr)
{
	struct nested_row r = { "mov", .len = 4 };

	r.bytes[0] = (uint8_t)(0x40 | (n >= 8 ? 4 : 0) | (gpr >= 8 ? 1 : 0));
	r.bytes[1] = 0x0f;
	r.bytes[2] = (uint8_t)opcode;
	r.bytes[3] = (uint8_t)(0xc0 | (n & 7) << 3 | (gpr & 7));
	return r;
}

static uint64_t cr_value(struct guest *g, unsigned n)
{
	struct cpu_state *s = regs(g);

	return n == 0 ? s->cr0 : n == 2 ? s->cr2 : n == 3 ? s->cr3 : n == 4 ? s->cr4 : s->cr8;
}

/* Write `value` to the register from `gpr`. */
static struct guest *mov_to(unsigned opcode, unsigned n, unsigned gpr, uint64_t value)
{
	struct nested_row r = mov_row(opcode, n, gpr);
	struct guest *g = nested_make();

	regs(g)->gpr[gpr] = value;
	nested_prepare(g, &r);
	return g;
}

static void test_control_registers(void **state)
{
	static const uint8_t numbers[] = { 0, 2, 3, 4, 8 }, gprs[] = { 0, 1, 3, 6, 7, 8, 12, 15 };

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		for (unsigned j = 0; j < 8; j++) {
			unsigned n = numbers[i], gpr = gprs[j];
			struct nested_row r = mov_row(0x20, n, gpr);
			struct cpu_state before;
			struct guest *g;

			r.bit = n;
			r.info1 = MOV_CR | gpr;
			nested_row(&r);
			g = mov_to(0x22, n, gpr, 0);
			regs(g)->gpr[gpr] = cr_value(g, n);
			nested_intercept(g, 0x10 + n, true);
			before = *regs(g);
			assert_int_equal(nested_run(g), -1);
			nested_exit(g, "mov to cr", 0x10 + n, MOV_CR | gpr, 0);
			nested_untouched(g, "mov to cr", &before);
			assert_int_equal(nested_svm(g)->exit.next_rip, GUEST_CODE + 4);
			guest_free(g);
		}
}

static void check_cr_write(unsigned n, uint64_t value, unsigned bit, unsigned bit2, int want_vector, uint64_t want_exit)
{
	struct guest *g = mov_to(0x22, n, CPU_RSI, value);
	int vector;

	nested_intercept(g, bit, true);
	nested_intercept(g, bit2, true);
	vector = nested_run(g);
	if (vector != want_vector)
		fail_msg("CR%u = %#llx: vector %d", n, (unsigned long long)value, vector);
	if (vector < 0) {
		nested_exit(g, "CR write", want_exit, MOV_CR | CPU_RSI, 0);
		assert_int_equal(regs(g)->rip, GUEST_CODE);
	}
	guest_free(g);
}

/* Values that are not legal are #GP, also with the intercept. */
static void test_control_register_values(void **state)
{
	const uint64_t cr0 = 0x80010033;

	(void)state;
	check_cr_write(0, cr0 & ~UINT64_C(1), 0x10, 0x65, 13, 0);         /* PG without PE */
	check_cr_write(0, cr0 | UINT64_C(1) << 32, 0x10, 0x65, 13, 0);
	check_cr_write(0, cr0 & ~UINT64_C(0x80000000), 0x10, 0x65, 13, 0); /* PG in 64-bit mode */
	check_cr_write(0, cr0 | 0x20000000, 0x10, 0x65, 13, 0);           /* NW without CD */
	check_cr_write(3, UINT64_C(1) << 60, 0x13, 0x13, 13, 0);
	check_cr_write(4, UINT64_C(1) << 31, 0x14, 0x14, 13, 0);
	check_cr_write(4, 0x600, 0x14, 0x14, 13, 0);                      /* PAE in long mode */
	check_cr_write(8, 16, 0x18, 0x18, 13, 0);
	/* The selective intercept: bits other than TS and MP. */
	check_cr_write(0, cr0, 0x65, 0x65, NESTED_HLT, 0);
	check_cr_write(0, cr0 ^ 8, 0x65, 0x65, NESTED_HLT, 0);
	check_cr_write(0, cr0 ^ 2, 0x65, 0x65, NESTED_HLT, 0);
	check_cr_write(0, cr0 ^ 10, 0x65, 0x65, NESTED_HLT, 0);
	check_cr_write(0, cr0 ^ 16, 0x65, 0x65, NESTED_HLT, 0);                 /* ET cannot be changed */
	check_cr_write(0, cr0 ^ 4, 0x65, 0x65, -1, 0x65);
	check_cr_write(0, cr0 ^ 0x20, 0x65, 0x65, -1, 0x65);
	check_cr_write(0, cr0 ^ 0x10000, 0x65, 0x65, -1, 0x65);
	check_cr_write(0, cr0 ^ 0x40000000, 0x65, 0x65, -1, 0x65);
	/* The general one comes before it. */
	check_cr_write(0, cr0 ^ 0x10000, 0x65, 0x10, -1, 0x10);
	check_cr_write(0, cr0, 0x65, 0x10, -1, 0x10);
	check_cr_write(3, GUEST_PML4, 0x65, 0x10, NESTED_HLT, 0);
}

static void test_lmsw_prefers_the_general_intercept(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x01, 0xf0, 0xf4);
	nested_intercept(g, 0x10, true);
	nested_intercept(g, 0x65, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "lmsw", 0x10, 0, 0);
}

static void check_written(unsigned n, uint64_t value, uint64_t want)
{
	struct guest *g = mov_to(0x22, n, CPU_RSI, value);

	nested_intercept(g, 0x90 + n, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "CR trap", 0x90 + n, want, 0);
	assert_int_equal(regs(g)->rip, GUEST_CODE + 4);
	assert_int_equal(cr_value(g, n), want);
	assert_int_equal(nested_svm(g)->exit.next_rip, 0);
	guest_free(g);
}

/* With V_INTR_MASKING, CR8 is V_TPR. */
static void check_written_tpr(void)
{
	struct guest *g = nested_make();
	struct vmcb_control control = { .virtual_interrupt = V_INTR_MASKING | 3 };
	struct nested_row r = mov_row(0x22, 8, CPU_RSI);

	memcpy(regs(g)->svm.control, &control, sizeof(control));
	regs(g)->gpr[CPU_RSI] = 7;
	nested_prepare(g, &r);
	nested_intercept(g, 0x98, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "V_TPR", 0x98, 7, 0);
	assert_int_equal(regs(g)->cr8, 0);
	guest_free(g);
}

/* The traps behind a write. */
static void test_traps_behind_writes(void **state)
{
	struct guest *g = *state;

	check_written(0, 0x80010033 ^ 0x20, 0x80010033 ^ 0x20);
	check_written(2, 0x1234, 0x1234);
	check_written(3, GUEST_PML4 | 8, GUEST_PML4 | 8);
	check_written(4, 0x628, 0x628);
	check_written(8, 9, 9);
	check_written_tpr();
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x30, 0xf4);
	regs(g)->gpr[CPU_RCX] = 0xc0000080;
	regs(g)->gpr[CPU_RAX] = 0xd00;
	regs(g)->gpr[CPU_RDX] = 0;
	nested_intercept(g, 0x8f, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "EFER trap", 0x8f, 0xd00, 0);
	assert_int_equal(regs(g)->rip, GUEST_CODE + 2);
}

static void check_dr(unsigned opcode, unsigned n, uint64_t cr4, uint64_t dr7, uint64_t value, int want)
{
	struct guest *g = mov_to(opcode, n, CPU_RDI, value);
	struct cpu_state before;
	int vector;

	regs(g)->cr4 |= cr4;
	regs(g)->dr[7] |= dr7;
	nested_intercept(g, (opcode == 0x21 ? 0x20 : 0x30) + n, true);
	before = *regs(g);
	vector = nested_run(g);
	if (vector != want)
		fail_msg("DR%u: vector %d", n, vector);
	if (want < 0) {
		nested_exit(g, "mov dr", (opcode == 0x21 ? 0x20 : 0x30) + n, CPU_RDI, 0);
		assert_int_equal(nested_svm(g)->exit.next_rip, GUEST_CODE + 4);
		nested_untouched(g, "mov dr", &before);
	}
	guest_free(g);
}

static void test_debug_registers(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8; n++) {
		struct nested_row r = mov_row(0x21, n, n + 8);

		r.bit = 0x20 + n;
		r.info1 = n + 8;
		nested_row(&r);
		r = mov_row(0x23, n, 5);
		r.bit = 0x30 + n;
		r.info1 = 5;
		nested_row(&r);
	}
	for (unsigned opcode = 0x21; opcode <= 0x23; opcode += 2) {
		check_dr(opcode, 4, CR4_DE, 0, 0, 6);
		check_dr(opcode, 5, CR4_DE, 0, 0, 6);
		check_dr(opcode, 4, 0, 0, 0, -1);
		check_dr(opcode, 6, CR4_DE, 0, 0, -1);
		check_dr(opcode, 0, 0, 0x2000, 0, 1); /* GD comes first */
	}
	check_dr(0x23, 7, 0, 0, UINT64_C(1) << 40, 13);
	check_dr(0x23, 6, 0, 0, UINT64_C(1) << 32, 13);
	check_dr(0x23, 0, 0, 0, UINT64_C(1) << 40, -1);
}

/* ---- PAUSE, MONITOR ------------------------------------------------------------------------------------ */

static void check_pause(unsigned pauses, unsigned count, unsigned threshold, bool want)
{
	struct guest *g = nested_make();
	struct vmcb_control control = { .pause_count = (uint16_t)count, .pause_threshold = (uint16_t)threshold };

	memcpy(regs(g)->svm.control, &control, sizeof(control));
	intercept_reset(g->cpu);
	for (unsigned i = 0; i < pauses; i++)
		GUEST_CODE_BYTES(g, GUEST_CODE + 2 * i, 0xf3, 0x90);
	GUEST_CODE_BYTES(g, GUEST_CODE + 2 * pauses, 0xf4);
	nested_intercept(g, 0x77, true);
	if ((nested_run(g) == -1) != want)
		fail_msg("%u pauses, count %u, threshold %u", pauses, count, threshold);
	if (want)
		assert_int_equal(regs(g)->rip, GUEST_CODE + 2 * count);
	guest_free(g);
}

static void test_pause_filter(void **state)
{
	(void)state;
	check_pause(1, 0, 0, true);
	check_pause(3, 3, 0, false);
	check_pause(4, 3, 0, true);
	check_pause(200, 65535, 0, false);
	check_pause(200, 5, 1, false); /* no two PAUSEs are so near */
}

GUEST_ASM(monitor_mwait, "monitor \n mwait \n hlt")

static void check_mwait(bool armed, bool both, uint64_t want)
{
	struct guest *g = nested_make();

	GUEST_LOAD(g, GUEST_CODE, monitor_mwait);
	regs(g)->gpr[CPU_RCX] = 0;
	if (!armed)
		regs(g)->rip = GUEST_CODE + 3;
	nested_intercept(g, 0x8c, true);
	nested_intercept(g, 0x8b, both);
	if (want == 0) {
		assert_int_equal(nested_run(g), NESTED_HLT);
	} else {
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, "mwait", want, 0, 0);
		assert_int_equal(regs(g)->rip, GUEST_CODE + 3);
	}
	guest_free(g);
}

static void test_mwait_armed(void **state)
{
	(void)state;
	check_mwait(true, false, 0x8c);
	check_mwait(true, true, 0x8c);
	check_mwait(false, true, 0x8b);
	check_mwait(false, false, 0);
}

/* What MONITOR and MWAIT raise comes before their intercepts. */
static void check_mwait_fault(bool mwait, uint8_t prefix, uint64_t rax, uint64_t rcx, int want)
{
	for (unsigned on = 0; on < 2; on++) {
		struct guest *g = nested_make();
		int vector;

		GUEST_CODE_BYTES(g, GUEST_CODE, prefix, 0x0f, 0x01, mwait ? 0xc9 : 0xc8, 0xf4);
		regs(g)->gpr[CPU_RAX] = rax;
		regs(g)->gpr[CPU_RCX] = rcx;
		regs(g)->seg[CPU_FS].base = 0x1000;
		cpu_state_changed(g->cpu, CPU_CHANGED_MODE);
		*guest_pte(g, GUEST_DATA) = 0;
		nested_intercept(g, mwait ? 0x8b : 0x8a, on);
		vector = nested_run(g);
		if (want >= 0 ? vector != want : on ? vector != -1 : vector != NESTED_HLT)
			fail_msg("prefix %#x, RAX %#llx, RCX %#llx: %d", prefix, (unsigned long long)rax,
			         (unsigned long long)rcx, vector);
		guest_free(g);
	}
}

static void test_mwait_faults(void **state)
{
	const uint64_t upper = UINT64_C(1) << 32, odd = UINT64_C(1) << 60;

	(void)state;
	check_mwait_fault(false, 0x90, GUEST_CODE, upper, -1);
	check_mwait_fault(false, 0x90, GUEST_CODE, 1, 13);
	check_mwait_fault(false, 0x90, odd, 0, 13);
	check_mwait_fault(false, 0x90, GUEST_DATA, 0, 14);
	check_mwait_fault(false, 0x67, upper + GUEST_CODE, 0, -1);
	check_mwait_fault(false, 0x67, upper + GUEST_DATA, 0, 14);
	check_mwait_fault(false, 0x64, GUEST_DATA - 0x1000, 0, 14);
	check_mwait_fault(false, 0x64, GUEST_DATA, 0, -1);
	check_mwait_fault(true, 0x90, odd, 0, -1);
	check_mwait_fault(true, 0x90, odd, 1, -1);
	check_mwait_fault(true, 0x90, odd, 2, 13);
	check_mwait_fault(true, 0x90, odd, upper + 1, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NESTED_TEST(test_instructions),
		NESTED_TEST(test_exceptions_come_first),
		NESTED_TEST(test_control_registers),
		NESTED_TEST(test_control_register_values),
		NESTED_TEST(test_lmsw_prefers_the_general_intercept),
		NESTED_TEST(test_traps_behind_writes),
		NESTED_TEST(test_debug_registers),
		NESTED_TEST(test_pause_filter),
		NESTED_TEST(test_mwait_armed),
		NESTED_TEST(test_mwait_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
