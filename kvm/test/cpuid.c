/* SPDX-License-Identifier: MIT */
/*
 * What a client says in CPUID holds: for the leaves that KVM_GET_CPUID2 returns, for the width of addresses, and for
 * the MSRs and instructions that the guest has.
 */
#include "check.h"

#define MSR_SPEC_CTRL   0x48u
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_PERF_CAP    0x345u
#define MSR_TSC_AUX     0xc0000103u
#define MSR_HWCR        0xc0010015u

#define CR4_PAE     (1u << 5)
#define CR4_OSXSAVE (1u << 18)
#define CR4_PKE     (1u << 22)

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[100];
};

static void supported(int kvm, struct cpuid *cpuid)
{
	cpuid->head.nent = 100;
	NEED(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0);
}

static struct kvm_cpuid_entry2 *leaf(struct cpuid *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->head.nent; i++)
		if (cpuid->entry[i].function == function && cpuid->entry[i].index == 0)
			return &cpuid->entry[i];
	fprintf(stderr, "CPUID has no leaf %#x\n", function);
	exit(1);
}

static void set(struct machine *m, struct cpuid *cpuid)
{
	NEED(ioctl(m->vcpu[0], KVM_SET_CPUID2, cpuid) == 0);
}

static void test_leaves(void)
{
	struct machine m;
	struct cpuid cpuid, back = { .head.nent = 100 };
	struct kvm_sregs sregs;

	machine_make(&m, 1, 16 * PAGE);
	supported(m.kvm, &cpuid);
	/* No TSC-deadline timer: a client that emulates the APIC itself may have none. */
	CHECK(!(leaf(&cpuid, 1)->ecx & 1u << 24));

	/* OSXSAVE and OSPKE are as CR4 has them, whatever the client sets. */
	leaf(&cpuid, 1)->ecx |= 1u << 27;
	leaf(&cpuid, 7)->ecx |= 1u << 4;
	set(&m, &cpuid);
	NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &back) == 0 && back.head.nent == cpuid.head.nent);
	CHECK(!(leaf(&back, 1)->ecx & 1u << 27) && !(leaf(&back, 7)->ecx & 1u << 4));
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cr4 |= CR4_OSXSAVE | CR4_PKE;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &back) == 0);
	CHECK(leaf(&back, 1)->ecx & 1u << 27 && leaf(&back, 7)->ecx & 1u << 4);

	/* After the first KVM_RUN the CPUID leaves are fixed, except for the bits that follow CR4. */
	memcpy(m.memory + 0x1000, "\xe6\x10", 2);
	CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	leaf(&cpuid, 1)->ecx ^= 1u;
	CHECK(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

/* MAXPHYADDR is a byte, and a client may set it to anything. */
static void test_address_width(void)
{
	static const struct {
		unsigned bits;
		bool apic_base_fits;
	} cases[] = {
		{ 0, false }, { 31, false }, { 32, true }, { 36, true }, { 52, true }, { 63, true }, { 64, true },
		{ 65, true }, { 255, true }
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct machine m;
		struct cpuid cpuid;
		struct kvm_sregs sregs;
		int result;

		machine_make(&m, 1, 16 * PAGE);
		supported(m.kvm, &cpuid);
		leaf(&cpuid, 0x80000008)->eax = (leaf(&cpuid, 0x80000008)->eax & ~0xffu) | cases[i].bits;
		set(&m, &cpuid);
		NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
		result = ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs);
		CHECK(cases[i].apic_base_fits ? result == 0 : result == -1 && errno == EINVAL);
		memcpy(m.memory + 0x1000, "\xe6\x10", 2);
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
		machine_free(&m, 1);
	}
}

/* Run `code` at 0x1000 in real mode with ECX, EAX, EDX. Returns: the vector of the exception that it raised, or -1. */
static int outcome(struct machine *m, const void *code, size_t size, uint32_t ecx, uint64_t value)
{
	static const unsigned vectors[] = { 6, 13 };
	struct kvm_regs regs = {
		.rip = 0x1000, .rflags = 2, .rsp = 0x8000,
		.rcx = ecx, .rax = (uint32_t)value, .rdx = value >> 32, .rbx = 0x3000
	};
	uint8_t *end = m->memory + 0x1000;

	memcpy(end, code, size);
	memcpy(end + size, "\xe6\xff", 2); /* out 0xff, al */
	for (unsigned i = 0; i < 2; i++) {
		const uint16_t entry[2] = { (uint16_t)(0x2000 + 16 * i), 0 };
		const uint8_t out[2] = { 0xe6, (uint8_t)vectors[i] };

		memcpy(m->memory + vectors[i] * 4, entry, 4);
		memcpy(m->memory + entry[0], out, 2);
	}
	NEED(ioctl(m->vcpu[0], KVM_SET_REGS, &regs) == 0);
	if (ioctl(m->vcpu[0], KVM_RUN, 0) != 0 || m->run[0]->exit_reason != KVM_EXIT_IO) {
		fprintf(stderr, "exit %u\n", m->run[0]->exit_reason);
		return -2;
	}
	return m->run[0]->io.port == 0xff ? -1 : m->run[0]->io.port;
}

static int guest_read(struct machine *m, uint32_t msr)
{
	return outcome(m, "\x0f\x32", 2, msr, 0);
}

static int guest_write(struct machine *m, uint32_t msr, uint64_t value)
{
	return outcome(m, "\x0f\x30", 2, msr, value);
}

/* The value of an MSR, as the client sees it. */
static uint64_t msr_get(struct machine *m, uint32_t index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { { .nmsrs = 1 }, { .index = index, .data = UINT64_MAX } };

	CHECK(ioctl(m->vcpu[0], KVM_GET_MSRS, &one) == 1);
	return one.entry.data;
}

static bool msr_set(struct machine *m, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { { .nmsrs = 1 }, { .index = index, .data = value } };

	return ioctl(m->vcpu[0], KVM_SET_MSRS, &one) == 1;
}

static void test_msrs(void)
{
	struct machine m;
	struct cpuid cpuid;
	struct {
		struct kvm_msr_list head;
		uint32_t index[64];
	} list = { .head.nmsrs = 64 };
	bool listed = false;

	machine_make(&m, 1, 16 * PAGE);
	supported(m.kvm, &cpuid);
	set(&m, &cpuid);
	NEED(ioctl(m.kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, &list) == 0);
	for (unsigned i = 0; i < list.head.nmsrs; i++)
		listed |= list.index[i] == MSR_PERF_CAP;
	CHECK(listed && msr_get(&m, MSR_PERF_CAP) == 0 && !msr_set(&m, MSR_PERF_CAP, 1));
	CHECK(guest_read(&m, MSR_PERF_CAP) == 13);

	/* The performance counters of a K7. A CPU without them accepts a write and forgets it. */
	for (uint32_t i = 0; i < 8; i++) {
		CHECK(guest_write(&m, 0xc0010000u + i, 0x530076) == -1 && guest_read(&m, 0xc0010000u + i) == -1);
		CHECK(msr_get(&m, 0xc0010000u + i) == 0);
	}
	/* HWCR: bits 3, 6 and 8 are ignored, 18 and 24 are kept, any other is refused. */
	CHECK(guest_write(&m, MSR_HWCR, 1u << 3 | 1u << 6 | 1u << 8 | 1u << 18 | 1u << 24) == -1);
	CHECK(msr_get(&m, MSR_HWCR) == (1u << 18 | 1u << 24));
	CHECK(guest_write(&m, MSR_HWCR, 1) == 13 && !msr_set(&m, MSR_HWCR, 1u << 4));
	CHECK(msr_get(&m, MSR_HWCR) == (1u << 18 | 1u << 24));
	/* MISC_ENABLE has no branch trace storage and no precise events. The guest cannot change these bits. */
	CHECK(msr_get(&m, MSR_MISC_ENABLE) == 0x1800);
	CHECK(guest_write(&m, MSR_MISC_ENABLE, 0) == 13 && guest_write(&m, MSR_MISC_ENABLE, 0x1801 | 1u << 7) == -1);
	CHECK(msr_get(&m, MSR_MISC_ENABLE) == 0x1801 && msr_set(&m, MSR_MISC_ENABLE, 0x1800));
	/* The CPU has none of IBRS, STIBP and SSBD, so the guest has no SPEC_CTRL. */
	CHECK(guest_read(&m, MSR_SPEC_CTRL) == 13 && guest_write(&m, MSR_SPEC_CTRL, 0) == 13 &&
	      msr_set(&m, MSR_SPEC_CTRL, 0));
	CHECK(guest_read(&m, MSR_TSC_AUX) == -1);
	machine_free(&m, 1);
}

/* A guest does not have an instruction or MSR that its CPUID lacks. */
static void test_absent(void)
{
	static const struct {
		const char *name, *code;
		size_t size;
		uint32_t function;
		unsigned which; /* 0: EBX, 1: ECX, 2: EDX */
		unsigned bit;
		bool there; /* as the CPU is */
	} cases[] = {
		{ "INVPCID", "\x66\x0f\x38\x82\x07", 5, 7, 0, 10, true }, /* invpcid eax, [bx] */
		{ "RDTSCP", "\x0f\x01\xf9", 3, 0x80000001, 2, 27, true },
		{ "RDPID", "\xf3\x0f\xc7\xf8", 4, 7, 1, 22, true },
		{ "RDPRU", "\x0f\x01\xfd", 3, 0x80000008, 0, 4, false },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (unsigned shown = 0; shown < 2; shown++) {
			struct machine m;
			struct cpuid cpuid;
			struct kvm_cpuid_entry2 *e;
			uint32_t *word;
			int is;

			machine_make(&m, 1, 16 * PAGE);
			supported(m.kvm, &cpuid);
			e = leaf(&cpuid, cases[i].function);
			word = cases[i].which == 0 ? &e->ebx : cases[i].which == 1 ? &e->ecx : &e->edx;
			CHECK((*word >> cases[i].bit & 1) == cases[i].there);
			if (!shown)
				*word &= ~(1u << cases[i].bit);
			set(&m, &cpuid);
			is = outcome(&m, cases[i].code, cases[i].size, 0, 0);
			if (is != (shown && cases[i].there ? -1 : 6))
				fprintf(stderr, "%s, %s: %d\n", cases[i].name, shown ? "shown" : "not shown", is);
			CHECK(is == (shown && cases[i].there ? -1 : 6));
			machine_free(&m, 1);
		}

	for (unsigned both = 0; both < 2; both++) {
		struct machine m;
		struct cpuid cpuid;

		machine_make(&m, 1, 16 * PAGE);
		supported(m.kvm, &cpuid);
		leaf(&cpuid, 0x80000001)->edx &= ~(1u << 27);
		leaf(&cpuid, 7)->ecx &= both ? ~(1u << 22) : ~0u;
		set(&m, &cpuid);
		/* TSC_AUX exists if an instruction that reads it does: RDTSCP or RDPID. */
		CHECK(guest_read(&m, MSR_TSC_AUX) == (both ? 13 : -1) &&
		      guest_write(&m, MSR_TSC_AUX, 1) == (both ? 13 : -1));
		CHECK(msr_set(&m, MSR_TSC_AUX, 7));
		machine_free(&m, 1);
	}
}

static struct kvm_cpuid_entry2 *subleaf(struct cpuid *cpuid, uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->head.nent; i++)
		if (cpuid->entry[i].function == function && cpuid->entry[i].index == index)
			return &cpuid->entry[i];
	return NULL;
}

/* Protection keys are not there for a guest to which the client shows PKRU at another place of XSAVE's area. */
static void test_misplaced_keys(void)
{
	for (unsigned there = 0; there < 2; there++) {
		struct cpuid cpuid, back = { .head.nent = 100 };
		struct kvm_cpuid_entry2 *place;
		struct machine m;

		machine_make(&m, 1, 16 * PAGE);
		supported(m.kvm, &cpuid);
		place = subleaf(&cpuid, 0xd, 9);
		if (place && !there)
			place->ebx = 0; /* as QEMU does on a host without keys */
		if (place) {
			set(&m, &cpuid);
			NEED(ioctl(m.vcpu[0], KVM_GET_CPUID2, &back) == 0 && back.head.nent == cpuid.head.nent);
			CHECK((leaf(&back, 7)->ecx >> 3 & 1) == there);
			CHECK((leaf(&back, 0xd)->eax >> 9 & 1) == there);
			CHECK(subleaf(&back, 0xd, 9)->eax == 8 * there);
			/* mov eax, 1 << 22; mov cr4, eax */
			CHECK(outcome(&m, "\x66\xb8\x00\x00\x40\x00\x0f\x22\xe0", 9, 0, 0) == (there ? -1 : 13));
		}
		machine_free(&m, 1);
	}
}

static void test_translate(void)
{
	struct machine m;
	struct kvm_translation t = { .linear_address = UINT64_MAX };

	machine_make(&m, 1, 16 * PAGE);
	CHECK(ioctl(m.vcpu[0], KVM_TRANSLATE, &t) == 0 && !t.valid && t.physical_address == UINT64_MAX);
	t.linear_address = UINT64_MAX - 1;
	CHECK(ioctl(m.vcpu[0], KVM_TRANSLATE, &t) == 0 && t.valid && t.physical_address == UINT64_MAX - 1);
	machine_free(&m, 1);
}

static long enable_max_vcpu_id(int vm, uint64_t max)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MAX_VCPU_ID, .args[0] = max };

	return ioctl(vm, KVM_ENABLE_CAP, &cap) == 0 ? 0 : errno;
}

static void test_boot_cpu(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm, limit;

	NEED(kvm >= 0);
	limit = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	NEED(vm >= 0);
	CHECK(ioctl(vm, KVM_SET_BOOT_CPU_ID, (unsigned long)limit + 1) == -1 && errno == EINVAL);
	CHECK(ioctl(vm, KVM_SET_BOOT_CPU_ID, 1ul << 32) == -1 && errno == EINVAL); /* not taken for 0 */
	CHECK(ioctl(vm, KVM_SET_BOOT_CPU_ID, 3ul) == 0);
	CHECK(enable_max_vcpu_id(vm, 2) == EINVAL); /* the boot CPU is 3 */
	CHECK(enable_max_vcpu_id(vm, 8) == 0);
	CHECK(ioctl(vm, KVM_SET_BOOT_CPU_ID, 9ul) == -1 && errno == EINVAL);
	CHECK(ioctl(vm, KVM_SET_BOOT_CPU_ID, 7ul) == 0);
	close(vm);
	close(kvm);
}

/* An interrupt pushes its frame to a device. KVM_RUN tells the client which event that was, and the address. */
static void test_vectoring(void)
{
	struct machine m;
	struct kvm_interrupt interrupt = { .irq = 0x40 };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 0x202, .rsp = 0x1000 };
	struct kvm_sregs sregs;

	machine_make(&m, 1, 16 * PAGE);
	memcpy(m.memory + 0x1000, "\xeb\xfe", 2);
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.ss.base = 0x50000;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0 && ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_INTERRUPT, &interrupt) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(m.run[0]->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	      m.run[0]->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV);
	CHECK(m.run[0]->internal.ndata >= 4 && m.run[0]->internal.data[0] == (1u << 31 | 0x40));
	CHECK(m.run[0]->internal.data[3] >= 0x50000 && m.run[0]->internal.data[3] < 0x51000);
	machine_free(&m, 1);
}

int main(void)
{
	test_leaves();
	test_address_width();
	test_msrs();
	test_absent();
	test_misplaced_keys();
	test_translate();
	test_boot_cpu();
	test_vectoring();
	return check_end();
}
