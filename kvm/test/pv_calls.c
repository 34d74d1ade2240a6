/* SPDX-License-Identifier: MIT */
/*
 * KVM's paravirtual interface beside its clock: hypercalls, stolen time and flushes of a vCPU that does not run,
 * interrupts that end without an exit.
 */
#include "pv.h"
#include <linux/seccomp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define STEAL   PV_WORD
#define VECTOR  0x40u
#define OTHER   0x41u
#define FLAGS   0x202u /* interrupts on */

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_SVR       0x80fu
#define MSR_ICR       0x830u
#define MSR_LVT_TIMER 0x832u
#define MSR_SELF_IPI  0x83fu

struct steal_page {
	uint64_t steal;
	uint32_t version, flags;
	uint8_t preempted, padding[47];
};

/*
 * The handler of VECTOR and OTHER counts at 0x7000. At its end it clears bit 0 of the word at 0x7010. If that was set,
 * it counts at 0x7002, and the interrupt has ended; else it writes to the EOI register and counts at 0x7004. Before
 * that it does what the byte at 0x7020 asks for, once: 1: OUT to port 2. Otherwise it is a vector to send to itself.
 */
extern const uint8_t handler[], handler_end[], count_up[], count_up_end[];
__asm__(".pushsection .rodata\n.code16\n"
        "handler: pushal\n incw 0x7000\n movb 0x7020, %bl\n movb $0, 0x7020\n"
        "cmp $0, %bl\n je 2f\n cmp $1, %bl\n jne 1f\n out %al, $2\n jmp 2f\n"
        "1: movzbl %bl, %eax\n xor %edx, %edx\n mov $0x83f, %ecx\n wrmsr\n"
        "2: btrw $0, 0x7010\n jnc 3f\n incw 0x7002\n popal\n iret\n"
        "3: incw 0x7004\n xor %eax, %eax\n xor %edx, %edx\n mov $0x80b, %ecx\n wrmsr\n popal\n iret\n"
        "handler_end:\n"
        /* wait with interrupts on until AX have come */
        "count_up: sti\n 1: cmp 0x7000, %ax\n jne 1b\n cli\n out %al, $1\n count_up_end:\n"
        ".code64\n.popsection\n");
#define ENTRY 0x4000u
#define COUNT 0x4800u

static uint16_t word(unsigned at)
{
	uint16_t value;

	memcpy(&value, m.memory + at, sizeof(value));
	return value;
}

static void make_apics(unsigned vcpus)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } cpuid;
	const uint16_t vector[2] = { ENTRY, 0 }, gp[2] = { HANDLER, 0 };
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

	machine_make(&m, 0, BYTES);
	NEED(ioctl(m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	memcpy(m.memory + 0x1000, instructions, (size_t)(instructions_end - instructions));
	memcpy(m.memory + GP * 4, gp, sizeof(gp));
	memcpy(m.memory + HANDLER, "\xe6\x0d", 2);
	memcpy(m.memory + ENTRY, handler, (size_t)(handler_end - handler));
	memcpy(m.memory + COUNT, count_up, (size_t)(count_up_end - count_up));
	memcpy(m.memory + VECTOR * 4, vector, sizeof(vector));
	memcpy(m.memory + OTHER * 4, vector, sizeof(vector));
	cpuid.head.nent = 256;
	NEED(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned i = 0; i < vcpus; i++) {
		m.vcpu[i] = ioctl(m.vm, KVM_CREATE_VCPU, (unsigned long)i);
		NEED(m.vcpu[i] >= 0);
		m.run[i] = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[i], 0);
		NEED(m.run[i] != MAP_FAILED);
		NEED(ioctl(m.vcpu[i], KVM_SET_CPUID2, &cpuid) == 0);
		machine_start(&m, i, 0x1000);
		NEED(ioctl(m.vcpu[i], KVM_SET_MP_STATE, &runnable) == 0);
		NEED(guest_wrmsr(i, MSR_APIC_BASE, 0xfee00c00u | (i ? 0 : 0x100)));
		NEED(guest_wrmsr(i, MSR_SVR, 0x1ff));
	}
}

/* ---- MSRs ----------------------------------------------------------------------------------------------------- */

static void test_msrs(void)
{
	uint64_t value;

	make_apics(1);
	CHECK(cap(KVM_CAP_STEAL_TIME) == 1);
	CHECK(guest_rdmsr(0, MSR_KVM_POLL_CONTROL, &value) && value == 1);
	CHECK(guest_wrmsr(0, MSR_KVM_POLL_CONTROL, 0) && client_rdmsr(0, MSR_KVM_POLL_CONTROL, &value) && value == 0);
	CHECK(!guest_wrmsr(0, MSR_KVM_POLL_CONTROL, 2) && !client_wrmsr(0, MSR_KVM_POLL_CONTROL, 2));
	for (unsigned bit = 1; bit < 6; bit++)
		CHECK(!guest_wrmsr(0, MSR_KVM_STEAL_TIME, STEAL | 1u << bit | 1));
	CHECK(guest_rdmsr(0, MSR_KVM_STEAL_TIME, &value) && value == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_STEAL_TIME, STEAL | 1));
	CHECK(client_rdmsr(0, MSR_KVM_STEAL_TIME, &value) && value == (STEAL | 1));
	CHECK(guest_wrmsr(0, MSR_KVM_STEAL_TIME, BYTES | 1)); /* no memory: as in KVM that is seen later */
	CHECK(!guest_wrmsr(0, MSR_KVM_PV_EOI_EN, STEAL | 3) && !guest_wrmsr(0, MSR_KVM_PV_EOI_EN, STEAL | 2));
	CHECK(!guest_wrmsr(0, MSR_KVM_PV_EOI_EN, BYTES | 1));
	CHECK(guest_rdmsr(0, MSR_KVM_PV_EOI_EN, &value) && value == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_PV_EOI_EN, (STEAL + 4) | 1));
	CHECK(guest_rdmsr(0, MSR_KVM_PV_EOI_EN, &value) && value == ((STEAL + 4) | 1));
	machine_free(&m, 1);
}

/* ---- hypercalls ----------------------------------------------------------------------------------------------- */

/* Returns: EAX, sign-extended. The guest is in real mode, so 32 bits count. */
static int32_t call(unsigned i, uint32_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct kvm_regs regs = { .rax = number, .rbx = a, .rcx = b, .rdx = c, .rsi = d };

	CHECK(guest_run(i, CALL, &regs) == DONE);
	CHECK(regs.rax >> 32 == 0);
	return (int32_t)regs.rax;
}

/* A KVM that emulates real mode may know no hypercalls there. */
static bool calls_work(void)
{
	struct kvm_regs regs = { .rax = KVM_HC_VAPIC_POLL_IRQ };
	bool work;

	make_cpus(1);
	work = guest_run(0, CALL, &regs) == DONE && regs.rax == 0;
	machine_free(&m, 1);
	CHECK(work || !getenv("LD_PRELOAD"));
	return work;
}

static void test_calls(void)
{
	struct { int64_t sec, nsec; uint64_t tsc; uint32_t flags, padding[9]; } pair;
	uint64_t before, after;
	struct timespec now;

	make_apics(1);
	CHECK(call(0, 0, 0, 0, 0, 0) == -KVM_ENOSYS);
	CHECK(call(0, 77, 0, 0, 0, 0) == -KVM_ENOSYS);
	CHECK(call(0, KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0) == 0);
	CHECK(call(0, KVM_HC_SCHED_YIELD, 0, 0, 0, 0) == 0);
	CHECK(call(0, KVM_HC_SCHED_YIELD, 4000000000u, 0, 0, 0) == 0);
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 4000000000u, 0, 0) == 0);
	/* The time of day, and the TSC at that moment. */
	CHECK(call(0, KVM_HC_CLOCK_PAIRING, PV_WORD, 1, 0, 0) == -KVM_EOPNOTSUPP);
	memset(m.memory + PV_WORD, 0xff, sizeof(pair));
	before = guest_tsc(0);
	CHECK(call(0, KVM_HC_CLOCK_PAIRING, PV_WORD, KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0) == 0);
	after = guest_tsc(0);
	memcpy(&pair, m.memory + PV_WORD, sizeof(pair));
	clock_gettime(CLOCK_REALTIME, &now);
	CHECK(now.tv_sec - pair.sec < 5 && now.tv_sec >= pair.sec && (uint64_t)pair.nsec < 1000000000u);
	CHECK(pair.tsc > before && pair.tsc < after);
	CHECK(pair.flags == 0);
	for (unsigned i = 0; i < 9; i++)
		CHECK(pair.padding[i] == 0);
	CHECK(call(0, KVM_HC_CLOCK_PAIRING, BYTES, KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0) == -EFAULT);
	machine_free(&m, 1);
}

static void test_exits(void)
{
	struct kvm_enable_cap cap_exit = { .cap = KVM_CAP_EXIT_HYPERCALL };
	struct kvm_regs regs = { .rax = KVM_HC_MAP_GPA_RANGE, .rbx = 0x10000, .rcx = 3, .rdx = 0x11, .rip = 0x1040,
		.rflags = 2 };
	struct kvm_run *run;

	make_apics(1);
	run = m.run[0];
	CHECK(cap(KVM_CAP_EXIT_HYPERCALL) == 1 << KVM_HC_MAP_GPA_RANGE);
	CHECK(call(0, KVM_HC_MAP_GPA_RANGE, 0x10000, 1, 0, 0) == -KVM_ENOSYS);
	cap_exit.args[0] = 1 << KVM_HC_SEND_IPI;
	CHECK(ioctl(m.vm, KVM_ENABLE_CAP, &cap_exit) == -1 && errno == EINVAL);
	cap_exit.args[0] = 1 << KVM_HC_MAP_GPA_RANGE;
	CHECK(ioctl(m.vm, KVM_ENABLE_CAP, &cap_exit) == 0);
	CHECK(call(0, KVM_HC_MAP_GPA_RANGE, 0x10001, 1, 0, 0) == -EINVAL);
	CHECK(call(0, KVM_HC_MAP_GPA_RANGE, 0x10000, 0, 0, 0) == -EINVAL);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(run->exit_reason == KVM_EXIT_HYPERCALL && run->hypercall.nr == KVM_HC_MAP_GPA_RANGE);
	CHECK(run->hypercall.args[0] == 0x10000 && run->hypercall.args[1] == 3 && run->hypercall.args[2] == 0x11);
	CHECK(run->hypercall.longmode == 0);
	run->hypercall.ret = 0xabcdef0123456789u;
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(run->exit_reason == KVM_EXIT_IO && run->io.port == DONE);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rax == 0x23456789u);
	machine_free(&m, 1);
}

static void test_enforced(void)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[2]; } cpuid = { .head.nent = 2 };
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = { 1 } };
	struct kvm_enable_cap no_exits = { .cap = KVM_CAP_X86_DISABLE_EXITS, .args = { KVM_X86_DISABLE_EXITS_HLT } };

	make_cpus(1);
	cpuid.entry[0] = (struct kvm_cpuid_entry2){ .function = KVM_CPUID_SIGNATURE,
		.eax = KVM_CPUID_FEATURES, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d };
	cpuid.entry[1] = (struct kvm_cpuid_entry2){ .function = KVM_CPUID_FEATURES,
		.eax = 1u << KVM_FEATURE_PV_UNHALT };
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	NEED(ioctl(m.vcpu[0], KVM_ENABLE_CAP, &enforce) == 0);
	CHECK(call(0, KVM_HC_SCHED_YIELD, 0, 0, 0, 0) == -KVM_ENOSYS);
	CHECK(call(0, KVM_HC_SEND_IPI, 1, 0, 0, VECTOR) == -KVM_ENOSYS);
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 0, 0, 0) == 0);
	CHECK(!guest_wrmsr(0, MSR_KVM_STEAL_TIME, 0) && !guest_wrmsr(0, MSR_KVM_PV_EOI_EN, 0));
	CHECK(!guest_wrmsr(0, MSR_KVM_POLL_CONTROL, 0));
	machine_free(&m, 1);
	/* A guest whose HLT is its own is not told that it can be woken by a hypercall. */
	make_cpus(1);
	if (ioctl(m.vm, KVM_ENABLE_CAP, &no_exits) == 0) {
		NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
		NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &cpuid) == 0);
		CHECK(cpuid.head.nent == 2 && cpuid.entry[1].eax == 0);
	}
	machine_free(&m, 1);
}

/* ---- other vCPUs ---------------------------------------------------------------------------------------------- */

struct halted {
	pthread_t thread;
	unsigned vcpu;
	uint64_t rflags;
	unsigned port;
};

static void *halt(void *argument)
{
	struct halted *h = argument;
	struct kvm_regs regs = { .rflags = h->rflags };

	h->port = guest_run(h->vcpu, HALT, &regs);
	return NULL;
}

static void halt_begin(struct halted *h, unsigned vcpu, uint64_t rflags)
{
	h->vcpu = vcpu;
	h->rflags = rflags;
	NEED(pthread_create(&h->thread, NULL, halt, h) == 0);
	usleep(20000);
}

static void test_send_ipi(void)
{
	struct halted h;

	make_apics(3);
	halt_begin(&h, 1, FLAGS);
	/* Bit 1 from ID 0 on, in the second word bit 0 from ID 32 on, which nobody has. */
	CHECK(call(0, KVM_HC_SEND_IPI, 2, 1, 0, VECTOR) == 1);
	pthread_join(h.thread, NULL);
	CHECK(h.port == DONE && word(0x7000) == 1);
	/* The second word begins 32 IDs later, in a guest that is not in long mode. */
	halt_begin(&h, 2, FLAGS);
	CHECK(call(0, KVM_HC_SEND_IPI, 0, 4, (uint32_t)-32, VECTOR) == 0); /* no wrap */
	CHECK(call(0, KVM_HC_SEND_IPI, 2, 0, 1, VECTOR) == 1);
	pthread_join(h.thread, NULL);
	CHECK(h.port == DONE && word(0x7000) == 2);
	CHECK(call(0, KVM_HC_SEND_IPI, 0, 0, 0, VECTOR) == 0);
	CHECK(call(0, KVM_HC_SEND_IPI, 1, 0, 1000000, VECTOR) == 0);
	CHECK(call(0, KVM_HC_SEND_IPI, 2, 0, 0, VECTOR | 1u << 11) == -EINVAL);
	CHECK(call(0, KVM_HC_SEND_IPI, 2, 0, 0, VECTOR | 1u << 18) == -EINVAL);
	machine_free(&m, 3);
}

/* A vCPU whose lock was released is woken though its interrupts are off. */
static void test_kick(void)
{
	struct kvm_mp_state state = { KVM_MP_STATE_HALTED };
	struct kvm_regs regs = { 0 };
	struct halted h;

	make_apics(2);
	halt_begin(&h, 1, 0);
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 1, 0, 0) == 0);
	pthread_join(h.thread, NULL);
	CHECK(h.port == DONE);
	/* A kick that comes too early ends the next HLT, and no other. */
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 1, 0, 0) == 0);
	CHECK(guest_run(1, HALT, &regs) == DONE);
	halt_begin(&h, 1, 0);
	usleep(20000);
	h.port = 0;
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 1, 0, 0) == 0);
	pthread_join(h.thread, NULL);
	CHECK(h.port == DONE);
	/* One that comes to a halted vCPU outside KVM_RUN is in its state. */
	NEED(ioctl(m.vcpu[1], KVM_SET_MP_STATE, &state) == 0);
	CHECK(call(0, KVM_HC_KICK_CPU, 0, 1, 0, 0) == 0);
	CHECK(ioctl(m.vcpu[1], KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_RUNNABLE);
	machine_free(&m, 2);
}

/* ---- stolen time ---------------------------------------------------------------------------------------------- */

static struct steal_page steal_get(void)
{
	struct steal_page page;

	memcpy(&page, m.memory + STEAL, sizeof(page));
	return page;
}

static uint64_t own_delay(void)
{
	unsigned long long ran, waited;
	FILE *file = fopen("/proc/thread-self/schedstat", "r");

	NEED(file && fscanf(file, "%llu %llu", &ran, &waited) == 2);
	fclose(file);
	return waited;
}

static atomic_bool stop;

static void *spin(void *unused)
{
	(void)unused;
	while (!stop)
		;
	return NULL;
}

static void test_steal(void)
{
	struct steal_page page;
	cpu_set_t old, one;
	pthread_t thief;
	uint64_t before, delay, stolen;

	/* Attempts of a client to forbid itself system calls that fail, as libseccomp makes them, change nothing. */
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == -1);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1);
	make_apics(1);
	memset(m.memory + STEAL, 0, 64);
	CHECK(guest_wrmsr(0, MSR_KVM_STEAL_TIME, STEAL | 1));
	guest_tsc(0);
	page = steal_get();
	CHECK(page.version >= 2 && page.version % 2 == 0 && page.flags == 0);
	/* Another thread on this one's processor takes half of it. */
	NEED(sched_getaffinity(0, sizeof(old), &old) == 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	NEED(sched_setaffinity(0, sizeof(one), &one) == 0);
	stop = false;
	before = own_delay();
	usleep(1000); /* so that the next entry looks */
	guest_tsc(0);
	stolen = steal_get().steal;
	delay = own_delay();
	NEED(pthread_create(&thief, NULL, spin, NULL) == 0);
	while (own_delay() - delay < 20000000)
		;
	stop = true;
	pthread_join(thief, NULL);
	guest_tsc(0);
	page = steal_get();
	CHECK(page.version % 2 == 0 && page.version > 2);
	stolen = page.steal - stolen;
	CHECK(stolen >= 20000000 && stolen <= own_delay() - before);
	NEED(sched_setaffinity(0, sizeof(old), &old) == 0);
	/* Off. */
	CHECK(guest_wrmsr(0, MSR_KVM_STEAL_TIME, STEAL));
	page = steal_get();
	usleep(1000);
	guest_tsc(0);
	CHECK(memcmp(&page, m.memory + STEAL, sizeof(page)) == 0);
	machine_free(&m, 1);
}

static void test_preempted(void)
{
	struct halted h;
	uint8_t *preempted;

	make_apics(2);
	preempted = m.memory + STEAL + offsetof(struct steal_page, preempted);
	CHECK(guest_wrmsr(1, MSR_KVM_STEAL_TIME, STEAL | 1));
	CHECK(*preempted == 0);
	halt_begin(&h, 1, FLAGS);
	CHECK(__atomic_load_n(preempted, __ATOMIC_SEQ_CST) == KVM_VCPU_PREEMPTED);
	CHECK(guest_wrmsr(0, MSR_ICR, 1ull << 32 | VECTOR));
	pthread_join(h.thread, NULL);
	CHECK(*preempted == 0 || *preempted == KVM_VCPU_PREEMPTED); /* a KVM may set it again at the exit */
	guest_tsc(1);
	machine_free(&m, 2);
}

/* ---- flushes -------------------------------------------------------------------------------------------------- */

/*
 * vCPU 1, in protected mode with paging: read a word twice through one page, whose entry changes while the vCPU is
 * halted between. EBX and ECX: what was read.
 */
extern const uint8_t reader[], reader_end[];
__asm__(".pushsection .rodata\n.code32\n"
        "reader: mov 0x30000, %ebx\n sti\n hlt\n cli\n mov 0x30000, %ecx\n out %al, $1\n"
        "reader_end:\n"
        ".code64\n.popsection\n");
#define READER 0x9000u
#define IDT    0xa000u
#define GATE   0xb000u
#define PD     0xc000u
#define PT     0xd000u

static void *read_twice(void *regs)
{
	NEED(ioctl(m.vcpu[1], KVM_RUN, 0) == 0);
	NEED(ioctl(m.vcpu[1], KVM_GET_REGS, regs) == 0);
	return NULL;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static void paging_start(void)
{
	/* eoi: xor eax, eax; xor edx, edx; mov ecx, 0x80b; wrmsr; iret */
	static const uint8_t gate_code[] = "\x31\xc0\x31\xd2\xb9\x0b\x08\0\0\x0f\x30\xcf";
	const uint16_t gate[4] = { GATE, 8, 0x8e00, 0 };
	struct kvm_regs regs = { .rip = READER, .rflags = 2, .rsp = 0x8000 };
	struct kvm_sregs sregs;
	uint32_t *directory = (void *)(m.memory + PD), *table = (void *)(m.memory + PT);

	/* The GDT, in which HLT's interrupt finds its code segment, is at 0x500. */
	memcpy(m.memory + 0x508, "\xff\xff\0\0\0\x9b\xcf\0", 8);
	memcpy(m.memory + READER, reader, (size_t)(reader_end - reader));
	memcpy(m.memory + GATE, gate_code, sizeof(gate_code) - 1);
	memcpy(m.memory + IDT + VECTOR * 8, gate, sizeof(gate));
	directory[0] = PT | 3;
	for (unsigned i = 0; i < 0x40; i++)
		table[i] = i * (unsigned)PAGE | 3;
	table[0x30] = 0x20000 | 3;
	memcpy(m.memory + 0x20000, "old", 4);
	memcpy(m.memory + 0x21000, "new", 4);
	NEED(ioctl(m.vcpu[1], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs = flat(8, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(16, 3);
	sregs.gdt.base = 0x500;
	sregs.gdt.limit = 23;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0x7ff;
	sregs.cr3 = PD;
	sregs.cr0 = 0x80000031;
	NEED(ioctl(m.vcpu[1], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[1], KVM_SET_REGS, &regs) == 0);
}

/* vCPU 0 changes a page table, and leaves vCPU 1, which is halted, the note that it must flush its TLB. */
static void test_flush(void)
{
	struct kvm_regs store = { .rax = 0x21000 | 3, .rbx = PT + 0x30 * 4 }, regs = { 0 };
	uint8_t *preempted;
	pthread_t thread;

	make_apics(2);
	preempted = m.memory + STEAL + offsetof(struct steal_page, preempted);
	CHECK(guest_wrmsr(1, MSR_KVM_STEAL_TIME, STEAL | 1));
	paging_start();
	NEED(pthread_create(&thread, NULL, read_twice, &regs) == 0);
	for (unsigned i = 0; i < 1000 && __atomic_load_n(preempted, __ATOMIC_SEQ_CST) != KVM_VCPU_PREEMPTED; i++)
		usleep(1000);
	CHECK(*preempted == KVM_VCPU_PREEMPTED);
	CHECK(guest_run(0, STORE, &store) == DONE);
	__atomic_fetch_or(preempted, KVM_VCPU_FLUSH_TLB, __ATOMIC_SEQ_CST);
	CHECK(guest_wrmsr(0, MSR_ICR, 1ull << 32 | VECTOR));
	pthread_join(thread, NULL);
	CHECK(m.run[1]->exit_reason == KVM_EXIT_IO && m.run[1]->io.port == DONE);
	CHECK((uint32_t)regs.rbx == 0x646c6f); /* old */
	CHECK((uint32_t)regs.rcx == 0x77656e); /* new */
	machine_free(&m, 2);
}

/* ---- ends of interrupts --------------------------------------------------------------------------------------- */

/* Wait with interrupts on until `number` interrupts have come. Returns: the port at which the guest stopped. */
static unsigned count_to(unsigned number)
{
	struct kvm_regs regs = { .rip = COUNT, .rflags = 2, .rsp = 0x8000, .rax = number };

	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	NEED(m.run[0]->exit_reason == KVM_EXIT_IO);
	return m.run[0]->io.port;
}

static bool in_service(void)
{
	struct kvm_lapic_state lapic;

	NEED(ioctl(m.vcpu[0], KVM_GET_LAPIC, &lapic) == 0);
	for (unsigned i = 0; i < 0x80; i++)
		if (lapic.regs[0x100 + i])
			return true;
	return false;
}

static void send_self(unsigned vector)
{
	CHECK(guest_wrmsr(0, MSR_SELF_IPI, vector));
}

static void check_ends(unsigned all, unsigned without_exit)
{
	CHECK(word(0x7000) == all);
	CHECK(word(0x7002) == without_exit && word(0x7004) == all - without_exit);
	CHECK(!in_service());
	CHECK((word(0x7010) & 1) == 0);
	memset(m.memory + 0x7000, 0, 6);
}

static void test_eoi(void)
{
	make_apics(1);
	/* Without it, nothing is offered. */
	send_self(VECTOR);
	CHECK(count_to(1) == DONE);
	check_ends(1, 0);
	CHECK(guest_wrmsr(0, MSR_KVM_PV_EOI_EN, 0x7010 | 1));
	for (unsigned i = 0; i < 3; i++) {
		send_self(VECTOR);
		CHECK(count_to(1) == DONE);
		check_ends(1, 1);
	}
	/* When another waits, the end of the first must be seen. */
	send_self(VECTOR);
	send_self(OTHER);
	CHECK(count_to(2) == DONE);
	check_ends(2, 1);
	/* Another comes while the handler runs, with interrupts off: it comes when the handler has ended. */
	m.memory[0x7020] = OTHER;
	send_self(VECTOR);
	CHECK(count_to(2) == DONE);
	CHECK(word(0x7000) == 2 && !in_service());
	memset(m.memory + 0x7000, 0, 6);
	m.memory[0x7020] = VECTOR;
	send_self(VECTOR);
	CHECK(count_to(2) == DONE);
	CHECK(word(0x7000) == 2 && !in_service());
	memset(m.memory + 0x7000, 0, 6);
	/* At an exit to the client the offer is withdrawn: the client may save the machine. */
	m.memory[0x7020] = 1;
	send_self(VECTOR);
	CHECK(count_to(1) == 2);
	CHECK(in_service() && (word(0x7010) & 1) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(m.run[0]->exit_reason == KVM_EXIT_IO && m.run[0]->io.port == DONE);
	CHECK(word(0x7000) == 1 && !in_service());
	memset(m.memory + 0x7000, 0, 6);
	/* Off again. */
	CHECK(guest_wrmsr(0, MSR_KVM_PV_EOI_EN, 0));
	send_self(VECTOR);
	CHECK(count_to(1) == DONE);
	check_ends(1, 0);
	machine_free(&m, 1);
}

/* A level-triggered interrupt is always ended at the local APIC, since the I/O APIC waits for that. */
static void test_eoi_level(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_irq_level line = { .irq = 20, .level = 1 };

	make_apics(1);
	CHECK(guest_wrmsr(0, MSR_KVM_PV_EOI_EN, 0x7010 | 1));
	NEED(ioctl(m.vm, KVM_GET_IRQCHIP, &chip) == 0);
	chip.chip.ioapic.redirtbl[20].bits = VECTOR | 1u << 15;
	NEED(ioctl(m.vm, KVM_SET_IRQCHIP, &chip) == 0);
	/* The local APIC has it at once, and keeps it. */
	CHECK(ioctl(m.vm, KVM_IRQ_LINE, &line) == 0);
	line.level = 0;
	CHECK(ioctl(m.vm, KVM_IRQ_LINE, &line) == 0);
	CHECK(count_to(1) == DONE);
	check_ends(1, 0);
	NEED(ioctl(m.vm, KVM_GET_IRQCHIP, &chip) == 0);
	CHECK(!(chip.chip.ioapic.redirtbl[20].bits & 1u << 14)); /* remote IRR */
	machine_free(&m, 1);
}

/* The deadline of the local APIC's timer is one of the guest's own TSC, whatever its rate. */
static void test_deadline(void)
{
	struct timespec begin, end;
	unsigned khz;
	int64_t ns;

	make_apics(1);
	if (cap(KVM_CAP_TSC_CONTROL) == 1) {
		khz = (unsigned)ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0);
		for (unsigned divisor = 4; divisor; divisor /= 2) {
			struct kvm_regs regs = { .rflags = FLAGS };

			NEED(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, khz / divisor) == 0);
			NEED(guest_wrmsr(0, MSR_LVT_TIMER, VECTOR | 2u << 17));
			clock_gettime(CLOCK_MONOTONIC, &begin);
			NEED(guest_wrmsr(0, MSR_TSC_DEADLINE, guest_tsc(0) + (uint64_t)khz / divisor * 50));
			CHECK(guest_run(0, HALT, &regs) == DONE);
			clock_gettime(CLOCK_MONOTONIC, &end);
			ns = (int64_t)(end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
			CHECK(ns > 49000000 && ns < 5000000000);
		}
	}
	machine_free(&m, 1);
}

int main(void)
{
	test_msrs();
	if (calls_work()) {
		test_calls();
		test_exits();
		test_enforced();
		test_send_ipi();
		test_kick();
		test_deadline();
	}
	test_steal();
	/* A KVM need tell of no vCPU that it is preempted, and need offer nothing. Ours does. */
	if (getenv("LD_PRELOAD")) {
		test_preempted();
		test_flush();
		test_eoi();
		test_eoi_level();
	}
	return check_end();
}
