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

static int setup(void **state)
{
	struct guest *g = guest_make();
	struct cpu_state *s = cpu_state(g->cpu);

	guest_long(g);
	s->cr4 |= CR4_OSXSAVE;
	s->xcr0 = X87 | SSE;
	*state = g;
	return 0;
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

static void compare(struct guest *g, enum form form, uint64_t components)
{
	static struct area before, tested, was, after;
	uint64_t rfbm = one_in(4) ? components : random64();
	struct area *guest_tested = area_at(g, TESTED), *guest_after = area_at(g, AFTER);
	int host, guest;

	rfbm &= ~(xgetbv(0) & ~components);
	area_fill(&before, components);
	area_fill(&tested, components);
	if (form == XRSTOR)
		header_random(&tested, components);
	else
		word_set(&tested, COMP, random64());
	if (!header_is_of(&tested, components) && form == XRSTOR)
		return;
	was = tested;
	memset(&after, 0, sizeof(after));
	*area_at(g, BEFORE) = before;
	*guest_tested = tested;
	memset(guest_after, 0, AREA_BYTES);
	host = native_run(form, rfbm, &before, &tested, &after);
	assert_int_equal(run_at(g, codes[XRSTOR], 4, BEFORE, components), -1);
	guest = run_at(g, codes[form], 4, TESTED, rfbm);
	if (host != guest)
		fail_msg("%s64 rfbm %#llx bv %#llx comp %#llx mxcsr %#x: host %d, guest %d", names[form],
		         (unsigned long long)rfbm, (unsigned long long)word_get(&was, BV),
		         (unsigned long long)word_get(&was, COMP), mxcsr_get(&was), host, guest);
	assert_int_equal(run_at(g, codes[XSAVE], 4, AFTER, components), -1);
	mask_same(&tested, &was);
	mask_same(guest_tested, &was);
	memset(after.bytes + MASK, 0, 4);
	memset(guest_after->bytes + MASK, 0, 4);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_as_the_host, setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
