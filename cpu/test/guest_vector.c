/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions as the machine around them sees them: memory operands at page ends, in devices and over code,
 * faults that leave everything as it was, MXCSR on its way between guest and host, and hosts where no code can be made.
 * What the instructions compute, the differential test compares with the real CPU.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define UD 6
#define NM 7
#define GP 13
#define PF 14

static uint64_t *xmm(struct guest *g, unsigned n)
{
	return (uint64_t *)(void *)cpu_state(g->cpu)->vectors.v[n];
}

static void set(struct guest *g, unsigned n, uint64_t low, uint64_t high)
{
	xmm(g, n)[0] = low;
	xmm(g, n)[1] = high;
}

static void expect(struct guest *g, unsigned n, uint64_t low, uint64_t high)
{
	assert_int_equal(xmm(g, n)[0], low);
	assert_int_equal(xmm(g, n)[1], high);
}

static int run(struct guest *g)
{
	cpu_state(g->cpu)->rip = GUEST_CODE;
	cpu_state(g->cpu)->gpr[CPU_RSP] = GUEST_STACK;
	return guest_run_to_hlt(g);
}

/* ---- memory operands ------------------------------------------------------------------------------------------ */

#define REVERSE UINT64_C(0x0001020304050607) /* PSHUFB's upper half for reversing 16 bytes */

GUEST_ASM(code_shuffle, "pshufb (%rbx), %xmm1 \n hlt")

static void test_an_operand_may_end_with_its_page(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_shuffle);
	guest_write(g, GUEST_DATA + 4080, 8, UINT64_C(0x08090a0b0c0d0e0f));
	guest_write(g, GUEST_DATA + 4088, 8, REVERSE);
	*guest_pte(g, GUEST_DATA + 4096) = 0;
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_DATA + 4080;
	for (unsigned i = 0; i < 2; i++) { /* from a cold TLB and a warm one */
		set(g, 1, UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908));
		assert_int_equal(run(g), -1);
		expect(g, 1, UINT64_C(0x08090a0b0c0d0e0f), REVERSE);
	}
}

GUEST_ASM(code_compare_strings, "pcmpistri $0x18, (%rbx), %xmm1 \n hlt")

static void test_an_operand_over_two_pages(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_compare_strings);
	for (unsigned i = 0; i < 16; i++)
		guest_write(g, GUEST_DATA + 4090 + i, 1, 'a' + i);
	set(g, 1, UINT64_C(0x6867666564636261), UINT64_C(0x706f6e6d6c6b6a21)); /* the ninth byte differs */
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_DATA + 4090;
	assert_int_equal(run(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 8);
	assert_int_equal(cpu_state(g->cpu)->rflags & 1, 1);

	*guest_pte(g, GUEST_DATA + 4096) = 0;
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
	cpu_state(g->cpu)->gpr[CPU_RCX] = 77;
	assert_int_equal(run(g), PF);
	assert_int_equal(cpu_state(g->cpu)->cr2, GUEST_DATA + 4096);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 77);
}

static void test_an_operand_that_must_be_aligned(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_shuffle);
	set(g, 1, 1, 2);
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_DATA + 8;
	assert_int_equal(run(g), GP);
	expect(g, 1, 1, 2);
}

GUEST_ASM(code_extract, "pextrd $2, %xmm1, (%rbx) \n hlt")

static void test_a_store_over_two_pages_is_whole_or_not_at_all(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_extract);
	set(g, 1, 0, UINT64_C(0x55667788));
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_DATA + 4094;
	assert_int_equal(run(g), -1);
	assert_int_equal(guest_read(g, GUEST_DATA + 4094, 4), 0x55667788);

	guest_write(g, GUEST_DATA + 4094, 4, 0);
	*guest_pte(g, GUEST_DATA + 4096) &= ~UINT64_C(2);
	cpu_state(g->cpu)->cr0 |= 1u << 16;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(run(g), PF);
	assert_int_equal(guest_read(g, GUEST_DATA + 4094, 4), 0);
}

GUEST_ASM(code_device, "aesenc (%rbx), %xmm1 \n pextrq $1, %xmm1, 16(%rbx) \n hlt")

static void test_an_operand_of_a_device(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);
	const uint64_t key[2] = { UINT64_C(0x1111111111111111), UINT64_C(0x2222222222222222) };

	GUEST_LOAD(g, GUEST_CODE, code_device);
	set(g, 1, 0, 0);
	cpu_state(g->cpu)->rip = GUEST_CODE;
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_MMIO;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
		assert_true(!info->mmio.write && info->mmio.gpa == GUEST_MMIO + 8 * i && info->mmio.len == 8);
		memcpy(info->mmio.data, &key[i], 8);
	}
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	/* A round on zeros gives 0x63 in each byte. */
	expect(g, 1, key[0] ^ UINT64_C(0x6363636363636363), key[1] ^ UINT64_C(0x6363636363636363));
	assert_true(info->mmio.write && info->mmio.gpa == GUEST_MMIO + 16 && info->mmio.len == 8);
	assert_memory_equal(info->mmio.data, &xmm(g, 1)[1], 8);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
}

/* The instruction behind it is overwritten: `inc %edx` becomes `inc %ecx`. */
GUEST_ASM(code_overwrite, "xor %ecx, %ecx \n xor %edx, %edx \n pextrb $0, %xmm1, patch_me+1(%rip) \n"
                          "patch_me: .byte 0xff, 0xc2 \n hlt")

static void test_a_store_over_the_next_instruction(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_overwrite);
	set(g, 1, 0xc1, 0);
	assert_int_equal(run(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RDX], 0);
}

/* ---- faults that leave the state -------------------------------------------------------------------------------- */

GUEST_ASM(code_mmx, "pabsb (%rbx), %mm3 \n hlt")

static void test_a_fault_of_an_mmx_instruction_leaves_the_x87_stack(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_mmx);
	s->fx.fsw = 3u << 11;
	s->fx.ftw = 0x81;
	s->gpr[CPU_RBX] = GUEST_DATA;
	*guest_pte(g, GUEST_DATA) = 0;
	assert_int_equal(run(g), PF);
	assert_int_equal(s->fx.fsw, 3u << 11);
	assert_int_equal(s->fx.ftw, 0x81);

	*guest_pte(g, GUEST_DATA) = GUEST_DATA | 3;
	guest_write(g, GUEST_DATA, 8, UINT64_C(0xff01ff01ff01ff01));
	assert_int_equal(run(g), -1);
	assert_int_equal(s->fx.fsw, 0);
	assert_int_equal(s->fx.ftw, 0xff);
	assert_memory_equal(s->fx.st[3], "\1\1\1\1\1\1\1\1\xff\xff", 10);
}

static void test_control_registers_decide_before_memory_does(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_shuffle);
	s->gpr[CPU_RBX] = GUEST_DATA + 1; /* misaligned, and without a page */
	*guest_pte(g, GUEST_DATA) = 0;
	s->cr0 |= 8;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(run(g), NM);
	s->cr0 |= 4;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(run(g), UD);
	s->cr0 &= ~UINT64_C(12);
	s->cr4 &= ~UINT64_C(0x200);
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(run(g), UD);
}

/* ---- MXCSR ------------------------------------------------------------------------------------------------------ */

#define HOST_MXCSR  0xdfc0u /* everything masked; round up, flush and take denormals as zero */
#define GUEST_MXCSR 0x3f80u /* round down */
#define FLAGS       0x3fu

static uint32_t mxcsr_in_callback;

static void cpuid_callback(void *state, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	(void)state;
	mxcsr_in_callback = _mm_getcsr();
	cpu_cpuid_max(leaf, subleaf, out);
}

/* 1/3 is inexact; the quotient says how it was rounded. */
GUEST_ASM(code_divide,
	"ldmxcsr (%rsi) \n divsd %xmm2, %xmm1 \n cpuid \n stmxcsr 4(%rsi) \n roundsd $4, %xmm3, %xmm3 \n "
	"in $0x10, %al \n hlt")

static void test_mxcsr_of_guest_and_host_do_not_mix(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint32_t mine = _mm_getcsr();

	g->ops.cpuid = cpuid_callback;
	GUEST_LOAD(g, GUEST_CODE, code_divide);
	guest_write(g, GUEST_DATA, 4, GUEST_MXCSR);
	s->gpr[CPU_RSI] = GUEST_DATA;
	s->rip = GUEST_CODE;
	set(g, 1, UINT64_C(0x3ff0000000000000), 0);
	set(g, 2, UINT64_C(0x4008000000000000), 0);
	set(g, 3, UINT64_C(0xbff8000000000000), 0); /* -1.5 */
	_mm_setcsr(HOST_MXCSR);
	mxcsr_in_callback = 0;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(_mm_getcsr(), HOST_MXCSR);
	_mm_setcsr(mine);
	assert_int_equal(mxcsr_in_callback, HOST_MXCSR);
	assert_int_equal(guest_read(g, GUEST_DATA + 4, 4), GUEST_MXCSR | 0x20);
	assert_int_equal(s->fx.mxcsr, GUEST_MXCSR | 0x20);
	expect(g, 1, UINT64_C(0x3fd5555555555555), 0);
	expect(g, 3, UINT64_C(0xc000000000000000), 0); /* -2: rounded down */
}

/* An operand whose host page is gone. The division before it has raised the flag of precision. */
GUEST_ASM(code_host_fault, "ldmxcsr 64(%rsi) \n divsd %xmm2, %xmm1 \n pshufb (%rbx), %xmm3 \n hlt")

static void test_a_host_page_that_has_gone(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint32_t mine = _mm_getcsr();

	cpu_signals_install();
	GUEST_LOAD(g, GUEST_CODE, code_host_fault);
	guest_write(g, GUEST_DATA + 4096 + 64, 4, GUEST_MXCSR);
	s->gpr[CPU_RSI] = GUEST_DATA + 4096;
	s->gpr[CPU_RBX] = GUEST_DATA;
	s->rip = GUEST_CODE;
	set(g, 1, UINT64_C(0x3ff0000000000000), 0);
	set(g, 2, UINT64_C(0x4008000000000000), 0);
	set(g, 3, 5, 6);
	assert_int_equal(mprotect(g->ram + GUEST_DATA, 4096, PROT_NONE), 0);
	_mm_setcsr(HOST_MXCSR);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HOST_FAULT);
	assert_int_equal(_mm_getcsr(), HOST_MXCSR);
	_mm_setcsr(mine);
	assert_int_equal(s->fx.mxcsr, GUEST_MXCSR | 0x20);
	expect(g, 3, 5, 6);
	assert_int_equal(mprotect(g->ram + GUEST_DATA, 4096, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
	expect(g, 3, UINT64_C(0x0505050505050505), UINT64_C(0x0505050505050505));
}

/* ---- the memory of stubs ---------------------------------------------------------------------------------------- */

/*
 * Every PALIGNR, PBLENDW and BLENDPS of two registers: 196,608 stubs, of which a CPU's memory holds fewer. A model of
 * them says what the registers become.
 */
static const uint8_t fill_opcode[] = { 0x0f, 0x0e, 0x0c };
#define FILL_COUNT (3u * 256 * 256)
#define FILL_CHUNK 512u /* instructions that run at once */

static void model_align(uint8_t *a, const uint8_t *b, unsigned by)
{
	uint8_t both[16 + 16 + 256] = { 0 };

	memcpy(both, b, 16);
	memcpy(both + 16, a, 16);
	memcpy(a, both + by, 16);
}

static void model_blend(uint8_t *a, const uint8_t *b, unsigned lane, unsigned mask)
{
	for (unsigned i = 0; i < 16; i++)
		if (mask >> (i / lane) & 1)
			a[i] = b[i];
}

/* Put instruction `n` of them at `at`, and let the model run it. Returns: its bytes. */
static unsigned fill_one(struct guest *g, uint64_t at, unsigned n, uint8_t model[16][16])
{
	uint8_t opcode = fill_opcode[n >> 16], imm = n >> 8 & 255, to = n >> 4 & 15, from = n & 15, source[16];

	GUEST_CODE_BYTES(g, at, 0x66, (uint8_t)(0x40 | (to >> 3) << 2 | from >> 3), 0x0f, 0x3a, opcode,
	                 (uint8_t)(0xc0 | (to & 7) << 3 | (from & 7)), imm);
	memcpy(source, model[from], 16);
	if (opcode == 0x0f)
		model_align(model[to], source, imm);
	else
		model_blend(model[to], source, opcode == 0x0e ? 2 : 4, imm);
	return 7;
}

static void test_more_stubs_than_fit(void **state)
{
	struct guest *g = *state;
	uint8_t model[16][16];

	for (unsigned n = 0; n < FILL_COUNT; n += FILL_CHUNK) {
		uint64_t at = GUEST_CODE;

		for (unsigned r = 0; r < 16; r++) {
			for (unsigned i = 0; i < 16; i++)
				model[r][i] = (uint8_t)(n / FILL_CHUNK + 16 * r + i);
			memcpy(xmm(g, r), model[r], 16);
		}
		for (unsigned i = 0; i < FILL_CHUNK; i++)
			at += fill_one(g, at, n + i, model);
		GUEST_CODE_BYTES(g, at, 0xf4);
		assert_int_equal(run(g), -1);
		for (unsigned r = 0; r < 16; r++)
			assert_memory_equal(xmm(g, r), model[r], 16);
	}
}

/* ---- hosts that forbid it --------------------------------------------------------------------------------------- */

/* No memory becomes executable in this process from now on. */
static bool forbid_code(void)
{
#define ARGUMENT(n) (uint32_t)offsetof(struct seccomp_data, args[n])
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(2)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a process of its own, whose first CPU comes after the ban. Returns: which check failed; 0 for none, 77 to skip. */
static int without_code(void)
{
	uint32_t one[4], seven[4], extended[4];
	struct guest *g;

	if (!forbid_code())
		return 77;
	g = guest_make();
	guest_long(g);
	cpu_cpuid_max(1, 0, one);
	cpu_cpuid_max(7, 0, seven);
	cpu_cpuid_max(0x80000001, 0, extended);
	if (one[2] & (1u << 1 | 1u << 9 | 1u << 12 | 1u << 19 | 1u << 20 | 1u << 25 | 1u << 28 | 1u << 29))
		return 1;
	if ((seven[1] & (1u << 5 | 1u << 29)) || (seven[2] & 1u << 8) || (extended[2] & 1u << 6))
		return 2;
	if (!(one[2] & 1u << 0) || !(one[3] & 1u << 26))
		return 3; /* SSE3 and SSE2 need no stubs */
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x66, 0x0f, 0x38, 0x00, 0xc1, 0xf4); /* PSHUFB */
	if (run(g) != UD)
		return 4;
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x66, 0x0f, 0xfe, 0xc1, 0xf4); /* PADDD */
	set(g, 0, 1, 2);
	set(g, 1, 3, 4);
	return run(g) == -1 && xmm(g, 0)[0] == 4 && xmm(g, 0)[1] == 6 ? 0 : 5;
}

static void test_without_executable_memory_cpuid_offers_less(void **state)
{
	int status = -1;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(without_code());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_executable_memory_cpuid_offers_less), /* first: before any CPU is made */
		cmocka_unit_test_setup_teardown(test_an_operand_may_end_with_its_page, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_operand_over_two_pages, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_operand_that_must_be_aligned, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_store_over_two_pages_is_whole_or_not_at_all, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_an_operand_of_a_device, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_store_over_the_next_instruction, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_fault_of_an_mmx_instruction_leaves_the_x87_stack, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_control_registers_decide_before_memory_does, guest_setup,
		                                guest_teardown),
		cmocka_unit_test_setup_teardown(test_mxcsr_of_guest_and_host_do_not_mix, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_a_host_page_that_has_gone, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_more_stubs_than_fit, guest_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
