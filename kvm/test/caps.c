/* SPDX-License-Identifier: MIT */
/* Attributes of /dev/kvm, and capabilities that change what a VM does: which values they take, and what follows. */
#include "check.h"
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

/*
 * A guest in 32-bit mode without paging reads the timer's count twice and tells it, while the client waits in between:
 * the count falls by one in each `ns` times 2.
 */
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
	const struct kvm_segment flat = { .limit = UINT32_MAX, .type = 0xb, .present = 1, .db = 1, .s = 1, .g = 1,
		.selector = 8 };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2, .rax = APIC_BASE };
	struct kvm_sregs sregs;
	struct machine m = { 0 };
	uint64_t earliest[2], latest[2], count[2], fell;
	int size;

	m.kvm = open("/dev/kvm", O_RDWR);
	m.vm = ioctl(m.kvm, KVM_CREATE_VM, 0);
	size = ioctl(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	m.bytes = 4 * PAGE;
	m.memory = mmap(NULL, m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(m.vm >= 0 && size > 0 && m.memory != MAP_FAILED && machine_slot(m.vm, 0, 0, 0, m.bytes, m.memory) == 0);
	memcpy(m.memory + 0x1000, code, sizeof(code));
	NEED(ioctl(m.vm, KVM_CREATE_IRQCHIP, 0) == 0);
	if (ns != 1)
		CHECK(enable(m.vm, CAP_APIC_BUS, ns) == 0);
	m.vcpu[0] = ioctl(m.vm, KVM_CREATE_VCPU, 0ul);
	m.run[0] = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], 0);
	NEED(m.vcpu[0] >= 0 && m.run[0] != MAP_FAILED && ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr0 |= 1;
	sregs.cs = sregs.ds = sregs.es = sregs.ss = flat;
	sregs.ds.type = sregs.es.type = sregs.ss.type = 3;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0 && ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
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

int main(void)
{
	test_system_attributes();
	test_apic_bus_values();
	test_apic_bus_rate(1);
	test_apic_bus_rate(7);
	test_apic_bus_rate(1000);
	return check_end();
}
