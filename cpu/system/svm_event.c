/* SPDX-License-Identifier: MIT */
/*
 * Events of guest mode: what EVENTINJ injects, which physical events become a #VMEXIT, and the virtual interrupt (APM
 * vol. 2, 15.13, 15.17, 15.20 and 15.21).
 *
 * What the hypervisor injects goes to s.events as "injected": it is delivered first, and is itself not intercepted.
 * Physical events and the virtual interrupt are looked at outside the guest, before an entry.
 */
#include "cpu/system/event.h"
#include "cpu/system/svm_int.h"

/* ---- EVENTINJ and EXITINTINFO ---------------------------------------------------------------------------- */

#define EVENT_TYPE(event)  ((unsigned)((event) >> EVENT_TYPE_SHIFT & 7))
#define EVENT_ERROR_SHIFT  32u

/* Vectors of exceptions: 0 to 19 but NMI and those that are reserved, #HV and #SX. */
#define EXCEPTIONS (UINT32_C(0x000f7dfb) | UINT32_C(1) << 28 | UINT32_C(1) << 30)

bool svm_event_legal(uint64_t event)
{
	unsigned vector = event & EVENT_VECTOR;

	if (!(event & EVENT_VALID))
		return true;
	switch (EVENT_TYPE(event)) {
	case EVENT_TYPE_INTERRUPT: case EVENT_TYPE_NMI: case EVENT_TYPE_SOFTWARE: return true;
	case EVENT_TYPE_EXCEPTION: return vector < 32 && (EXCEPTIONS >> vector & 1);
	default: return false;
	}
}

/* INT n, INT3 and INTO are complete when they are injected: the handler returns behind them. */
static void inject_behind(struct cpu *cpu)
{
	if (!cpu->p->svm.has_nrips)
		return;
	cpu->p->svm.inject_rip = svm_control(cpu)->next_rip;
	cpu->p->svm.inject_rip_valid = true;
}

void svm_event_inject(struct cpu *cpu, uint64_t event)
{
	struct cpu_events *e = &cpu->s.events;
	unsigned type = EVENT_TYPE(event);
	uint8_t vector = event & EVENT_VECTOR;

	if (!(event & EVENT_VALID))
		return;
	switch (type) {
	case EVENT_TYPE_NMI:
		e->nmi.injected = true;
		cpu->p->svm.nmi_injected = true;
		break;
	case EVENT_TYPE_EXCEPTION:
		e->exception.injected = true;
		e->exception.vector = vector;
		e->exception.has_error = event & EVENT_ERROR;
		e->exception.error = (uint32_t)(event >> EVENT_ERROR_SHIFT);
		e->exception.has_payload = false;
		if (vector == VECTOR_BP || vector == VECTOR_OF)
			inject_behind(cpu);
		break;
	default:
		e->interrupt.injected = true;
		e->interrupt.soft = type == EVENT_TYPE_SOFTWARE;
		e->interrupt.vector = vector;
		if (e->interrupt.soft)
			inject_behind(cpu);
		break;
	}
}

void svm_inject_done(struct cpu *cpu)
{
	cpu->p->svm.inject_rip_valid = cpu->p->svm.nmi_injected = false;
}

/* ---- physical events ------------------------------------------------------------------------------------- */

/* Has the delivery of an event begun? It comes before all others. */
static bool delivery_begun(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	return e->exception.pending || e->exception.injected || e->interrupt.injected || e->nmi.injected;
}

bool svm_interrupt_possible(const struct cpu *cpu)
{
	const struct cpu_svm *svm = &cpu->s.svm;
	bool flag = cpu->s.rflags & RFLAGS_IF;

	if (!svm->gif)
		return false;
	if (!svm->guest)
		return flag && cpu->s.events.shadow == 0 && !event_is_pending(cpu);
	if (svm_control_const(cpu)->virtual_interrupt & V_INTR_MASKING)
		flag = svm->host_if;
	if (!flag || event_is_pending(cpu))
		return false;
	return svm_intercepts(cpu, SVM_EXIT_INTR) || cpu->s.events.shadow == 0;
}

/* Which #VMEXIT a physical event other than an interrupt makes now; 0: none. */
static unsigned exit_due(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	if (!cpu->s.svm.guest || !cpu->s.svm.gif || delivery_begun(cpu))
		return 0;
	if (cpu->s.svm.init_held && svm_intercepts(cpu, SVM_EXIT_INIT))
		return SVM_EXIT_INIT;
	if (e->smi.pending && !e->smi.smm && svm_intercepts(cpu, SVM_EXIT_SMI))
		return SVM_EXIT_SMI;
	if (e->nmi.pending && svm_intercepts(cpu, SVM_EXIT_NMI))
		return SVM_EXIT_NMI;
	return 0;
}

/* ---- the virtual interrupt ------------------------------------------------------------------------------- */

static bool virtual_waits(const struct cpu *cpu)
{
	uint64_t v = svm_control_const(cpu)->virtual_interrupt;

	if (!cpu->s.svm.guest || !(v & V_IRQ))
		return false;
	return (v & V_IGNORE_TPR) || (v >> V_PRIORITY_SHIFT & 15) > (v & V_TPR & 15);
}

/* With a virtual GIF, that one holds off the virtual interrupt, and the other one the physical ones. */
static bool virtual_gif(const struct cpu *cpu)
{
	uint64_t v = svm_control_const(cpu)->virtual_interrupt;

	return cpu->s.svm.gif && (!(v & V_GIF_ENABLE) || (v & V_GIF));
}

bool svm_virtual_possible(const struct cpu *cpu)
{
	return virtual_waits(cpu) && virtual_gif(cpu) && (cpu->s.rflags & RFLAGS_IF) && cpu->s.events.shadow == 0 &&
	       !event_is_pending(cpu) && !(cpu->p->debug & CPU_DEBUG_BLOCK_IRQ);
}

bool svm_virtual_gif_set(struct cpu *cpu, bool set)
{
	struct vmcb_control *control = svm_control(cpu);

	if (!cpu->s.svm.guest || !(control->virtual_interrupt & V_GIF_ENABLE))
		return false;
	control->virtual_interrupt = set ? control->virtual_interrupt | V_GIF : control->virtual_interrupt & ~V_GIF;
	return true;
}

bool svm_tpr_is_virtual(const struct cpu *cpu)
{
	return svm_control_const(cpu)->virtual_interrupt & V_INTR_MASKING;
}

uint64_t svm_tpr_read(const struct cpu *cpu)
{
	return svm_control_const(cpu)->virtual_interrupt & V_TPR & 15;
}

void svm_tpr_write(struct cpu *cpu, uint64_t tpr)
{
	svm_control(cpu)->virtual_interrupt = (svm_control(cpu)->virtual_interrupt & ~V_TPR) | tpr;
}

static void virtual_take(struct cpu *cpu)
{
	struct vmcb_control *control = svm_control(cpu);

	if (svm_intercepts(cpu, SVM_EXIT_VINTR)) {
		svm_exit_note(cpu, SVM_EXIT_VINTR, 0, 0);
		return;
	}
	control->virtual_interrupt &= ~V_IRQ;
	cpu->s.events.interrupt.injected = true;
	cpu->s.events.interrupt.soft = false;
	cpu->s.events.interrupt.vector = (uint8_t)(control->virtual_interrupt >> V_VECTOR_SHIFT);
}

/* ---- for the run loop ------------------------------------------------------------------------------------ */

bool svm_event_waits(const struct cpu *cpu)
{
	/* V_TPR may still be above it: the guest may lower that. */
	return exit_due(cpu) != 0 || (svm_control_const(cpu)->virtual_interrupt & V_IRQ);
}

bool svm_event_possible(const struct cpu *cpu)
{
	return exit_due(cpu) != 0 || svm_virtual_possible(cpu);
}

void svm_event_look(struct cpu *cpu)
{
	unsigned exit = exit_due(cpu);

	if (exit != 0)
		svm_exit_note(cpu, exit, 0, 0);
}

void svm_virtual_look(struct cpu *cpu)
{
	if (svm_virtual_possible(cpu))
		virtual_take(cpu);
}
