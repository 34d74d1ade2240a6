/* SPDX-License-Identifier: MIT */
/* The cache of decoded code: copies for other addresses, instructions that run alone, a cache that is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

#define FRAME 0x50000u /* the page of the code */

/*
 * Every form that depends on where it lies; its data is in a line without code. Its answers: in RAX and RDX addresses,
 * in RCX, R9 and XMM0 to XMM2 data, in R8 a count.
 */
GUEST_ASM(blocks_relative,
	"lea 0(%rip), %rax \n"
	"mov 8f(%rip), %r9 \n"
	"call 1f \n"
	"jmp 2f \n"
	"1: mov (%rsp), %rdx \n ret \n"
	"2: xor %r8d, %r8d \n mov $3, %ecx \n"
	"3: inc %r8d \n loop 3b \n"
	"4: inc %r8d \n cmp $10, %r8d \n jne 4b \n"
	"movups 8f(%rip), %xmm0 \n pxor %xmm1, %xmm1 \n paddb 8f(%rip), %xmm1 \n pabsb 8f(%rip), %xmm2 \n"
	"mov %r9, 8f(%rip) \n pushq 8f(%rip) \n popq %rcx \n"
	"hlt \n"
	".skip 512 \n .balign 16 \n 8: .quad 0x1122334455667708, 0x7766554433221100")

/* Map the frame at `linear`, and nowhere else below it. */
static void frame_moves(struct guest *g, uint64_t from, uint64_t linear)
{
	*guest_pte(g, from) = 0;
	*guest_pte(g, linear) = FRAME | 3;
	cpu_state(g->cpu)->rip = linear;
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
}

static void test_blocks_code_at_several_addresses(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t from = FRAME;

	GUEST_LOAD(g, FRAME, blocks_relative);
	for (uint64_t linear = FRAME; linear < FRAME + 0xa000; linear += 0x2000) {
		frame_moves(g, from, linear);
		memset(s->vectors.v[0], 0, 48);
		s->gpr[CPU_R9] = s->gpr[CPU_RCX] = 0;
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(s->gpr[CPU_RAX], linear + 7);
		assert_int_equal(s->gpr[CPU_RDX], linear + 19);
		assert_int_equal(s->gpr[CPU_R8], 10);
		assert_int_equal(s->gpr[CPU_R9], 0x1122334455667708);
		assert_int_equal(s->gpr[CPU_RCX], 0x1122334455667708);
		for (unsigned i = 0; i < 3; i++)
			assert_memory_equal(s->vectors.v[i], blocks_relative_end - 16, 16);
		from = linear;
	}
}

/* With a 32-bit address size the address wraps. */
GUEST_ASM(blocks_wrapped, "lea 0(%eip), %rax \n hlt")

static void test_blocks_address_relative_to_eip(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t pdpt = guest_read(g, GUEST_PML4, 8) & ~UINT64_C(0xfff);

	/* The fifth GiB is the first once more. */
	guest_write(g, pdpt + 32, 8, guest_read(g, pdpt, 8));
	GUEST_LOAD(g, FRAME, blocks_wrapped);
	s->rip = FRAME;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], FRAME + 8);
	s->rip = FRAME + (UINT64_C(4) << 30);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], FRAME + 8);
}

/* Code at one address was decoded, then changes, and then runs at another. */
static void test_blocks_code_changes_and_moves(void **state)
{
	struct guest *g = *state;
	uint64_t from = FRAME;

	for (unsigned i = 1; i < 20; i++) {
		uint64_t linear = FRAME + i * 0x1000;

		GUEST_CODE_BYTES(g, FRAME, 0xb8, (uint8_t)i, 0, 0, 0, 0xf4);
		frame_moves(g, from, linear);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], i);
		from = linear;
	}
}

/*
 * A function at two addresses, which the guest changes at a third one between calls. It returns what was written, and
 * behind a jump where it lies.
 */
GUEST_ASM(blocks_aliases,
	"xor %r8d, %r8d \n mov $100, %ecx \n"
	"1: mov %ecx, 0x54001 \n"
	"mov $0x50000, %ebx \n call 2f \n"
	"mov $0x52000, %ebx \n call 2f \n"
	"inc %r8d \n dec %ecx \n jne 1b \n hlt \n"
	"2: call *%rbx \n cmp %eax, %ecx \n jne 9f \n sub %rbx, %rdx \n cmp $14, %rdx \n jne 9f \n ret \n 9: hlt")
GUEST_ASM(blocks_function, "mov $0, %eax \n jmp 1f \n 1: lea 0(%rip), %rdx \n ret")

static void test_blocks_written_at_another_address(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, blocks_aliases);
	GUEST_LOAD(g, FRAME, blocks_function);
	*guest_pte(g, 0x52000) = *guest_pte(g, 0x54000) = FRAME | 3;
	cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_R8], 100);
}

/* The instruction after an STI runs alone. It is another one each time, and may be a jump. */
GUEST_ASM(blocks_alone,
	"mov $0x10000, %ebx \n xor %edx, %edx \n mov $100, %ecx \n"
	"1: mov %cl, 2f+1-blocks_alone(%rbx) \n"
	"sti \n"
	"2: mov $0xaa, %al \n"
	"cli \n movzbl %al, %eax \n add %eax, %edx \n"
	"sti \n jmp 3f \n ud2 \n"
	"3: cli \n sti \n call 4f \n cli \n dec %ecx \n jne 1b \n hlt \n"
	"4: inc %r8d \n ret")

static void test_blocks_instruction_alone_is_rewritten(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, blocks_alone);
	s->gpr[CPU_R8] = 0;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RDX], 5050);
	assert_int_equal(s->gpr[CPU_R8], 100);
}

static void test_blocks_instruction_alone_leads_elsewhere(void **state)
{
	struct guest *g = *state;

	GUEST_CODE_BYTES(g, FRAME, 0xfb, 0xb8, 1, 0, 0, 0, 0xf4);
	GUEST_CODE_BYTES(g, 0x60000, 0xfb, 0xb8, 2, 0, 0, 0, 0xf4);
	for (unsigned i = 0; i < 8; i++) {
		*guest_pte(g, FRAME) = (i & 1 ? 0x60000 : FRAME) | 3;
		if (i == 6) /* and now the owner writes it */
			GUEST_CODE_BYTES(g, FRAME, 0xfb, 0xb8, 7, 0, 0, 0, 0xf4);
		cpu_state(g->cpu)->rip = FRAME;
		cpu_state_changed(g->cpu, CPU_CHANGED_PAGING);
		assert_int_equal(guest_run_to_hlt(g), -1);
		assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], i == 6 ? 7 : 1 + (i & 1));
	}
}

/* The same bytes at the same address are other instructions in another mode. 40 is INC EAX, or a REX prefix. */
static void test_blocks_instruction_alone_in_another_mode(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, FRAME, 0xfb, 0x40, 0x90, 0xf4); /* sti; rex nop; hlt */
	s->gpr[CPU_RAX] = 5;
	s->rip = FRAME;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 5);
	guest_protected(g);
	s->gpr[CPU_RAX] = 5;
	s->rip = FRAME;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 6);
}

/* So much code, each version of it new, that the cache is full more than once. */
GUEST_ASM(blocks_many,
	"mov $0x50000, %ebx \n xor %edx, %edx \n"
	"1: inc %edx \n mov %edx, 1(%rbx) \n call *%rbx \n cmp %edx, %eax \n jne 9f \n dec %ecx \n jne 1b \n 9: hlt")
/* Two vector instructions, each with a stub. The first one runs alone. */
GUEST_ASM(blocks_vector_alone, "sti \n pabsb %xmm1, %xmm0 \n cli \n hlt")
GUEST_ASM(blocks_vector, "pshufb %xmm1, %xmm2 \n hlt")

static void vector_alone(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);

	memset(s->vectors.v[0], 0, 16);
	memset(s->vectors.v[1], 0xff, 16);
	s->rip = 0x60000;
	assert_int_equal(guest_run_to_hlt(g), -1);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(s->vectors.v[0][i], 1);
}

static void test_blocks_cache_is_full(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, 0x60000, blocks_vector_alone);
	GUEST_LOAD(g, 0x61000, blocks_vector);
	vector_alone(g);
	GUEST_LOAD(g, GUEST_CODE, blocks_many);
	GUEST_CODE_BYTES(g, FRAME, 0xb8, 0, 0, 0, 0, 0xc3);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RCX] = 400000;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RCX], 0);
	/* Its stub may be where the other one was. */
	s->rip = 0x61000;
	assert_int_equal(guest_run_to_hlt(g), -1);
	vector_alone(g);
}

int main(void)
{
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		GUEST_TEST(test_blocks_code_at_several_addresses),
		GUEST_TEST(test_blocks_address_relative_to_eip),
		GUEST_TEST(test_blocks_code_changes_and_moves),
		GUEST_TEST(test_blocks_written_at_another_address),
		GUEST_TEST(test_blocks_instruction_alone_is_rewritten),
		GUEST_TEST(test_blocks_instruction_alone_leads_elsewhere),
		GUEST_TEST(test_blocks_instruction_alone_in_another_mode),
		GUEST_TEST(test_blocks_cache_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
