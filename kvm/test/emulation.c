/* SPDX-License-Identifier: MIT */
/*
 * An instruction that the emulator cannot execute. At CPL 0, KVM_RUN stops with an internal error. At CPL 3 the guest
 * gets #UD, and the VM goes on. With KVM_CAP_EXIT_ON_EMULATION_FAILURE, KVM_RUN stops at either level. The
 * instruction is an x87 load from a device: a processor can execute it, but KVM's emulator has no x87.
 */
#include "check.h"

#define CODE    0x1000u
#define HANDLER 0x1800u
#define GDT     0x2000u
#define IDT     0x3000u
#define TSS     0x4000u
#define STACK0  0x7000u
#define STACK3  0x8000u
#define UD      6u

static void put(struct machine *m, unsigned at, uint64_t value)
{
	memcpy(m->memory + at, &value, sizeof(value));
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){ .limit = 0xffffffff, .selector = selector, .type = type, .present = 1,
	                             .dpl = selector & 3, .db = 1, .s = 1, .g = 1 };
}

/* Begin in protected mode without paging, at privilege level `cpl`. The handler of #UD is a HLT. */
static void start(struct machine *m, unsigned cpl)
{
	static const uint8_t fld_device[] = { 0xd9, 0x05, 0x00, 0x00, 0x00, 0xd0 };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = cpl ? STACK3 : STACK0 };
	struct kvm_sregs sregs;

	machine_make(m, 1, 16 * PAGE);
	memcpy(m->memory + CODE, fld_device, sizeof(fld_device));
	m->memory[HANDLER] = 0xf4;
	put(m, GDT + 0x08, UINT64_C(0x00cf9b000000ffff));
	put(m, GDT + 0x10, UINT64_C(0x00cf93000000ffff));
	put(m, IDT + UD * 8, HANDLER | 0x08 << 16 | UINT64_C(0x8e00) << 32);
	put(m, TSS + 4, STACK0 | UINT64_C(0x10) << 32);
	NEED(ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(cpl ? 0x1b : 0x08, 11);
	sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = flat(cpl ? 0x23 : 0x10, 3);
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = 0x28, .type = 11, .present = 1 };
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 0x2f;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0x7ff;
	sregs.cr0 = 0x11;
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
}

static bool runs_to(struct machine *m, unsigned reason)
{
	return ioctl(m->vcpu[0], KVM_RUN, 0) == 0 && m->run[0]->exit_reason == reason;
}

static bool is_emulation_error(const struct machine *m)
{
	const struct kvm_run *run = m->run[0];

	return run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.insn_size >= 6 &&
	       memcmp(run->emulation_failure.insn_bytes, "\xd9\x05\0\0\0\xd0", 6) == 0;
}

/* Did the handler of #UD run, with a frame that names the instruction? */
static bool handled(const struct machine *m, unsigned selector, unsigned frame)
{
	uint32_t pushed[2];
	struct kvm_regs regs;

	memcpy(pushed, m->memory + STACK0 - frame, sizeof(pushed));
	return ioctl(m->vcpu[0], KVM_GET_REGS, &regs) == 0 && regs.rip == HANDLER + 1 && regs.rsp == STACK0 - frame &&
	       pushed[0] == CODE && pushed[1] == selector;
}

static bool exception_waits(const struct machine *m)
{
	struct kvm_vcpu_events events;

	NEED(ioctl(m->vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	return (events.exception.injected || events.exception.pending) && events.exception.nr == UD;
}

static void test_a_process_gets_an_exception(void)
{
	struct machine m;

	start(&m, 3);
	CHECK(runs_to(&m, KVM_EXIT_HLT));
	CHECK(handled(&m, 0x1b, 20));
	machine_free(&m, 1);
}

static void test_a_kernel_stops_and_gets_it_when_it_goes_on(void)
{
	struct machine m;

	start(&m, 0);
	CHECK(runs_to(&m, KVM_EXIT_INTERNAL_ERROR));
	CHECK(is_emulation_error(&m));
	CHECK(exception_waits(&m));
	CHECK(runs_to(&m, KVM_EXIT_HLT));
	CHECK(handled(&m, 0x08, 12));
	machine_free(&m, 1);
}

static void test_the_capability_stops_both(void)
{
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };
		struct machine m;

		start(&m, cpl);
		NEED(ioctl(m.vm, KVM_ENABLE_CAP, &cap) == 0);
		CHECK(runs_to(&m, KVM_EXIT_INTERNAL_ERROR));
		CHECK(is_emulation_error(&m));
		CHECK(!exception_waits(&m));
		machine_free(&m, 1);
	}
}

int main(void)
{
	test_a_process_gets_an_exception();
	test_a_kernel_stops_and_gets_it_when_it_goes_on();
	test_the_capability_stops_both();
	return check_end();
}
