/* SPDX-License-Identifier: MIT */
/*
 * cpu_run: enters the guest, leaves it, and does what is to be done in between.
 *
 *     cpu_run -> complete the last exit
 *             -> outside: requests, callbacks, vmmu_vcpu_enter
 *             -> guest(): sigsetjmp, then steps; an instruction that cannot go on lands there by siglongjmp
 *             -> outside: vmmu_vcpu_leave, vmmu_fault, or an exit to the caller
 */
#include <string.h>

#include <vmmu/dirty.h>

#include "cpu/base/flags.h"
#include "cpu/base/mxcsr.h"
#include "cpu/base/private.h"
#include "cpu/base/x87_host.h"
#include "cpu/decode/block.h"
#include "cpu/fpu/fpe.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/mirrored.h"
#include "cpu/memory/tlb.h"
#include "cpu/memory/walk.h"
#include "cpu/run/run_int.h"
#include "cpu/system/debug.h"
#include "cpu/system/event.h"
#include "cpu/system/shadow_regs.h"
#include "cpu/system/smm.h"
#include "cpu/system/svm.h"
#include "cpu/system/task.h"

_Thread_local struct cpu *cpu_running __attribute__((tls_model("initial-exec")));

/* ---- leaving an instruction ------------------------------------------------------------------------------------ */

_Noreturn void cpu_leave(struct cpu *cpu, enum leave why)
{
	siglongjmp(cpu->p->env, (int)why);
}

_Noreturn void cpu_leave_done(struct cpu *cpu, uint64_t rip)
{
	cpu->s.rip = rip;
	cpu_leave(cpu, LEAVE_DONE);
}

_Noreturn void cpu_leave_exit(struct cpu *cpu, enum cpu_exit reason, enum completion completion)
{
	struct cpu_private *p = cpu->p;

	cpu->s.rip = cpu->op->rip;
	p->exit.reason = reason;
	p->completion = completion;
	p->complete_rip = cpu->op->rip;
	p->complete_next = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave(cpu, LEAVE_EXIT);
}

/* Must the next instruction be run alone? */
static bool must_step(const struct cpu *cpu)
{
	const struct cpu_private *p = cpu->p;

	if (p->single_next || (cpu->s.rflags & (RFLAGS_TF | RFLAGS_RF)) || cpu->s.events.shadow)
		return true;
	/* A string instruction with a breakpoint goes on, and hits it no more. */
	return (p->debug & CPU_DEBUG_STEP) || (unlikely(p->armed_breakpoints.code) && p->rep_rip == cpu->s.rip);
}

bool cpu_needs_look(const struct cpu *cpu)
{
	return cpu->single || cpu->p->attention || must_step(cpu) || event_is_pending(cpu);
}

bool rep_must_stop(struct cpu *cpu)
{
	return cpu->single || vmmu_entry_must_leave(&cpu->entry);
}

_Noreturn void rep_restart(struct cpu *cpu)
{
	cpu->p->rep_rip = cpu->op->rip;
	cpu_leave_done(cpu, cpu->op->rip);
}

void element_done(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (likely((p->reads_used | p->writes_count | p->shadow.writes_count) == 0))
		return;
	/* The answers belong to this element. */
	p->reads_count = p->reads_used = 0;
	p->complete_rip = cpu->op->rip;
	p->complete_next = (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
	cpu_leave(cpu, LEAVE_PART);
}

/* ---- the end of an instruction ------------------------------------------------------------------------- */

void devices_forget(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	p->armed_count = 0;
	p->reads_count = p->reads_used = 0;
	p->io_have = p->io_used = 0;
	p->completing = false;
	p->shadow.guest_fault = false;
	p->shadow.emulations = 0;
	p->svm.port_allowed = false;
}

/* The instruction before s.rip is complete, seen from the outside of it. */
void instruction_done(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	devices_forget(cpu);
	if (!p->shadow_set)
		cpu->s.events.shadow = 0;
	p->shadow_set = false;
	/* RF holds for one instruction, the one after the IRET that loads it. */
	if (!p->rf_loaded)
		cpu->s.rflags &= ~RFLAGS_RF;
	p->rf_loaded = false;
	if (cpu->single)
		debug_after(cpu);
	cpu->single = false;
}

bool interrupt_possible(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	if (unlikely(cpu->p->debug & CPU_DEBUG_BLOCK_IRQ))
		return false;
	if (unlikely(cpu->s.svm.guest || !cpu->s.svm.gif))
		return svm_interrupt_possible(cpu);
	return (cpu->s.rflags & RFLAGS_IF) && e->shadow == 0 && !event_is_pending(cpu);
}

/* May an interrupt, an SMI, or what guest mode waits for, for which p->attention is set, be taken now? */
static bool attention_possible(const struct cpu *cpu)
{
	return (cpu->p->interrupt_waits && interrupt_possible(cpu)) || smm_is_due(cpu) ||
	       (cpu->s.svm.guest && svm_event_possible(cpu));
}

/* ---- in the guest -------------------------------------------------------------------------------------- */

/* What held only inside the instruction, or the delivery, that was left. */
static void landing_begin(struct cpu *cpu, enum leave why)
{
	struct cpu_private *p = cpu->p;

	if (why != LEAVE_NONE && why != LEAVE_DONE && why != LEAVE_PART && why != LEAVE_TASK)
		p->shadow.writes_count = 0;
	/* After LEAVE_NONE the instruction that the lock is for comes now. */
	if (unlikely(p->atomic_locked) && p->shadow.writes_count == 0 && why != LEAVE_NONE)
		codemap_atomic_give(cpu);
	tlb_tag_update(cpu);
	p->delivering = -1;
	p->delivering_external = false;
	cpu->lin_mask = cpu_is_64(cpu) ? ~UINT64_C(0) : 0xffffffffu;
	for (unsigned i = 0; i < p->written_count; i++)
		codemap_written(cpu, p->written[i]);
	p->written_count = 0;
}

/* Bring the state in order after a landing. Returns: true to go on in the guest. */
static bool guest_landed(struct cpu *cpu, enum leave why)
{
	struct cpu_private *p = cpu->p;
	bool alone; /* the instruction completed an exit: look at the requests of that time next */

	landing_begin(cpu, why);
	switch (why) {
	case LEAVE_NONE:
		if (unlikely(p->shadow.writes_count != 0 || p->debug_exit))
			return false;
		break;
	case LEAVE_DONE:
		alone = p->completing;
		instruction_done(cpu);
		codemap_serve(cpu); /* see codemap_heed */
		if (alone || p->writes_count != 0 || p->shadow.writes_count != 0 || p->cr8_written || p->debug_exit ||
		    p->svm.exit.noted)
			return false;
		break;
	case LEAVE_PART:
		cpu->s.rip = cpu->op->rip;
		p->armed_count = 0;
		complete_again(cpu);
		return false;
	case LEAVE_TASK:
		cpu->s.rip = cpu->op->rip;
		devices_forget(cpu);
		cpu->s.events.shadow = 0;
		p->shadow_set = cpu->single = p->step_trap = false;
		return false;
	case LEAVE_EXCEPTION:
		/* The instruction had no effect. The event is in s.events. */
		alone = p->completing;
		devices_forget(cpu);
		p->task.loading = false; /* if that raised it, the exception is the new task's */
		svm_inject_done(cpu); /* if its delivery raised the exception */
		p->writes_count = 0;
		cpu->single = p->step_trap = false;
		if (alone || cpu->s.events.triple_fault || p->debug_exit)
			return false;
		break;
	case LEAVE_RESTART:
		cpu->s.rip = cpu->op->rip;
		p->writes_count = 0;
		codemap_serve(cpu); /* see codemap_heed */
		break;
	case LEAVE_EXIT:
		/* While completing: the instruction wants one more answer, or the code has changed into another one. */
		p->completing = false;
		p->writes_count = p->reads_used = 0;
		if (p->exit.reason == EXIT_SVM && p->svm.exit.noted)
			exit_svm_give_up(cpu);
		return false;
	default: /* leave the guest, and perhaps come back to the same instruction */
		cpu->s.rip = cpu->op->rip;
		p->writes_count = p->reads_used = 0;
		return false;
	}
	/* With a request or an interrupt an instruction may still be completed, and an exception given; none begins. */
	if (unlikely(!p->completing && !event_is_raised(cpu) &&
	             (p->request_came || (p->attention && attention_possible(cpu)))))
		return false;
	return !vmmu_entry_must_leave(&cpu->entry);
}

/* Deliver an event, or run one instruction, or run blocks until something asks for attention. */
static enum leave guest_step(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	const struct op *resume = p->resume;

	p->resume = NULL;
	p->delivering_soft = 0;
	if (unlikely(p->task.loading)) {
		task_load(cpu);
		return LEAVE_NONE;
	}
	if (event_is_pending(cpu) && !p->completing) {
		p->dr6_hits = 0;
		event_deliver_pending(cpu);
		debug_held(cpu);
		/* Answers of the library about the interrupted instruction are asked for again after the handler. */
		p->shadow.guest_fault = false;
		p->armed_count = 0;
		return LEAVE_NONE;
	}
	if (must_step(cpu)) {
		cpu->single = true;
		p->single_next = false;
		p->step_trap = cpu->s.rflags & RFLAGS_TF;
		p->reads_used = 0;
		p->dr6_hits = 0;
		if (unlikely(p->armed_breakpoints.code))
			debug_before(cpu);
		p->rep_rip = ~UINT64_C(0);
		return execute_single(cpu);
	}
	p->rep_rip = ~UINT64_C(0);
	if (resume != NULL && p->resume_gen == cpu->code_gen)
		return execute_resume(cpu, resume);
	return execute(cpu);
}

static __attribute__((noinline)) enum leave guest_loop(struct cpu *cpu, enum leave why)
{
	while (guest_landed(cpu, why))
		why = guest_step(cpu);
	return why;
}

/* Run the guest until it must be left. Returns: why. LEAVE_NONE and LEAVE_DONE: only look around. */
static __attribute__((noinline)) enum leave guest(struct cpu *cpu)
{
	enum leave why = (enum leave)sigsetjmp(cpu->p->env, 0);

	cpu->p->env_valid = true;
	return guest_loop(cpu, why);
}

/* ---- outside ------------------------------------------------------------------------------------------- */

/*
 * Did a request come after before_entry looked? Its kick may have found the vCPU outside and done nothing. An
 * interrupt that before_entry saw and could not take is no such request: `attention` remembers it.
 */
static bool request_is_new(const struct cpu *cpu)
{
	const struct cpu_private *p = cpu->p;
	unsigned requests = atomic_load(&p->seat->requests);

	return (requests & REQUEST_EXIT) ||
	       ((requests & REQUEST_INTERRUPT) && !p->attention && p->ops->interrupt != NULL);
}

/*
 * Between the halves of a task switch segments are unusable, and the rest of the switch is in no state that the owner
 * could keep. So a ring that is nearly full waits until the new task, or the handler of what it raised, has its
 * segments.
 */
static void task_reserve(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	bool open = p->task.loading || event_is_raised(cpu);

	if (open == p->task.reserve)
		return;
	p->task.reserve = open;
	vmmu_vcpu_dirty_ring_reserve(p->vcpu, open);
}

/* One stay in the guest. */
static enum cpu_exit enter(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	enum leave why = LEAVE_NONE;

	if (!p->completing)
		p->io_last.valid = false;
	if (unlikely(p->shadow.regs_written))
		cpu_shadow_regs(cpu);
	debug_arm(cpu);
	if (unlikely(p->task.loading || p->task.reserve))
		task_reserve(cpu);
	switch (vmmu_vcpu_enter(p->vcpu, &cpu->entry)) {
	case VMMU_ENTER_RUN: break;
	case VMMU_ENTER_RING_FULL: return CPU_EXIT_RING_FULL;
	case VMMU_ENTER_NOMEM: return CPU_EXIT_NOMEM;
	default: return CPU_EXIT_DEAD;
	}
	if (cpu->entry.flush)
		tlb_flush_nested(cpu);
	/* Set before requests are read. A setter sets its request first, and then reads this or the vCPU's mode. P9 */
	atomic_store(&p->seat->in_guest, 1);
	p->request_came = false;
	if (unlikely(atomic_load(&p->seat->requests) != 0)) {
		codemap_serve(cpu);
		p->request_came = request_is_new(cpu);
	}
	if (likely(!p->request_came) || p->completing || event_is_raised(cpu)) {
		cpu_running = cpu;
		mxcsr_enter(cpu);
		why = guest(cpu);
		x87_unload(cpu);
		mxcsr_leave(cpu);
		p->env_valid = false;
		cpu_running = NULL;
	}
	/* release: pairs with has_answered in memory/codemap.c. The waiter sees every write of this CPU. */
	atomic_store_explicit(&p->seat->in_guest, 0, memory_order_release);
	vmmu_vcpu_leave(p->vcpu);
	codemap_ring(cpu); /* the leave is a full barrier */
	p->shadow.guest_fault = false;
	if (unlikely(p->shadow.writes_count != 0) && !mirrored_make(cpu)) {
		p->exit.host_fault.gpa = p->fault_gpa.v;
		return CPU_EXIT_HOST_FAULT;
	}
	if (unlikely(p->atomic_locked))
		codemap_atomic_give(cpu); /* the guest was left before the instruction ran */
	switch (why) {
	case LEAVE_LOCK:
		codemap_atomic_await(cpu);
		return GO_ON;
	case LEAVE_FAULT:
		return fault_handle(cpu);
	case LEAVE_EXIT:
		if (p->exit.reason == EXIT_RSM)
			return exit_rsm(cpu);
		if (p->exit.reason == EXIT_PORT_MAP)
			return exit_port_map(cpu);
		if (p->exit.reason == EXIT_SVM)
			return exit_svm(cpu);
		return p->exit.reason == EXIT_SYSTEM ? exit_system(cpu) : exit_handle(cpu);
	case LEAVE_HOST_FAULT:
		tlb_flush_nested(cpu);
		p->exit.host_fault.gpa = second_stage_origin(cpu, p->host_fault_gpa);
		return CPU_EXIT_HOST_FAULT;
	default:
		return GO_ON;
	}
}

/* ---- cpu/cpu.h ----------------------------------------------------------------------------------------- */

enum cpu_exit cpu_run(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	enum cpu_exit exit;

	if (!block_memory_init(cpu))
		return p->exit.reason = CPU_EXIT_NOMEM;
	flags_set(cpu, cpu->s.rflags);
	p->run_serial++;
	code_gen_next_all(cpu);
	p->resume = NULL;
	p->debug_exit = p->raised = false;
	/* An exit for another reason (a full ring) may have come before an instruction was completed. Go on with it. */
	if (p->completing ? cpu->s.rip != p->complete_rip : p->completion == COMPLETE_NONE)
		devices_forget(cpu);
	if (p->completing)
		complete_again(cpu);
	exit_complete(cpu);
	debug_begin(cpu);
	if (cpu->s.rip != p->task.rip)
		p->task.loading = false;
	do {
		exit = before_entry(cpu);
		if (exit == GO_ON)
			exit = enter(cpu);
	} while (exit == GO_ON);
	if (unlikely(p->atomic_locked))
		codemap_atomic_give(cpu); /* a request to exit came too, or the guest cannot be entered */
	fpe_close(cpu);
	cpu->s.rflags = rflags_get(cpu);
	p->exit.reason = exit;
	return exit;
}

void cpu_request_exit(struct cpu *cpu)
{
	atomic_fetch_or(&cpu->p->seat->requests, REQUEST_EXIT);
	vmmu_vcpu_kick(cpu->p->vcpu);
	codemap_ring(cpu);
}

void cpu_request_clear(struct cpu *cpu)
{
	atomic_fetch_and(&cpu->p->seat->requests, ~REQUEST_EXIT);
}

void cpu_interrupt_raise(struct cpu *cpu)
{
	atomic_fetch_or(&cpu->p->seat->requests, REQUEST_INTERRUPT);
	vmmu_vcpu_kick(cpu->p->vcpu);
}

void cpu_irq_window_want(struct cpu *cpu, bool want)
{
	cpu->p->window_wanted = want;
}

void cpu_page_wait_exits(struct cpu *cpu, bool exits)
{
	cpu->p->page_wait_exits = exits;
}

void cpu_page_wait_once(struct cpu *cpu)
{
	cpu->p->page_wait_once = true;
}

unsigned cpu_paging_switches(struct cpu *cpu)
{
	return cpu->p->paging_switches;
}

bool cpu_interrupt_ready(struct cpu *cpu)
{
	return interrupt_possible(cpu) && !svm_intercepts(cpu, SVM_EXIT_INTR);
}

bool cpu_interrupt_wakes(struct cpu *cpu)
{
	return interrupt_possible(cpu);
}

bool cpu_init_take(struct cpu *cpu)
{
	cpu->s.svm.init_held = !cpu->s.svm.gif || svm_intercepts(cpu, SVM_EXIT_INIT);
	return !cpu->s.svm.init_held && !cpu->s.events.smi.smm;
}

struct cpu_exit_info *cpu_exit_info(struct cpu *cpu)
{
	return &cpu->p->exit;
}
