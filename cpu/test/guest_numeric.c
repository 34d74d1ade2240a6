/* SPDX-License-Identifier: MIT */
/*
 * Who reports an exception that the x87 unit has pending (SDM vol. 1, 8.7; APM vol. 1, 6.8), what comes before it, and
 * what SIMD exceptions become: #XM, or #UD where the system is not ready for it. And the bounds of BOUND.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define UD 6
#define NM 7
#define MF 16
#define XM 19

#define MP 2u
#define EM 4u
#define TS 8u
#define NE 0x20u
#define OSXMMEXCPT 0x400u

#define BYTES(...) { __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static struct cpu_state *regs(struct guest *g)
{
	return cpu_state(g->cpu);
}

/* Run one instruction. Returns: the vector of the fault that it raises, or -1. */
static int run_one(struct guest *g, const char *name, const uint8_t *bytes, unsigned size)
{
	int vector;

	guest_code(g, GUEST_CODE, bytes, size);
	GUEST_CODE_BYTES(g, GUEST_CODE + size, 0xf4);
	regs(g)->rip = GUEST_CODE;
	regs(g)->gpr[CPU_RSP] = GUEST_STACK;
	regs(g)->gpr[CPU_RSI] = regs(g)->gpr[CPU_RDI] = GUEST_DATA;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	vector = guest_run_to_hlt(g);
	if (vector >= 0 && guest_read(g, regs(g)->gpr[CPU_RSP], 8) != GUEST_CODE)
		fail_msg("%s: not at the instruction", name);
	return vector;
}

/* ---- x87 --------------------------------------------------------------------------------------------------- */

#define PENDING_ROWS(X)                                                                                         \
	X("fwait", MF, 0x9b) X("fnop", MF, 0xd9, 0xd0) X("fld1", MF, 0xd9, 0xe8) X("fxch", MF, 0xd9, 0xc9)      \
	X("ffree", MF, 0xdd, 0xc0) X("fincstp", MF, 0xd9, 0xf7) X("fcomi", MF, 0xdb, 0xf1)                      \
	X("fcmovb", MF, 0xda, 0xc1) X("fldcw", MF, 0xd9, 0x2e) X("fldenv", MF, 0xd9, 0x26)                      \
	X("frstor", MF, 0xdd, 0x26) X("fld m64", MF, 0xdd, 0x06) X("fstp m80", MF, 0xdb, 0x3e)                  \
	X("fisttp", MF, 0xdf, 0x0e) X("fsin", MF, 0xd9, 0xfe) X("emms", MF, 0x0f, 0x77)                         \
	X("paddb", MF, 0x0f, 0xfc, 0xc1) X("movq mm", MF, 0x0f, 0x6f, 0x06)                                     \
	X("movd mm", MF, 0x0f, 0x7e, 0xc0) X("pshufw", MF, 0x0f, 0x70, 0xc1, 0)                                 \
	X("maskmovq", MF, 0x0f, 0xf7, 0xc1) X("movntq", MF, 0x0f, 0xe7, 0x06)                                   \
	X("pabsb mm", MF, 0x0f, 0x38, 0x1c, 0xc1) X("movq2dq", MF, 0xf3, 0x0f, 0xd6, 0xc1)                      \
	X("movdq2q", MF, 0xf2, 0x0f, 0xd6, 0xc1) X("cvtpi2ps mm", MF, 0x0f, 0x2a, 0xc1)                         \
	X("cvtps2pi", MF, 0x0f, 0x2d, 0xc1) X("cvttpd2pi", MF, 0x66, 0x0f, 0x2c, 0xc1)                          \
	X("fninit", -1, 0xdb, 0xe3) X("fnclex", -1, 0xdb, 0xe2) X("fnstsw ax", -1, 0xdf, 0xe0)                  \
	X("fnstsw m16", -1, 0xdd, 0x3e) X("fnstcw", -1, 0xd9, 0x3e) X("fnstenv", -1, 0xd9, 0x36)                \
	X("fnsave", -1, 0xdd, 0x36) X("feni", -1, 0xdb, 0xe0) X("fxsave", -1, 0x0f, 0xae, 0x06)                 \
	X("fxrstor", -1, 0x0f, 0xae, 0x0e) X("stmxcsr", -1, 0x0f, 0xae, 0x1e)                                   \
	X("addps", -1, 0x0f, 0x58, 0xc1) X("cvtpi2ps m64", -1, 0x0f, 0x2a, 0x06)                                \
	X("cvtpi2pd m64", -1, 0x66, 0x0f, 0x2a, 0x06)

#define PENDING_ROW(name, vector, ...) { name, vector, BYTES(__VA_ARGS__) },
static const struct pending {
	const char *name;
	int vector;
	uint8_t bytes[6];
	unsigned size;
} pending[] = { PENDING_ROWS(PENDING_ROW) };

/* An unmasked division by zero waits. CR0.NE is not asked: KVM keeps it set in hardware, whatever the guest has. */
static void test_who_reports_a_pending_exception(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(pending) / sizeof(pending[0]); i++) {
		const struct pending *p = &pending[i / 2];
		struct guest *g = guest_make();
		int vector;

		guest_long(g);
		if (i & 1)
			regs(g)->cr0 &= ~(uint64_t)NE;
		regs(g)->fx.fcw = 0x37b;
		regs(g)->fx.fsw = 0x8084;
		vector = run_one(g, p->name, p->bytes, p->size);
		if (vector != p->vector)
			fail_msg("%s: vector %d", p->name, vector);
		if (vector == MF)
			assert_int_equal(regs(g)->fx.fsw, 0x8084);
		guest_free(g);
	}
}

/* #NM, or #UD of the units that CR0.EM says are not there, come first. FWAIT asks MP as well. */
static void test_what_comes_before_a_pending_exception(void **state)
{
	static const struct {
		const char *name;
		uint64_t set, clear;
		int vector;
		uint8_t bytes[4];
		unsigned size;
	} rows[] = {
		{ "fld1, TS", TS, 0, NM, BYTES(0xd9, 0xe8) }, { "fld1, EM", EM, 0, NM, BYTES(0xd9, 0xe8) },
		{ "fninit, TS", TS, 0, NM, BYTES(0xdb, 0xe3) }, { "fnstsw, EM", EM, 0, NM, BYTES(0xdf, 0xe0) },
		{ "fwait, TS", TS, MP, MF, BYTES(0x9b) }, { "fwait, EM", EM, 0, MF, BYTES(0x9b) },
		{ "fwait, TS and MP", TS | MP, 0, NM, BYTES(0x9b) }, { "fwait, MP", MP, 0, MF, BYTES(0x9b) },
		{ "emms, TS", TS, 0, NM, BYTES(0x0f, 0x77) }, { "emms, EM", EM, 0, UD, BYTES(0x0f, 0x77) },
		{ "emms, EM and TS", EM | TS, 0, UD, BYTES(0x0f, 0x77) },
		{ "addps, EM and TS", EM | TS, 0, UD, BYTES(0x0f, 0x58, 0xc1) },
		{ "fxsave, TS", TS, 0, NM, BYTES(0x0f, 0xae, 0x06) },
		{ "fxsave, EM", EM, 0, UD, BYTES(0x0f, 0xae, 0x06) },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct guest *g = guest_make();
		int vector;

		guest_long(g);
		regs(g)->cr0 = (regs(g)->cr0 & ~rows[i].clear) | rows[i].set;
		regs(g)->fx.fcw = 0x37b;
		regs(g)->fx.fsw = 0x8084;
		vector = run_one(g, rows[i].name, rows[i].bytes, rows[i].size);
		if (vector != rows[i].vector)
			fail_msg("%s: vector %d", rows[i].name, vector);
		guest_free(g);
	}
}

/* ---- SSE --------------------------------------------------------------------------------------------------- */

#define ONE    0x3f800000u
#define THREE  0x40400000u
#define TINY   0x00000001u /* denormal */
#define LEAST  0x00800000u /* normal */
#define MOST   0x7f7fffffu
#define SNAN   0x7f800001u

/* The first operand is in XMM0, the second in XMM1 and in memory. */
static void test_simd_exceptions(void **state)
{
	static const struct {
		const char *name;
		uint32_t a, b, mxcsr, flags;
		int vector;
		uint8_t bytes[4];
		unsigned size;
	} rows[] = {
		{ "masked", ONE, 0, 0x1f80, 0x04, -1, BYTES(0x0f, 0x5e, 0xc1) },
		{ "zero divide", ONE, 0, 0x1d80, 0x04, XM, BYTES(0x0f, 0x5e, 0xc1) },
		{ "zero divide, scalar", ONE, 0, 0x1d80, 0x04, XM, BYTES(0xf3, 0x0f, 0x5e, 0xc1) },
		{ "zero divide, memory", ONE, 0, 0x1d80, 0x04, XM, BYTES(0x0f, 0x5e, 0x06) },
		{ "another one unmasked", ONE, 0, 0x1f00, 0x04, -1, BYTES(0x0f, 0x5e, 0xc1) },
		{ "invalid", SNAN, ONE, 0x1f00, 0x01, XM, BYTES(0x0f, 0x58, 0xc1) },
		{ "invalid, comparison", SNAN, ONE, 0x1f00, 0x01, XM, BYTES(0x0f, 0x2e, 0xc1) },
		{ "denormal", TINY, ONE, 0x1e80, 0x02, XM, BYTES(0x0f, 0x59, 0xc1) },
		{ "denormal that counts as zero", TINY, ONE, 0x1ec0, 0, -1, BYTES(0x0f, 0x59, 0xc1) },
		{ "denormal and zero divide", TINY, 0, 0x1c80, 0x04, XM, BYTES(0x0f, 0x5e, 0xc1) },
		{ "overflow", MOST, MOST, 0x1b80, 0x28, XM, BYTES(0xf3, 0x0f, 0x59, 0xc1) },
		{ "underflow, exact", LEAST, THREE, 0x1780, 0x30, XM, BYTES(0xf3, 0x0f, 0x5e, 0xc1) },
		{ "underflow, masked, to zero", LEAST, THREE, 0x9f80, 0x30, -1, BYTES(0xf3, 0x0f, 0x5e, 0xc1) },
		{ "precision", ONE, THREE, 0x0f80, 0x20, XM, BYTES(0xf3, 0x0f, 0x5e, 0xc1) },
		{ "precision, conversion", LEAST, THREE, 0x0f80, 0x20, XM, BYTES(0xf3, 0x0f, 0x2d, 0xc0) },
	};

	(void)state;
	cpu_signals_install(); /* for #XM */
	for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		const uint32_t a[4] = { rows[i / 2].a, ONE, ONE, ONE }, b[4] = { rows[i / 2].b, ONE, ONE, ONE };
		int want = rows[i / 2].vector, vector;
		struct guest *g = guest_make();
		uint64_t rax = 0x1234;

		guest_long(g);
		if (i & 1) {
			regs(g)->cr4 &= ~(uint64_t)OSXMMEXCPT;
			want = want == XM ? UD : want;
		}
		regs(g)->fx.mxcsr = rows[i / 2].mxcsr;
		regs(g)->gpr[CPU_RAX] = rax;
		memcpy(regs(g)->vectors.v[0], a, sizeof(a));
		memcpy(regs(g)->vectors.v[1], b, sizeof(b));
		guest_code(g, GUEST_DATA, b, sizeof(b));
		vector = run_one(g, rows[i / 2].name, rows[i / 2].bytes, rows[i / 2].size);
		if (vector != want || regs(g)->fx.mxcsr != (rows[i / 2].mxcsr | rows[i / 2].flags))
			fail_msg("%s: vector %d, MXCSR %#x", rows[i / 2].name, vector, regs(g)->fx.mxcsr);
		if (want >= 0) { /* no result */
			assert_memory_equal(regs(g)->vectors.v[0], a, sizeof(a));
			assert_int_equal(regs(g)->gpr[CPU_RAX], rax);
		}
		guest_free(g);
	}
}

/* ---- BOUND ------------------------------------------------------------------------------------------------- */

/* Signed, and both bounds are allowed. The upper bound is read before anything is decided. */
static void test_bound(void **state)
{
	static const struct {
		const char *name;
		uint32_t index, low, high;
		int vector, vector16; /* with the low 16 bits of all three */
	} rows[] = {
		{ "inside", 5, 3, 9, -1, -1 }, { "lower bound", 3, 3, 9, -1, -1 }, { "upper bound", 9, 3, 9, -1, -1 },
		{ "below", 2, 3, 9, 5, 5 }, { "above", 10, 3, 9, 5, 5 },
		{ "negative", 0xffffffff, 0xfffffffe, 0, -1, -1 },
		{ "negative, below", 0xfffffff0, 0xfffffffe, 0, 5, 5 },
		{ "no such interval", 5, 9, 3, 5, 5 }, { "wide", 0x10005, 3, 0x7fffffff, -1, 5 },
	};

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		static const uint8_t bytes[] = { 0x66, 0x62, 0x06 };
		struct guest *g = guest_make();
		bool is_16 = i & 1;
		int vector;

		guest_protected(g);
		regs(g)->gpr[CPU_RAX] = rows[i / 2].index;
		regs(g)->gpr[CPU_RSI] = GUEST_DATA;
		guest_write(g, GUEST_DATA, is_16 ? 2 : 4, rows[i / 2].low);
		guest_write(g, GUEST_DATA + (is_16 ? 2 : 4), is_16 ? 2 : 4, rows[i / 2].high);
		guest_code(g, GUEST_CODE, bytes + !is_16, 2u + is_16);
		GUEST_CODE_BYTES(g, GUEST_CODE + 2u + is_16, 0xf4);
		vector = guest_run_to_hlt(g);
		if (vector != (is_16 ? rows[i / 2].vector16 : rows[i / 2].vector))
			fail_msg("%s, %u bits: vector %d", rows[i / 2].name, is_16 ? 16 : 32, vector);
		if (vector == 5) /* no error code */
			assert_int_equal(guest_read(g, regs(g)->gpr[CPU_RSP], 4), GUEST_CODE);
		guest_free(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_reports_a_pending_exception),
		cmocka_unit_test(test_what_comes_before_a_pending_exception),
		cmocka_unit_test(test_simd_exceptions),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
