/* SPDX-License-Identifier: MIT */
/* Devices at ports and in memory, restart and completion of instructions, read-only memory, requests to exit. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_asm.h"

/* Assert that the next exit is an access of a device at `gpa`. Returns: the exit, with the data of a write. */
static struct cpu_exit_info *expect_mmio(struct guest *g, bool write, uint64_t gpa, unsigned len)
{
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_int_equal(info->mmio.write, write);
	assert_int_equal(info->mmio.gpa, gpa);
	assert_int_equal(info->mmio.len, len);
	return info;
}

static void answer(struct cpu_exit_info *info, uint64_t value)
{
	memcpy(info->mmio.data, &value, 8);
}

static uint64_t written(const struct cpu_exit_info *info)
{
	uint64_t value = 0;

	memcpy(&value, info->mmio.data, info->mmio.len);
	return value;
}

GUEST_ASM(code_in,
	"mov $0x1234, %edx \n mov $-1, %rax \n in (%dx), %al \n in $0x20, %ax \n in (%dx), %eax \n "
	"out %eax, $0x30 \n hlt")

static void test_device_in_fills_the_register_and_out_carries_it(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_in);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_true(info->io.in && info->io.size == 1 && info->io.count == 1 && info->io.port == 0x1234);
	info->io.data[0] = 0x55;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(s->gpr[CPU_RAX], 0xffffffffffffff55);
	assert_true(info->io.size == 2 && info->io.port == 0x20);
	memcpy(info->io.data, "\x11\x22", 2);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(s->gpr[CPU_RAX], 0xffffffffffff2211);
	memcpy(info->io.data, "\x44\x33\x22\x11", 4);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(s->gpr[CPU_RAX], 0x11223344);
	assert_true(!info->io.in && info->io.port == 0x30 && info->io.size == 4);
	assert_memory_equal(info->io.data, "\x44\x33\x22\x11", 4);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
}

static void test_device_in_is_given_up_when_rip_moves(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_in);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	s->rip = GUEST_CODE + (uint64_t)(code_in_end - code_in) - 1;
	s->gpr[CPU_RAX] = 7;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
	assert_int_equal(s->gpr[CPU_RAX], 7);
}

GUEST_ASM(code_ins, "cld \n mov $0x80, %edx \n mov $0x100ffe, %edi \n mov $3000, %ecx \n rep insb \n hlt")

static void test_device_string_input_comes_in_runs(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);
	unsigned got = 0;

	GUEST_LOAD(g, GUEST_CODE, code_ins);
	while (cpu_run(g->cpu) == CPU_EXIT_IO) {
		assert_true(info->io.in && info->io.size == 1 && info->io.count <= CPU_IO_MAX);
		for (unsigned i = 0; i < info->io.count; i++)
			info->io.data[i] = (uint8_t)(got++ * 7);
	}
	assert_int_equal(info->reason, CPU_EXIT_HLT);
	assert_int_equal(got, 3000);
	for (unsigned i = 0; i < got; i++)
		assert_int_equal(guest_read(g, 0x100ffe + i, 1), (uint8_t)(i * 7));
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 0);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RDI], 0x100ffe + 3000);
}

GUEST_ASM(code_outs, "cld \n mov $0x80, %edx \n mov $0x100000, %esi \n mov $3, %ecx \n rep outsw \n hlt")

static void test_device_string_output_goes_one_by_one(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_outs);
	guest_write(g, 0x100000, 8, 0x0000666655554444);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
		assert_true(!info->io.in && info->io.size == 2 && info->io.count == 1);
		assert_int_equal(info->io.data[0], 0x44 + 0x11 * i);
	}
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_HLT);
}

GUEST_ASM(code_mmio,
	"mov $0xd0000010, %ebx \n"
	"mov (%rbx), %rax \n"
	"addl $5, 8(%rbx) \n"
	"push (%rbx) \n"
	"movb $0x7f, 3(%rbx) \n"
	"cmpw $0x1111, (%rbx) \n"
	"sete %cl \n hlt")

static void test_device_memory_reads_restart_and_writes_complete(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_exit_info *info;

	GUEST_LOAD(g, GUEST_CODE, code_mmio);
	info = expect_mmio(g, false, GUEST_MMIO + 0x10, 8);
	answer(info, 0x0123456789abcdef);
	info = expect_mmio(g, false, GUEST_MMIO + 0x18, 4);
	assert_int_equal(s->gpr[CPU_RAX], 0x0123456789abcdef);
	answer(info, 37);
	info = expect_mmio(g, true, GUEST_MMIO + 0x18, 4);
	assert_int_equal(written(info), 42);
	info = expect_mmio(g, false, GUEST_MMIO + 0x10, 8);
	answer(info, 0x4242);
	info = expect_mmio(g, true, GUEST_MMIO + 0x13, 1);
	assert_int_equal(written(info), 0x7f);
	assert_int_equal(guest_read(g, GUEST_STACK - 8, 8), 0x4242);
	info = expect_mmio(g, false, GUEST_MMIO + 0x10, 2);
	answer(info, 0x1111);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RCX] & 0xff, 1);
}

GUEST_ASM(code_mmio_movs, "cld \n mov $0xd0000000, %esi \n mov $0xd0001000, %edi \n mov $2, %ecx \n rep movsl \n hlt")

static void test_device_string_move_between_devices(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info;

	GUEST_LOAD(g, GUEST_CODE, code_mmio_movs);
	for (unsigned i = 0; i < 2; i++) {
		info = expect_mmio(g, false, GUEST_MMIO + 4 * i, 4);
		answer(info, 100 + i);
		info = expect_mmio(g, true, GUEST_MMIO + 0x1000 + 4 * i, 4);
		assert_int_equal(written(info), 100 + i);
	}
	assert_int_equal(guest_run_to_hlt(g), -1);
}

GUEST_ASM(code_mmio_sse, "mov $0xd0000000, %ebx \n movups (%rbx), %xmm0 \n movups %xmm0, 0x20(%rbx) \n hlt")

static void test_device_wide_access_is_cut_in_pieces(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info;

	GUEST_LOAD(g, GUEST_CODE, code_mmio_sse);
	answer(expect_mmio(g, false, GUEST_MMIO, 8), 1111);
	answer(expect_mmio(g, false, GUEST_MMIO + 8, 8), 2222);
	info = expect_mmio(g, true, GUEST_MMIO + 0x20, 8);
	assert_int_equal(written(info), 1111);
	info = expect_mmio(g, true, GUEST_MMIO + 0x28, 8);
	assert_int_equal(written(info), 2222);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

/* The page before the device is memory, so that half of the access is. */
GUEST_ASM(code_mmio_cross, "mov $0xd0001000, %ebx \n mov -4(%rbx), %rax \n hlt")

static void test_device_access_across_its_pages(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_mmio_cross);
	answer(expect_mmio(g, false, GUEST_MMIO + 0xffc, 4), 0x11111111);
	answer(expect_mmio(g, false, GUEST_MMIO + 0x1000, 4), 0x22222222);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 0x2222222211111111);
}

GUEST_ASM(code_rom,
	"mov $0x8000000, %ebx \n mov (%rbx), %rax \n mov %rax, 8(%rbx) \n addq $1, (%rbx) \n "
	"mov (%rbx), %rcx \n hlt")

static void test_device_read_only_memory_reads_as_memory(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info;

	memset(g->rom, 0x11, 16);
	GUEST_LOAD(g, GUEST_CODE, code_rom);
	info = expect_mmio(g, true, GUEST_ROM + 8, 8);
	assert_int_equal(written(info), 0x1111111111111111);
	info = expect_mmio(g, true, GUEST_ROM, 8);
	assert_int_equal(written(info), 0x1111111111111112);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RCX], 0x1111111111111111);
}

static bool device(void *state, bool write, uint64_t gpa, unsigned len, void *data)
{
	struct guest *g = state;

	if (gpa >> 12 != GUEST_MMIO >> 12)
		return false;
	if (write)
		memcpy(g->ram + 0x200000 + (gpa & 0xfff), data, len);
	else
		memset(data, 0x33, len);
	return true;
}

static bool port(void *state, bool in, uint16_t number, unsigned size, void *data)
{
	(void)state;
	if (number != 0x1234 && number != 0x20)
		return false;
	if (in)
		memset(data, 0x66, size);
	return true;
}

static void test_device_of_the_owner_needs_no_exit(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.mmio = device;
	g->ops.io = port;
	GUEST_LOAD(g, GUEST_CODE, code_mmio);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, 0x200018, 4), 0x33333338);
	assert_int_equal(guest_read(g, GUEST_STACK - 8, 8), 0x3333333333333333);
	GUEST_LOAD(g, GUEST_CODE, code_in);
	s->rip = GUEST_CODE;
	assert_int_equal(guest_run_to_hlt(g), 0x30);
	assert_int_equal(s->gpr[CPU_RAX], 0x66666666);
}

GUEST_ASM(code_forever, "1: inc %rax \n jmp 1b")

static void test_request_before_a_run_ends_it_at_once(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_forever);
	cpu_request_exit(g->cpu);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
	assert_int_equal(cpu_state(g->cpu)->gpr[CPU_RAX], 0);
}

static void test_request_does_not_lose_a_completion(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_mmio);
	answer(expect_mmio(g, false, GUEST_MMIO + 0x10, 8), 5);
	cpu_request_exit(g->cpu);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
	assert_int_equal(s->gpr[CPU_RAX], 5);
	assert_int_equal(s->rip, GUEST_CODE + 8);
}

/* ---- a request, an event or another exit between an access of a device and the end of its instruction ---- */

/* The code behind the instruction comes to an end, so that a lost request shows. */
#define THEN_COUNT "\n 1: inc %rcx \n cmp $1000, %rcx \n jb 1b \n hlt"
GUEST_ASM(code_finish_read, "mov (%rbx), %rax" THEN_COUNT)
GUEST_ASM(code_finish_rmw, "addl $5, (%rbx)" THEN_COUNT)
GUEST_ASM(code_finish_push, "push (%rbx)" THEN_COUNT)
GUEST_ASM(code_finish_movs, "rep movsb \n xor %ecx, %ecx" THEN_COUNT)
GUEST_ASM(code_finish_ins, "rep insb \n xor %ecx, %ecx" THEN_COUNT)

/* Assert that the instruction under way is completed, and nothing else runs. */
static void expect_kicked(struct guest *g, uint64_t rip)
{
	cpu_request_exit(g->cpu);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_KICKED);
	assert_int_equal(cpu_state(g->cpu)->rip, rip);
}

static void test_request_while_a_read_is_answered(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_read);
	s->gpr[CPU_RBX] = GUEST_MMIO + 0xffc;
	answer(expect_mmio(g, false, GUEST_MMIO + 0xffc, 4), 0x11111111);
	cpu_request_exit(g->cpu);
	answer(expect_mmio(g, false, GUEST_MMIO + 0x1000, 4), 0x22222222);
	expect_kicked(g, GUEST_CODE + 3);
	assert_int_equal(s->gpr[CPU_RAX], 0x2222222211111111);
	assert_int_equal(s->gpr[CPU_RCX], 0);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

static void test_request_while_a_read_is_answered_and_a_write_follows(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_rmw);
	s->gpr[CPU_RBX] = GUEST_MMIO;
	answer(expect_mmio(g, false, GUEST_MMIO, 4), 37);
	cpu_request_exit(g->cpu);
	assert_int_equal(written(expect_mmio(g, true, GUEST_MMIO, 4)), 42);
	expect_kicked(g, GUEST_CODE + 3);
	assert_int_equal(s->gpr[CPU_RCX], 0);
}

/* Meanwhile the second stage is dropped, so that the instruction faults once more before it ends. */
static void test_request_while_a_read_is_answered_and_memory_faults(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_push);
	s->gpr[CPU_RBX] = GUEST_MMIO;
	answer(expect_mmio(g, false, GUEST_MMIO, 8), 77);
	guest_unmap_all(g);
	expect_kicked(g, GUEST_CODE + 2);
	assert_int_equal(guest_read(g, GUEST_STACK - 8, 8), 77);
	assert_int_equal(s->gpr[CPU_RSP], GUEST_STACK - 8);
}

static void test_request_in_a_string_move_from_a_device(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_movs);
	s->gpr[CPU_RSI] = GUEST_MMIO;
	s->gpr[CPU_RDI] = GUEST_DATA;
	s->gpr[CPU_RCX] = 3;
	for (unsigned i = 0; i < 3; i++) {
		answer(expect_mmio(g, false, GUEST_MMIO + i, 1), 0x40 + i);
		expect_kicked(g, GUEST_CODE + (i == 2 ? 2 : 0));
		assert_int_equal(s->gpr[CPU_RCX], 2 - i);
		assert_int_equal(guest_read(g, GUEST_DATA + i, 1), 0x40 + i);
	}
	assert_int_equal(guest_run_to_hlt(g), -1);
}

static void test_request_in_a_string_input(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_ins);
	s->gpr[CPU_RDI] = GUEST_DATA + 0xffe;
	s->gpr[CPU_RCX] = 5;
	for (unsigned done = 0; done < 5; done += info->io.count) {
		assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
		assert_int_equal(info->io.count, done == 0 ? 2 : 3);
		memset(info->io.data, 0x55, info->io.count);
		guest_unmap_all(g);
		expect_kicked(g, GUEST_CODE + (done == 0 ? 0 : 2));
	}
	assert_int_equal(guest_read(g, GUEST_DATA + 0xffe, 5), 0x5555555555);
	assert_int_equal(s->gpr[CPU_RCX], 0);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

/* The device has answered, so the event is delivered after the end of the instruction. */
static void test_event_while_a_read_is_answered(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_read);
	s->gpr[CPU_RBX] = GUEST_MMIO;
	answer(expect_mmio(g, false, GUEST_MMIO, 8), 99);
	s->events.interrupt.injected = true;
	s->events.interrupt.vector = 0x40;
	assert_int_equal(guest_run_to_hlt(g), 0x40);
	assert_int_equal(guest_read(g, GUEST_STACK - 40, 8), GUEST_CODE + 3);
	assert_int_equal(s->gpr[CPU_RCX], 0);
}

static int interrupt_once(void *state)
{
	static const struct guest *last;
	bool first = last != state;

	last = state;
	return first ? 0x41 : -1;
}

static void test_interrupt_while_a_read_is_answered(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	g->ops.interrupt = interrupt_once;
	GUEST_LOAD(g, GUEST_CODE, code_finish_read);
	s->gpr[CPU_RBX] = GUEST_MMIO;
	s->rflags |= 0x200;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	answer(expect_mmio(g, false, GUEST_MMIO, 8), 99);
	cpu_interrupt_raise(g->cpu);
	assert_int_equal(guest_run_to_hlt(g), 0x41);
	assert_int_equal(guest_read(g, GUEST_STACK - 40, 8), GUEST_CODE + 3);
	assert_int_equal(s->gpr[CPU_RCX], 0);
}

/* Another exit comes in between. The device is not asked again. */
static void test_another_exit_while_a_read_is_answered(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_read);
	s->gpr[CPU_RBX] = GUEST_MMIO;
	answer(expect_mmio(g, false, GUEST_MMIO, 8), 99);
	g->vcpu[0].ring_full = true;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_RING_FULL);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->gpr[CPU_RAX], 99);
}

/* ---- string input whose target is a device ------------------------------------------------------------- */

static void test_device_string_input_to_a_device(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_ins);
	s->gpr[CPU_RDI] = GUEST_MMIO;
	s->gpr[CPU_RCX] = 300;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(info->io.count, 300);
	for (unsigned i = 0; i < 300; i++)
		info->io.data[i] = (uint8_t)(i * 7);
	for (unsigned i = 0; i < 300; i++) {
		/* The instruction has its data, so a request takes effect at its end. */
		cpu_request_exit(g->cpu);
		assert_int_equal(written(expect_mmio(g, true, GUEST_MMIO + i, 1)), (uint8_t)(i * 7));
	}
	expect_kicked(g, GUEST_CODE + 2);
	assert_int_equal(s->gpr[CPU_RCX], 0);
	assert_int_equal(s->gpr[CPU_RDI], GUEST_MMIO + 300);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

static void test_device_string_input_to_a_device_is_given_up_when_rip_moves(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_finish_ins);
	GUEST_LOAD(g, GUEST_CODE + 0x100, code_finish_ins);
	s->gpr[CPU_RDI] = GUEST_MMIO;
	s->gpr[CPU_RCX] = 20;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	expect_mmio(g, true, GUEST_MMIO, 1);
	s->rip = GUEST_CODE + 0x100;
	s->gpr[CPU_RDI] = GUEST_DATA;
	s->gpr[CPU_RCX] = 1;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(info->io.count, 1);
	info->io.data[0] = 0x77;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(guest_read(g, GUEST_DATA, 2), 0x77);
}

GUEST_ASM(code_fnst, "fninit \n fnstcw (%rbx) \n fnstsw 2(%rbx) \n fldcw (%rbx) \n hlt")

/* KVM's emulator knows only these two x87 instructions with an operand in memory. */
static void test_device_takes_x87_control_and_status_words(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, GUEST_CODE, code_fnst);
	cpu_state(g->cpu)->gpr[CPU_RBX] = GUEST_MMIO;
	assert_int_equal(written(expect_mmio(g, true, GUEST_MMIO, 2)), 0x37f);
	assert_int_equal(written(expect_mmio(g, true, GUEST_MMIO + 2, 2)), 0);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_INTERNAL_ERROR);
	assert_int_equal(cpu_exit_info(g->cpu)->error.suberror, CPU_ERROR_EMULATION);
}

GUEST_ASM(code_x87, "mov $0xd0000000, %ebx \n flds (%rbx) \n hlt")
#define CODE_X87_FLD 5

static void test_x87_on_a_device_comes_out_with_its_bytes(void **state)
{
	struct guest *g = *state;
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	GUEST_LOAD(g, GUEST_CODE, code_x87);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_INTERNAL_ERROR);
	assert_int_equal(info->error.suberror, CPU_ERROR_EMULATION);
	assert_int_equal(info->error.length, 15);
	assert_true(info->error.is_instruction);
	assert_memory_equal(info->error.bytes, code_x87 + CODE_X87_FLD, code_x87_end - code_x87 - CODE_X87_FLD);
	assert_int_equal(cpu_state(g->cpu)->rip, GUEST_CODE + CODE_X87_FLD);
}

static void test_fetch_from_a_device_is_an_error(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->rip = GUEST_MMIO;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_INTERNAL_ERROR);
	assert_int_equal(cpu_exit_info(g->cpu)->error.length, 0);
}

int main(void)
{
#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		GUEST_TEST(test_device_in_fills_the_register_and_out_carries_it),
		GUEST_TEST(test_device_in_is_given_up_when_rip_moves),
		GUEST_TEST(test_device_string_input_comes_in_runs),
		GUEST_TEST(test_device_string_output_goes_one_by_one),
		GUEST_TEST(test_device_memory_reads_restart_and_writes_complete),
		GUEST_TEST(test_device_string_move_between_devices),
		GUEST_TEST(test_device_wide_access_is_cut_in_pieces),
		GUEST_TEST(test_device_access_across_its_pages),
		GUEST_TEST(test_device_read_only_memory_reads_as_memory),
		GUEST_TEST(test_device_of_the_owner_needs_no_exit),
		GUEST_TEST(test_request_before_a_run_ends_it_at_once),
		GUEST_TEST(test_request_does_not_lose_a_completion),
		GUEST_TEST(test_request_while_a_read_is_answered),
		GUEST_TEST(test_request_while_a_read_is_answered_and_a_write_follows),
		GUEST_TEST(test_request_while_a_read_is_answered_and_memory_faults),
		GUEST_TEST(test_request_in_a_string_move_from_a_device),
		GUEST_TEST(test_request_in_a_string_input),
		GUEST_TEST(test_event_while_a_read_is_answered),
		GUEST_TEST(test_interrupt_while_a_read_is_answered),
		GUEST_TEST(test_another_exit_while_a_read_is_answered),
		GUEST_TEST(test_device_string_input_to_a_device),
		GUEST_TEST(test_device_string_input_to_a_device_is_given_up_when_rip_moves),
		GUEST_TEST(test_device_takes_x87_control_and_status_words),
		GUEST_TEST(test_x87_on_a_device_comes_out_with_its_bytes),
		GUEST_TEST(test_fetch_from_a_device_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
