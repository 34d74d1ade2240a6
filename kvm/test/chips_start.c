/* SPDX-License-Identifier: MIT */
/*
 * vCPUs that wait: INIT and SIPI in every state, NMIs, and what ends HLT. Here a vCPU has a thread of its own while it
 * waits or runs.
 */
#include "guest.h"

#define TPR   0x80u
#define EOI   0xb0u
#define ICR   0x300u
#define ICR2  0x310u
#define LINT0 0x350u

#define FIXED   0x4000u
#define NMI     0x4400u
#define INIT    0x4500u
#define STARTUP 0x4600u
#define OTHERS  0xc0000u

static void send(unsigned v, uint32_t icr, uint8_t destination)
{
	lapic_write(v, ICR2, (uint32_t)destination << 24);
	lapic_write(v, ICR, icr);
}

/* In the second run, the machine moves although the vCPU has not ended its step. */
static void move_while(unsigned v)
{
	if (!g.moves)
		return;
	CHECK(!guest_interrupt(v));
	guest_move();
	guest_begin_as_is(v);
}

static struct kvm_sregs sregs_of(unsigned v)
{
	struct kvm_sregs sregs;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_SREGS, &sregs) == 0);
	return sregs;
}

/* Did a SIPI with `vector` start the vCPU? It has executed the OUT of guest_real. */
static bool started_at(unsigned v, uint8_t vector)
{
	struct kvm_sregs sregs = sregs_of(v);

	return sregs.cs.base == (uint64_t)vector << 12 && sregs.cs.selector == vector << 8 && !(sregs.cr0 & 1) &&
	       sregs.efer == 0;
}

/* ---- INIT and SIPI --------------------------------------------------------------------------------------- */

static void test_start_stepwise(void)
{
	lapics_on();
	set_mp_state(1, KVM_MP_STATE_UNINITIALIZED);
	send(0, STARTUP | 6, 1);
	/* Without an INIT before it, a SIPI is lost. */
	CHECK(mp_state(1) == KVM_MP_STATE_UNINITIALIZED);
	send(0, INIT, 1);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	/* One more INIT changes nothing; interrupts and NMIs do not start it. */
	send(0, INIT, 1);
	send(0, FIXED | 0x41, 1);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	send(0, STARTUP | 6, 1);
	CHECK(mp_state(1) == KVM_MP_STATE_RUNNABLE);
	send(0, STARTUP | 7, 1); /* the usual second one, which is ignored */
	CHECK(guest_go_on(1) == GUEST_PORT_REAL && started_at(1, 6));
	CHECK(mp_state(1) == KVM_MP_STATE_RUNNABLE);
	/* INIT resets the local APIC. */
	CHECK(lapic_get(1, 0xf0) == 0xff && lapic_get(1, 0x20) == 0x01000000 && lapic_get(1, 0x350) == 0x10000);
	/* INIT of a vCPU that runs, and a SIPI that both come while it is out of KVM_RUN. */
	send(0, INIT, 1);
	send(0, STARTUP | 7, 1);
	CHECK(guest_go_on(1) == GUEST_PORT_REAL && started_at(1, 7));
	/* INIT level de-assert is none. */
	send(0, 0x8500, 1);
	CHECK(mp_state(1) == KVM_MP_STATE_RUNNABLE);
}

/* INIT keeps x2APIC mode, and the mode's ID. */
static void test_start_x2apic(void)
{
	CHECK(wrmsr(1, 0x1b, 0xfee00c00) == GUEST_DONE);
	CHECK(wrmsr(0, 0x1b, 0xfee00d00) == GUEST_DONE);
	CHECK(wrmsr(0, 0x830, UINT64_C(1) << 32 | INIT) == GUEST_DONE);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	CHECK(wrmsr(0, 0x830, UINT64_C(1) << 32 | STARTUP | 6) == GUEST_DONE);
	CHECK(guest_go_on(1) == GUEST_PORT_REAL && started_at(1, 6));
	CHECK(sregs_of(1).apic_base == 0xfee00c00);
}

static void test_start_uninitialized(void)
{
	lapics_on();
	set_mp_state(1, KVM_MP_STATE_UNINITIALIZED);
	guest_begin_as_is(1);
	usleep(2000);
	move_while(1);
	send(0, STARTUP | 7, 1);
	send(0, INIT, 1);
	usleep(2000);
	move_while(1);
	send(0, STARTUP | 6, 1);
	CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, 6));
}

/* INIT takes a vCPU out of a loop with interrupts off. */
static void test_start_running(void)
{
	lapics_on();
	for (unsigned i = 0; i < 3; i++) {
		if (i == 0)
			guest_begin(1, guest_spin, 0, 0, 0, 0);
		else
			guest_begin_as_is(1);
		usleep(2000);
		move_while(1);
		send(0, INIT, 1);
		send(0, STARTUP | (6 + i % 2), 1);
		CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, (uint8_t)(6 + i % 2)));
	}
}

static void test_start_halted(void)
{
	lapics_on();
	for (unsigned i = 0; i < 2; i++) {
		if (i == 0)
			guest_begin(1, guest_halt, 0, 0, 0, 0);
		else
			guest_begin_as_is(1); /* real mode, halted, interrupts off */
		usleep(2000);
		move_while(1);
		send(0, INIT, 1);
		usleep(2000);
		move_while(1);
		CHECK(!guest_has_ended(1));
		send(0, STARTUP | 6, 1);
		CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, 6));
	}
}

/* A vCPU that waits for a SIPI takes no interrupt and no NMI. */
static void test_waits_for_sipi(void)
{
	lapics_on();
	send(0, INIT, 1);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	guest_begin_as_is(1);
	send(0, FIXED | 0x41, 1);
	CHECK(msi(LAPIC | 1 << 12, 0x42) == 0); /* INIT turns the APIC off */
	usleep(5000);
	move_while(1);
	CHECK(!guest_has_ended(1));
	send(0, STARTUP | 6, 1);
	CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, 6));
	LOGGED(1, "");
}

/* All others at once, as an operating system may do it. */
static void test_start_all(void)
{
	lapics_on();
	for (unsigned v = 1; v < GUEST_VCPUS; v++) {
		set_mp_state(v, KVM_MP_STATE_UNINITIALIZED);
		guest_begin_as_is(v);
	}
	send(0, INIT | OTHERS, 0);
	send(0, STARTUP | OTHERS | 6, 0);
	send(0, STARTUP | OTHERS | 6, 0);
	for (unsigned v = 1; v < GUEST_VCPUS; v++)
		CHECK(guest_end(v) == GUEST_PORT_REAL && started_at(v, 6));
}

/*
 * A local APIC has its ID also while an INIT resets it: what is sent in this moment finds it. The client sends INITs as
 * fast as it can, so many come in the middle of the reset that one before asked for.
 */
static void test_init_while_resetting(void)
{
	unsigned lost = 0;

	lapics_on();
	send(0, INIT, 1);
	guest_begin_as_is(1);
	for (unsigned i = 0; i < 200000; i++)
		lost += msi(LAPIC | 1 << 12, 0x500) != 1; /* INIT */
	CHECK(lost == 0);
	CHECK(msi(LAPIC | 1 << 12, 0x606) == 1); /* STARTUP */
	CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, 6));
}

/*
 * A SIPI belongs to the INIT before it. The vCPU takes an INIT when the next one and its SIPI come.
 * It must not take the SIPI alone, and then the INIT before that.
 */
static void test_sipi_behind_inits(void)
{
	lapics_on();
	for (unsigned i = 0; i < 3000; i++) {
		CHECK(msi(LAPIC | 1 << 12, 0x500) == 1);
		guest_begin_as_is(1);
		CHECK(msi(LAPIC | 1 << 12, 0x500) == 1);
		for (volatile unsigned wait = i * 7919 % 400000; wait; wait--)
			continue; /* the vCPU takes some 50 us to wake */
		CHECK(msi(LAPIC | 1 << 12, 0x500) == 1);
		CHECK(msi(LAPIC | 1 << 12, 0x606) == 1);
		CHECK(guest_end(1) == GUEST_PORT_REAL && started_at(1, 6));
	}
}

/* INIT of the boot vCPU: it runs from the reset vector. */
static void test_init_of_boot_vcpu(void)
{
	uint8_t *rom = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(rom != MAP_FAILED && machine_slot(g.m.vm, 1, 0, 0xfffff000, PAGE, rom) == 0);
	memcpy(rom + 0xff0, guest_real, (size_t)(guest_real_end - guest_real));
	lapics_on();
	send(1, INIT, 0);
	CHECK(guest_go_on(0) == GUEST_PORT_REAL);
	CHECK(sregs_of(0).cs.base == 0xffff0000 && sregs_of(0).cs.selector == 0xf000);
	/* A SIPI does nothing to it. */
	send(1, STARTUP | 6, 0);
	CHECK(mp_state(0) == KVM_MP_STATE_RUNNABLE);
	/* And while it is halted, in real mode with interrupts off. */
	guest_begin_as_is(0);
	usleep(2000);
	send(1, INIT, 0);
	CHECK(guest_end(0) == GUEST_PORT_REAL && sregs_of(0).cs.base == 0xffff0000);
	CHECK(machine_slot(g.m.vm, 1, 0, 0xfffff000, 0, NULL) == 0);
	munmap(rom, PAGE);
}

/* ---- HLT ------------------------------------------------------------------------------------------------- */

/* vCPU 1 halts; then `wake` runs. */
static void wakes(const uint8_t *routine, void (*wake)(void))
{
	guest_begin(1, routine, 0, 0, 0, 0);
	usleep(1000);
	move_while(1);
	wake();
	CHECK(guest_end(1) == GUEST_DONE);
}

static void wake_msi(void)
{
	CHECK(msi(LAPIC | 1 << 12, 0x41) == 1);
}

static void wake_ipi(void)
{
	send(0, FIXED | 0x42, 1);
}

static void wake_ioapic(void)
{
	write32(0, 0xfec00000, 0x10 + 2 * 20 + 1);
	write32(0, 0xfec00010, 0x01000000);
	write32(0, 0xfec00000, 0x10 + 2 * 20);
	write32(0, 0xfec00010, 0x43);
	line(20, 1);
	line(20, 0);
}

static void wake_nmi_ipi(void)
{
	send(0, NMI, 1);
}

/* KVM_NMI is an ioctl of the vCPU, so that it waits for KVM_RUN: a client uses a message. */
static void wake_nmi_msi(void)
{
	CHECK(msi(LAPIC | 1 << 12, 0x400) == 1);
}

static void test_halt(void)
{
	lapics_on();
	wakes(guest_halt, wake_msi);
	LOGGED(1, "\x41");
	lapic_write(1, EOI, 0);
	wakes(guest_halt, wake_ipi);
	LOGGED(1, "\x42");
	lapic_write(1, EOI, 0);
	wakes(guest_halt, wake_ioapic);
	LOGGED(1, "\x43");
	lapic_write(1, EOI, 0);
	wakes(guest_halt, wake_nmi_ipi);
	LOGGED(1, "\x02");
	/* With interrupts off only an NMI ends HLT. */
	wakes(guest_halt_off, wake_nmi_msi);
	LOGGED(1, "\x02");
}

static void test_halt_pic(void)
{
	lapics_on();
	lapic_write(0, LINT0, 0x10700);
	lapic_write(1, LINT0, 0x700);
	out(0, 0x20, 0x11);
	out(0, 0x21, 0x20);
	out(0, 0x21, 4);
	out(0, 0x21, 1);
	out(0, 0x21, 0);
	guest_begin(1, guest_halt, 0, 0, 0, 0);
	usleep(1000);
	move_while(1);
	line(3, 1);
	CHECK(guest_end(1) == GUEST_DONE);
	LOGGED(1, "\x23");
}

/* What does not end HLT: an interrupt that the TPR or the IF holds off. */
static void test_halt_goes_on(void)
{
	lapics_on();
	lapic_write(1, TPR, 0x50);
	guest_begin(1, guest_halt, 0, 0, 0, 0);
	CHECK(msi(LAPIC | 1 << 12, 0x45) == 1);
	usleep(5000);
	move_while(1);
	usleep(1000);
	CHECK(!guest_has_ended(1));
	CHECK(msi(LAPIC | 1 << 12, 0x61) == 1);
	CHECK(guest_end(1) == GUEST_DONE);
	LOGGED(1, "\x61");
	lapic_write(1, EOI, 0);
	lapic_write(1, TPR, 0);
	guest_begin(1, guest_halt_off, 0, 0, 0, 0);
	usleep(5000);
	move_while(1);
	usleep(1000);
	CHECK(!guest_has_ended(1));
	/* A signal takes it out, and KVM says that it is halted. */
	CHECK(!guest_interrupt(1));
	CHECK(mp_state(1) == KVM_MP_STATE_HALTED);
	/* The client may end HLT by KVM_SET_MP_STATE. */
	set_mp_state(1, KVM_MP_STATE_RUNNABLE);
	CHECK(guest_go_on(1) == GUEST_DONE);
	take(1);
	LOGGED(1, "\x45");
}

/* ---- NMIs ------------------------------------------------------------------------------------------------ */

static struct kvm_vcpu_events events_of(unsigned v)
{
	struct kvm_vcpu_events events;

	NEED(ioctl(g.m.vcpu[v], KVM_GET_VCPU_EVENTS, &events) == 0);
	return events;
}

/* An NMI in the handler of an NMI waits for its IRET. */
static void test_nmi_in_nmi(void)
{
	lapics_on();
	guest_action(2, 2, GUEST_EXIT);
	send(0, NMI, 1);
	CHECK(guest_step(1, guest_window, 0, 0, 0, 0) == GUEST_PORT_EXIT);
	CHECK(events_of(1).nmi.masked == 1);
	send(0, NMI, 1);
	send(0, NMI, 1);
	send(0, FIXED | 0x41, 1);
	/* All the other NMIs of this time are one. */
	CHECK(guest_go_on(1) == GUEST_PORT_EXIT);
	CHECK(events_of(1).nmi.masked == 1);
	CHECK(guest_go_on(1) == GUEST_DONE);
	CHECK(events_of(1).nmi.masked == 0);
	CHECK(log_is(1, "\x02\x02\x41", 3) || log_is(1, "\x02\x41\x02", 3));
}

/* NMIs reach a vCPU that spins with interrupts off. */
static void test_nmi_running(void)
{
	lapics_on();
	guest_begin(1, guest_spin, 0, 0, 0, 0);
	for (uint32_t i = 1; i <= 20; i++) {
		CHECK(msi(LAPIC | 1 << 12, 0x400) == 1);
		guest_wait_log(1, i);
		move_while(1);
	}
	__atomic_store_n((uint32_t *)(void *)(g.m.memory + GUEST_OWN + PAGE + GUEST_GO), 1, __ATOMIC_RELEASE);
	CHECK(guest_end(1) == GUEST_DONE);
	CHECK(guest_word(1, GUEST_COUNT) == 20);
}

/* ---- two vCPUs that talk --------------------------------------------------------------------------------- */

#define TURNS 1000u

static void talk(const uint8_t *first, const uint8_t *second, uint32_t turns)
{
	guest_action(0x41, 0x42, GUEST_EOI);
	for (unsigned v = 0; v < 2; v++)
		memset(g.m.memory + GUEST_OWN + v * PAGE, 0, 4);
	set_mp_state(0, KVM_MP_STATE_RUNNABLE);
	guest_prepare(0, first, FIXED | 0x42, 0x01000000, turns, 0);
	guest_prepare(1, second, FIXED | 0x41, 0x00000000, turns, 0);
	guest_begin_as_is(1);
	guest_begin_as_is(0);
	CHECK(guest_end(0) == GUEST_DONE && guest_end(1) == GUEST_DONE);
	CHECK(guest_word(0, GUEST_COUNT) == turns && guest_word(1, GUEST_COUNT) == turns);
}

/* One IPI that is lost, or one halted vCPU that it does not wake, and both wait for ever. */
static void test_talk(void)
{
	lapics_on();
	talk(guest_ping, guest_pong, TURNS);
	talk(guest_ping_spin, guest_pong, TURNS);
	talk(guest_ping, guest_pong_spin, TURNS);
	talk(guest_ping_spin, guest_pong_spin, 20); /* on one processor, each waits for the other's time slice */
}

static const struct guest_test tests[] = {
	{ "start stepwise", test_start_stepwise, CHIPS_FULL, 0 },
	{ "start x2apic", test_start_x2apic, CHIPS_FULL, 0 },
	{ "start uninitialized", test_start_uninitialized, CHIPS_FULL, 0 },
	{ "start running", test_start_running, CHIPS_FULL, 0 },
	{ "start halted", test_start_halted, CHIPS_FULL, 0 },
	{ "waits for sipi", test_waits_for_sipi, CHIPS_FULL, 0 },
	{ "start all", test_start_all, CHIPS_FULL, 0 },
	{ "init while resetting", test_init_while_resetting, CHIPS_FULL, 0 },
	{ "SIPI behind INITs", test_sipi_behind_inits, CHIPS_FULL, GUEST_STAYS },
	{ "init of boot vcpu", test_init_of_boot_vcpu, CHIPS_FULL, GUEST_STAYS },
	{ "halt", test_halt, CHIPS_FULL, 0 },
	{ "halt pic", test_halt_pic, CHIPS_FULL, 0 },
	{ "halt goes on", test_halt_goes_on, CHIPS_FULL, 0 },
	{ "nmi in nmi", test_nmi_in_nmi, CHIPS_FULL, 0 },
	{ "nmi running", test_nmi_running, CHIPS_FULL, 0 },
	{ "talk", test_talk, CHIPS_FULL, GUEST_STAYS },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
