/* SPDX-License-Identifier: MIT */
/* The local APIC between three vCPUs: IPIs, priorities, EOI, LINT0 and LINT1, ESR, modes (SDM vol. 3, chapter 11). */
#include "guest.h"

#define ID   0x20u
#define TPR  0x80u
#define PPR  0xa0u
#define EOI  0xb0u
#define LDR  0xd0u
#define DFR  0xe0u
#define SVR  0xf0u
#define ISR  0x100u
#define IRR  0x200u
#define ESR  0x280u
#define ICR  0x300u
#define ICR2 0x310u
#define LVT_LINT0 0x350u
#define LVT_LINT1 0x360u
#define LVT_ERROR 0x370u

#define ASSERT  0x4000u
#define LOGICAL 0x800u
#define SELF    0x40000u
#define ALL     0x80000u
#define OTHERS  0xc0000u

#define BASE   0x1bu
#define OFF    UINT64_C(0xfee00000)
#define XAPIC  UINT64_C(0xfee00800)
#define X2APIC UINT64_C(0xfee00c00)
#define BOOT   UINT64_C(0x100)

static void eoi(unsigned v)
{
	lapic_write(v, EOI, 0);
}

static void send(unsigned v, uint32_t icr, uint8_t destination)
{
	lapic_write(v, ICR2, (uint32_t)destination << 24);
	lapic_write(v, ICR, icr);
}

/* All vCPUs take what they have, and end it. */
static void take_all(void)
{
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		take(v);
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		eoi(v);
}

#define LOGGED3(a, b, c)                                                                                           \
	do {                                                                                                       \
		LOGGED(0, a);                                                                                      \
		LOGGED(1, b);                                                                                      \
		LOGGED(2, c);                                                                                      \
	} while (0)

static void test_shorthands(void)
{
	lapics_on();
	send(1, ASSERT | 0x41, 2);
	CHECK(lapic_read(1, ICR) == (ASSERT | 0x41) && lapic_read(1, ICR2) == 0x02000000);
	take_all();
	LOGGED3("", "", "\x41");
	send(1, SELF | ASSERT | 0x42, 2);
	take_all();
	LOGGED3("", "\x42", "");
	send(1, ALL | ASSERT | 0x43, 2);
	take_all();
	LOGGED3("\x43", "\x43", "\x43");
	send(1, OTHERS | ASSERT | 0x44, 2);
	take_all();
	LOGGED3("\x44", "", "\x44");
	send(1, ASSERT | 0x45, 0xff);
	take_all();
	LOGGED3("\x45", "\x45", "\x45");
	send(1, ASSERT | 0x46, 9);
	take_all();
	LOGGED3("", "", "");
	/* Without the level bit a fixed interrupt is sent, too. */
	send(1, 0x47, 0);
	take_all();
	LOGGED3("\x47", "", "");
}

static void test_logical(void)
{
	lapics_on();
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		lapic_write(v, LDR, 1u << (24 + v));
	send(0, LOGICAL | ASSERT | 0x41, 6);
	take_all();
	LOGGED3("", "\x41", "\x41");
	send(0, LOGICAL | ASSERT | 0x42, 0);
	take_all();
	LOGGED3("", "", "");
	for (unsigned v = 0; v < GUEST_VCPUS; v++) {
		lapic_write(v, DFR, 0);
		CHECK(lapic_read(v, DFR) == 0x0fffffff);
		lapic_write(v, LDR, (0x31u + v) << 24);
		CHECK(lapic_read(v, LDR) == (0x31u + v) << 24);
	}
	send(0, LOGICAL | ASSERT | 0x43, 0x32);
	take_all();
	LOGGED3("", "\x43", "\x43");
	send(0, LOGICAL | ASSERT | 0x44, 0x31);
	take_all();
	LOGGED3("\x44", "", "\x44");
	send(0, LOGICAL | ASSERT | 0x45, 0xff);
	take_all();
	LOGGED3("\x45", "\x45", "\x45");
}

static unsigned logged_total(void)
{
	unsigned n = 0;

	for (unsigned v = 0; v < GUEST_VCPUS; v++) {
		n += guest_word(v, GUEST_COUNT);
		memset(g.m.memory + GUEST_OWN + v * PAGE, 0, 4);
	}
	return n;
}

static void test_lowest_priority(void)
{
	lapics_on();
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		lapic_write(v, LDR, 1u << (24 + v));
	for (unsigned i = 0; i < 6; i++) {
		send(0, LOGICAL | ASSERT | 0x100 | (0x41 + i), 7);
		take_all();
		CHECK(logged_total() == 1);
	}
	send(0, ASSERT | 0x151, 1);
	take_all();
	LOGGED3("", "\x51", "");
}

static void test_tpr(void)
{
	lapics_on();
	lapic_write(0, TPR, 0x41);
	CHECK(lapic_read(0, PPR) == 0x41 && lapic_read(0, TPR) == 0x41);
	msi(LAPIC, 0x35);
	msi(LAPIC, 0x45);
	msi(LAPIC, 0x4f);
	take(0);
	LOGGED(0, "");
	CHECK(lapic_read(0, IRR + 0x10) == 1u << 21 && lapic_read(0, IRR + 0x20) == (1u << 5 | 1u << 15));
	msi(LAPIC, 0x50);
	take(0);
	LOGGED(0, "\x50");
	eoi(0);
	lapic_write(0, TPR, 0x3f);
	take(0);
	eoi(0);
	take(0);
	eoi(0);
	take(0);
	LOGGED(0, "\x4f\x45");
	lapic_write(0, TPR, 0x2f);
	take(0);
	LOGGED(0, "\x35");
	eoi(0);
	/* With the TPR at 15, nothing comes. */
	lapic_write(0, TPR, 0xff);
	msi(LAPIC, 0xff);
	take(0);
	LOGGED(0, "");
	lapic_write(0, TPR, 0);
	take(0);
	LOGGED(0, "\xff");
}

/* CR8 is the upper half of the TPR. */
static void test_cr8(void)
{
	struct kvm_regs regs;

	lapics_on();
	lapic_write(0, TPR, 0x45);
	CHECK(guest_step(0, guest_read_cr8, 0, 0, 0, 0) == GUEST_DONE);
	NEED(ioctl(g.m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rax == 4);
	CHECK(guest_step(0, guest_write_cr8, 6, 0, 0, 0) == GUEST_DONE);
	CHECK(lapic_read(0, TPR) == 0x60 && lapic_get(0, TPR) == 0x60);
	msi(LAPIC, 0x65);
	take(0);
	LOGGED(0, "");
	CHECK(guest_step(0, guest_write_cr8, 5, 0, 0, 0) == GUEST_DONE);
	take(0);
	LOGGED(0, "\x65");
	CHECK(guest_step(0, guest_write_cr8, 16, 0, 0, 0) == GUEST_PORT_GP);
}

static void test_in_service(void)
{
	lapics_on();
	msi(LAPIC, 0x41);
	take(0);
	LOGGED(0, "\x41");
	CHECK(lapic_read(0, ISR + 0x20) == 2 && lapic_read(0, PPR) == 0x40);
	/* The same class waits, a higher one does not. */
	msi(LAPIC, 0x41);
	msi(LAPIC, 0x4f);
	take(0);
	LOGGED(0, "");
	msi(LAPIC, 0x51);
	take(0);
	LOGGED(0, "\x51");
	msi(LAPIC, 0x61);
	take(0);
	LOGGED(0, "\x61");
	CHECK(lapic_read(0, PPR) == 0x60);
	/* Each EOI ends the highest. */
	eoi(0);
	CHECK(lapic_read(0, PPR) == 0x50 && lapic_read(0, ISR + 0x30) == 0);
	eoi(0);
	CHECK(lapic_read(0, PPR) == 0x40 && lapic_read(0, ISR + 0x20) == 2);
	take(0);
	LOGGED(0, "");
	eoi(0);
	take(0);
	LOGGED(0, "\x4f");
	eoi(0);
	take(0);
	LOGGED(0, "\x41");
	eoi(0);
	CHECK(lapic_read(0, ISR + 0x20) == 0 && lapic_read(0, PPR) == 0);
	eoi(0); /* one too many does nothing */
	/* The TPR counts when it is higher than what is in service. */
	msi(LAPIC, 0x41);
	take(0);
	LOGGED(0, "\x41");
	lapic_write(0, TPR, 0x55);
	CHECK(lapic_read(0, PPR) == 0x55);
	eoi(0);
	lapic_write(0, TPR, 0);
	CHECK(lapic_read(0, PPR) == 0);
}

/* Handlers that let others in. */
static void test_nested_handlers(void)
{
	lapics_on();
	guest_action(0x30, 0xdf, GUEST_NEST | GUEST_MARK | GUEST_EOI);
	msi(LAPIC, 0x41);
	msi(LAPIC, 0x43);
	msi(LAPIC, 0x61);
	msi(LAPIC, 0x31);
	take(0);
	/* All are pending: the highest first, and none of the lower ones into its handler. */
	LOGGED(0, "\x61" GUEST_END "\x43" GUEST_END "\x41" GUEST_END "\x31" GUEST_END);
	CHECK(lapic_read(0, PPR) == 0);
}

/* Each vector in IRR, taken in order. */
static void test_every_vector(void)
{
	lapics_on();
	lapic_write(0, SVR, 0x1ff);
	guest_action(0, 255, GUEST_EOI);
	for (unsigned vector = 16; vector < 256; vector++)
		if (vector != 18) /* a machine check's vector is fine for an interrupt, but 13 would be taken for #GP */
			CHECK(msi(LAPIC, vector) == 1);
	take(0);
	CHECK(guest_word(0, GUEST_COUNT) == 239);
	for (unsigned i = 0; i < 239; i++) {
		uint8_t vector = g.m.memory[GUEST_OWN + GUEST_LOG + i];

		CHECK(vector == (i < 237 ? 255 - i : 254 - i));
	}
	CHECK(msi(LAPIC, 15) == 1);
	memset(g.m.memory + GUEST_OWN, 0, 4);
	take(0);
	LOGGED(0, "");
}

/* An APIC that its SVR turns off: its LVTs are masked, and it gives what it has, but takes nothing new. */
static void test_off_by_svr(void)
{
	lapics_on();
	lapic_write(0, LVT_LINT1, 0x400);
	lapic_write(0, LVT_ERROR, 0x70);
	msi(LAPIC, 0x61);
	lapic_write(0, SVR, 0xef);
	CHECK(lapic_read(0, LVT_LINT1) == 0x10400 && lapic_read(0, LVT_ERROR) == 0x10070);
	lapic_write(0, LVT_LINT1, 0x400);
	CHECK(lapic_read(0, LVT_LINT1) == 0x10400);
	CHECK(msi(LAPIC, 0x51) == 0);
	take(0);
	LOGGED(0, "\x61");
	eoi(0);
	send(1, ASSERT | 0x400, 0);
	take(0);
	LOGGED(0, "\x02");
	lapic_write(0, SVR, 0x1ef);
	take(0);
	LOGGED(0, "");
	CHECK(msi(LAPIC, 0x51) == 1);
	take(0);
	LOGGED(0, "\x51");
	CHECK(lapic_read(0, LVT_LINT1) == 0x10400);
}

/* Turned off by its base MSR: nothing comes. As in KVM, the registers come back as they were. */
static void test_off_by_base(void)
{
	lapics_on();
	lapic_write(0, LDR, 0x01000000);
	msi(LAPIC, 0x41);
	CHECK(wrmsr(0, BASE, OFF | BOOT) == GUEST_DONE);
	CHECK(msi(LAPIC, 0x51) <= 0);
	CHECK(msi(LAPIC | 0xff << 12, 0x52) == 2);
	CHECK(wrmsr(0, 0x808, 0) == GUEST_PORT_GP);
	take(0);
	LOGGED(0, "");
	CHECK(wrmsr(0, BASE, XAPIC | BOOT) == GUEST_DONE);
	CHECK(lapic_read(0, SVR) == 0x1ef && lapic_read(0, IRR + 0x20) == 2 && lapic_read(0, LDR) == 0x01000000);
	take(0);
	LOGGED(0, "\x41");
	eoi(0);
	CHECK(msi(LAPIC, 0x53) == 1);
	take(0);
	LOGGED(0, "\x53");
}

static void test_errors(void)
{
	lapics_on();
	lapic_write(0, LVT_ERROR, 0x70);
	/* KVM's APIC finds no errors in what it sends or gets. ESR is cleared by a write, whatever the value. */
	lapic_write(0, ICR, SELF | ASSERT | 5);
	lapic_write(0, ESR, 0xff);
	CHECK(lapic_read(0, ESR) == 0);
	take(0);
	LOGGED(0, "");
	CHECK(lapic_read(0, LVT_ERROR) == 0x70);
}

/* LINT1 is the NMI pin: KVM_NMI goes through it. LINT0 is the PIC's. */
static void test_lint(void)
{
	lapics_on();
	lapic_write(0, LVT_LINT1, 0x400);
	CHECK(ioctl(g.m.vcpu[0], KVM_NMI, 0) == 0);
	take(0);
	LOGGED(0, "\x02");
	/* KVM_NMI does not ask the LVT: the client has to. */
	lapic_write(0, LVT_LINT1, 0x10400);
	CHECK(ioctl(g.m.vcpu[0], KVM_NMI, 0) == 0);
	take(0);
	LOGGED(0, "\x02");
	CHECK(lapic_read(0, LVT_LINT0) == 0x700);
	lapic_write(0, LVT_LINT0, 0xffffffff);
	CHECK((lapic_read(0, LVT_LINT0) & 0x107ff) == 0x107ff);
}

static void to_x2apic(unsigned v)
{
	CHECK(wrmsr(v, BASE, X2APIC | (v ? 0 : BOOT)) == GUEST_DONE);
	CHECK(wrmsr(v, 0x80f, 0x1ef) == GUEST_DONE);
}

static void x2apic_eoi(void)
{
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		CHECK(wrmsr(v, 0x80b, 0) == GUEST_DONE);
}

static void x2apic_send(unsigned v, uint32_t low, uint32_t destination)
{
	CHECK(wrmsr(v, 0x830, (uint64_t)destination << 32 | low) == GUEST_DONE);
	CHECK(rdmsr(v, 0x830) == ((uint64_t)destination << 32 | low));
	for (unsigned i = 0; i < GUEST_VCPUS; i++)
		take(i);
	x2apic_eoi();
}

static void test_x2apic(void)
{
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		to_x2apic(v);
	CHECK(rdmsr(2, 0x802) == 2 && rdmsr(2, 0x80d) == 4 && rdmsr(0, 0x803) == 0x50014);
	x2apic_send(0, ASSERT | 0x41, 2);
	LOGGED3("", "", "\x41");
	x2apic_send(0, ASSERT | 0x42, 0xffffffff);
	LOGGED3("\x42", "\x42", "\x42");
	x2apic_send(0, ASSERT | 0x43, 0xff);
	LOGGED3("", "", "");
	/* Logical: cluster 0, one bit for each of its 16. */
	x2apic_send(1, LOGICAL | ASSERT | 0x44, 5);
	LOGGED3("\x44", "", "\x44");
	x2apic_send(1, LOGICAL | ASSERT | 0x45, 0x10007);
	LOGGED3("", "", "");
	x2apic_send(1, LOGICAL | ASSERT | 0x46, 0xffffffff);
	LOGGED3("\x46", "\x46", "\x46");
	x2apic_send(1, OTHERS | ASSERT | 0x47, 0);
	LOGGED3("\x47", "", "\x47");
	x2apic_send(1, SELF | ASSERT | 0x48, 0);
	LOGGED3("", "\x48", "");
	CHECK(wrmsr(2, 0x83f, 0x49) == GUEST_DONE);
	take(2);
	x2apic_eoi();
	LOGGED3("", "", "\x49");
	x2apic_send(0, ASSERT | 0x400, 1);
	LOGGED3("", "\x02", "");
	/* A device's 8-bit destination reaches an x2APIC; 0xff is for all there, too. */
	CHECK(msi(LAPIC | 1 << 12, 0x51) == 1 && msi(LAPIC | 0xff << 12, 0x61) == 3);
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		take(v);
	x2apic_eoi();
	x2apic_eoi();
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		take(v);
	x2apic_eoi();
	LOGGED3("\x61", "\x61\x51", "\x61");
}

/* Some vCPUs in x2APIC mode, some not. */
static void test_mixed_modes(void)
{
	lapics_on();
	to_x2apic(1);
	send(0, ASSERT | 0x41, 1);
	CHECK(wrmsr(1, 0x830, UINT64_C(2) << 32 | ASSERT | 0x42) == GUEST_DONE);
	CHECK(wrmsr(1, 0x830, ASSERT | 0x43) == GUEST_DONE);
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		take(v);
	LOGGED3("\x43", "\x41", "\x42");
	/* The memory of an x2APIC is a hole. */
	CHECK(lapic_read(1, 0x30) == UINT32_MAX);
	CHECK(lapic_read(2, 0x30) == 0x50014);
}

/* Accesses that are no register of 4 bytes. */
static void test_widths(void)
{
	lapics_on();
	lapic_write(0, TPR, 0x20);
	CHECK(guest_step(0, guest_write8, 0x55, LAPIC + TPR, 0, 0) == GUEST_DONE);
	CHECK(lapic_read(0, TPR) == 0x20);
	lapic_read(0, TPR + 4);
	lapic_write(0, TPR + 4, 0x55);
	CHECK(lapic_read(0, TPR) == 0x20);
	for (uint32_t offset = 0; offset < 0x1000; offset += 0x10)
		lapic_read(0, offset);
	for (uint32_t offset = 0x400; offset < 0x1000; offset += 0x40)
		lapic_write(0, offset, 0xffffffff);
	CHECK(lapic_read(0, TPR) == 0x20 && lapic_read(0, 0x30) == 0x50014);
}

/* What a client may set: anything. */
static void test_hostile_state(void)
{
	struct kvm_lapic_state state;

	for (unsigned i = 0; i < 8; i++) {
		memset(&state, i & 1 ? 0xff : 0x5a, sizeof(state));
		if (i & 2)
			memset(state.regs + SVR, 0xff, 16);
		if (i & 4)
			memset(state.regs + ISR, 0, 0x80);
		memset(state.regs + 0x380, 0, 16); /* no timer */
		ioctl(g.m.vcpu[0], KVM_SET_LAPIC, &state);
		CHECK(ioctl(g.m.vcpu[0], KVM_GET_LAPIC, &state) == 0);
		CHECK(guest_step(0, guest_write_cr8, i, 0, 0, 0) == GUEST_DONE);
	}
	CHECK(guest_step(0, guest_write, 0, LAPIC + EOI, 0, 0) == GUEST_DONE);
}

static const struct guest_test tests[] = {
	{ "shorthands", test_shorthands, CHIPS_FULL, 0 },
	{ "logical", test_logical, CHIPS_FULL, 0 },
	{ "lowest priority", test_lowest_priority, CHIPS_FULL, 0 },
	{ "tpr", test_tpr, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "cr8", test_cr8, CHIPS_FULL, 0 },
	{ "in service", test_in_service, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "nested handlers", test_nested_handlers, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "every vector", test_every_vector, CHIPS_FULL, 0 },
	{ "off by svr", test_off_by_svr, CHIPS_FULL, 0 },
	{ "off by base", test_off_by_base, CHIPS_FULL, 0 },
	{ "errors", test_errors, CHIPS_FULL, 0 },
	{ "lint", test_lint, CHIPS_FULL, 0 },
	{ "x2apic", test_x2apic, CHIPS_FULL, 0 },
	{ "mixed modes", test_mixed_modes, CHIPS_FULL, 0 },
	{ "widths", test_widths, CHIPS_FULL, 0 },
	{ "hostile state", test_hostile_state, CHIPS_FULL, GUEST_STAYS },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
