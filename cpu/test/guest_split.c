/* SPDX-License-Identifier: MIT */
/*
 * Every kind of memory operand on a device, and half on memory and half on a device. The instruction does what it
 * does on memory, and reads each byte of the device at most once, since a device may answer differently the second
 * time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

/* Two linear pages, each of which leads to memory or to a device. The operand lies across their border. */
#define FIRST  UINT64_C(0x300000)
#define SECOND (FIRST + 0x1000)
#define WINDOW 64u /* bytes on each side of the border that are compared */

/* The device keeps what is written to it, and counts reads of each byte. */
static uint8_t registers[0x2000];
static unsigned reads[0x2000];

static bool device(void *state, bool write, uint64_t gpa, unsigned len, void *data)
{
	uint64_t at = gpa - GUEST_MMIO;

	(void)state;
	assert_true(at + len <= sizeof(registers));
	if (write) {
		memcpy(registers + at, data, len);
		return true;
	}
	memcpy(data, registers + at, len);
	for (unsigned i = 0; i < len; i++)
		reads[at + i]++;
	return true;
}

static bool port(void *state, bool in, uint16_t number, unsigned size, void *data)
{
	(void)state;
	(void)number;
	if (in)
		memset(data, 0x5a, size);
	return true;
}

#define LIST(X) \
	X(load, "mov (%rbx), %r8") X(store, "mov %rax, (%rbx)") X(load16, "mov -1(%rbx), %r8w") \
	X(zero_extend, "movzwl 3(%rbx), %r8d") \
	X(add_load, "add (%rbx), %rax") X(add_store, "add %rax, (%rbx)") X(add_immediate, "addl $5, 2(%rbx)") \
	X(not, "notq (%rbx)") X(neg, "negl 1(%rbx)") X(inc, "incl 2(%rbx)") X(shl, "shlq $3, (%rbx)") \
	X(shld, "shld $7, %rax, (%rbx)") \
	X(rcl, "stc \n rclq $2, (%rbx)") X(compare, "cmp %rax, (%rbx)") X(mul, "mulq (%rbx)") \
	X(imul, "imul (%rbx), %rax") \
	X(div, "xor %edx, %edx \n divq (%rbx)") X(set, "stc \n setc 3(%rbx)") X(cmov, "stc \n cmovc (%rbx), %r8") \
	X(bt, "bt %rcx, (%rbx)") X(bts, "btsq %rcx, (%rbx)") X(bsf, "bsf (%rbx), %r8") X(movbe, "movbe (%rbx), %r8") \
	X(xchg, "xchg %rax, (%rbx)") X(xadd, "xadd %rax, (%rbx)") X(cmpxchg, "cmpxchg %rcx, (%rbx)") \
	X(lock_add, "lock addq $9, (%rbx)") X(lock_bts, "lock btsl $3, 2(%rbx)") \
	X(lock_xadd, "lock xadd %rax, (%rbx)") \
	X(lock_cmpxchg, "lock cmpxchg %rcx, (%rbx)") X(cmpxchg8b, "lock cmpxchg8b (%rbx)") \
	X(lock_neg, "lock negq (%rbx)") \
	X(push_memory, "push (%rbx)") X(pop_memory, "push %rax \n pop (%rbx)") \
	X(push_there, "lea 8(%rbx), %rsp \n push %rax") \
	X(pop_there, "mov %rbx, %rsp \n pop %r8") X(leave, "mov %rbx, %rbp \n leave") \
	X(enter, "lea 8(%rbx), %rsp \n enter $16, $0") \
	X(movups_load, "movups -5(%rbx), %xmm1") X(movups_store, "movups %xmm0, -5(%rbx)") \
	X(movq_store, "movq %xmm0, 1(%rbx)") \
	X(paddd, "movups (%rbx), %xmm1 \n paddd %xmm0, %xmm1") X(cvtsi2sd, "cvtsi2sdq (%rbx), %xmm1") \
	X(movnti, "movnti %rax, (%rbx)") \
	X(stmxcsr, "stmxcsr 2(%rbx)") X(fnstcw, "fnstcw 3(%rbx)") X(fnstsw, "fnstsw 3(%rbx)") X(sgdt, "sgdt (%rbx)") \
	X(lods, "mov %rbx, %rsi \n lodsq") X(stos, "mov %rbx, %rdi \n stosq") X(scas, "mov %rbx, %rdi \n scasq") \
	X(movs, "mov %rbx, %rsi \n lea 1(%rbx), %rdi \n movsq") \
	X(cmps, "mov %rbx, %rsi \n lea 16(%rbx), %rdi \n cmpsq") \
	X(rep_movs, "mov $0x100000, %esi \n lea -12(%rbx), %rdi \n mov $29, %ecx \n rep movsb") \
	X(rep_movs_from, "lea -12(%rbx), %rsi \n mov $0x100040, %edi \n mov $7, %ecx \n rep movsl") \
	X(rep_stos, "lea -10(%rbx), %rdi \n mov $5, %ecx \n rep stosq") \
	X(rep_scas, "lea -10(%rbx), %rdi \n mov $5, %ecx \n repne scasb") \
	X(ins, "mov %rbx, %rdi \n mov $0x80, %edx \n insl") \
	X(rep_ins, "lea -10(%rbx), %rdi \n mov $33, %ecx \n mov $0x80, %edx \n rep insw") \
	X(rep_ins_down, "lea 10(%rbx), %rdi \n mov $9, %ecx \n mov $0x80, %edx \n std \n rep insl \n cld") \
	X(rep_outs, "lea -10(%rbx), %rsi \n mov $9, %ecx \n mov $0x80, %edx \n rep outsl") \
	X(jump, "lea 2f(%rip), %rax \n mov %rax, 0x100100 \n mov 0x100100, %r8 \n mov %r8, (%rbx) \n " \
		"jmp *(%rbx) \n 2: nop") \
	X(call, "lea 2f(%rip), %r8 \n mov %r8, (%rbx) \n call *(%rbx) \n 2: nop")

#define CODE(name, text) GUEST_ASM(code_##name, text "\n hlt")
LIST(CODE)

static const struct form {
	const char *name;
	const uint8_t *code, *end;
} forms[] = {
#define FORM(name, text) { #name, code_##name, code_##name##_end },
	LIST(FORM)
};

static void fill(uint8_t *at, unsigned seed)
{
	for (unsigned i = 0; i < WINDOW; i++)
		at[i] = (uint8_t)(i * 29 + seed);
}

/* What an instruction leaves behind. */
struct outcome {
	struct cpu_state state;
	uint8_t bytes[2 * WINDOW];
};

/* Run a form with its operand 4 bytes before the border. `devices`: bit n is set when page n is a device. */
static void run_form(const struct form *form, unsigned devices, struct outcome *out)
{
	struct guest *g = guest_make();
	uint8_t *page[2];

	guest_long(g);
	g->ops.mmio = device;
	g->ops.io = port;
	for (unsigned i = 0; i < 2; i++) {
		bool is_device = devices >> i & 1;

		*guest_pte(g, FIRST + 0x1000 * i) = (is_device ? GUEST_MMIO + 0x1000 * i : FIRST + 0x1000 * i) | 3;
		page[i] = is_device ? registers + 0x1000 * i : g->ram + FIRST + 0x1000 * i;
	}
	memset(reads, 0, sizeof(reads));
	fill(page[0] + 0x1000 - WINDOW, 3);
	fill(page[1], 101);
	fill(g->ram + GUEST_DATA, 55);
	guest_code(g, GUEST_CODE, form->code, (unsigned)(form->end - form->code));
	cpu_state(g->cpu)->gpr[CPU_RBX] = SECOND - 4;
	cpu_state(g->cpu)->gpr[CPU_RAX] = 0x1122334455667788;
	cpu_state(g->cpu)->gpr[CPU_RCX] = 5;
	assert_int_equal(guest_run_to_hlt(g), -1);
	for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		if (reads[i] > 1)
			print_error("%s with devices %u: register %#x was read %u times\n", form->name, devices, i,
			            reads[i]);
		assert_true(reads[i] <= 1);
	}
	out->state = *cpu_state(g->cpu);
	memcpy(out->bytes, page[0] + 0x1000 - WINDOW, WINDOW);
	memcpy(out->bytes + WINDOW, page[1], WINDOW);
	guest_free(g);
}

static void test_split_operand_is_as_on_memory(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct outcome memory, other;

		run_form(&forms[i], 0, &memory);
		for (unsigned devices = 1; devices < 4; devices++) {
			run_form(&forms[i], devices, &other);
			if (memcmp(memory.bytes, other.bytes, sizeof(memory.bytes)) != 0)
				print_error("%s with devices %u: other bytes\n", forms[i].name, devices);
			assert_memory_equal(memory.bytes, other.bytes, sizeof(memory.bytes));
			assert_memory_equal(memory.state.gpr, other.state.gpr, sizeof(memory.state.gpr));
			assert_memory_equal(&memory.state.vectors, &other.state.vectors, sizeof(memory.state.vectors));
			assert_int_equal(memory.state.rflags, other.state.rflags);
		}
	}
}

/* PUSHA makes the most accesses of all: nine here, since one of the eight registers lies in both pages. */
GUEST_ASM(code_pusha, ".code32 \n pusha \n hlt")
GUEST_ASM(code_popa, ".code32 \n popa \n hlt")

static void test_split_pusha_and_popa(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	const uint32_t at = GUEST_MMIO + 0x1000 - 14;

	guest_protected(g);
	s->cr0 = 0x31;
	s->cr3 = s->cr4 = s->efer = 0;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	g->ops.mmio = device;
	GUEST_LOAD(g, GUEST_CODE, code_pusha);
	for (unsigned i = 0; i < 8; i++)
		s->gpr[i] = 0x11111111u * (i + 1);
	s->gpr[CPU_RSP] = at + 32;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RSP], at);
	GUEST_LOAD(g, GUEST_CODE, code_popa);
	for (unsigned i = 0; i < 8; i++)
		s->gpr[i] = 0;
	s->gpr[CPU_RSP] = at;
	s->rip = GUEST_CODE;
	memset(reads, 0, sizeof(reads));
	assert_int_equal(guest_run_to_hlt(g), -1);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(s->gpr[i], i == CPU_RSP ? at + 32 : 0x11111111u * (i + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_operand_is_as_on_memory),
		cmocka_unit_test_setup_teardown(test_split_pusha_and_popa, guest_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
