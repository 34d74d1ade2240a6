/* SPDX-License-Identifier: MIT */
/*
 * What is done before each entry into the guest: requests, callbacks, and the events that are looked at outside the
 * guest: interrupts, SMIs, and those that end guest mode.
 */
#include "cpu/base/private.h"
#include "cpu/run/run_int.h"
#include "cpu/system/event.h"
#include "cpu/system/smm.h"
#include "cpu/system/svm.h"

/* Where an interrupt is a #VMEXIT: is one pending? It stays so, and so does REQUEST_INTERRUPT. */
static bool interrupt_waits(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (p->ops->interrupt_pending == NULL)
		return true;
	/* Cleared first: an interrupt that is raised from here on is asked for again. */
	atomic_fetch_and(&p->seat->requests, ~REQUEST_INTERRUPT);
	if (!p->ops->interrupt_pending(p->ops_state))
		return false;
	atomic_fetch_or(&p->seat->requests, REQUEST_INTERRUPT);
	return true;
}

/* Take an interrupt, if there is one. Returns: whether there was; there may be others. */
static bool interrupt_take(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	int vector;

	/* Cleared first: an interrupt that is raised from here on is asked for again. */
	atomic_fetch_and(&p->seat->requests, ~REQUEST_INTERRUPT);
	vector = p->ops->interrupt(p->ops_state);
	if (vector < 0)
		return false;
	atomic_fetch_or(&p->seat->requests, REQUEST_INTERRUPT);
	cpu->s.events.interrupt.injected = true;
	cpu->s.events.interrupt.soft = false;
	cpu->s.events.interrupt.vector = (uint8_t)vector;
	return true;
}

static enum cpu_exit interrupts(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	bool raised = (atomic_load(&p->seat->requests) & REQUEST_INTERRUPT) && p->ops->interrupt != NULL;

	if (unlikely(svm_intercepts(cpu, SVM_EXIT_INTR)) && interrupt_possible(cpu)) {
		raised = raised && interrupt_waits(cpu);
		if (raised || p->window_wanted)
			svm_exit_note(cpu, SVM_EXIT_INTR, 0, 0);
	} else if (raised && interrupt_possible(cpu)) {
		raised = interrupt_take(cpu);
	}
	if (unlikely(cpu->s.svm.guest) && !p->svm.exit.noted)
		svm_virtual_look(cpu);
	if (unlikely(p->svm.exit.noted)) {
		enum cpu_exit exit = exit_svm(cpu);

		if (exit != GO_ON)
			return exit;
	}
	if (p->window_wanted && interrupt_possible(cpu))
		return CPU_EXIT_IRQ_WINDOW;
	p->interrupt_waits = raised || p->window_wanted;
	p->attention = p->interrupt_waits || (cpu->s.events.smi.pending && !cpu->s.events.smi.smm) ||
	               (cpu->s.svm.guest && svm_event_waits(cpu));
	return GO_ON;
}

/* Take the SMI. Nothing has changed if that fails, and the SMI stays pending. Returns: GO_ON, or an exit. */
static enum cpu_exit system_management_interrupt(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	switch (smm_enter(cpu)) {
	case VMMU_OK:
		/* The next instruction is another one, in another address space. */
		devices_forget(cpu);
		p->single_next = false;
		p->resume = NULL;
		p->rep_rip = ~UINT64_C(0);
		return GO_ON;
	case VMMU_EBUSY:
	case VMMU_E2BIG:
		return CPU_EXIT_RING_FULL;
	case VMMU_EFAULT:
		p->exit.host_fault.gpa = smm_save_area(cpu);
		return CPU_EXIT_HOST_FAULT;
	default: /* no memory at SMBASE. KVM, too, gives up such a machine */
		return CPU_EXIT_DEAD;
	}
}

/* Make true what the owner wrote of guest mode, and make the #VMEXIT that was noted. Returns: GO_ON, or an exit. */
static enum cpu_exit guest_mode_settle(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (unlikely(p->svm.reattach) && svm_attach(cpu) != VMMU_OK)
		return CPU_EXIT_NOMEM;
	return unlikely(p->svm.exit.noted) ? exit_svm(cpu) : GO_ON;
}

static enum cpu_exit triple_fault(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	bool fatal = p->svm.fatal;

	cpu->s.events.triple_fault = p->svm.fatal = false;
	if (fatal || !svm_intercepts(cpu, SVM_EXIT_SHUTDOWN))
		return CPU_EXIT_SHUTDOWN;
	svm_exit_note(cpu, SVM_EXIT_SHUTDOWN, 0, 0);
	return exit_svm(cpu);
}

enum cpu_exit before_entry(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	enum cpu_exit exit = unlikely(p->writes_count != 0) ? exit_writes(cpu) : GO_ON;

	if (exit != GO_ON)
		return exit;
	exit = guest_mode_settle(cpu);
	if (exit != GO_ON)
		return exit;
	if (p->cr8_written) {
		p->cr8_written = false;
		if (p->ops->cr8_written != NULL)
			p->ops->cr8_written(p->ops_state, cpu->s.cr8);
	}
	if (p->debug_exit) {
		p->debug_exit = false;
		return CPU_EXIT_DEBUG;
	}
	if (cpu->s.events.triple_fault) {
		exit = triple_fault(cpu);
		if (exit != GO_ON)
			return exit;
	}
	if (p->completing || p->task.loading || event_is_raised(cpu))
		return GO_ON;
	if (atomic_load(&p->seat->requests) & REQUEST_EXIT) {
		atomic_fetch_and(&p->seat->requests, ~REQUEST_EXIT);
		return CPU_EXIT_KICKED;
	}
	if (p->ops->check != NULL && p->ops->check(p->ops_state))
		return CPU_EXIT_KICKED;
	if (unlikely(cpu->s.svm.guest)) {
		svm_event_look(cpu);
		exit = guest_mode_settle(cpu);
		if (exit != GO_ON)
			return exit;
	}
	if (unlikely(smm_is_due(cpu))) {
		exit = system_management_interrupt(cpu);
		if (exit != GO_ON)
			return exit;
	}
	return interrupts(cpu);
}
