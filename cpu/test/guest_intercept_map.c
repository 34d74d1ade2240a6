/* SPDX-License-Identifier: MIT */
/* Intercepts that go by a map in the hypervisor's memory: ports and MSRs (APM vol. 2, 15.10 and 15.11). */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "nested.h"

/* ---- ports --------------------------------------------------------------------------------------------- */

struct port_row {
	const char *name;
	uint8_t bytes[4], len;
	uint16_t port;
	unsigned size;
	uint32_t info;
};

static const struct port_row ports[] = {
	{ "in al, 0x44", BYTES(0xe4, 0x44), 0x44, 1, 0x211 },
	{ "in eax, 0x44", BYTES(0xe5, 0x44), 0x44, 4, 0x241 },
	{ "in al, dx", BYTES(0xec), 0x3f8, 1, 0x211 },
	{ "in ax, dx", BYTES(0x66, 0xed), 0x3f8, 2, 0x221 },
	{ "in eax, dx", BYTES(0xed), 0x3f8, 4, 0x241 },
	{ "out 0x80, al", BYTES(0xe6, 0x80), 0x80, 1, 0x210 },
	{ "out dx, ax", BYTES(0x66, 0xef), 0x3f8, 2, 0x220 },
	{ "out dx, eax", BYTES(0xef), 0x3f8, 4, 0x240 },
	{ "insb", BYTES(0x6c), 0x3f8, 1, 0x215 },
	{ "rep insb", BYTES(0xf3, 0x6c), 0x3f8, 1, 0x21d },
	{ "rep insw, 32-bit", BYTES(0xf3, 0x66, 0x67, 0x6d), 0x3f8, 2, 0x12d },
	{ "insd", BYTES(0x6d), 0x3f8, 4, 0x245 },
	{ "outsb", BYTES(0x6e), 0x3f8, 1, 0xe14 },
	{ "rep outsb", BYTES(0xf3, 0x6e), 0x3f8, 1, 0xe1c },
	{ "fs: outsd", BYTES(0x64, 0x6f), 0x3f8, 4, 0x1244 },
	{ "gs: rep outsw", BYTES(0x65, 0xf3, 0x66, 0x6f), 0x3f8, 2, 0x162c },
};

static struct guest *port_guest(const struct port_row *r, uint16_t port)
{
	struct nested_row plain = { r->name, .len = r->len };
	struct guest *g = nested_make();

	memcpy(plain.bytes, r->bytes, r->len);
	nested_prepare(g, &plain);
	regs(g)->gpr[CPU_RDX] = port;
	regs(g)->gpr[CPU_RCX] = 3;
	nested_intercept(g, SVM_EXIT_IOIO, true);
	return g;
}

static void check_port_exit(struct guest *g, const struct port_row *r, uint16_t port)
{
	struct cpu_state before = *regs(g);

	assert_int_equal(nested_run(g), -1);
	nested_exit(g, r->name, SVM_EXIT_IOIO, r->info | (uint32_t)port << 16, before.rip + r->len);
	assert_int_equal(nested_svm(g)->exit.next_rip, before.rip + r->len);
	nested_untouched(g, r->name, &before);
	guest_free(g);
}

static void check_port_passes(struct guest *g, const struct port_row *r, uint16_t port)
{
	if (cpu_run(g->cpu) != CPU_EXIT_IO || nested_svm(g)->exit.noted)
		fail_msg("%s: no access", r->name);
	assert_int_equal(cpu_exit_info(g->cpu)->io.port, port);
	assert_int_equal(nested_calls.io, 1);
	assert_int_equal(nested_run(g), NESTED_HLT);
	guest_free(g);
}

static void test_ports(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		const struct port_row *r = &ports[i];
		struct guest *g;

		for (unsigned byte = 0; byte < r->size; byte++) {
			g = port_guest(r, r->port);
			nested_map(g, NESTED_IOPM, r->port + byte, true);
			check_port_exit(g, r, r->port);
		}
		g = port_guest(r, r->port);
		memset(g->ram + NESTED_IOPM, 0xff, 0x2001);
		for (unsigned byte = 0; byte < r->size; byte++)
			nested_map(g, NESTED_IOPM, r->port + byte, false);
		check_port_passes(g, r, r->port);
		g = port_guest(r, r->port);
		memset(g->ram + NESTED_IOPM, 0xff, 0x2001);
		nested_intercept(g, SVM_EXIT_IOIO, false);
		check_port_passes(g, r, r->port);
	}
}

/* The bits of the last port go on in the third page. A map where no memory is reads as ones. */
static void test_port_map_edges(void **state)
{
	const struct port_row *r = &ports[4];
	struct vmcb_control control;
	struct guest *g;

	(void)state;
	for (unsigned bit = 0xffff; bit < 0x10003; bit++) {
		g = port_guest(r, 0xffff);
		nested_map(g, NESTED_IOPM, bit, true);
		check_port_exit(g, r, 0xffff);
	}
	g = port_guest(r, 0xffff);
	memset(g->ram + NESTED_IOPM, 0xff, 0x2001);
	for (unsigned bit = 0xffff; bit < 0x10003; bit++)
		nested_map(g, NESTED_IOPM, bit, false);
	check_port_passes(g, r, 0xffff);
	g = port_guest(r, 0x3f8);
	memcpy(&control, regs(g)->svm.control, sizeof(control));
	control.iopm = GUEST_RAM;
	memcpy(regs(g)->svm.control, &control, sizeof(control));
	check_port_exit(g, r, 0x3f8);
}

/* Memory is looked at after the map, the TSS before it. No element, no access. */
static void test_port_order(void **state)
{
	static const uint8_t strings[] = { 8, 12 };
	struct guest *g;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		g = port_guest(&ports[strings[i]], 0x3f8);
		nested_map(g, NESTED_IOPM, 0x3f8, true);
		*guest_pte(g, GUEST_DATA) = 0;
		check_port_exit(g, &ports[strings[i]], 0x3f8);
		g = port_guest(&ports[strings[i]], 0x3f8);
		*guest_pte(g, GUEST_DATA) = 0;
		assert_int_equal(nested_run(g), 14);
		guest_free(g);
		g = port_guest(&ports[strings[i] + 1], 0x3f8);
		nested_map(g, NESTED_IOPM, 0x3f8, true);
		regs(g)->gpr[CPU_RCX] = 0;
		assert_int_equal(nested_run(g), NESTED_HLT);
		guest_free(g);
	}
	for (unsigned allowed = 0; allowed < 2; allowed++) {
		g = nested_make();
		nested_user(g);
		cpu_state_changed(g->cpu, CPU_CHANGED_MODE);
		GUEST_CODE_BYTES(g, GUEST_USER_CODE, 0xec);
		nested_intercept(g, SVM_EXIT_IOIO, true);
		nested_map(g, NESTED_IOPM, 0x3f8, true);
		nested_map(g, GUEST_TSS + 104, 0x3f8, !allowed);
		assert_int_equal(nested_run(g), allowed ? -1 : 13);
		guest_free(g);
	}
}

/* The map is asked for each element, for it may have changed. */
static void test_port_strings_ask_again(void **state)
{
	static const uint8_t strings[] = { 9, 13 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct port_row *r = &ports[strings[i]];
		struct guest *g = port_guest(r, 0x3f8);
		struct cpu_state *s = regs(g);
		unsigned at = i == 0 ? CPU_RDI : CPU_RSI;

		s->rflags |= RFLAGS_DF; /* elements of INS come one by one */
		cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
		cpu_exit_info(g->cpu)->io.data[0] = 0x77;
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
		cpu_exit_info(g->cpu)->io.data[0] = 0x78;
		nested_map(g, NESTED_IOPM, 0x3f8, true);
		assert_int_equal(nested_run(g), -1);
		nested_exit(g, r->name, SVM_EXIT_IOIO, r->info | 0x3f80000, GUEST_CODE + r->len);
		assert_int_equal(s->gpr[CPU_RCX], 1);
		assert_int_equal(s->gpr[at], GUEST_DATA - 2);
		assert_int_equal(s->rip, GUEST_CODE);
		if (i == 0)
			assert_int_equal(guest_read(g, GUEST_DATA, 1), 0x77);
		guest_free(g);
	}
}

/* ---- MSRs ---------------------------------------------------------------------------------------------- */

static void check_msr(uint32_t index, bool write, unsigned bits, unsigned at, bool want)
{
	struct guest *g = nested_make();
	struct cpu_state before;

	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, write ? 0x30 : 0x32, 0xf4);
	regs(g)->gpr[CPU_RCX] = index | UINT64_C(0xdead00000000);
	memset(g->ram + NESTED_MSRPM, bits == 0 ? 0xff : 0, 0x2000);
	for (unsigned i = 0; i < 2; i++)
		nested_map(g, NESTED_MSRPM, at * 2 + i, bits >> i & 1);
	nested_intercept(g, SVM_EXIT_MSR, true);
	memset(&nested_calls, 0, sizeof(nested_calls));
	before = *regs(g);
	if (nested_run(g) != (want ? -1 : NESTED_HLT))
		fail_msg("MSR %#x, write %d, bits %u", index, write, bits);
	if (want) {
		nested_exit(g, "msr", SVM_EXIT_MSR, write, 0);
		nested_untouched(g, "msr", &before);
		assert_int_equal(nested_svm(g)->exit.next_rip, GUEST_CODE + 2);
	} else {
		assert_int_equal(nested_calls.rdmsr + nested_calls.wrmsr, 1);
	}
	guest_free(g);
}

static void test_msrs(void **state)
{
	static const struct {
		uint32_t index, at;
	} covered[] = {
		{ 0, 0 }, { 0x10, 0x10 }, { 0x1b, 0x1b }, { 0x1fff, 0x1fff }, { 0xc0000000, 0x2000 },
		{ 0xc0000080, 0x2080 }, { 0xc0000102, 0x2102 }, { 0xc0001fff, 0x3fff }, { 0xc0010000, 0x4000 },
		{ 0xc0010117, 0x4117 }, { 0xc0011fff, 0x5fff },
	};
	static const uint32_t others[] = { 0x2000, 0x40000000, 0xbfffffff, 0xc0002000, 0xc000ffff, 0xc0012000, ~0u };

	(void)state;
	for (unsigned i = 0; i < sizeof(covered) / sizeof(covered[0]); i++) {
		check_msr(covered[i].index, false, 1, covered[i].at, true);
		check_msr(covered[i].index, false, 2, covered[i].at, false);
		check_msr(covered[i].index, true, 2, covered[i].at, true);
		if (covered[i].index != 0xc0000080) {
			check_msr(covered[i].index, true, 1, covered[i].at, false);
			check_msr(covered[i].index, true, 0, covered[i].at, false);
		}
		check_msr(covered[i].index, false, 0, covered[i].at, false);
	}
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		check_msr(others[i], false, 4, 0x7fff, true);
		check_msr(others[i], true, 4, 0x7fff, true);
	}
}

static void test_msrs_without_the_intercept(void **state)
{
	struct guest *g = *state;

	memset(g->ram + NESTED_MSRPM, 0xff, 0x2000);
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x32, 0xf4);
	regs(g)->gpr[CPU_RCX] = 0x10;
	assert_int_equal(nested_run(g), NESTED_HLT);
	assert_int_equal(nested_calls.rdmsr, 1);
	assert_int_equal(regs(g)->gpr[CPU_RAX], 0x10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		NESTED_TEST(test_ports),
		NESTED_TEST(test_port_map_edges),
		NESTED_TEST(test_port_order),
		NESTED_TEST(test_port_strings_ask_again),
		NESTED_TEST(test_msrs),
		NESTED_TEST(test_msrs_without_the_intercept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
