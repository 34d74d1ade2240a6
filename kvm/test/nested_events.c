/* SPDX-License-Identifier: MIT */
/* Interrupts, NMI and INIT that come while a nested guest runs or halts: whose they are, and that they wake it. */
#include "nested.h"
#include <pthread.h>

/* L2 spins or halts with interrupts on. */
static void l2_waits(const struct machine *m, bool halts)
{
	static const uint8_t code[2][4] = { { 0xfb, 0x90, 0xeb, 0xfd }, { 0xfb, 0xf4, 0xeb, 0xfd } };

	memcpy(m->memory + L2_TEXT, code[halts], sizeof(code[halts]));
}

/* The client has the irqchips: its interrupt goes to whom it belongs. */
static void check_client_interrupt(bool intercepted)
{
	struct kvm_interrupt irq = { 0x60 };
	struct kvm_vcpu_events events;
	struct state s = in_guest();
	struct machine m;

	if (intercepted)
		want(&s, EXIT_INTR);
	s.vmcb.control.virtual_interrupt = V_INTR_MASKING;
	s.vmcb.save.rflags |= 0x200;
	begin(&m, NO_CHIPS, &s);
	CHECK(go(&m) == PORT_L2);
	CHECK(ioctl(m.vcpu[0], KVM_INTERRUPT, &irq) == 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	CHECK(events.interrupt.injected && events.interrupt.nr == 0x60);
	if (intercepted) {
		to_l1(&m, EXIT_INTR);
		CHECK(go(&m) == PORT_IRQ); /* and only then, where L1 sets GIF and IF */
	} else {
		CHECK(go(&m) == PORT_L2_IRQ);
	}
	CHECK(go(&m) == PORT_L1 && !m.run[0]->ready_for_interrupt_injection);
	machine_free(&m, 1);
}

static void lapic_on(const struct machine *m)
{
	struct kvm_lapic_state lapic;
	uint32_t on = 0x1ef;

	NEED(ioctl(m->vcpu[0], KVM_GET_LAPIC, &lapic) == 0);
	memcpy(lapic.regs + 0xf0, &on, 4);
	NEED(ioctl(m->vcpu[0], KVM_SET_LAPIC, &lapic) == 0);
}

struct later {
	const struct machine *m;
	uint32_t address, data;
};

static void *send_later(void *argument)
{
	const struct later *l = argument;
	struct kvm_msi msi = { .address_lo = l->address, .data = l->data };

	usleep(50000);
	CHECK(ioctl(l->m->vm, KVM_SIGNAL_MSI, &msi) == 1);
	return NULL;
}

/* L2 is in HLT or spins, and the interrupt, NMI or INIT that then comes is L1's. */
static void check_wakes(unsigned code, uint32_t data, bool halts)
{
	struct later later = { .address = 0xfee00000, .data = data };
	struct state s = in_guest();
	struct kvm_mp_state mp;
	struct machine m;
	pthread_t thread;

	want(&s, code);
	s.vmcb.control.virtual_interrupt = V_INTR_MASKING;
	s.vmcb.save.rflags |= 0x200;
	begin(&m, CHIPS, &s);
	lapic_on(&m);
	l2_waits(&m, halts);
	later.m = &m;
	NEED(pthread_create(&thread, NULL, send_later, &later) == 0);
	to_l1(&m, code);
	pthread_join(thread, NULL);
	if (code == EXIT_INTR)
		CHECK(go(&m) == PORT_IRQ);
	if (code == EXIT_NMI)
		CHECK(go(&m) == PORT_IRQ);
	if (code == EXIT_INIT) {
		struct kvm_vcpu_events events;
		uint64_t efer;

		/* INIT waits for GIF, and KVM_SET_MP_STATE cannot force it. */
		NEED(ioctl(m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
		CHECK(events.smi.latched_init);
		mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
		CHECK(ioctl(m.vcpu[0], KVM_SET_MP_STATE, &mp) == -1 && errno == EINVAL);
		m.memory[0xfff0] = 0xf4;
		alarm(20);
		CHECK(go(&m) != PORT_L1); /* behind STGI there is the reset vector, and no memory */
		alarm(0);
		efer = sregs_of(&m).efer;
		CHECK(efer == 0 && nested_flags(&m) == KVM_STATE_NESTED_GIF_SET);
	}
	machine_free(&m, 1);
}

/* L2's own interrupts: not intercepted, in HLT; and a virtual one of L1's. */
static void check_own(void)
{
	struct later later = { .address = 0xfee00000, .data = 0x70 };
	struct state s = in_guest();
	struct machine m;
	pthread_t thread;

	begin(&m, CHIPS, &s);
	lapic_on(&m);
	l2_waits(&m, true);
	later.m = &m;
	NEED(pthread_create(&thread, NULL, send_later, &later) == 0);
	CHECK(go(&m) == PORT_L2_IRQ);
	pthread_join(thread, NULL);
	machine_free(&m, 1);

	s.vmcb.control.virtual_interrupt = V_INTR_MASKING | V_IRQ | V_IGNORE_TPR | UINT64_C(0x71) << V_VECTOR_SHIFT;
	begin(&m, CHIPS, &s);
	l2_waits(&m, true);
	CHECK(go(&m) == PORT_L2_IRQ);
	machine_free(&m, 1);
	/* HLT first, and then the state with V_IRQ: it ends the HLT. */
	begin(&m, CHIPS, &s);
	memcpy(m.memory + L2_TEXT, (const uint8_t[]){ 0xeb, 0xfe }, 2);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &(struct kvm_regs){ .rip = L2_TEXT, .rflags = 0x202, .rsp = 0x8000 }) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_HALTED }) == 0);
	CHECK(go(&m) == PORT_L2_IRQ);
	machine_free(&m, 1);
}

/* An SMI suspends L2. `corrupt`: the handler's area then names no VMCB, so RSM shuts down. */
static void check_smi(bool corrupt)
{
	static const uint8_t handler[] = { 0xe6, 0x30, 0x0f, 0xaa }; /* out; rsm */
	struct state s = in_guest(), got;
	struct machine m;
	uint64_t vmcb;

	begin(&m, NO_CHIPS, &s);
	NEED(machine_slot(m.vm, 1 << 16, 0, 0, m.bytes, m.memory) == 0);
	memcpy(m.memory + 0x38000, handler, sizeof(handler));
	memcpy(m.memory + VMCB, &s.vmcb.control, sizeof(s.vmcb.control)); /* as VMRUN read it; RSM reads it again */
	CHECK(go(&m) == PORT_L2);
	CHECK(ioctl(m.vcpu[0], KVM_SMI) == 0);
	CHECK(go(&m) == 0x30);
	/* In SMM there is no guest mode, and no SVME. What RSM needs is in memory. */
	CHECK(nested_flags(&m) == KVM_STATE_NESTED_GIF_SET && sregs_of(&m).efer == 0);
	CHECK(nested_set(&m, &s) == -1 && errno == EINVAL);
	memcpy(&vmcb, m.memory + 0x3fee0, 8);
	CHECK(m.memory[0x3fed8] == 1 && vmcb == VMCB);
	CHECK(((struct vmcb *)(void *)(m.memory + HSAVE))->save.rip == L1_TEXT);
	if (corrupt) {
		vmcb = UINT64_C(0xffffffffffff1000);
		memcpy(m.memory + 0x3fee0, &vmcb, 8);
		CHECK(go(&m) == -KVM_EXIT_SHUTDOWN);
	} else {
		m.run[0]->immediate_exit = 1;
		CHECK(go(&m) == -1000 - EINTR);
		m.run[0]->immediate_exit = 0;
		to_l1(&m, SVM_EXIT_VMMCALL);
		NEED(nested_get(&m, &got, sizeof(got)) == 0);
	}
	machine_free(&m, 1);
}

/* A debugger of the client's steps through L2, and #VMEXIT does not stop it. */
static void check_step(void)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct state s = in_guest();
	struct machine m;

	begin(&m, NO_CHIPS, &s);
	NEED(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	CHECK(go(&m) == -KVM_EXIT_DEBUG && regs_of(&m).rip == L2_TEXT + 2);
	CHECK(nested_flags(&m) & KVM_STATE_NESTED_GUEST_MODE);
	debug.control = 0;
	NEED(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	CHECK(go(&m) == PORT_L2);
	to_l1(&m, SVM_EXIT_VMMCALL);
	machine_free(&m, 1);
}

int main(void)
{
	cpuid_read();
	NEED(has_svm());
	alarm(120);
	check_client_interrupt(false);
	check_client_interrupt(true);
	for (unsigned halts = 0; halts < 2; halts++) {
		check_wakes(EXIT_INTR, 0x70, halts);
		check_wakes(EXIT_NMI, 0x400, halts);
		check_wakes(EXIT_INIT, 0x500, halts);
	}
	check_own();
	check_smi(false);
	check_smi(true);
	check_step();
	return check_end();
}
