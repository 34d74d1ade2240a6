/* SPDX-License-Identifier: MIT */
/*
 * What an exit asks of the outside, and what becomes of the answer: ports, devices, MSRs, hypercalls. All of it runs
 * outside the guest.
 */
#include <string.h>

#include "cpu/base/private.h"
#include "cpu/run/run_int.h"
#include "cpu/system/intercept.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/smm.h"
#include "cpu/system/svm.h"

/* Run the instruction again with the answer, before anything else: see `completing` in base/private.h. */
void complete_again(struct cpu *cpu)
{
	cpu->p->single_next = true;
	cpu->p->completing = true;
}

/* An error code is 0. */
static void raise_outside(struct cpu *cpu, enum cpu_vector vector, bool has_error)
{
	cpu->s.events.exception.pending = cpu->p->raised = true;
	cpu->s.events.exception.vector = (uint8_t)vector;
	cpu->s.events.exception.has_error = has_error;
	cpu->s.events.exception.error = 0;
	cpu->single = false;
}

static void step_over(struct cpu *cpu)
{
	cpu->s.rip = cpu->p->complete_next;
	instruction_done(cpu);
}

static void complete_in(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	uint64_t value = 0;

	memcpy(&value, p->io_data, p->exit.io.size);
	reg_write(cpu, OPR(CPU_RAX), p->exit.io.size == 1 ? 1 : p->exit.io.size == 2 ? 2 : 4, value);
	step_over(cpu);
}

static void complete_mmio_read(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	struct mmio_fragment *f = &p->reads[p->reads_count++];

	f->gpa = p->exit.mmio.gpa;
	f->len = p->exit.mmio.len;
	memcpy(f->data, p->exit.mmio.data, 8);
	complete_again(cpu);
}

void exit_complete(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	enum completion completion = p->completion;

	p->completion = COMPLETE_NONE;
	if (completion == COMPLETE_NONE || completion == COMPLETE_MMIO_WRITE)
		return;
	if (cpu->s.rip != p->complete_rip) {
		/* The owner moved the CPU elsewhere: nothing is left to complete. */
		p->io_last.valid = false;
		devices_forget(cpu);
		return;
	}
	switch (completion) {
	case COMPLETE_IN:
		complete_in(cpu);
		break;
	case COMPLETE_OUT:
	case COMPLETE_STEP:
		step_over(cpu);
		break;
	case COMPLETE_STRING:
		p->io_have = p->exit.io.count;
		complete_again(cpu);
		break;
	case COMPLETE_MMIO_READ:
		complete_mmio_read(cpu);
		break;
	default: /* MSRs */
		if (p->exit.msr.failed) {
			raise_outside(cpu, VECTOR_GP, true);
			break;
		}
		if (completion == COMPLETE_RDMSR) {
			cpu->s.gpr[CPU_RAX] = (uint32_t)p->exit.msr.data;
			cpu->s.gpr[CPU_RDX] = p->exit.msr.data >> 32;
		}
		step_over(cpu);
		if (completion == COMPLETE_WRMSR)
			intercept_msr_written(cpu, p->exit.msr.index);
		break;
	}
}

void cpu_exit_out_done(struct cpu *cpu)
{
	if (cpu->p->completion == COMPLETE_OUT)
		exit_complete(cpu);
}

/* ---- the exit itself ----------------------------------------------------------------------------------- */

void exit_svm_give_up(struct cpu *cpu)
{
	devices_forget(cpu);
	cpu->single = cpu->p->step_trap = false;
	cpu->p->dr6_hits = 0;
}

/* A hypervisor's map has not let the instruction go on. */
static enum cpu_exit map_refuses(struct cpu *cpu, enum map_answer answer)
{
	cpu->p->completion = COMPLETE_NONE;
	if (answer == MAP_HOST_FAULT)
		return CPU_EXIT_HOST_FAULT;
	exit_svm_give_up(cpu);
	return GO_ON;
}

enum cpu_exit exit_port_map(struct cpu *cpu)
{
	enum map_answer answer = intercept_port_map(cpu);

	if (answer != MAP_ALLOWS)
		return map_refuses(cpu, answer);
	complete_again(cpu);
	return GO_ON;
}

static enum cpu_exit do_msr(struct cpu *cpu, bool write)
{
	struct cpu_private *p = cpu->p;
	enum cpu_msr_result result;
	uint32_t index = p->exit.msr.index;
	enum map_answer allowed = intercept_msr(cpu, index, write);

	if (allowed != MAP_ALLOWS)
		return map_refuses(cpu, allowed);
	p->exit.msr.failed = p->exit.msr.unknown = false;
	if (write) {
		if (p->ops->wrmsr != NULL)
			result = p->ops->wrmsr(p->ops_state, index, p->exit.msr.data);
		else
			result = cpu_msr_set(cpu, index, p->exit.msr.data, false) ? CPU_MSR_OK : CPU_MSR_GP;
	} else {
		if (p->ops->rdmsr != NULL)
			result = p->ops->rdmsr(p->ops_state, index, &p->exit.msr.data);
		else
			result = cpu_msr_get(cpu, index, &p->exit.msr.data, false) ? CPU_MSR_OK : CPU_MSR_GP;
	}
	if (result == CPU_MSR_EXIT)
		return write ? CPU_EXIT_WRMSR : CPU_EXIT_RDMSR;
	p->completion = COMPLETE_NONE;
	if (result == CPU_MSR_GP) {
		raise_outside(cpu, VECTOR_GP, true);
		return GO_ON;
	}
	if (!write) {
		cpu->s.gpr[CPU_RAX] = (uint32_t)p->exit.msr.data;
		cpu->s.gpr[CPU_RDX] = p->exit.msr.data >> 32;
	}
	step_over(cpu);
	if (write)
		intercept_msr_written(cpu, index);
	return GO_ON;
}

static enum cpu_exit do_hypercall(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	p->completion = COMPLETE_NONE;
	switch (p->ops->hypercall(p->ops_state)) {
	case CPU_CALL_OK:
		step_over(cpu);
		return GO_ON;
	case CPU_CALL_EXIT:
		step_over(cpu);
		return CPU_EXIT_HYPERCALL;
	default:
		raise_outside(cpu, VECTOR_UD, false);
		return GO_ON;
	}
}

static enum cpu_exit do_io(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	p->exit.io.data = p->io_data;
	if (p->ops->io == NULL)
		return CPU_EXIT_IO;
	/* The first element decides: a device of the front end takes all elements or none. */
	for (uint32_t i = 0; i < p->exit.io.count; i++) {
		if (!p->ops->io(p->ops_state, p->exit.io.in, p->exit.io.port, p->exit.io.size,
		                p->io_data + i * p->exit.io.size))
			return CPU_EXIT_IO;
	}
	exit_complete(cpu);
	return GO_ON;
}

static enum cpu_exit do_mmio_read(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	p->complete_rip = cpu->s.rip;
	memset(p->exit.mmio.data, 0, sizeof(p->exit.mmio.data));
	if (p->ops->mmio == NULL ||
	    !p->ops->mmio(p->ops_state, false, p->exit.mmio.gpa, p->exit.mmio.len, p->exit.mmio.data))
		return CPU_EXIT_MMIO;
	exit_complete(cpu);
	return GO_ON;
}

/* RIP is behind the HLT. The owner finds out whether an interrupt ends it at once. */
static enum cpu_exit do_hlt(struct cpu *cpu)
{
	step_over(cpu);
	cpu->p->completion = COMPLETE_NONE;
	cpu->p->debug_exit = false; /* a stepped HLT is this exit alone, not another one at the next cpu_run */
	if (cpu->s.svm.guest && svm_virtual_possible(cpu))
		return GO_ON; /* the owner knows nothing of virtual interrupts */
	return CPU_EXIT_HLT;
}

enum cpu_exit exit_system(struct cpu *cpu)
{
	cpu->p->completion = COMPLETE_NONE;
	if (!cpu_shadow_system(cpu)) {
		raise_outside(cpu, VECTOR_GP, true);
		return GO_ON;
	}
	step_over(cpu);
	return GO_ON;
}

enum cpu_exit exit_rsm(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	bool halted = false;

	p->completion = COMPLETE_NONE;
	if (!smm_leave(cpu, &halted)) {
		cpu->s.events.triple_fault = true;
		cpu->single = false;
		return GO_ON;
	}
	/* RF and the interrupt shadow that were loaded are for the next instruction. */
	p->rf_loaded = p->shadow_set = true;
	instruction_done(cpu);
	if (p->debug_exit)
		return GO_ON;
	return halted ? CPU_EXIT_HLT : CPU_EXIT_RSM;
}

/* Memory at `gpa` could not be read or written; or a table of core's. */
static enum cpu_exit svm_failed(struct cpu *cpu, enum vmmu_status status, uint64_t gpa)
{
	switch (status) {
	case VMMU_EBUSY:
	case VMMU_E2BIG:
		return CPU_EXIT_RING_FULL;
	case VMMU_EFAULT:
		cpu->p->exit.host_fault.gpa = gpa;
		return CPU_EXIT_HOST_FAULT;
	case VMMU_ENOMEM:
		return CPU_EXIT_NOMEM;
	default:
		return CPU_EXIT_DEAD;
	}
}

/* VMRUN is complete: the nested guest's first instruction is next. */
static void vmrun_done(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	/* RF and the interrupt shadow that were loaded are for it. A step of VMRUN traps after #VMEXIT. */
	p->rf_loaded = p->shadow_set = true;
	p->step_trap = false;
	p->dr6_hits = p->dr6_held = 0;
	instruction_done(cpu);
}

/* The nested guest's VMCB, which its VMLOAD or VMSAVE names. Returns: as fault_translate. */
static bool operand_translate(struct cpu *cpu, enum cpu_exit *exit)
{
	struct svm_private *svm = &cpu->p->svm;
	struct vmmu_gpa at = { svm->operand };

	if (likely(!svm->operand_virtual))
		return true;
	svm->operand_virtual = false;
	if (!fault_translate(cpu, &at, VMMU_PF_GUEST_FINAL | (svm->operation == SVM_VMSAVE ? VMMU_PF_WRITE : 0), exit))
		return false;
	svm->operand = at.v;
	return true;
}

enum cpu_exit exit_svm(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	enum vmmu_status status;
	enum cpu_exit exit;

	p->completion = COMPLETE_NONE;
	if (p->svm.exit.noted) {
		status = svm_vmexit_noted(cpu);
		if (status != VMMU_OK)
			return svm_failed(cpu, status, cpu->s.svm.vmcb_pa);
		devices_forget(cpu);
		return GO_ON;
	}
	if (p->svm.operation == SVM_STGI_HELD) {
		cpu->s.svm.init_held = false;
		step_over(cpu);
		return CPU_EXIT_RSM;
	}
	if (!operand_translate(cpu, &exit))
		return exit;
	status = svm_operate(cpu);
	if (status == VMMU_ENOENT)
		raise_outside(cpu, VECTOR_GP, true);
	else if (status != VMMU_OK)
		return svm_failed(cpu, status, p->svm.operand);
	else if (p->svm.operation == SVM_VMRUN && cpu->s.svm.guest)
		vmrun_done(cpu);
	else
		step_over(cpu);
	return GO_ON;
}

enum cpu_exit exit_handle(struct cpu *cpu)
{
	switch (cpu->p->exit.reason) {
	case CPU_EXIT_RDMSR: return do_msr(cpu, false);
	case CPU_EXIT_WRMSR: return do_msr(cpu, true);
	case CPU_EXIT_HYPERCALL: return do_hypercall(cpu);
	case CPU_EXIT_IO: return do_io(cpu);
	case CPU_EXIT_MMIO: return do_mmio_read(cpu);
	case CPU_EXIT_HLT: return do_hlt(cpu);
	default: return cpu->p->exit.reason;
	}
}

enum cpu_exit exit_writes(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	while (p->writes_done < p->writes_count) {
		struct mmio_fragment *f = &p->writes[p->writes_done];

		p->writes_done++;
		if (p->ops->mmio != NULL && p->ops->mmio(p->ops_state, true, f->gpa, f->len, f->data))
			continue;
		p->exit.mmio.gpa = f->gpa;
		p->exit.mmio.len = f->len;
		p->exit.mmio.write = true;
		memcpy(p->exit.mmio.data, f->data, 8);
		p->completion = COMPLETE_MMIO_WRITE;
		return CPU_EXIT_MMIO;
	}
	p->writes_count = p->writes_done = 0;
	return GO_ON;
}
