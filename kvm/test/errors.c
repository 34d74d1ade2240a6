/* SPDX-License-Identifier: MIT */
/* Bad numbers, pointers, sizes, descriptors and orders, and double creations fail with the errno that KVM has. */
#include "check.h"

#define BAD ((void *)8)

/* An ioctl must fail with this errno. */
#define FAILS(error, fd, request, argument)                                                                        \
	do {                                                                                                       \
		errno = 0;                                                                                         \
		CHECK(ioctl(fd, request, argument) == -1 && errno == (error));                                     \
	} while (0)
#define WORKS(fd, request, argument) CHECK(ioctl(fd, request, argument) >= 0)

static void test_system(void)
{
	int kvm = open("/dev/kvm", O_RDWR), types;
	struct {
		struct kvm_msr_list head;
		uint32_t index[512];
	} list = { .head.nmsrs = 0 };
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid = { .head.nent = 0 };

	NEED(kvm >= 0);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == 12);
	FAILS(EINVAL, kvm, KVM_GET_API_VERSION, 1ul);
	FAILS(EINVAL, kvm, KVM_GET_VCPU_MMAP_SIZE, 1ul);
	FAILS(EINVAL, kvm, KVM_CREATE_VM, 0x123456ul);
	types = ioctl(kvm, KVM_CHECK_EXTENSION, 235 /* KVM_CAP_VM_TYPES */);
	CHECK(types & 1);
	for (unsigned long type = 1; type < 31; type++)
		if (!(types >> type & 1))
			FAILS(EINVAL, kvm, KVM_CREATE_VM, type);
	FAILS(EINVAL, kvm, KVM_RUN, 0);
	FAILS(EINVAL, kvm, _IO(KVMIO, 0xfe), 0);
	CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, 100000ul) == 0);
	CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, ~0ul) == 0);
	FAILS(E2BIG, kvm, KVM_GET_MSR_INDEX_LIST, &list);
	CHECK(list.head.nmsrs > 0 && list.head.nmsrs < 512);
	WORKS(kvm, KVM_GET_MSR_INDEX_LIST, &list);
	FAILS(EFAULT, kvm, KVM_GET_MSR_INDEX_LIST, BAD);
	FAILS(E2BIG, kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	cpuid.head.nent = 1;
	FAILS(E2BIG, kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	cpuid.head.nent = 256;
	WORKS(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	FAILS(EFAULT, kvm, KVM_GET_SUPPORTED_CPUID, BAD);
	FAILS(EFAULT, kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, BAD);
	errno = 0;
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, kvm, 0) == MAP_FAILED && errno == ENODEV);
	close(kvm);
	FAILS(EBADF, kvm, KVM_GET_API_VERSION, 0);
}

static void test_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu;
	struct kvm_dirty_log log = { .slot = 3 };
	struct kvm_enable_cap cap = { .cap = 99999 };
	uint64_t identity = 0xfffbc000;

	NEED(vm >= 0);
	FAILS(ENOTTY, vm, _IO(KVMIO, 0xfe), 0);
	FAILS(ENOTTY, vm, KVM_RUN, 0);
	FAILS(EFAULT, vm, KVM_SET_USER_MEMORY_REGION, BAD);
	FAILS(EFAULT, vm, KVM_GET_DIRTY_LOG, BAD);
	FAILS(ENOENT, vm, KVM_GET_DIRTY_LOG, &log);
	log.slot = 1u << 20;
	FAILS(EINVAL, vm, KVM_GET_DIRTY_LOG, &log);
	FAILS(EFAULT, vm, KVM_ENABLE_CAP, BAD);
	FAILS(EINVAL, vm, KVM_ENABLE_CAP, &cap);
	cap = (struct kvm_enable_cap){ .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 8 } };
	FAILS(EINVAL, vm, KVM_ENABLE_CAP, &cap);
	cap.args[0] = 2; /* initially set, without manual protect */
	FAILS(EINVAL, vm, KVM_ENABLE_CAP, &cap);
	cap = (struct kvm_enable_cap){ .cap = KVM_CAP_DIRTY_LOG_RING, .args = { 12345 } };
	FAILS(EINVAL, vm, KVM_ENABLE_CAP, &cap);
	cap.args[0] = 1ul << 30;
	FAILS(E2BIG, vm, KVM_ENABLE_CAP, &cap);
	FAILS(EINVAL, vm, KVM_RESET_DIRTY_RINGS, 0);
	FAILS(EINVAL, vm, KVM_SET_NR_MMU_PAGES, 1ul);
	WORKS(vm, KVM_SET_NR_MMU_PAGES, 1000ul);
	FAILS(EINVAL, vm, KVM_SET_TSS_ADDR, 0xfffffffful);
	WORKS(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	FAILS(EFAULT, vm, KVM_SET_IDENTITY_MAP_ADDR, BAD);
	FAILS(EINVAL, vm, KVM_CREATE_VCPU, 1ul << 20);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 5ul);
	CHECK(vcpu >= 0);
	FAILS(EEXIST, vm, KVM_CREATE_VCPU, 5ul);
	close(vcpu);
	FAILS(EEXIST, vm, KVM_CREATE_VCPU, 5ul); /* the vCPU outlives its descriptor */
	FAILS(EINVAL, vm, KVM_CREATE_IRQCHIP, 0);
	FAILS(EINVAL, vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	FAILS(EBUSY, vm, KVM_SET_BOOT_CPU_ID, 0);
	errno = 0;
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, vm, 0) == MAP_FAILED && errno == ENODEV);
	close(vm);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	WORKS(vm, KVM_CREATE_IRQCHIP, 0);
	FAILS(EEXIST, vm, KVM_CREATE_IRQCHIP, 0);
	close(vm);
	close(kvm);
}

static void test_slots(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	uint8_t *m = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t bitmap[4];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };
	struct kvm_clear_dirty_log clear = { .slot = 1, .first_page = 0, .num_pages = 4, .dirty_bitmap = bitmap };

#define SLOT_FAILS(error, ...)                                                                                     \
	do {                                                                                                       \
		errno = 0;                                                                                         \
		CHECK(machine_slot(vm, __VA_ARGS__) == -1 && errno == (error));                                    \
	} while (0)
	SLOT_FAILS(EINVAL, 0, 0, 0, PAGE + 1, m);
	SLOT_FAILS(EINVAL, 0, 0, 1, PAGE, m);
	SLOT_FAILS(EINVAL, 0, 0, 0, PAGE, m + 1);
	SLOT_FAILS(EINVAL, 0, 0x80, 0, PAGE, m);
	SLOT_FAILS(EINVAL, 32764, 0, 0, PAGE, m);
	SLOT_FAILS(EINVAL, 7u << 16, 0, 0, PAGE, m);
	SLOT_FAILS(EINVAL, 0, 0, -PAGE, 2 * PAGE, m);
	SLOT_FAILS(EINVAL, 0, 0, 0, 0, m);
	CHECK(machine_slot(vm, 1, 0, 0, 4 * PAGE, m) == 0);
	SLOT_FAILS(EEXIST, 2, 0, 3 * PAGE, PAGE, m);
	SLOT_FAILS(EINVAL, 1, 0, 0, 2 * PAGE, m);            /* another size */
	SLOT_FAILS(EINVAL, 1, KVM_MEM_READONLY, 0, 4 * PAGE, m); /* another kind */
	SLOT_FAILS(EINVAL, 1, 0, 0, 4 * PAGE, m + PAGE);     /* another address */
	errno = 0;
	CHECK(ioctl(vm, KVM_GET_DIRTY_LOG, &log) == -1 && errno == ENOENT); /* the slot has no log */
	CHECK(machine_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * PAGE, m) == 0);
	WORKS(vm, KVM_GET_DIRTY_LOG, &log);
	CHECK(bitmap[0] == 0);
	log.dirty_bitmap = BAD;
	FAILS(EFAULT, vm, KVM_GET_DIRTY_LOG, &log);
	clear.first_page = 3;
	FAILS(EINVAL, vm, KVM_CLEAR_DIRTY_LOG, &clear);
	clear.first_page = 64;
	FAILS(EINVAL, vm, KVM_CLEAR_DIRTY_LOG, &clear);
	clear.first_page = 0;
	clear.num_pages = 3;
	FAILS(EINVAL, vm, KVM_CLEAR_DIRTY_LOG, &clear);
	clear.num_pages = 4;
	clear.dirty_bitmap = BAD;
	FAILS(EFAULT, vm, KVM_CLEAR_DIRTY_LOG, &clear);
	clear.dirty_bitmap = bitmap;
	WORKS(vm, KVM_CLEAR_DIRTY_LOG, &clear);
	CHECK(machine_slot(vm, 1, 0, 8 * PAGE, 4 * PAGE, m) == 0); /* move */
	CHECK(machine_slot(vm, 1, 0, 0, 0, NULL) == 0);
	SLOT_FAILS(EINVAL, 1, 0, 0, 0, NULL);
	munmap(m, 16 * PAGE);
	close(vm);
	close(kvm);
}

/* KVM_SET_USER_MEMORY_REGION2 of Linux 6.8, which older headers do not have. */
struct region2 {
	struct kvm_userspace_memory_region region;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd, pad1;
	uint64_t pad2[14];
};
#define SET_REGION2     _IOW(KVMIO, 0x49, struct region2)
#define MEM_GUEST_MEMFD (1u << 2)
#define CAP_REGION2     231
#define CAP_GUEST_MEMFD 234

/*
 * KVM_SET_USER_MEMORY_REGION2 does what the older request does, by the same rules. What follows the region is read
 * for guest_memfd alone, but the whole structure must be readable.
 */
static void test_slots2(void)
{
	int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	uint8_t *m = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct region2 r = { .guest_memfd_offset = 1, .guest_memfd = ~0u, .pad1 = 7 };
	uint64_t bitmap[4];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

#define REGION2(...) (r.region = (struct kvm_userspace_memory_region){ __VA_ARGS__ }, &r)
	NEED(m != MAP_FAILED && vm >= 0);
	memset(r.pad2, 0xff, sizeof(r.pad2));
	if (ioctl(vm, KVM_CHECK_EXTENSION, CAP_REGION2) == 0) {
		FAILS(ENOTTY, vm, SET_REGION2, &r);
	} else {
		FAILS(EFAULT, vm, SET_REGION2, BAD);
		FAILS(EINVAL, vm, SET_REGION2, REGION2(1, 0, 0, PAGE + 1, (uintptr_t)m));
		FAILS(EINVAL, vm, SET_REGION2, REGION2(1, 0x80, 0, PAGE, (uintptr_t)m));
		FAILS(EINVAL, vm, SET_REGION2, REGION2(32764, 0, 0, PAGE, (uintptr_t)m));
		FAILS(EINVAL, vm, SET_REGION2, REGION2(7u << 16, 0, 0, PAGE, (uintptr_t)m));
		WORKS(vm, SET_REGION2, REGION2(1, KVM_MEM_LOG_DIRTY_PAGES, 0, 4 * PAGE, (uintptr_t)m));
		WORKS(vm, KVM_GET_DIRTY_LOG, &log);
		CHECK(machine_slot(vm, 2, 0, 3 * PAGE, PAGE, m + 8 * PAGE) == -1 && errno == EEXIST);
		FAILS(EEXIST, vm, SET_REGION2, REGION2(2, 0, 3 * PAGE, PAGE, (uintptr_t)m + 8 * PAGE));
		/* Each request deletes what the other has made. */
		CHECK(machine_slot(vm, 1, 0, 0, 0, NULL) == 0);
		WORKS(vm, SET_REGION2, REGION2(2, KVM_MEM_READONLY, 3 * PAGE, PAGE, (uintptr_t)m + 8 * PAGE));
		WORKS(vm, SET_REGION2, REGION2(2, 0, 0, 0, 0));
		FAILS(EINVAL, vm, SET_REGION2, REGION2(2, 0, 0, 0, 0));
		NEED(mprotect(m + PAGE, PAGE, PROT_NONE) == 0);
		FAILS(EFAULT, vm, SET_REGION2, memcpy(m + PAGE - sizeof(r) / 2, &r, sizeof(r) / 2));
	}
	/* The older request never knew the flag. */
	CHECK(machine_slot(vm, 1, MEM_GUEST_MEMFD, 0, PAGE, m + 4 * PAGE) == -1 && errno == EINVAL);
	if (ioctl(vm, KVM_CHECK_EXTENSION, CAP_REGION2) > 0 && ioctl(vm, KVM_CHECK_EXTENSION, CAP_GUEST_MEMFD) == 0)
		FAILS(EINVAL, vm, SET_REGION2, REGION2(1, MEM_GUEST_MEMFD, 0, PAGE, (uintptr_t)m + 4 * PAGE));
	munmap(m, 16 * PAGE);
	close(vm);
	close(kvm);
}

static void test_vcpu_pointers(void)
{
	struct machine m;
	int v, there;

	machine_make(&m, 1, 16 * PAGE);
	v = m.vcpu[0];
	FAILS(EINVAL, v, _IO(KVMIO, 0xfe), 0);
	FAILS(EINVAL, v, FIONREAD, &there);
	FAILS(EINVAL, v, KVM_CREATE_VM, 0);
	FAILS(EINVAL, v, KVM_RUN, 1ul);
	FAILS(EFAULT, v, KVM_GET_REGS, BAD);
	FAILS(EFAULT, v, KVM_SET_REGS, BAD);
	FAILS(EFAULT, v, KVM_GET_SREGS, BAD);
	FAILS(EFAULT, v, KVM_SET_SREGS, BAD);
	FAILS(EFAULT, v, KVM_GET_FPU, BAD);
	FAILS(EFAULT, v, KVM_SET_FPU, BAD);
	FAILS(EFAULT, v, KVM_GET_MSRS, BAD);
	FAILS(EFAULT, v, KVM_SET_CPUID2, BAD);
	FAILS(EFAULT, v, KVM_SET_SIGNAL_MASK, BAD);
	FAILS(EFAULT, v, KVM_SET_MP_STATE, BAD);
	FAILS(EFAULT, v, KVM_SET_VCPU_EVENTS, BAD);
	FAILS(EFAULT, v, KVM_GET_XSAVE, BAD);
	FAILS(EFAULT, v, KVM_SET_GUEST_DEBUG, BAD);
	machine_free(&m, 1);
}

static void test_vcpu_values(void)
{
	struct machine m;
	struct kvm_sregs sregs, same;
	struct kvm_mp_state mp = { 77 };
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_signal_mask mask = { .len = 7 };
	struct kvm_interrupt interrupt = { 300 };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = { .head.nmsrs = 2, .entry = { { .index = 0xc0000080 }, { .index = 0xdeadbeef } } };
	struct kvm_cpuid2 cpuid = { .nent = 100000 };
	int v;

	machine_make(&m, 1, 16 * PAGE);
	v = m.vcpu[0];
	FAILS(EINVAL, v, KVM_SET_MP_STATE, &mp);
	FAILS(EINVAL, v, KVM_SET_SIGNAL_MASK, &mask);
	FAILS(EINVAL, v, KVM_INTERRUPT, &interrupt);
	FAILS(E2BIG, v, KVM_SET_CPUID2, &cpuid);
	NEED(ioctl(v, KVM_GET_VCPU_EVENTS, &events) == 0);
	events.flags |= 0x80000000;
	FAILS(EINVAL, v, KVM_SET_VCPU_EVENTS, &events);
	events.flags = 0;
	events.exception.injected = 1;
	events.exception.nr = 77;
	FAILS(EINVAL, v, KVM_SET_VCPU_EVENTS, &events);
	NEED(ioctl(v, KVM_GET_DEBUGREGS, &debug) == 0);
	debug.dr7 = 1ull << 40;
	FAILS(EINVAL, v, KVM_SET_DEBUGREGS, &debug);
	CHECK(ioctl(v, KVM_GET_MSRS, &msrs) == 1); /* KVM stops at the first MSR that does not exist */
	msrs.head.nmsrs = 100000;
	FAILS(E2BIG, v, KVM_GET_MSRS, &msrs);
	NEED(ioctl(v, KVM_GET_SREGS, &sregs) == 0);
	same = sregs;
	sregs.efer |= 1 << 10; /* LMA without LME and paging */
	FAILS(EINVAL, v, KVM_SET_SREGS, &sregs);
	sregs = same;
	sregs.cr0 = 1ull << 31; /* paging without protection */
	FAILS(EINVAL, v, KVM_SET_SREGS, &sregs);
	sregs = same;
	sregs.cr4 = 1ull << 31;
	FAILS(EINVAL, v, KVM_SET_SREGS, &sregs);
	sregs = same;
	sregs.apic_base = 1 << 10; /* x2APIC without the APIC */
	FAILS(EINVAL, v, KVM_SET_SREGS, &sregs);
	NEED(ioctl(v, KVM_GET_SREGS, &sregs) == 0);
	CHECK(memcmp(&sregs, &same, sizeof(same)) == 0);
	m.run[0]->kvm_valid_regs = 1ull << 40;
	FAILS(EINVAL, v, KVM_RUN, 0);
	m.run[0]->kvm_valid_regs = 0;
	m.run[0]->immediate_exit = 1;
	FAILS(EINTR, v, KVM_RUN, 0);
	machine_free(&m, 1);
	FAILS(EBADF, v, KVM_RUN, 0);
}

static void test_descriptors(void)
{
	struct machine m;
	int copy, other;

	machine_make(&m, 1, 16 * PAGE);
	copy = dup(m.vcpu[0]);
	CHECK(copy >= 0);
	other = fcntl(m.vm, F_DUPFD_CLOEXEC, 100);
	CHECK(other >= 100);
	close(m.vm);
	CHECK(ioctl(other, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);
	close(other);
	errno = 0;
	CHECK(ioctl(other, KVM_CHECK_EXTENSION, 3) == -1 && errno == EBADF);
	m.run[0]->immediate_exit = 1;
	FAILS(EINTR, copy, KVM_RUN, 0); /* the vCPU keeps its VM alive */
	CHECK(dup2(copy, 200) == 200);
	close(copy);
	FAILS(EINTR, 200, KVM_RUN, 0);
	/* When dup2 replaces a descriptor of the front end, the number stands for the new file. */
	CHECK(dup2(m.kvm, 200) == 200);
	CHECK(ioctl(200, KVM_GET_API_VERSION, 0) == 12);
	CHECK((fcntl(m.vcpu[0], F_GETFD) & FD_CLOEXEC) != 0);
	close(200);
	machine_free(&m, 1);
}

int main(void)
{
	test_system();
	test_vm();
	test_slots();
	test_slots2();
	test_vcpu_pointers();
	test_vcpu_values();
	test_descriptors();
	return check_end();
}
