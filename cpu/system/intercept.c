/* SPDX-License-Identifier: MIT */
/*
 * Intercepts that need more than a bit.
 *
 * The permission maps lie in the hypervisor's physical memory. So they are read outside the guest, each time anew: the
 * hypervisor's other CPUs may change them. Where no memory is, a map reads as ones.
 */
#include "cpu/system/intercept.h"

#include <string.h>

#include "cpu/memory/mem.h"
#include "cpu/memory/walk.h"
#include "cpu/system/debug.h"
#include "cpu/system/seg.h"

static uint64_t control_read(const struct cpu *cpu, size_t at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, cpu->s.svm.control + at, bytes);
	return value;
}
#define CONTROL(cpu, field) \
	control_read(cpu, offsetof(struct vmcb_control, field), sizeof(((struct vmcb_control *)0)->field))

/* ---- exceptions ---------------------------------------------------------------------------------------------- */

void intercept_fetched(struct cpu *cpu)
{
	struct svm_private *svm = &cpu->p->svm;
	unsigned n = 0;

	for (; n < sizeof(svm->exit.fetched); n++) {
		uint64_t linear = (cpu->seg_base[CPU_CS] + cpu->s.rip + n) & cpu->lin_mask;
		const uint8_t *at = tlb_find(cpu, TLB_EXEC, linear, 1);

		if (at == NULL)
			break;
		svm->exit.fetched[n] = (uint8_t)host_load(at, 1);
	}
	if (!cpu->p->env_valid)
		n += code_read(cpu, cpu->seg_base[CPU_CS] + cpu->s.rip + n, svm->exit.fetched + n,
		               (unsigned)sizeof(svm->exit.fetched) - n);
	svm->exit.fetched_count = (uint8_t)n;
}

/* CR2 is not written. DR6 and DR7 are, as for a handler. */
_Noreturn void intercept_exception_exit(struct cpu *cpu, unsigned vector, uint32_t error)
{
	struct cpu_private *p = cpu->p;
	uint64_t payload = cpu->s.events.exception.has_payload ? cpu->s.events.exception.payload : 0;

	if (vector == VECTOR_DB && cpu->s.events.exception.has_payload)
		debug_payload(cpu);
	cpu->s.events.exception.has_payload = false;
	svm_exit_note(cpu, SVM_EXIT_EXCEPTION + vector, error, vector == VECTOR_PF ? payload : 0);
	cpu->s.rip = cpu->op->rip;
	if (vector == VECTOR_PF && !(error & VMMU_PF_FETCH))
		intercept_fetched(cpu);
	if (vector == VECTOR_BR)
		p->svm.exit.next_rip = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
}

/* ---- traps behind a write -------------------------------------------------------------------------------------- */

#define MSR_EFER 0xc0000080u

static uint64_t cr_value(const struct cpu *cpu, unsigned n)
{
	switch (n) {
	case 0: return cpu->s.cr0;
	case 2: return cpu->s.cr2;
	case 3: return cpu->s.cr3;
	case 4: return cpu->s.cr4;
	default: return svm_has_tpr(cpu) ? svm_tpr_read(cpu) : cpu->s.cr8;
	}
}

bool intercept_cr_note(struct cpu *cpu, unsigned n)
{
	if (!svm_intercepts(cpu, SVM_EXIT_CR0_WRITTEN + n))
		return false;
	svm_exit_note(cpu, SVM_EXIT_CR0_WRITTEN + n, cr_value(cpu, n), 0);
	return true;
}

void intercept_msr_written(struct cpu *cpu, uint32_t index)
{
	if (index == MSR_EFER && svm_intercepts(cpu, SVM_EXIT_EFER_WRITTEN))
		svm_exit_note(cpu, SVM_EXIT_EFER_WRITTEN, cpu->s.efer, 0);
}

/* ---- PAUSE --------------------------------------------------------------------------------------------------- */

void intercept_reset(struct cpu *cpu)
{
	cpu->p->svm.pause_left = (uint32_t)CONTROL(cpu, pause_count);
	cpu->p->svm.pause_tsc = 0;
	cpu->p->svm.monitor_armed = false;
}

bool intercept_pause(struct cpu *cpu)
{
	struct svm_private *svm = &cpu->p->svm;
	uint64_t threshold = CONTROL(cpu, pause_threshold);

	if (threshold != 0) {
		uint64_t now = cpu_tsc(cpu), since = now - svm->pause_tsc;

		svm->pause_tsc = now;
		if (since > threshold) {
			svm->pause_left = (uint32_t)CONTROL(cpu, pause_count);
			return false;
		}
	}
	if (svm->pause_left == 0)
		return true;
	svm->pause_left--;
	return false;
}

/* ---- permission maps ----------------------------------------------------------------------------------------- */

static enum map_answer map_read(struct cpu *cpu, uint64_t gpa, void *to, size_t bytes)
{
	switch (vmmu_guest_read(cpu->p->vcpu, (struct vmmu_gpa){ gpa }, to, bytes)) {
	case VMMU_OK:
		return MAP_ALLOWS;
	case VMMU_EFAULT:
		cpu->p->exit.host_fault.gpa = gpa;
		return MAP_HOST_FAULT;
	default:
		memset(to, 0xff, bytes);
		return MAP_ALLOWS;
	}
}

_Noreturn void intercept_port_ask(struct cpu *cpu, uint32_t info)
{
	struct svm_private *svm = &cpu->p->svm;

	svm->exit.info1 = info;
	svm->exit.next_rip = svm->exit.info2 = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave_exit(cpu, EXIT_PORT_MAP, COMPLETE_NONE);
}

enum map_answer intercept_port_map(struct cpu *cpu)
{
	struct svm_private *svm = &cpu->p->svm;
	uint64_t info = svm->exit.info1, next = svm->exit.next_rip, map = CONTROL(cpu, iopm) & ~UINT64_C(0xfff);
	unsigned port = info >> PORT_SHIFT & 0xffff, size = info >> PORT_SIZE_SHIFT & 7;
	uint8_t bytes[2]; /* the last port's bits reach into the third page */
	enum map_answer answer = map_read(cpu, map + port / 8, bytes, sizeof(bytes));
	unsigned bits = bytes[0] | (unsigned)bytes[1] << 8;

	if (answer == MAP_HOST_FAULT)
		return answer;
	if (!(bits >> port % 8 & ((1u << size) - 1))) {
		svm->port_allowed = true;
		return MAP_ALLOWS;
	}
	svm_exit_note(cpu, SVM_EXIT_IOIO, info, next);
	svm->exit.next_rip = next;
	return MAP_INTERCEPTS;
}

/* Two bits for each MSR of three ranges. Others are always intercepted. */
static bool msr_map_place(uint32_t index, unsigned *bit)
{
	static const uint32_t ranges[] = { 0, 0xc0000000, 0xc0010000 };

	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		if (index - ranges[i] < 0x2000) {
			*bit = (i * 0x2000 + (index - ranges[i])) * 2;
			return true;
		}
	}
	return false;
}

enum map_answer intercept_msr_map(struct cpu *cpu, uint32_t index, bool write)
{
	uint64_t map = CONTROL(cpu, msrpm) & ~UINT64_C(0xfff);
	unsigned bit;
	uint8_t byte;

	if (msr_map_place(index, &bit)) {
		enum map_answer answer = map_read(cpu, map + bit / 8, &byte, 1);

		if (answer == MAP_HOST_FAULT || !(byte >> (bit % 8 + (write ? 1 : 0)) & 1))
			return answer;
	}
	svm_exit_note(cpu, SVM_EXIT_MSR, write ? 1 : 0, 0);
	cpu->p->svm.exit.next_rip = cpu->p->complete_next;
	return MAP_INTERCEPTS;
}

/* ---- task switches ------------------------------------------------------------------------------------------- */

_Noreturn void intercept_task_switch(struct cpu *cpu, const struct task_switch *t)
{
	enum { IRET = 36, JUMP = 38, HAS_ERROR = 44, RF = 48 };
	uint64_t info = t->has_error ? UINT64_C(1) << HAS_ERROR | t->error : 0;

	info |= (uint64_t)(t->cause == TASK_IRET) << IRET | (uint64_t)(t->cause == TASK_JUMP) << JUMP;
	info |= (uint64_t)(t->flags & RFLAGS_RF ? 1 : 0) << RF;
	svm_exit_note(cpu, SVM_EXIT_TASK_SWITCH, t->selector, info);
	cpu_leave_exit(cpu, EXIT_SVM, COMPLETE_NONE);
}
