/* SPDX-License-Identifier: MIT */
/*
 * Virtual-8086 mode and its extensions, and protected-mode virtual interrupts (SDM vol. 3, 21.2 to 21.4): which flags a
 * program sees and changes, where INT n goes, and what is #GP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"

#define SEGMENT 0x3000u  /* CS, DS and SS of the program */
#define SP      0x800u
#define OTHER   0x3800u  /* CS of its own handlers */
#define BITMAP  0x400u   /* the I/O permission bitmap in the TSS; the other one lies below it */
#define SP0     GUEST_RSP0

#define IF   0x200u
#define TF   0x100u
#define NT   0x4000u
#define IOPL 0x3000u
#define RF   0x10000u
#define VM   0x20000u
#define AC   0x40000u
#define VIF  0x80000u
#define VIP  0x100000u
#define ID   0x200000u

static struct cpu_segment real(uint16_t selector)
{
	return (struct cpu_segment){
		.base = selector * 16u, .limit = 0xffff, .selector = selector, .type = 3, .present = 1, .s = 1,
		.dpl = 3,
	};
}

/* The program begins at SEGMENT:0. Its vectors lead to OTHER:16 * n, and there a UD2 reports itself. */
static struct guest *v86_guest(uint32_t flags, uint64_t cr4)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	guest_protected(g);
	for (unsigned v = 0; v < 256; v++) {
		guest_write(g, 4 * v, 4, OTHER << 16 | 16 * v);
		GUEST_CODE_BYTES(g, OTHER * 16 + 16 * v, 0x0f, 0x0b);
	}
	guest_write(g, GUEST_IDT + 8 * 0x21 + 5, 1, 0xee); /* level 3 */
	guest_write(g, GUEST_TSS + 102, 2, BITMAP);
	memset(g->ram + GUEST_TSS + BITMAP - 32, 0, 32);
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = real(SEGMENT);
	s->cr4 |= cr4;
	s->rflags = VM | 2 | flags;
	s->rip = 0;
	s->gpr[CPU_RSP] = SP;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return g;
}

/* What was pushed on the stack of level 0 by the event with vector `vector`. */
struct frame {
	uint32_t error, ip, cs, flags, sp;
};

static struct frame frame_of(struct guest *g, int vector)
{
	uint64_t at = cpu_state(g->cpu)->gpr[CPU_RSP];
	struct frame f = { 0 };

	if (vector == 13) {
		f.error = (uint32_t)guest_read(g, at, 4);
		at += 4;
	}
	assert_int_equal(at, SP0 - 36);
	f.ip = (uint32_t)guest_read(g, at, 4);
	f.cs = (uint32_t)guest_read(g, at + 4, 4);
	f.flags = (uint32_t)guest_read(g, at + 8, 4) & ~RF;
	f.sp = (uint32_t)guest_read(g, at + 12, 4);
	return f;
}

#define VME 1u
#define PVI 2u

struct row {
	const char *name;
	uint8_t code[12];
	uint32_t flags, after; /* before, and in the frame of the event that ends the program */
	uint64_t cr4;
	int vector;            /* 6: the UD2 behind the code; 13 */
	uint32_t ip;
	int sp;                /* what SP is then, less what it was */
	uint32_t pushed;       /* the word at SP - 2, if it is not 0 */
};

#define UD 0x0f, 0x0b
static const struct row rows[] = {
	{ "cli, IOPL 3", { 0xfa, UD }, IOPL | IF | VIF, IOPL | VIF, VME, 6, 1, 0, 0 },
	{ "sti, IOPL 3", { 0xfb, UD }, IOPL | VIP, IOPL | VIP | IF, VME, 6, 1, 0, 0 },
	{ "cli", { 0xfa, UD }, IF | VIF, IF, VME, 6, 1, 0, 0 },
	{ "sti", { 0xfb, UD }, IF, IF | VIF, VME, 6, 1, 0, 0 },
	{ "sti, VIP", { 0xfb, UD }, IF | VIP, IF | VIP, VME, 13, 0, 0, 0 },
	{ "cli, VIP", { 0xfa, UD }, IF | VIP | VIF, IF | VIP, VME, 6, 1, 0, 0 },
	{ "cli, no VME", { 0xfa, UD }, IF | VIF, IF | VIF, 0, 13, 0, 0, 0 },
	{ "sti, no VME", { 0xfb, UD }, IF, IF, 0, 13, 0, 0, 0 },
	{ "sti, PVI is no VME", { 0xfb, UD }, IF, IF, PVI, 13, 0, 0, 0 },
	{ "pushf, IOPL 3", { 0x9c, UD }, IOPL | VIF, IOPL | VIF, VME, 6, 1, -2, IOPL | 2 },
	{ "pushf, VIF", { 0x9c, UD }, VIF, VIF, VME, 6, 1, -2, IOPL | IF | 2 },
	{ "pushf, IF", { 0x9c, UD }, IF, IF, VME, 6, 1, -2, IOPL | 2 },
	{ "pushf, no VME", { 0x9c, UD }, IF, IF, 0, 13, 0, 0, 0 },
	{ "pushfd", { 0x66, 0x9c, UD }, IF, IF, VME, 13, 0, 0, 0 },
	{ "popf sets VIF", { 0x68, 0, 0x02, 0x9d, UD }, 0, VIF, VME, 6, 4, 0, 0 },
	{ "popf clears VIF", { 0x68, 0, 0x40, 0x9d, UD }, IF | VIF, IF | NT, VME, 6, 4, 0, 0 },
	{ "popf, IOPL stays", { 0x68, 0, 0x30, 0x9d, UD }, 0, 0, VME, 6, 4, 0, 0 },
	{ "popf, VIP", { 0x68, 0, 0x02, 0x9d, UD }, VIP, VIP, VME, 13, 3, -2, 0 },
	{ "popf clears VIF, VIP", { 0x68, 0, 0, 0x9d, UD }, VIP | VIF, VIP, VME, 6, 4, 0, 0 },
	{ "popf, TF", { 0x68, 0, 0x01, 0x9d, UD }, 0, 0, VME, 13, 3, -2, 0 },
	{ "popf, no VME", { 0x68, 0, 0x02, 0x9d, UD }, 0, 0, 0, 13, 3, -2, 0 },
	{ "popf, IOPL 3", { 0x68, 0, 0x02, 0x9d, UD }, IOPL, IOPL | IF, VME, 6, 4, 0, 0 },
	{ "popfd", { 0x66, 0x6a, 0, 0x66, 0x9d, UD }, 0, 0, VME, 13, 3, -4, 0 },
	{ "popfd, IOPL 3", { 0x66, 0x6a, 0, 0x66, 0x9d, UD }, IOPL | IF | VIF | AC, IOPL | VIF, 0, 6, 5, 0, 0 },
	{ "int3", { 0xcc, UD }, 0, 0, VME, 3, 1, 0, 0 },
	{ "int, no VME", { 0xcd, 0x21 }, 0, 0, 0, 13, 0, 0, 0 },
	{ "int, IOPL 3", { 0xcd, 0x21 }, IOPL, IOPL, 0, 0x21, 2, 0, 0 },
	{ "in, no permission", { 0xe4, 0x60, UD }, IOPL, IOPL, 0, 13, 0, 0, 0 },
	{ "hlt", { 0xf4, UD }, IOPL, IOPL, 0, 13, 0, 0, 0 },
};

static void test_v86_flags(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct guest *g = v86_guest(r->flags, r->cr4);
		struct frame f;
		int vector;

		memset(g->ram + GUEST_TSS + BITMAP, 0xff, 0x100);
		guest_code(g, SEGMENT * 16, r->code, sizeof(r->code));
		vector = guest_run_to_hlt(g);
		if (vector != r->vector)
			print_error("%s: vector %d\n", r->name, vector);
		assert_int_equal(vector, r->vector);
		f = frame_of(g, vector);
		if (f.flags != (VM | 2 | r->after) || f.ip != r->ip || f.sp != SP + (unsigned)r->sp)
			print_error("%s: flags %#x, ip %#x, sp %#x\n", r->name, f.flags, f.ip, f.sp);
		assert_int_equal(f.flags, VM | 2 | r->after);
		assert_int_equal(f.ip, r->ip);
		assert_int_equal(f.cs, SEGMENT);
		assert_int_equal(f.error, 0);
		assert_int_equal(f.sp, SP + (unsigned)r->sp);
		if (r->pushed != 0)
			assert_int_equal(guest_read(g, SEGMENT * 16 + SP - 2, 2), r->pushed);
		guest_free(g);
	}
}

/* INT 21h by the program's own vector: FLAGS, CS and IP on its own stack. */
static void test_v86_interrupt_redirection(void **state)
{
	static const struct {
		uint32_t flags, pushed, after;
	} rows[] = {
		{ IF | VIF, IF | IOPL | 2, IF },
		{ IF, IOPL | 2, IF },
		{ IOPL | IF | VIF, IOPL | IF | 2, IOPL | VIF },
		{ IF | NT | AC, IOPL | NT | 2, IF | NT | AC },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct guest *g = v86_guest(rows[i].flags, VME);
		struct frame f;

		GUEST_CODE_BYTES(g, SEGMENT * 16, 0xcd, 0x21);
		assert_int_equal(guest_run_to_hlt(g), 6);
		f = frame_of(g, 6);
		assert_int_equal(f.cs, OTHER);
		assert_int_equal(f.ip, 0x210);
		assert_int_equal(f.flags, VM | 2 | rows[i].after);
		assert_int_equal(f.sp, SP - 6);
		assert_int_equal(guest_read(g, SEGMENT * 16 + SP - 2, 2), rows[i].pushed);
		assert_int_equal(guest_read(g, SEGMENT * 16 + SP - 4, 2), SEGMENT);
		assert_int_equal(guest_read(g, SEGMENT * 16 + SP - 6, 2), 2);
		guest_free(g);
	}
}

/* A set bit, and a bitmap that the TSS does not have. */
static void test_v86_interrupts_of_the_monitor(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = v86_guest(i & 1 ? IOPL : 0, VME);
		int vector;

		GUEST_CODE_BYTES(g, SEGMENT * 16, 0xcd, 0x21);
		if (i < 2)
			guest_write(g, GUEST_TSS + BITMAP - 32 + 0x21 / 8, 1, 1u << 0x21 % 8);
		else
			guest_write(g, GUEST_TSS + 102, 2, 0x7000);
		vector = guest_run_to_hlt(g);
		assert_int_equal(vector, i == 1 ? 0x21 : 13);
		assert_int_equal(frame_of(g, vector).ip, vector == 13 ? 0 : 2);
		guest_free(g);
	}
}

/* IRET inside the program. */
static void test_v86_iret(void **state)
{
	static const struct {
		uint32_t flags, image, after;
		bool wide, good;
		uint64_t cr4;
	} rows[] = {
		{ 0, IF | NT, VIF | NT, false, true, VME },
		{ IF | VIF, 0, IF, false, true, VME },
		{ VIP, IF, 0, false, false, VME },
		{ 0, TF, 0, false, false, VME },
		{ 0, IF, 0, false, false, 0 },
		{ 0, IF, 0, true, false, VME },
		{ IOPL, IF | AC, IOPL | IF | AC, true, true, 0 },
		{ IOPL, IF, IOPL | IF, false, true, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct guest *g = v86_guest(rows[i].flags, rows[i].cr4);
		unsigned size = rows[i].wide ? 4 : 2;
		uint64_t at = SEGMENT * 16 + SP;
		struct frame f;
		int vector;

		if (rows[i].wide)
			GUEST_CODE_BYTES(g, SEGMENT * 16, 0x66, 0xcf);
		else
			GUEST_CODE_BYTES(g, SEGMENT * 16, 0xcf);
		guest_write(g, at, size, 0x210);
		guest_write(g, at + size, size, OTHER);
		guest_write(g, at + 2 * size, size, rows[i].image);
		vector = guest_run_to_hlt(g);
		assert_int_equal(vector, rows[i].good ? 6 : 13);
		f = frame_of(g, vector);
		assert_int_equal(f.cs, rows[i].good ? OTHER : SEGMENT);
		assert_int_equal(f.sp, rows[i].good ? SP + 3 * size : SP);
		if (rows[i].good)
			assert_int_equal(f.flags, VM | 2 | rows[i].after);
		guest_free(g);
	}
}

/* CLI and STI at level 3 of protected mode. */
static void test_protected_virtual_interrupts(void **state)
{
	static const struct {
		uint8_t code;
		uint32_t flags, after;
		uint64_t cr4;
		int vector;
	} rows[] = {
		{ 0xfb, 0, VIF, PVI, 6 },
		{ 0xfa, IF | VIF, IF, PVI, 6 },
		{ 0xfb, VIP, VIP, PVI, 13 },
		{ 0xfb, 0, 0, VME, 13 },
		{ 0xfa, VIF, VIF, 0, 13 },
		{ 0xfb, IOPL | VIP, IOPL | IF | VIP, PVI, 6 },
		{ 0x9d, 0, 0, PVI, 6 }, /* POPF leaves VIF alone */
	};

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_64 = i & 1;
		struct guest *g = guest_make();
		struct cpu_state *s = cpu_state(g->cpu);
		uint64_t at;

		if (is_64)
			guest_long(g);
		else
			guest_protected(g);
		s->seg[CPU_CS].selector = is_64 ? SEL_UCODE64 : SEL_UCODE32;
		s->seg[CPU_SS].selector = SEL_UDATA;
		s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 3;
		s->cr4 |= rows[i / 2].cr4;
		s->rflags = 2 | rows[i / 2].flags;
		s->rip = GUEST_USER_CODE;
		s->gpr[CPU_RSP] = GUEST_USER_CODE + 0x1000;
		guest_write(g, s->gpr[CPU_RSP], 8, IF | 2);
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		GUEST_CODE_BYTES(g, GUEST_USER_CODE, rows[i / 2].code, 0x0f, 0x0b);
		assert_int_equal(guest_run_to_hlt(g), rows[i / 2].vector);
		at = s->gpr[CPU_RSP] + (is_64 ? 16 : 8) + (rows[i / 2].vector == 13 ? is_64 ? 8 : 4 : 0);
		assert_int_equal(guest_read(g, at, 4) & ~RF, 2 | rows[i / 2].after);
		guest_free(g);
	}
}

/* IRET of the monitor loads VIF and VIP, and comes back by an event with them. */
static void test_v86_begin_and_end(void **state)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);
	const uint32_t words[] = {
		0x10, SEGMENT, VM | IF | VIF | VIP | ID | 2, SP, SEGMENT, OTHER + 1, OTHER + 2, OTHER + 3, OTHER + 4,
	};
	uint64_t at;

	(void)state;
	guest_protected(g);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0xcf);
	GUEST_CODE_BYTES(g, SEGMENT * 16 + 0x10, 0x0f, 0x0b);
	for (unsigned i = 0; i < 9; i++)
		guest_write(g, GUEST_STACK - 36 + 4 * i, 4, words[i]);
	s->gpr[CPU_RSP] = GUEST_STACK - 36;
	assert_int_equal(guest_run_to_hlt(g), 6);
	at = SP0 - 36;
	assert_int_equal(s->gpr[CPU_RSP], at);
	for (unsigned i = 0; i < 9; i++) {
		uint32_t word = (uint32_t)guest_read(g, at + 4 * i, 4);

		/* EIP CS EFLAGS ESP SS ES DS FS GS */
		assert_int_equal(i == 2 ? word & ~RF : word, words[i]);
	}
	assert_int_equal(s->rflags & (VM | VIF | VIP | IF), VIF | VIP);
	assert_true(s->seg[CPU_DS].unusable && s->seg[CPU_GS].unusable);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v86_flags),
		cmocka_unit_test(test_v86_interrupt_redirection),
		cmocka_unit_test(test_v86_interrupts_of_the_monitor),
		cmocka_unit_test(test_v86_iret),
		cmocka_unit_test(test_protected_virtual_interrupts),
		cmocka_unit_test(test_v86_begin_and_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
