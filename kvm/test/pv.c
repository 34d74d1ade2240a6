/* SPDX-License-Identifier: MIT */
/*
 * KVM's paravirtual interface about time: kvmclock, and the TSC below it.
 */
#include "pv.h"
#include <stddef.h>
#include <time.h>

#define TIME PV_WORD /* the page of kvmclock */
#define WALL 0x6000u

#define MSR_TSC        0x10u
#define MSR_TSC_ADJUST 0x3bu

#define SECOND 1000000000ull

struct time_page {
	uint32_t version, padding0;
	uint64_t tsc, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, padding[2];
};
#define STABLE  1
#define STOPPED 2

static uint64_t nanoseconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static struct kvm_clock_data clock_get(void)
{
	struct kvm_clock_data data;

	memset(&data, 0, sizeof(data));
	NEED(ioctl(m.vm, KVM_GET_CLOCK, &data) == 0);
	return data;
}

static struct time_page page_get(unsigned gpa)
{
	struct time_page page;

	memcpy(&page, m.memory + gpa, sizeof(page));
	return page;
}

/* The time at `tsc` as a guest computes it. */
static uint64_t page_time(const struct time_page *page, uint64_t tsc)
{
	uint64_t cycles = tsc - page->tsc;

	cycles = page->shift < 0 ? cycles >> -page->shift : cycles << page->shift;
	return page->system_time + (uint64_t)((unsigned __int128)cycles * page->mul >> 32);
}

/* The guest's clock and the client's are one. */
static void check_clock(unsigned i, unsigned gpa)
{
	struct kvm_clock_data before = clock_get(), after;
	uint64_t tsc = guest_tsc(i), time, cycle;
	struct time_page page = page_get(gpa);

	after = clock_get();
	time = page_time(&page, tsc);
	cycle = page_time(&page, page.tsc + 1) - page.system_time;
	CHECK(page.version % 2 == 0);
	CHECK(page.padding0 == 0 && page.padding[0] == 0 && page.padding[1] == 0);
	/* A guest's TSC may be as slow as 1 MHz, and says no more than the cycle. Rounding may differ by 1 ns. */
	CHECK(time + cycle + 1 >= before.clock && time <= after.clock + cycle + 1);
}

/* ---- kvmclock ------------------------------------------------------------------------------------------------- */

static void test_offered(void)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } cpuid = { .head.nent = 256 };
	struct { struct kvm_msr_list head; uint32_t index[1000]; } list = { .head.nmsrs = 1000 };
	const uint32_t features = 1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_NOP_IO_DELAY |
		1u << KVM_FEATURE_CLOCKSOURCE2 | 1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT;
	unsigned found = 0;

	make_cpus(1);
	NEED(ioctl(m.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) == 0);
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == KVM_CPUID_FEATURES) {
			found++;
			CHECK((cpuid.entry[i].eax & features) == features);
		} else if (cpuid.entry[i].function == KVM_CPUID_SIGNATURE) {
			found++;
			CHECK(cpuid.entry[i].eax == KVM_CPUID_FEATURES);
			CHECK(memcmp(&cpuid.entry[i].ebx, "KVMKVMKVM\0\0\0", 12) == 0);
		}
	CHECK(found == 2);
	found = 0;
	NEED(ioctl(m.kvm, KVM_GET_MSR_INDEX_LIST, &list) == 0);
	for (unsigned i = 0; i < list.head.nmsrs; i++)
		switch (list.index[i]) {
		case MSR_KVM_WALL_CLOCK: found |= 1; break;
		case MSR_KVM_SYSTEM_TIME: found |= 2; break;
		case MSR_KVM_WALL_CLOCK_NEW: found |= 4; break;
		case MSR_KVM_SYSTEM_TIME_NEW: found |= 8; break;
		default: break;
		}
	CHECK(found == 15);
	CHECK(cap(KVM_CAP_CLOCKSOURCE) == 1 && cap(KVM_CAP_KVMCLOCK_CTRL) == 1);
	CHECK(cap(KVM_CAP_ADJUST_CLOCK) == (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC));
	machine_free(&m, 1);
}

static void test_page(void)
{
	struct time_page page;
	uint64_t value;

	make_cpus(1);
	CHECK(clock_get().clock < 10 * SECOND); /* the clock of a VM begins at 0 */
	memset(m.memory + TIME, 0xff, sizeof(page));
	m.memory[TIME + offsetof(struct time_page, flags)] = 0;
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	page = page_get(TIME);
	CHECK(page.version == 2); /* it was all ones */
	CHECK(page.flags == (clock_get().flags & KVM_CLOCK_TSC_STABLE ? STABLE : 0));
	check_clock(0, TIME);
	CHECK(client_rdmsr(0, MSR_KVM_SYSTEM_TIME_NEW, &value) && value == (TIME | 1));
	CHECK(guest_rdmsr(0, MSR_KVM_SYSTEM_TIME, &value) && value == (TIME | 1)); /* one register, two names */
	/* The page moves. */
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, (TIME + 0x100) | 1));
	check_clock(0, TIME + 0x100);
	/* It is switched off: no later change reaches it. */
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME + 0x100));
	page = page_get(TIME + 0x100);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = 77 * SECOND }) == 0);
	guest_tsc(0);
	CHECK(memcmp(&page, m.memory + TIME + 0x100, sizeof(page)) == 0);
	machine_free(&m, 1);
}

static void *set_clock_later(void *unused)
{
	(void)unused;
	usleep(20000);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = 1234 * SECOND }) == 0);
	return NULL;
}

static void test_set_clock(void)
{
	static const uint64_t values[] = { 0, 5 * SECOND, 1000000 * SECOND, 3 * SECOND };
	struct kvm_clock_data data = { 0 };
	uint64_t value, realtime;
	pthread_t thread;

	make_cpus(1);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++) {
		data.clock = values[i];
		CHECK(ioctl(m.vm, KVM_SET_CLOCK, &data) == 0);
		CHECK(clock_get().clock - values[i] < SECOND);
		check_clock(0, TIME);
	}
	/* A guest that runs sees the change, too. */
	value = page_get(TIME).version;
	NEED(pthread_create(&thread, NULL, set_clock_later, NULL) == 0);
	CHECK(guest(0, WAIT, 0, &value) == DONE);
	pthread_join(thread, NULL);
	check_clock(0, TIME);
	CHECK(clock_get().clock - 1234 * SECOND < 10 * SECOND);
	/* With the time of day of its reading, the clock goes on from there. It is never set back. */
	realtime = nanoseconds(CLOCK_REALTIME);
	data = (struct kvm_clock_data){ .clock = SECOND, .flags = KVM_CLOCK_REALTIME };
	data.realtime = realtime - 100 * SECOND;
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &data) == 0);
	if (clock_get().flags & KVM_CLOCK_REALTIME)
		CHECK(clock_get().clock - 101 * SECOND < 10 * SECOND);
	data.realtime = realtime + 100 * SECOND;
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &data) == 0);
	CHECK(clock_get().clock - SECOND < 10 * SECOND);
	check_clock(0, TIME);
	for (uint32_t bit = 1; bit; bit <<= 1) {
		data.flags = bit;
		if (bit & (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
			CHECK(ioctl(m.vm, KVM_SET_CLOCK, &data) == 0); /* what KVM_GET_CLOCK gives */
		else
			CHECK(ioctl(m.vm, KVM_SET_CLOCK, &data) == -1 && errno == EINVAL);
	}
	machine_free(&m, 1);
}

static void test_stopped(void)
{
	struct time_page page;

	make_cpus(1);
	CHECK(ioctl(m.vcpu[0], KVM_KVMCLOCK_CTRL, 0) == -1 && errno == EINVAL);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	CHECK(!(page_get(TIME).flags & STOPPED));
	CHECK(ioctl(m.vcpu[0], KVM_KVMCLOCK_CTRL, 0) == 0);
	page = page_get(TIME);
	CHECK(!(page.flags & STOPPED)); /* the guest is told when it runs again */
	guest_tsc(0);
	CHECK(page_get(TIME).flags == (page.flags | STOPPED));
	/* It stays until the guest clears it. */
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = SECOND }) == 0);
	guest_tsc(0);
	CHECK(page_get(TIME).flags & STOPPED);
	m.memory[TIME + offsetof(struct time_page, flags)] &= (uint8_t)~STOPPED;
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = SECOND }) == 0);
	guest_tsc(0);
	CHECK(!(page_get(TIME).flags & STOPPED));
	machine_free(&m, 1);
}

static void check_wall(uint32_t msr)
{
	uint32_t wall[3], version;
	uint64_t now, sum, value;

	memcpy(&version, m.memory + WALL, sizeof(version));
	CHECK(guest_wrmsr(0, msr, WALL));
	memcpy(wall, m.memory + WALL, sizeof(wall));
	sum = wall[1] * SECOND + wall[2] + clock_get().clock;
	now = nanoseconds(CLOCK_REALTIME);
	CHECK(wall[0] == ((version + 1) | 1) + 1);
	CHECK(wall[2] < SECOND);
	CHECK(now - sum + SECOND < 2 * SECOND);
	CHECK(guest_rdmsr(0, MSR_KVM_WALL_CLOCK, &value) && value == WALL);
	CHECK(client_rdmsr(0, MSR_KVM_WALL_CLOCK_NEW, &value) && value == WALL);
}

static void test_wall(void)
{
	uint32_t nothing[3];

	make_cpus(1);
	m.memory[WALL] = 7;
	check_wall(MSR_KVM_WALL_CLOCK);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = 5000 * SECOND }) == 0);
	check_wall(MSR_KVM_WALL_CLOCK_NEW);
	/* Address 0 means none. The client's write is no different from the guest's. */
	memcpy(nothing, m.memory, sizeof(nothing));
	CHECK(guest_wrmsr(0, MSR_KVM_WALL_CLOCK, 0) && memcmp(nothing, m.memory, sizeof(nothing)) == 0);
	CHECK(client_wrmsr(0, MSR_KVM_WALL_CLOCK, WALL + 0x40) && m.memory[WALL + 0x40] == 2);
	machine_free(&m, 1);
}

/* Guests and clients that give addresses at which there is nothing. */
static void test_nowhere(void)
{
	void *more;

	make_cpus(1);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, BYTES | 1));
	guest_tsc(0);
	CHECK(ioctl(m.vcpu[0], KVM_KVMCLOCK_CTRL, 0) == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_WALL_CLOCK_NEW, BYTES));
	CHECK(guest_wrmsr(0, MSR_KVM_WALL_CLOCK_NEW, UINT64_MAX));
	guest_tsc(0);
	/* Memory appears there: the next time that the page is written, it is there. */
	more = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(more != MAP_FAILED);
	NEED(machine_slot(m.vm, 1, 0, BYTES, PAGE, more) == 0);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = SECOND }) == 0);
	guest_tsc(0);
	CHECK(((struct time_page *)more)->version != 0 && ((struct time_page *)more)->version % 2 == 0);
	/* And goes, though its slot stays. */
	NEED(munmap(more, PAGE) == 0);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = SECOND }) == 0);
	guest_tsc(0);
	/* A page that is none. */
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, 0));
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, (TIME + PAGE - 16) | 1));
	memset(m.memory + TIME + PAGE - 16, 0, 32);
	guest_tsc(0);
	CHECK(m.memory[TIME + PAGE - 16] == 0 && ioctl(m.vcpu[0], KVM_KVMCLOCK_CTRL, 0) == -1 && errno == EINVAL);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, UINT64_MAX));
	guest_tsc(0);
	machine_free(&m, 1);
}

/* What the front end writes is in the dirty log like what the guest writes. */
static void test_logged(void)
{
	uint64_t bitmap[BYTES / PAGE / 64 + 1] = { 0 };
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bitmap };

	make_cpus(1);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	NEED(machine_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, BYTES, m.memory) == 0);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = SECOND }) == 0);
	guest_tsc(0);
	NEED(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
	CHECK(bitmap[0] & 1ull << TIME / PAGE);
	NEED(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
	guest_tsc(0);
	NEED(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
	CHECK(!(bitmap[0] & 1ull << TIME / PAGE)); /* nothing changed, so nothing is written */
	machine_free(&m, 1);
}

static void test_enforced(void)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[2]; } cpuid = { .head.nent = 2 };
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = { 1 } };
	uint64_t value;

	make_cpus(1);
	CHECK(cap(KVM_CAP_ENFORCE_PV_FEATURE_CPUID) == 1);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME)); /* no CPUID at all: not enforced */
	machine_free(&m, 1);
	make_cpus(1);
	cpuid.entry[0] = (struct kvm_cpuid_entry2){ .function = KVM_CPUID_SIGNATURE + 0x100,
		.eax = KVM_CPUID_FEATURES + 0x100, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d };
	cpuid.entry[1] = (struct kvm_cpuid_entry2){ .function = KVM_CPUID_FEATURES + 0x100,
		.eax = 1u << KVM_FEATURE_CLOCKSOURCE2 };
	NEED(ioctl(m.vcpu[0], KVM_SET_CPUID2, &cpuid) == 0);
	enforce.flags = 1;
	CHECK(ioctl(m.vcpu[0], KVM_ENABLE_CAP, &enforce) == -1 && errno == EINVAL);
	enforce.flags = 0;
	CHECK(ioctl(m.vcpu[0], KVM_ENABLE_CAP, &enforce) == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME) && guest_wrmsr(0, MSR_KVM_WALL_CLOCK_NEW, 0));
	CHECK(!guest_wrmsr(0, MSR_KVM_SYSTEM_TIME, TIME) && !guest_wrmsr(0, MSR_KVM_WALL_CLOCK, 0));
	CHECK(!guest_rdmsr(0, MSR_KVM_SYSTEM_TIME, &value) && guest_rdmsr(0, MSR_KVM_SYSTEM_TIME_NEW, &value));
	enforce.args[0] = 0;
	CHECK(ioctl(m.vcpu[0], KVM_ENABLE_CAP, &enforce) == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME, TIME));
	enforce.cap = KVM_CAP_HYPERV_SYNIC;
	CHECK(ioctl(m.vcpu[0], KVM_ENABLE_CAP, &enforce) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

/* A VM is stopped, its state read and written into another, as migration does. */
static void test_migration(void)
{
	struct kvm_clock_data old, new;
	struct time_page page;
	uint64_t tsc, before, after;

	make_cpus(1);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &(struct kvm_clock_data){ .clock = 3600 * SECOND }) == 0);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	tsc = guest_tsc(0);
	page = page_get(TIME);
	before = page_time(&page, tsc);
	old = clock_get();
	CHECK(client_rdmsr(0, MSR_TSC, &tsc));
	machine_free(&m, 1);
	usleep(50000);
	make_cpus(1);
	old.flags = 0;
	CHECK(client_wrmsr(0, MSR_TSC, tsc) && client_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &old) == 0);
	tsc = guest_tsc(0);
	page = page_get(TIME);
	after = page_time(&page, tsc);
	new = clock_get();
	CHECK(after > before && after <= new.clock + 1);
	CHECK(after - before < SECOND / 2);
	machine_free(&m, 1);
}

/* ---- the TSC -------------------------------------------------------------------------------------------------- */

/* Some KVMs give each guest the host's TSC and cannot move it. */
static bool tsc_moves(void)
{
	uint64_t value;

	make_cpus(1);
	client_wrmsr(0, MSR_TSC, 1);
	client_rdmsr(0, MSR_TSC, &value);
	machine_free(&m, 1);
	return value < __builtin_ia32_rdtsc() / 2;
}

static void check_same_tsc(bool same)
{
	uint64_t a = guest_tsc(0), b = guest_tsc(1), c = guest_tsc(0);

	CHECK((a < b && b < c) == same);
}

/* vCPUs have one TSC unless the client means them not to. The clock is stable if they have. */
static void test_synchronized(void)
{
	uint64_t value;

	make_cpus(2);
	CHECK(clock_get().flags == 0); /* nothing has run */
	check_same_tsc(true);
	CHECK(guest_tsc(0) < 100 * SECOND);
	CHECK(clock_get().flags == (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC));
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	CHECK(guest_wrmsr(1, MSR_KVM_SYSTEM_TIME_NEW, (TIME + 64) | 1));
	CHECK(page_get(TIME).flags == STABLE && page_get(TIME + 64).flags == STABLE);
	/* One is set to another time. */
	CHECK(client_wrmsr(0, MSR_TSC, 1ull << 50));
	check_same_tsc(false);
	CHECK(guest_tsc(0) >> 50 == 1);
	CHECK(clock_get().flags == 0);
	CHECK(page_get(TIME).flags == 0 && page_get(TIME + 64).flags == 0);
	check_clock(0, TIME);
	check_clock(1, TIME + 64);
	/* And the other to what the first was: a moment later, but the client means the same. */
	usleep(1000);
	CHECK(client_wrmsr(1, MSR_TSC, 1ull << 50));
	check_same_tsc(true);
	guest_tsc(1);
	CHECK(clock_get().flags & KVM_CLOCK_TSC_STABLE);
	CHECK(page_get(TIME).flags == STABLE && page_get(TIME + 64).flags == STABLE);
	check_clock(0, TIME);
	check_clock(1, TIME + 64);
	/* The guest's own write is its own. */
	CHECK(guest_wrmsr(1, MSR_TSC, 1000));
	CHECK(guest_tsc(1) < 100 * SECOND && guest_tsc(0) >> 50 == 1);
	CHECK(guest_rdmsr(1, MSR_TSC_ADJUST, &value) && (int64_t)value < -(1ll << 49));
	check_clock(1, TIME + 64);
	machine_free(&m, 2);
}

/* A guest that sets the clock up by the old MSR does not know the flag of stable clocks. */
static void test_old_msr(void)
{
	make_cpus(1);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME, TIME | 1));
	CHECK(page_get(TIME).flags == 0);
	CHECK(clock_get().flags == 0);
	check_clock(0, TIME);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	CHECK(page_get(TIME).flags == STABLE);
	CHECK(clock_get().flags & KVM_CLOCK_TSC_STABLE);
	machine_free(&m, 1);
}

static void test_offset(void)
{
	uint64_t offset = 0, tsc;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };

	attr.addr = (uintptr_t)&offset;
	make_cpus(2);
	CHECK(cap(KVM_CAP_VCPU_ATTRIBUTES) == 1);
	CHECK(ioctl(m.vcpu[0], KVM_HAS_DEVICE_ATTR, &attr) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_DEVICE_ATTR, &attr) == 0);
	tsc = __builtin_ia32_rdtsc();
	CHECK(guest_tsc(0) - (tsc + offset) < SECOND);
	offset = UINT64_C(1) << 60;
	CHECK(ioctl(m.vcpu[0], KVM_SET_DEVICE_ATTR, &attr) == 0);
	CHECK(guest_tsc(0) >> 60 == 1);
	CHECK(clock_get().flags == 0);
	CHECK(ioctl(m.vcpu[1], KVM_SET_DEVICE_ATTR, &attr) == 0);
	check_same_tsc(true);
	CHECK(clock_get().flags & KVM_CLOCK_TSC_STABLE);
	machine_free(&m, 2);
}

static void test_offset_errors(void)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	static const unsigned long requests[] = { KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR };

	make_cpus(1);
	attr.addr = 8;
	for (unsigned i = 0; i < 3; i++) {
		CHECK(ioctl(m.vcpu[0], requests[i], 8) == -1 && errno == EFAULT);
		if (i > 0)
			CHECK(ioctl(m.vcpu[0], requests[i], &attr) == -1 && errno == EFAULT);
		attr.attr = 1;
		CHECK(ioctl(m.vcpu[0], requests[i], &attr) == -1 && errno == ENXIO);
		attr.attr = KVM_VCPU_TSC_OFFSET;
		attr.group = 1;
		CHECK(ioctl(m.vcpu[0], requests[i], &attr) == -1 && errno == ENXIO);
		attr.group = KVM_VCPU_TSC_CTRL;
	}
	machine_free(&m, 1);
}

/* The rate at which the TSC of vCPU 0 runs, in kHz. */
static double measure_khz(void)
{
	uint64_t tsc = guest_tsc(0), ns = nanoseconds(CLOCK_MONOTONIC_RAW);

	usleep(50000);
	tsc = guest_tsc(0) - tsc;
	ns = nanoseconds(CLOCK_MONOTONIC_RAW) - ns;
	return (double)tsc * 1e6 / (double)ns;
}

static void check_rate(double khz)
{
	struct time_page page;
	bool close = false;

	/* On a busy machine time may pass between the looks at the two clocks. */
	for (unsigned tries = 0; !close && tries < 100; tries++) {
		double measured = measure_khz();

		close = measured > khz * 0.98 && measured < khz * 1.02;
	}
	CHECK(close);
	CHECK(guest_wrmsr(0, MSR_KVM_SYSTEM_TIME_NEW, TIME | 1));
	page = page_get(TIME);
	/* One ms of the TSC is 1e6 ns. */
	page.system_time = page.tsc = 0;
	CHECK(page_time(&page, (uint64_t)(khz * 1000)) - 999600000u < 800000u);
	check_clock(0, TIME);
}

static void test_rates(void)
{
	static const unsigned good[] = { 1000, 999999, 1000000, 2345678, 10000000, 2147483646 };
	int host;

	make_cpus(1);
	host = ioctl(m.vm, KVM_GET_TSC_KHZ, 0);
	CHECK(host > 100000 && ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == host);
	check_rate(host);
	CHECK(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, host + host / 10000) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == host + host / 10000);
	CHECK(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, 0) == 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == host);
	if (cap(KVM_CAP_TSC_CONTROL) != 1) {
		machine_free(&m, 1);
		return;
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CHECK(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, good[i]) == 0);
		CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == (int)good[i]);
		check_rate(good[i]);
	}
	CHECK(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, 0x7fffffffu) == -1 && errno == EINVAL);
	CHECK(ioctl(m.vcpu[0], KVM_SET_TSC_KHZ, UINT32_MAX) == -1 && errno == EINVAL);
	CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == 2147483646);
	/* The VM's rate is that of new vCPUs. */
	CHECK(ioctl(m.vm, KVM_SET_TSC_KHZ, 0x7fffffffu) == -1 && errno == EINVAL);
	CHECK(ioctl(m.vm, KVM_GET_TSC_KHZ, 0) == host);
	machine_free(&m, 1);
	machine_make(&m, 0, BYTES);
	CHECK(ioctl(m.vm, KVM_SET_TSC_KHZ, 1500000) == 0);
	CHECK(ioctl(m.vm, KVM_GET_TSC_KHZ, 0) == 1500000);
	m.vcpu[0] = ioctl(m.vm, KVM_CREATE_VCPU, 0);
	CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) == 1500000);
	close(m.vcpu[0]);
	machine_free(&m, 0);
}

int main(void)
{
	test_offered();
	test_page();
	test_set_clock();
	test_stopped();
	test_wall();
	test_nowhere();
	test_logged();
	test_enforced();
	test_migration();
	test_offset_errors();
	test_rates();
	if (tsc_moves()) {
		test_synchronized();
		test_old_msr();
		test_offset();
	}
	return check_end();
}
