/* SPDX-License-Identifier: MIT */
/* Attributes of /dev/kvm, and capabilities that change what a VM does: which values they take, and what follows. */
#include "check.h"
#include <signal.h>
#include <time.h>

/* An ioctl must fail with this errno. */
#define FAILS(error, fd, request, argument)                                                                        \
	do {                                                                                                       \
		errno = 0;                                                                                         \
		CHECK(ioctl(fd, request, argument) == -1 && errno == (error));                                     \
	} while (0)

#define BAD ((void *)8)

/* Returns: 0 or errno. */
static int enable(int vm, unsigned number, uint64_t value)
{
	struct kvm_enable_cap cap = { .cap = number, .args = { value } };

	return ioctl(vm, KVM_ENABLE_CAP, &cap) == 0 ? 0 : errno;
}

static int new_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);

	NEED(vm >= 0);
	close(kvm);
	return vm;
}

/* ---- the system's attributes ------------------------------------------------------------------------------- */

/* The state components that KVM supports contain those that KVM_GET_SUPPORTED_CPUID shows. */
static void test_system_attributes(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	uint64_t value = 0;
	struct kvm_device_attr attr = { .attr = 0 /* KVM_X86_XCOMP_GUEST_SUPP */, .addr = (uintptr_t)&value };
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid = { .head.nent = 256 };

	NEED(kvm >= 0 && ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, 209 /* KVM_CAP_SYS_ATTRIBUTES */) == 1);
	CHECK(ioctl(kvm, KVM_HAS_DEVICE_ATTR, &attr) == 0);
	CHECK(ioctl(kvm, KVM_GET_DEVICE_ATTR, &attr) == 0 && (value & 3) == 3);
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 0xd && cpuid.entry[i].index == 0)
			CHECK((cpuid.entry[i].eax & ~value) == 0);
	FAILS(EINVAL, kvm, KVM_SET_DEVICE_ATTR, &attr);
	attr.addr = 8;
	CHECK(ioctl(kvm, KVM_HAS_DEVICE_ATTR, &attr) == 0); /* its address is not looked at */
	FAILS(EFAULT, kvm, KVM_GET_DEVICE_ATTR, &attr);
	FAILS(EFAULT, kvm, KVM_GET_DEVICE_ATTR, BAD);
	FAILS(EFAULT, kvm, KVM_HAS_DEVICE_ATTR, BAD);
	attr.addr = (uintptr_t)&value;
	attr.attr = 77;
	FAILS(ENXIO, kvm, KVM_HAS_DEVICE_ATTR, &attr);
	FAILS(ENXIO, kvm, KVM_GET_DEVICE_ATTR, &attr);
	attr.attr = 0;
	attr.group = 77;
	FAILS(ENXIO, kvm, KVM_HAS_DEVICE_ATTR, &attr);
	close(kvm);
}

/* ---- the bus of the local APICs ---------------------------------------------------------------------------- */

#define CAP_APIC_BUS 237u /* KVM_CAP_X86_APIC_BUS_CYCLES_NS */
#define APIC_BASE    0xfee00000u

static void test_apic_bus_values(void)
{
	const uint64_t most = UINT64_MAX / (UINT32_MAX * UINT64_C(128));
	int vm = new_vm(), vcpu;

	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, CAP_APIC_BUS) == 1);
	CHECK(enable(vm, CAP_APIC_BUS, 0) == EINVAL);
	CHECK(enable(vm, CAP_APIC_BUS, most + 1) == EINVAL);
	CHECK(enable(vm, CAP_APIC_BUS, 2) == ENXIO);
	NEED(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0);
	CHECK(enable(vm, CAP_APIC_BUS, 2) == 0);
	CHECK(enable(vm, CAP_APIC_BUS, most) == 0);
	CHECK(enable(vm, CAP_APIC_BUS, most + 1) == EINVAL);
	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, CAP_APIC_BUS) == 1); /* the default, not what was chosen */
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	CHECK(vcpu >= 0);
	CHECK(enable(vm, CAP_APIC_BUS, 2) == EINVAL);
	close(vcpu);
	close(vm);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A VM with local APICs, in which `number` was enabled with `value` before there was a vCPU; 0: nothing was. */
static void flat_make(struct machine *m, const void *code, size_t bytes, unsigned number, uint64_t value)
{
	const struct kvm_segment flat = { .limit = UINT32_MAX, .type = 0xb, .present = 1, .db = 1, .s = 1, .g = 1,
		.selector = 8 };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2, .rax = APIC_BASE };
	struct kvm_sregs sregs;
	int size;

	memset(m, 0, sizeof(*m));
	m->kvm = open("/dev/kvm", O_RDWR);
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	m->bytes = 4 * PAGE;
	m->memory = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(m->vm >= 0 && size > 0 && m->memory != MAP_FAILED);
	NEED(machine_slot(m->vm, 0, 0, 0, m->bytes, m->memory) == 0);
	memcpy(m->memory + 0x1000, code, bytes);
	NEED(ioctl(m->vm, KVM_CREATE_IRQCHIP, 0) == 0);
	if (number)
		CHECK(enable(m->vm, number, value) == 0);
	m->vcpu[0] = ioctl(m->vm, KVM_CREATE_VCPU, 0ul);
	m->run[0] = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu[0], 0);
	NEED(m->vcpu[0] >= 0 && m->run[0] != MAP_FAILED && ioctl(m->vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr0 |= 1;
	sregs.cs = sregs.ds = sregs.es = sregs.ss = flat;
	sregs.ds.type = sregs.es.type = sregs.ss.type = 3;
	NEED(ioctl(m->vcpu[0], KVM_SET_SREGS, &sregs) == 0 && ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
}

/* A guest reads the timer's count twice and tells it: the count falls by one in 2 times `ns`. */
static void test_apic_bus_rate(uint64_t ns)
{
	/*
	 * mov dword [eax + 0xf0], 0x1ff; mov dword [eax + 0x3e0], 0; mov dword [eax + 0x380], 0xffffffff
	 * again: mov ebx, [eax + 0x390]; out 0x11, al; jmp again
	 */
	static const uint8_t code[] = {
		0xc7, 0x80, 0xf0, 0, 0, 0, 0xff, 1, 0, 0, 0xc7, 0x80, 0xe0, 3, 0, 0, 0, 0, 0, 0,
		0xc7, 0x80, 0x80, 3, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x8b, 0x98, 0x90, 3, 0, 0, 0xe6, 0x11, 0xeb, 0xf6,
	};
	uint64_t earliest[2], latest[2], count[2], fell;
	struct kvm_regs regs;
	struct machine m;

	flat_make(&m, code, sizeof(code), ns == 1 ? 0 : CAP_APIC_BUS, ns);
	for (int i = 0; i < 2; i++) {
		earliest[i] = now_ns();
		NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
		latest[i] = now_ns();
		NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
		count[i] = regs.rbx;
		usleep(20000);
	}
	fell = (count[0] - count[1]) * 2 * ns;
	CHECK(count[0] > count[1]);
	CHECK(fell + 2 * ns >= earliest[1] - latest[0] && fell <= latest[1] - earliest[0] + 2 * ns);
	machine_free(&m, 1);
}

/* ---- quirks ------------------------------------------------------------------------------------------------ */

#define OUR_QUIRKS 0xff

static void test_quirk_values(void)
{
	int vm = new_vm(), known = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	CHECK((known & OUR_QUIRKS) == OUR_QUIRKS);
	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS) == 1);
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS2, OUR_QUIRKS) == 0);
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS2, (uint64_t)known) == 0);
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS2, (uint64_t)known | 1u << 30) == EINVAL);
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS2, UINT64_C(1) << 40) == EINVAL);
	/* The older capability has never looked at its argument. */
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS, UINT64_C(1) << 40) == 0);
	CHECK(enable(vm, KVM_CAP_DISABLE_QUIRKS, OUR_QUIRKS) == 0);
	close(vm);
}

/*
 * Run the code in real mode until it exits by OUT; #UD leads to out 0x13, al. Returns: the port, with RIP and RAX of
 * then; -1: KVM cannot emulate an instruction, or never ends it.
 */
static int run_real(struct machine *m, uint64_t *rip, uint64_t *rax)
{
	static const uint8_t undefined[] = { 0xe6, 0x13, 0xf4 };
	struct kvm_regs regs;

	memcpy(m->memory + 0x1800, undefined, sizeof(undefined));
	*(uint16_t *)(m->memory + 6 * 4) = 0x1800;
	*(uint16_t *)(m->memory + 6 * 4 + 2) = 0;
	alarm(10);
	if (ioctl(m->vcpu[0], KVM_RUN, 0) != 0 || m->run[0]->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return -1;
	alarm(0);
	NEED(m->run[0]->exit_reason == KVM_EXIT_IO && ioctl(m->vcpu[0], KVM_GET_REGS, &regs) == 0);
	*rip = regs.rip;
	*rax = regs.rax;
	return m->run[0]->io.port;
}

/* RIP is behind OUT to port 0x7e when it exits. With the quirk off it is where OUT to any other port leaves it. */
static void test_quirk_out_7e(void)
{
	/* out 0x11, al; out 0x7e, al; out 0x7e, al; out 0x12, al */
	static const uint8_t code[] = { 0xe6, 0x11, 0xe6, 0x7e, 0xe6, 0x7e, 0xe6, 0x12 };
	uint64_t rip[4], rax;
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, code, sizeof(code));
	CHECK(run_real(&m, &rip[0], &rax) == 0x11);
	CHECK(run_real(&m, &rip[1], &rax) == 0x7e && rip[1] == 0x1004);
	CHECK(enable(m.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP) == 0);
	CHECK(run_real(&m, &rip[2], &rax) == 0x7e && rip[2] - 0x1004 == rip[0] - 0x1000);
	CHECK(run_real(&m, &rip[3], &rax) == 0x12);
	machine_free(&m, 1);
}

/* A KVM in a virtual machine that lacks what hardware does for KVM. It is another one if it knows other quirks. */
static bool may_be_unable(const struct machine *m)
{
	return ioctl(m->vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2) != OUR_QUIRKS;
}

/* MONITOR and MWAIT do nothing, whatever CPUID says. With the quirk off, they are #UD unless CPUID has them. */
static void test_quirk_monitor(void)
{
	/* mov eax, 0x2000; xor ecx, ecx; xor edx, edx; monitor; xor eax, eax; mwait; out 0x11, al */
	static const uint8_t code[] = { 0x66, 0xb8, 0, 0x20, 0, 0, 0x66, 0x31, 0xc9, 0x66, 0x31, 0xd2, 0x0f, 0x01, 0xc8,
		0x66, 0x31, 0xc0, 0x0f, 0x01, 0xc9, 0xe6, 0x11 };
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[1];
	} cpuid = { .head.nent = 1, .entry = { { .function = 1 } } };

	for (int with = 0; with < 2; with++) {
		for (int off = 0; off < 2; off++) {
			uint64_t rip, rax;
			struct machine m;
			int port;

			machine_make(&m, 1, 16 * PAGE);
			memcpy(m.memory + 0x1000, code, sizeof(code));
			cpuid.entry[0].ecx = with ? 1u << 3 : 0;
			CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
			if (off)
				CHECK(enable(m.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) == 0);
			port = run_real(&m, &rip, &rax);
			CHECK(port == (off && !with ? 0x13 : 0x11) || (port == -1 && may_be_unable(&m)));
			machine_free(&m, 1);
		}
	}
}

static int set_misc_enable(int vcpu, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[1];
	} msrs = { .head.nmsrs = 1, .entry = { { .index = 0x1a0, .data = value } } };

	return ioctl(vcpu, KVM_SET_MSRS, &msrs);
}

static bool cpuid_get(struct machine *m, struct kvm_cpuid2 *cpuid)
{
	cpuid->nent = 256;
	return ioctl(m->vcpu[0], KVM_GET_CPUID2, cpuid) == 0;
}

/* CPUID has MONITOR as the client says. With the quirk off, it has it as MISC_ENABLE says, which wants SSE3. */
static void test_quirk_misc_enable(void)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid = { .head.nent = 1, .entry = { { .function = 1, .ecx = 1 } } };
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	CHECK(set_misc_enable(m.vcpu[0], 1u << 18) == 1);
	CHECK(cpuid_get(&m, &cpuid.head) && !(cpuid.entry[0].ecx & 1u << 3));
	if (cpuid.head.nent != 1 && may_be_unable(&m)) { /* it shows more than what the client has set */
		machine_free(&m, 1);
		return;
	}
	CHECK(enable(m.vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT) == 0);
	CHECK(set_misc_enable(m.vcpu[0], 0) == 1 && set_misc_enable(m.vcpu[0], 1u << 18) == 1);
	CHECK(cpuid_get(&m, &cpuid.head) && cpuid.entry[0].ecx & 1u << 3);
	CHECK(set_misc_enable(m.vcpu[0], 0) == 1);
	CHECK(cpuid_get(&m, &cpuid.head) && !(cpuid.entry[0].ecx & 1u << 3));
	cpuid.head.nent = 1;
	cpuid.entry[0].ecx = 0;
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	CHECK(set_misc_enable(m.vcpu[0], 1u << 18) == 0 && set_misc_enable(m.vcpu[0], 1) == 1);
	machine_free(&m, 1);
}

/*
 * The hypercall instruction of the other vendor is rewritten in the guest's memory. With the quirk off it is #UD. The
 * processor decides which one that is.
 */
static void test_quirk_hypercall(void)
{
	static const uint8_t call[2][3] = { { 0x0f, 0x01, 0xc1 }, { 0x0f, 0x01, 0xd9 } };
	/* mov ax, 0x7777; vmcall or vmmcall; out 0x11, al */
	uint8_t code[] = { 0xb8, 0x77, 0x77, 0, 0, 0, 0xe6, 0x11 };
	unsigned rewritten = 0, undefined = 0;

	for (int which = 0; which < 2; which++) {
		for (int off = 0; off < 2; off++) {
			uint64_t rip, rax;
			struct machine m;
			int port;

			machine_make(&m, 1, 16 * PAGE);
			memcpy(code + 3, call[which], 3);
			memcpy(m.memory + 0x1000, code, sizeof(code));
			CHECK(enable(m.vm, KVM_CAP_DISABLE_QUIRKS2, off ? KVM_X86_QUIRK_FIX_HYPERCALL_INSN : 0) == 0);
			port = run_real(&m, &rip, &rax);
			if (port == -1 && may_be_unable(&m)) {
				machine_free(&m, 1);
				return;
			}
			if (memcmp(m.memory + 0x1003, call[which], 3) != 0) {
				CHECK(!off && memcmp(m.memory + 0x1003, call[!which], 3) == 0);
				rewritten |= 1u << which;
			}
			if (port == 0x13)
				undefined |= 1u << which;
			else
				CHECK(port == 0x11 && (uint32_t)rax == (uint32_t)-1000);
			CHECK(port != 0x13 || off);
			machine_free(&m, 1);
		}
	}
	CHECK(rewritten == undefined && (rewritten == 1 || rewritten == 2));
}

/* Where a disabled APIC would be, reads find all ones. With the quirk off, they are the client's. */
static void test_quirk_apic_hole(void)
{
	/* mov ebx, [eax + 0x30]; out 0x11, al */
	static const uint8_t code[] = { 0x8b, 0x58, 0x30, 0xe6, 0x11 };

	for (int off = 0; off < 2; off++) {
		struct kvm_sregs sregs;
		struct kvm_regs regs;
		struct machine m;

		flat_make(&m, code, sizeof(code), KVM_CAP_DISABLE_QUIRKS2, off ? KVM_X86_QUIRK_LAPIC_MMIO_HOLE : 0);
		NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
		sregs.apic_base &= ~(1ull << 11);
		NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
		if (off) {
			CHECK(m.run[0]->exit_reason == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == APIC_BASE + 0x30);
			memcpy(m.run[0]->mmio.data, "\x78\x56\x34\x12", 4);
			CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
		}
		NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
		CHECK(m.run[0]->exit_reason == KVM_EXIT_IO && regs.rbx == (off ? 0x12345678 : 0xffffffff));
		machine_free(&m, 1);
	}
}

/* LINT0 of the boot processor lets the PIC through after reset. With the quirk off, it is masked. */
static void test_quirk_lint0(void)
{
	for (int off = 0; off < 2; off++) {
		struct kvm_lapic_state lapic;
		struct machine m;
		uint32_t lint0;

		flat_make(&m, "", 1, KVM_CAP_DISABLE_QUIRKS2, off ? KVM_X86_QUIRK_LINT0_REENABLED : 0);
		NEED(ioctl(m.vcpu[0], KVM_GET_LAPIC, &lapic) == 0);
		memcpy(&lint0, lapic.regs + 0x350, 4);
		CHECK(lint0 == (off ? 0x10000 : 0x700));
		machine_free(&m, 1);
	}
}

/* A slot that goes takes all mappings with it. With the quirk off it takes its own alone, at least with TDP. */
static void test_quirk_slot_zap(void)
{
	static const uint8_t code[] = { 0xe6, 0x11, 0xeb, 0xfc }; /* out 0x11, al; jmp */
	uint64_t rip, rax, before, after;

	for (int off = 0; off < 2; off++) {
		struct machine m;

		machine_make(&m, 1, 16 * PAGE);
		memcpy(m.memory + 0x1000, code, sizeof(code));
		CHECK(machine_slot(m.vm, 1, 0, 0x100000, PAGE, m.memory + PAGE * 8) == 0);
		if (off && !(ioctl(m.vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2) & 1 << 7)) {
			machine_free(&m, 1);
			return;
		}
		CHECK(enable(m.vm, KVM_CAP_DISABLE_QUIRKS2, off ? 1u << 7 : 0) == 0);
		CHECK(run_real(&m, &rip, &rax) == 0x11);
		before = vm_statistic(m.vm, "pages_4k");
		CHECK(machine_slot(m.vm, 1, 0, 0, 0, NULL) == 0);
		after = vm_statistic(m.vm, "pages_4k");
		CHECK(before > 0 || may_be_unable(&m)); /* to count */
		CHECK(after == 0 || (off && after == before));
		if (off && ioctl(m.vm, KVM_CHECK_EXTENSION, 236 /* KVM_CAP_PRE_FAULT_MEMORY: with TDP alone */) > 0)
			CHECK(after == before);
		CHECK(run_real(&m, &rip, &rax) == 0x11);
		machine_free(&m, 1);
	}
}

static void on_alarm(int number)
{
	(void)number;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &action, NULL);
	test_system_attributes();
	test_apic_bus_values();
	test_apic_bus_rate(1);
	test_apic_bus_rate(7);
	test_apic_bus_rate(1000);
	test_quirk_values();
	test_quirk_out_7e();
	test_quirk_monitor();
	test_quirk_misc_enable();
	test_quirk_hypercall();
	test_quirk_apic_hole();
	test_quirk_lint0();
	test_quirk_slot_zap();
	return check_end();
}
