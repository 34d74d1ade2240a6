/* SPDX-License-Identifier: MIT */
/*
 * The local APIC as a guest and a client see it: modes, the timer, x2APIC registers, IPIs, NMIs, HLT.
 *
 * Guests are in 32-bit protected mode with flat segments. The stub of an interrupt writes to the port whose number is
 * the vector.
 */
#include "check.h"
#include <pthread.h>
#include <time.h>

#define GDT      0x500u
#define IDT      0x800u
#define CODE     0x1000u
#define HANDLER  0x2000u
#define COUNTER  0x3000u /* the word in which the handlers count */
#define STUBS    0x4000u
#define STACK    0x8000u
#define DONE     0xaa    /* the port that a program writes to when it ends */

#define CODE32(name, text) \
	extern const uint8_t name[], name##_end[]; \
	__asm__(".pushsection .rodata\n.local " #name "\n.local " #name "_end\n" #name ":\n.code32\n" text "\n" #name \
	        "_end:\n.code64\n.popsection\n");
#define LOAD(at, name) memcpy(m.memory + (at), name, (size_t)(name##_end - name))

static struct machine m;
static struct cpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
} cpuid;

static void gate(unsigned vector, uint32_t handler)
{
	const uint16_t words[4] = { (uint16_t)handler, 8, 0x8e00, (uint16_t)(handler >> 16) };

	memcpy(m.memory + IDT + vector * 8, words, sizeof(words));
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1,
	};
}

/* Begin at CODE, with interrupts on or off. */
static void start(unsigned i, bool interrupts)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = interrupts ? 0x202 : 2, .rsp = STACK - i * 0x800 };

	NEED(ioctl(m.vcpu[i], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(8, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(16, 3);
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0x7ff;
	sregs.cr0 = 0x31;
	NEED(ioctl(m.vcpu[i], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[i], KVM_SET_REGS, &regs) == 0);
}

static void make(unsigned vcpus)
{
	static const uint64_t gdt[] = { 0, UINT64_C(0x00cf9a000000ffff), UINT64_C(0x00cf92000000ffff) };

	memset(&m, 0, sizeof(m));
	m.kvm = open("/dev/kvm", O_RDWR);
	m.vm = ioctl(m.kvm, KVM_CREATE_VM, 0);
	NEED(ioctl(m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	cpuid.head.nent = 100;
	NEED(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 1)
			cpuid.entry[i].ecx |= 1u << 21 | 1u << 24; /* x2APIC, TSC deadline */
	m.bytes = 16 * PAGE;
	m.memory = mmap(NULL, m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(machine_slot(m.vm, 0, 0, 0, m.bytes, m.memory) == 0);
	memcpy(m.memory + GDT, gdt, sizeof(gdt));
	for (unsigned v = 0; v < 256; v++) {
		const uint8_t stub[] = { 0xe6, (uint8_t)v, 0xeb, 0xfe }; /* out %al, $v; jmp . */

		memcpy(m.memory + STUBS + v * 16, stub, sizeof(stub));
		gate(v, STUBS + v * 16);
	}
	for (unsigned i = 0; i < vcpus; i++) {
		struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

		m.vcpu[i] = ioctl(m.vm, KVM_CREATE_VCPU, (unsigned long)i);
		NEED(m.vcpu[i] >= 0 && ioctl(m.vcpu[i], KVM_SET_CPUID2, &cpuid) == 0);
		m.run[i] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[i], 0);
		NEED(m.run[i] != MAP_FAILED);
		NEED(ioctl(m.vcpu[i], KVM_SET_MP_STATE, &runnable) == 0);
		start(i, false);
	}
}

/* Run until the guest executes OUT. Returns: the port, or -1 for any other end. */
static int run(unsigned i)
{
	struct kvm_run *r = m.run[i];

	if (ioctl(m.vcpu[i], KVM_RUN, 0) != 0 || r->exit_reason != KVM_EXIT_IO || r->io.direction != KVM_EXIT_IO_OUT)
		return -1;
	return r->io.port;
}

static uint32_t counter(void)
{
	return __atomic_load_n((uint32_t *)(void *)(m.memory + COUNTER), __ATOMIC_RELAXED);
}

/* ---- registers ------------------------------------------------------------------------------------------- */

static uint32_t lapic_get(unsigned i, unsigned offset)
{
	struct kvm_lapic_state state;
	uint32_t value;

	NEED(ioctl(m.vcpu[i], KVM_GET_LAPIC, &state) == 0);
	memcpy(&value, state.regs + offset, 4);
	return value;
}

static void lapic_set(unsigned i, unsigned offset, uint32_t value)
{
	struct kvm_lapic_state state;

	NEED(ioctl(m.vcpu[i], KVM_GET_LAPIC, &state) == 0);
	memcpy(state.regs + offset, &value, 4);
	NEED(ioctl(m.vcpu[i], KVM_SET_LAPIC, &state) == 0);
}

CODE32(c_wrmsr, "wrmsr \n out %al, $0xaa")
CODE32(c_rdmsr, "rdmsr \n out %al, $0xaa")
CODE32(c_read, "movl (%ebx), %eax \n out %al, $0xaa")

static void regs_for(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	struct kvm_regs regs;

	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	regs.rip = CODE;
	regs.rsp = STACK;
	regs.rax = a;
	regs.rbx = b;
	regs.rcx = c;
	regs.rdx = d;
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
}

/* The guest writes the MSR. Returns: the port that it then writes to: DONE, 13 for a #GP, or an interrupt's vector. */
static int wrmsr(uint32_t index, uint64_t value)
{
	LOAD(CODE, c_wrmsr);
	regs_for((uint32_t)value, 0, index, (uint32_t)(value >> 32));
	return run(0);
}

static uint64_t rdmsr(uint32_t index)
{
	struct kvm_regs regs;

	LOAD(CODE, c_rdmsr);
	regs_for(0, 0, index, 0);
	CHECK(run(0) == DONE);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	return (uint32_t)regs.rax | regs.rdx << 32;
}

static uint32_t memory_read(uint32_t address)
{
	struct kvm_regs regs;

	LOAD(CODE, c_read);
	regs_for(0, address, 0, 0);
	CHECK(run(0) == DONE);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	return (uint32_t)regs.rax;
}

static bool client_wrmsr(uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return ioctl(m.vcpu[0], KVM_SET_MSRS, &msrs) == 1;
}

#define APIC_BASE 0x1bu
#define DEADLINE  0x6e0u
#define OFF       UINT64_C(0xfee00100)
#define XAPIC     (OFF | 0x800)
#define X2APIC    (OFF | 0xc00)
#define NO_MODE   (OFF | 0x400)

static void test_modes(void)
{
	static const struct {
		uint64_t base;
		int port;
	} steps[] = {
		{ NO_MODE, 13 }, { XAPIC | 1, 13 }, { XAPIC | UINT64_C(1) << 48, 13 }, { X2APIC, DONE },
		{ NO_MODE, 13 }, { XAPIC, 13 }, { X2APIC, DONE }, { OFF, DONE },
		{ NO_MODE, 13 }, { X2APIC, 13 }, { OFF, DONE }, { XAPIC, DONE }, { OFF, DONE }, { XAPIC, DONE },
	};
	uint64_t base = XAPIC;

	make(1);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int port = wrmsr(APIC_BASE, steps[i].base);

		if (port != steps[i].port)
			fprintf(stderr, "step %u: port %d\n", i, port);
		CHECK(port == steps[i].port);
		base = port == DONE ? steps[i].base : base;
		CHECK(rdmsr(APIC_BASE) == base);
	}
	/* A client may go from any mode to any other that exists. */
	CHECK(client_wrmsr(APIC_BASE, X2APIC) && client_wrmsr(APIC_BASE, XAPIC) && client_wrmsr(APIC_BASE, OFF));
	CHECK(client_wrmsr(APIC_BASE, X2APIC) && !client_wrmsr(APIC_BASE, NO_MODE));
	machine_free(&m, 1);
}

/* An APIC that is off leaves a hole in memory, and no interrupt reaches it. */
static void test_disabled(void)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x41 };

	make(1);
	CHECK(memory_read(0xfee00030) == 0x50014);
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) <= 0); /* software has not enabled the APIC yet (SVR) */
	CHECK(lapic_get(0, 0x220) == 0);
	lapic_set(0, 0xf0, 0x1ff);
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) == 1 && lapic_get(0, 0x220) == 1u << 1);
	/* Of the address only the destination counts. QEMU leaves the rest out: its devices write at an offset. */
	msi = (struct kvm_msi){ .data = 0x42 };
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) == 1 && lapic_get(0, 0x220) == 3u << 1);
	msi = (struct kvm_msi){ .address_lo = 0x00001000, .data = 0x43 };
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) <= 0 && lapic_get(0, 0x220) == 3u << 1); /* nobody has this id */
	msi = (struct kvm_msi){ .address_lo = 0xfee00000, .data = 0x41 };
	CHECK(wrmsr(APIC_BASE, OFF) == DONE);
	CHECK(memory_read(0xfee00030) == UINT32_MAX);
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) <= 0);
	CHECK(wrmsr(APIC_BASE, XAPIC) == DONE);
	CHECK(memory_read(0xfee00030) == 0x50014 && lapic_get(0, 0x220) == 3u << 1);
	CHECK(wrmsr(APIC_BASE, X2APIC) == DONE);
	CHECK(memory_read(0xfee00030) == UINT32_MAX);
	machine_free(&m, 1);
}

static void test_x2apic_reserved_bits(void)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		int port;
	} writes[] = {
		{ 0x80f, 0x1ff, DONE }, { 0x80f, 0x11ff, 13 }, { 0x808, 0xf0, DONE }, { 0x808, 0x100, 13 },
		{ 0x80b, 0, DONE }, { 0x80b, 1, 13 }, { 0x828, 0, DONE }, { 0x828, 1, 13 },
		/* ICR, with a destination that does not exist: bits 13, 17:16 and 31:20 are reserved. */
		{ 0x830, UINT64_C(0x7700000041), DONE }, { 0x830, UINT64_C(0x7700001041), DONE },
		{ 0x830, UINT64_C(0x7700002041), 13 }, { 0x830, UINT64_C(0x7700010041), 13 },
		{ 0x830, UINT64_C(0x7700020041), 13 }, { 0x830, UINT64_C(0x7700100041), 13 },
		{ 0x830, UINT64_C(0x7780000041), 13 },
		/* Self IPI: all bits but the vector are reserved. */
		{ 0x83f, 0x41, DONE }, { 0x83f, 0x141, 13 }, { 0x83f, UINT64_C(0x100000041), 13 },
		{ 0x832, 0x70042, DONE }, { 0x832, 0x90042, 13 }, { 0x835, 0x1a742, DONE }, { 0x835, 0x20042, 13 },
		{ 0x83e, 0xb, DONE }, { 0x83e, 4, 13 }, { 0x838, UINT32_MAX, DONE }, { 0x838, UINT64_C(1) << 32, 13 },
		{ 0x802, 0, 13 }, { 0x803, 0x50014, 13 }, { 0x80d, 0, 13 }, { 0x80e, 0, 13 }, { 0x831, 0, 13 },
		{ 0x839, 0, 13 },
	};

	make(1);
	CHECK(wrmsr(0x808, 0) == 13); /* not in xAPIC mode */
	CHECK(wrmsr(APIC_BASE, X2APIC) == DONE);
	for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		int port = wrmsr(writes[i].index, writes[i].value);

		if (port != writes[i].port)
			fprintf(stderr, "MSR %x, %llx: port %d\n", writes[i].index, (unsigned long long)writes[i].value,
			        port);
		CHECK(port == writes[i].port);
	}
	CHECK(lapic_get(0, 0x220) == 1u << 1); /* the self IPI, held off by the TPR */
	machine_free(&m, 1);
}

/* ---- the timer ------------------------------------------------------------------------------------------- */

#define LVTT_PERIODIC 0x20042u
#define LVTT_ONE_SHOT 0x00042u
#define LVTT_DEADLINE 0x40042u
#define LONG          UINT32_MAX /* 9 minutes when the clock is divided by 128 */

static void test_timer_modes(void)
{
	make(1);
	CHECK(wrmsr(APIC_BASE, X2APIC) == DONE && wrmsr(0x80f, 0x1ff) == DONE && wrmsr(0x83e, 0xa) == DONE);
	CHECK(wrmsr(0x832, LVTT_ONE_SHOT) == DONE && wrmsr(0x838, LONG) == DONE);
	CHECK(rdmsr(0x839) != 0);
	/* The count goes on when the mode changes between one-shot and periodic, and when the LVT is masked. */
	CHECK(wrmsr(0x832, LVTT_PERIODIC) == DONE && rdmsr(0x839) != 0 && rdmsr(0x838) == LONG);
	CHECK(wrmsr(0x832, LVTT_PERIODIC | 0x10000) == DONE && rdmsr(0x839) != 0);
	CHECK(wrmsr(0x832, LVTT_ONE_SHOT) == DONE && rdmsr(0x839) != 0 && rdmsr(0x838) == LONG);
	/* A change to TSC-deadline mode clears the count, and a change back clears the deadline. */
	CHECK(wrmsr(0x832, LVTT_DEADLINE) == DONE && rdmsr(0x839) == 0 && rdmsr(0x838) == 0);
	CHECK(wrmsr(0x838, LONG) == DONE && rdmsr(0x838) == 0); /* TSC-deadline mode ignores it */
	CHECK(wrmsr(DEADLINE, UINT64_MAX) == DONE && rdmsr(DEADLINE) == UINT64_MAX && rdmsr(0x839) == 0);
	CHECK(wrmsr(0x832, LVTT_ONE_SHOT) == DONE && rdmsr(DEADLINE) == 0 && rdmsr(0x839) == 0);
	/* A count that has ended does not begin again when the mode becomes periodic. */
	CHECK(wrmsr(0x832, LVTT_ONE_SHOT | 0x10000) == DONE && wrmsr(0x838, 1) == DONE);
	while (rdmsr(0x839) != 0)
		continue;
	CHECK(wrmsr(0x832, LVTT_PERIODIC) == DONE && rdmsr(0x838) == 1 && rdmsr(0x839) == 0);
	machine_free(&m, 1);
}

/* A one-shot count that is made periodic starts again. The handler counts; the guest spins until it has counted 3. */
CODE32(c_spin, "sti \n 1: cmpl $3, 0x3000 \n jb 1b \n out %al, $0xaa")
CODE32(c_count_x2apic, "push %eax \n push %ecx \n push %edx \n incl 0x3000 \n mov $0x80b, %ecx \n "
       "xor %eax, %eax \n xor %edx, %edx \n"
       "wrmsr \n pop %edx \n pop %ecx \n pop %eax \n iret")

static void test_timer_becomes_periodic(void)
{
	make(1);
	CHECK(wrmsr(APIC_BASE, X2APIC) == DONE && wrmsr(0x80f, 0x1ff) == DONE && wrmsr(0x83e, 0xb) == DONE);
	CHECK(wrmsr(0x832, LVTT_ONE_SHOT) == DONE && wrmsr(0x838, 50000000) == DONE &&
	      wrmsr(0x832, LVTT_PERIODIC) == DONE);
	LOAD(CODE, c_spin);
	LOAD(HANDLER, c_count_x2apic);
	gate(0x42, HANDLER);
	regs_for(0, 0, 0, 0);
	CHECK(run(0) == DONE && counter() == 3);
	machine_free(&m, 1);
}

/* A deadline in the past interrupts before the next instruction. */
static void test_deadline_in_the_past(void)
{
	make(1);
	CHECK(wrmsr(APIC_BASE, X2APIC) == DONE && wrmsr(0x80f, 0x1ff) == DONE && wrmsr(0x832, LVTT_DEADLINE) == DONE);
	for (int i = 0; i < 20; i++) {
		uint32_t pushed;

		start(0, true);
		CHECK(wrmsr(DEADLINE, 1) == 0x42);
		memcpy(&pushed, m.memory + STACK - 12, 4);
		CHECK(pushed == CODE + 2);
		start(0, false);
		CHECK(wrmsr(0x80b, 0) == DONE && rdmsr(DEADLINE) == 0);
	}
	machine_free(&m, 1);
}

CODE32(c_halt, "sti \n 1: hlt \n out %al, $0xaa \n jmp 1b")

/* The APIC's timer ends HLT, and interrupts a guest that spins. */
static void test_timer_wakes(void)
{
	for (int i = 0; i < 2; i++) {
		make(1);
		if (i == 0)
			LOAD(CODE, c_halt);
		else
			LOAD(CODE, c_spin);
		lapic_set(0, 0xf0, 0x1ff);
		lapic_set(0, 0x320, 0x42);
		lapic_set(0, 0x3e0, 0xb);
		lapic_set(0, 0x380, 20000000);
		CHECK(run(0) == 0x42);
		machine_free(&m, 1);
	}
}

/* ---- between threads ------------------------------------------------------------------------------------- */

static int results[2];

static void *run_first(void *argument)
{
	(void)argument;
	results[0] = run(0);
	return NULL;
}

static void *run_second(void *argument)
{
	(void)argument;
	results[1] = run(1);
	return NULL;
}

CODE32(c_return, "out %al, $0x41 \n iret")

static void test_halt(void)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x41 };
	pthread_t thread;

	make(1);
	LOAD(CODE, c_halt);
	LOAD(HANDLER, c_return);
	gate(0x41, HANDLER);
	lapic_set(0, 0xf0, 0x1ff);
	NEED(pthread_create(&thread, NULL, run_first, NULL) == 0);
	usleep(30000);
	CHECK(ioctl(m.vm, KVM_SIGNAL_MSI, &msi) == 1);
	pthread_join(thread, NULL);
	CHECK(results[0] == 0x41);
	CHECK(run(0) == DONE);
	machine_free(&m, 1);
}

static void test_application_processor_waits(void)
{
	struct kvm_mp_state mp;
	int second;

	make(1);
	second = ioctl(m.vm, KVM_CREATE_VCPU, 1ul);
	NEED(second >= 0);
	CHECK(ioctl(second, KVM_GET_MP_STATE, &mp) == 0 && mp.mp_state == KVM_MP_STATE_UNINITIALIZED);
	close(second);
	machine_free(&m, 1);
}

/*
 * vCPU 0 sends an IPI to a flat logical destination, waits until the handler of vCPU 1 has counted it, and sends the
 * next. So an IPI usually arrives while vCPU 1 is still in the handler of the last one, around its EOI. One lost IPI
 * stops both vCPUs for ever.
 */
#define IPIS "8000"
CODE32(c_send, "mov $" IPIS ", %ecx \n xor %edx, %edx \n movl $0xe6000000, 0xfee00310 \n"
       "1: movl $0x4841, 0xfee00300 \n inc %edx \n"
       "2: pause \n cmp %edx, 0x3000 \n jne 2b \n"
       "loop 1b \n out %al, $0xaa")
CODE32(c_receive, "sti \n 1: cmpl $" IPIS ", 0x3000 \n jb 1b \n cli \n out %al, $0xaa")
CODE32(c_count, "incl 0x3000 \n movl $0, 0xfee000b0 \n iret")

static void test_logical_ipis_arrive(void)
{
	struct timespec limit;
	pthread_t threads[2];
	uint32_t seen;

	make(2);
	LOAD(CODE, c_send);
	LOAD(CODE + 0x100, c_receive);
	LOAD(HANDLER, c_count);
	gate(0x41, HANDLER);
	for (unsigned i = 0; i < 2; i++) {
		struct kvm_regs regs;

		lapic_set(i, 0xf0, 0x1ff);
		lapic_set(i, 0xd0, i ? 0x04000000 : 0x01000000);
		NEED(ioctl(m.vcpu[i], KVM_GET_REGS, &regs) == 0);
		regs.rip = CODE + 0x100 * i;
		NEED(ioctl(m.vcpu[i], KVM_SET_REGS, &regs) == 0);
	}
	NEED(pthread_create(&threads[0], NULL, run_first, NULL) == 0);
	NEED(pthread_create(&threads[1], NULL, run_second, NULL) == 0);
	/* Two vCPUs that spin on one processor need a time slice each for every IPI. Do not call a slow IPI lost. */
	do {
		seen = counter();
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += 60;
		if (pthread_timedjoin_np(threads[0], NULL, &limit) == 0)
			break;
		if (counter() == seen) {
			fprintf(stderr, "IPI %u was lost\n", seen + 1);
			exit(1);
		}
	} while (true);
	pthread_join(threads[1], NULL);
	CHECK(results[0] == DONE && results[1] == DONE && counter() == (uint32_t)atoi(IPIS));
	machine_free(&m, 2);
}

/* ---- NMIs ------------------------------------------------------------------------------------------------ */

CODE32(c_done, "nop \n out %al, $0xaa")
CODE32(c_count_nmi, "incl 0x3000 \n iret")
CODE32(c_raise_nmis, "mov 0x3000, %eax \n incl 0x3000 \n test %eax, %eax \n jnz 2f \n mov $10, %eax \n"
       "1: movl $0x44400, 0xfee00300 \n dec %eax \n jnz 1b \n" /* to itself */
       "2: iret")

static void test_two_nmis_are_kept(void)
{
	struct kvm_vcpu_events events;

	make(1);
	LOAD(HANDLER, c_count_nmi);
	gate(2, HANDLER);
	for (unsigned sent = 1; sent <= 3; sent++) {
		unsigned kept = sent > 2 ? 2 : sent;

		start(0, false);
		LOAD(CODE, c_done);
		memset(m.memory + COUNTER, 0, 4);
		for (unsigned i = 0; i < sent; i++)
			CHECK(ioctl(m.vcpu[0], KVM_NMI, 0) == 0);
		CHECK(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0 && events.nmi.pending == kept);
		CHECK(ioctl(m.vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
		CHECK(run(0) == DONE && counter() == kept);
	}
	/* While the handler of an NMI runs, one more is latched. */
	start(0, false);
	LOAD(HANDLER, c_raise_nmis);
	memset(m.memory + COUNTER, 0, 4);
	CHECK(ioctl(m.vcpu[0], KVM_NMI, 0) == 0);
	CHECK(run(0) == DONE && counter() == 2);
	NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	CHECK(!events.nmi.masked && events.nmi.pending == 0);
	events.nmi.masked = 1;
	events.nmi.pending = 2;
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	CHECK(ioctl(m.vcpu[0], KVM_SET_VCPU_EVENTS, &events) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0 && events.nmi.pending == 1);
	machine_free(&m, 1);
}

int main(void)
{
	test_modes();
	test_disabled();
	test_x2apic_reserved_bits();
	test_timer_modes();
	test_timer_becomes_periodic();
	test_deadline_in_the_past();
	test_timer_wakes();
	test_halt();
	test_application_processor_waits();
	test_two_nmis_are_kept();
	test_logical_ipis_arrive();
	return check_end();
}
