/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches of a guest in 32-bit protected mode, which a KVM carries out by itself on every processor.
 * (One that runs guest kernels unprivileged does not.) What differs between KVM and hardware is not asked here:
 * cpu/test/guest_task.c holds the CPU against the manuals.
 */
#include "check.h"

#define GDT   0x2000u
#define IDT   0x2800u
#define OLD   0x3000u
#define NEW   0x4000u
#define NEW16 0x5000u
#define CODE  0x1000u
#define TASK  0x6000u /* code of the new task */
#define STUBS 0x7000u /* 16 bytes for each vector: MOV ESI, ESP; MOV EDI, vector; HLT */
#define STACK 0x9000u
#define NEW_STACK 0xa000u

enum { CS = 0x08, DS = 0x10, TR = 0x18, NEW_TSS = 0x20, GATE = 0x28, NEW_TSS16 = 0x30, LAST = 0x37 };

static struct machine m;

static void put(uint32_t at, unsigned size, uint64_t value)
{
	memcpy(m.memory + at, &value, size);
}

static uint64_t get(uint32_t at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, m.memory + at, size);
	return value;
}

static void tables(void)
{
	static const uint64_t gdt[] = {
		0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008b0000000067 | (uint64_t)OLD << 16,
		0x0000890000000067 | (uint64_t)NEW << 16, 0x0000850000000000 | (uint64_t)NEW_TSS << 16,
		0x000081000000002b | (uint64_t)NEW16 << 16,
	};

	memset(m.memory, 0, m.bytes);
	memcpy(m.memory + GDT, gdt, sizeof(gdt));
	for (unsigned v = 0; v < 64; v++) {
		const uint8_t stub[] = { 0x89, 0xe6, 0xbf, (uint8_t)v, 0, 0, 0, 0xf4 };

		memcpy(m.memory + STUBS + 16 * v, stub, sizeof(stub));
		put(IDT + 8 * v, 8, (STUBS + 16 * v) | (uint64_t)CS << 16 | UINT64_C(0x8e0000000000));
	}
	put(NEW + 32, 4, TASK);
	put(NEW + 36, 4, 2);
	put(NEW + 56, 4, NEW_STACK);
	put(NEW + 52, 4, 0x12345678); /* EBX */
	for (unsigned i = 0; i < 6; i++)
		put(NEW + 72 + 4 * i, 4, i == 1 ? CS : DS);
	put(NEW16 + 14, 2, TASK);
	put(NEW16 + 16, 2, 2);
	put(NEW16 + 24, 2, 0x5678); /* BX */
	for (unsigned i = 0; i < 4; i++)
		put(NEW16 + 34 + 2 * i, 2, i == 1 ? CS : DS);
}

static struct kvm_segment segment(uint16_t selector, unsigned type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = (uint8_t)type, .present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static void start(void)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = STACK, .rbx = 0xbbbb, .rbp = 0x5555 };
	struct kvm_sregs sregs;

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = segment(CS, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(DS, 3);
	sregs.tr = (struct kvm_segment){ .base = OLD, .limit = 103, .selector = TR, .type = 11, .present = 1 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.gdt.base = GDT;
	sregs.gdt.limit = LAST;
	sregs.idt.base = IDT;
	sregs.idt.limit = 64 * 8 - 1;
	sregs.cr0 = 0x11;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
}

static void code(uint32_t at, const void *bytes, size_t size)
{
	memcpy(m.memory + at, bytes, size);
}
#define CODE_BYTES(at, ...) code(at, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Run to a HLT. */
static struct kvm_regs run(void)
{
	struct kvm_regs regs;
	int done = ioctl(m.vcpu[0], KVM_RUN, 0);

	if (done != 0 || m.run[0]->exit_reason != KVM_EXIT_HLT)
		fprintf(stderr, "exit %u\n", m.run[0]->exit_reason);
	CHECK(done == 0 && m.run[0]->exit_reason == KVM_EXIT_HLT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	return regs;
}

static unsigned type_of(unsigned selector)
{
	return get(GDT + selector + 5, 1) & 15;
}

static void test_jump_and_call(void)
{
	for (unsigned i = 0; i < 4; i++) {
		bool is_call = i & 1;
		struct kvm_sregs sregs;
		struct kvm_regs regs;

		tables();
		CODE_BYTES(CODE, is_call ? 0x9a : 0xea, 0, 0, 0, 0, i & 2 ? GATE : NEW_TSS, 0, 0xf4);
		CODE_BYTES(TASK, 0xf4, 0xcf);
		start();
		regs = run();
		NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
		CHECK(regs.rip == TASK + 1 && regs.rsp == NEW_STACK && regs.rbx == 0x12345678);
		CHECK((regs.rflags & 0x4000) == (is_call ? 0x4000 : 0));
		CHECK(sregs.tr.selector == NEW_TSS && sregs.tr.base == NEW && sregs.tr.type == 11);
		CHECK(sregs.cr0 & 8);
		CHECK(get(OLD + 32, 4) == CODE + 7 && get(OLD + 52, 4) == 0xbbbb && get(OLD + 56, 4) == STACK);
		CHECK(type_of(TR) == (is_call ? 11 : 9) && type_of(NEW_TSS) == 11);
		CHECK(get(NEW, 2) == (is_call ? TR : 0));
		if (!is_call)
			continue;
		regs = run(); /* IRET */
		CHECK(regs.rip == CODE + 8 && regs.rsp == STACK && regs.rbx == 0xbbbb && !(regs.rflags & 0x4000));
		CHECK(type_of(TR) == 11 && type_of(NEW_TSS) == 9 && get(NEW + 32, 4) == TASK + 2);
	}
}

static void test_16_bit(void)
{
	struct kvm_regs regs;

	tables();
	CODE_BYTES(CODE, 0x9a, 0, 0, 0, 0, NEW_TSS16, 0, 0xf4);
	CODE_BYTES(TASK, 0xf4, 0xcf);
	start();
	regs = run();
	CHECK(regs.rip == TASK + 1 && regs.rbx == 0x5678 && (regs.rflags & 0x4000));
	CHECK(type_of(NEW_TSS16) == 3 && get(NEW16, 2) == TR);
	regs = run();
	CHECK(regs.rip == CODE + 8 && regs.rbx == 0xbbbb);
	CHECK(type_of(NEW_TSS16) == 1 && get(NEW16 + 14, 2) == TASK + 2);
}

/* By an exception with an error code, and by INT n. */
static void test_events(void)
{
	struct kvm_regs regs;

	tables();
	put(IDT + 8 * 13, 8, UINT64_C(0x850000000000) | (uint64_t)NEW_TSS << 16);
	CODE_BYTES(CODE, 0x8e, 0xdd, 0xf4); /* MOV DS, BP */
	CODE_BYTES(TASK, 0xf4, 0x83, 0xc4, 4, 0xcf);
	start();
	regs = run();
	CHECK(regs.rip == TASK + 1 && regs.rsp == NEW_STACK - 4 && (regs.rflags & 0x4000));
	CHECK(get(NEW_STACK - 4, 4) == 0x5554 && get(OLD + 32, 4) == CODE);
	CODE_BYTES(CODE, 0x90, 0x90);
	regs = run();
	CHECK(regs.rip == CODE + 3);
	tables();
	put(IDT + 8 * 0x21, 8, UINT64_C(0x850000000000) | (uint64_t)NEW_TSS << 16);
	CODE_BYTES(CODE, 0xcd, 0x21, 0xf4);
	CODE_BYTES(TASK, 0xf4, 0xcf);
	start();
	regs = run();
	CHECK(regs.rip == TASK + 1 && regs.rsp == NEW_STACK && get(OLD + 32, 4) == CODE + 2);
	regs = run();
	CHECK(regs.rip == CODE + 3);
}

/* The stub of a vector has the vector in EDI, and in ESI where the error code is. */
static void test_faults(void)
{
	static const struct {
		uint32_t at, size, value;
		unsigned vector;
		uint32_t error, rip;
	} faults[] = {
		{ GDT + NEW_TSS, 1, 0x66, 10, NEW_TSS, CODE }, /* too short */
		{ GDT + NEW_TSS + 5, 1, 0x8b, 13, NEW_TSS, CODE }, /* busy */
		{ NEW + 96, 2, DS, 10, DS, TASK }, /* LDTR */
		{ NEW + 84, 2, 0x1238, 10, 0x1238, TASK }, /* DS */
		{ NEW + 92, 2, TR, 10, TR, TASK }, /* GS */
	};

	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct kvm_regs regs;

		tables();
		put(faults[i].at, faults[i].size, faults[i].value);
		CODE_BYTES(CODE, 0x9a, 0, 0, 0, 0, NEW_TSS, 0, 0xf4);
		start();
		regs = run();
		if (regs.rdi != faults[i].vector)
			fprintf(stderr, "fault %u: vector %u\n", i, (unsigned)regs.rdi);
		CHECK(regs.rdi == faults[i].vector);
		CHECK(get((uint32_t)regs.rsi, 4) == faults[i].error && get((uint32_t)regs.rsi + 4, 4) == faults[i].rip);
	}
}

/* ---- a dirty ring that is nearly full in the middle ------------------------------------------------------------- */

#define LDT_SELECTOR 0x38u
#define LDT     0xb000u
#define FILL    0x10000u /* pages that the guest writes first */
#define ENTRIES 256u
#define RING_OFFSET (KVM_DIRTY_LOG_PAGE_OFFSET * PAGE)

static struct kvm_dirty_gfn *ring;
static unsigned ring_taken;

/* Returns: false where this size of a ring is too small. */
static bool ring_machine(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = { ENTRIES * sizeof(*ring) } };
	size_t size = machine_begin(&m, FILL + ENTRIES * PAGE);

	if (ioctl(m.vm, KVM_ENABLE_CAP, &cap) != 0)
		return false;
	NEED(machine_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, m.bytes, m.memory) == 0);
	m.vcpu[0] = ioctl(m.vm, KVM_CREATE_VCPU, 0ul);
	NEED(m.vcpu[0] >= 0);
	m.run[0] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], 0);
	ring = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], RING_OFFSET);
	NEED(m.run[0] != MAP_FAILED && ring != MAP_FAILED);
	ring_taken = 0;
	return true;
}

static void ring_harvest(void)
{
	for (;; ring_taken++) {
		struct kvm_dirty_gfn *entry = &ring[ring_taken % ENTRIES];

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	CHECK(ioctl(m.vm, KVM_RESET_DIRTY_RINGS, 0) > 0);
}

/* As a migration does: the guest goes on from what the ioctls say. */
static void state_again(bool wrong)
{
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	CHECK(!sregs.cs.unusable && sregs.cs.type == 11 && sregs.cs.limit == 0xffffffff);
	CHECK(!sregs.ss.unusable && (wrong || !sregs.ds.unusable));
	CHECK(sregs.tr.selector == TR || regs.rip == (wrong ? STUBS + 16 * 8 : TASK));
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
}

/*
 * The new task, by an exception: DS comes from an LDT, which is written, and the error code goes to its stack. `wrong`:
 * there is no such segment, so that the switch ends in an exception of the new task.
 */
static void ring_tables(unsigned pages, bool wrong)
{
	tables();
	put(GDT + LDT_SELECTOR, 8, 0x0000820000000007 | (uint64_t)LDT << 16);
	put(LDT, 8, 0x00cf92000000ffff);
	put(NEW + 84, 4, wrong ? 0x1238 : 4); /* DS */
	put(NEW + 96, 4, LDT_SELECTOR);
	put(IDT + 8 * 13, 8, UINT64_C(0x850000000000) | (uint64_t)NEW_TSS << 16);
	/* MOV ECX, pages; MOV EDI, FILL; 1: MOV [EDI], AL; ADD EDI, 4096; LOOP 1b; MOV DS, BP */
	CODE_BYTES(CODE, 0xb9, (uint8_t)pages, 0, 0, 0, 0xbf, 0, 0, 1, 0, 0x88, 0x07,
	           0x81, 0xc7, 0, 0x10, 0, 0, 0xe2, 0xf6, 0x8e, 0xdd);
	CODE_BYTES(TASK, 0xf4);
}

/* Run to a HLT. Returns: how often the ring was nearly full. */
static unsigned ring_run(bool wrong, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	unsigned full = 0;

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, sregs) == 0);
	sregs->gdt.limit = LDT_SELECTOR + 7;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, sregs) == 0);
	for (;; full++) {
		NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
		if (m.run[0]->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		state_again(wrong);
		ring_harvest();
	}
	CHECK(m.run[0]->exit_reason == KVM_EXIT_HLT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, sregs) == 0);
	return full;
}

/* The ring is nearly full after each of the writes of the switch once. */
static void test_full_ring(bool wrong)
{
	unsigned full = 0;

	for (unsigned pages = 180; pages <= 192; pages++) {
		struct kvm_sregs sregs;
		struct kvm_regs regs;

		if (!ring_machine())
			return;
		ring_tables(pages, wrong);
		start();
		full += ring_run(wrong, &regs, &sregs);
		CHECK(sregs.tr.selector == NEW_TSS && get(OLD + 32, 4) == CODE + 20 && type_of(NEW_TSS) == 11);
		if (wrong) {
			CHECK(regs.rdi == 8); /* the switch was part of the delivery of #GP */
		} else {
			CHECK(regs.rip == TASK + 1 && regs.rsp == NEW_STACK - 4 && get(NEW_STACK - 4, 4) == 0x5554);
			CHECK(sregs.ds.selector == 4 && !sregs.ds.unusable && (get(LDT + 5, 1) & 1));
		}
		munmap(ring, PAGE);
		machine_free(&m, 1);
	}
	CHECK(full > 3);
}

int main(void)
{
	machine_make(&m, 1, 0x10000);
	test_jump_and_call();
	test_16_bit();
	test_events();
	test_faults();
	machine_free(&m, 1);
	test_full_ring(false);
	test_full_ring(true);
	return check_end();
}
