/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches (SDM vol. 3, 8.2 to 8.6; APM vol. 2, 12.2 and 12.3): what they save and load, what they raise,
 * and where.
 *
 * Nothing is mapped in the second stage when a test begins, so that each access of a task switch is interrupted once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define SEL_NEW   0x70u /* an available 32-bit TSS */
#define SEL_GATE  0x78u /* a task gate to it */
#define SEL_NEW16 0x80u /* an available 16-bit TSS */
#define SEL_LDT   0x88u
#define SEL_UGATE 0x90u /* a task gate of level 3 */
#define NEW       0x30000u /* the TSS; everything of it and of the stack in pages of its own */
#define NEW16     0x32000u
#define LDT       0x34000u
#define NEW_CODE  0x36000u
#define NEW_STACK 0x38800u
#define NEW_SP0   0x3a800u
#define TABLES    0x3c000u /* page tables of 32-bit paging: a directory and a table */

#define NT   0x4000u
#define TS   8u
#define BUSY 2u

static struct cpu_state *regs(struct guest *g)
{
	return cpu_state(g->cpu);
}

static void word32(struct guest *g, unsigned offset, uint32_t value)
{
	guest_write(g, NEW + offset, 4, value);
}

/* TSS fields of 32 bits: 32 EIP, 36 EFLAGS, 40 EAX ..., 72 ES CS SS DS FS GS LDTR, 100 T. */
static void new_tss(struct guest *g)
{
	const uint32_t selectors[] = { SEL_DATA, SEL_CODE32, SEL_DATA, SEL_DATA, 0, 0, 0 };

	memset(g->ram + NEW, 0, 104);
	word32(g, 0, 0x5555);
	word32(g, 4, NEW_SP0);
	word32(g, 8, SEL_DATA);
	word32(g, 32, NEW_CODE);
	word32(g, 36, 0x46);
	for (unsigned i = 0; i < 8; i++)
		word32(g, 40 + 4 * i, i == CPU_RSP ? NEW_STACK : 0x11111111 * (i + 1));
	for (unsigned i = 0; i < 7; i++)
		word32(g, 72 + 4 * i, selectors[i]);
}

static void new_tss_16(struct guest *g)
{
	uint16_t image[22] = { 0x5555, 0, 0, 0, 0, 0, 0, 0x6000, 0x82 };

	for (unsigned i = 0; i < 8; i++)
		image[9 + i] = (uint16_t)(0x1111 * (i + 1));
	image[17] = image[19] = image[20] = SEL_DATA;
	image[18] = SEL_CODE32;
	guest_code(g, NEW16, image, sizeof(image));
}

static struct guest *task_guest(void)
{
	struct guest *g = guest_make();

	guest_protected(g);
	guest_write(g, GUEST_GDT + SEL_NEW, 8, UINT64_C(0x0000890000000067) | (uint64_t)NEW << 16);
	guest_write(g, GUEST_GDT + SEL_GATE, 8, UINT64_C(0x0000850000000000) | (uint64_t)SEL_NEW << 16);
	guest_write(g, GUEST_GDT + SEL_UGATE, 8, UINT64_C(0x0000e50000000000) | (uint64_t)SEL_NEW << 16);
	guest_write(g, GUEST_GDT + SEL_NEW16, 8, UINT64_C(0x000081000000002b) | (uint64_t)NEW16 << 16);
	guest_write(g, GUEST_GDT + SEL_LDT, 8, UINT64_C(0x0000820000000007) | (uint64_t)LDT << 16);
	guest_write(g, LDT, 8, UINT64_C(0x00cf92000000ffff)); /* data, flat */
	guest_write(g, GUEST_GDT + SEL_TSS + 5, 1, 0x8b); /* TR is loaded, so it is busy */
	regs(g)->gdt.limit = 0x97;
	new_tss(g);
	new_tss_16(g);
	for (unsigned i = 0; i < 8; i++)
		if (i != CPU_RSP)
			regs(g)->gpr[i] = 0x01010101 * (i + 1);
	regs(g)->dr[7] = 0x7ff & ~UINT64_C(0xff); /* LE, GE */
	regs(g)->rflags = 0x883;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	GUEST_CODE_BYTES(g, NEW_CODE, 0xf4);
	return g;
}

/* JMP (0xea) or CALL (0x9a) to a selector, and then a HLT. */
static void far_code(struct guest *g, unsigned opcode, unsigned selector)
{
	GUEST_CODE_BYTES(g, GUEST_CODE, (uint8_t)opcode, 0, 0, 0, 0, (uint8_t)selector, 0, 0xf4);
}

static int run(struct guest *g)
{
	guest_unmap_all(g);
	return guest_run_to_hlt(g);
}

static unsigned type_of(struct guest *g, unsigned selector)
{
	return (unsigned)guest_read(g, GUEST_GDT + selector + 5, 1) & 15;
}

/* The old task as its TSS has it, when it goes on at `rip`. */
static void assert_saved(struct guest *g, unsigned rip)
{
	static const uint16_t selectors[] = { SEL_DATA, SEL_CODE32, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA };

	assert_int_equal(guest_read(g, GUEST_TSS + 28, 4), 0); /* CR3 is not saved */
	assert_int_equal(guest_read(g, GUEST_TSS + 32, 4), rip);
	assert_int_equal(guest_read(g, GUEST_TSS + 36, 4), 0x883);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(guest_read(g, GUEST_TSS + 40 + 4 * i, 4),
		                 i == CPU_RSP ? GUEST_STACK : 0x01010101 * (i + 1));
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(guest_read(g, GUEST_TSS + 72 + 4 * i, 4), selectors[i]);
}

/* The new task, at the HLT of its first instruction. */
static void assert_loaded(struct guest *g, bool nested)
{
	struct cpu_state *s = regs(g);

	assert_int_equal(s->rip, NEW_CODE + 1);
	assert_int_equal(s->rflags, 0x46 | (nested ? NT : 0));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(s->gpr[i], i == CPU_RSP ? NEW_STACK : 0x11111111 * (i + 1));
	assert_int_equal(s->seg[CPU_TR].selector, SEL_NEW);
	assert_int_equal(s->seg[CPU_TR].base, NEW);
	assert_int_equal(s->seg[CPU_TR].type, 11);
	assert_int_equal(s->seg[CPU_CS].selector, SEL_CODE32);
	assert_int_equal(s->seg[CPU_CS].limit, 0xffffffff);
	assert_int_equal(s->seg[CPU_DS].selector, SEL_DATA);
	assert_int_equal(s->seg[CPU_FS].unusable, 1);
	assert_int_equal(s->cr0 & TS, TS);
	assert_int_equal(s->dr[7], 0x600); /* local breakpoints are off */
	assert_int_equal(type_of(g, SEL_NEW), 11);
	assert_int_equal(guest_read(g, NEW, 2), nested ? SEL_TSS : 0x5555);
}

static void test_task_jump_and_call(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = task_guest();
		bool call = i & 1;

		far_code(g, call ? 0x9a : 0xea, i & 2 ? SEL_GATE : SEL_NEW);
		assert_int_equal(run(g), -1);
		assert_saved(g, GUEST_CODE + 7);
		assert_loaded(g, call);
		assert_int_equal(type_of(g, SEL_TSS), call ? 11 : 9);
		guest_free(g);
	}
}

/* IRET goes back, and a second call goes on behind the IRET. */
static void test_task_call_and_return(void **state)
{
	struct guest *g = task_guest();

	(void)state;
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x9a, 0, 0, 0, 0, SEL_NEW, 0, 0x9a, 0, 0, 0, 0, SEL_NEW, 0, 0xf4);
	GUEST_CODE_BYTES(g, NEW_CODE, 0x40 /* inc %eax */, 0xcf, 0x40, 0xf4);
	assert_int_equal(run(g), -1);
	assert_int_equal(regs(g)->rip, NEW_CODE + 4);
	assert_int_equal(regs(g)->gpr[CPU_RAX], 0x11111113);
	assert_int_equal(guest_read(g, GUEST_TSS + 32, 4), GUEST_CODE + 14);
	assert_int_equal(guest_read(g, GUEST_TSS + 36, 4), 0x883);
	GUEST_CODE_BYTES(g, NEW_CODE + 4, 0xcf);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(regs(g)->rip, GUEST_CODE + 15);
	assert_int_equal(regs(g)->rflags, 0x883);
	assert_int_equal(regs(g)->gpr[CPU_RBX], 0x04040404);
	assert_int_equal(type_of(g, SEL_NEW), 9);
	assert_int_equal(type_of(g, SEL_TSS), 11);
	assert_int_equal(guest_read(g, NEW + 36, 4) & NT, 0); /* IRET clears NT in what it saves */
	assert_int_equal(guest_read(g, NEW + 32, 4), NEW_CODE + 5);
	guest_free(g);
}

static void test_task_16_bit_tss(void **state)
{
	struct guest *g = task_guest();
	struct cpu_state *s = regs(g);

	(void)state;
	far_code(g, 0x9a, SEL_NEW16);
	GUEST_CODE_BYTES(g, 0x6000, 0xf4, 0xcf); /* the handler of this task would go back */
	assert_int_equal(run(g), -1);
	assert_saved(g, GUEST_CODE + 7);
	assert_int_equal(s->rip, 0x6001);
	assert_int_equal(s->rflags, 0x82 | NT);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(s->gpr[i], 0x1111 * (i + 1));
	for (unsigned i = CPU_FS; i <= CPU_GS; i++) {
		assert_int_equal(s->seg[i].unusable, 1);
		assert_int_equal(s->seg[i].selector, 0);
		assert_int_equal(s->seg[i].base, 0);
	}
	assert_int_equal(s->seg[CPU_TR].type, 3);
	s->gpr[CPU_RBX] = 0xabcd4321;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->rip, GUEST_CODE + 8);
	assert_int_equal(s->gpr[CPU_RBX], 0x04040404);
	assert_int_equal(s->seg[CPU_FS].selector, SEL_DATA);
	assert_int_equal(guest_read(g, NEW16 + 14, 2), 0x6002);
	assert_int_equal(guest_read(g, NEW16 + 24, 2), 0x4321);
	assert_int_equal(guest_read(g, NEW16 + 36, 2), SEL_CODE32);
	assert_int_equal(type_of(g, SEL_NEW16), 1);
	guest_free(g);
}

/* ---- events ---------------------------------------------------------------------------------------------- */

static void task_gate(struct guest *g, unsigned vector, unsigned selector)
{
	guest_write(g, GUEST_IDT + 8 * vector, 8, UINT64_C(0x0000850000000000) | (uint64_t)selector << 16);
}

static void test_task_by_events(void **state)
{
	static const struct {
		uint8_t code[2];
		unsigned vector, rip, flags;
		bool has_error;
	} events[] = {
		{ { 0x0f, 0x0b }, 6, 0, 0x10000, false },    /* UD2; a fault saves RF */
		{ { 0x8e, 0xd8 }, 13, 0, 0x10000, true },    /* MOV DS */
		{ { 0xcd, 0x21 }, 0x21, 2, 0, false },       /* INT n */
		{ { 0xcc, 0x90 }, 3, 1, 0, false },          /* INT3 */
		{ { 0x90, 0x90 }, 0x40, 0, 0, false },       /* an interrupt */
		{ { 0x90, 0x90 }, 2, 0, 0, false },          /* an NMI */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct guest *g = task_guest();
		struct cpu_state *s = regs(g);

		guest_code(g, GUEST_CODE, events[i].code, 2);
		GUEST_CODE_BYTES(g, GUEST_CODE + 2, 0xf4);
		GUEST_CODE_BYTES(g, NEW_CODE, 0xf4, 0x83, 0xc4, events[i].has_error ? 4 : 0, 0xcf);
		task_gate(g, events[i].vector, SEL_NEW);
		s->gpr[CPU_RAX] = 0xabe9; /* outside the GDT */
		if (events[i].vector == 0x40)
			s->events.interrupt.injected = true;
		s->events.interrupt.vector = 0x40;
		s->events.nmi.pending = events[i].vector == 2;
		assert_int_equal(run(g), -1);
		assert_int_equal(s->rip, NEW_CODE + 1);
		assert_int_equal(s->rflags, 0x46 | NT);
		assert_int_equal(guest_read(g, GUEST_TSS + 32, 4), GUEST_CODE + events[i].rip);
		assert_int_equal(guest_read(g, GUEST_TSS + 36, 4), 0x883 | events[i].flags);
		assert_int_equal(s->gpr[CPU_RSP], NEW_STACK - (events[i].has_error ? 4 : 0));
		if (events[i].has_error)
			assert_int_equal(guest_read(g, NEW_STACK - 4, 4), 0xabe8);
		assert_int_equal(s->events.nmi.masked, events[i].vector == 2);
		assert_false(s->events.interrupt.injected || s->events.exception.pending || s->events.nmi.injected);
		/* And back. A fault's instruction is another one by then. */
		GUEST_CODE_BYTES(g, GUEST_CODE, 0x90, 0x90);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(s->rip, GUEST_CODE + 3);
		assert_false(s->events.nmi.masked);
		guest_free(g);
	}
}

/* Soft events ask the gate's DPL. */
static void test_task_gate_levels(void **state)
{
	static const struct {
		uint8_t code[8];
		int vector;
		unsigned error;
	} cases[] = {
		{ { 0xcd, 0x21 }, 13, 0x21 * 8 + 2 },
		{ { 0xea, 0, 0, 0, 0, SEL_GATE, 0 }, 13, SEL_GATE },
		{ { 0xea, 0, 0, 0, 0, SEL_NEW, 0 }, 13, SEL_NEW },
		{ { 0xea, 0, 0, 0, 0, SEL_UGATE, 0 }, -1, 0 }, /* the TSS's own level is not asked */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest *g = task_guest();
		struct cpu_state *s = regs(g);

		guest_code(g, GUEST_USER_CODE, cases[i].code, 8);
		task_gate(g, 0x21, SEL_NEW);
		s->seg[CPU_CS].selector = SEL_UCODE32;
		s->seg[CPU_SS].selector = SEL_UDATA;
		s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 3;
		s->rip = GUEST_USER_CODE;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		assert_int_equal(run(g), cases[i].vector);
		if (cases[i].vector == 13)
			assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 4), cases[i].error);
		guest_free(g);
	}
}

/* ---- what is wrong ----------------------------------------------------------------------------------------- */

/* At level 3 the new task has no HLT. What it raises is seen on the stack of level 0. */
static void user_task(struct guest *g)
{
	const uint32_t selectors[] = { SEL_UDATA, SEL_UCODE32, SEL_UDATA, SEL_UDATA, 0, 0, 0 };

	for (unsigned i = 0; i < 7; i++)
		word32(g, 72 + 4 * i, selectors[i]);
	GUEST_CODE_BYTES(g, NEW_CODE, 0x0f, 0x0b);
}

struct wrong {
	const char *name;
	unsigned at, size;
	uint32_t value;
	int vector;
	uint32_t error;
	bool is_new; /* raised in the new task */
};

static const struct wrong wrong[] = {
	{ "nothing", 0, 1, 0, 6, 0, true },
	{ "TSS not present", GUEST_GDT + SEL_NEW + 5, 1, 0x09, 11, SEL_NEW, false },
	{ "TSS too short", GUEST_GDT + SEL_NEW, 1, 0x66, 10, SEL_NEW, false },
	{ "TSS busy", GUEST_GDT + SEL_NEW + 5, 1, 0x8b, 13, SEL_NEW, false },
	{ "gate not present", GUEST_GDT + SEL_GATE + 5, 1, 0x05, 11, SEL_GATE, false },
	{ "gate to an LDT's selector", GUEST_GDT + SEL_GATE + 2, 1, SEL_NEW | 4, 13, SEL_NEW | 4, false },
	{ "gate to no TSS", GUEST_GDT + SEL_GATE + 2, 1, SEL_DATA, 13, SEL_DATA, false },
	{ "LDT is none", NEW + 96, 2, SEL_DATA, 10, SEL_DATA, true },
	{ "LDT outside", NEW + 96, 2, 0x1238, 10, 0x1238, true },
	{ "LDT in itself", NEW + 96, 2, SEL_LDT | 4, 10, SEL_LDT | 4, true },
	{ "LDT not present", GUEST_GDT + SEL_LDT + 5, 1, 0x02, 10, SEL_LDT, true },
	{ "CS null", NEW + 76, 2, 3, 10, 0, true },
	{ "CS is data", NEW + 76, 2, SEL_UDATA, 10, SEL_UDATA & ~3u, true },
	{ "CS of another level", NEW + 76, 2, SEL_CODE32 | 3, 10, SEL_CODE32, true },
	{ "CS outside", NEW + 76, 2, 0x123b, 10, 0x1238, true },
	{ "CS not present", GUEST_GDT + (SEL_UCODE32 & ~7u) + 5, 1, 0x7a, 11, SEL_UCODE32 & ~3u, true },
	{ "SS null", NEW + 80, 2, 0, 10, 0, true },
	{ "SS of another level", NEW + 80, 2, SEL_DATA, 10, SEL_DATA, true },
	{ "SS with RPL 0", NEW + 80, 2, SEL_UDATA & ~3u, 10, SEL_UDATA & ~3u, true },
	{ "SS not writable", GUEST_GDT + (SEL_UDATA & ~7u) + 5, 1, 0xf0, 10, SEL_UDATA & ~3u, true },
	{ "SS not present", GUEST_GDT + (SEL_UDATA & ~7u) + 5, 1, 0x72, 12, SEL_UDATA & ~3u, true },
	{ "DS of level 0", NEW + 84, 2, SEL_DATA, 10, SEL_DATA, true },
	{ "ES outside", NEW + 72, 2, 0x1238, 10, 0x1238, true },
	{ "FS is a system segment", NEW + 88, 2, SEL_LDT, 10, SEL_LDT, true },
	{ "GS not present", NEW + 92, 2, 0x98 | 3, 11, 0x98, true },
	{ "EIP outside CS", GUEST_GDT + (SEL_UCODE32 & ~7u) + 6, 1, 0x40, 13, 0, true },
};

static void assert_raised(struct guest *g, const struct wrong *w, bool call)
{
	uint64_t sp = regs(g)->gpr[CPU_RSP], rip = guest_read(g, sp + (w->vector == 6 ? 0 : 4), 4);

	if (w->vector != 6)
		assert_int_equal(guest_read(g, sp, 4), w->error);
	assert_int_equal(rip, w->is_new ? NEW_CODE : GUEST_CODE);
	assert_int_equal(regs(g)->seg[CPU_TR].selector, w->is_new ? SEL_NEW : SEL_TSS);
	assert_int_equal(type_of(g, SEL_TSS), w->is_new && !call ? 9 : 11);
	if (!w->is_new && w->at != GUEST_GDT + SEL_NEW + 5)
		assert_int_equal(type_of(g, SEL_NEW), 9);
}

static void test_task_switches_that_fail(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct wrong *w = &wrong[i / 2];
		struct guest *g = task_guest();
		bool call = i & 1;
		int vector;

		user_task(g);
		guest_write(g, GUEST_GDT + 0x98, 8, UINT64_C(0x00cf72000000ffff)); /* data of level 3, not present */
		regs(g)->gdt.limit = 0x9f;
		word32(g, 96, w->at == GUEST_GDT + SEL_LDT + 5 ? SEL_LDT : 0);
		if (w->at != 0)
			guest_write(g, w->at, w->size, w->value);
		far_code(g, call ? 0x9a : 0xea, SEL_GATE);
		vector = run(g);
		if (vector != w->vector)
			print_error("%s: vector %d\n", w->name, vector);
		assert_int_equal(vector, w->vector);
		assert_raised(g, w, call);
		guest_free(g);
	}
}

/* The old TSS is too short to be written; and IRET with a link that leads to no busy TSS. */
static void test_task_old_tss(void **state)
{
	static const uint16_t links[] = { SEL_NEW, SEL_DATA, 0, 0x1230, SEL_NEW | 4 };
	struct guest *g = task_guest();

	(void)state;
	regs(g)->seg[CPU_TR].limit = 0x66;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	far_code(g, 0xea, SEL_NEW);
	assert_int_equal(run(g), 10);
	assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), SEL_TSS);
	guest_free(g);
	for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		g = task_guest();
		guest_write(g, GUEST_TSS, 2, links[i]);
		regs(g)->rflags |= NT;
		GUEST_CODE_BYTES(g, GUEST_CODE, 0xcf);
		assert_int_equal(run(g), 10);
		assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), links[i]);
		guest_free(g);
	}
}

/* A fault during a delivery through a task gate meets the first one; an interrupt's has EXT in its error code. */
static void test_task_faults_of_deliveries(void **state)
{
	struct guest *g = task_guest();

	(void)state;
	task_gate(g, 13, SEL_NEW);
	guest_write(g, GUEST_GDT + SEL_NEW, 1, 0x66);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8e, 0xd8);
	assert_int_equal(run(g), 8);
	guest_free(g);
	/* The second half of the switch is still the delivery. */
	g = task_guest();
	user_task(g);
	word32(g, 84, SEL_DATA);
	task_gate(g, 13, SEL_NEW);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8e, 0xd8);
	assert_int_equal(run(g), 8);
	assert_int_equal(regs(g)->seg[CPU_TR].selector, SEL_NEW);
	guest_free(g);
	for (unsigned i = 0; i < 2; i++) {
		g = task_guest();
		user_task(g);
		task_gate(g, 0x40, SEL_NEW);
		if (i == 0)
			guest_write(g, GUEST_GDT + SEL_NEW, 1, 0x66);
		else
			word32(g, 84, SEL_DATA);
		GUEST_CODE_BYTES(g, GUEST_CODE, 0x90);
		regs(g)->events.interrupt.injected = true;
		regs(g)->events.interrupt.vector = 0x40;
		assert_int_equal(run(g), 10);
		assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), (i == 0 ? SEL_NEW : SEL_DATA) | 1);
		guest_free(g);
	}
}

/* ---- paging, virtual-8086 mode, debugging -------------------------------------------------------------- */

/* 32-bit paging: 4 MiB, identity. The new task has tables of its own, in which `hole` is not mapped. */
static void paging(struct guest *g, unsigned hole, unsigned hole_new)
{
	for (unsigned t = 0; t < 2; t++) {
		unsigned directory = TABLES + 0x2000 * t, table = directory + 0x1000;

		guest_write(g, directory, 4, table | 7);
		guest_write(g, directory + 4, 4, 0x400000 | 0x87);
		for (unsigned i = 0; i < 1024; i++)
			guest_write(g, table + 4 * i, 4, i << 12 | ((i << 12) == (t == 0 ? hole : hole_new) ? 6 : 7));
	}
	word32(g, 28, TABLES + 0x2000);
	regs(g)->cr3 = TABLES;
	regs(g)->cr4 = 0x10;
	regs(g)->cr0 |= UINT64_C(1) << 31;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

static void test_task_page_faults(void **state)
{
	static const struct {
		unsigned hole, hole_new;
		int vector;
		uint64_t cr2;
		uint32_t error;
		bool is_new;
	} cases[] = {
		{ 1, 1, 6, 0, 0, true },
		{ NEW, 1, 14, NEW + 32, 0, false },
		{ GUEST_TSS, 1, 14, GUEST_TSS + 32, 2, false },
		{ 1, LDT, 14, LDT, 0, true },          /* the descriptor of DS */
		{ 1, NEW_CODE, 14, NEW_CODE, 4, true }, /* the first instruction */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest *g = task_guest();
		struct cpu_state *s = regs(g);
		uint64_t sp;

		user_task(g);
		guest_write(g, LDT, 8, UINT64_C(0x00cff2000000ffff));
		word32(g, 84, 7);
		word32(g, 96, SEL_LDT);
		paging(g, cases[i].hole, cases[i].hole_new);
		far_code(g, 0x9a, SEL_NEW);
		assert_int_equal(run(g), cases[i].vector);
		assert_int_equal(s->cr3, cases[i].is_new ? TABLES + 0x2000 : TABLES);
		assert_int_equal(type_of(g, SEL_NEW), cases[i].is_new ? 11 : 9);
		sp = s->gpr[CPU_RSP];
		if (cases[i].vector == 14) {
			assert_int_equal(s->cr2, cases[i].cr2);
			assert_int_equal(guest_read(g, sp, 4), cases[i].error);
			sp += 4;
		}
		assert_int_equal(guest_read(g, sp, 4), cases[i].is_new ? NEW_CODE : GUEST_CODE);
		guest_free(g);
	}
}

static void test_task_in_virtual_8086_mode(void **state)
{
	struct guest *g = task_guest();
	struct cpu_state *s = regs(g);

	(void)state;
	word32(g, 36, 0x20002);
	word32(g, 32, 0x10);
	for (unsigned i = 0; i < 6; i++)
		word32(g, 72 + 4 * i, 0x3000 + i * 0x10);
	GUEST_CODE_BYTES(g, 0x30110, 0x0f, 0x0b);
	far_code(g, 0xea, SEL_NEW);
	assert_int_equal(run(g), 6);
	assert_int_equal(s->gpr[CPU_RSP], NEW_SP0 - 36);
	assert_int_equal(guest_read(g, NEW_SP0 - 36, 4), 0x10);
	assert_int_equal(guest_read(g, NEW_SP0 - 32, 4), 0x3010);
	assert_int_equal(guest_read(g, NEW_SP0 - 28, 4), 0x30002);
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned order[] = { 0, 3, 4, 5 }; /* ES DS FS GS */

		assert_int_equal(guest_read(g, NEW_SP0 - 16 + 4 * i, 4), 0x3000 + order[i] * 0x10);
	}
	guest_free(g);
}

/* The T bit traps before the new task's first instruction, TF in its EFLAGS behind it; the old task's TF never. */
static void test_task_debug_traps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = task_guest();
		bool t_bit = i & 1, tf = i & 2;

		word32(g, 100, t_bit);
		word32(g, 36, tf ? 0x102 : 2);
		GUEST_CODE_BYTES(g, NEW_CODE, 0x90, 0xf4);
		far_code(g, 0xea, SEL_NEW);
		regs(g)->rflags |= 0x100;
		assert_int_equal(run(g), t_bit || tf ? 1 : -1);
		if (t_bit || tf) {
			assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), NEW_CODE + (t_bit ? 0 : 1));
			assert_int_equal(regs(g)->dr[6] ^ 0xffff0ff0, t_bit ? 0x8000 : 0x4000);
		}
		guest_free(g);
	}
}

/* Local breakpoints of the old task are off in the new one; global ones hit, also those that the switch itself hits. */
static void test_task_breakpoints(void **state)
{
	struct guest *g = task_guest();
	struct cpu_state *s = regs(g);

	(void)state;
	s->dr[0] = NEW_CODE;
	s->dr[1] = GUEST_TSS + 32; /* EIP of the old task is written */
	s->dr[7] = 0x400 | 1 | 8 | 0xd << 20;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	far_code(g, 0xea, SEL_NEW);
	assert_int_equal(run(g), 1);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 4), NEW_CODE);
	assert_int_equal(s->dr[6] ^ 0xffff0ff0, 2);
	assert_int_equal(s->dr[7] & 0xff, 8);
	guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_task_jump_and_call),
		cmocka_unit_test(test_task_call_and_return),
		cmocka_unit_test(test_task_16_bit_tss),
		cmocka_unit_test(test_task_by_events),
		cmocka_unit_test(test_task_gate_levels),
		cmocka_unit_test(test_task_switches_that_fail),
		cmocka_unit_test(test_task_old_tss),
		cmocka_unit_test(test_task_faults_of_deliveries),
		cmocka_unit_test(test_task_page_faults),
		cmocka_unit_test(test_task_in_virtual_8086_mode),
		cmocka_unit_test(test_task_debug_traps),
		cmocka_unit_test(test_task_breakpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
