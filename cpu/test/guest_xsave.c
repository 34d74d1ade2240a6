/* SPDX-License-Identifier: MIT */
/*
 * XSAVE and its kin. What of them a program may run is compared with the host's processor: the same state, the same
 * instruction, the same area.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "guest.h"

#define UD 6
#define NM 7
#define GP 13
#define PF 14

#define CR0_TS      (UINT64_C(1) << 3)
#define CR4_OSXSAVE (UINT64_C(1) << 18)
#define CR4_PKE     (UINT64_C(1) << 22)

#define X87    UINT64_C(1)
#define SSE    UINT64_C(2)
#define AVX    UINT64_C(4)
#define AVX512 UINT64_C(0xe0)
#define PKRU   UINT64_C(0x200)
#define COMPACTED (UINT64_C(1) << 63)

#define AREA_BYTES 4096u
struct area {
	uint8_t bytes[AREA_BYTES];
} __attribute__((aligned(64)));

/* Where the guest has its areas. */
#define BEFORE GUEST_DATA
#define TESTED (GUEST_DATA + 0x2000u)
#define AFTER  (GUEST_DATA + 0x4000u)

/* ---- areas --------------------------------------------------------------------------------------------- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static bool one_in(unsigned n)
{
	return (random64() >> 33) % n == 0;
}

static uint64_t word_get(const struct area *a, unsigned offset)
{
	uint64_t word;

	memcpy(&word, a->bytes + offset, sizeof(word));
	return word;
}

static void word_set(struct area *a, unsigned offset, uint64_t word)
{
	memcpy(a->bytes + offset, &word, sizeof(word));
}

#define FCW   0u
#define MXCSR 24u
#define MASK  28u
#define ST    32u
#define XMM   160u
#define BV    512u
#define COMP  520u

static void mxcsr_set(struct area *a, uint32_t value)
{
	memcpy(a->bytes + MXCSR, &value, sizeof(value));
}

static uint32_t mxcsr_get(const struct area *a)
{
	uint32_t value;

	memcpy(&value, a->bytes + MXCSR, sizeof(value));
	return value;
}

/* Random bytes, or zeros in some of the pieces, with a header and control words that XRSTOR takes. */
static void area_fill(struct area *a, uint64_t components)
{
	for (unsigned i = 0; i < AREA_BYTES; i += 8)
		word_set(a, i, random64());
	for (unsigned i = 0; i < AREA_BYTES; i += 64) {
		if (one_in(3))
			memset(a->bytes + i, 0, 64);
	}
	/* The exceptions stay masked: neither side is to run an instruction with one pending. */
	word_set(a, FCW, (random64() & UINT64_C(0xff7f7f1f40)) | 0x7f);
	for (unsigned i = 0; i < 8; i++)
		memset(a->bytes + ST + 16 * i + 10, 0, 6);
	/* AMD's processors forget opcode and pointers of an instruction whose exception is masked. */
	word_set(a, 8, 0);
	word_set(a, 16, 0);
	mxcsr_set(a, one_in(3) ? 0x1f80 : (uint32_t)random64() & 0xffff);
	memset(a->bytes + BV, 0, 64);
	word_set(a, BV, random64() & components);
}

/* ---- the host ------------------------------------------------------------------------------------------ */

static uint64_t xgetbv(uint32_t number)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(number));
	return low | (uint64_t)high << 32;
}

/* Those that both the host and the CPU can have; 0 when the host has no XSAVEC. */
static uint64_t host_components(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27))
		return 0;
	if (!__get_cpuid_count(0xd, 1, &a, &b, &c, &d) || (a & 7) != 7)
		return 0;
	return xgetbv(0) & (X87 | SSE | AVX | AVX512);
}

enum form { XSAVE, XSAVEOPT, XSAVEC, XRSTOR, FORMS };
static const char *const names[FORMS] = { "xsave", "xsaveopt", "xsavec", "xrstor" };
/* [rbx], with REX.W */
static const uint8_t codes[FORMS][4] = {
	{ 0x48, 0x0f, 0xae, 0x23 }, { 0x48, 0x0f, 0xae, 0x33 }, { 0x48, 0x0f, 0xc7, 0x23 }, { 0x48, 0x0f, 0xae, 0x2b },
};

extern const char native_resume[];
static volatile sig_atomic_t native_faulted;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	native_faulted = 1;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)native_resume;
}

static struct area native_saved;

/* In one piece, so that no other code sees the registers. Returns: 13 when the instruction faulted. */
static __attribute__((noinline)) int native_run(enum form form, uint64_t rfbm, const struct area *before,
                                                struct area *tested, struct area *after)
{
	const uint64_t all = host_components();
	uint64_t numbers[3] = { (uint64_t)form, rfbm, all };

	native_faulted = 0;
	__asm__ volatile("mov 16(%[n]), %%rax; mov 20(%[n]), %%edx; xsave64 (%[saved]); xrstor64 (%[before])\n"
	                 "mov (%[n]), %%rcx; mov 8(%[n]), %%eax; mov 12(%[n]), %%edx\n"
	                 "cmp $1, %%rcx; je 1f; cmp $2, %%rcx; je 2f; cmp $3, %%rcx; je 3f\n"
	                 "xsave64 (%[tested]); jmp native_resume\n"
	                 "1: xsaveopt64 (%[tested]); jmp native_resume\n"
	                 "2: xsavec64 (%[tested]); jmp native_resume\n"
	                 "3: xrstor64 (%[tested])\n"
	                 ".globl native_resume\nnative_resume:\n"
	                 "mov 16(%[n]), %%eax; mov 20(%[n]), %%edx; xsave64 (%[after]); xrstor64 (%[saved])\n"
	                 :
	                 : [n] "r"(numbers), [saved] "r"(&native_saved), [before] "r"(before), [tested] "r"(tested),
	                   [after] "r"(after)
	                 : "rax", "rcx", "rdx", "memory", "cc");
	return native_faulted ? GP : -1;
}

/* ---- the guest ----------------------------------------------------------------------------------------- */

static int run_at(struct guest *g, const void *code, unsigned size, uint64_t at, uint64_t mask)
{
	struct cpu_state *s = cpu_state(g->cpu);

	guest_code(g, GUEST_CODE, code, size);
	GUEST_CODE_BYTES(g, GUEST_CODE + size, 0xf4);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RSP] = GUEST_STACK;
	s->gpr[CPU_RBX] = at;
	s->gpr[CPU_RAX] = (uint32_t)mask;
	s->gpr[CPU_RDX] = mask >> 32;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	return guest_run_to_hlt(g);
}
#define RUN(g, at, mask, ...) \
	run_at(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), at, mask)

static struct area *area_at(struct guest *g, uint64_t at)
{
	return (struct area *)(void *)(g->ram + at);
}

static int setup_mode(void **state, void (*mode)(struct guest *g))
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	mode(g);
	s->cr4 |= CR4_OSXSAVE;
	s->xcr0 = X87 | SSE;
	*state = g;
	return 0;
}

static int setup(void **state)
{
	return setup_mode(state, guest_long);
}

static int setup_protected(void **state)
{
	return setup_mode(state, guest_protected);
}

/* ---- against the host ------------------------------------------------------------------------------------ */

static void differ(const char *what, enum form form, uint64_t rfbm, const struct area *host, const struct area *guest)
{
	unsigned i = 0;

	while (i < AREA_BYTES && host->bytes[i] == guest->bytes[i])
		i++;
	if (i == AREA_BYTES)
		return;
	fail_msg("%s64 rfbm %#llx: %s differs at %u: host %#llx, guest %#llx", names[form], (unsigned long long)rfbm,
	         what, i, (unsigned long long)word_get(host, i & ~7u), (unsigned long long)word_get(guest, i & ~7u));
}

/* The host may have a bit in MXCSR more: that of AMD's misaligned mode. */
static void mask_same(struct area *a, const struct area *was)
{
	if (memcmp(a->bytes + MASK, was->bytes + MASK, 4) != 0)
		memset(a->bytes + MASK, 0xee, 4);
}

static void header_random(struct area *a, uint64_t components)
{
	if (one_in(2)) {
		uint64_t comp = (random64() & components) | COMPACTED;

		word_set(a, COMP, comp);
		word_set(a, BV, word_get(a, BV) & comp);
	}
	if (!one_in(3))
		return;
	switch (random64() >> 40 & 7) {
	case 0: mxcsr_set(a, (uint32_t)random64() | 1u << 20); break;
	case 1: word_set(a, BV, word_get(a, BV) | UINT64_C(1) << (random64() >> 58)); break;
	case 2: word_set(a, COMP, word_get(a, COMP) ^ UINT64_C(1) << (40 + (random64() >> 32) % 24)); break;
	case 3: word_set(a, COMP, word_get(a, COMP) ^ (random64() & 7)); break;
	default: a->bytes[COMP + 8 + (random64() >> 32) % 48] = 1; break;
	}
}

/* Bits of components that only one of the two has would be legal for one and not for the other. */
static bool header_is_of(const struct area *a, uint64_t components)
{
	const uint64_t other = xgetbv(0) & ~components;

	return !((word_get(a, BV) | word_get(a, COMP)) & other);
}

static bool same(const struct area *a, const struct area *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void compare(struct guest *g, enum form form, uint64_t components)
{
	static struct area before, tested, was, after;
	uint64_t rfbm = one_in(4) ? components : random64();
	struct area *guest_tested = area_at(g, TESTED), *guest_after = area_at(g, AFTER);
	int host, guest, tries = 0;

	rfbm &= ~(xgetbv(0) & ~components);
	area_fill(&before, components);
	area_fill(&was, components);
	if (form == XRSTOR)
		header_random(&was, components);
	else
		word_set(&was, COMP, random64());
	if (!header_is_of(&was, components) && form == XRSTOR)
		return;
	*area_at(g, BEFORE) = before;
	*guest_tested = was;
	memset(guest_after, 0, AREA_BYTES);
	assert_int_equal(run_at(g, codes[XRSTOR], 4, BEFORE, components), -1);
	guest = run_at(g, codes[form], 4, TESTED, rfbm);
	assert_int_equal(run_at(g, codes[XSAVE], 4, AFTER, components), -1);
	mask_same(guest_tested, &was);
	memset(guest_after->bytes + MASK, 0, 4);
	/* When the host's kernel comes between, registers of zeros may count as used afterwards: try again. */
	do {
		tested = was;
		memset(&after, 0, sizeof(after));
		host = native_run(form, rfbm, &before, &tested, &after);
		mask_same(&tested, &was);
		memset(after.bytes + MASK, 0, 4);
	} while (host == guest && !(same(&tested, guest_tested) && same(&after, guest_after)) && ++tries < 20);
	if (host != guest)
		fail_msg("%s64 rfbm %#llx bv %#llx comp %#llx mxcsr %#x: host %d, guest %d", names[form],
		         (unsigned long long)rfbm, (unsigned long long)word_get(&was, BV),
		         (unsigned long long)word_get(&was, COMP), mxcsr_get(&was), host, guest);
	differ("the area", form, rfbm, &tested, guest_tested);
	differ("the state", form, rfbm, &after, guest_after);
}

static void test_as_the_host(void **state)
{
	struct guest *g = *state;
	uint64_t components = host_components();
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER }, old;

	if (components == 0)
		skip();
	cpu_state(g->cpu)->xcr0 = components;
	assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
	for (unsigned i = 0; i < 4000; i++)
		compare(g, i % FORMS, components);
	assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

/* ---- what a program of the host cannot try ----------------------------------------------------------------- */

#define XSAVE64    0x48, 0x0f, 0xae, 0x23 /* [rbx] */
#define XSAVEOPT64 0x48, 0x0f, 0xae, 0x33
#define XRSTOR64   0x48, 0x0f, 0xae, 0x2b
#define XSAVEC64   0x48, 0x0f, 0xc7, 0x23
#define XSAVES64   0x48, 0x0f, 0xc7, 0x2b
#define XRSTORS64  0x48, 0x0f, 0xc7, 0x1b
#define XGETBV     0x0f, 0x01, 0xd0
#define XSETBV     0x0f, 0x01, 0xd1
#define ALL        UINT64_MAX

static void state_fill(struct cpu_state *s)
{
	for (unsigned i = 0; i < 32; i++)
		memset(s->vectors.v[i], 0x40 + (int)i, sizeof(s->vectors.v[i]));
	for (unsigned i = 0; i < 8; i++)
		s->vectors.k[i] = UINT64_C(0x1111111111111111) * (i + 1);
	s->pkru = 0x55550000;
	s->fx.mxcsr = 0x1fa0;
}

static void test_xsaves_is_xsavec_of_the_supervisor(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_vectors was;
	struct area saved;

	s->xcr0 = X87 | SSE | AVX | AVX512;
	state_fill(s);
	was = s->vectors;
	memset(area_at(g, TESTED), 0, AREA_BYTES);
	memset(area_at(g, AFTER), 0, AREA_BYTES);
	assert_int_equal(RUN(g, TESTED, ALL, XSAVEC64), -1);
	assert_int_equal(RUN(g, AFTER, ALL, XSAVES64), -1);
	assert_int_equal(word_get(area_at(g, AFTER), BV), SSE | AVX | AVX512);
	assert_int_equal(word_get(area_at(g, AFTER), COMP), COMPACTED | X87 | SSE | AVX | AVX512);
	assert_memory_equal(area_at(g, TESTED), area_at(g, AFTER), AREA_BYTES);
	saved = *area_at(g, AFTER);
	memset(&s->vectors, 0, sizeof(s->vectors));
	s->fx.mxcsr = 0x1f80;
	assert_int_equal(RUN(g, AFTER, ALL, XRSTORS64), -1);
	assert_memory_equal(&s->vectors, &was, sizeof(was));
	assert_int_equal(s->fx.mxcsr, 0x1fa0);
	/* XRSTORS takes the compacted format alone. */
	word_set(area_at(g, AFTER), COMP, 0);
	assert_int_equal(RUN(g, AFTER, ALL, XRSTORS64), GP);
	*area_at(g, AFTER) = saved;
	word_set(area_at(g, AFTER), COMP, word_get(&saved, COMP) | UINT64_C(1) << 11);
	assert_int_equal(RUN(g, AFTER, ALL, XRSTORS64), GP);
}

static void test_supervisor_forms_are_not_for_programs(void **state)
{
	/* xsavec, xsaves, xrstors [rbx]; each in a program */
	static const uint8_t code[] = { XSAVEC64, XSAVES64, XSAVEC64, XRSTORS64 };
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = 0; i < 2; i++) {
		guest_code(g, GUEST_USER_CODE, code + 8 * i, 8);
		s->seg[CPU_CS].selector = SEL_UCODE64;
		s->seg[CPU_CS].dpl = 3;
		s->seg[CPU_SS].selector = SEL_UDATA;
		s->seg[CPU_SS].dpl = 3;
		s->rip = GUEST_USER_CODE;
		s->gpr[CPU_RBX] = GUEST_USER_CODE + 0x1000;
		s->gpr[CPU_RAX] = X87;
		s->gpr[CPU_RDX] = 0;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		assert_int_equal(guest_run_to_hlt(g), GP);
		assert_int_equal(guest_read(g, s->gpr[CPU_RSP] + 8, 8), GUEST_USER_CODE + 4);
	}
}

static void test_conditions(void **state)
{
	static const uint8_t forms[][4] = {
		{ XSAVE64 }, { XSAVEOPT64 }, { XSAVEC64 }, { XSAVES64 }, { XRSTOR64 }, { XRSTORS64 },
	};
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	memset(area_at(g, TESTED), 0, AREA_BYTES);
	word_set(area_at(g, TESTED), COMP, COMPACTED);
	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		assert_int_equal(run_at(g, forms[i], 4, TESTED + 32, 0), GP);
		s->cr0 |= CR0_TS;
		assert_int_equal(run_at(g, forms[i], 4, TESTED + 32, 0), NM);
		s->cr4 &= ~CR4_OSXSAVE;
		assert_int_equal(run_at(g, forms[i], 4, TESTED, 0), UD);
		s->cr0 &= ~CR0_TS;
		s->cr4 |= CR4_OSXSAVE;
		/* CR0.EM is not asked. */
		s->cr0 |= 4;
		assert_int_equal(run_at(g, forms[i], 4, TESTED, 0), -1);
		s->cr0 &= ~UINT64_C(4);
		word_set(area_at(g, TESTED), COMP, COMPACTED);
	}
}

/* The second page of the area is not there. */
static void test_faults_in_the_middle(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	const uint64_t at = GUEST_DATA + 0x1000 - 768; /* in 4 KiB pages; the upper halves are in the second page */
	struct cpu_vectors was;
	struct cpu_fx fx;

	s->xcr0 = X87 | SSE | AVX | AVX512;
	state_fill(s);
	was = s->vectors;
	assert_int_equal(RUN(g, at, ALL, XSAVE64), -1);
	memset(&s->vectors, 0xcc, sizeof(s->vectors));
	s->fx.mxcsr = 0x1f80;
	*guest_pte(g, at + 0x1000) &= ~UINT64_C(1);
	fx = s->fx;
	assert_int_equal(RUN(g, at, ALL, XRSTOR64), PF);
	assert_int_equal(s->cr2, GUEST_DATA + 0x1000);
	assert_memory_equal(&s->fx, &fx, sizeof(fx));
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(s->vectors.v[i][0], 0xcc);
	/* What is in the first page can be loaded. */
	assert_int_equal(RUN(g, at, X87 | SSE, XRSTOR64), -1);
	assert_memory_equal(s->vectors.v[3], was.v[3], 16);
	assert_int_equal(s->vectors.v[3][16], 0xcc);
	/* XSAVE finds the same, and its header comes last. */
	word_set(area_at(g, at), BV, 0);
	assert_int_equal(RUN(g, at, ALL, XSAVE64), PF);
	assert_int_equal(s->cr2, GUEST_DATA + 0x1000);
	assert_int_equal(word_get(area_at(g, at), BV), 0);
	*guest_pte(g, at + 0x1000) |= 1;
	assert_int_equal(RUN(g, at, ALL, XSAVE64), -1);
	assert_int_equal(word_get(area_at(g, at), BV), SSE | AVX | AVX512);
}

/* Protection key 1 of a page: XRSTOR's PKRU holds for the next instruction. */
static void test_pkru_is_a_component(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	const unsigned offset = cpu_xsave_bytes(PKRU, false) - 8;

	s->cr4 |= CR4_PKE;
	s->xcr0 = X87 | SSE | PKRU;
	*guest_pte(g, GUEST_USER_CODE + 0x3000) |= UINT64_C(1) << 59;
	s->pkru = 8;
	memset(area_at(g, TESTED), 0xcc, AREA_BYTES);
	word_set(area_at(g, TESTED), BV, 0);
	assert_int_equal(RUN(g, TESTED, PKRU, XSAVE64), -1);
	assert_int_equal(word_get(area_at(g, TESTED), BV), PKRU);
	assert_int_equal(word_get(area_at(g, TESTED), offset), 8);
	for (unsigned denied = 0; denied < 2; denied++) {
		memset(area_at(g, TESTED), 0, AREA_BYTES);
		word_set(area_at(g, TESTED), BV, PKRU);
		word_set(area_at(g, TESTED), offset, denied ? 4 : 0); /* key 1: access disabled */
		s->pkru = denied ? 0 : 4;
		s->gpr[CPU_RSI] = GUEST_USER_CODE + 0x3000;
		/* mov cl, [rsi] before it, which may leave a translation behind, and after it */
		if (denied)
			assert_int_equal(RUN(g, TESTED, PKRU, 0x8a, 0x0e, XRSTOR64, 0x8a, 0x0e), PF);
		else
			assert_int_equal(RUN(g, TESTED, PKRU, XRSTOR64, 0x8a, 0x0e), -1);
		assert_int_equal(s->pkru, denied ? 4 : 0);
	}
	/* In a compacted area it follows the header at once. */
	s->pkru = 0x100;
	s->gpr[CPU_RSI] = TESTED;
	memset(area_at(g, TESTED), 0, AREA_BYTES);
	assert_int_equal(RUN(g, TESTED, PKRU, XSAVEC64), -1);
	assert_int_equal(word_get(area_at(g, TESTED), 576), 0x100);
	/* And the initial state is 0. */
	word_set(area_at(g, TESTED), BV, 0);
	assert_int_equal(RUN(g, TESTED, PKRU, XRSTOR64), -1);
	assert_int_equal(s->pkru, 0);
}

static void test_xgetbv(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->xcr0 = X87 | SSE | AVX;
	s->gpr[CPU_RCX] = 0;
	assert_int_equal(RUN(g, 0, 0, XGETBV), -1);
	assert_int_equal(s->gpr[CPU_RAX], 7);
	s->gpr[CPU_RCX] = 1;
	assert_int_equal(RUN(g, 0, 0, XGETBV), -1);
	assert_int_equal(s->gpr[CPU_RAX], 0);
	s->fx.mxcsr = 0x1f81;
	assert_int_equal(RUN(g, 0, 0, XGETBV), -1);
	assert_int_equal(s->gpr[CPU_RAX], SSE);
	state_fill(s);
	s->fx.fcw = 0x27f;
	assert_int_equal(RUN(g, 0, 0, XGETBV), -1);
	assert_int_equal(s->gpr[CPU_RAX], X87 | SSE | AVX);
	s->gpr[CPU_RCX] = 2;
	assert_int_equal(RUN(g, 0, 0, XGETBV), GP);
}

static void test_xsetbv(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint32_t out[4];
	uint64_t has;

	cpu_cpuid_max(0xd, 0, out);
	has = out[0] | (uint64_t)out[3] << 32;
	for (uint64_t value = 0; value < 0x800; value++) {
		bool avx512 = value & AVX512;
		bool legal = (value & X87) && !(value & ~has) && (!(value & AVX) || (value & SSE)) &&
		             (!avx512 || ((value & AVX512) == AVX512 && (value & AVX)));

		s->xcr0 = X87;
		s->gpr[CPU_RCX] = 0;
		assert_int_equal(RUN(g, 0, value, XSETBV), legal ? -1 : GP);
		assert_int_equal(s->xcr0, legal ? value : X87);
	}
	s->gpr[CPU_RCX] = 1;
	assert_int_equal(RUN(g, 0, 1, XSETBV), GP);
	s->gpr[CPU_RCX] = 0;
	assert_int_equal(RUN(g, 0, UINT64_C(1) << 62 | 1, XSETBV), GP);
}

/* 32-bit code: eight registers. */
static void test_outside_64_bit_mode(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	const struct area *area = area_at(g, TESTED);

	s->xcr0 = X87 | SSE | AVX;
	state_fill(s);
	memset(area_at(g, TESTED), 0xcc, AREA_BYTES);
	word_set(area_at(g, TESTED), BV, 0);
	assert_int_equal(RUN(g, TESTED, ALL, 0x0f, 0xae, 0x23), -1);
	assert_int_equal(area->bytes[XMM + 7 * 16], 0x47);
	assert_int_equal(area->bytes[XMM + 8 * 16], 0xcc);
	assert_int_equal(area->bytes[576 + 7 * 16], 0x47);
	assert_int_equal(area->bytes[576 + 8 * 16], 0xcc);
	memset(area_at(g, TESTED)->bytes + BV, 0, 64);
	mxcsr_set(area_at(g, TESTED), 0x1f80);
	assert_int_equal(RUN(g, TESTED, AVX, 0x0f, 0xae, 0x2b), -1);
	assert_int_equal(s->vectors.v[7][15], 0x47);
	assert_int_equal(s->vectors.v[7][16], 0);
	assert_int_equal(s->vectors.v[8][16], 0x48);
}

/* CPUID tells the sizes with what is on. */
static void test_sizes(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	static const uint64_t on[] = { X87, X87 | SSE, X87 | SSE | AVX, X87 | SSE | PKRU, X87 | SSE | AVX | AVX512 };
	uint32_t a, b, c, d;

	for (unsigned i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
		s->xcr0 = on[i];
		for (unsigned subleaf = 0; subleaf < 2; subleaf++) {
			s->gpr[CPU_RCX] = subleaf;
			assert_int_equal(RUN(g, 0, 0xd, 0x0f, 0xa2), -1);
			assert_int_equal(s->gpr[CPU_RBX], cpu_xsave_bytes(on[i], subleaf));
		}
	}
	if (host_components() != (X87 | SSE | AVX | AVX512))
		skip();
	/* The host's own size, where nothing follows the registers of AVX-512. */
	if (__get_cpuid_count(0xd, 0, &a, &b, &c, &d) && a == (X87 | SSE | AVX | AVX512))
		assert_int_equal(cpu_xsave_bytes(a, false), c);
}

/* INIT is not a reset: registers and what is on stay. */
static void test_init_keeps_the_state(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_vectors was;

	state_fill(s);
	was = s->vectors;
	s->xcr0 = X87 | SSE | AVX;
	cpu_reset(g->cpu, true);
	assert_memory_equal(&s->vectors, &was, sizeof(was));
	assert_int_equal(s->pkru, 0x55550000);
	assert_int_equal(s->fx.mxcsr, 0x1fa0);
	assert_int_equal(s->xcr0, X87 | SSE | AVX);
	cpu_reset(g->cpu, false);
	memset(&was, 0, sizeof(was));
	assert_memory_equal(&s->vectors, &was, sizeof(was));
	assert_int_equal(s->pkru, 0);
	assert_int_equal(s->fx.mxcsr, 0x1f80);
	assert_int_equal(s->xcr0, X87);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_as_the_host, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_xsaves_is_xsavec_of_the_supervisor, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_supervisor_forms_are_not_for_programs, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_conditions, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_faults_in_the_middle, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_pkru_is_a_component, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_xgetbv, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_xsetbv, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_outside_64_bit_mode, setup_protected, guest_teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_init_keeps_the_state, setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
