/* SPDX-License-Identifier: MIT */
/*
 * AMD SVM as the CPU alone has it, with no nested paging: VMRUN's checks, what it loads and what #VMEXIT saves, events
 * that are injected, interrupts of both kinds, GIF.
 *
 * The hypervisor is the 64-bit program of guest_long. Its guest runs in the same address space.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "guest_asm.h"
#include "hypervisor.h"

#define assert_exit(g, code) assert_int_equal(l2_run(g), (uint64_t)(code))

/* ---- VMRUN and #VMEXIT ----------------------------------------------------------------------------------- */

GUEST_ASM(l2_registers, "mov $0x1111, %eax \n mov $0x2222, %ecx \n mov %rax, %cr2 \n push %rax \n stc \n vmmcall")

static void test_svm_round_trip(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu), before;
	struct vmcb *v = l1_vmcb(g);

	GUEST_LOAD(g, L2, l2_registers);
	s->dr[7] = 0x401;
	s->rflags |= 0x200;
	before = *s;
	v->save.rax = 7;
	v->save.dr7 = 0x402;
	v->save.es.base = UINT64_C(0x7f01900000000000); /* not canonical with 57 bits */
	assert_exit(g, SVM_EXIT_VMMCALL);
	assert_int_equal(v->save.rip, L2 + 15);
	assert_int_equal(v->control.next_rip, L2 + 18);
	assert_int_equal(v->save.rax, 0x1111);
	assert_int_equal(v->save.cr2, 0x1111);
	assert_int_equal(v->save.rsp, L2_STACK - 8);
	assert_int_equal(v->save.rflags, 3);
	assert_int_equal(v->save.dr7, 0x402);
	assert_int_equal(v->save.es.base, UINT64_C(0xff01900000000000));
	assert_int_equal(v->save.cpl, 0);
	assert_int_equal(v->save.cs.attributes, 0xa9b);
	assert_int_equal(v->save.efer, before.efer);
	/* The hypervisor has its own back, but RCX is not switched. */
	assert_int_equal(s->gpr[CPU_RAX], VMCB);
	assert_int_equal(s->gpr[CPU_RCX], 0x2222);
	assert_int_equal(s->gpr[CPU_RSP], before.gpr[CPU_RSP]);
	assert_int_equal(s->rflags, before.rflags);
	assert_int_equal(s->dr[7], 0x400);
	assert_memory_equal(s->seg, before.seg, sizeof(s->seg));
	assert_int_equal(s->cr2, 0x1111);
}

/* In guest mode the state is the nested guest's, and the VMCB is not read again. */
static void test_svm_vmcb_is_read_once(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, L2, 0xe6, 0x71, 0x0f, 0x01, 0xd9);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_int_equal(cpu_exit_info(g->cpu)->io.port, 0x71);
	assert_true(s->svm.guest && s->svm.gif);
	assert_int_equal(s->svm.vmcb_pa, VMCB);
	l1_intercept_not(g, SVM_EXIT_VMMCALL);
	l1_vmcb(g)->control.clean = 0x55aa;
	l1_vmcb(g)->save.fs.base = 0x1234;
	assert_exit(g, SVM_EXIT_VMMCALL);
	assert_int_equal(l1_vmcb(g)->control.clean, 0x55aa);
	assert_int_equal(l1_vmcb(g)->save.fs.base, 0x1234);
}

/* With the VMCB's page gone at #VMEXIT the hypervisor shuts down. */
static void test_svm_no_memory(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RAX] = GUEST_RAM;
	assert_int_equal(guest_run_to_hlt(g), 13);
	s->rip = GUEST_CODE;
	s->gpr[CPU_RAX] = VMCB;
	GUEST_CODE_BYTES(g, L2, 0xe6, 0x71, 0x0f, 0x01, 0xd9);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	s->svm.vmcb_pa = GUEST_RAM;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_SHUTDOWN);
	assert_false(s->svm.guest);
}

/* ---- VMEXIT_INVALID -------------------------------------------------------------------------------------- */

#define INVALID(field, value) do { \
		l1_vmcb_fill(g); \
		v->field = (value); \
		v->control.event_inject |= UINT64_C(0x1234000000); \
		assert_exit(g, SVM_EXIT_INVALID); \
		assert_int_equal(v->save.rip, L2); \
		assert_int_equal(v->control.event_inject, 0); \
	} while (0)
#define VALID(field, value) do { \
		l1_vmcb_fill(g); \
		v->field = (value); \
		assert_exit(g, SVM_EXIT_VMMCALL); \
	} while (0)

static void test_svm_illegal_state(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct vmcb *v = l1_vmcb(g);
	uint64_t high = UINT64_C(1) << 32, limit = UINT64_C(1) << 48;

	VALID(control.asid, 7);
	INVALID(save.efer, s->efer & ~EFER_SVME);
	INVALID(save.efer, s->efer | UINT64_C(1) << 20);
	INVALID(save.cr0, s->cr0 | 0x20000000); /* NW without CD */
	VALID(save.cr0, s->cr0 | 0x60000000);
	INVALID(save.cr0, s->cr0 | high);
	INVALID(save.cr0, s->cr0 & ~UINT64_C(1)); /* long mode without PE */
	INVALID(save.cr3, s->cr3 | limit);
	INVALID(save.cr4, s->cr4 | UINT64_C(1) << 25);
	INVALID(save.cr4, s->cr4 & ~UINT64_C(0x20)); /* and without PAE */
	INVALID(save.dr6, 0xffff0ff0 | high);
	INVALID(save.dr7, 0x400 | high);
	INVALID(save.cs.attributes, v->save.cs.attributes | 0x400); /* L and D */
	INVALID(control.asid, 0);
	INVALID(control.intercepts[4], 2); /* not VMRUN */
	INVALID(control.tlb_control, 2);
	INVALID(control.nested, NESTED_PAGING); /* this machine has none */
	VALID(control.iopm, limit - 0x3000);
	INVALID(control.iopm, limit - 0x2000);
	INVALID(control.iopm, ~UINT64_C(0));
	VALID(control.msrpm, limit - 0x2000);
	INVALID(control.msrpm, limit - 0x1000);
}

static uint64_t event(unsigned type, unsigned vector)
{
	return EVENT_VALID | type << EVENT_TYPE_SHIFT | vector;
}

static void test_svm_illegal_events(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);

	for (unsigned type = 0; type < 8; type++) {
		if (type == EVENT_TYPE_EXCEPTION || type == EVENT_TYPE_INTERRUPT || type == EVENT_TYPE_NMI ||
		    type == EVENT_TYPE_SOFTWARE)
			continue;
		INVALID(control.event_inject, event(type, 13));
	}
	INVALID(control.event_inject, event(EVENT_TYPE_EXCEPTION, 2));
	INVALID(control.event_inject, event(EVENT_TYPE_EXCEPTION, 9));
	INVALID(control.event_inject, event(EVENT_TYPE_EXCEPTION, 15));
	INVALID(control.event_inject, event(EVENT_TYPE_EXCEPTION, 32));
	VALID(control.event_inject, event(EVENT_TYPE_EXCEPTION, 2) & ~EVENT_VALID);
}

/* ---- who may, and with which address --------------------------------------------------------------------- */

GUEST_ASM(host_vmload, "vmload \n hlt")
GUEST_ASM(host_short, "addr32 vmrun \n out %al, $0x70")

static void test_svm_faults(void **state)
{
	static const uint8_t codes[] = { 0xd8, 0xda, 0xdb, 0xdc, 0xdd, 0xdf }; /* 0F 01 */
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = 0; i < sizeof(codes); i++) {
		GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x01, codes[i], 0xf4);
		s->rip = GUEST_CODE;
		s->efer &= ~EFER_SVME;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		assert_int_equal(guest_run_to_hlt(g), 6);
		s->rip = GUEST_CODE;
		s->efer |= EFER_SVME;
		s->gpr[CPU_RAX] = VMCB + 8;
		cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
		assert_int_equal(guest_run_to_hlt(g), i < 3 ? 13 : -1);
		s->rip = GUEST_CODE;
		s->gpr[CPU_RAX] = UINT64_C(1) << 48;
		assert_int_equal(guest_run_to_hlt(g), i < 3 ? 13 : -1);
	}
	s->gpr[CPU_RAX] = VMCB | UINT64_C(1) << 60;
	s->rip = GUEST_CODE;
	GUEST_LOAD(g, GUEST_CODE, host_short);
	assert_exit(g, SVM_EXIT_VMMCALL);
	s->svm.hsave_pa = 0;
	s->rip = GUEST_CODE;
	assert_int_equal(guest_run_to_hlt(g), 13);
}

static void test_svm_vmload_vmsave(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct vmcb *v = l1_vmcb(g);

	GUEST_LOAD(g, GUEST_CODE, host_vmload);
	memset(&v->save, 0x5a, sizeof(v->save));
	v->save.fs = (struct vmcb_segment){ 0x33, 0xcf3, 0x12345, UINT64_C(0x0101a00000000000) };
	v->save.gs = (struct vmcb_segment){ 0x3b, 0, 0, 0x5000 };
	v->save.tr = (struct vmcb_segment){ SEL_TSS, 0x8b, 0x67, GUEST_TSS };
	v->save.kernel_gs_base = 0x777;
	v->save.sysenter_cs = 0x10;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->seg[CPU_FS].base, UINT64_C(0xff01a00000000000));
	assert_int_equal(s->seg[CPU_FS].limit, 0x12345);
	assert_int_equal(s->seg[CPU_FS].dpl, 3);
	assert_true(s->seg[CPU_GS].unusable);
	assert_int_equal(s->seg[CPU_GS].base, 0x5000);
	assert_int_equal(s->seg[CPU_TR].limit, 0x67);
	assert_int_equal(s->kernel_gs_base, 0x777);
	assert_int_equal(s->star, UINT64_C(0x5a5a5a5a5a5a5a5a));
	memset(&v->save, 0x5a, sizeof(v->save));
	s->star = 0x888;
	GUEST_CODE_BYTES(g, GUEST_CODE, 0x0f, 0x01, 0xdb, 0xf4);
	s->rip = GUEST_CODE;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(v->save.star, 0x888);
	assert_int_equal(v->save.fs.limit, 0x12345);
	assert_int_equal(v->save.fs.attributes, 0xcf3);
	assert_int_equal(v->save.sysenter_cs, 0x10);
	assert_int_equal(v->save.cs.limit, 0x5a5a5a5a);
	assert_int_equal(v->save.gdtr.limit, 0x5a5a5a5a);
	assert_int_equal(v->save.idtr.limit, 0x5a5a5a5a);
	assert_int_equal(v->save.cr2, UINT64_C(0x5a5a5a5a5a5a5a5a));
}

static void test_svm_msrs(void **state)
{
	struct guest *g = *state;
	uint64_t value;

	assert_false(cpu_msr_set(g->cpu, 0xc0010117, 0x1001, false));
	assert_false(cpu_msr_set(g->cpu, 0xc0010117, UINT64_C(1) << 48, false));
	assert_true(cpu_msr_set(g->cpu, 0xc0010117, 0x5000, false));
	assert_true(cpu_msr_get(g->cpu, 0xc0010117, &value, true));
	assert_int_equal(value, 0x5000);
	assert_false(cpu_msr_set(g->cpu, 0xc0010114, 0x20, false));
	assert_false(cpu_msr_set(g->cpu, 0xc0010114, 0x10, false)); /* SVMDIS while SVM is on */
	cpu_state(g->cpu)->efer &= ~EFER_SVME;
	assert_true(cpu_msr_set(g->cpu, 0xc0010114, 0x18, false));
	assert_false(cpu_msr_set(g->cpu, 0xc0000080, cpu_state(g->cpu)->efer | EFER_SVME, false));
	assert_true(cpu_msr_set(g->cpu, 0xc0010114, 0x01, false)); /* locked */
	assert_true(cpu_msr_get(g->cpu, 0xc0010114, &value, true));
	assert_int_equal(value, 0x19);
}

/* ---- events ---------------------------------------------------------------------------------------------- */

/* The stubs of the IDT report their vector and halt: with HLT intercepted the hypervisor sees where the guest went. */
static int vector_reached(struct guest *g)
{
	int vector;

	l1_intercept(g, SVM_EXIT_HLT);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	vector = cpu_exit_info(g->cpu)->io.port;
	if (vector == 0x70)
		return -1;
	assert_exit(g, SVM_EXIT_HLT);
	return vector;
}

static uint64_t pushed(struct guest *g, unsigned n)
{
	return guest_read(g, l1_vmcb(g)->save.rsp + 8 * n, 8);
}

static void test_svm_injects(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);

	v->control.event_inject = event(EVENT_TYPE_INTERRUPT, 0x30); /* whatever IF says */
	assert_int_equal(vector_reached(g), 0x30);
	assert_int_equal(pushed(g, 0), L2);
	l1_vmcb_fill(g);
	v->control.event_inject = event(EVENT_TYPE_NMI, 99);
	assert_int_equal(vector_reached(g), 2);
	assert_false(cpu_state(g->cpu)->events.nmi.masked);
	l1_vmcb_fill(g);
	v->save.cr2 = 0x5000;
	v->control.event_inject = event(EVENT_TYPE_EXCEPTION, 14) | EVENT_ERROR | UINT64_C(0x1234) << 32;
	l1_intercept(g, SVM_EXIT_EXCEPTION + 14); /* not for what the hypervisor injects itself */
	assert_int_equal(vector_reached(g), 14);
	assert_int_equal(pushed(g, 0), 0x1234);
	assert_int_equal(pushed(g, 1), L2);
	assert_int_equal(v->save.cr2, 0x5000);
	l1_vmcb_fill(g);
	v->control.next_rip = L2 + 7;
	v->control.event_inject = event(EVENT_TYPE_SOFTWARE, 0x80);
	assert_int_equal(vector_reached(g), 0x80);
	assert_int_equal(pushed(g, 0), L2 + 7);
	l1_vmcb_fill(g);
	v->control.next_rip = L2 + 1;
	v->control.event_inject = event(EVENT_TYPE_EXCEPTION, 3);
	assert_int_equal(vector_reached(g), 3);
	assert_int_equal(pushed(g, 0), L2 + 1);
}

/* The exit interrupts the delivery of an event. The hypervisor hears of both. */
static void test_svm_exit_in_a_delivery(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);
	const uint64_t events[] = {
		event(EVENT_TYPE_INTERRUPT, 0x30), event(EVENT_TYPE_SOFTWARE, 0x81), event(EVENT_TYPE_NMI, 2),
		event(EVENT_TYPE_EXCEPTION, 12) | EVENT_ERROR | UINT64_C(0x77) << 32,
	};

	for (unsigned i = 0; i < 4; i++) {
		l1_vmcb_fill(g);
		v->save.rsp = UINT64_C(0xc0de000000); /* mapped nowhere */
		v->control.next_rip = L2 + 2;
		v->control.event_inject = events[i];
		l1_intercept(g, SVM_EXIT_EXCEPTION + 14);
		assert_exit(g, SVM_EXIT_EXCEPTION + 14);
		assert_int_equal(v->control.exit_int_info, events[i]);
		assert_int_equal(v->control.exit_info2, UINT64_C(0xc0de000000) - 8);
		assert_int_equal(v->control.exit_info1, 2);
		assert_int_equal(v->save.rip, L2);
		assert_int_equal(v->control.next_rip, 0);
		assert_false(cpu_state(g->cpu)->events.interrupt.injected);
	}
}

GUEST_ASM(l2_sti, "sti \n nop \n nop \n vmmcall")

static void test_svm_virtual_interrupt(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);
	uint64_t virq = V_IRQ | UINT64_C(5) << V_PRIORITY_SHIFT | UINT64_C(0x44) << V_VECTOR_SHIFT | V_INTR_MASKING;

	GUEST_LOAD(g, L2, l2_sti);
	v->control.virtual_interrupt = virq;
	assert_int_equal(vector_reached(g), 0x44);
	assert_int_equal(pushed(g, 0), L2 + 2); /* one instruction behind STI */
	assert_false(v->control.virtual_interrupt & V_IRQ);
	l1_vmcb_fill(g);
	v->control.virtual_interrupt = virq | 5; /* V_TPR is no lower */
	assert_int_equal(vector_reached(g), -1);
	assert_true(v->control.virtual_interrupt & V_IRQ);
	l1_vmcb_fill(g);
	v->control.virtual_interrupt = virq | 5 | V_IGNORE_TPR;
	assert_int_equal(vector_reached(g), 0x44);
	l1_vmcb_fill(g);
	v->control.virtual_interrupt = virq;
	l1_intercept(g, SVM_EXIT_VINTR);
	assert_exit(g, SVM_EXIT_VINTR);
	assert_int_equal(v->save.rip, L2 + 2);
	assert_true(v->control.virtual_interrupt & V_IRQ);
	l1_vmcb_fill(g);
	v->save.rflags = 0x202;
	v->control.interrupt_shadow = SHADOW_GUEST;
	v->control.virtual_interrupt = virq;
	assert_int_equal(vector_reached(g), 0x44);
	assert_int_equal(pushed(g, 0), L2 + 1);
}

/* MOV CR8 in the guest lowers V_TPR, and the processor's own stays. */
GUEST_ASM(l2_cr8, "sti \n mov $3, %eax \n mov %rax, %cr8 \n nop \n mov %cr8, %rcx \n vmmcall")

static void test_svm_virtual_tpr(void **state)
{
	struct guest *g = *state;
	struct vmcb *v = l1_vmcb(g);

	GUEST_LOAD(g, L2, l2_cr8);
	cpu_state(g->cpu)->cr8 = 9;
	v->control.virtual_interrupt = V_IRQ | UINT64_C(5) << V_PRIORITY_SHIFT | UINT64_C(0x44) << V_VECTOR_SHIFT |
	                               V_INTR_MASKING | 7;
	assert_int_equal(vector_reached(g), 0x44);
	assert_int_equal(pushed(g, 0), L2 + 10);
	assert_int_equal(v->control.virtual_interrupt & V_TPR, 3);
	assert_int_equal(cpu_state(g->cpu)->cr8, 9);
}

static bool waiting;
static unsigned acknowledged;

static int acknowledge(void *state)
{
	(void)state;
	if (!waiting)
		return -1;
	waiting = false;
	acknowledged++;
	return 0x55;
}

static bool peek(void *state)
{
	(void)state;
	return waiting;
}

GUEST_ASM(host_gif, "vmrun \n nop \n stgi \n nop \n hlt")

/* An interrupt of the machine: a #VMEXIT that leaves it pending, taken by the hypervisor when GIF is set. */
static void test_svm_physical_interrupt(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct vmcb *v = l1_vmcb(g);

	g->ops.interrupt = acknowledge;
	g->ops.interrupt_pending = peek;
	acknowledged = 0;
	waiting = true;
	s->rflags |= 0x200;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	s->svm.gif = false;
	GUEST_LOAD(g, GUEST_CODE, host_gif);
	l1_intercept(g, SVM_EXIT_INTR);
	v->control.virtual_interrupt = V_INTR_MASKING;
	v->control.interrupt_shadow = SHADOW_GUEST; /* does not hold off the exit */
	cpu_interrupt_raise(g->cpu);
	assert_int_equal(guest_run_to_hlt(g), 0x55);
	assert_int_equal(v->control.exit_code, SVM_EXIT_INTR);
	assert_int_equal(v->save.rip, L2);
	assert_int_equal(v->control.interrupt_shadow, SHADOW_GUEST);
	assert_int_equal(acknowledged, 1);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), GUEST_CODE + 7); /* right behind STGI */
	/* The hypervisor's IF decides with V_INTR_MASKING, the guest's without. */
	for (unsigned masking = 0; masking < 2; masking++) {
		l1_vmcb_fill(g);
		waiting = true;
		s->rip = GUEST_CODE;
		s->rflags = masking ? 0x2 : 0x202;
		s->svm.gif = false;
		cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
		l1_intercept(g, SVM_EXIT_INTR);
		v->control.virtual_interrupt = masking ? V_INTR_MASKING : 0;
		v->save.rflags = masking ? 0x202 : 2;
		cpu_interrupt_raise(g->cpu);
		assert_int_equal(guest_run_to_hlt(g), masking ? -1 : 0x55);
		assert_int_equal(v->control.exit_code, SVM_EXIT_VMMCALL);
		s->gpr[CPU_RAX] = VMCB;
	}
	/* Without the intercept it is the guest's. */
	l1_vmcb_fill(g);
	waiting = true;
	s->rip = GUEST_CODE;
	v->save.rflags = 0x202;
	cpu_interrupt_raise(g->cpu);
	assert_int_equal(guest_run_to_hlt(g), 0x55);
	assert_true(s->svm.guest);
	g->ops.interrupt = NULL;
}

/* NMI and INIT: exits that leave them pending. */
static void test_svm_nmi_and_init(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	struct vmcb *v = l1_vmcb(g);

	GUEST_LOAD(g, GUEST_CODE, host_gif);
	GUEST_CODE_BYTES(g, L2, 0xeb, 0xfe);
	l1_intercept(g, SVM_EXIT_NMI);
	s->svm.gif = false;
	s->events.nmi.pending = 1;
	assert_int_equal(guest_run_to_hlt(g), 2);
	assert_int_equal(v->control.exit_code, SVM_EXIT_NMI);
	assert_int_equal(s->events.nmi.pending, 0);
	assert_true(s->events.nmi.masked);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), GUEST_CODE + 7);

	l1_vmcb_fill(g);
	l1_intercept(g, SVM_EXIT_INIT);
	s->rip = GUEST_CODE;
	s->svm.gif = false;
	assert_false(cpu_init_take(g->cpu));
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_RSM); /* GIF was set: the owner may try again */
	assert_int_equal(v->control.exit_code, SVM_EXIT_INIT);
	assert_int_equal(s->rip, GUEST_CODE + 7);
	assert_true(cpu_init_take(g->cpu));
	assert_int_equal(guest_run_to_hlt(g), -1);
}

GUEST_ASM(l2_triple, "lidt 1f(%rip) \n ud2 \n 1: .quad 0, 0")

static void test_svm_shutdown(void **state)
{
	struct guest *g = *state;

	GUEST_LOAD(g, L2, l2_triple);
	l1_intercept(g, SVM_EXIT_SHUTDOWN);
	assert_exit(g, SVM_EXIT_SHUTDOWN);
	l1_vmcb_fill(g);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_SHUTDOWN);
}

/* A step of VMRUN traps when the hypervisor goes on. */
static void test_svm_step_over_vmrun(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->rflags |= 0x100;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	assert_int_equal(guest_run_to_hlt(g), 1);
	assert_int_equal(l1_vmcb(g)->control.exit_code, SVM_EXIT_VMMCALL);
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), GUEST_CODE + 3);
	assert_int_equal(s->dr[6] & 0x4000, 0x4000);
}

GUEST_ASM(l2_watched_ss, "mov 0x100000, %ss \n vmmcall")

/* A breakpoint of the nested guest that waits for the instruction behind MOV SS does not hit in the hypervisor. */
static void test_svm_held_breakpoint_goes(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, L2, l2_watched_ss);
	guest_write(g, 0x100000, 4, SEL_DATA);
	s->dr[0] = 0x100000;
	l1_vmcb(g)->save.dr7 = 0xf0401;
	s->rflags |= 0x100;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	assert_int_equal(guest_run_to_hlt(g), 1);
	assert_int_equal(l1_vmcb(g)->control.exit_code, SVM_EXIT_VMMCALL);
	assert_int_equal(s->dr[6], 0xffff4ff0); /* the step of VMRUN */
	assert_int_equal(guest_read(g, s->gpr[CPU_RSP], 8), GUEST_CODE + 3);
}

/* The nested guest's TSC is ahead, however it reads it. What it writes is the TSC itself. */
GUEST_ASM(l2_tsc, "mov %ecx, %esi \n rdtsc \n mov %edx, %ebx \n rdtscp \n mov %edx, %edi \n mov %esi, %ecx \n rdmsr \n"
                  "mov %edx, %ebp \n xor %edx, %edx \n xor %eax, %eax \n wrmsr \n rdmsr \n mov %edx, %r8d \n vmmcall")
GUEST_ASM(host_tsc, "vmrun \n mov $0x10, %ecx \n rdmsr \n hlt")

static void test_svm_tsc(void **state)
{
	const uint64_t half = UINT64_C(1) << 63;
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_LOAD(g, L2, l2_tsc);
	GUEST_LOAD(g, GUEST_CODE, host_tsc);
	l1_vmcb(g)->control.tsc_offset = half;
	s->gpr[CPU_RCX] = 0x10;
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(l1_vmcb(g)->control.exit_code, SVM_EXIT_VMMCALL);
	assert_int_equal(s->gpr[CPU_RBX] >> 31, 1); /* RDTSC */
	assert_int_equal(s->gpr[CPU_RDI] >> 31, 1); /* RDTSCP */
	assert_int_equal(s->gpr[CPU_RBP] >> 31, 1); /* RDMSR */
	assert_int_equal(s->gpr[CPU_R8] >> 31, 1);  /* behind WRMSR */
	assert_int_equal(s->gpr[CPU_RDX] >> 31, 0); /* the hypervisor's */
	assert_true(s->gpr[CPU_RDX] < 16);          /* which began again with the write */
	assert_true(cpu_tsc(g->cpu) < half);
}

/* Its owner sees the hypervisor's, also while the nested guest runs. */
static void test_svm_tsc_of_the_owner(void **state)
{
	struct guest *g = *state;
	uint64_t host, guest;

	GUEST_CODE_BYTES(g, L2, 0xe6, 0x71); /* OUT */
	l1_vmcb(g)->control.tsc_offset = UINT64_C(1) << 62;
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_true(cpu_state(g->cpu)->svm.guest);
	assert_true(cpu_msr_get(g->cpu, 0x10, &host, true));
	assert_true(cpu_msr_get(g->cpu, 0x10, &guest, false));
	assert_int_equal(host >> 62, 0);
	assert_int_equal(guest >> 62, 1);
}

/* INIT that is not intercepted ends guest mode. */
static void test_svm_reset_in_guest_mode(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	GUEST_CODE_BYTES(g, L2, 0xe6, 0x71, 0xeb, 0xfe);
	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_IO);
	assert_true(s->svm.guest);
	assert_true(cpu_init_take(g->cpu));
	cpu_reset(g->cpu, true);
	assert_true(!s->svm.guest && s->svm.gif && s->svm.hsave_pa == HSAVE && !(s->efer & EFER_SVME));
	GUEST_CODE_BYTES(g, 0x2000, 0x0f, 0x01, 0xd9, 0xf4); /* VMMCALL is not intercepted any more */
	s->seg[CPU_CS].base = 0;
	s->idt.limit = 0x3ff;
	guest_write(g, 4 * 6, 4, 0x2003);
	s->rip = 0x2000;
	s->gpr[CPU_RSP] = 0x4000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_svm_round_trip, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_vmcb_is_read_once, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_no_memory, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_illegal_state, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_illegal_events, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_faults, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_vmload_vmsave, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_msrs, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_injects, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_exit_in_a_delivery, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_virtual_interrupt, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_virtual_tpr, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_physical_interrupt, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_nmi_and_init, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_shutdown, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_step_over_vmrun, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_held_breakpoint_goes, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_tsc, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_tsc_of_the_owner, hypervisor_flat_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_svm_reset_in_guest_mode, hypervisor_flat_setup, guest_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
