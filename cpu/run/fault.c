/* SPDX-License-Identifier: MIT */
/*
 * Faults on the library's tables, outside the guest: what the library says, and how the instruction goes on.
 *
 * Most instructions run again. One that accesses a device, or a page that the library mirrors, runs again with that
 * page armed (mmio_armed_find).
 */
#include <vmmu/nested.h>

#include "cpu/base/private.h"
#include "cpu/memory/mirrored.h"
#include "cpu/memory/shadow.h"
#include "cpu/run/run_int.h"
#include "cpu/system/intercept.h"
#include "cpu/system/svm.h"

/*
 * No memory is at the faulting address, which is `target` to the guest itself. A table in read-only memory needs no
 * device: it keeps its bits.
 */
static enum cpu_exit fault_is_mmio(struct cpu *cpu, struct vmmu_gpa target)
{
	const uint64_t walk_writes = VMMU_PF_GUEST_PAGE | VMMU_PF_WRITE;
	struct cpu_private *p = cpu->p;
	uint64_t page = p->fault_gpa.v >> 12;

	p->fault_gpa = target;
	if ((cpu->op == &p->event_op && (p->fault_error & walk_writes) != walk_writes) ||
	    (p->fault_error & VMMU_PF_FETCH) || p->armed_count == sizeof(p->armed) / sizeof(p->armed[0]))
		return cpu_internal_error(cpu);
	p->armed[p->armed_count++] = (struct mmio_armed){
		.page = page, .target = target.v >> 12, .write = p->fault_error & VMMU_PF_WRITE, .tag = p->shadow.tag,
	};
	p->single_next = true;
	return GO_ON;
}

/* The instruction at cpu->op runs again. */
static enum cpu_exit fault_is_fixed(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (cpu->single) {
		p->single_next = true;
	} else if (cpu->op != &p->fetch_op && cpu->op != &p->event_op) {
		p->resume = cpu->op;
		p->resume_gen = cpu->code_gen;
	}
	return GO_ON;
}

/*
 * VMMU_PF_NOWAIT if the owner wants to hear of a page that the host would wait for, and may give the guest an exception
 * in place of the instruction. As KVM, only where the guest could take an interrupt, too.
 */
static uint64_t nowait(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (likely(!p->page_wait_exits))
		return 0;
	if (p->page_wait_once) {
		p->page_wait_once = false;
		return 0;
	}
	if (cpu->op == &p->event_op || p->completing || cpu->single || cpu->s.svm.guest || !interrupt_possible(cpu))
		return 0;
	return VMMU_PF_NOWAIT;
}

static enum cpu_exit exit_page_wait(struct cpu *cpu, struct vmmu_gpa gpa)
{
	cpu->p->exit.page_wait.gpa = gpa.v;
	return CPU_EXIT_PAGE_WAIT;
}

static enum cpu_exit page_fault(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	switch (cpu_shadow_fault(cpu, nowait(cpu))) {
	case SHADOW_RUN: return fault_is_fixed(cpu);
	case SHADOW_MMIO: return fault_is_mmio(cpu, p->fault_gpa);
	case SHADOW_HOST:
		p->exit.host_fault.gpa = p->fault_gpa.v;
		return CPU_EXIT_HOST_FAULT;
	case SHADOW_WAIT: return exit_page_wait(cpu, p->fault_gpa);
	case SHADOW_NOMEM: return CPU_EXIT_NOMEM;
	case SHADOW_STUCK: return cpu_internal_error(cpu);
	default: return CPU_EXIT_DEAD;
	}
}

/* A write to a page that the library mirrors. */
static enum cpu_exit fault_is_mirrored(struct cpu *cpu, struct vmmu_gpa target)
{
	struct cpu_private *p = cpu->p;

	if (p->fault_error & VMMU_PF_GUEST_PAGE) {
		if (mirrored_walk_fault(cpu, target))
			return fault_is_fixed(cpu);
	} else if (mirrored_fault(cpu, p->fault_gpa.v, target)) {
		return GO_ON;
	}
	p->fault_gpa = target;
	return cpu_internal_error(cpu);
}

/*
 * The fault is the hypervisor's: its nested table forbids the access. What the instruction began is given up, and an
 * event that was being delivered stays in s.events for the exit to tell of it.
 */
static enum cpu_exit fault_exits(struct cpu *cpu, uint64_t info)
{
	struct cpu_private *p = cpu->p;

	exit_svm_give_up(cpu);
	p->single_next = false;
	svm_exit_note(cpu, SVM_EXIT_NPF, info, p->fault_gpa.v);
	if (cpu->op != &p->fetch_op && cpu->op != &p->event_op)
		intercept_fetched(cpu);
	return GO_ON;
}

static enum vmmu_page_fault fault_ask(struct cpu *cpu, struct vmmu_page_info *info)
{
	struct cpu_private *p = cpu->p;
	uint64_t error = p->fault_error | nowait(cpu);

	*info = (struct vmmu_page_info){ .gpa = p->fault_gpa };
	if (unlikely(p->context->nested))
		return vmmu_nested_fault(p->vcpu, p->fault_gpa, error, info);
	return (enum vmmu_page_fault)vmmu_fault(p->vcpu, p->fault_gpa, error);
}

static enum cpu_exit fault_answered(struct cpu *cpu, enum vmmu_page_fault answer, const struct vmmu_page_info *info)
{
	switch (answer) {
	case VMMU_PAGE_FIXED:
	case VMMU_PAGE_RETRY:
		return fault_is_fixed(cpu);
	case VMMU_PAGE_MMIO:
		return fault_is_mmio(cpu, info->gpa);
	case VMMU_PAGE_EMULATE:
		return fault_is_mirrored(cpu, info->gpa);
	case VMMU_PAGE_GUEST:
		return fault_exits(cpu, info->error);
	case VMMU_PAGE_HOST:
		cpu->p->exit.host_fault.gpa = info->gpa.v;
		return CPU_EXIT_HOST_FAULT;
	case VMMU_PAGE_WAIT:
		return exit_page_wait(cpu, info->gpa);
	case VMMU_PAGE_NOMEM:
		return CPU_EXIT_NOMEM;
	default:
		return CPU_EXIT_DEAD;
	}
}

enum cpu_exit fault_handle(struct cpu *cpu)
{
	struct vmmu_page_info info;

	if (cpu->entry.shadow)
		return page_fault(cpu);
	return fault_answered(cpu, fault_ask(cpu, &info), &info);
}

bool fault_translate(struct cpu *cpu, struct vmmu_gpa *gpa, uint64_t error, enum cpu_exit *exit)
{
	struct vmmu_page_info info;
	enum vmmu_page_fault answer;

	cpu->p->fault_gpa = *gpa;
	cpu->p->fault_error = error;
	answer = fault_ask(cpu, &info);
	if (answer == VMMU_PAGE_FIXED || answer == VMMU_PAGE_MMIO || answer == VMMU_PAGE_EMULATE) {
		*gpa = info.gpa;
		return true;
	}
	*exit = fault_answered(cpu, answer, &info);
	return false;
}
