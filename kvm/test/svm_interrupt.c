/* SPDX-License-Identifier: MIT */
/*
 * Physical interrupts, NMI, SMI and INIT while L2 runs, with GIF, RFLAGS.IF of L1 and L2, and V_INTR_MASKING in every
 * combination.
 */
#include "svm_guest.h"

#define SPIN  L2_MARK "\xeb\xfe"
#define WAIT  L2_MARK "\x65\x80\x3c\x25\x00\x01\x00\x00\x02\x75\xf5" /* until the mark is 2 */

/* L2 comes out of WAIT. */
static void let_go(unsigned v)
{
	__atomic_store_n((uint8_t *)own64(v, OWN_MARK), 2, __ATOMIC_RELEASE);
}

/* L1 clears GIF: what is sent to it then waits for VMRUN, which sets GIF. */
static void hold(void)
{
	SAME(L1(0, 0, "\x0f\x01\xdd"), 0);
}

/* ---- physical interrupts --------------------------------------------------------------------------------- */

/* One is pending at VMRUN. Who gets it? */
static void test_interrupt(void)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		bool masking = bits & 1, l2_if = bits & 2, host_if = bits & 4, intercepted = bits & 8;
		bool enabled = masking ? host_if : l2_if;
		static char what[80];

		snprintf(what, sizeof(what), "interrupt:%s%s%s%s", masking ? " masking" : "", l2_if ? " L2.IF" : "",
		         host_if ? " L1.IF" : "", intercepted ? " intercepted" : "");
		s.what = what;
		l2_reset(0);
		*own64(0, OWN_FLAGS) = host_if ? SVM_HOST_IF : 0;
		vmcb(0)->save.rflags = l2_if ? RFLAGS_IF | 2 : 2;
		vmcb(0)->control.virtual_interrupt = masking ? V_INTR_MASKING : 0;
		if (intercepted)
			intercept(0, SVM_EXIT_INTR);
		L2(0, "\x90" L2_MOVE "\x90");
		NEED(svm_msi(0, 0x61) == 1);
		*(uint32_t *)at(SVM_OWN + OWN_COUNT) = 0;
		if (enabled && intercepted) {
			EXITS(0, SVM_EXIT_INTR);
			SAME(vmcb(0)->save.rip, L2_CODE);
			SAME(vmcb(0)->control.exit_int_info >> 31 & 1, 0);
		} else if (enabled) {
			FAULTS(0, 0x61);
			SAME(l2_frame(0)->rip, L2_CODE);
			SAME(lapic_bit(0, LAPIC_ISR, 0x61), 1);
			SAME(L1(0, 0, "\xbb\xb0\x00\xe0\xfe\x89\x03"), 0); /* EOI */
			SAME(lapic_bit(0, LAPIC_IRR, 0x61) || lapic_bit(0, LAPIC_ISR, 0x61), 0);
			continue;
		} else {
			ENDS(0);
			SAME(vmcb(0)->save.rip, L2_CODE + 4);
		}
		SAME(lapic_bit(0, LAPIC_IRR, 0x61), 1);
		SAME(own_count(0), 0);
		svm_take(0);
		SAME(own_count(0), 1);
		SAME(*(uint8_t *)at(SVM_OWN + OWN_LOG), 0x61);
		SAME(lapic_bit(0, LAPIC_IRR, 0x61), 0);
	}
}

/* It comes while L2 runs. */
static void test_interrupt_spin(void)
{
	for (unsigned masking = 0; masking < 2; masking++) {
		s.what = masking ? "spinning, V_INTR_MASKING" : "spinning";
		l2_reset(0);
		*own64(0, OWN_FLAGS) = masking ? SVM_HOST_IF : 0;
		vmcb(0)->save.rflags = masking ? 2 : RFLAGS_IF | 2;
		vmcb(0)->control.virtual_interrupt = masking ? V_INTR_MASKING : 0;
		intercept(0, SVM_EXIT_INTR);
		L2(0, SPIN);
		svm_begin(0);
		wait_for_mark(0);
		NEED(svm_msi(0, 0x62) == 1);
		SAME(svm_end(0), SVM_EXIT_INTR);
		SAME(vmcb(0)->save.rip, L2_CODE + 9);
		SAME(lapic_bit(0, LAPIC_IRR, 0x62), 1);
		svm_take(0);
	}
	/* Not enabled: L2 ends by itself. */
	s.what = "spinning, IF clear";
	l2_reset(0);
	intercept(0, SVM_EXIT_INTR);
	L2(0, WAIT);
	svm_begin(0);
	wait_for_mark(0);
	NEED(svm_msi(0, 0x62) == 1);
	usleep(2000);
	let_go(0);
	SAME(svm_end(0), SVM_EXIT_VMMCALL);
	SAME(lapic_bit(0, LAPIC_IRR, 0x62), 1);
	svm_take(0);
	/* HLT, not intercepted. */
	s.what = "halted";
	l2_reset(0);
	intercept(0, SVM_EXIT_INTR);
	L2(0, L2_MARK "\xfb\xf4\x90");
	svm_begin(0);
	wait_for_mark(0);
	usleep(1000);
	NEED(svm_msi(0, 0x62) == 1);
	SAME(svm_end(0), SVM_EXIT_INTR);
	SAME(vmcb(0)->save.rip, L2_CODE + 11);
	svm_take(0);
	/* L1 serves them, and L2 goes on: a hundred times. */
	s.what = "L1 loops";
	l2_reset(0);
	*own64(0, OWN_FLAGS) = SVM_LOOP;
	*own64(0, OWN_LOOPS) = 0;
	*(uint32_t *)at(SVM_OWN + OWN_COUNT) = 0;
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	intercept(0, SVM_EXIT_INTR);
	L2(0, WAIT);
	svm_begin(0);
	wait_for_mark(0);
	for (unsigned i = 0; i < 100; i++) {
		NEED(svm_msi(0, 0x62) >= 0);
		while (own_count(0) <= i)
			usleep(50);
	}
	let_go(0);
	SAME(svm_end(0), SVM_EXIT_VMMCALL);
	SAME(own_count(0), 100);
	SAME(*own64(0, OWN_LOOPS) > 0 && *own64(0, OWN_LOOPS) <= 100, 1); /* some may come in L1 */
}

/* Physical goes before virtual. */
static void test_priority(void)
{
	L2(0, "\x90");
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0);
	intercept(0, SVM_EXIT_INTR);
	intercept(0, SVM_EXIT_VINTR);
	NEED(svm_msi(0, 0x61) == 1);
	EXITS(0, SVM_EXIT_INTR);
	SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, 1);
	svm_take(0);
	EXITS(0, SVM_EXIT_VINTR);
	/* NMI before both. */
	s.what = "NMI first";
	l2_reset(0);
	L2(0, "\x90");
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	intercept(0, SVM_EXIT_INTR);
	intercept(0, SVM_EXIT_NMI);
	hold();
	NEED(svm_msi(0, 0x61) == 1 && ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	EXITS(0, SVM_EXIT_NMI);
	/* L1 takes the NMI; the interrupt is L2's exit. */
	*own64(0, OWN_FLAGS) = 0;
	SAME(svm_step(0, svm_routine(svm_stgi), 0), SVM_DONE);
	SAME(own_count(0), 2); /* and 0x61 of above */
	EXITS(0, SVM_EXIT_INTR);
}

/* The APIC's TPR holds physical interrupts back, whatever V_TPR says. */
static void test_apic_tpr(void)
{
	L2(0, "\x90");
	intercept(0, SVM_EXIT_INTR);
	*own64(0, OWN_FLAGS) = SVM_HOST_IF;
	vmcb(0)->control.virtual_interrupt = V_INTR_MASKING;
	SAME(L1(0, 7, "\x44\x0f\x22\xc0"), 0);
	NEED(svm_msi(0, 0x61) == 1);
	ENDS(0);
	SAME(L1(0, 0, "\x44\x0f\x22\xc0"), 0);
	l2_reset(0);
	L2(0, "\x90");
	intercept(0, SVM_EXIT_INTR);
	*own64(0, OWN_FLAGS) = SVM_HOST_IF;
	vmcb(0)->control.virtual_interrupt = V_INTR_MASKING | 15;
	EXITS(0, SVM_EXIT_INTR);
}

/* ---- GIF ------------------------------------------------------------------------------------------------- */

static void test_gif(void)
{
	/* After #VMEXIT GIF is clear: neither an interrupt nor an NMI comes before STGI. */
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	L2(0, "\x90");
	ENDS(0);
	NEED(svm_msi(0, 0x61) == 1 && ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	SAME(L1(0, 0, "\xfb\x90\x90\xfa"), 0);
	SAME(own_count(0), 0);
	SAME(L1(0, 0, "\x0f\x01\xdc\x90"), 0); /* STGI: the NMI */
	SAME(own_count(0), 1);
	SAME(*(uint8_t *)at(SVM_OWN + OWN_LOG), 2);
	SAME(L1(0, 0, "\xfb\x90\x90\xfa"), 0);
	SAME(own_count(0), 2);
	SAME(*(uint8_t *)at(SVM_OWN + OWN_LOG + 1), 0x61);
	/* CLGI in L1 holds them, too. */
	SAME(L1(0, 0, "\x0f\x01\xdd"), 0);
	NEED(svm_msi(0, 0x61) == 1 && ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	SAME(L1(0, 0, "\xfb\x90\x90\xfa"), 0);
	SAME(own_count(0), 2);
	SAME(L1(0, 0, "\xfb\x0f\x01\xdc\x90\x90\xfa"), 0);
	SAME(own_count(0), 4);
	/* VMRUN sets GIF. */
	s.what = "VMRUN sets GIF";
	l2_reset(0);
	L2(0, "\x90");
	intercept(0, SVM_EXIT_NMI);
	SAME(L1(0, 0, "\x0f\x01\xdd"), 0);
	NEED(ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	EXITS(0, SVM_EXIT_NMI);
	SAME(own_count(0), 5);
	/* L2 may clear it, if L1 does not intercept that. */
	s.what = "CLGI in L2";
	l2_reset(0);
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	intercept(0, SVM_EXIT_INTR);
	L2(0, "\x0f\x01\xdd" WAIT "\x0f\x01\xdc\x90");
	svm_begin(0);
	wait_for_mark(0);
	NEED(svm_msi(0, 0x61) == 1);
	usleep(2000);
	let_go(0);
	SAME(svm_end(0), SVM_EXIT_INTR);
	SAME(vmcb(0)->save.rip - L2_CODE, 3 + 9 + 11 + 3);
	svm_take(0);
}

/* ---- NMI, SMI, INIT -------------------------------------------------------------------------------------- */

static void test_nmi(void)
{
	struct kvm_vcpu_events events;

	intercept(0, SVM_EXIT_NMI);
	L2(0, "\x90");
	hold();
	NEED(ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	EXITS(0, SVM_EXIT_NMI);
	SAME(vmcb(0)->save.rip, L2_CODE);
	SAME(own_count(0), 0);
	svm_take(0); /* still pending: L1 gets it */
	SAME(own_count(0), 1);
	SAME(*(uint8_t *)at(SVM_OWN + OWN_LOG), 2);
	/* While L2 spins, whatever its IF. */
	s.what = "NMI, spinning";
	l2_reset(0);
	intercept(0, SVM_EXIT_NMI);
	L2(0, SPIN);
	svm_begin(0);
	wait_for_mark(0);
	NEED(svm_msi(0, 0x400) == 1);
	SAME(svm_end(0), SVM_EXIT_NMI);
	/* Not intercepted: L2's, which masks others until its IRET. */
	s.what = "NMI of L2";
	l2_reset(0);
	L2(0, "\x90");
	hold();
	NEED(ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	FAULTS(0, 2);
	NEED(ioctl(s.m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	SAME(events.nmi.masked, 1);
	NEED(ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	l2_return(0);
	FAULTS(0, 2);
	SAME(l2_frame(0)->rip, L2_CODE);
	l2_return(0);
	ENDS(0);
}

static void smm_enable(void)
{
	/* The handler: a count, RSM. In real mode with flat segments, it is at 0x38000. */
	static const uint8_t handler[] = { 0x2e, 0xff, 0x06, 0x40, 0x80, 0x0f, 0xaa };

	/* SMM has an address space of its own. */
	NEED(machine_slot(s.m.vm, 1 << 16, 0, 0, s.m.bytes, s.m.memory) == 0);
	memcpy(at(0x38000), handler, sizeof(handler));
	*(uint16_t *)at(0x38040) = 0;
}

static void test_smi(void)
{
	if (ioctl(s.m.vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) <= 0)
		return;
	smm_enable();
	/* Not intercepted: SMM and back into L2. */
	L2(0, L2_MOVE "\x90");
	*l2_reg(0, RBX) = 0x1234;
	hold();
	NEED(ioctl(s.m.vcpu[0], KVM_SMI) == 0);
	ENDS(0);
	SAME(*(uint16_t *)at(0x38040), 1);
	SAME(vmcb(0)->save.rip, L2_CODE + 3);
	SAME(*l2_reg(0, RBX), 0x1234);
	/* Within L2. */
	s.what = "SMI, spinning";
	l2_reset(0);
	L2(0, WAIT);
	svm_begin(0);
	wait_for_mark(0);
	NEED(svm_msi(0, 0x200) == 1);
	for (unsigned i = 0; i < 10000 && __atomic_load_n((uint16_t *)at(0x38040), __ATOMIC_ACQUIRE) < 2; i++)
		usleep(100);
	SAME(*(uint16_t *)at(0x38040), 2);
	usleep(1000);
	let_go(0);
	SAME(svm_end(0), SVM_EXIT_VMMCALL);
	/* Intercepted: still pending; L1 gets it at STGI. */
	s.what = "SMI intercepted";
	l2_reset(0);
	L2(0, "\x90");
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	intercept(0, SVM_EXIT_SMI);
	hold();
	NEED(ioctl(s.m.vcpu[0], KVM_SMI) == 0);
	EXITS(0, SVM_EXIT_SMI);
	SAME(vmcb(0)->save.rip, L2_CODE);
	SAME(*(uint16_t *)at(0x38040), 2);
	SAME(svm_step(0, svm_routine(svm_stgi), 0), SVM_DONE);
	SAME(*(uint16_t *)at(0x38040), 3);
}

static void test_init(void)
{
	struct kvm_mp_state mp;

	intercept(0, SVM_EXIT_INIT);
	L2(0, SPIN);
	*own64(0, OWN_FLAGS) = SVM_GIF_LATER;
	svm_begin(0);
	wait_for_mark(0);
	NEED(svm_msi(0, 0x4500) == 1);
	SAME(svm_end(0), SVM_EXIT_INIT);
	/* Held while GIF is clear. */
	SAME(L1(0, 0, "\x90"), 0);
	NEED(ioctl(s.m.vcpu[0], KVM_GET_MP_STATE, &mp) == 0);
	SAME(mp.mp_state, KVM_MP_STATE_RUNNABLE);
}

static const struct svm_test tests[] = {
	{ "interrupt", test_interrupt, 0 },
	{ "interrupt, spinning", test_interrupt_spin, 0 },
	{ "priority", test_priority, 0 },
	{ "apic tpr", test_apic_tpr, 0 },
	{ "gif", test_gif, 0 },
	{ "nmi", test_nmi, 0 },
	{ "smi", test_smi, SVM_STAYS },
	{ "init", test_init, SVM_STAYS },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}
