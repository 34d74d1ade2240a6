/* SPDX-License-Identifier: MIT */
/*
 * The local APIC's timer in its three modes. Events may be late here, and never early or lost: a test waits for what
 * must come, and compares counts with the time that has passed for sure.
 */
#include "guest.h"
#include <sys/resource.h>
#include <time.h>

#define LVT     0x320u
#define INITIAL 0x380u
#define CURRENT 0x390u
#define DIVIDE  0x3e0u

#define PERIODIC 0x20000u
#define DEADLINE 0x40000u
#define MASKED   0x10000u

#define BY_1   0xbu
#define BY_128 0xau

#define LONG  UINT32_MAX
#define SHORT 1000000u /* 1 ms: the bus runs at 1 GHz */

#define TSC          0x10u
#define TSC_DEADLINE 0x6e0u

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(void)
{
	lapics_on();
	guest_action(0x41, 0x43, GUEST_EOI);
}

/*
 * Nothing came. In KVM a one-shot count or a deadline that has ended may end once more in the VM that it moves to,
 * since the state does not say that it has.
 */
static void nothing_came(unsigned v)
{
	take(v);
	if (g.moves)
		memset(g.m.memory + GUEST_OWN + v * PAGE, 0, 4);
	LOGGED(v, "");
}

static bool logged(unsigned v, uint8_t vector)
{
	return memchr(g.m.memory + GUEST_OWN + v * PAGE + GUEST_LOG, vector, guest_word(v, GUEST_COUNT));
}

/* The timer's interrupt came: one, or, see above, more. */
static void came(unsigned v, uint8_t vector)
{
	CHECK(logged(v, vector));
	CHECK(g.moves || guest_word(v, GUEST_COUNT) == 1);
	memset(g.m.memory + GUEST_OWN + v * PAGE, 0, 4);
}

static void halt_until(unsigned v, uint8_t vector)
{
	while (!logged(v, vector))
		CHECK(guest_step(v, guest_halt, 0, 0, 0, 0) == GUEST_DONE);
	came(v, vector);
}

static void move_while(unsigned v)
{
	if (!g.moves)
		return;
	if (guest_interrupt(v))
		return; /* its step has ended already: guest_end() would say the same again */
	guest_move();
	guest_begin_as_is(v);
}

static void set_timer(unsigned v, uint32_t lvt, uint32_t divide, uint32_t initial)
{
	lapic_write(v, DIVIDE, divide);
	lapic_write(v, LVT, lvt);
	lapic_write(v, INITIAL, initial);
}

static void test_one_shot(void)
{
	begin();
	set_timer(1, 0x41, BY_1, SHORT);
	halt_until(1, 0x41);
	CHECK(lapic_read(1, CURRENT) == 0 && lapic_read(1, INITIAL) == SHORT);
	usleep(3000);
	nothing_came(1);
	/* The same count again. */
	lapic_write(1, INITIAL, SHORT);
	halt_until(1, 0x41);
}

static void test_periodic(void)
{
	begin();
	set_timer(1, PERIODIC | 0x41, BY_1, SHORT);
	CHECK(guest_step(1, guest_halt_until, 3, 0, 0, 0) == GUEST_DONE);
	CHECK(guest_step(1, guest_halt_until, 5, 0, 0, 0) == GUEST_DONE);
	/* Interrupts a guest that spins, too. */
	CHECK(guest_step(1, guest_spin_until, 8, 0, 0, 0) == GUEST_DONE);
	CHECK(lapic_read(1, CURRENT) <= SHORT);
	lapic_write(1, INITIAL, 0);
	take(1);
	memset(g.m.memory + GUEST_OWN + PAGE, 0, 4); /* those that were due */
	usleep(3000);
	nothing_came(1);
	CHECK(lapic_read(1, CURRENT) == 0);
}

/* Move while the vCPU waits for its timer. */
static void test_waits(void)
{
	begin();
	set_timer(1, PERIODIC | 0x41, BY_1, 5 * SHORT);
	guest_prepare(1, guest_halt_until, 4, 0, 0, 0);
	guest_begin_as_is(1);
	for (unsigned i = 0; i < 3; i++) {
		usleep(2000);
		if (g.thread[1].thread)
			move_while(1);
	}
	if (g.thread[1].thread)
		CHECK(guest_end(1) == GUEST_DONE);
	CHECK(guest_word(1, GUEST_COUNT) >= 4);
}

static void wait_for_zero(unsigned v)
{
	while (lapic_read(v, CURRENT) != 0)
		usleep(200);
}

static long sleeps(void)
{
	struct rusage usage;

	NEED(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage.ru_nvcsw;
}

/* A masked timer has nothing to end a HLT for: the vCPU's thread sleeps on, however short the period is. */
static void test_masked_sleeps(void)
{
	long before;

	begin();
	set_timer(1, MASKED | PERIODIC | 0x41, BY_1, SHORT);
	guest_begin(1, guest_halt_until, 1, 0, 0, 0);
	usleep(20000);
	before = sleeps();
	usleep(200000);
	CHECK(sleeps() - before < 50);
	CHECK(!guest_has_ended(1));
	CHECK(msi(0xfee01000u, 0x42) == 1);
	CHECK(guest_end(1) == GUEST_DONE);
	LOGGED(1, "\x42");
}

static void test_masked(void)
{
	begin();
	/* What ends while it is masked is lost. */
	set_timer(1, MASKED | 0x41, BY_1, SHORT);
	wait_for_zero(1);
	lapic_write(1, LVT, 0x41);
	nothing_came(1);
	/* Also when nobody looked at the count meanwhile. */
	set_timer(1, MASKED | 0x41, BY_1, SHORT);
	CHECK(guest_step(1, guest_write_late, 0x41, LAPIC + LVT, 30000000, 0) == GUEST_DONE);
	nothing_came(1);
	/* Unmasked in time, it comes, with the vector of then. */
	set_timer(1, MASKED | 0x41, BY_1, 50 * SHORT);
	lapic_write(1, LVT, 0x42);
	CHECK(lapic_read(1, INITIAL) == 50 * SHORT);
	halt_until(1, 0x42);
	/* To a guest that spins, too. */
	set_timer(1, PERIODIC | MASKED | 0x41, BY_1, SHORT);
	lapic_write(1, LVT, PERIODIC | 0x43);
	CHECK(guest_step(1, guest_spin_until, 4, 0, 0, 0) == GUEST_DONE);
	lapic_write(1, INITIAL, 0);
	take(1);
	memset(g.m.memory + GUEST_OWN + PAGE, 0, 4);
	/* A reserved vector is not delivered. */
	set_timer(1, 5, BY_1, SHORT);
	wait_for_zero(1);
	nothing_came(1);
}

static void test_rewritten(void)
{
	begin();
	set_timer(1, 0x41, BY_128, LONG);
	CHECK(lapic_read(1, CURRENT) != 0);
	lapic_write(1, INITIAL, 0);
	CHECK(lapic_read(1, CURRENT) == 0);
	nothing_came(1);
	lapic_write(1, INITIAL, LONG);
	set_timer(1, 0x41, BY_1, SHORT);
	halt_until(1, 0x41);
	/* From one-shot to periodic and back while it runs: the count goes on. */
	set_timer(1, 0x41, BY_128, LONG);
	lapic_write(1, LVT, PERIODIC | 0x41);
	CHECK(lapic_read(1, CURRENT) != 0 && lapic_read(1, INITIAL) == LONG);
	lapic_write(1, LVT, 0x41);
	CHECK(lapic_read(1, CURRENT) != 0);
	/* To TSC-deadline mode: it stops. */
	lapic_write(1, LVT, DEADLINE | 0x41);
	CHECK(lapic_read(1, CURRENT) == 0);
	lapic_write(1, INITIAL, LONG);
	CHECK(lapic_read(1, CURRENT) == 0);
	lapic_write(1, LVT, 0x41);
	CHECK(lapic_read(1, CURRENT) == 0 && lapic_read(1, INITIAL) == 0);
	set_timer(1, 0x41, BY_1, 50 * SHORT);
	lapic_write(1, LVT, DEADLINE | 0x41);
	/* On a busy machine it may have ended before. And KVM ends a one-shot count again at a new divisor. */
	take(1);
	memset(g.m.memory + GUEST_OWN + PAGE, 0, 4);
	usleep(60000);
	nothing_came(1);
}

/* The count goes down by one every so many ns, for each value of the divide register. */
static void test_divide(void)
{
	static const unsigned by[] = { 2, 4, 8, 16, 0, 0, 0, 0, 32, 64, 128, 1 };

	begin();
	for (unsigned value = 0; value < sizeof(by) / sizeof(by[0]); value++) {
		uint64_t start, slept, passed;

		if (!by[value])
			continue;
		start = now_ns();
		set_timer(1, 0x41, value, LONG);
		CHECK(lapic_read(1, DIVIDE) == value);
		slept = now_ns();
		usleep(2000);
		slept = now_ns() - slept;
		passed = (uint64_t)(LONG - lapic_read(1, CURRENT)) * by[value];
		CHECK(passed + by[value] >= slept && passed <= now_ns() - start + by[value]);
	}
	lapic_write(1, DIVIDE, 0xffffffff);
	CHECK(lapic_read(1, DIVIDE) == 0xb);
}

/* The divide register changes while the timer runs: what is left of the count goes on at the new rate. */
static void test_divide_running(void)
{
	uint64_t start = now_ns();
	uint32_t first, second;

	begin();
	set_timer(1, 0x41, BY_1, LONG);
	first = lapic_read(1, CURRENT);
	lapic_write(1, DIVIDE, BY_128);
	second = lapic_read(1, CURRENT);
	CHECK(second != 0 && second <= first && LONG - second <= now_ns() - start + 128);
	lapic_write(1, DIVIDE, BY_1);
	CHECK(lapic_read(1, CURRENT) <= second);
}

static uint64_t tsc_ms(void)
{
	return (uint64_t)ioctl(g.m.vcpu[1], KVM_GET_TSC_KHZ, 0);
}

static void test_deadline(void)
{
	begin();
	lapic_write(1, LVT, DEADLINE | 0x41);
	/* In the past: at once. */
	CHECK(wrmsr(1, TSC_DEADLINE, 1) == GUEST_DONE);
	take(1);
	came(1, 0x41);
	CHECK(rdmsr(1, TSC_DEADLINE) == 0);
	CHECK(wrmsr(1, TSC_DEADLINE, rdmsr(1, TSC) + 5 * tsc_ms()) == GUEST_DONE);
	halt_until(1, 0x41);
	CHECK(rdmsr(1, TSC_DEADLINE) == 0);
	/* Far away, it is readable, and a 0 takes it back. */
	CHECK(wrmsr(1, TSC_DEADLINE, UINT64_C(1) << 60) == GUEST_DONE);
	CHECK(rdmsr(1, TSC_DEADLINE) == UINT64_C(1) << 60);
	CHECK(wrmsr(1, TSC_DEADLINE, 0) == GUEST_DONE);
	CHECK(rdmsr(1, TSC_DEADLINE) == 0);
	/* A later one, then an earlier one. */
	CHECK(wrmsr(1, TSC_DEADLINE, UINT64_C(1) << 60) == GUEST_DONE);
	CHECK(wrmsr(1, TSC_DEADLINE, rdmsr(1, TSC) + tsc_ms()) == GUEST_DONE);
	CHECK(guest_step(1, guest_spin_until, 1, 0, 0, 0) == GUEST_DONE);
	came(1, 0x41);
	/* In the other modes the MSR does nothing. */
	lapic_write(1, LVT, 0x41);
	CHECK(wrmsr(1, TSC_DEADLINE, 1) == GUEST_DONE);
	nothing_came(1);
	CHECK(rdmsr(1, TSC_DEADLINE) == 0);
}

static void test_deadline_masked(void)
{
	begin();
	lapic_write(1, LVT, DEADLINE | MASKED | 0x41);
	CHECK(wrmsr(1, TSC_DEADLINE, 1) == GUEST_DONE);
	nothing_came(1);
	lapic_write(1, LVT, DEADLINE | 0x41);
	nothing_came(1);
}

/* The timer does not end HLT with interrupts off, and its interrupt is there afterwards. */
static void test_halt_off(void)
{
	begin();
	lapic_write(1, LVT, 0x41);
	lapic_write(1, DIVIDE, BY_1);
	guest_begin(1, guest_halt_off, 0, 0, 0, 0);
	CHECK(!guest_interrupt(1));
	CHECK(mp_state(1) == KVM_MP_STATE_HALTED);
	set_mp_state(1, KVM_MP_STATE_RUNNABLE);
	CHECK(guest_go_on(1) == GUEST_DONE);
	lapic_write(1, INITIAL, SHORT);
	guest_begin(1, guest_halt_off, 0, 0, 0, 0);
	usleep(5000);
	move_while(1);
	usleep(2000);
	CHECK(!guest_has_ended(1));
	CHECK(msi(LAPIC | 1 << 12, 0x400) == 1);
	CHECK(guest_end(1) == GUEST_DONE);
	while (guest_word(1, GUEST_COUNT) < 2)
		take(1);
	LOGGED(1, "\x02\x41");
}

static void test_x2apic(void)
{
	guest_action(0x41, 0x42, GUEST_EOI_X2APIC);
	CHECK(wrmsr(1, 0x1b, 0xfee00c00) == GUEST_DONE);
	CHECK(wrmsr(1, 0x80f, 0x1ef) == GUEST_DONE);
	CHECK(wrmsr(1, 0x83e, BY_1) == GUEST_DONE && wrmsr(1, 0x832, 0x41) == GUEST_DONE);
	CHECK(wrmsr(1, 0x838, SHORT) == GUEST_DONE);
	halt_until(1, 0x41);
	CHECK(rdmsr(1, 0x839) == 0 && rdmsr(1, 0x838) == SHORT && rdmsr(1, 0x832) == 0x41);
	CHECK(wrmsr(1, 0x839, 1) == GUEST_PORT_GP);
	CHECK(wrmsr(1, 0x832, DEADLINE | 0x42) == GUEST_DONE);
	CHECK(wrmsr(1, TSC_DEADLINE, 1) == GUEST_DONE);
	take(1);
	came(1, 0x42);
}

/* INIT stops the timer. */
static void test_init(void)
{
	begin();
	set_timer(1, PERIODIC | 0x41, BY_1, SHORT);
	lapic_write(0, 0x310, 0x01000000);
	lapic_write(0, 0x300, 0x4500);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	CHECK(lapic_get(1, INITIAL) == 0 && lapic_get(1, CURRENT) == 0 && lapic_get(1, LVT) == MASKED);
	usleep(3000);
	CHECK(lapic_get(1, 0x220) == 0);
}

/* Each vCPU's own timer, all at once. */
static void test_all(void)
{
	begin();
	for (unsigned v = 0; v < GUEST_VCPUS; v++) {
		set_timer(v, PERIODIC | (0x41 + v), BY_1, SHORT);
		guest_prepare(v, v == 1 ? guest_spin_until : guest_halt_until, 30, 0, 0, 0);
	}
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		guest_begin_as_is(v);
	for (unsigned v = 0; v < GUEST_VCPUS; v++) {
		CHECK(guest_end(v) == GUEST_DONE);
		CHECK(g.m.memory[GUEST_OWN + v * PAGE + GUEST_LOG + 29] == 0x41 + v);
	}
}

static const struct guest_test tests[] = {
	{ "one-shot", test_one_shot, CHIPS_FULL, 0 },
	{ "periodic", test_periodic, CHIPS_FULL, 0 },
	{ "waits", test_waits, CHIPS_FULL, 0 },
	{ "masked", test_masked, CHIPS_FULL, 0 },
	{ "masked sleeps", test_masked_sleeps, CHIPS_FULL, GUEST_STAYS },
	{ "rewritten", test_rewritten, CHIPS_FULL, 0 },
	{ "divide", test_divide, CHIPS_FULL, 0 },
	{ "divide running", test_divide_running, CHIPS_FULL, 0 },
	{ "deadline", test_deadline, CHIPS_FULL, 0 },
	{ "deadline masked", test_deadline_masked, CHIPS_FULL, 0 },
	{ "halt off", test_halt_off, CHIPS_FULL, 0 },
	{ "x2apic", test_x2apic, CHIPS_FULL, 0 },
	{ "init", test_init, CHIPS_FULL, 0 },
	{ "all", test_all, CHIPS_FULL, GUEST_STAYS },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
