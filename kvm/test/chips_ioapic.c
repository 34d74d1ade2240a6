/* SPDX-License-Identifier: MIT */
/* The I/O APIC of an in-kernel irqchip, with three vCPUs; and the messages of clients, which go the same way. */
#include "guest.h"

#define IOAPIC 0xfec00000u

#define PIN    20u /* one that the PIC does not have */
#define VECTOR 0x51u

#define FIXED    0x000u
#define LOWEST   0x100u
#define NMI      0x400u
#define INIT     0x500u
#define EXTINT   0x700u
#define LOGICAL  0x800u
#define REMOTE   0x4000u
#define STATUS   0x1000u
#define LEVEL    0x8000u
#define MASKED   0x10000u
#define LOW_ACTIVE 0x2000u

static void ioapic_write(uint32_t reg, uint32_t value)
{
	write32(0, IOAPIC, reg);
	write32(0, IOAPIC + 0x10, value);
}

static uint32_t ioapic_read(uint32_t reg)
{
	write32(0, IOAPIC, reg);
	return read32(0, IOAPIC + 0x10);
}

/* Set a redirection entry. The destination comes first, while the old low half still holds. */
static void pin(unsigned number, uint32_t low, uint8_t destination)
{
	ioapic_write(0x11 + number * 2, (uint32_t)destination << 24);
	ioapic_write(0x10 + number * 2, low);
}

static uint32_t pin_low(unsigned number)
{
	return ioapic_read(0x10 + number * 2);
}

static void eoi(unsigned v)
{
	lapic_write(v, 0xb0, 0);
}

static void test_registers(void)
{
	CHECK(ioapic_read(1) == 0x00170011);
	CHECK(ioapic_read(0) == 0);
	ioapic_write(0, 0xffffffff);
	CHECK(ioapic_read(0) == 0x0f000000);
	CHECK(ioapic_read(2) == 0x0f000000);
	ioapic_write(1, 0);
	CHECK(ioapic_read(1) == 0x00170011);
	for (unsigned i = 0; i < 24; i++)
		CHECK(pin_low(i) == MASKED);
	CHECK(ioapic_read(0x11) == 0);
	ioapic_write(0x10 + 2 * PIN, 0xffffffff);
	CHECK(pin_low(PIN) == ~(REMOTE | STATUS)); /* KVM keeps the reserved bits */
	ioapic_write(0x10 + 2 * PIN, MASKED);
	ioapic_write(0x11 + 2 * PIN, 0xa5000000);
	CHECK(ioapic_read(0x11 + 2 * PIN) == 0xa5000000);
	/* The last entry, and what would follow it. */
	ioapic_write(0x3f, 0x12000000);
	CHECK(ioapic_read(0x3f) == 0x12000000);
	ioapic_write(0x40, 0x12345678);
	ioapic_write(0xff, 0x12345678);
	CHECK(read32(0, IOAPIC) == 0xff);
}

static void test_edge(void)
{
	lapics_on();
	pin(PIN, VECTOR, 0);
	line(PIN, 1);
	take(0);
	LOGGED(0, "\x51");
	CHECK(pin_low(PIN) == VECTOR);
	eoi(0);
	take(0);
	LOGGED(0, "");
	line(PIN, 0);
	line(PIN, 1);
	line(PIN, 0);
	take(0);
	LOGGED(0, "\x51");
	/* One more while it is in service. */
	line(PIN, 1);
	take(0);
	LOGGED(0, "");
	eoi(0);
	take(0);
	LOGGED(0, "\x51");
	eoi(0);
}

static void test_edge_masked(void)
{
	lapics_on();
	pin(PIN, VECTOR | MASKED, 0);
	line(PIN, 1);
	take(0);
	LOGGED(0, "");
	/* An edge while the pin is masked is lost. (KVM_SET_IRQCHIP sees a line that is high as a new edge.) */
	if (g.moves)
		line(PIN, 0);
	ioapic_write(0x10 + 2 * PIN, VECTOR);
	take(0);
	LOGGED(0, "");
	line(PIN, 0);
	line(PIN, 1);
	take(0);
	LOGGED(0, "\x51");
	eoi(0);
}

static void test_level(void)
{
	lapics_on();
	pin(PIN, VECTOR | LEVEL, 0);
	line(PIN, 1);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | REMOTE));
	CHECK(lapic_get(0, 0x1a0) == 1u << 17); /* TMR */
	take(0);
	LOGGED(0, "\x51");
	/* The line is still high at the EOI: it comes again. */
	eoi(0);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | REMOTE));
	take(0);
	LOGGED(0, "\x51");
	/* A line that falls and rises before the EOI makes one more interrupt, one that only falls makes none. */
	line(PIN, 0);
	line(PIN, 1);
	take(0);
	LOGGED(0, "");
	eoi(0);
	take(0);
	LOGGED(0, "\x51");
	line(PIN, 0);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | REMOTE));
	eoi(0);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL));
	take(0);
	LOGGED(0, "");
	/* Once delivered, an interrupt comes although the line fell before it was taken. */
	line(PIN, 1);
	line(PIN, 0);
	take(0);
	LOGGED(0, "\x51");
	eoi(0);
	take(0);
	LOGGED(0, "");
}

static void test_level_masked(void)
{
	lapics_on();
	pin(PIN, VECTOR | LEVEL | MASKED, 0);
	line(PIN, 1);
	take(0);
	LOGGED(0, "");
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | MASKED));
	/* The line is high when the pin is unmasked. */
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | REMOTE));
	take(0);
	LOGGED(0, "\x51");
	/* Masked while in service: the EOI finds the line high, but delivers nothing. */
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL | MASKED);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | MASKED | REMOTE));
	eoi(0);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | MASKED));
	take(0);
	LOGGED(0, "");
	line(PIN, 0);
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL);
	take(0);
	LOGGED(0, "");
	line(PIN, 1);
	take(0);
	LOGGED(0, "\x51");
	/* Masked, the line falls and rises, unmasked, all before the EOI. */
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL | MASKED);
	line(PIN, 0);
	line(PIN, 1);
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL);
	take(0);
	LOGGED(0, "");
	eoi(0);
	take(0);
	LOGGED(0, "\x51");
	line(PIN, 0);
	eoi(0);
}

/* The polarity does not matter: KVM_IRQ_LINE's level says whether the line is active. */
static void test_polarity(void)
{
	lapics_on();
	pin(PIN, VECTOR | LEVEL | LOW_ACTIVE, 0);
	take(0);
	LOGGED(0, "");
	line(PIN, 1);
	take(0);
	LOGGED(0, "\x51");
	line(PIN, 0);
	eoi(0);
	take(0);
	LOGGED(0, "");
}

/* Entries that are written while an interrupt is pending or in service. */
static void test_rewritten(void)
{
	lapics_on();
	pin(PIN, VECTOR | LEVEL, 0);
	line(PIN, 1);
	/* Neither the vector nor the destination of the one delivered changes. Its EOI finds no pin with its vector. */
	pin(PIN, (VECTOR + 1) | LEVEL, 1);
	CHECK(pin_low(PIN) == ((VECTOR + 1) | LEVEL | REMOTE));
	take(0);
	take(1);
	LOGGED(0, "\x51");
	LOGGED(1, "");
	eoi(0);
	CHECK(pin_low(PIN) == ((VECTOR + 1) | LEVEL | REMOTE));
	/* Edge and level again is how a guest clears the remote IRR. With the line high that delivers. */
	ioapic_write(0x10 + 2 * PIN, VECTOR | MASKED);
	CHECK(pin_low(PIN) == (VECTOR | MASKED));
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL | REMOTE));
	take(1);
	LOGGED(1, "\x51");
	line(PIN, 0);
	eoi(1);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL));
	/* Bits that only the chip sets. */
	ioapic_write(0x10 + 2 * PIN, VECTOR | LEVEL | REMOTE | STATUS);
	CHECK(pin_low(PIN) == (VECTOR | LEVEL));
}

/* One EOI ends the interrupts of all pins that have its vector. */
static void test_eoi_broadcast(void)
{
	lapics_on();
	pin(PIN, VECTOR | LEVEL, 0);
	pin(PIN + 1, VECTOR | LEVEL, 0);
	line(PIN, 1);
	line(PIN + 1, 1);
	CHECK((pin_low(PIN) & REMOTE) && (pin_low(PIN + 1) & REMOTE));
	take(0);
	LOGGED(0, "\x51");
	line(PIN, 0);
	eoi(0);
	CHECK(!(pin_low(PIN) & REMOTE) && (pin_low(PIN + 1) & REMOTE));
	take(0);
	LOGGED(0, "\x51");
	line(PIN + 1, 0);
	eoi(0);
	CHECK(!(pin_low(PIN) & REMOTE) && !(pin_low(PIN + 1) & REMOTE));
	take(0);
	LOGGED(0, "");
	/* An EOI of another vector, or of the same one on another vCPU that got it as an edge, ends none. */
	line(PIN, 1);
	CHECK(msi(LAPIC, VECTOR + 0x10) == 1);
	CHECK(msi(LAPIC | 1 << 12, VECTOR) == 1);
	take(0);
	take(1);
	LOGGED(0, "\x61");
	LOGGED(1, "\x51");
	eoi(0);
	eoi(1);
	CHECK(pin_low(PIN) & REMOTE);
	take(0);
	LOGGED(0, "\x51");
	line(PIN, 0);
	eoi(0);
	CHECK(!(pin_low(PIN) & REMOTE));
}

static void shoot(uint32_t low, uint8_t destination)
{
	pin(PIN, low, destination);
	line(PIN, 1);
	line(PIN, 0);
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

static void test_physical(void)
{
	lapics_on();
	shoot(VECTOR, 1);
	LOGGED3("", "\x51", "");
	shoot(VECTOR, 2);
	LOGGED3("", "", "\x51");
	shoot(VECTOR, 7);
	LOGGED3("", "", "");
	shoot(VECTOR, 0xff);
	LOGGED3("\x51", "\x51", "\x51");
	/* A vCPU that changed its ID answers to the new one. */
	lapic_write(1, 0x20, 0x55000000);
	shoot(VECTOR, 1);
	LOGGED3("", "", "");
	shoot(VECTOR, 0x55);
	LOGGED3("", "\x51", "");
}

static void test_logical_flat(void)
{
	lapics_on();
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		lapic_write(v, 0xd0, 1u << (24 + v));
	shoot(VECTOR | LOGICAL, 2);
	LOGGED3("", "\x51", "");
	shoot(VECTOR | LOGICAL, 5);
	LOGGED3("\x51", "", "\x51");
	shoot(VECTOR | LOGICAL, 0xf8);
	LOGGED3("", "", "");
	shoot(VECTOR | LOGICAL, 0);
	LOGGED3("", "", "");
	shoot(VECTOR | LOGICAL, 0xff);
	LOGGED3("\x51", "\x51", "\x51");
	lapic_write(1, 0xd0, 0xf0000000);
	shoot(VECTOR | LOGICAL, 0x80);
	LOGGED3("", "\x51", "");
}

static void test_logical_cluster(void)
{
	static const uint8_t names[] = { 0x11, 0x12, 0x21 };

	lapics_on();
	for (unsigned v = 0; v < GUEST_VCPUS; v++) {
		lapic_write(v, 0xe0, 0x0fffffff);
		lapic_write(v, 0xd0, (uint32_t)names[v] << 24);
	}
	shoot(VECTOR | LOGICAL, 0x12);
	LOGGED3("", "\x51", "");
	shoot(VECTOR | LOGICAL, 0x1f);
	LOGGED3("\x51", "\x51", "");
	shoot(VECTOR | LOGICAL, 0x21);
	LOGGED3("", "", "\x51");
	shoot(VECTOR | LOGICAL, 0x33);
	LOGGED3("", "", "");
	shoot(VECTOR | LOGICAL, 0xff);
	LOGGED3("\x51", "\x51", "\x51");
}

static unsigned logged_total(void)
{
	unsigned n = 0;

	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		n += guest_word(v, GUEST_COUNT);
	return n;
}

static void log_forget(void)
{
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		memset(g.m.memory + GUEST_OWN + v * PAGE, 0, 4);
}

/* One of the vCPUs gets it, whichever. */
static void test_lowest_priority(void)
{
	lapics_on();
	for (unsigned v = 0; v < GUEST_VCPUS; v++)
		lapic_write(v, 0xd0, 1u << (24 + v));
	for (unsigned i = 0; i < 6; i++) {
		shoot((VECTOR + i) | LOGICAL | LOWEST, 7);
		CHECK(logged_total() == 1);
		log_forget();
	}
	shoot(VECTOR | LOGICAL | LOWEST, 2);
	LOGGED3("", "\x51", "");
	/* An APIC that is off by its SVR takes nothing. KVM may choose it nevertheless: then nobody gets it. */
	lapic_write(0, 0xf0, 0xef);
	lapic_write(1, 0xf0, 0xef);
	for (unsigned i = 0; i < 4; i++) {
		shoot((VECTOR + i) | LOGICAL | LOWEST, 7);
		CHECK(guest_word(2, GUEST_COUNT) <= 1 && logged_total() == guest_word(2, GUEST_COUNT));
		log_forget();
	}
}

static void test_nmi(void)
{
	lapics_on();
	shoot(VECTOR | NMI, 1);
	LOGGED3("", "\x02", "");
	/* An NMI needs no enabled APIC, and no enabled interrupts. */
	lapic_write(1, 0xf0, 0xef);
	pin(PIN, NMI, 1);
	line(PIN, 1);
	line(PIN, 0);
	CHECK(lapic_read(1, 0x30) == 0x50014);
	LOGGED(1, "\x02");
}

static void test_init(void)
{
	lapics_on();
	pin(PIN, INIT, 1);
	line(PIN, 1);
	line(PIN, 0);
	CHECK(mp_state(1) == KVM_MP_STATE_INIT_RECEIVED);
	/* INIT leaves the boot vCPU running, reset. */
	CHECK(mp_state(0) == KVM_MP_STATE_RUNNABLE);
	CHECK(lapic_get(1, 0xf0) == 0xff);
}

/* An I/O APIC's ExtINT message reaches no vCPU in KVM. Its PIC is wired to LINT0. */
static void test_extint(void)
{
	lapics_on();
	shoot(VECTOR | EXTINT, 0);
	LOGGED3("", "", "");
	shoot(VECTOR, 0);
	LOGGED3("\x51", "", "");
}

/* Vectors below 16 are not delivered. */
static void test_low_vector(void)
{
	lapics_on();
	shoot(0x0f, 0);
	LOGGED3("", "", "");
	shoot(0x10, 0);
	LOGGED3("\x10", "", "");
	shoot(0xff, 0);
	LOGGED3("\xff", "", "");
}

static void test_line_status(void)
{
	lapics_on();
	pin(PIN, VECTOR, 0);
	CHECK(line_status(PIN, 1) == 1);
	CHECK(line_status(PIN, 1) == 0);
	CHECK(line_status(PIN, 0) == 1);
	CHECK(line_status(PIN, 1) == 1); /* also if the APIC had it already */
	CHECK(line_status(PIN, 0) == 1);
	pin(PIN, VECTOR | MASKED, 0);
	CHECK(line_status(PIN, 1) == -1);
	CHECK(line_status(PIN, 0) == 1);
	pin(PIN, VECTOR, 9);
	CHECK(line_status(PIN, 1) == 0);
	CHECK(line_status(PIN, 0) == 1);
	pin(PIN, VECTOR | LEVEL, 1);
	CHECK(line_status(PIN, 1) == 1);
	CHECK(line_status(PIN, 1) == -1); /* remote IRR */
	CHECK(line_status(PIN, 0) == 1);
	pin(PIN + 1, (VECTOR + 1), 0xff);
	CHECK(line_status(PIN + 1, 1) == 3);
	CHECK(line_status(24, 1) == -1);
	CHECK(line_status(UINT32_MAX, 1) == -1);
}

static void test_msi(void)
{
	lapics_on();
	CHECK(msi(LAPIC, VECTOR) == 1);
	CHECK(msi(LAPIC, VECTOR) == 1);
	CHECK(msi(LAPIC | 0xff << 12, VECTOR + 0x10) == 3);
	CHECK(msi(LAPIC | 9 << 12, VECTOR) == 0);
	CHECK(msi(LAPIC | 9 << 12 | 4, VECTOR) == 0);
	CHECK(msi(LAPIC | 2 << 12, 0x0400) == 1);
	take(0);
	take(1);
	take(2);
	LOGGED3("\x61", "\x61", "\x02\x61");
	eoi(0);
	eoi(1);
	eoi(2);
	take(0);
	take(1);
	take(2);
	LOGGED3("\x51", "", "");
	eoi(0);
	/* A level-triggered message: no pin has its vector, so that the EOI ends none. */
	CHECK(msi(LAPIC, 0xc000 | VECTOR) == 1);
	take(0);
	LOGGED(0, "\x51");
	eoi(0);
	take(0);
	LOGGED(0, "");
}

static struct kvm_irq_routing_entry route_pin(unsigned gsi, unsigned number)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, number },
	};
}

static struct kvm_irq_routing_entry route_msi(unsigned gsi, unsigned vector)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = LAPIC, .data = vector },
	};
}

static void test_routes(void)
{
	struct kvm_irq_routing_entry list[3] = { route_pin(100, PIN), route_pin(101, PIN + 1), route_msi(102, 0x71) };
	struct kvm_irq_routing_entry bad;

	lapics_on();
	pin(PIN, VECTOR | LEVEL, 0);
	pin(PIN + 1, (VECTOR + 1) | LEVEL, 0);
	CHECK(guest_routes(list, 3) == 0);
	CHECK(line_status(PIN, 1) == -1); /* the old routes are gone */
	line(100, 1);
	line(102, 1);
	take(0);
	LOGGED(0, "\x71");
	eoi(0);
	take(0);
	LOGGED(0, "\x51");
	/* The line is high, and now it leads to another pin. That one sees it only when the client sets it again. */
	list[0] = route_pin(100, PIN + 1);
	list[1] = route_pin(101, PIN);
	CHECK(guest_routes(list, 3) == 0);
	take(0);
	LOGGED(0, "");
	line(100, 1);
	line(101, 0); /* ends the old pin's level */
	eoi(0);
	take(0);
	LOGGED(0, "\x52");
	line(100, 0);
	eoi(0);
	take(0);
	LOGGED(0, "");
	/* Routes that cannot be leave the old ones. */
	bad = route_pin(1, 24);
	CHECK(guest_routes(&bad, 1) == -1 && errno == EINVAL);
	bad = route_pin(1, 0);
	bad.u.irqchip.irqchip = 3;
	CHECK(guest_routes(&bad, 1) == -1 && errno == EINVAL);
	bad.u.irqchip.irqchip = KVM_IRQCHIP_PIC_SLAVE;
	bad.u.irqchip.pin = 8;
	CHECK(guest_routes(&bad, 1) == -1 && errno == EINVAL);
	bad = route_pin(1, 0);
	bad.type = 77;
	CHECK(guest_routes(&bad, 1) == -1 && errno == EINVAL);
	bad = route_pin(4096, 0);
	CHECK(guest_routes(&bad, 1) == -1 && errno == EINVAL);
	line(100, 1);
	take(0);
	LOGGED(0, "\x52");
	line(100, 0);
	eoi(0);
}

/* Several lines lead to one pin. It is high while any of them is, which KVM tells by their source only. */
static void test_two_pins_one_gsi(void)
{
	struct kvm_irq_routing_entry list[2] = { route_pin(100, PIN), route_msi(100, 0x71) };

	lapics_on();
	pin(PIN, VECTOR, 1);
	/* One GSI may lead to one pin of each chip, but not to an MSI as well. */
	CHECK(guest_routes(list, 2) == -1 && errno == EINVAL);
	list[1] = route_pin(100, PIN + 1);
	CHECK(guest_routes(list, 2) == -1 && errno == EINVAL);
	list[1] = route_pin(101, PIN);
	CHECK(guest_routes(list, 2) == 0);
	line(100, 1);
	line(101, 1);
	line(100, 0);
	line(101, 0);
	take(1);
	LOGGED(1, "\x51");
	eoi(1);
	take(1);
	LOGGED(1, "");
}

/* What KVM_GET_IRQCHIP says of a pin that is in service, and what KVM_SET_IRQCHIP makes of hostile state. */
static void test_state(void)
{
	struct kvm_irqchip chip;

	lapics_on();
	pin(PIN, VECTOR | LEVEL, 1);
	line(PIN, 1);
	line(PIN + 1, 1);
	chip = irqchip(KVM_IRQCHIP_IOAPIC);
	CHECK(chip.chip.ioapic.base_address == IOAPIC);
	CHECK(chip.chip.ioapic.irr == (1u << PIN | 1u << (PIN + 1)));
	CHECK(chip.chip.ioapic.redirtbl[PIN].bits == (UINT64_C(1) << 56 | VECTOR | LEVEL | REMOTE));
	CHECK(chip.chip.ioapic.redirtbl[PIN + 1].bits == MASKED);
	memset(&chip.chip, 0xff, sizeof(chip.chip));
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == 0);
	for (unsigned i = 0; i < 24; i++) {
		line(i, 1);
		line(i, 0);
	}
	chip = irqchip(KVM_IRQCHIP_IOAPIC);
	chip.chip.ioapic.base_address = IOAPIC;
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == 0);
	take(0);
	CHECK((ioapic_read(1)) == 0x00170011);
}

static const struct guest_test tests[] = {
	{ "registers", test_registers, CHIPS_FULL, 0 },
	{ "edge", test_edge, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "edge masked", test_edge_masked, CHIPS_FULL, 0 },
	{ "level", test_level, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "level masked", test_level_masked, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "polarity", test_polarity, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "rewritten", test_rewritten, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "eoi broadcast", test_eoi_broadcast, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "physical", test_physical, CHIPS_FULL, 0 },
	{ "logical flat", test_logical_flat, CHIPS_FULL, 0 },
	{ "logical cluster", test_logical_cluster, CHIPS_FULL, 0 },
	{ "lowest priority", test_lowest_priority, CHIPS_FULL, 0 },
	{ "nmi", test_nmi, CHIPS_FULL, 0 },
	{ "init", test_init, CHIPS_FULL, 0 },
	{ "extint", test_extint, CHIPS_FULL, 0 },
	{ "low vector", test_low_vector, CHIPS_FULL, 0 },
	{ "line status", test_line_status, CHIPS_FULL, GUEST_STAYS },
	{ "msi", test_msi, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "routes", test_routes, CHIPS_FULL, GUEST_NEEDS_ISR },
	{ "two lines, one pin", test_two_pins_one_gsi, CHIPS_FULL, 0 },
	{ "state", test_state, CHIPS_FULL, 0 },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
