/* SPDX-License-Identifier: MIT */
/*
 * The guest's x87 is in the host's registers while it runs: nothing of it is seen by a callback, by a signal handler or
 * after the guest, nothing of theirs reaches the guest, and whatever else looks at the state finds it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define MF 16
#define XM 19
#define PI UINT64_C(0xc90fdaa22168c235) /* the fraction of FLDPI */

static int run(struct guest *g)
{
	cpu_state(g->cpu)->rip = GUEST_CODE;
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
	cpu_state(g->cpu)->gpr[CPU_RSI] = GUEST_DATA;
	return guest_run_to_hlt(g);
}

static uint64_t fraction(struct guest *g, unsigned n)
{
	uint64_t v;

	memcpy(&v, cpu_state(g->cpu)->fx.st[n], sizeof(v));
	return v;
}

/* ---- the host's own x87 ---------------------------------------------------------------------------------- */

struct environment {
	uint16_t fcw, reserved0, fsw, reserved1, tags, reserved2;
	uint32_t pointers[4];
};

static struct environment host_now(void)
{
	struct environment env;

	/* FNSTENV masks all exceptions. */
	__asm__ volatile("fnstenv %0\n\tfldenv %0" : "=m"(env));
	return env;
}

#define HOST_FCW 0x0a7fu /* 53 bits, round up */
#define HOST_FSW 0x0020u

/* The words of a program that has made an inexact division under a control word of its own. */
static void host_set(void)
{
	static const uint16_t fcw = HOST_FCW;

	__asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldpi\n\tfdivrp\n\tfstp %%st" : : "m"(fcw));
}

static void expect_host(const struct environment *env)
{
	assert_int_equal(env->fcw, HOST_FCW);
	assert_int_equal(env->fsw & 0xff, HOST_FSW);
	assert_int_equal(env->tags, 0xffff);
}

static void host_end(void)
{
	struct environment env = host_now();

	__asm__ volatile("fninit");
	expect_host(&env);
}

static struct environment in_callback;
static unsigned callbacks;

/* Uses x87 itself, as long double does. */
static void cpuid_callback(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)state;
	in_callback = host_now();
	callbacks++;
	__asm__ volatile("fldl2e\n\tfldpi\n\tfmulp\n\tfstp %st");
	cpu_cpuid_max(leaf, subleaf, out);
}

/* 1/pi rounded down to 24 bits. */
GUEST_ASM(code_divide,
	"fninit \n fldcw (%rsi) \n fld1 \n fldpi \n cpuid \n fdivrp \n in $0x10, %al \n fstpt 16(%rsi) \n hlt")
#define GUEST_FCW 0x047fu

static void test_x87_of_guest_and_host_do_not_mix(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.cpuid = cpuid_callback;
	GUEST_LOAD(g, GUEST_CODE, code_divide);
	guest_write(g, GUEST_DATA, 2, GUEST_FCW);
	s->gpr[CPU_RSI] = GUEST_DATA;
	s->rip = GUEST_CODE;
	callbacks = 0;
	host_set();
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	host_end();
	assert_int_equal(callbacks, 1);
	expect_host(&in_callback);
	assert_int_equal(s->fx.fcw, GUEST_FCW);
	assert_int_equal(s->fx.fsw & 0xff, 0x20);
	assert_int_equal(s->fx.ftw, 0x80);
	assert_int_equal(fraction(g, 0), UINT64_C(0xa2f9830000000000));
	host_set();
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
	host_end();
	assert_int_equal(guest_read(g, GUEST_DATA + 16, 8), UINT64_C(0xa2f9830000000000));
	assert_int_equal(guest_read(g, GUEST_DATA + 24, 2), 0x3ffd);
	assert_int_equal(s->fx.ftw, 0);
}

/* ---- exceptions that wait ---------------------------------------------------------------------------------- */

GUEST_ASM(code_pending, "fninit \n fldcw (%rsi) \n fldz \n fld1 \n fdiv %st(1), %st \n cpuid \n fnstsw %ax \n hlt")
GUEST_ASM(code_raised, "fninit \n fldcw (%rsi) \n fldz \n fld1 \n fdiv %st(1), %st \n fldpi \n hlt")
/* The quotient is inexact, and only then that is unmasked. */
GUEST_ASM(code_unmasked, "fninit \n fld1 \n fldpi \n fdivrp \n fldcw 2(%rsi) \n fnstsw %ax \n mov %ax, 8(%rsi) \n "
	"fldpi \n hlt")
GUEST_ASM(code_cleared, "fninit \n fld1 \n fldpi \n fdivrp \n fnclex \n fldcw 2(%rsi) \n fldpi \n fnstsw %ax \n "
	"mov %ax, 8(%rsi) \n hlt")

static void test_an_unmasked_exception_waits_in_the_guest_only(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.cpuid = cpuid_callback;
	guest_write(g, GUEST_DATA, 2, 0x37b);
	guest_write(g, GUEST_DATA + 2, 2, 0x35f);
	GUEST_LOAD(g, GUEST_CODE, code_pending);
	host_set();
	assert_int_equal(run(g), -1);
	host_end();
	expect_host(&in_callback);
	assert_int_equal(s->gpr[CPU_RAX] & 0xffff, 0xb084); /* TOP = 6 */
	assert_int_equal(s->fx.ftw, 0xc0);
	assert_int_equal(fraction(g, 0), UINT64_C(1) << 63);
	GUEST_LOAD(g, GUEST_CODE, code_raised);
	assert_int_equal(run(g), MF);
	assert_int_equal(s->fx.fsw, 0xb084);
	assert_int_equal(s->fx.ftw, 0xc0);
	GUEST_LOAD(g, GUEST_CODE, code_unmasked);
	assert_int_equal(run(g), MF);
	assert_int_equal(guest_read(g, GUEST_DATA + 8, 2) & ~UINT64_C(0x4700), 0xb8a0);
	assert_int_equal(s->fx.ftw, 0x80);
	GUEST_LOAD(g, GUEST_CODE, code_cleared);
	assert_int_equal(run(g), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 8, 2) & ~UINT64_C(0x4700), 0x3000);
	assert_int_equal(s->fx.ftw, 0xc0);
}

/* An owner that sets a status word and does not say so. */
static void test_an_owner_that_leaves_out_a_change(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, GUEST_CODE, 0xd9, 0xeb, 0xd9, 0xeb, 0xf4); /* FLDPI FLDPI HLT */
	s->fx.fcw = 0x360;
	s->fx.fsw = 4;
	assert_int_equal(run(g), MF);
	assert_int_equal(s->fx.fsw, 0x8084);
}

/* ---- signals --------------------------------------------------------------------------------------------------- */

GUEST_ASM(code_load_gone, "fninit \n fldcw (%rsi) \n fldpi \n fldt (%rbx) \n fmulp \n hlt")
GUEST_ASM(code_store_gone, "fninit \n fldcw (%rsi) \n fldpi \n fld1 \n fstpt (%rbx) \n hlt")

static void run_to_gone_page(struct guest *g, uint64_t operand)
{
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RSI] = GUEST_DATA + 4096;
	s->gpr[CPU_RBX] = operand;
	s->rip = GUEST_CODE;
	assert_int_equal(mprotect(g->ram + GUEST_DATA, 4096, PROT_NONE), 0);
	host_set();
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	host_end();
	assert_int_equal(mprotect(g->ram + GUEST_DATA, 4096, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(s->fx.fcw, GUEST_FCW);
}

static void test_a_host_page_that_has_gone(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	cpu_signals_install();
	guest_write(g, GUEST_DATA + 4096, 2, GUEST_FCW);
	guest_write(g, GUEST_DATA, 8, UINT64_C(1) << 63);
	guest_write(g, GUEST_DATA + 8, 2, 0x4000); /* 2 */
	GUEST_LOAD(g, GUEST_CODE, code_load_gone);
	run_to_gone_page(g, GUEST_DATA);
	assert_int_equal(s->fx.ftw, 0x80);
	assert_int_equal(s->fx.fsw, 0x3800);
	assert_int_equal(fraction(g, 0), PI - 1); /* rounded down */
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
	assert_int_equal(fraction(g, 0), UINT64_C(0xc90fda0000000000));
	assert_int_equal(s->fx.ftw, 0x80);
	GUEST_LOAD(g, GUEST_CODE, code_store_gone);
	/* In one page, and over its end: then the result is there before it cannot be stored. */
	for (uint64_t at = GUEST_DATA; at <= GUEST_DATA + 4091; at += 4091) {
		run_to_gone_page(g, at);
		assert_int_equal(s->fx.ftw, 0xc0);
		assert_int_equal(s->fx.fsw & 0xb800, 0x3000);
		assert_int_equal(fraction(g, 1), PI - 1);
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
		assert_int_equal(s->fx.ftw, 0x80);
		assert_int_equal(guest_read(g, at + 8, 2), 0x3fff);
		guest_write(g, GUEST_DATA + 4096, 2, GUEST_FCW);
	}
}

static volatile sig_atomic_t alarms, strange_alarms;

static void on_alarm(int number)
{
	static const uint16_t fcw = HOST_FCW;
	struct environment env = host_now();

	(void)number;
	alarms++;
	strange_alarms += env.fcw != 0x37f || env.fsw != 0 || env.tags != 0xffff;
	__asm__ volatile("fldcw %0\n\tfldz\n\tfldpi\n\tfldz\n\tfldz\n\tfldz\n\tfldz\n\tfldz\n\tfldz" : : "m"(fcw));
}

#define WAVES "fninit \n fldpi \n fld1 \n 1: fsin \n fadd %st(1), %st \n fsqrt \n dec %rcx \n jne 1b \n"
GUEST_ASM(code_waves, WAVES "hlt")
/* The same on the host. */
void host_waves(void);
__asm__(".pushsection .text\n.local host_waves\nhost_waves:\n" WAVES "fstpt (%rsi) \n fninit \n ret\n.popsection\n");

static void test_signals_while_the_guest_runs(void **state)
{
	struct guest *g = *state;
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART }, old;
	uint64_t count = 300000;
	uint8_t right[10];

#ifdef __SANITIZE_THREAD__
	skip(); /* its runtime calls handlers itself, with the x87 of whatever ran */
#endif
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tcall host_waves\n\tlea 128(%%rsp), %%rsp"
	                 : "+c"(count) : "S"(right) : "memory", "cc");
	GUEST_LOAD(g, GUEST_CODE, code_waves);
	cpu_state(g->cpu)->gpr[CPU_RCX] = 300000;
	alarms = strange_alarms = 0;
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	host_set();
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(run(g), -1);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	host_end();
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	assert_true(alarms > 0);
	assert_int_equal(strange_alarms, 0);
	assert_memory_equal(cpu_state(g->cpu)->fx.st[0], right, sizeof(right));
	assert_int_equal(cpu_state(g->cpu)->fx.ftw, 0xc0);
}

/* ROUNDPS is a stub's, which the exception stops half way. The first one makes ready for the signal. */
GUEST_ASM(code_stopped,
	"fninit \n ldmxcsr (%rsi) \n roundps $0, %xmm2, %xmm2 \n fldpi \n roundps $0, %xmm1, %xmm1 \n hlt")

static void test_an_sse_exception_leaves_x87(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	cpu_signals_install();
	s->cr4 |= 0x400;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	GUEST_LOAD(g, GUEST_CODE, code_stopped);
	guest_write(g, GUEST_DATA, 4, 0x1f00); /* invalid operations are not masked */
	memset(s->vectors.v[1], 0, 16);
	memset(s->vectors.v[2], 0, 16);
	s->vectors.v[1][0] = 1; /* a signalling NaN */
	s->vectors.v[1][2] = 0x80;
	s->vectors.v[1][3] = 0x7f;
	assert_int_equal(run(g), XM);
	assert_int_equal(s->fx.ftw, 0x80);
	assert_int_equal(fraction(g, 0), PI);
}

/* ---- others that look at the state --------------------------------------------------------------------------- */

GUEST_ASM(code_images,
	"fninit \n fldpi \n fxsave64 (%rsi) \n fld1 \n fnstenv 512(%rsi) \n fldz \n movq %mm5, 560(%rsi) \n "
	"movq %mm7, 568(%rsi) \n emms \n fldpi \n fnsave 576(%rsi) \n fldpi \n fxrstor64 (%rsi) \n fstpt 704(%rsi) \n "
	"fnstcw 720(%rsi) \n fnstsw 722(%rsi) \n hlt")

static void test_images_are_of_the_present(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_images);
	assert_int_equal(run(g), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 2, 2), 0x3800);
	assert_int_equal(guest_read(g, GUEST_DATA + 4, 1), 0x80);
	assert_int_equal(guest_read(g, GUEST_DATA + 32, 8), PI);
	assert_int_equal(guest_read(g, GUEST_DATA + 512 + 4, 2), 0x3000);
	assert_int_equal(guest_read(g, GUEST_DATA + 512 + 8, 2), 0x0fff);
	assert_int_equal(guest_read(g, GUEST_DATA + 560, 8), 0);
	assert_int_equal(guest_read(g, GUEST_DATA + 568, 8), PI);
	assert_int_equal(guest_read(g, GUEST_DATA + 576 + 4, 2), 0x3800);
	assert_int_equal(guest_read(g, GUEST_DATA + 576 + 8, 2), 0x3fff);
	assert_int_equal(guest_read(g, GUEST_DATA + 576 + 28, 8), PI);
	assert_int_equal(guest_read(g, GUEST_DATA + 704, 8), PI);
	assert_int_equal(guest_read(g, GUEST_DATA + 720, 4), 0x37f);
	assert_int_equal(cpu_state(g->cpu)->fx.ftw, 0);
}

/* ---- random sequences, as the host runs them ------------------------------------------------------------------- */

#define STEPS     40u
#define SEQUENCES 1500u
#define IMAGE     108u
#define AFTER     128u /* from RSI on: the image of FNSAVE */
#define OPERANDS  256u /* operands in memory; the last is a control word */
#define AREA      384u

/* In registers: opcode, and the ModRM bytes from..to. */
static const uint8_t forms[][3] = {
	{ 0xd8, 0xc0, 0xff }, { 0xd9, 0xc0, 0xcf }, { 0xd9, 0xe0, 0xe1 }, { 0xd9, 0xe4, 0xe5 }, { 0xd9, 0xe8, 0xee },
	{ 0xd9, 0xf0, 0xff }, { 0xda, 0xc0, 0xdf }, { 0xda, 0xe9, 0xe9 }, { 0xdb, 0xc0, 0xdf }, { 0xdb, 0xe2, 0xe3 },
	{ 0xdb, 0xe8, 0xf7 }, { 0xdc, 0xc0, 0xcf }, { 0xdc, 0xe0, 0xff }, { 0xdd, 0xc0, 0xc7 }, { 0xdd, 0xd0, 0xef },
	{ 0xde, 0xc0, 0xcf }, { 0xde, 0xd9, 0xd9 }, { 0xde, 0xe0, 0xff }, { 0xdf, 0xe8, 0xf7 },
};

/* In memory: opcode and the register field. */
static const uint8_t memory_forms[][2] = {
	{ 0xd9, 0 }, { 0xdd, 0 }, { 0xdb, 5 }, { 0xdf, 5 }, { 0xdb, 0 }, { 0xdd, 3 }, { 0xdb, 7 }, { 0xdf, 7 },
	{ 0xd9, 2 }, { 0xdd, 1 }, { 0xd8, 1 }, { 0xdc, 0 }, { 0xdc, 3 }, { 0xda, 4 }, { 0xd9, 7 }, { 0xdd, 7 },
	{ 0xdf, 6 },
};

static uint8_t *put_memory(uint8_t *at, uint8_t opcode, unsigned reg, uint32_t disp)
{
	*at++ = opcode;
	*at++ = (uint8_t)(0x86 | reg << 3); /* disp32(%rsi) */
	memcpy(at, &disp, 4);
	return at + 4;
}

/* FRSTOR, a clean start of the flags, the steps, FNSAVE, and `end`. */
static unsigned sequence(uint8_t *code, uint8_t end)
{
	uint8_t *at = put_memory(code, 0xdd, 4, 0);

	*at++ = 0x31; /* xor %eax,%eax */
	*at++ = 0xc0;
	for (unsigned i = 0; i < STEPS; i++) {
		const uint8_t *form = forms[(unsigned)rand() % (sizeof(forms) / sizeof(forms[0]))];
		const uint8_t *memory =
			memory_forms[(unsigned)rand() % (sizeof(memory_forms) / sizeof(memory_forms[0]))];
		uint32_t disp = OPERANDS + (unsigned)rand() % 7 * 16;

		switch (rand() % 12) {
		case 0: case 1: case 2: at = put_memory(at, memory[0], memory[1], disp); break;
		case 3: at = put_memory(at, 0xd9, 5, OPERANDS + 7 * 16); break; /* FLDCW */
		case 4:
			if (rand() % 8 == 0) {
				*at++ = 0x0f; /* PXOR */
				at = put_memory(at, 0xef, (unsigned)rand() % 8, disp);
				break;
			}
			/* fall through */
		default:
			*at++ = form[0];
			*at++ = (uint8_t)(form[1] + rand() % (form[2] - form[1] + 1));
			break;
		}
	}
	at = put_memory(at, 0xdd, 6, AFTER);
	*at++ = end;
	return (unsigned)(at - code);
}

static void fill(uint8_t area[AREA])
{
	for (unsigned i = 0; i < AREA; i++)
		area[i] = (uint8_t)rand();
	for (unsigned i = 0; i < 8; i++) {
		uint8_t *st = area + 28 + 10 * i;

		if (rand() % 4 == 0)
			continue;
		st[7] |= 0x80; /* near 1 and valid */
		st[9] = (uint8_t)(0x3f | (st[9] & 0x80));
		st[8] = (uint8_t)(0xfd + rand() % 6);
	}
	memset(area, 0, 28);
	area[0] = 0x7f;
	area[1] = (uint8_t)(rand() & 0xf);
	area[5] = (uint8_t)(rand() & 0x38);
	area[8] = (uint8_t)rand();
	area[9] = (uint8_t)rand();
	area[OPERANDS + 7 * 16] = 0x7f;
	area[OPERANDS + 7 * 16 + 1] &= 0xf;
}

static uint32_t word(const uint8_t *image, unsigned at)
{
	uint32_t v;

	memcpy(&v, image + at, sizeof(v));
	return v;
}

/* The address of the last instruction, its opcode, the address of the last operand: where code and area differ. */
static bool same_pointers(const uint8_t *host, const uint8_t *guest, uint32_t code_distance, uint32_t area_distance)
{
	uint32_t fip = word(host, 12), fdp = word(host, 20);

	return word(guest, 12) == (fip ? fip + code_distance : 0) && word(guest, 16) >> 16 == word(host, 16) >> 16 &&
	       word(guest, 20) == (fdp ? fdp + area_distance : 0);
}

static void run_on_host(const uint8_t *code, uint8_t *area)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tcall *%0\n\tlea 128(%%rsp), %%rsp"
	                 : : "r"(code), "S"(area) : "rax", "memory", "cc");
}

/*
 * Intel's processors keep opcodes, and newer ones operands, of exceptions only. AMD's lose all when the kernel switches
 * to another thread, so that the host may have to run the sequence again.
 */
static bool pointers_agree(const uint8_t *code, const uint8_t *start, uint8_t *area, const uint8_t *guest)
{
	uint32_t code_distance = (uint32_t)(GUEST_CODE - (uintptr_t)code);
	uint32_t area_distance = (uint32_t)(GUEST_DATA - (uintptr_t)area);

	if (!__builtin_cpu_is("amd"))
		return true;
	for (unsigned i = 0; i < 20; i++) {
		if (same_pointers(area + AFTER, guest + AFTER, code_distance, area_distance))
			return true;
		memcpy(area, start, AREA);
		run_on_host(code, area);
	}
	return false;
}

static void test_sequences_end_as_on_the_host(void **state)
{
	struct guest *g = *state;
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static uint8_t start[AREA], area[AREA];

	assert_ptr_not_equal(code, MAP_FAILED);
	srand(1);
	for (unsigned n = 0; n < SEQUENCES; n++) {
		unsigned size = sequence(code, 0xc3);
		uint8_t *guest = g->ram + GUEST_DATA;

		fill(start);
		memcpy(area, start, sizeof(area));
		memcpy(guest, start, sizeof(area));
		guest_code(g, GUEST_CODE, code, size - 1);
		GUEST_CODE_BYTES(g, GUEST_CODE + size - 1, 0xf4);
		run_on_host(code, area);
		assert_int_equal(run(g), -1);
		assert_true(pointers_agree(code, start, area, guest));
		/* Selectors are the host's alone. */
		memset(area + AFTER + 12, 0, 16);
		memset(guest + AFTER + 12, 0, 16);
		assert_memory_equal(area, guest, sizeof(area));
	}
	munmap(code, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_x87_of_guest_and_host_do_not_mix, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_unmasked_exception_waits_in_the_guest_only, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_owner_that_leaves_out_a_change, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_host_page_that_has_gone, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_signals_while_the_guest_runs, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_sse_exception_leaves_x87, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_images_are_of_the_present, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_sequences_end_as_on_the_host, guest_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
