/* SPDX-License-Identifier: MIT */
/* The two 8259A PICs, as a guest on vCPU 0 sees them (Intel's data sheet 231468), and ELCR. */
#include "guest.h"

#define MASTER 0x20u
#define SLAVE  0xa0u
#define BASE   0x20 /* the vector of IRQ 0; IRQ 8 has BASE + 8 */

#define EOI     0x20
#define ROTATE  0x80
#define SPECIFIC 0x40

/* ICW1 to ICW4, and no interrupt masked. */
static void pic_init(uint8_t icw4)
{
	out(0, MASTER, 0x11);
	out(0, MASTER + 1, BASE);
	out(0, MASTER + 1, 4);
	out(0, MASTER + 1, icw4);
	out(0, SLAVE, 0x11);
	out(0, SLAVE + 1, BASE + 8);
	out(0, SLAVE + 1, 2);
	out(0, SLAVE + 1, 1);
	out(0, MASTER + 1, 0);
	out(0, SLAVE + 1, 0);
}

static void pulse(unsigned gsi)
{
	line(gsi, 1);
	line(gsi, 0);
}

static uint8_t irr(unsigned chip)
{
	out(0, (uint16_t)chip, 0x0a);
	return in(0, (uint16_t)chip);
}

static uint8_t isr(unsigned chip)
{
	out(0, (uint16_t)chip, 0x0b);
	return in(0, (uint16_t)chip);
}

static void test_edge(void)
{
	pic_init(1);
	line(3, 1);
	CHECK(irr(MASTER) == 8 && isr(MASTER) == 0);
	take(0);
	LOGGED(0, "\x23");
	CHECK(irr(MASTER) == 0 && isr(MASTER) == 8);
	/* The line is still high, which is no new edge. */
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "");
	line(3, 0);
	line(3, 1);
	take(0);
	LOGGED(0, "\x23");
	/* An edge while the interrupt is in service waits for the EOI. */
	line(3, 0);
	line(3, 1);
	take(0);
	LOGGED(0, "");
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x23");
}

static void test_edge_that_goes(void)
{
	pic_init(1);
	/* KVM keeps the request of an edge whose line falls before the interrupt is taken. */
	pulse(4);
	CHECK(irr(MASTER) == 0x10);
	take(0);
	LOGGED(0, "\x24");
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "");
}

static void test_level(void)
{
	pic_init(1);
	out(0, 0x4d0, 8);
	line(3, 1);
	take(0);
	LOGGED(0, "\x23");
	CHECK(irr(MASTER) == 8 && isr(MASTER) == 8);
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x23");
	line(3, 0);
	CHECK(irr(MASTER) == 0);
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "");
	/* A level that goes before it is taken leaves nothing. */
	pulse(3);
	take(0);
	LOGGED(0, "");
}

static void test_elcr(void)
{
	/* IRQ 0, 1, 2, 8 and 13 are always edges. */
	out(0, 0x4d0, 0xff);
	out(0, 0x4d1, 0xff);
	CHECK(in(0, 0x4d0) == 0xf8 && in(0, 0x4d1) == 0xde);
	CHECK(irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.elcr == 0xf8);
	CHECK(irqchip(KVM_IRQCHIP_PIC_SLAVE).chip.pic.elcr == 0xde);
	out(0, 0x4d0, 0);
	out(0, 0x4d1, 0);
	CHECK(in(0, 0x4d0) == 0 && in(0, 0x4d1) == 0);
}

static void test_masked(void)
{
	pic_init(1);
	out(0, MASTER + 1, 8);
	CHECK(in(0, MASTER + 1) == 8);
	line(3, 1);
	CHECK(irr(MASTER) == 8);
	take(0);
	LOGGED(0, "");
	/* A masked request does not hold off others of lower priority. */
	pulse(5);
	take(0);
	LOGGED(0, "\x25");
	out(0, MASTER + 1, 0);
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x23");
}

static void test_priorities(void)
{
	pic_init(1);
	pulse(5);
	pulse(3);
	pulse(6);
	/* Only one is taken, since none of the others is higher than IRQ 3, which stays in service. */
	take(0);
	LOGGED(0, "\x23");
	pulse(1);
	take(0);
	LOGGED(0, "\x21");
	CHECK(isr(MASTER) == 0x0a);
	/* A non-specific EOI ends the highest. */
	out(0, MASTER, EOI);
	CHECK(isr(MASTER) == 0x08);
	take(0);
	LOGGED(0, "");
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x25");
	pulse(4);
	take(0);
	LOGGED(0, "\x24");
	/* A specific EOI ends the one that it names. */
	out(0, MASTER, EOI | SPECIFIC | 5);
	CHECK(isr(MASTER) == 0x10);
	out(0, MASTER, EOI | SPECIFIC | 4);
	take(0);
	LOGGED(0, "\x26");
}

/* Handlers that let others in, and their EOIs. */
static void test_nested_handlers(void)
{
	pic_init(1);
	guest_action(BASE, BASE + 7, GUEST_EOI_MASTER | GUEST_NEST | GUEST_MARK);
	guest_action(BASE + 8, BASE + 15, GUEST_EOI_SLAVE | GUEST_EOI_MASTER | GUEST_NEST | GUEST_MARK);
	pulse(7);
	pulse(12);
	pulse(1);
	pulse(4);
	take(0);
	LOGGED(0, "\x21" GUEST_END "\x2c" GUEST_END "\x24" GUEST_END "\x27" GUEST_END);
}

static void test_cascade(void)
{
	pic_init(1);
	pulse(10);
	CHECK(irr(SLAVE) == 4 && irr(MASTER) == 4);
	take(0);
	LOGGED(0, "\x2a");
	CHECK(isr(SLAVE) == 4 && isr(MASTER) == 4);
	/* The master does not let a second one of the slave in, whatever its priority. */
	pulse(9);
	take(0);
	LOGGED(0, "");
	pulse(1);
	take(0);
	LOGGED(0, "\x21");
	out(0, MASTER, EOI);
	out(0, SLAVE, EOI);
	take(0);
	LOGGED(0, "");
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x29");
	/* IRQ 2 of the master masks the slave. */
	out(0, SLAVE, EOI);
	out(0, MASTER, EOI);
	out(0, MASTER + 1, 4);
	pulse(15);
	take(0);
	LOGGED(0, "");
	out(0, MASTER + 1, 0);
	take(0);
	LOGGED(0, "\x2f");
}

/* Special fully nested mode: a higher interrupt of the slave interrupts one of the slave. */
static void test_special_fully_nested(void)
{
	pic_init(0x11);
	pulse(10);
	take(0);
	LOGGED(0, "\x2a");
	pulse(11);
	take(0);
	LOGGED(0, "");
	pulse(9);
	take(0);
	LOGGED(0, "\x29");
	CHECK(isr(SLAVE) == 6 && isr(MASTER) == 4);
	out(0, SLAVE, EOI);
	CHECK(isr(SLAVE) == 4);
}

/* The slave's request goes after the master has latched it: the slave answers with its IRQ 7, not in service. */
static void test_spurious(void)
{
	pic_init(1);
	out(0, 0x4d1, 4);
	pulse(10);
	take(0);
	LOGGED(0, "\x2f");
	CHECK(isr(SLAVE) == 0 && isr(MASTER) == 4);
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "");
}

static void test_automatic_eoi(void)
{
	pic_init(3);
	pulse(3);
	pulse(5);
	take(0);
	LOGGED(0, "\x23\x25");
	CHECK(isr(MASTER) == 0);
	/* Rotation in automatic EOI mode: the one just taken becomes the lowest. */
	out(0, MASTER, ROTATE);
	pulse(3);
	take(0);
	LOGGED(0, "\x23");
	pulse(3);
	pulse(5);
	pulse(1);
	take(0);
	LOGGED(0, "\x25\x21\x23");
	out(0, MASTER, 0);
	pulse(1);
	pulse(5);
	take(0);
	LOGGED(0, "\x25\x21");
}

static void test_rotate(void)
{
	pic_init(1);
	/* After a rotating EOI the one that ended is the lowest. */
	pulse(3);
	take(0);
	LOGGED(0, "\x23");
	out(0, MASTER, ROTATE | EOI);
	pulse(3);
	pulse(4);
	take(0);
	LOGGED(0, "\x24");
	out(0, MASTER, ROTATE | EOI | SPECIFIC | 4);
	CHECK(irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.priority_add == 5);
	pulse(4);
	take(0);
	LOGGED(0, "\x23");
	out(0, MASTER, EOI);
	/* Set priority: IRQ 6 is the lowest, so 7 is the highest. */
	out(0, MASTER, ROTATE | SPECIFIC | 6);
	pulse(7);
	take(0);
	LOGGED(0, "\x27");
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x24");
}

static void test_poll(void)
{
	pic_init(1);
	out(0, MASTER, 0x0c);
	CHECK(in(0, MASTER) == 0x07);
	pulse(5);
	out(0, MASTER, 0x0c);
	CHECK(in(0, MASTER) == 0x85);
	/* KVM's PIC takes a poll for the whole handling: nothing is in service after it. */
	CHECK(isr(MASTER) == 0 && irr(MASTER) == 0);
	take(0);
	LOGGED(0, "");
	pulse(12);
	out(0, SLAVE, 0x0c);
	CHECK(in(0, SLAVE) == 0x84);
	CHECK(isr(SLAVE) == 0 && isr(MASTER) == 0 && irr(MASTER) == 0);
	take(0);
	LOGGED(0, "");
}

/* KVM's PIC remembers special mask mode, but an interrupt in service that is masked still holds off the others. */
static void test_special_mask(void)
{
	pic_init(1);
	pulse(3);
	take(0);
	LOGGED(0, "\x23");
	pulse(5);
	out(0, MASTER, 0x68);
	CHECK(irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.special_mask == 1);
	out(0, MASTER + 1, 8);
	take(0);
	LOGGED(0, "");
	out(0, MASTER, 0x48);
	CHECK(irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.special_mask == 0);
	out(0, MASTER, EOI | SPECIFIC | 3);
	take(0);
	LOGGED(0, "\x25");
}

/* ICW1 while requests wait and one is in service. */
static void test_init_in_the_middle(void)
{
	struct kvm_pic_state s;

	pic_init(1);
	out(0, 0x4d0, 0x40);
	out(0, MASTER + 1, 0x10);
	pulse(3);
	take(0);
	LOGGED(0, "\x23");
	pulse(5);
	line(6, 1);
	out(0, MASTER, 0x11);
	s = irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic;
	CHECK(s.irr == 0x40 && s.imr == 0 && s.init_state == 1 && s.init4 == 1 && s.priority_add == 0);
	out(0, MASTER + 1, 0x40);
	s = irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic;
	CHECK(s.irq_base == 0x40 && s.init_state == 2);
	out(0, MASTER + 1, 4);
	CHECK(irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.init_state == 3);
	/* Requests are taken even now, by KVM's PIC. */
	out(0, MASTER + 1, 1);
	s = irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic;
	CHECK(s.init_state == 0 && s.isr == 8);
	out(0, MASTER, EOI);
	take(0);
	LOGGED(0, "\x46");
	/* A second ICW1 in place of ICW3, and no ICW4. */
	out(0, MASTER, 0x11);
	out(0, MASTER + 1, 0x50);
	out(0, MASTER, 0x10);
	out(0, MASTER + 1, 0x58);
	out(0, MASTER + 1, 4);
	s = irqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic;
	CHECK(s.init_state == 0 && s.irq_base == 0x58 && s.init4 == 0);
	/* A write to the data port now is the mask. */
	out(0, MASTER + 1, 0x55);
	CHECK(in(0, MASTER + 1) == 0x55);
}

/* Accesses that are wider than a byte do nothing. */
static void test_widths(void)
{
	struct kvm_regs regs;

	pic_init(1);
	out(0, MASTER + 1, 0x5a);
	CHECK(guest_step(0, guest_in16, 0xffff, 0, 0, MASTER) == GUEST_DONE);
	NEED(ioctl(g.m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK((regs.rax & 0xffff) == 0);
	CHECK(in(0, MASTER + 1) == 0x5a);
}

static void test_line_status(void)
{
	pic_init(1);
	/* GSI 3 leads to the I/O APIC, too, where it is masked. */
	CHECK(line_status(3, 1) == 1);
	CHECK(line_status(3, 1) == 1);
	CHECK(line_status(3, 0) == 2); /* one for each chip */
	CHECK(line_status(3, 1) == 0); /* the request was there already */
	out(0, MASTER + 1, 8);
	CHECK(line_status(3, 0) == 1);
	CHECK(line_status(3, 1) == -1);
	CHECK(line_status(100, 1) == -1);
	out(0, MASTER + 1, 0);
	out(0, 0x4d0, 0x20);
	CHECK(line_status(5, 1) == 1);
	CHECK(line_status(5, 1) == 0);
}

/* LINT0 leads the PIC to vCPU 0. */
static void test_lint0(void)
{
	pic_init(1);
	lapics_on();
	lapic_write(0, 0x350, 0x10700);
	pulse(3);
	take(0);
	LOGGED(0, "");
	lapic_write(0, 0x350, 0x700);
	take(0);
	LOGGED(0, "\x23");
	/* Only vCPU 0 takes from the PIC, whatever LINT0 of another says. */
	out(0, MASTER, EOI);
	lapic_write(0, 0x350, 0x10700);
	lapic_write(1, 0x350, 0x700);
	pulse(3);
	take(1);
	LOGGED(1, "\x23");
}

/* Every reserved value of every register, and what a client may set. */
static void test_hostile_state(void)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	memset(&chip.chip, 0xff, sizeof(chip.chip));
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == 0);
	chip.chip_id = KVM_IRQCHIP_PIC_SLAVE;
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == 0);
	take(0);
	for (unsigned i = 0; i < 256; i++) {
		out(0, MASTER, (uint8_t)i);
		out(0, SLAVE + 1, (uint8_t)(i * 7));
		pulse(i % 16);
		take(0);
	}
	chip.chip_id = 3;
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == -1 && errno == EINVAL);
	CHECK(ioctl(g.m.vm, KVM_GET_IRQCHIP, &chip) == -1 && errno == EINVAL);
}

static const struct guest_test tests[] = {
	{ "edge", test_edge, CHIPS_FULL, 0 },
	{ "edge that goes", test_edge_that_goes, CHIPS_FULL, 0 },
	{ "level", test_level, CHIPS_FULL, 0 },
	{ "elcr", test_elcr, CHIPS_FULL, 0 },
	{ "masked", test_masked, CHIPS_FULL, 0 },
	{ "priorities", test_priorities, CHIPS_FULL, 0 },
	{ "nested handlers", test_nested_handlers, CHIPS_FULL, 0 },
	{ "cascade", test_cascade, CHIPS_FULL, 0 },
	{ "special fully nested", test_special_fully_nested, CHIPS_FULL, 0 },
	{ "spurious", test_spurious, CHIPS_FULL, 0 },
	{ "automatic EOI", test_automatic_eoi, CHIPS_FULL, 0 },
	{ "rotate", test_rotate, CHIPS_FULL, 0 },
	{ "poll", test_poll, CHIPS_FULL, 0 },
	{ "special mask", test_special_mask, CHIPS_FULL, 0 },
	{ "init in the middle", test_init_in_the_middle, CHIPS_FULL, 0 },
	{ "widths", test_widths, CHIPS_FULL, 0 },
	{ "line status", test_line_status, CHIPS_FULL, GUEST_STAYS },
	{ "lint0", test_lint0, CHIPS_FULL, 0 },
	{ "hostile state", test_hostile_state, CHIPS_FULL, GUEST_STAYS },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
