/* SPDX-License-Identifier: MIT */
/*
 * Alignment checks (#AC) at level 3: which instruction checks what, held against the host's own processor where that is
 * AMD's (others differ for vectors); and when nothing is checked.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define AC     0x40000u
#define CR0_AM (UINT64_C(1) << 18)
#define DATA   (GUEST_USER_CODE + 0x4000)

/* RDI is the address, RSI 512 more, and all others are 0 but RCX, which is 1. */
#define ROWS(X) \
	X(mov16, "mov (%rdi), %ax") X(mov32, "mov (%rdi), %eax") X(mov64, "mov %rax, (%rdi)") \
	X(add, "addl $1, (%rdi)") X(lock_add, "lock addl $1, (%rdi)") X(xadd, "lock xaddq %rax, (%rdi)") \
	X(cmpxchg8b, "cmpxchg8b (%rdi)") X(cmpxchg16b, "cmpxchg16b (%rdi)") X(bt, "bt %eax, (%rdi)") \
	X(movsl, "rep movsl") X(movsw, "movsw") X(lods, "mov %rdi, %rsi \n lodsq") X(movbe, "movbe (%rdi), %eax") \
	X(movnti, "movnti %eax, (%rdi)") X(clflush, "clflush (%rdi)") X(byte, "mov (%rdi), %al") \
	X(push, "mov %rsp, %r8 \n mov %rdi, %rsp \n push %rax \n mov %r8, %rsp") \
	X(movups, "movups (%rdi), %xmm0") X(movups_store, "movups %xmm0, (%rdi)") X(movdqu, "movdqu (%rdi), %xmm0") \
	X(lddqu, "lddqu (%rdi), %xmm0") X(movaps, "movaps (%rdi), %xmm0") X(addps, "addps (%rdi), %xmm0") \
	X(movq, "movq (%rdi), %xmm0") X(movsd, "movsd (%rdi), %xmm0") X(movss, "movss (%rdi), %xmm0") \
	X(movhps, "movhps (%rdi), %xmm0") X(cvtps2pd, "cvtps2pd (%rdi), %xmm0") X(pinsrw, "pinsrw $1, (%rdi), %xmm0") \
	X(pmovzxbw, "pmovzxbw (%rdi), %xmm0") X(pcmpistri, "pcmpistri $0, (%rdi), %xmm0 \n mov $1, %ecx") \
	X(maskmovdqu, "pcmpeqb %xmm0, %xmm0 \n maskmovdqu %xmm0, %xmm0") \
	X(vmaskmovdqu, "vpcmpeqb %xmm0, %xmm0, %xmm0 \n vmaskmovdqu %xmm0, %xmm0") \
	X(vmovups, "vmovups (%rdi), %xmm0") X(vaddps, "vaddps (%rdi), %xmm0, %xmm1") \
	X(vmovdqu_ymm, "vmovdqu (%rdi), %ymm0") X(vaddps_ymm, "vaddps (%rdi), %ymm0, %ymm1") \
	X(vmaskmovps, "vpcmpeqb %xmm1, %xmm1, %xmm1 \n vmaskmovps (%rdi), %xmm1, %xmm0") \
	X(vgather, "vpcmpeqb %xmm1, %xmm1, %xmm1 \n vpxor %xmm2, %xmm2, %xmm2 \n" \
	           "vpgatherdd %xmm1, (%rdi,%xmm2,1), %xmm0") \
	X(flds, "flds (%rdi) \n fninit") X(fldl, "fldl (%rdi) \n fninit") X(fldt, "fldt (%rdi) \n fninit") \
	X(fstpt, "fldz \n fstpt (%rdi)") X(fbld, "fbld (%rdi) \n fninit") X(filds, "filds (%rdi) \n fninit") \
	X(fnstenv, "fnstenv (%rdi)") X(fnsave, "fnsave (%rdi)") X(fldenv, "fnstenv (%rsi) \n fldenv (%rsi)") \
	X(fnstcw, "fnstcw (%rdi)") X(stmxcsr, "stmxcsr (%rdi)")

#define WIDE_ROWS(X) \
	X(vmovdqu64, "vmovdqu64 (%rdi), %zmm0") X(broadcast, "vaddps (%rdi){1to16}, %zmm0, %zmm1") \
	X(compress, "kxnorw %k1, %k1, %k1 \n vpcompressd %xmm0, (%rdi){%k1}") \
	X(masked8, "kxnorw %k1, %k1, %k1 \n vmovdqu8 %xmm0, (%rdi){%k1}") \
	X(masked32, "kxnorw %k1, %k1, %k1 \n vmovdqu32 %xmm0, (%rdi){%k1}")

#define DECLARE(name, text) GUEST_ASM(al_##name, text)
ROWS(DECLARE)
WIDE_ROWS(DECLARE)

struct row {
	const char *name;
	const uint8_t *code, *end;
};
#define ROW(name, text) { #name, al_##name, al_##name##_end },
static const struct row rows[] = { ROWS(ROW) WIDE_ROWS(ROW) };
#define ONE(name, text) + 1
enum { WIDE_COUNT = 0 WIDE_ROWS(ONE) };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const unsigned offsets[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 40, 48, 56 };

/* ---- the host ---------------------------------------------------------------------------------------------- */

static sigjmp_buf env;
static uint8_t area[8192] __attribute__((aligned(4096)));

static void ac_set(bool set)
{
	uint64_t flags = __builtin_ia32_readeflags_u64();

	__builtin_ia32_writeeflags_u64(set ? flags | AC : flags & ~(uint64_t)AC);
}

static void on_signal(int number)
{
	ac_set(false);
	siglongjmp(env, number);
}

__asm__(".pushsection .text\n.local al_call\n"
        "al_call: push %rbx\n mov %rdi, %r11\n mov %rsi, %rdi\n lea 512(%rsi), %rsi\n"
        "xor %eax, %eax\n xor %ebx, %ebx\n xor %edx, %edx\n mov $1, %ecx\n"
        "pushf\n orl $0x40000, (%rsp)\n popf\n call *%r11\n pushf\n andl $~0x40000, (%rsp)\n popf\n"
        "cld\n pop %rbx\n ret\n.popsection\n");
void al_call(const void *code, void *at);

/* Returns: the vector of what the host raises, -1 for nothing. */
static int host_vector(const struct row *r, uint8_t *code, unsigned offset)
{
	size_t size = (size_t)(r->end - r->code);
	int number = sigsetjmp(env, 1);

	if (number != 0)
		return number == SIGBUS ? 17 : 13;
	memset(area, 0, sizeof(area));
	memcpy(code, r->code, size);
	code[size] = 0xc3;
	al_call(code, area + 1024 + offset);
	return -1;
}

/* ---- the guest --------------------------------------------------------------------------------------------- */

static void user(struct guest *g, uint64_t rdi)
{
	struct cpu_state *s = cpu_state(g->cpu);

	s->seg[CPU_CS].selector = SEL_UCODE64;
	s->seg[CPU_SS].selector = SEL_UDATA;
	s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 3;
	s->cr0 |= CR0_AM;
	s->cr4 |= 0x40000;
	s->xcr0 = 0xe7;
	s->rflags = AC | 2;
	s->rip = GUEST_USER_CODE;
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[CPU_RCX] = 1;
	s->gpr[CPU_RSP] = GUEST_USER_CODE + 0x2000;
	s->gpr[CPU_RDI] = rdi;
	s->gpr[CPU_RSI] = rdi + 512;
	s->fx.fcw = 0x37f;
	s->fx.ftw = 0;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

/* Returns: the vector; -1 when the UD2 behind the code was reached. */
static int guest_vector(struct guest *g, const struct row *r, uint64_t rdi)
{
	unsigned size = (unsigned)(r->end - r->code);
	int vector;

	memset(g->ram + DATA, 0, 0x1000);
	user(g, rdi);
	guest_code(g, GUEST_USER_CODE, r->code, size);
	GUEST_CODE_BYTES(g, GUEST_USER_CODE + size, 0x0f, 0x0b);
	vector = guest_run_to_hlt(g);
	if (vector == 17) /* the error code */
		assert_int_equal(guest_read(g, cpu_state(g->cpu)->gpr[CPU_RSP], 8), 0);
	return vector == 6 ? -1 : vector;
}

static bool is_amd(void)
{
	unsigned a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

static void test_alignment_as_the_host(void **state)
{
	struct guest *g = *state;
	bool wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER }, was[2];

#ifdef __SANITIZE_THREAD__
	skip(); /* its runtime's signal handlers run with AC set, too, and are not made for it */
#endif
	if (!is_amd() || !__builtin_cpu_supports("avx2") || code == MAP_FAILED)
		skip();
	sigaction(SIGBUS, &action, &was[0]);
	sigaction(SIGSEGV, &action, &was[1]);
	for (unsigned i = 0; i < COUNT(rows) - (wide ? 0 : WIDE_COUNT); i++) {
		for (unsigned j = 0; j < COUNT(offsets); j++) {
			int host = host_vector(&rows[i], code, offsets[j]);
			int guest = guest_vector(g, &rows[i], DATA + offsets[j]);

			if (host != guest)
				print_error("%s at %u: %d, the host %d\n", rows[i].name, offsets[j], guest, host);
			assert_int_equal(guest, host);
		}
	}
	sigaction(SIGBUS, &was[0], NULL);
	sigaction(SIGSEGV, &was[1], NULL);
	munmap(code, 4096);
}

/* Each of the three conditions alone is not enough, and the instruction may run again without AC. */
static void test_alignment_is_asked_for(void **state)
{
	const struct row r = { "mov", al_mov32, al_mov32_end };
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	assert_int_equal(guest_vector(g, &r, DATA + 1), 17);
	assert_int_equal(s->events.exception.pending, false);
	for (unsigned i = 0; i < 3; i++) {
		user(g, DATA + 1);
		if (i == 0)
			s->cr0 &= ~CR0_AM;
		if (i == 1)
			s->rflags &= ~(uint64_t)AC;
		if (i == 2)
			s->seg[CPU_CS].dpl = s->seg[CPU_SS].dpl = 0;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		assert_int_equal(guest_run_to_hlt(g), 6);
	}
}

/* Before the page fault, and not for the event's own pushes, which go to level 0. */
static void test_alignment_and_page_faults(void **state)
{
	const struct row r = { "mov", al_mov64, al_mov64_end };
	struct guest *g = *state;

	assert_int_equal(guest_vector(g, &r, 0x10000000), 14);
	assert_int_equal(guest_vector(g, &r, 0x10000001), 17);
	assert_int_equal(guest_vector(g, &r, 0x10000000), 14);
}

GUEST_ASM(al_popf, "pushfq \n andl $~0x40000, (%rsp) \n popfq \n mov (%rdi), %eax \n pushfq \n orl $0x40000, (%rsp) \n"
                   "popfq \n mov 3(%rdi), %eax \n mov (%rdi), %eax")

static void test_alignment_follows_popf(void **state)
{
	const struct row r = { "popf", al_popf, al_popf_end };
	struct guest *g = *state;

	assert_int_equal(guest_vector(g, &r, DATA + 1), 17);
	assert_int_equal(guest_read(g, cpu_state(g->cpu)->gpr[CPU_RSP] + 8, 8),
	                 GUEST_USER_CODE + (uint64_t)(al_popf_end - al_popf) - 2);
}

int main(void)
{
#define ALIGN_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		ALIGN_TEST(test_alignment_as_the_host),
		ALIGN_TEST(test_alignment_is_asked_for),
		ALIGN_TEST(test_alignment_and_page_faults),
		ALIGN_TEST(test_alignment_follows_popf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
