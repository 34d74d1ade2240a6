/* SPDX-License-Identifier: MIT */
/*
 * Call gates, the stacks of inner levels, and where far transfers and deliveries may go (SDM vol. 2, CALL, RET, INT n
 * and IRET; APM vol. 2, 4.11.2 and 8.7 to 8.9).
 *
 * Most gates lead to level 1, so that a bad stack of that level leaves level 0 one to report the exception on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define SEL_GATE  0x70u /* 16 bytes in long mode */
#define SEL_CODE1 0x80u /* level 1 */
#define SEL_DATA1 0x88u
#define SEL_CONFORMING 0x90u /* level 0 */
#define SP1       0x2a000u
#define TARGET    0x70000u
#define LAST_SELECTOR 0xfff8u

#define GDT(selector) (GUEST_GDT + ((selector) & ~7u))
#define TSS_SP1   12u /* in both formats: 4 or 8 bytes */
#define TSS_SS1   16u

static struct cpu_state *regs(struct guest *g)
{
	return cpu_state(g->cpu);
}

/* A call gate of level 3. `type`: 4 or 12. */
static uint64_t gate(unsigned type, unsigned selector, uint32_t offset, unsigned words)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)words << 32 | (uint64_t)(0xe0 | type) << 40 |
	       (uint64_t)(offset >> 16) << 48;
}

/* User code is next. */
static void enter_level_3(struct guest *g, bool is_64)
{
	struct cpu_state *s = regs(g);

	s->seg[CPU_CS].selector = is_64 ? SEL_UCODE64 : SEL_UCODE32;
	s->seg[CPU_SS].selector = SEL_UDATA;
	s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 3;
	s->rip = GUEST_USER_CODE;
	s->gpr[CPU_RSP] = 0x420000;
	s->gdt.limit = 0x97;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

GUEST_ASM(far_int, "int $0x80")

static struct guest *far_guest_32(void)
{
	struct guest *g = guest_make();

	guest_protected(g);
	guest_write(g, GDT(SEL_GATE), 8, gate(12, SEL_CODE1, TARGET, 2));
	guest_write(g, GDT(SEL_CODE1), 8, UINT64_C(0x00cfba000000ffff));
	guest_write(g, GDT(SEL_DATA1), 8, UINT64_C(0x00cfb2000000ffff));
	guest_write(g, GDT(SEL_CONFORMING), 8, UINT64_C(0x00cf9e000000ffff));
	guest_write(g, GUEST_TSS + TSS_SP1, 4, SP1);
	guest_write(g, GUEST_TSS + TSS_SS1, 2, SEL_DATA1 | 1);
	GUEST_LOAD(g, TARGET, far_int);
	enter_level_3(g, false);
	return g;
}

/* ---- 16 and 32 bits ------------------------------------------------------------------------------------------ */

GUEST_ASM(far_call_32, ".code32 \n push $0x11111111 \n push $0x22222222 \n lcall $0x70, $0x12345678 \n int $0x80")
GUEST_ASM(far_call_16, ".code32 \n push $0x22221111 \n lcall $0x70, $0x12345678 \n int $0x80")
GUEST_ASM(far_ret_32, ".code32 \n lret $8")

/* The frame on the inner stack, in units of the gate, from the stack pointer up. RET drops the words of both stacks. */
static void test_call_gates_copy_words(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct guest *g = far_guest_32();
		unsigned size = i == 0 ? 4 : 2, call_end = i == 0 ? 17 : 12;
		uint64_t mask = i == 0 ? 0xffffffff : 0xffff;
		const uint64_t frame[] = {
			(GUEST_USER_CODE + call_end) & mask, SEL_UCODE32, i == 0 ? 0x22222222 : 0x1111,
			i == 0 ? 0x11111111 : 0x2222, (0x420000 - 2 * size) & mask, SEL_UDATA,
		};
		struct cpu_state *s = regs(g);
		uint64_t sp;

		guest_write(g, GDT(SEL_GATE), 8, gate(i == 0 ? 12 : 4, SEL_CODE1, i == 0 ? TARGET : 0x6000, 2));
		GUEST_LOAD(g, 0x6000, far_int);
		if (i == 0)
			GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
		else
			GUEST_LOAD(g, GUEST_USER_CODE, far_call_16);
		assert_int_equal(guest_run_to_hlt(g), 0x80);
		sp = guest_read(g, s->gpr[CPU_RSP] + 12, 4);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 4, 4), SEL_CODE1 | 1);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 16, 4), SEL_DATA1 | 1);
		assert_int_equal(sp, SP1 - 6 * size);
		for (unsigned n = 0; n < 6; n++)
			assert_int_equal(guest_read(g, sp + n * size, size), frame[n]);
		guest_free(g);
		if (i != 0)
			continue; /* 16 bits of EIP do not lead back */
		g = far_guest_32();
		GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
		GUEST_LOAD(g, TARGET, far_ret_32);
		assert_int_equal(guest_run_to_hlt(g), 0x80);
		assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] + 12, 4), 0x420000);
		assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] + 16, 4), SEL_UDATA);
		guest_free(g);
	}
}

/* A conforming segment, or code of the same level, is reached without another stack. */
static void test_call_gates_to_the_same_level(void **state)
{
	static const unsigned to[] = { SEL_CONFORMING, SEL_UCODE32 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct guest *g = far_guest_32();
		struct cpu_state *s = regs(g);

		guest_write(g, GDT(SEL_GATE), 8, gate(12, to[i], TARGET, 2));
		GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
		assert_int_equal(guest_run_to_hlt(g), 0x80);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 4, 4), to[i] | 3);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 12, 4), 0x420000 - 16);
		assert_int_equal(guest_read(g, 0x420000 - 16, 4), GUEST_USER_CODE + 17);
		guest_free(g);
	}
}

/* What was changed for the worse, and what comes of it. Addresses of 0 are not written. */
struct wrong {
	const char *name;
	struct {
		uint64_t at;
		unsigned size;
		uint64_t value;
	} change[2];
	int vector;
	uint32_t error;
};

#define ACCESS(selector, value) { GDT(selector) + 5, 1, value }
#define SS1(value) { GUEST_TSS + TSS_SS1, 2, value }

static void assert_wrong(struct guest *g, const struct wrong *w, unsigned size, uint64_t rip)
{
	int vector;

	for (unsigned i = 0; i < 2; i++)
		if (w->change[i].at != 0)
			guest_write(g, w->change[i].at, w->change[i].size, w->change[i].value);
	vector = guest_run_to_hlt(g);
	if (vector != w->vector)
		print_error("%s: vector %d\n", w->name, vector);
	assert_int_equal(vector, w->vector);
	if (guest_read(g, regs(g)->gpr[CPU_RSP], 4) != w->error)
		print_error("%s: error code\n", w->name);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), w->error);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] + size, size), rip);
}

static void test_call_gates_that_fail(void **state)
{
	static const struct wrong wrong[] = {
		{ "gate of level 2", { ACCESS(SEL_GATE, 0xcc) }, 13, SEL_GATE },
		{ "gate not present", { ACCESS(SEL_GATE, 0x6c) }, 11, SEL_GATE },
		{ "CS null", { { GDT(SEL_GATE) + 2, 2, 3 } }, 13, 0 },
		{ "CS outside", { { GDT(SEL_GATE) + 2, 2, 0x1233 } }, 13, 0x1230 },
		{ "CS is data", { { GDT(SEL_GATE) + 2, 2, SEL_DATA1 } }, 13, SEL_DATA1 },
		{ "CS not present", { ACCESS(SEL_CODE1, 0x3a) }, 11, SEL_CODE1 },
		{ "SS null", { SS1(1) }, 10, 0 },
		{ "SS outside", { SS1(0x1231) }, 10, 0x1230 },
		{ "SS with RPL 3", { SS1(SEL_DATA1 | 3) }, 10, SEL_DATA1 },
		{ "SS of level 3", { ACCESS(SEL_DATA1, 0xf2) }, 10, SEL_DATA1 },
		{ "SS not writable", { ACCESS(SEL_DATA1, 0xb0) }, 10, SEL_DATA1 },
		{ "SS is code", { SS1(SEL_CODE1 | 1) }, 10, SEL_CODE1 },
		{ "SS not present", { ACCESS(SEL_DATA1, 0x32) }, 12, SEL_DATA1 },
		{ "SS too small", { { GDT(SEL_DATA1), 8, UINT64_C(0x0040b2000000ffff) } }, 12, SEL_DATA1 },
		{ "SS expands down to less", { { GDT(SEL_DATA1), 8, UINT64_C(0x0042b60000009fe8) } }, 12, SEL_DATA1 },
		{ "stack at its beginning", { { GDT(SEL_DATA1), 8, UINT64_C(0x0040b2000000ffff) },
		                              { GUEST_TSS + TSS_SP1, 4, 20 } }, 12, SEL_DATA1 },
		{ "EIP outside CS", { { GDT(SEL_CODE1) + 6, 1, 0x46 } }, 13, 0 },
		{ "EIP outside CS, SS null", { { GDT(SEL_CODE1) + 6, 1, 0x46 }, SS1(1) }, 10, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct guest *g = far_guest_32();

		GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
		assert_wrong(g, &wrong[i], 4, GUEST_USER_CODE + 10);
		guest_free(g);
	}
}

/* The TSS ends before the stack of level 1, or just behind it. A stack that has room for the frame is enough. */
static void test_call_gates_at_the_limits(void **state)
{
	static const struct wrong wrong = { "TSS too short", { { 0, 0, 0 } }, 10, SEL_TSS };
	struct guest *g = far_guest_32();

	(void)state;
	regs(g)->seg[CPU_TR].limit = TSS_SS1;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
	assert_wrong(g, &wrong, 4, GUEST_USER_CODE + 10);
	guest_free(g);
	g = far_guest_32();
	regs(g)->seg[CPU_TR].limit = TSS_SS1 + 1;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	guest_write(g, GDT(SEL_DATA1), 8, UINT64_C(0x0042b60000009fe7)); /* expands down to 0x29fe8 */
	GUEST_LOAD(g, GUEST_USER_CODE, far_call_32);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] + 12, 4), SP1 - 24);
	guest_free(g);
}

/* The same for events: INT 0x80 leads to level 1. */
static void test_deliveries_that_fail(void **state)
{
	static const struct wrong wrong[] = {
		{ "SS not present", { ACCESS(SEL_DATA1, 0x32) }, 12, SEL_DATA1 },
		{ "SS too small", { { GDT(SEL_DATA1), 8, UINT64_C(0x0040b2000000ffff) } }, 12, SEL_DATA1 },
		{ "stack at its beginning", { { GDT(SEL_DATA1), 8, UINT64_C(0x0040b2000000ffff) },
		                              { GUEST_TSS + TSS_SP1, 4, 18 } }, 12, SEL_DATA1 },
		{ "EIP outside CS", { { GDT(SEL_CODE1) + 6, 1, 0x46 } }, 13, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct guest *g = far_guest_32();

		guest_write(g, GUEST_IDT + 8 * 0x80, 8, UINT64_C(0x0007ee0000000000) | SEL_CODE1 << 16);
		GUEST_LOAD(g, GUEST_USER_CODE, far_int);
		assert_wrong(g, &wrong[i], 4, GUEST_USER_CODE);
		guest_free(g);
	}
}

GUEST_ASM(far_int_81, "int $0x81")

/* On the way from level 1 to level 1 there is no other stack, and the error code names none. */
static void test_delivery_without_room_on_the_same_stack(void **state)
{
	static const struct wrong wrong = {
		"no room", { { GDT(SEL_DATA1), 8, UINT64_C(0x0042b20000009fe7) } }, 12, 0
	};
	struct guest *g = far_guest_32();

	(void)state;
	guest_write(g, GUEST_IDT + 8 * 0x81, 8, UINT64_C(0x0007ee0000000000) | SEL_CODE1 << 16);
	GUEST_LOAD(g, GUEST_USER_CODE, far_int);
	GUEST_LOAD(g, TARGET, far_int_81);
	enter_level_3(g, false);
	regs(g)->seg[CPU_CS].selector = SEL_CODE1 | 1;
	regs(g)->seg[CPU_SS] = (struct cpu_segment){
		.selector = SEL_DATA1 | 1, .limit = 0x29fe7, .type = 3, .s = 1, .dpl = 1, .present = 1, .db = 1,
	};
	regs(g)->seg[CPU_CS].dpl = 1;
	regs(g)->rip = TARGET;
	regs(g)->gpr[CPU_RSP] = SP1 - 20;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_wrong(g, &wrong, 4, TARGET);
	guest_free(g);
}

/* ---- 64 bits --------------------------------------------------------------------------------------------------- */

GUEST_ASM(far_call_64, "lcall *0x400100 \n int $0x80")
GUEST_ASM(far_jump_64, "ljmp *0x400100 \n int $0x80")
GUEST_ASM(far_lretq, "lretq")

static struct guest *far_guest_64(void)
{
	struct guest *g = guest_make();

	guest_long(g);
	guest_write(g, GDT(SEL_GATE), 8, gate(12, SEL_CODE1, TARGET, 0));
	guest_write(g, GDT(SEL_GATE) + 8, 8, 0);
	guest_write(g, GDT(SEL_CODE1), 8, UINT64_C(0x00afba000000ffff));
	guest_write(g, GUEST_TSS + TSS_SP1, 8, SP1);
	guest_write(g, GUEST_USER_CODE + 0x100, 4, 0x12345678);
	guest_write(g, GUEST_USER_CODE + 0x104, 2, SEL_GATE);
	GUEST_LOAD(g, TARGET, far_int);
	GUEST_LOAD(g, GUEST_USER_CODE, far_call_64);
	enter_level_3(g, true);
	return g;
}

static void test_call_gates_of_64_bits(void **state)
{
	static const uint64_t frame[] = { GUEST_USER_CODE + 7, SEL_UCODE64, 0x420000, SEL_UDATA };
	struct guest *g = far_guest_64();
	struct cpu_state *s = regs(g);

	(void)state;
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 8, 8), SEL_CODE1 | 1);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 24, 8), SP1 - 32);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 32, 8), 1); /* a null SS of the level */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(guest_read(g, SP1 - 32 + 8 * i, 8), frame[i]);
	guest_free(g);
	g = far_guest_64();
	GUEST_LOAD(g, TARGET, far_lretq);
	assert_int_equal(guest_run_to_hlt(g), 0x80);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 8), GUEST_USER_CODE + 9);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] + 24, 8), 0x420000);
	guest_free(g);
}

static void test_call_gates_of_64_bits_that_fail(void **state)
{
	static const struct wrong wrong[] = {
		{ "16-bit gate", { ACCESS(SEL_GATE, 0xe4) }, 13, SEL_GATE },
		{ "type in the upper half", { { GDT(SEL_GATE) + 13, 1, 0x01 } }, 13, SEL_GATE },
		{ "gate at the end of the table", { { GUEST_USER_CODE + 0x104, 2, LAST_SELECTOR },
		                                    { GDT(LAST_SELECTOR), 8, 0 } }, 13, LAST_SELECTOR },
		{ "RIP not canonical", { { GDT(SEL_GATE) + 8, 4, 0x00800000 } }, 13, 0 },
		{ "RSP not canonical", { { GUEST_TSS + TSS_SP1, 8, UINT64_C(0x800000000010) } }, 12, 0 },
		{ "32-bit CS", { { GDT(SEL_CODE1) + 6, 1, 0xcf } }, 13, SEL_CODE1 },
		{ "CS of both sizes, not present", { { GDT(SEL_CODE1) + 6, 1, 0xef }, ACCESS(SEL_CODE1, 0x3a) }, 13,
		  SEL_CODE1 },
		{ "CS not present", { ACCESS(SEL_CODE1, 0x3a) }, 11, SEL_CODE1 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct guest *g = far_guest_64();
		struct wrong w = wrong[i];

		if (w.change[1].at == GDT(LAST_SELECTOR)) {
			w.change[1].value = gate(12, SEL_CODE1, TARGET, 0);
			regs(g)->gdt.limit = 0xffff;
			cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		}
		assert_wrong(g, &w, 8, GUEST_USER_CODE);
		guest_free(g);
	}
}

/* A jump does not change the level. A call that does not, either, may find its own stack not canonical. */
static void test_gates_of_64_bits_at_the_same_level(void **state)
{
	static const struct wrong jump = { "jump", { { 0, 0, 0 } }, 13, SEL_CODE1 };
	static const struct wrong stack = { "stack", { { GDT(SEL_GATE) + 2, 2, SEL_UCODE64 } }, 12, 0 };
	struct guest *g = far_guest_64();

	(void)state;
	GUEST_LOAD(g, GUEST_USER_CODE, far_jump_64);
	assert_wrong(g, &jump, 8, GUEST_USER_CODE);
	guest_free(g);
	g = far_guest_64();
	regs(g)->gpr[CPU_RSP] = UINT64_C(0x800000000008);
	assert_wrong(g, &stack, 8, GUEST_USER_CODE);
	guest_free(g);
}

/* A gate of the IDT to an address that is not canonical: the fault is the interrupted code's. */
static void test_delivery_to_no_address(void **state)
{
	static const struct wrong wrong = { "RIP", { { GUEST_IDT + 16 * 0x80 + 8, 4, 0x00800000 } }, 13, 0 };
	struct guest *g = far_guest_64();

	(void)state;
	GUEST_LOAD(g, GUEST_USER_CODE, far_int);
	assert_wrong(g, &wrong, 8, GUEST_USER_CODE);
	guest_free(g);
}

/* ---- real mode ------------------------------------------------------------------------------------------------- */

GUEST_ASM(far_real_jump, ".code16 \n ljmpl $0x1000, $0x10100")
GUEST_ASM(far_real_call, ".code16 \n lcalll $0x1000, $0x10100")
GUEST_ASM(far_real_ret, ".code16 \n pushl $0x1000 \n pushl $0x10100 \n lretl")
GUEST_ASM(far_real_iret, ".code16 \n pushl $0x2 \n pushl $0x1000 \n pushl $0x10100 \n iretl")

/* The fault is the transfer's, not the fetch's that follows. */
static void test_real_mode_offsets(void **state)
{
	static const struct {
		const uint8_t *code, *end;
		unsigned at;
	} cases[] = {
		{ far_real_jump, far_real_jump_end, 0 }, { far_real_call, far_real_call_end, 0 },
		{ far_real_ret, far_real_ret_end, 12 }, { far_real_iret, far_real_iret_end, 15 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest *g = guest_make();

		guest_real(g);
		guest_code(g, GUEST_CODE, cases[i].code, (unsigned)(cases[i].end - cases[i].code));
		assert_int_equal(guest_run_to_hlt(g), 13);
		assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP] & 0xffff, 2), cases[i].at);
		guest_free(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call_gates_copy_words),
		cmocka_unit_test(test_call_gates_to_the_same_level),
		cmocka_unit_test(test_call_gates_that_fail),
		cmocka_unit_test(test_call_gates_at_the_limits),
		cmocka_unit_test(test_deliveries_that_fail),
		cmocka_unit_test(test_delivery_without_room_on_the_same_stack),
		cmocka_unit_test(test_call_gates_of_64_bits),
		cmocka_unit_test(test_call_gates_of_64_bits_that_fail),
		cmocka_unit_test(test_gates_of_64_bits_at_the_same_level),
		cmocka_unit_test(test_delivery_to_no_address),
		cmocka_unit_test(test_real_mode_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
