/* SPDX-License-Identifier: MIT */
/* A split irqchip: local APICs only. The I/O APIC is the client's, which is told of EOIs, and so is the PIC. */
#include "guest.h"

#define EOI    0xb0u
#define SVR    0xf0u
#define TMR    0x180u
#define LINT0  0x350u
#define LEVEL  0x8000u

static struct kvm_irq_routing_entry route(unsigned gsi, unsigned vcpu, uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = LAPIC | vcpu << 12, .data = data },
	};
}

/* The guest ends an interrupt. Returns: the vector that the client is told, or -1. */
static int eoi(unsigned v)
{
	struct kvm_run *run;
	int vector = -1, port = guest_step(v, guest_write, 0, LAPIC + EOI, 0, 0);

	run = g.m.run[v];
	if (port < 0 && run->exit_reason == KVM_EXIT_IOAPIC_EOI) {
		vector = run->eoi.vector;
		port = guest_go_on(v);
	}
	CHECK(port == GUEST_DONE);
	return vector;
}

static void test_creation(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_pit_config pit = { 0 };
	int vm = ioctl(g.m.kvm, KVM_CREATE_VM, 0), vcpu;

	CHECK(ioctl(g.m.vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EEXIST);
	CHECK(ioctl(g.m.vm, KVM_CREATE_IRQCHIP, 0) == -1 && errno == EEXIST);
	CHECK(ioctl(g.m.vm, KVM_CREATE_PIT2, &pit) == -1 && errno == ENOENT);
	CHECK(ioctl(g.m.vm, KVM_GET_IRQCHIP, &chip) == -1 && errno == ENXIO);
	CHECK(ioctl(g.m.vm, KVM_SET_IRQCHIP, &chip) == -1 && errno == ENXIO);
	NEED(vm >= 0);
	cap.args[0] = UINT64_C(1) << 32;
	CHECK(ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EINVAL);
	cap.args[0] = 24;
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	NEED(vcpu >= 0);
	CHECK(ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EEXIST);
	close(vcpu);
	close(vm);
}

static void test_routes(void)
{
	struct kvm_irq_routing_entry list[2] = { route(5, 1, 0x41), route(30, 2, 0x42) };
	struct kvm_irq_routing_entry pin = { .gsi = 6, .type = KVM_IRQ_ROUTING_IRQCHIP,
		                             .u.irqchip = { KVM_IRQCHIP_IOAPIC, 6 } };

	lapics_on();
	/* There are no pins to lead to, and no routes at first. */
	CHECK(guest_routes(&pin, 1) == -1 && errno == EINVAL);
	CHECK(line_status(5, 1) == -1);
	CHECK(guest_routes(list, 2) == 0);
	CHECK(line_status(5, 1) == 1 && line_status(30, 1) == 1);
	CHECK(line_status(5, 0) == -1 && line_status(6, 1) == -1);
	take(1);
	take(2);
	LOGGED(1, "\x41");
	LOGGED(2, "\x42");
	CHECK(eoi(1) == -1 && eoi(2) == -1); /* no levels: the client is not told */
	CHECK(line_status(5, 1) == 1); /* an MSI each time, whatever the line was */
	take(1);
	LOGGED(1, "\x41");
}

static void test_eoi(void)
{
	struct kvm_irq_routing_entry list[3] = {
		route(5, 1, LEVEL | 0x4000 | 0x51), route(6, 1, 0x61), route(24, 1, LEVEL | 0x4000 | 0x71),
	};

	lapics_on();
	CHECK(guest_routes(list, 3) == 0);
	line(5, 1);
	CHECK(lapic_get(1, TMR + 0x20) == 1u << 17);
	take(1);
	LOGGED(1, "\x51");
	/* Nested: the EOI of the edge in between tells nobody. */
	line(6, 1);
	take(1);
	LOGGED(1, "\x61");
	CHECK(eoi(1) == -1);
	CHECK(eoi(1) == 0x51);
	CHECK(eoi(1) == -1);
	/* A message that is no route's, but has the vector and is a level. */
	CHECK(msi(LAPIC | 1 << 12, LEVEL | 0x4000 | 0x51) == 1);
	take(1);
	LOGGED(1, "\x51");
	CHECK(eoi(1) == 0x51);
	/* The routes of GSIs beyond the reserved ones are not those of an I/O APIC. */
	line(24, 1);
	take(1);
	LOGGED(1, "\x71");
	CHECK(eoi(1) == -1);
	/* The vector of a route as an edge, on another vCPU. */
	CHECK(msi(LAPIC, 0x51) == 1);
	take(0);
	LOGGED(0, "\x51");
	CHECK(eoi(0) == -1);
}

/* The route is changed while its interrupt is pending. */
static void test_eoi_after_change(void)
{
	struct kvm_irq_routing_entry list[1] = { route(5, 1, LEVEL | 0x4000 | 0x51) };

	lapics_on();
	CHECK(guest_routes(list, 1) == 0);
	line(5, 1);
	take(1);
	LOGGED(1, "\x51");
	CHECK(guest_routes(list, 1) == 0);
	CHECK(eoi(1) == 0x51);
	line(5, 1);
	take(1);
	LOGGED(1, "\x51");
	list[0] = route(5, 1, LEVEL | 0x4000 | 0x52);
	CHECK(guest_routes(list, 1) == 0);
	line(5, 1);
	eoi(1); /* whether the client is told of the old one depends on when KVM looks at the routes */
	take(1);
	LOGGED(1, "\x52");
	CHECK(eoi(1) == 0x52);
}

/* The client's PIC: KVM_INTERRUPT, when LINT0 lets it in and the guest does. */
static void test_external(void)
{
	struct kvm_interrupt interrupt = { 0x29 };
	struct kvm_run *run;

	lapics_on();
	lapic_write(0, LINT0, 0x700);
	CHECK(guest_step(0, guest_in, 0, 0, 0, 0x21) == -1);
	run = g.m.run[0];
	CHECK(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x21); /* its ports are the client's */
	CHECK(guest_go_on(0) == GUEST_DONE);
	if (g.moves)
		guest_move();
	run = g.m.run[0];
	run->request_interrupt_window = 1;
	guest_prepare(0, guest_window, 0, 0, 0, 0);
	/* It may be the OUT of guest_window that lets KVM see that the window is open. */
	do {
		CHECK(ioctl(g.m.vcpu[0], KVM_RUN, 0) == 0);
		CHECK(run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN || run->exit_reason == KVM_EXIT_IO);
	} while (!run->ready_for_interrupt_injection && run->exit_reason == KVM_EXIT_IO);
	CHECK(run->ready_for_interrupt_injection && run->if_flag);
	run->request_interrupt_window = 0;
	CHECK(ioctl(g.m.vcpu[0], KVM_INTERRUPT, &interrupt) == 0);
	CHECK(guest_go_on(0) == GUEST_DONE);
	LOGGED(0, "\x29");
}

static const struct guest_test tests[] = {
	{ "creation", test_creation, CHIPS_SPLIT, GUEST_STAYS },
	{ "routes", test_routes, CHIPS_SPLIT, 0 },
	{ "eoi", test_eoi, CHIPS_SPLIT, GUEST_NEEDS_ISR },
	{ "eoi after change", test_eoi_after_change, CHIPS_SPLIT, GUEST_NEEDS_ISR },
	{ "external", test_external, CHIPS_SPLIT, 0 },
};

int main(int argc, char **argv)
{
	int bad = guest_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() || bad;
}
