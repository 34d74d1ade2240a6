/* SPDX-License-Identifier: MIT */
/* Events of L2: injected ones, what EXITINTINFO says of those that are lost in delivery, virtual interrupts, traps. */
#include "svm_guest.h"

/* ---- injected events ------------------------------------------------------------------------------------- */

static const struct injected {
	const char *name;
	uint64_t event;
	unsigned vector;
	uint64_t error; /* that the handler's stub finds */
	bool behind;    /* RIP on the stack is nRIP */
} injected[] = {
	{ "interrupt", EVENT(INTERRUPT, 0x40), 0x40, 0, false },
	{ "interrupt 255", EVENT(INTERRUPT, 255), 255, 0, false },
	{ "interrupt 6", EVENT(INTERRUPT, 6), 6, 0, false },
	{ "NMI", EVENT(NMI, 2), 2, 0, false },
	{ "NMI, another vector", EVENT(NMI, 0x77), 2, 0, false },
	{ "#DE", EVENT(EXCEPTION, 0), 0, 0, false },
	{ "#DB", EVENT(EXCEPTION, 1), 1, 0, false },
	{ "#UD", EVENT(EXCEPTION, 6), 6, 0, false },
	{ "#DF", EVENT_WITH(EXCEPTION, 8, 0), 8, 0, false },
	{ "#NP", EVENT_WITH(EXCEPTION, 11, 0x1238), 11, 0x1238, false },
	{ "#GP", EVENT_WITH(EXCEPTION, 13, 0x1234), 13, 0x1234, false },
	{ "#PF", EVENT_WITH(EXCEPTION, 14, 0x15), 14, 0x15, false },
	{ "#AC", EVENT_WITH(EXCEPTION, 17, 0), 17, 0, false },
	{ "INT n", EVENT(SOFTWARE, 0x50), 0x50, 0, true },
	{ "INT 255", EVENT(SOFTWARE, 255), 255, 0, true },
};
#define INJECTED (sizeof(injected) / sizeof(injected[0]))

static void inject(const struct injected *row)
{
	s.what = row->name;
	l2_reset(0);
	L2(0, L2_MARK);
	vmcb(0)->control.event_inject = row->event;
	vmcb(0)->control.next_rip = L2_CODE + 0x23;
}

static void test_inject(void)
{
	for (unsigned i = 0; i < INJECTED; i++) {
		inject(&injected[i]);
		/* Whatever is intercepted, and with IF clear. */
		vmcb(0)->control.intercepts[2] = UINT32_MAX;
		vmcb(0)->control.intercepts[3] |= 1u << (SVM_EXIT_SOFT_INT & 31);
		vmcb(0)->save.cr2 = 0x4567;
		FAULTS(0, (int)injected[i].vector);
		SAME(l2_frame(0)->error, injected[i].error);
		if (!injected[i].behind || features.nrip)
			SAME(l2_frame(0)->rip, L2_CODE + (injected[i].behind ? 0x23 : 0));
		SAME(l2_frame(0)->cs, 8);
		SAME(l2_frame(0)->rflags & ~UINT64_C(0x10000), 2);
		SAME(l2_frame(0)->rsp, L2_STACK + PAGE);
		SAME(vmcb(0)->save.cr2, 0x4567);
		SAME(*own64(0, OWN_MARK) & 1, 0);
		SAME(vmcb(0)->control.exit_int_info >> 31 & 1, 0);
		if (injected[i].behind)
			continue;
		/* L2 goes on. */
		vmcb(0)->control.event_inject = 0;
		l2_return(0);
		ENDS(0);
		SAME(*own64(0, OWN_MARK) & 1, 1);
	}
}

/* From CPL 3: the stack of the TSS, and the gate's DPL for software interrupts and INT3 only. */
static void test_inject_user(void)
{
	static const struct {
		const char *name;
		uint64_t event;
		unsigned vector;
		bool checks_dpl;
	} rows[] = {
		{ "interrupt", EVENT(INTERRUPT, 0x40), 0x40, false }, { "#UD", EVENT(EXCEPTION, 6), 6, false },
		{ "INT n", EVENT(SOFTWARE, 0x50), 0x50, true },       { "#BP", EVENT(EXCEPTION, 3), 3, true },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned dpl = 0; dpl <= 3; dpl += 3) {
			s.what = rows[i].name;
			l2_reset(0);
			l2_user_mode(0);
			*own64(0, OWN_FLAGS) = SVM_VMLOAD;
			L2(0, "\x90");
			((uint8_t *)at(L2_IDT))[rows[i].vector * 16 + 5] = (uint8_t)(0x8e | dpl << 5);
			vmcb(0)->control.event_inject = rows[i].event;
			vmcb(0)->control.next_rip = L2_CODE;
			FAULTS(0, rows[i].checks_dpl && dpl == 0 ? 13 : (int)rows[i].vector);
			if (rows[i].checks_dpl && dpl == 0)
				SAME(l2_frame(0)->error, rows[i].vector << 3 | 2);
			SAME(l2_frame(0)->cs, 0x2b);
			SAME(vmcb(0)->save.cpl, 0);
		}
	}
}

static void test_inject_real(void)
{
	/* The vector's entry leads to L2_CODE + 0x40. */
	*(uint32_t *)at(0x40 * 4) = L2_CODE >> 4 << 16 | 0x40;
	l2_real_mode(0);
	L2(0, "\x90");
	memcpy(at(L2_CODE + 0x40), "\x0f\x01\xd9", 3);
	vmcb(0)->control.event_inject = EVENT(INTERRUPT, 0x40);
	ENDS(0);
	SAME(vmcb(0)->save.rip, 0x40);
	SAME(vmcb(0)->save.rsp, PAGE - 6);
	SAME(*(uint16_t *)at(L2_STACK + PAGE - 6), 0);
}

/* An injected NMI does not block others. */
static void test_inject_nmi(void)
{
	struct kvm_vcpu_events events;

	L2(0, "\x90");
	vmcb(0)->control.event_inject = EVENT(NMI, 2);
	FAULTS(0, 2);
	vmcb(0)->control.event_inject = 0;
	NEED(ioctl(s.m.vcpu[0], KVM_GET_VCPU_EVENTS, &events) == 0);
	SAME(events.nmi.masked, 0);
	intercept(0, SVM_EXIT_NMI);
	SAME(L1(0, 0, "\x0f\x01\xdd"), 0); /* CLGI, so that it is not L1's */
	NEED(ioctl(s.m.vcpu[0], KVM_NMI) == 0);
	EXITS(0, SVM_EXIT_NMI);
}

/* ---- EXITINTINFO ----------------------------------------------------------------------------------------- */

/* The IDT lies in pages of its own, of which one is missing, for L2 or for L1's nested table. */
static void idt_absent(bool nested, bool absent)
{
	if (nested)
		npt_entry_set(TABLE_PT, L2_IDT >> 12, absent ? 0 : L2_IDT | 0x67);
	else
		l2_entry_set(TABLE_PT, L2_IDT >> 12, absent ? 0 : L2_IDT | 0x67);
}

static uint64_t meaningful(uint64_t event)
{
	return event & EVENT_ERROR ? event : (uint32_t)event;
}

static uint64_t as_recorded(const struct injected *row)
{
	return (row->event >> EVENT_TYPE_SHIFT & 7) == NMI ? EVENT(NMI, 2) : row->event;
}

static void lost_in_delivery(const struct injected *row, bool nested)
{
	idt_absent(nested, true);
	inject(row);
	intercept(0, SVM_EXIT_EXCEPTION + 14);
	intercept(0, SVM_EXIT_EXCEPTION + 8);
	EXITS(0, nested ? SVM_EXIT_NPF : SVM_EXIT_EXCEPTION + 14);
	SAME(meaningful(vmcb(0)->control.exit_int_info), as_recorded(row));
	SAME(vmcb(0)->control.exit_info2, L2_IDT + row->vector * 16);
	if (nested)
		SAME(vmcb(0)->control.exit_info1, UINT64_C(0x100000004));
	else
		SAME(vmcb(0)->control.exit_info1, 0);
	SAME(vmcb(0)->save.rip, L2_CODE + 0);
	SAME(*l2_reg(0, RSP), L2_STACK + PAGE);
	/* Injected again, it arrives. */
	idt_absent(nested, false);
	vmcb(0)->control.event_inject = vmcb(0)->control.exit_int_info;
	vmcb(0)->control.next_rip = L2_CODE + 0x23;
	FAULTS(0, (int)row->vector);
	SAME(l2_frame(0)->error, row->error);
}

static void test_delivery(void)
{
	for (unsigned i = 0; i < INJECTED; i++)
		lost_in_delivery(&injected[i], false);
	for (unsigned i = 0; s.np && i < INJECTED; i++)
		lost_in_delivery(&injected[i], true);
}

/* L2's own events. */
static void test_delivery_natural(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total, at;
		uint64_t event;
	} rows[] = {
		{ "INT n", "\x90\xcd\x80", 3, 1, EVENT(SOFTWARE, 0x80) },
		{ "INT3", "\xcc", 1, 0, EVENT(EXCEPTION, 3) },
		{ "ICEBP", "\xf1", 1, 0, EVENT(EXCEPTION, 1) },
		{ "#UD", "\x0f\x0b", 2, 0, EVENT(EXCEPTION, 6) },
		{ "#DE", "\x31\xc9\xf7\xf1", 4, 2, EVENT(EXCEPTION, 0) },
		{ "#GP", "\xb8\xf0\x00\x00\x00\x8e\xd8", 7, 5, EVENT_WITH(EXCEPTION, 13, 0xf0) },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		idt_absent(s.np, true);
		l2_reset(0);
		l2_code(0, rows[i].bytes, rows[i].total);
		intercept(0, SVM_EXIT_EXCEPTION + 14);
		EXITS(0, s.np ? SVM_EXIT_NPF : SVM_EXIT_EXCEPTION + 14);
		SAME(meaningful(vmcb(0)->control.exit_int_info), rows[i].event);
		SAME(vmcb(0)->save.rip, L2_CODE + rows[i].at);
		idt_absent(s.np, false);
		/* Simply run again, it happens again. */
		FAULTS(0, (int)(rows[i].event & 0xff));
	}
}

/* The stack is what is missing. */
static void test_delivery_stack(void)
{
	s.what = "stack";
	L2(0, "\x90\x0f\x0b");
	vmcb(0)->save.rsp = L2_DATA + 3 * PAGE;
	intercept(0, SVM_EXIT_EXCEPTION + 14);
	*(s.np ? npt_entry(TABLE_PT, (L2_DATA >> 12) + 2) : l2_entry(TABLE_PT, (L2_DATA >> 12) + 2)) = 0;
	EXITS(0, s.np ? SVM_EXIT_NPF : SVM_EXIT_EXCEPTION + 14);
	SAME(meaningful(vmcb(0)->control.exit_int_info), EVENT(EXCEPTION, 6));
	SAME(vmcb(0)->control.exit_info1, s.np ? UINT64_C(0x100000006) : 2);
	SAME(vmcb(0)->control.exit_info2 & ~UINT64_C(0xfff), L2_DATA + 2 * PAGE);
	SAME(vmcb(0)->save.rip, L2_CODE + 1);
	SAME(vmcb(0)->save.rsp, L2_DATA + 3 * PAGE);
	SAME(vmcb(0)->save.cs.selector, 8);
}

/* ---- virtual interrupts ---------------------------------------------------------------------------------- */

static void test_virtual(void)
{
	static const struct {
		const char *name;
		unsigned priority, tpr;
		uint64_t more;
		bool enabled, taken;
	} rows[] = {
		{ "IF", 4, 0, 0, true, true },
		{ "no IF", 4, 0, 0, false, false },
		{ "priority above TPR", 4, 3, 0, true, true },
		{ "priority is TPR", 4, 4, 0, true, false },
		{ "priority below TPR", 4, 5, 0, true, false },
		{ "TPR ignored", 4, 15, V_IGNORE_TPR, true, true },
		{ "TPR ignored, no IF", 4, 15, V_IGNORE_TPR, false, false },
		{ "priority 0", 0, 0, 0, true, false },
		{ "priority 15", 15, 14, 0, true, true },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned masking = 0; masking < 2; masking++) {
			const uint64_t mask = masking ? V_INTR_MASKING : 0;

			s.what = rows[i].name;
			l2_reset(0);
			L2(0, L2_MOVE "\x90");
			vmcb(0)->control.virtual_interrupt =
				VIRQ(0x45, rows[i].priority, rows[i].tpr) | rows[i].more | mask;
			vmcb(0)->save.rflags = rows[i].enabled ? RFLAGS_IF | 2 : 2;
			if (rows[i].taken) {
				FAULTS(0, 0x45);
				SAME(l2_frame(0)->rip, L2_CODE);
			} else {
				ENDS(0);
				SAME(vmcb(0)->save.rip, L2_CODE + 3);
			}
			SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, !rows[i].taken);
			SAME(vmcb(0)->control.virtual_interrupt & V_TPR, rows[i].tpr);
			/* Nothing stays with L1. */
			svm_take(0);
			SAME(own_count(0), 0);
			if (!rows[i].taken)
				continue;
			/* The intercept: it is not taken. */
			l2_reset(0);
			L2(0, L2_MOVE "\x90");
			vmcb(0)->control.virtual_interrupt =
				VIRQ(0x45, rows[i].priority, rows[i].tpr) | rows[i].more | mask;
			vmcb(0)->save.rflags = RFLAGS_IF | 2;
			intercept(0, SVM_EXIT_VINTR);
			EXITS(0, SVM_EXIT_VINTR);
			SAME(vmcb(0)->save.rip, L2_CODE);
			SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, 1);
			SAME(vmcb(0)->control.exit_int_info >> 31 & 1, 0);
		}
	}
}

/* When it becomes possible. */
static void test_virtual_window(void)
{
	static const struct {
		const char *name, *bytes;
		unsigned total, at;
		uint64_t shadow, rflags;
		unsigned tpr;
	} rows[] = {
		{ "STI and its shadow", "\xfb\x90\x90", 3, 2, 0, 2, 0 },
		{ "POPF", "\x68\x02\x02\x00\x00\x9d\x90", 7, 6, 0, 2, 0 },
		{ "the VMCB's shadow", "\x90\x90", 2, 1, 1, RFLAGS_IF | 2, 0 },
		{ "CR8", "\x31\xc0\x44\x0f\x22\xc0\x90", 7, 6, 0, RFLAGS_IF | 2, 15 },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.what = rows[i].name;
		l2_reset(0);
		l2_code(0, rows[i].bytes, rows[i].total);
		vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, rows[i].tpr) | V_INTR_MASKING;
		vmcb(0)->control.interrupt_shadow = rows[i].shadow;
		vmcb(0)->save.rflags = rows[i].rflags;
		FAULTS(0, 0x45);
		SAME(l2_frame(0)->rip, L2_CODE + rows[i].at);
		SAME(vmcb(0)->control.interrupt_shadow & 1, 0);
	}
	/* The shadow is saved by an exit in it. */
	s.what = "exit in a shadow";
	l2_reset(0);
	L2(0, "\xfb\x0f\xa2\x90");
	intercept(0, SVM_EXIT_CPUID);
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0);
	EXITS(0, SVM_EXIT_CPUID);
	SAME(vmcb(0)->control.interrupt_shadow & 1, 1);
	SAME(vmcb(0)->save.rflags & RFLAGS_IF, RFLAGS_IF);
	/* L1 skips the instruction and clears the shadow. */
	vmcb(0)->save.rip += 2;
	vmcb(0)->control.interrupt_shadow = 0;
	FAULTS(0, 0x45);
	SAME(l2_frame(0)->rip, L2_CODE + 3);
	/* HLT ends by it. */
	s.what = "HLT";
	l2_reset(0);
	L2(0, "\xfb\xf4\x90");
	vmcb(0)->control.virtual_interrupt = VIRQ(0x46, 4, 0);
	FAULTS(0, 0x46);
	SAME(l2_frame(0)->rip, L2_CODE + 2);
	/* An injected event goes first, and the virtual interrupt when the handler lets it. */
	s.what = "injected and virtual";
	l2_reset(0);
	L2(0, "\x90");
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	vmcb(0)->control.virtual_interrupt = VIRQ(0x46, 4, 0);
	vmcb(0)->control.event_inject = EVENT(INTERRUPT, 0x51);
	FAULTS(0, 0x51);
	SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, 1);
	vmcb(0)->control.event_inject = 0;
	l2_return(0);
	FAULTS(0, 0x46);
	SAME(l2_frame(0)->rip, L2_CODE);
}

/* EXITINTINFO of a virtual interrupt: V_IRQ is clear by then. */
static void test_virtual_lost(void)
{
	idt_absent(s.np, true);
	l2_reset(0);
	L2(0, "\x90");
	intercept(0, SVM_EXIT_EXCEPTION + 14);
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0);
	EXITS(0, s.np ? SVM_EXIT_NPF : SVM_EXIT_EXCEPTION + 14);
	SAME((uint32_t)vmcb(0)->control.exit_int_info, EVENT(INTERRUPT, 0x45));
	SAME(vmcb(0)->control.virtual_interrupt & V_IRQ, 0);
}

/* CR8: V_TPR alone with V_INTR_MASKING, else the APIC's and V_TPR. */
static void test_tpr(void)
{
	static const char code[] = "\x44\x0f\x20\xc3" L2_MOVE "\xb8\x07\x00\x00\x00\x44\x0f\x22\xc0\x44\x0f\x20\xc6";

	for (unsigned masking = 0; masking < 2; masking++) {
		s.what = masking ? "V_INTR_MASKING" : "no V_INTR_MASKING";
		l2_reset(0);
		SAME(L1(0, 5, "\x44\x0f\x22\xc0"), 0); /* L1's own TPR: 5 */
		l2_code(0, code, sizeof(code) - 1);
		vmcb(0)->control.virtual_interrupt = masking ? V_INTR_MASKING | 9 : 9;
		ENDS(0);
		SAME(*l2_reg(0, RBX), masking ? 9 : 5);
		SAME(*l2_reg(0, RSI), 7);
		SAME(vmcb(0)->control.virtual_interrupt & V_TPR, 7);
		SAME(lapic_word(0, 0x80) >> 4, masking ? 5 : 7);
		SAME(L1(0, 0, "\x44\x0f\x20\xc0\x65\x48\x89\x04\x25\x08\x01\x00\x00"), 0);
		SAME(*own64(0, OWN_MARK + 8), masking ? 5 : 7);
		SAME(L1(0, 0, "\x44\x0f\x22\xc0"), 0);
	}
}

/* A virtual GIF is what L2's STGI and CLGI act on: it holds virtual interrupts off, and no physical ones. */
static void test_virtual_gif(void)
{
	if (!features.vgif)
		return;
	for (unsigned set = 0; set < 2; set++) {
		s.what = set ? "V_GIF" : "no V_GIF";
		l2_reset(0);
		L2(0, L2_MOVE "\x90");
		vmcb(0)->save.rflags = RFLAGS_IF | 2;
		vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0) | V_GIF_ENABLE | (set ? V_GIF : 0);
		if (set)
			FAULTS(0, 0x45);
		else
			ENDS(0);
		SAME((vmcb(0)->control.virtual_interrupt & V_IRQ) != 0, !set);
		SAME((vmcb(0)->control.virtual_interrupt & V_GIF) != 0, set);
	}
	s.what = "STGI";
	l2_reset(0);
	L2(0, L2_MOVE "\x0f\x01\xdc\x90\x90");
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0) | V_GIF_ENABLE;
	FAULTS(0, 0x45);
	SAME(l2_frame(0)->rip, L2_CODE + 5);
	SAME((vmcb(0)->control.virtual_interrupt & V_GIF) != 0, 1);
	s.what = "CLGI";
	l2_reset(0);
	L2(0, "\x0f\x01\xdd\xfb\x90\x90");
	vmcb(0)->control.virtual_interrupt = VIRQ(0x45, 4, 0) | V_GIF_ENABLE | V_GIF;
	ENDS(0);
	SAME(vmcb(0)->control.virtual_interrupt & (V_GIF | V_IRQ), V_IRQ);
	/* A physical interrupt comes all the same. */
	s.what = "physical, no V_GIF";
	intercept(0, SVM_EXIT_INTR);
	L2(0, "\x90");
	vmcb(0)->save.rip = L2_CODE;
	vmcb(0)->control.virtual_interrupt = V_GIF_ENABLE;
	vmcb(0)->save.rflags = RFLAGS_IF | 2;
	NEED(svm_msi(0, 0x61) == 1);
	EXITS(0, SVM_EXIT_INTR);
}

/* RFLAGS.TF of L1 traps behind VMRUN, L2's behind its first instruction. */
static void test_trap_flag(void)
{
	vmcb(0)->save.rflags = 0x102;
	L2(0, "\x90\x90");
	FAULTS(0, 1);
	SAME(l2_frame(0)->rip, L2_CODE + 1);
	SAME(vmcb(0)->save.dr6 >> 14 & 1, 1);
	s.what = "TF of L1";
	l2_reset(0);
	L2(0, "\x90\x90");
	/* push $0x102; popf; vmrun: TF traps behind POPF's successor, which is the VMRUN. */
	SAME(L1(0, SVM_VMCB, "\x0f\x01\xdd\x68\x02\x01\x00\x00\x9d\x0f\x01\xd8\x90\x90"), L1_FAULT + 1);
	SAME(*own64(0, OWN_VECTOR + 16), SVM_CODE + 12);
	SAME(vmcb(0)->control.exit_code, SVM_EXIT_VMMCALL);
}

static const struct svm_test tests[] = {
	{ "inject", test_inject, 0 },
	{ "inject, user", test_inject_user, 0 },
	{ "inject, real mode", test_inject_real, 0 },
	{ "inject nmi", test_inject_nmi, 0 },
	{ "delivery", test_delivery, 0 },
	{ "delivery, natural", test_delivery_natural, 0 },
	{ "delivery, stack", test_delivery_stack, 0 },
	{ "virtual", test_virtual, 0 },
	{ "virtual window", test_virtual_window, 0 },
	{ "virtual gif", test_virtual_gif, 0 },
	{ "virtual lost", test_virtual_lost, 0 },
	{ "tpr", test_tpr, 0 },
	{ "trap flag", test_trap_flag, 0 },
};

int main(int argc, char **argv)
{
	int bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 ? argv + 1 : NULL);

	return check_end() ? 1 : bad;
}
