/* SPDX-License-Identifier: MIT */
/* AMD SVM: how guest mode is left (APM vol. 2, 15.6). */
#include <string.h>

#include "cpu/base/flags.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/control.h"
#include "cpu/system/event.h"
#include "cpu/system/seg.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/svm_int.h"

/* ---- noting an exit -------------------------------------------------------------------------------------- */

/* Is there a next RIP for the exit: was it an instruction that was intercepted? */
static bool has_next_rip(const struct cpu *cpu, uint64_t code)
{
	if (cpu->op == &cpu->p->event_op)
		return false;
	if (code == SVM_EXIT_EXCEPTION + VECTOR_BP || code == SVM_EXIT_EXCEPTION + VECTOR_OF)
		return true;
	if (code >= SVM_EXIT_EXCEPTION && code < SVM_EXIT_CR0_SELECTIVE)
		return false;
	return code <= SVM_EXIT_LAST_INTERCEPT && code != SVM_EXIT_SHUTDOWN && code != SVM_EXIT_FERR_FREEZE;
}

_Noreturn void svm_exit(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2)
{
	struct cpu_private *p = cpu->p;

	svm_exit_note(cpu, code, info1, info2);
	if (has_next_rip(cpu, code))
		p->svm.exit.next_rip = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
}

void svm_exit_note(struct cpu *cpu, uint64_t code, uint64_t info1, uint64_t info2)
{
	struct svm_private *svm = &cpu->p->svm;

	svm->exit.noted = true;
	svm->exit.code = code;
	svm->exit.info1 = info1;
	svm->exit.info2 = info2;
	svm->exit.next_rip = 0;
	svm->exit.int_info = event_interrupted(cpu);
	svm->exit.fetched_count = 0;
}

/* ---- what #VMEXIT writes --------------------------------------------------------------------------------- */

static void control_compose(struct cpu *cpu, struct vmcb_control *to)
{
	const struct vmcb_control *loaded = svm_control(cpu);
	const struct svm_private *svm = &cpu->p->svm;

	to->virtual_interrupt = loaded->virtual_interrupt;
	to->interrupt_shadow = cpu->s.events.shadow != 0 ? SHADOW_GUEST : 0;
	to->exit_code = svm->exit.code;
	to->exit_info1 = svm->exit.info1;
	to->exit_info2 = svm->exit.info2;
	to->exit_int_info = svm->exit.int_info;
	to->event_inject = 0;
	to->next_rip = svm->has_nrips ? svm->exit.next_rip : 0;
	/* Linux's KVM takes a count of bytes for a sign that there are decode assists, and trips over it. */
	to->fetched_count = svm->has_decode_assists ? svm->exit.fetched_count : 0;
	memset(to->fetched, 0, sizeof(to->fetched));
	memcpy(to->fetched, svm->exit.fetched, to->fetched_count);
}

static void save_compose(struct cpu *cpu, struct vmcb_save *to)
{
	const struct cpu_state *s = &cpu->s;

	to->es = svm_segment_pack(&s->seg[CPU_ES]);
	to->cs = svm_segment_pack(&s->seg[CPU_CS]);
	to->ss = svm_segment_pack(&s->seg[CPU_SS]);
	to->ds = svm_segment_pack(&s->seg[CPU_DS]);
	to->gdtr = svm_table_pack(&s->gdt);
	to->idtr = svm_table_pack(&s->idt);
	to->cpl = cpu->cpl;
	to->efer = s->efer;
	to->cr0 = s->cr0;
	to->cr2 = s->cr2;
	to->cr3 = s->cr3;
	to->cr4 = s->cr4;
	to->dr6 = s->dr[6];
	to->dr7 = s->dr[7];
	to->rflags = s->rflags;
	to->rip = s->rip;
	to->rsp = s->gpr[CPU_RSP];
	to->rax = s->gpr[CPU_RAX];
	to->pat = s->pat;
}

/* Which parts of a VMCB #VMEXIT writes. The rest may be changed by other CPUs meanwhile. */
struct part {
	uint16_t at, bytes;
};
#define PART(first, last) { \
	offsetof(struct vmcb, first), \
	offsetof(struct vmcb, last) + sizeof(((struct vmcb *)0)->last) - offsetof(struct vmcb, first) }

static const struct part exit_parts[] = {
	PART(control.virtual_interrupt, control.exit_int_info), PART(control.event_inject, control.event_inject),
	PART(control.next_rip, control.fetched), PART(save.es, save.ds), PART(save.gdtr, save.gdtr),
	PART(save.idtr, save.idtr), PART(save.cpl, save.cpl), PART(save.efer, save.efer), PART(save.cr4, save.rip),
	PART(save.rsp, save.rsp), PART(save.rax, save.rax), PART(save.cr2, save.cr2),
};
static const struct part pat_part = PART(save.pat, save.pat);

static enum vmmu_status part_write(struct cpu *cpu, uint64_t at, const struct vmcb *vmcb, const struct part *part)
{
	return vmmu_guest_write(cpu->p->vcpu, (struct vmmu_gpa){ at + part->at }, (const char *)vmcb + part->at,
	                        part->bytes);
}

/* Most of a guest's state is as VMRUN loaded it, and each write to guest memory costs. */
static bool part_is_as_found(const struct cpu *cpu, const struct vmcb *vmcb, const struct part *part)
{
	const struct svm_private *svm = &cpu->p->svm;
	const uint8_t *found = part->at < VMCB_SAVE ? svm->found.control + part->at
	                                            : svm->found.save + (part->at - VMCB_SAVE);

	return svm->found.valid && memcmp((const char *)vmcb + part->at, found, part->bytes) == 0;
}

enum vmmu_status svm_parts_write(struct cpu *cpu, uint64_t at, const struct vmcb *vmcb, bool invalid)
{
	enum vmmu_status status = VMMU_OK;
	unsigned count = invalid ? 3 : sizeof(exit_parts) / sizeof(exit_parts[0]);

	for (unsigned i = 0; i < count && status == VMMU_OK; i++) {
		if (invalid || !part_is_as_found(cpu, vmcb, &exit_parts[i]))
			status = part_write(cpu, at, vmcb, &exit_parts[i]);
	}
	if (status == VMMU_OK && !invalid && svm_is_nested(cpu) && !part_is_as_found(cpu, vmcb, &pat_part))
		status = part_write(cpu, at, vmcb, &pat_part);
	return status;
}

/* ---- what #VMEXIT loads ---------------------------------------------------------------------------------- */

static void host_load(struct cpu *cpu)
{
	const struct cpu_svm *svm = &cpu->s.svm;
	struct cpu_state *s = &cpu->s;

	s->seg[CPU_ES] = svm->host.es;
	s->seg[CPU_CS] = svm->host.cs;
	s->seg[CPU_SS] = svm->host.ss;
	s->seg[CPU_DS] = svm->host.ds;
	s->seg[CPU_SS].dpl = 0; /* the CPL */
	s->gdt = svm->host.gdt;
	s->idt = svm->host.idt;
	s->efer = svm->host.efer;
	s->cr0 = svm->host.cr0 | CR0_PE;
	s->cr3 = svm->host.cr3;
	s->cr4 = svm->host.cr4;
	s->rip = svm->host.rip;
	s->gpr[CPU_RSP] = svm->host.rsp;
	s->gpr[CPU_RAX] = svm->host.rax;
	s->dr[7] = DR7_FIXED1;
	rflags_set(cpu, svm->host.rflags & ~RFLAGS_VM);
}

/* Nothing of what the nested guest was about to do goes on in the hypervisor. */
static void guest_forget(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;
	struct cpu_private *p = cpu->p;

	e->exception.pending = e->exception.injected = e->exception.has_payload = false;
	e->interrupt.injected = e->nmi.injected = e->triple_fault = false;
	e->shadow = 0;
	p->svm.exit.noted = p->svm.found.valid = false;
	p->delivering_soft = 0;
	p->delivering = -1;
	svm_inject_done(cpu);
	p->completion = COMPLETE_NONE;
	p->single_next = p->step_trap = p->shadow_set = p->rf_loaded = false;
	p->resume = NULL;
	p->rep_rip = ~UINT64_C(0);
	p->dr6_held = 0;
	cpu->single = false;
}

static void trap_step(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;

	e->exception.pending = true;
	e->exception.vector = VECTOR_DB;
	e->exception.has_error = false;
	e->exception.has_payload = true;
	e->exception.payload = DR6_BS;
}

/* The hypervisor's PDPTEs are loaded again. */
static bool host_pdptes_legal(struct cpu *cpu)
{
	const struct cpu_state *s = &cpu->s;

	return (s->efer & EFER_LMA) || !(s->cr4 & CR4_PAE) || !(s->cr0 & CR0_PG) || cpu_pdptes_legal(cpu, s->cr3);
}

void svm_leave(struct cpu *cpu)
{
	struct cpu_state *s = &cpu->s;

	tlb_context_leave(cpu);
	if (svm_is_nested(cpu))
		s->pat = s->svm.host.pat;
	svm_guest_detach(cpu);
	guest_forget(cpu);
	host_load(cpu);
	s->svm.gif = false;
	cpu->p->shadow.regs_written = cpu->p->shadow.owner_wrote = true;
	tlb_context_enter(cpu, TLB_ASID_HOST, NULL);
	mode_update(cpu);
}

enum vmmu_status svm_guest_write(struct cpu *cpu)
{
	struct vmcb vmcb;

	cpu->s.rflags = rflags_get(cpu);
	control_compose(cpu, &vmcb.control);
	save_compose(cpu, &vmcb.save);
	return svm_parts_write(cpu, cpu->s.svm.vmcb_pa, &vmcb, false);
}

enum vmmu_status svm_vmexit_noted(struct cpu *cpu)
{
	enum vmmu_status status = svm_guest_write(cpu);

	if (status != VMMU_OK && status != VMMU_ENOENT)
		return status;
	svm_leave(cpu);
	/* With no memory for the exit, or tables that cannot be loaded, the hypervisor shuts down. */
	if (status == VMMU_ENOENT || !host_pdptes_legal(cpu))
		cpu->s.events.triple_fault = true;
	else if (cpu->s.svm.host.rflags & RFLAGS_TF)
		trap_step(cpu); /* VMRUN is complete */
	return VMMU_OK;
}

/* ---- the owner ------------------------------------------------------------------------------------------- */

void svm_state_changed(struct cpu *cpu)
{
	struct svm_private *svm = &cpu->p->svm;
	struct vmmu_nested nested;

	svm->exit.noted = svm->found.valid = false;
	svm_inject_done(cpu);
	tlb_flush_contexts(cpu);
	if (!cpu->s.svm.guest)
		svm_guest_detach(cpu);
	svm->reattach = cpu->s.svm.guest;
	if (cpu->s.svm.guest)
		tlb_context_enter(cpu, svm_control(cpu)->asid, svm_nested(cpu, &nested));
	else
		tlb_context_enter(cpu, TLB_ASID_HOST, NULL);
	mode_update(cpu);
}

enum vmmu_status svm_attach(struct cpu *cpu)
{
	enum vmmu_status status = svm_guest_attach(cpu);

	if (status == VMMU_ENOMEM)
		return status;
	cpu->p->svm.reattach = false;
	if (status != VMMU_OK) {
		/* The VM has no nested paging. No hypervisor could have entered such a guest. */
		svm_leave(cpu);
		cpu->s.events.triple_fault = true;
	}
	return VMMU_OK;
}
