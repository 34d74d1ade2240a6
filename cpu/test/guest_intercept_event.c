/* SPDX-License-Identifier: MIT */
/*
 * Intercepts of exceptions, alone and during the delivery of another event, and of task switches (APM vol. 2, 15.7,
 * 15.12 and 15.14.1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "nested.h"

/* ---- exceptions ---------------------------------------------------------------------------------------- */

static void exception_guest(struct guest *g)
{
	regs(g)->cr2 = 0xcccc;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL & ~CPU_CHANGED_SVM);
	memset(&nested_calls, 0, sizeof(nested_calls));
}

struct exception_row {
	const char *name;
	uint8_t bytes[8], len;
	unsigned vector, error;
	uint64_t info2;
	bool next;
	void (*prepare)(struct guest *g);
};

static void set_data(struct guest *g) { regs(g)->gpr[CPU_RAX] = SEL_DATA; }
static void set_rbx_0(struct guest *g) { regs(g)->gpr[CPU_RBX] = 0; }
static void set_ts(struct guest *g) { regs(g)->cr0 |= CR0_TS; }
static void set_absent(struct guest *g) { regs(g)->gpr[CPU_RAX] = SEL_ABSENT; }
static void set_outside(struct guest *g) { regs(g)->gpr[CPU_RAX] = 0x7fe9; }
static void set_not_canonical(struct guest *g) { regs(g)->gpr[CPU_RBX] = UINT64_C(1) << 60; }
static void set_no_page(struct guest *g) { *guest_pte(g, GUEST_DATA) = 0; }
static void set_read_only(struct guest *g) { *guest_pte(g, GUEST_DATA) &= ~UINT64_C(2); }
static void set_divide(struct guest *g)
{
	regs(g)->fx.mxcsr = 0x1d80; /* ZM clear */
	memset(regs(g)->vectors.v[1], 0, 16);
	memcpy(regs(g)->vectors.v[0], (const float[]){ 1.0f }, 4);
}
static void set_x87(struct guest *g)
{
	regs(g)->fx.fcw = 0x37b; /* ZM clear */
	regs(g)->fx.fsw = 0x8084; /* ZE, ES, B */
}
static void set_breakpoint(struct guest *g)
{
	regs(g)->dr[1] = GUEST_CODE;
	regs(g)->dr[7] |= 8;
}

static const struct exception_row exceptions[] = {
	{ "#DE", BYTES(0xf7, 0xf3), 0, 0, 0, false, set_rbx_0 },
	{ "#DB, instruction breakpoint", BYTES(0x90), 1, 0, 0, false, set_breakpoint },
	{ "#BP", BYTES(0xcc), 3, 0, 0, true, NULL },
	{ "#UD", BYTES(0x0f, 0x0b), 6, 0, 0, false, NULL },
	{ "#UD, no instruction", BYTES(0x06), 6, 0, 0, false, NULL },
	{ "#NM", BYTES(0xd9, 0xd0), 7, 0, 0, false, set_ts },
	{ "#NP", BYTES(0x8e, 0xd8), 11, SEL_ABSENT, 0, false, set_absent },
	{ "#SS", BYTES(0x8e, 0xd0), 12, SEL_ABSENT, 0, false, set_absent },
	{ "#GP, selector", BYTES(0x8e, 0xd8), 13, 0x7fe8, 0, false, set_outside },
	{ "#GP, address", BYTES(0x8b, 0x03), 13, 0, 0, false, set_not_canonical },
	{ "#GP, no LDT", BYTES(0x0f, 0x00, 0xd0), 13, SEL_DATA, 0, false, set_data },
	{ "#PF, read", BYTES(0x8b, 0x03), 14, 0, GUEST_DATA, false, set_no_page },
	{ "#PF, write", BYTES(0x89, 0x43, 0x10), 14, 2, GUEST_DATA + 16, false, set_no_page },
	{ "#PF, write, protection", BYTES(0x89, 0x43, 0x10), 14, 3, GUEST_DATA + 16, false, set_read_only },
	{ "#MF", BYTES(0x9b, 0xd9, 0xe8), 16, 0, 0, false, set_x87 },
	{ "#XM", BYTES(0xf3, 0x0f, 0x5e, 0xc1), 19, 0, 0, false, set_divide },
};

static void check_exception(const struct exception_row *r, bool on)
{
	struct guest *g = nested_make();
	uint64_t dr6;

	GUEST_CODE_BYTES(g, GUEST_CODE + r->len, 0xf4);
	guest_code(g, GUEST_CODE, r->bytes, r->len);
	if (r->prepare != NULL)
		r->prepare(g);
	exception_guest(g);
	nested_intercept(g, SVM_EXIT_EXCEPTION + r->vector, on);
	dr6 = regs(g)->dr[6];
	if (!on) {
		int vector = nested_run(g);

		if (vector != (int)r->vector)
			fail_msg("%s: vector %d", r->name, vector);
		guest_free(g);
		return;
	}
	nested_run(g);
	nested_exit(g, r->name, SVM_EXIT_EXCEPTION + r->vector, r->error, r->info2);
	assert_int_equal(regs(g)->rip, GUEST_CODE);
	assert_int_equal(nested_svm(g)->exit.next_rip, r->next ? GUEST_CODE + r->len : 0);
	assert_int_equal(nested_svm(g)->exit.int_info, 0);
	assert_int_equal(regs(g)->cr2, 0xcccc);
	assert_int_equal(regs(g)->dr[6], r->vector == 1 ? (dr6 & ~UINT64_C(15)) | 2 : dr6);
	assert_int_equal(nested_svm(g)->exit.fetched_count, r->vector == 14 ? 15 : 0);
	if (r->vector == 14)
		assert_memory_equal(nested_svm(g)->exit.fetched, g->ram + GUEST_CODE, 15);
	assert_int_equal(regs(g)->gpr[CPU_RSP], GUEST_STACK);
	assert_false(g->cpu->single);
	assert_false(regs(g)->events.exception.pending || regs(g)->events.exception.injected ||
	             regs(g)->events.exception.has_payload);
	guest_free(g);
}

static void test_exceptions(void **state)
{
	(void)state;
	cpu_signals_install(); /* for #XM */
	for (unsigned i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++) {
		check_exception(&exceptions[i], true);
		check_exception(&exceptions[i], false);
	}
}

/* A fetch that faults has no bytes, also where the first of them are there. */
static void test_fetch_fault(void **state)
{
	static const int offsets[] = { 8, 0, -2 };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct guest *g = nested_make();
		uint64_t at = GUEST_DATA + (uint64_t)(int64_t)offsets[i];

		GUEST_CODE_BYTES(g, GUEST_DATA - 2, 0x48, 0x8b);
		*guest_pte(g, GUEST_DATA) = 0;
		regs(g)->rip = at;
		nested_intercept(g, 0x4e, true);
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, "fetch", 0x4e, 0x10, offsets[i] < 0 ? GUEST_DATA : at);
		assert_int_equal(nested_svm(g)->exit.fetched_count, 0);
		assert_int_equal(regs(g)->rip, at);
		guest_free(g);
	}
}

/* What a device answered to the instruction is forgotten with it. */
static void test_exception_after_a_device(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, GUEST_CODE, 0xf7, 0x33, 0xf4); /* div (%rbx) */
	regs(g)->gpr[CPU_RBX] = GUEST_MMIO;
	nested_intercept(g, 0x40, true);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	memset(cpu_exit_info(g->cpu)->mmio.data, 0, 8);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "#DE", 0x40, 0, 0);
	assert_false(g->cpu->single || g->cpu->p->completing);
	assert_int_equal(g->cpu->p->armed_count + g->cpu->p->reads_count, 0);
}

/* Traps come behind the instruction, whose effects are there. */
static void test_debug_traps(void **state)
{
	static const uint8_t store[] = { 0x89, 0x03, 0xf4 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = nested_make();
		struct cpu_state *s = regs(g);

		guest_code(g, GUEST_CODE, store, sizeof(store));
		if (i < 2) {
			s->rflags |= RFLAGS_TF;
		} else {
			s->dr[0] = GUEST_DATA;
			s->dr[7] |= 0xd0001;
		}
		nested_intercept(g, 0x41, i % 2 == 0);
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL & ~CPU_CHANGED_SVM);
		if (i % 2 != 0) {
			assert_int_equal(nested_run(g), 1);
		} else {
			assert_int_equal(nested_run(g), -1);
			nested_exit(g, "trap", 0x41, 0, 0);
			assert_int_equal(s->rip, GUEST_CODE + 2);
			assert_false(g->cpu->single || g->cpu->p->step_trap);
			assert_int_equal(nested_svm(g)->exit.next_rip, 0);
			assert_int_equal(nested_svm(g)->exit.int_info, 0);
			assert_int_equal(guest_read(g, GUEST_DATA, 4), (uint32_t)s->gpr[CPU_RAX]);
			assert_int_equal(s->dr[6], 0xffff0ff0 | (i < 2 ? 0x4000 : 1));
		}
		guest_free(g);
	}
}

/* An instruction breakpoint comes before the intercept of its instruction. */
static void test_breakpoint_before_intercept(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0xa2);
	set_breakpoint(g);
	cpu_state_changed(g->cpu, CPU_CHANGED_DEBUG);
	nested_intercept(g, 0x41, true);
	nested_intercept(g, 0x72, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "breakpoint", 0x41, 0, 0);
}

/* 32-bit code: #OF and #BR are of instructions, whose next RIP is known. */
static void check_32(unsigned vector, const uint8_t *code, unsigned len, bool on)
{
	struct guest *g = guest_make();

	guest_protected(g);
	nested_begin(g);
	guest_code(g, GUEST_CODE, code, len);
	GUEST_CODE_BYTES(g, GUEST_CODE + len, 0xf4);
	guest_write(g, GUEST_DATA, 8, UINT64_C(0x200000001)); /* the bounds 1 and 2 */
	regs(g)->rflags |= RFLAGS_OF;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	nested_intercept(g, 0x40 + vector, on);
	if (on) {
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, "32-bit", 0x40 + vector, 0, 0);
		assert_int_equal(regs(g)->rip, GUEST_CODE);
		assert_int_equal(nested_svm(g)->exit.next_rip, GUEST_CODE + len);
	} else {
		assert_int_equal(nested_run(g), vector);
	}
	guest_free(g);
}

static void test_overflow_and_bound(void **state)
{
	static const uint8_t into[] = { 0xce }, bound[] = { 0x62, 0x03 };

	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		check_32(4, into, 1, on);
		check_32(5, bound, 2, on);
	}
}

/* ---- exceptions during delivery -------------------------------------------------------------------------- */

/* The gate of `vector` is not present: its delivery raises #NP with an error code that names the gate. */
static void break_gate(struct guest *g, unsigned vector)
{
	g->ram[GUEST_IDT + 16 * vector + 5] &= 0x7f;
}
/* EXT is set when an interrupt is delivered, not an exception (APM vol. 2, 8.4.1). */
#define GATE_ERROR(vector, external) ((vector) * 8 + 2 + (external))

static void test_second_exception(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct guest *g = nested_make();

		GUEST_CODE_BYTES(g, GUEST_CODE, 0x8e, 0xd8); /* #GP(0x7fe8) */
		set_outside(g);
		break_gate(g, 13);
		nested_intercept(g, 0x4b, i & 1);
		nested_intercept(g, 0x48, i & 2);
		if (i == 0) {
			assert_int_equal(nested_run(g), 8);
			guest_free(g);
			continue;
		}
		assert_int_equal(nested_run(g), -1);
		if (i & 1)
			nested_exit(g, "#NP", 0x4b, GATE_ERROR(13, 0), 0); /* before it becomes #DF */
		else
			nested_exit(g, "#DF", 0x48, 0, 0);
		assert_int_equal(nested_svm(g)->exit.int_info, UINT64_C(0x7fe880000b0d));
		assert_int_equal(regs(g)->rip, GUEST_CODE);
		assert_true(regs(g)->events.exception.pending);
		assert_int_equal(regs(g)->events.exception.vector, 13);
		guest_free(g);
	}
}

/* A #PF that becomes part of a #DF has written CR2, but for an intercepted one. */
static void test_page_fault_during_delivery(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct guest *g = nested_make();

		GUEST_CODE_BYTES(g, GUEST_CODE, 0x8b, 0x03); /* #PF */
		regs(g)->cr2 = 0xcccc;
		regs(g)->gpr[CPU_RSP] = GUEST_DATA + 0x1000;
		set_no_page(g);
		nested_intercept(g, i ? 0x48 : 0x4e, true);
		regs(g)->events.exception.injected = i == 0; /* the first one is #GP(0) where #PF is intercepted */
		regs(g)->events.exception.vector = 13;
		regs(g)->events.exception.has_error = i == 0;
		assert_int_equal(nested_run(g), -1);
		if (i == 0) {
			nested_exit(g, "#PF", 0x4e, 2, GUEST_DATA + 0xff8);
			assert_int_equal(nested_svm(g)->exit.int_info, 0x80000b0d);
			assert_int_equal(regs(g)->cr2, 0xcccc);
			assert_true(regs(g)->events.exception.injected);
			assert_false(regs(g)->events.exception.has_payload);
		} else {
			nested_exit(g, "#DF", 0x48, 0, 0);
			assert_int_equal(nested_svm(g)->exit.int_info, 0x80000b0e);
			assert_int_equal(regs(g)->cr2, GUEST_DATA + 0xff8);
		}
		guest_free(g);
	}
}

/* What is on its way by the owner or the hypervisor: it is not asked about, but named. */
static void test_injected_events(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		static const unsigned vectors[] = { 0x21, 2, 13, 0x21, 3, 0x21 };
		static const uint64_t infos[] = {
			0x80000021, 0x80000202, UINT64_C(0x1880000b0d), 0x80000421, 0x80000303, 0x80000421,
		};
		struct guest *g = nested_make();
		struct cpu_events *e = &regs(g)->events;

		break_gate(g, vectors[i]);
		switch (i) {
		case 0: e->interrupt.injected = true; e->interrupt.vector = 0x21; break;
		case 1: e->nmi.injected = true; break;
		case 2:
			e->exception.injected = e->exception.has_error = true;
			e->exception.vector = 13;
			e->exception.error = 0x18;
			break;
		case 3: GUEST_CODE_BYTES(g, GUEST_CODE, 0xcd, 0x21); break;
		case 4: GUEST_CODE_BYTES(g, GUEST_CODE, 0xcc); break;
		default: e->interrupt.injected = e->interrupt.soft = true; e->interrupt.vector = 0x21; break;
		}
		nested_intercept(g, 0x4b, true);
		nested_intercept(g, 0x4d, i == 2);
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, "injected", 0x4b, GATE_ERROR(vectors[i], i < 2), 0);
		assert_int_equal(nested_svm(g)->exit.int_info, infos[i]);
		assert_int_equal(regs(g)->rip, GUEST_CODE);
		if (i == 0)
			assert_true(e->interrupt.injected);
		guest_free(g);
	}
}

/* An INT n that was delivered, or given up, leaves no trace in the exit of the next instruction. */
static void test_soft_interrupt_forgotten(void **state)
{
	(void)state;
	for (unsigned given_up = 0; given_up < 2; given_up++) {
		struct guest *g = nested_make();

		GUEST_CODE_BYTES(g, GUEST_CODE, 0xcd, 0x21);
		GUEST_CODE_BYTES(g, GUEST_STUBS + 16 * (given_up ? 11 : 0x21), 0x0f, 0xa2, 0xf4);
		if (given_up)
			break_gate(g, 0x21);
		/* Once before, so that the handler's page is known, and nothing comes between. */
		assert_int_equal(nested_run(g), NESTED_HLT);
		regs(g)->rip = GUEST_CODE;
		regs(g)->gpr[CPU_RSP] = GUEST_STACK;
		nested_intercept(g, 0x72, true);
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, "cpuid", 0x72, 0, 0);
		assert_int_equal(nested_svm(g)->exit.int_info, 0);
		guest_free(g);
	}
}

static void test_injected_and_pending(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct guest *g = nested_make();

		regs(g)->events.exception.injected = i == 0;
		regs(g)->events.exception.pending = i == 1;
		regs(g)->events.exception.vector = 13;
		regs(g)->events.exception.has_error = true;
		regs(g)->events.exception.error = 0x30;
		nested_intercept(g, 0x4d, true);
		assert_int_equal(nested_run(g), i == 0 ? 13 : -1);
		if (i == 1) {
			nested_exit(g, "pending", 0x4d, 0x30, 0);
			assert_int_equal(nested_svm(g)->exit.int_info, 0);
			assert_false(regs(g)->events.exception.pending);
		}
		guest_free(g);
	}
}

/* #GP of an MSR that the owner refuses: raised outside the guest. */
static void test_exception_from_outside(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x32, 0xf4);
	regs(g)->gpr[CPU_RCX] = 0x666;
	nested_intercept(g, 0x4d, true);
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "rdmsr", 0x4d, 0, 0);
	assert_int_equal(regs(g)->rip, GUEST_CODE);
	assert_int_equal(nested_calls.rdmsr, 1);
}

/* ---- task switches ------------------------------------------------------------------------------------- */

#define SEL_NEW  0x70u /* an available 32-bit TSS */
#define SEL_GATE 0x78u /* a task gate to it */
#define SEL_BUSY 0x80u

static struct guest *task_guest(void)
{
	struct guest *g = guest_make();

	guest_protected(g);
	nested_begin(g);
	guest_write(g, GUEST_GDT + SEL_NEW, 8, UINT64_C(0x0000890000000067));
	guest_write(g, GUEST_GDT + SEL_GATE, 8, UINT64_C(0x0000850000000000) | (uint64_t)SEL_NEW << 16);
	guest_write(g, GUEST_GDT + SEL_BUSY, 8, UINT64_C(0x00008b0000000067));
	guest_write(g, GUEST_TSS, 2, SEL_BUSY);
	regs(g)->gdt.limit = 0x87;
	nested_intercept(g, SVM_EXIT_TASK_SWITCH, true);
	return g;
}

static void check_task(struct guest *g, unsigned selector, uint64_t info2, uint64_t int_info)
{
	assert_int_equal(nested_run(g), -1);
	nested_exit(g, "task switch", SVM_EXIT_TASK_SWITCH, selector, info2);
	assert_int_equal(nested_svm(g)->exit.int_info, int_info);
	assert_int_equal(nested_svm(g)->exit.next_rip, 0);
	assert_int_equal(regs(g)->rip, GUEST_CODE);
	assert_int_equal(regs(g)->gpr[CPU_RSP], GUEST_STACK);
	guest_free(g);
}

static void far_code(struct guest *g, unsigned opcode, unsigned selector)
{
	GUEST_CODE_BYTES(g, GUEST_CODE, (uint8_t)opcode, 0, 0, 0, 0, (uint8_t)selector, 0, 0xf4);
}

static void test_task_switches(void **state)
{
	struct guest *g;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		g = task_guest();
		far_code(g, i & 1 ? 0xea : 0x9a, i & 2 ? SEL_GATE : SEL_NEW);
		check_task(g, SEL_NEW, i & 1 ? UINT64_C(1) << 38 : 0, 0);
	}
	g = task_guest();
	GUEST_CODE_BYTES(g, GUEST_CODE, 0xcf);
	regs(g)->rflags |= RFLAGS_NT;
	check_task(g, SEL_BUSY, UINT64_C(1) << 36, 0);
	/* By an exception with an error code, and by INT n. */
	g = task_guest();
	guest_write(g, GUEST_IDT + 8 * 13, 8, UINT64_C(0x0000850000000000) | (uint64_t)SEL_NEW << 16);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x8e, 0xd8);
	set_outside(g);
	check_task(g, SEL_NEW, UINT64_C(1) << 48 | UINT64_C(1) << 44 | 0x7fe8, UINT64_C(0x7fe880000b0d));
	g = task_guest();
	guest_write(g, GUEST_IDT + 8 * 0x21, 8, UINT64_C(0x0000850000000000) | (uint64_t)SEL_NEW << 16);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0xcd, 0x21);
	check_task(g, SEL_NEW, 0, 0x80000421);
}

/* A TSS that is not right is an exception, also with the intercept. */
static void test_task_switches_refused(void **state)
{
	static const struct {
		unsigned at, value, vector;
	} wrong[] = {
		{ SEL_NEW + 5, 0x09, 11 }, /* not present */
		{ SEL_NEW + 0, 0x66, 10 }, /* limit */
		{ SEL_NEW + 5, 0x8b, 13 }, /* busy */
		{ SEL_GATE + 5, 0x05, 11 }, { SEL_GATE + 2, SEL_NEW | 4, 13 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct guest *g = task_guest();

		g->ram[GUEST_GDT + wrong[i].at] = (uint8_t)wrong[i].value;
		far_code(g, 0xea, SEL_GATE);
		assert_int_equal(nested_run(g), wrong[i].vector);
		guest_free(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NESTED_TEST(test_exceptions),
		NESTED_TEST(test_fetch_fault),
		NESTED_TEST(test_exception_after_a_device),
		NESTED_TEST(test_debug_traps),
		NESTED_TEST(test_breakpoint_before_intercept),
		NESTED_TEST(test_overflow_and_bound),
		NESTED_TEST(test_second_exception),
		NESTED_TEST(test_page_fault_during_delivery),
		NESTED_TEST(test_injected_events),
		NESTED_TEST(test_soft_interrupt_forgotten),
		NESTED_TEST(test_injected_and_pending),
		NESTED_TEST(test_exception_from_outside),
		NESTED_TEST(test_task_switches),
		NESTED_TEST(test_task_switches_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
