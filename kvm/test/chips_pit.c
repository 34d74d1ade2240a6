/* SPDX-License-Identifier: MIT */
/*
 * The PIT (Intel's data sheet 231164) and port 0x61, as a guest on vCPU 0 and a client see them.
 *
 * Time goes on while a step is made, however long that takes. So a count that is read must lie between what it would be
 * for the shortest and the longest time that may have passed.
 */
#include "guest.h"
#include <time.h>

#define COUNTER(n) ((uint16_t)(0x40 + (n)))
#define CONTROL    0x43
#define SPEAKER    0x61

#define FREQUENCY  1193181ull
#define MS         1000000ull

#define LOW   0x10 /* access, in the control word */
#define HIGH  0x20
#define BOTH  0x30

#define BASE   0x20 /* the vector of IRQ 0 */
#define MASTER 0x20u
#define SLAVE  0xa0u
#define IOAPIC 0xfec00000u

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct kvm_pit_state2 state(void)
{
	struct kvm_pit_state2 pit;

	memset(&pit, 0xee, sizeof(pit));
	NEED(ioctl(g.m.vm, KVM_GET_PIT2, &pit) == 0);
	return pit;
}

static void set_state(const struct kvm_pit_state2 *pit)
{
	NEED(ioctl(g.m.vm, KVM_SET_PIT2, pit) == 0);
}

static void control(unsigned channel, uint8_t access, unsigned mode)
{
	out(0, CONTROL, (uint8_t)(channel << 6 | access | mode << 1));
}

static void program(unsigned channel, unsigned mode, uint16_t count)
{
	control(channel, BOTH, mode);
	out(0, COUNTER(channel), (uint8_t)count);
	out(0, COUNTER(channel), (uint8_t)(count >> 8));
}

static uint16_t in_both(unsigned channel)
{
	uint8_t low = in(0, COUNTER(channel));

	return (uint16_t)(low | in(0, COUNTER(channel)) << 8);
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static void test_errors(void)
{
	struct kvm_reinject_control reinject = { .pit_reinject = 1 };
	struct kvm_pit_config config = { 0 };
	struct kvm_pit_state2 pit2 = { .flags = 0 };
	struct kvm_pit_state pit = { .channels = { { .count = 0 } } };
	int vm = ioctl(g.m.kvm, KVM_CREATE_VM, 0);

	NEED(vm >= 0);
	CHECK(ioctl(vm, KVM_GET_PIT, &pit) == -1 && errno == ENXIO);
	CHECK(ioctl(vm, KVM_SET_PIT, &pit) == -1 && errno == ENXIO);
	CHECK(ioctl(vm, KVM_GET_PIT2, &pit2) == -1 && errno == ENXIO);
	CHECK(ioctl(vm, KVM_SET_PIT2, &pit2) == -1 && errno == ENXIO);
	CHECK(ioctl(vm, KVM_REINJECT_CONTROL, &reinject) == -1 && errno == ENXIO);
	CHECK(ioctl(vm, KVM_GET_PIT, 8ul) == -1 && errno == EFAULT);
	CHECK(ioctl(vm, KVM_SET_PIT2, 8ul) == -1 && errno == EFAULT);
	CHECK(ioctl(vm, KVM_REINJECT_CONTROL, 8ul) == -1 && errno == EFAULT);
	CHECK(ioctl(vm, KVM_CREATE_PIT2, &config) == -1 && errno == ENOENT);
	CHECK(ioctl(vm, KVM_CREATE_PIT, 0) == -1 && errno == ENOENT);
	NEED(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0);
	CHECK(ioctl(vm, KVM_CREATE_PIT2, 8ul) == -1 && errno == EFAULT);
	CHECK(ioctl(vm, KVM_CREATE_PIT, 8ul) == 0);
	CHECK(ioctl(vm, KVM_CREATE_PIT2, &config) == -1 && errno == EEXIST);
	CHECK(ioctl(vm, KVM_CREATE_PIT, 0) == -1 && errno == EEXIST);
	CHECK(ioctl(vm, KVM_GET_PIT2, 8ul) == -1 && errno == EFAULT);
	CHECK(ioctl(vm, KVM_GET_PIT, &pit) == 0 && ioctl(vm, KVM_SET_PIT, &pit) == 0);
	CHECK(ioctl(vm, KVM_REINJECT_CONTROL, &reinject) == 0);
	close(vm);
}

static void test_reset(void)
{
	struct kvm_pit_state2 pit = state();

	for (unsigned i = 0; i < 3; i++) {
		const struct kvm_pit_channel_state *c = &pit.channels[i];

		CHECK(c->count == 0x10000 && c->mode == 0xff && c->gate == (i != 2) && c->rw_mode == 0);
		CHECK(!c->read_state && !c->write_state && !c->count_latched && !c->status_latched && !c->bcd);
	}
	CHECK(pit.flags == 0 && pit.reserved[0] == 0 && pit.reserved[8] == 0);
}

/* What a client sets comes back, and counts that no guest could set do no harm. */
static void test_client_state(void)
{
	struct kvm_pit_state2 pit = state(), back;
	struct kvm_pit_state old;

	pit.channels[1] = (struct kvm_pit_channel_state){
		.count = 0x1234, .latched_count = 0x5678, .count_latched = 3, .status_latched = 1, .status = 0x9a,
		.read_state = 4, .write_state = 3, .write_latch = 0xbc, .rw_mode = 3, .mode = 2, .bcd = 1, .gate = 1,
	};
	pit.flags = KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	set_state(&pit);
	back = state();
	pit.channels[1].count_load_time = back.channels[1].count_load_time;
	CHECK(memcmp(&pit.channels[1], &back.channels[1], sizeof(pit.channels[1])) == 0);
	CHECK(back.flags == KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	/* The older request leaves the flags. */
	CHECK(ioctl(g.m.vm, KVM_GET_PIT, &old) == 0 && memcmp(&old, &back.channels, sizeof(old)) == 0);
	CHECK(ioctl(g.m.vm, KVM_SET_PIT, &old) == 0 && state().flags == KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	CHECK(in(0, COUNTER(1)) == 0x9a && in_both(1) == 0x5678);
	for (unsigned mode = 0; mode < 9; mode++) {
		for (unsigned i = 0; i < 3; i++) {
			memset(&pit.channels[i], 0xff, sizeof(pit.channels[i]));
			pit.channels[i].count = mode % 3 ? mode % 3 - 1 : UINT32_MAX;
			pit.channels[i].mode = (uint8_t)mode;
			pit.channels[i].count_latched = pit.channels[i].status_latched = 0;
		}
		pit.flags = 0;
		set_state(&pit);
		for (unsigned i = 0; i < 3; i++)
			in_both(i);
		out(0, CONTROL, 0xce); /* latch the state of all */
		in_both(0);
	}
}

/* ---- counts ---------------------------------------------------------------------------------------------- */

static uint64_t began, begun; /* the last count was loaded between these two */

static void load(unsigned channel, unsigned mode, uint16_t count)
{
	control(channel, BOTH, mode);
	out(0, COUNTER(channel), (uint8_t)count);
	began = now();
	out(0, COUNTER(channel), (uint8_t)(count >> 8));
	begun = now();
}

/*
 * Is the count what the mode says, for some time that may have passed until now? A machine that moves begins its counts
 * anew. `by`: how far one tick counts. `modulus`: of the count.
 */
static bool count_fits(uint16_t value, unsigned count, unsigned by, unsigned modulus, uint64_t read_began)
{
	uint64_t least = g.moves ? 0 : (read_began - begun) * FREQUENCY / 1000000000u * by;
	uint64_t most = ((now() - began) * FREQUENCY / 1000000000u + 1) * by;
	uint64_t seen = (count - value + modulus) % modulus;

	if (most - least >= modulus)
		return true; /* any count would do; the caller tries again */
	while (seen < least)
		seen += modulus;
	return seen <= most;
}

static void test_counts(void)
{
	static const struct {
		unsigned mode, count, by, modulus;
	} cases[] = {
		{ 0, 0, 1, 0x10000 }, { 0, 60000, 1, 0x10000 }, { 1, 60000, 1, 0x10000 }, { 2, 60000, 1, 60000 },
		{ 2, 0, 1, 0x10000 }, { 3, 60000, 2, 60000 }, { 3, 0, 2, 0x10000 }, { 4, 60000, 1, 0x10000 },
		{ 5, 60000, 1, 0x10000 },
	};

	out(0, SPEAKER, 1);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned channel = 0; channel < 3; channel++) {
			uint64_t read_began;
			uint16_t value;

			if (channel == 0 && cases[i].mode == 5)
				continue; /* nothing counts */
			load(channel, cases[i].mode, (uint16_t)cases[i].count);
			CHECK(state().channels[channel].count == (cases[i].count ? cases[i].count : 0x10000));
			CHECK(state().channels[channel].mode == cases[i].mode);
			usleep(8000); /* so that the least count is far from the most */
			read_began = now();
			out(0, CONTROL, (uint8_t)(channel << 6));
			value = state().channels[channel].latched_count;
			CHECK(count_fits(value, cases[i].count, cases[i].by, cases[i].modulus, read_began));
			CHECK(in_both(channel) == value);
			CHECK(state().channels[channel].count_latched == 0);
		}
	}
	program(2, 7, 100); /* 6 and 7 are 2 and 3 */
	CHECK(state().channels[2].mode == 3);
	program(2, 6, 100);
	CHECK(state().channels[2].mode == 2);
}

/* One byte or two, and what a latch holds. */
static void test_access(void)
{
	struct kvm_pit_channel_state c;
	uint16_t value;

	control(1, LOW, 4);
	out(0, COUNTER(1), 0x80);
	CHECK(state().channels[1].count == 0x80);
	out(0, COUNTER(1), 0x90);
	CHECK(state().channels[1].count == 0x90);
	control(1, HIGH, 4);
	out(0, COUNTER(1), 0x90);
	CHECK(state().channels[1].count == 0x9000);
	/* Both: the count changes with the second byte only. */
	control(1, BOTH, 4);
	out(0, COUNTER(1), 0x34);
	c = state().channels[1];
	CHECK(c.count == 0x9000 && c.write_latch == 0x34 && c.write_state == 4);
	out(0, COUNTER(1), 0x12);
	c = state().channels[1];
	CHECK(c.count == 0x1234 && c.write_state == 3);
	/* A second latch command changes nothing; the first byte read leaves the second. */
	out(0, CONTROL, 1 << 6);
	value = state().channels[1].latched_count;
	out(0, CONTROL, 1 << 6);
	out(0, CONTROL, 0xd4); /* read-back of the count of channel 1 */
	CHECK(state().channels[1].latched_count == value && state().channels[1].count_latched == 3);
	CHECK(in(0, COUNTER(1)) == (value & 0xff) && state().channels[1].count_latched == 2);
	CHECK(in(0, COUNTER(1)) == value >> 8 && state().channels[1].count_latched == 0);
	/* Without a latch: low, high, low. */
	in(0, COUNTER(1));
	CHECK(state().channels[1].read_state == 4);
	in(0, COUNTER(1));
	CHECK(state().channels[1].read_state == 3);
	/* Latched with one byte of access: one read. */
	control(1, HIGH, 2);
	out(0, COUNTER(1), 0xc0);
	out(0, CONTROL, 1 << 6);
	value = state().channels[1].latched_count;
	CHECK(state().channels[1].count_latched == 2 && in(0, COUNTER(1)) == value >> 8);
	CHECK(state().channels[1].count_latched == 0);
	control(1, LOW, 2);
	out(0, COUNTER(1), 0xc0);
	out(0, CONTROL, 1 << 6);
	value = state().channels[1].latched_count;
	CHECK(in(0, COUNTER(1)) == (value & 0xff) && state().channels[1].count_latched == 0);
}

/* The status of a channel: output, access, mode, BCD. */
static void test_status(void)
{
	control(1, BOTH, 2);
	out(0, CONTROL, 0xe4); /* read-back of the status of channel 1 */
	CHECK((in(0, COUNTER(1)) & 0x7f) == 0x34);
	out(0, CONTROL, 0x71); /* channel 1, both bytes, mode 0, BCD */
	out(0, CONTROL, 0xe4);
	CHECK((in(0, COUNTER(1)) & 0x7f) == 0x31 && state().channels[1].bcd == 1);
	/* Status and count of two channels; the status comes first. */
	program(1, 2, 0x8000);
	program(2, 3, 0x8000);
	out(0, CONTROL, 0xcc);
	CHECK(state().channels[1].status_latched && state().channels[2].status_latched);
	CHECK(state().channels[0].status_latched == 0);
	CHECK((in(0, COUNTER(1)) & 0x7f) == 0x34);
	CHECK(in_both(1) == state().channels[1].latched_count);
	CHECK((in(0, COUNTER(2)) & 0x7f) == 0x36);
	CHECK(in_both(2) == state().channels[2].latched_count);
	CHECK(!state().channels[1].status_latched && !state().channels[1].count_latched);
}

static bool output(unsigned channel)
{
	out(0, CONTROL, (uint8_t)(0xe0 | 2 << channel));
	return in(0, COUNTER(channel)) & 0x80;
}

/* Modes 0 and 1 say when a count has ended; mode 3 is a square wave. */
static void test_outputs(void)
{
	unsigned seen = 0;

	out(0, SPEAKER, 1);
	program(2, 0, 2);
	usleep(1000);
	if (!g.moves)
		CHECK(output(2) && in(0, SPEAKER) & 0x20);
	program(2, 1, 2);
	usleep(1000);
	if (!g.moves)
		CHECK(!output(2) && !(in(0, SPEAKER) & 0x20));
	if (g.moves)
		return; /* each step begins the count anew, so the output may never change */
	program(2, 3, 0xffff);
	for (unsigned i = 0; i < 100000 && seen != 3; i++)
		seen |= in(0, SPEAKER) & 0x20 ? 1 : 2;
	CHECK(seen == 3);
}

/* Port 0x61: gate and data of the speaker, the output of channel 2, and a bit that toggles. */
static void test_speaker(void)
{
	unsigned seen = 0;
	uint64_t loaded;

	out(0, SPEAKER, 0);
	CHECK((in(0, SPEAKER) & 3) == 0 && state().flags == 0);
	out(0, SPEAKER, 0xfe);
	CHECK((in(0, SPEAKER) & 0xcf) == 2 && state().flags == KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	CHECK(state().channels[2].gate == 0);
	out(0, SPEAKER, 1);
	CHECK((in(0, SPEAKER) & 3) == 1 && state().flags == 0 && state().channels[2].gate == 1);
	for (unsigned i = 0; i < 10000 && seen != 3; i++)
		seen |= in(0, SPEAKER) & 0x10 ? 1 : 2;
	CHECK(seen == 3);
	/* A gate that rises begins the count anew, in modes 1, 2, 3 and 5; one that stays or falls does not. */
	for (unsigned mode = 0; mode < 6 && !g.moves; mode++) {
		program(2, mode, 0);
		loaded = (uint64_t)state().channels[2].count_load_time;
		out(0, SPEAKER, 1);
		out(0, SPEAKER, 0);
		CHECK((uint64_t)state().channels[2].count_load_time == loaded);
		out(0, SPEAKER, 1);
		CHECK(((uint64_t)state().channels[2].count_load_time == loaded) == (mode == 0 || mode == 4));
	}
}

/* A wider access is one to the first port. The control word cannot be read. */
static void test_width(void)
{
	struct kvm_regs regs;

	program(1, 2, 0x8000);
	out(0, CONTROL, 1 << 6);
	CHECK(guest_step(0, guest_in16, UINT32_MAX, 0, 0, COUNTER(1)) == GUEST_DONE);
	NEED(ioctl(g.m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK((regs.rax & 0xffff) == (state().channels[1].latched_count & 0xff));
	CHECK(state().channels[1].count_latched == 2);
	/* The port after the PIT's is another's. */
	regs.rip = GUEST_TEXT + (uint64_t)(guest_in16 - guest_text);
	regs.rdx = CONTROL;
	NEED(ioctl(g.m.vcpu[0], KVM_SET_REGS, &regs) == 0 && ioctl(g.m.vcpu[0], KVM_RUN, 0) == 0);
	CHECK(g.m.run[0]->exit_reason == KVM_EXIT_IO && g.m.run[0]->io.port == CONTROL && g.m.run[0]->io.size == 2);
}

/* ---- ticks ----------------------------------------------------------------------------------------------- */

static void pic_init(void)
{
	out(0, MASTER, 0x11);
	out(0, MASTER + 1, BASE);
	out(0, MASTER + 1, 4);
	out(0, MASTER + 1, 1);
	out(0, SLAVE + 1, 0xff);
	out(0, MASTER + 1, 0xfe);
	guest_action(BASE, BASE, GUEST_EOI_MASTER);
}

#define HZ_100 11932
#define HZ_50  23864

static uint32_t ticks(void)
{
	return guest_word(0, GUEST_COUNT);
}

static void forget(void)
{
	__atomic_store_n((uint32_t *)(void *)(g.m.memory + GUEST_OWN), 0, __ATOMIC_RELEASE);
}

static void stop(void)
{
	control(0, BOTH, 5);
	out(0, COUNTER(0), 1);
	out(0, COUNTER(0), 0);
	take(0);
	out(0, MASTER, 0x20);
	forget();
}

/* As many ticks as the time has, and no tick early. */
static void test_rate(void)
{
	static const uint8_t modes[] = { 2, 3 };

	pic_init();
	for (unsigned i = 0; i < 2; i++) {
		uint64_t begin, passed;

		forget();
		begin = now();
		program(0, modes[i], HZ_100);
		CHECK(guest_step(0, i ? guest_spin_until : guest_halt_until, 30, 0, 0, 0) == GUEST_DONE);
		passed = now() - begin;
		CHECK(passed >= 300 * MS && passed < 1300 * MS);
		if (passed < 300 * MS || passed >= 1300 * MS)
			fprintf(stderr, "30 ticks of 10 ms in %llu us\n", (unsigned long long)passed / 1000);
		stop();
	}
}

/* Modes 0, 1 and 4 tick once; mode 5 waits for a gate that never rises. */
static void test_once(void)
{
	pic_init();
	for (unsigned mode = 0; mode < 6; mode++) {
		if (mode == 2 || mode == 3)
			continue;
		program(0, mode, HZ_100);
		if (mode != 5)
			CHECK(guest_step(0, guest_halt, 0, 0, 0, 0) == GUEST_DONE);
		usleep(50000);
		take(0);
		CHECK(ticks() == (mode != 5));
		stop();
	}
}

static void reinject(bool on)
{
	struct kvm_reinject_control in = { .pit_reinject = on };

	CHECK(ioctl(g.m.vm, KVM_REINJECT_CONTROL, &in) == 0);
}

/* The guest has interrupts off for 15 ticks of 20 ms. Returns: how many ns it then takes until it has 14. */
static uint64_t catch_up(bool on)
{
	uint64_t begin, passed;

	reinject(on);
	program(0, 2, HZ_50);
	usleep(300000);
	begin = now();
	CHECK(guest_step(0, guest_halt_until, 14, 0, 0, 0) == GUEST_DONE);
	passed = now() - begin;
	stop();
	return passed;
}

/* Other programs may keep a vCPU from its ticks, or the PIT's thread until several are due, but not each time. */
static bool catches_up(bool on)
{
	for (unsigned i = 0; i < 5; i++) {
		uint64_t passed = catch_up(on);

		if (on ? passed < 200 * MS : passed > 240 * MS)
			return on;
	}
	return !on;
}

/* Ticks that come while the guest has interrupts off are given later, one after the other; or they are lost. */
static void test_reinjection(void)
{
	pic_init();
	CHECK(!catches_up(false));
	CHECK(catches_up(true));
	CHECK(!catches_up(false));
	/* A new count forgets the ticks of the old one. */
	reinject(true);
	program(0, 2, HZ_50);
	usleep(300000);
	program(0, 0, 0);
	usleep(10000);
	take(0);
	usleep(10000);
	take(0);
	CHECK(ticks() >= 1 && ticks() < 4);
	stop();
}

/* No guest may have more than one tick in 200 us. */
static void test_fastest(void)
{
	uint64_t begin, passed;

	pic_init();
	begin = now();
	program(0, 2, 1);
	CHECK(guest_step(0, guest_spin_until, 50, 0, 0, 0) == GUEST_DONE);
	passed = now() - begin;
	CHECK(passed >= 50 * MS / 5);
	stop();
}

/* While the HPET has line 0, channel 0 is silent. It goes on when it has the line again. */
static void test_hpet(void)
{
	struct kvm_pit_state2 pit;

	pic_init();
	program(0, 2, HZ_100);
	CHECK(guest_step(0, guest_halt, 0, 0, 0, 0) == GUEST_DONE);
	pit = state();
	pit.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
	set_state(&pit);
	take(0);
	forget();
	usleep(50000);
	take(0);
	CHECK(ticks() == 0);
	CHECK(state().flags == KVM_PIT_FLAGS_HPET_LEGACY && state().channels[0].mode == 2);
	program(0, 2, HZ_100);
	usleep(50000);
	take(0);
	CHECK(ticks() == 0);
	pit = state();
	pit.flags = 0;
	set_state(&pit);
	CHECK(guest_step(0, guest_halt_until, 3, 0, 0, 0) == GUEST_DONE);
	stop();
}

/* A local APIC whose LINT0 is in NMI mode gets an NMI with each tick, whatever the PIC says. */
static void test_watchdog(void)
{
	pic_init();
	out(0, MASTER + 1, 0xff);
	program(0, 2, HZ_100);
	usleep(50000);
	take(0);
	CHECK(ticks() == 0);
	lapics_on();
	lapic_write(0, 0x350, 0x400);
	program(0, 2, HZ_100);
	CHECK(guest_step(0, guest_spin_until, 1, 0, 0, 0) == GUEST_DONE);
	CHECK(ticks() >= 1 && g.m.memory[GUEST_OWN + GUEST_LOG] == 2);
	lapic_write(0, 0x350, 0x10400);
}

/*
 * From the PIC to the I/O APIC, as Linux goes. The tick that waits in the PIC is never ended there, so the I/O APIC's
 * ticks may not wait for that.
 */
static void test_to_the_ioapic(void)
{
	pic_init();
	lapics_on();
	guest_action(0x51, 0x51, GUEST_EOI);
	program(0, 2, HZ_100);
	usleep(100000);
	out(0, MASTER + 1, 0xff);
	write32(0, IOAPIC, 0x10);
	write32(0, IOAPIC + 0x10, 0x51);
	CHECK(guest_step(0, guest_halt_until, 5, 0, 0, 0) == GUEST_DONE);
	CHECK(g.m.memory[GUEST_OWN + GUEST_LOG] == 0x51 && g.m.memory[GUEST_OWN + GUEST_LOG + 4] == 0x51);
	/* Masked for a while, and unmasked. */
	write32(0, IOAPIC + 0x10, 0x10051);
	usleep(100000);
	forget();
	write32(0, IOAPIC + 0x10, 0x51);
	CHECK(guest_step(0, guest_halt_until, 5, 0, 0, 0) == GUEST_DONE);
	/* And back to the PIC. */
	write32(0, IOAPIC + 0x10, 0x10051);
	usleep(100000);
	forget();
	out(0, MASTER + 1, 0xfe);
	CHECK(guest_step(0, guest_halt_until, 5, 0, 0, 0) == GUEST_DONE);
	CHECK(g.m.memory[GUEST_OWN + GUEST_LOG] == BASE);
}

static const struct guest_test tests[] = {
	{ "errors", test_errors, CHIPS_PIT, GUEST_STAYS },
	{ "reset", test_reset, CHIPS_PIT, 0 },
	{ "client state", test_client_state, CHIPS_PIT, 0 },
	{ "counts", test_counts, CHIPS_PIT, 0 },
	{ "access", test_access, CHIPS_PIT, 0 },
	{ "status", test_status, CHIPS_PIT, 0 },
	{ "outputs", test_outputs, CHIPS_PIT, 0 },
	{ "speaker", test_speaker, CHIPS_PIT, 0 },
	{ "width", test_width, CHIPS_PIT, 0 },
	{ "rate", test_rate, CHIPS_PIT, 0 },
	{ "once", test_once, CHIPS_PIT, GUEST_STAYS },
	{ "reinjection", test_reinjection, CHIPS_PIT, GUEST_STAYS },
	{ "fastest", test_fastest, CHIPS_PIT, 0 },
	{ "hpet", test_hpet, CHIPS_PIT, 0 },
	{ "watchdog", test_watchdog, CHIPS_PIT, 0 },
	{ "to the I/O APIC", test_to_the_ioapic, CHIPS_PIT, 0 },
};

int main(int argc, char **argv)
{
	int failed = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || failed;
}
