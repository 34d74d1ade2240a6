/* SPDX-License-Identifier: MIT */
/* Coalesced writes to addresses and ports: zones, the ring that all vCPUs show, what happens when it is full. */
#include "check.h"
#include <pthread.h>

#define DEVICE  0x90000u /* the guest's data segment begins here */
#define ENTRIES ((unsigned)((PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio)))

static struct machine m;
static struct kvm_coalesced_mmio_ring *ring;

static int zone(unsigned long request, uint64_t address, uint32_t size, uint32_t port)
{
	struct kvm_coalesced_mmio_zone in = { .addr = address, .size = size, .pio = port };

	return ioctl(m.vm, request, &in) == 0 ? 0 : errno;
}

static int add(uint64_t address, uint32_t size, uint32_t port)
{
	return zone(KVM_REGISTER_COALESCED_MMIO, address, size, port);
}

static int drop(uint64_t address, uint32_t size, uint32_t port)
{
	return zone(KVM_UNREGISTER_COALESCED_MMIO, address, size, port);
}

static struct kvm_coalesced_mmio_ring *ring_of(unsigned i)
{
	return (void *)((char *)m.run[i] + 2 * PAGE);
}

static struct kvm_coalesced_mmio *entry(unsigned i)
{
	return (struct kvm_coalesced_mmio *)(ring + 1) + i;
}

/* Is the next entry of the ring this one? Takes it out. */
static bool next_is(uint64_t address, uint32_t len, uint32_t port, uint32_t value)
{
	uint32_t first = ring->first, found = 0;
	struct kvm_coalesced_mmio *e = entry(first);

	if (first == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
		return false;
	memcpy(&found, e->data, len <= 4 ? len : 4);
	__atomic_store_n(&ring->first, (first + 1) % ENTRIES, __ATOMIC_RELEASE);
	return e->phys_addr == address && e->len == len && e->pio == port && found == value;
}

static bool is_empty(void)
{
	return ring->first == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
}

static void load(unsigned i, const uint8_t *code, size_t bytes)
{
	struct kvm_sregs sregs;

	memcpy(m.memory + 0x1000, code, bytes);
	machine_start(&m, i, 0x1000);
	NEED(ioctl(m.vcpu[i], KVM_GET_SREGS, &sregs) == 0);
	sregs.ds.base = DEVICE;
	sregs.ds.selector = DEVICE >> 4;
	NEED(ioctl(m.vcpu[i], KVM_SET_SREGS, &sregs) == 0);
}

static unsigned run(unsigned i)
{
	NEED(ioctl(m.vcpu[i], KVM_RUN, 0) == 0);
	return m.run[i]->exit_reason;
}

static void test_errors(void)
{
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO) == KVM_COALESCED_MMIO_PAGE_OFFSET);
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) == 1);
	CHECK(ioctl(m.vm, KVM_REGISTER_COALESCED_MMIO, 8) == -1 && errno == EFAULT);
	CHECK(add(DEVICE, 0x1000, 2) == EINVAL && drop(DEVICE, 0x1000, 2) == EINVAL);
	CHECK(drop(DEVICE, 0x1000, 0) == 0); /* there is none */
	CHECK(add(UINT64_MAX, 0x1000, 0) == 0 && add(DEVICE, UINT32_MAX, 0) == 0 && add(DEVICE, 0, 0) == 0);
	CHECK(drop(DEVICE, 1, 0) == 0); /* the big one */
	for (unsigned i = 0; i < 998; i++)
		CHECK(add(DEVICE, 0x1000, 0) == 0);
	CHECK(add(DEVICE, 0x1000, 0) == ENOSPC);
	CHECK(add(DEVICE, 0x1000, 1) == 0);
	CHECK(drop(DEVICE + 0xfff, 1, 0) == 0); /* all 998 */
	CHECK(add(DEVICE, 0x1000, 0) == 0 && drop(DEVICE, 0x1000, 0) == 0 && drop(DEVICE, 0x1000, 1) == 0);
}

static void test_mapping(void)
{
	uint32_t *page;
	char *all;

	ring_of(0)->first = 42;
	CHECK(ring_of(1)->first == 42);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], 2 * PAGE);
	NEED(page != MAP_FAILED);
	CHECK(page[0] == 42);
	page[0] = 0;
	CHECK(ring_of(1)->first == 0);
	/* What is mapped for reading can only be read. */
	all = mmap(page, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, m.vcpu[1], 2 * PAGE);
	CHECK(all == (void *)page && read(open("/dev/zero", O_RDONLY), page, 4) == -1 && errno == EFAULT);
	munmap(page, PAGE);
	all = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, m.vcpu[1], 0);
	NEED(all != MAP_FAILED);
	ring_of(0)->first = 43;
	CHECK(*(uint32_t *)(void *)(all + 2 * PAGE) == 43);
	ring_of(0)->first = 0;
	munmap(all, 3 * PAGE);
	all = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[1], PAGE);
	NEED(all != MAP_FAILED);
	*(uint32_t *)(void *)all = 44; /* port data, and not the ring */
	CHECK(ring_of(0)->first == 0 && *(uint32_t *)(void *)((char *)m.run[1] + PAGE) == 44);
	munmap(all, 2 * PAGE);
}

static void test_zones(void)
{
	/* mov ax, 0x1234; mov [0xfe], ax; mov [0xff], ax; mov [0x100], ax */
	static const uint8_t code[] = { 0xb8, 0x34, 0x12, 0xa3, 0xfe, 0x00, 0xa3, 0xff, 0x00, 0xa3, 0x00, 0x01,
		/* out 0x40, al; out 0x41, al; out 0x40, ax; hlt */
		0xe6, 0x40, 0xe6, 0x41, 0xe7, 0x40, 0xf4 };

	CHECK(add(DEVICE, 0x100, 0) == 0 && add(0x40, 1, 1) == 0);
	load(0, code, sizeof(code));
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + 0xff); /* not all of it is in the zone */
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + 0x100);
	CHECK(run(0) == KVM_EXIT_IO && m.run[0]->io.port == 0x41);
	CHECK(run(0) == KVM_EXIT_IO && m.run[0]->io.port == 0x40 && m.run[0]->io.size == 2);
	CHECK(run(0) == KVM_EXIT_HLT);
	CHECK(next_is(DEVICE + 0xfe, 2, 0, 0x1234) && next_is(0x40, 1, 1, 0x34) && is_empty());
	/* A zone of ports is none of addresses. The same zone twice puts a write there once. */
	CHECK(drop(DEVICE, 0x100, 1) == 0 && drop(0x40, 1, 0) == 0 && add(DEVICE, 0x100, 0) == 0);
	load(0, code, sizeof(code));
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + 0xff);
	CHECK(next_is(DEVICE + 0xfe, 2, 0, 0x1234) && is_empty());
	CHECK(drop(DEVICE, 0x101, 0) == 0); /* no zone has all of that */
	load(0, code, sizeof(code));
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + 0xff);
	CHECK(next_is(DEVICE + 0xfe, 2, 0, 0x1234) && is_empty());
	CHECK(drop(DEVICE, 0x100, 0) == 0 && drop(0x40, 1, 1) == 0);
	load(0, code, sizeof(code));
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE + 0xfe && is_empty());
}

/* mov [0], ax; inc ax; jmp */
static const uint8_t write_on[] = { 0xa3, 0x00, 0x00, 0x40, 0xeb, 0xfa };

static void test_full(void)
{
	struct kvm_regs regs;

	CHECK(add(DEVICE, 8, 0) == 0);
	load(0, write_on, sizeof(write_on));
	CHECK(run(0) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == DEVICE);
	CHECK(m.run[0]->mmio.is_write && m.run[0]->mmio.data[0] == ENTRIES - 1); /* one entry stays free */
	for (unsigned i = 0; i < ENTRIES - 1; i++)
		CHECK(next_is(DEVICE, 2, 0, i));
	CHECK(is_empty());
	CHECK(run(0) == KVM_EXIT_MMIO && next_is(DEVICE, 2, 0, ENTRIES));
	/* A client that writes nonsense gets exits. */
	ring->last = ENTRIES;
	CHECK(run(0) == KVM_EXIT_MMIO && ring->last == ENTRIES);
	ring->last = UINT32_MAX;
	CHECK(run(0) == KVM_EXIT_MMIO && ring->last == UINT32_MAX);
	ring->first = ring->last = 0;
	CHECK(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0 && (uint16_t)regs.rax > 2 * ENTRIES - 1);
	CHECK(drop(DEVICE, 8, 0) == 0);
}

static void *run_until_hlt(void *number)
{
	unsigned i = (unsigned)(uintptr_t)number;

	while (run(i) != KVM_EXIT_HLT)
		CHECK(m.run[i]->exit_reason == KVM_EXIT_MMIO);
	return NULL;
}

/*
 * Two vCPUs write, each its own numbers in order, while the client empties the ring and a zone comes and goes. Each
 * entry is whole, and each vCPU's are in order.
 */
static void test_two(void)
{
	/* mov [bx], eax; inc eax; cmp byte cs:[0x2000], 0; je; hlt */
	static const uint8_t code[] = { 0x66, 0x89, 0x07, 0x66, 0x40, 0x2e, 0x80, 0x3e, 0x00, 0x20, 0x00, 0x74, 0xf3,
		0xf4 };
	unsigned taken = 0;
	uint32_t last[2] = { 0, 0 };
	pthread_t threads[2];

	CHECK(add(DEVICE, 16, 0) == 0);
	for (unsigned i = 0; i < 2; i++) {
		struct kvm_regs regs;

		load(i, code, sizeof(code));
		NEED(ioctl(m.vcpu[i], KVM_GET_REGS, &regs) == 0);
		regs.rbx = i * 8;
		NEED(ioctl(m.vcpu[i], KVM_SET_REGS, &regs) == 0);
		NEED(pthread_create(&threads[i], NULL, run_until_hlt, (void *)(uintptr_t)i) == 0);
	}
	for (unsigned i = 0; i < 100000 && taken < 20000; i++) {
		if (i % 64 == 0)
			CHECK(add(DEVICE, 16, 0) == 0 && drop(DEVICE, 16, 0) == 0 && add(DEVICE, 16, 0) == 0);
		if (is_empty())
			usleep(20);
		while (!is_empty()) {
			struct kvm_coalesced_mmio *e = entry(ring->first);
			unsigned who = e->phys_addr == DEVICE + 8;
			uint32_t value;

			memcpy(&value, e->data, 4);
			CHECK(e->phys_addr == DEVICE + who * 8 && e->len == 4 && e->pio == 0);
			CHECK(value >= last[who]);
			last[who] = value;
			__atomic_store_n(&ring->first, (ring->first + 1) % ENTRIES, __ATOMIC_RELEASE);
			taken++;
		}
	}
	CHECK(taken >= 2000);
	__atomic_store_n(m.memory + 0x2000, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	m.memory[0x2000] = 0;
	CHECK(drop(DEVICE, 16, 0) == 0);
}

int main(void)
{
	machine_make(&m, 1, 16 * PAGE);
	test_errors();
	machine_free(&m, 1); /* with zones in it, of which some cannot be removed */
	machine_make(&m, 2, 16 * PAGE);
	ring = ring_of(0);
	test_mapping();
	test_zones();
	test_full();
	ring = ring_of(1);
	test_two();
	machine_free(&m, 2);
	return check_end();
}
