/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts: raising, merging to double and triple faults, and delivery through the IDT.
 *
 * Delivery writes the new stack first and changes registers last. So a fault in the middle leaves the old state, and
 * the event stays in s.events until it was delivered.
 */
#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/system/debug.h"
#include "cpu/system/event.h"
#include "cpu/system/intercept.h"
#include "cpu/system/seg.h"
#include "cpu/system/task.h"

/* ---- raising ------------------------------------------------------------------------------------------- */

static bool is_contributory(int vector)
{
	return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

/* `second` is raised while `first` is being delivered. Returns: the vector to deliver, -1 for a triple fault. */
static int merge(int first, int second)
{
	if (first == VECTOR_DF)
		return is_contributory(second) || second == VECTOR_PF ? -1 : second;
	if (is_contributory(first) && is_contributory(second))
		return VECTOR_DF;
	if (first == VECTOR_PF && (is_contributory(second) || second == VECTOR_PF))
		return VECTOR_DF;
	return second;
}

static _Noreturn void raise_event(struct cpu *cpu, int vector, bool has_error, uint32_t error)
{
	struct cpu_private *p = cpu->p;
	struct cpu_events *e = &cpu->s.events;

	if (vector != VECTOR_PF && vector != VECTOR_DB)
		e->exception.has_payload = false;
	cpu->s.rip = cpu->op->rip;
	/* Asked before it is combined with the event that is being delivered, which stays in s.events. */
	intercept_exception(cpu, (unsigned)vector, error);
	if (p->delivering >= 0) {
		int merged = merge(p->delivering, vector);

		if (merged == VECTOR_DF && svm_intercepts(cpu, SVM_EXIT_EXCEPTION + VECTOR_DF)) {
			if (vector == VECTOR_PF)
				cpu->s.cr2 = e->exception.payload;
			intercept_exception(cpu, VECTOR_DF, 0);
		}
		/* This exception replaces the event that was being delivered. */
		e->interrupt.injected = e->nmi.injected = e->exception.injected = false;
		if (merged != vector) {
			if (vector == VECTOR_PF)
				cpu->s.cr2 = e->exception.payload;
			e->exception.has_payload = false;
			has_error = true;
			error = 0;
		}
		if (merged < 0) {
			e->exception.pending = false;
			e->triple_fault = true;
			cpu_leave(cpu, LEAVE_EXCEPTION);
		}
		vector = merged;
	}
	e->exception.pending = true;
	e->exception.vector = (uint8_t)vector;
	e->exception.has_error = has_error;
	e->exception.error = error;
	cpu->p->raised = true;
	cpu_leave(cpu, LEAVE_EXCEPTION);
}

_Noreturn void cpu_raise(struct cpu *cpu, enum cpu_vector vector)
{
	raise_event(cpu, vector, false, 0);
}

_Noreturn void cpu_raise_error(struct cpu *cpu, enum cpu_vector vector, uint32_t error)
{
	raise_event(cpu, vector, true, error);
}

_Noreturn void cpu_gp(struct cpu *cpu)
{
	raise_event(cpu, VECTOR_GP, true, cpu->p->delivering_external ? 1 : 0);
}

_Noreturn void cpu_ud(struct cpu *cpu)
{
	raise_event(cpu, VECTOR_UD, false, 0);
}

/* ---- delivery ------------------------------------------------------------------------------------------ */

/* The event that is being delivered. */
struct delivery {
	unsigned vector;
	enum event_kind kind;
	bool has_error;
	uint32_t error;
	uint64_t rip;   /* to push */
	uint64_t flags; /* to push */
};

static bool is_soft(const struct delivery *d)
{
	return d->kind == EVENT_SOFT_INT || d->kind == EVENT_SOFT_EXCEPTION;
}

static uint32_t idt_error(struct cpu *cpu, const struct delivery *d)
{
	return d->vector * 8 + 2 + (cpu->p->delivering_external ? 1 : 0);
}

/* RFLAGS in the handler. */
static void flags_enter(struct cpu *cpu, bool interrupt_gate)
{
	uint64_t clear = RFLAGS_TF | RFLAGS_NT | RFLAGS_VM | RFLAGS_RF;

	cpu->s.rflags &= ~(clear | (interrupt_gate ? RFLAGS_IF : 0));
}

static void deliver_real(struct cpu *cpu, const struct delivery *d)
{
	uint64_t entry = cpu->s.idt.base + d->vector * 4;
	uint32_t target;

	if (d->vector * 4 + 3 > cpu->s.idt.limit)
		cpu_raise_error(cpu, VECTOR_GP, idt_error(cpu, d));
	target = (uint32_t)sys_read(cpu, entry, 4);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t values[] = { d->flags, cpu->s.seg[CPU_CS].selector, d->rip };
		uint64_t sp = (cpu->s.gpr[CPU_RSP] - 2 * (i + 1)) & stack_mask(cpu);

		mem_write(cpu, seg_linear(cpu, CPU_SS, sp, 2, true), 2, values[i]);
	}
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] - 6);
	cpu->s.rflags &= ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
	seg_load_real(cpu, CPU_CS, (uint16_t)(target >> 16));
	cpu->s.rip = target & 0xffff;
}

/* An IDT gate, and the code segment that it leads to. */
struct gate {
	uint64_t offset;
	struct cpu_segment cs;
	unsigned cpl; /* in the handler */
	unsigned ist;
	bool is_32, interrupt;
};

static void gate_code(struct cpu *cpu, uint16_t selector, struct gate *g)
{
	uint64_t descriptor;

	if ((selector & 0xfffc) == 0)
		cpu_gp(cpu);
	if (!descriptor_read(cpu, selector, &descriptor))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	g->cs = descriptor_segment(selector, descriptor);
	if (!g->cs.s || !(g->cs.type & 8) || g->cs.dpl > cpu->cpl)
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	if ((cpu->s.efer & EFER_LMA) && (!g->cs.l || g->cs.db))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	if (!g->cs.present)
		cpu_raise_error(cpu, VECTOR_NP, selector_error(cpu, selector));
	g->cpl = g->cs.type & 4 ? cpu->cpl : g->cs.dpl;
	if (((cpu->mode & MODE_V86) || (cpu->s.rflags & RFLAGS_VM)) && g->cpl != 0)
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	descriptor_accessed(cpu, selector, &descriptor);
	g->cs.type |= 1;
	g->cs.selector = (uint16_t)((selector & 0xfffc) | g->cpl);
}

static _Noreturn void task_gate(struct cpu *cpu, const struct delivery *d, uint64_t gate)
{
	struct task_switch t = {
		.cause = TASK_EVENT, .selector = (uint16_t)(gate >> 16), .rip = d->rip, .flags = d->flags,
		.has_error = d->has_error, .error = d->error,
	};

	if (is_soft(d) && (gate >> 45 & 3) < cpu->cpl)
		cpu_raise_error(cpu, VECTOR_GP, idt_error(cpu, d));
	if (!(gate >> 47 & 1))
		cpu_raise_error(cpu, VECTOR_NP, idt_error(cpu, d));
	task_switch(cpu, &t);
}

static void gate_read(struct cpu *cpu, const struct delivery *d, struct gate *g)
{
	bool is_long = cpu->s.efer & EFER_LMA;
	unsigned size = is_long ? 16 : 8;
	uint64_t at = cpu->s.idt.base + d->vector * size, low, type;

	if (d->vector * size + size - 1 > cpu->s.idt.limit)
		cpu_raise_error(cpu, VECTOR_GP, idt_error(cpu, d));
	low = sys_read(cpu, at, 8);
	type = low >> 40 & 31;
	if (type == 5 && !is_long)
		task_gate(cpu, d, low);
	if (type != 14 && type != 15 && (is_long || (type != 6 && type != 7)))
		cpu_raise_error(cpu, VECTOR_GP, idt_error(cpu, d));
	if (is_soft(d) && (low >> 45 & 3) < cpu->cpl)
		cpu_raise_error(cpu, VECTOR_GP, idt_error(cpu, d));
	if (!(low >> 47 & 1))
		cpu_raise_error(cpu, VECTOR_NP, idt_error(cpu, d));
	g->offset = (low & 0xffff) | (low >> 32 & 0xffff0000);
	g->is_32 = type >= 14;
	g->interrupt = !(type & 1);
	g->ist = is_long ? low >> 32 & 7 : 0;
	if (is_long)
		g->offset |= sys_read(cpu, at + 8, 8) << 32;
	else if (!g->is_32)
		g->offset &= 0xffff;
	gate_code(cpu, (uint16_t)(low >> 16), g);
}

/* RSPn or ISTn of the 64-bit TSS. */
static uint64_t tss_stack_64(struct cpu *cpu, const struct gate *g)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	unsigned offset = g->ist ? 36 + 8 * (g->ist - 1) : 4 + 8 * g->cpl;

	if (offset + 7 > tr->limit)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, tr->selector));
	return sys_read(cpu, tr->base + offset, 8);
}

static void gate_offset_check(struct cpu *cpu, const struct gate *g)
{
	if (cpu->s.efer & EFER_LMA ? !canonical(cpu, g->offset) : g->offset > g->cs.limit)
		cpu_gp(cpu);
}

static void deliver_64(struct cpu *cpu, const struct delivery *d)
{
	uint64_t sp = cpu->s.gpr[CPU_RSP], mask = cpu->lin_mask;
	uint64_t values[6] = {
		cpu->s.seg[CPU_SS].selector, sp, d->flags, cpu->s.seg[CPU_CS].selector, d->rip, d->error
	};
	struct gate g;

	gate_read(cpu, d, &g);
	if (g.ist != 0 || g.cpl != cpu->cpl)
		sp = tss_stack_64(cpu, &g);
	sp &= ~UINT64_C(15);
	gate_offset_check(cpu, &g);
	/* Pushes go to 64-bit addresses, also on the way out of compatibility mode. */
	cpu->lin_mask = ~UINT64_C(0);
	for (unsigned i = 0; i < (d->has_error ? 6u : 5u); i++) {
		sp -= 8;
		level_write(cpu, g.cpl, sp, 8, values[i]);
	}
	cpu->lin_mask = mask;
	if (g.cpl != cpu->cpl)
		cpu->s.seg[CPU_SS] = (struct cpu_segment){
			.selector = (uint16_t)g.cpl, .dpl = (uint8_t)g.cpl, .unusable = 1
		};
	cpu->s.gpr[CPU_RSP] = sp;
	cpu->s.seg[CPU_CS] = g.cs;
	cpu->s.rip = g.offset;
	flags_enter(cpu, g.interrupt);
	mode_update(cpu);
}

/* The stack of an inner level from a 16- or 32-bit TSS. */
static struct cpu_segment tss_stack(struct cpu *cpu, unsigned cpl, uint64_t *sp)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	bool is_32 = tr->type & 8;
	unsigned offset = is_32 ? 4 + 8 * cpl : 2 + 4 * cpl;
	uint16_t selector;

	if (offset + (is_32 ? 5 : 3) > tr->limit)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, tr->selector));
	*sp = sys_read(cpu, tr->base + offset, is_32 ? 4 : 2);
	selector = (uint16_t)sys_read(cpu, tr->base + offset + (is_32 ? 4 : 2), 2);
	return stack_segment(cpu, selector, cpl, VECTOR_TS);
}

static void push_level(struct cpu *cpu, unsigned cpl, const struct cpu_segment *ss, uint64_t *sp, unsigned size,
                       uint64_t value)
{
	*sp = (*sp - size) & (ss->db ? 0xffffffffu : 0xffffu);
	level_write(cpu, cpl, ss->base + *sp, size, value);
}

static void deliver_32(struct cpu *cpu, const struct delivery *d)
{
	static const uint8_t v86_data[] = { CPU_GS, CPU_FS, CPU_DS, CPU_ES };
	struct cpu_segment ss = cpu->s.seg[CPU_SS];
	uint64_t sp = cpu->s.gpr[CPU_RSP] & (ss.db ? 0xffffffffu : 0xffffu);
	bool v86 = cpu->mode & MODE_V86, inner;
	unsigned size, count;
	struct gate g;

	gate_read(cpu, d, &g);
	size = g.is_32 ? 4 : 2;
	inner = g.cpl != cpu->cpl;
	if (inner)
		ss = tss_stack(cpu, g.cpl, &sp);
	count = 3 + d->has_error + (inner ? 2 : 0) + (v86 ? 4 : 0);
	stack_room_check(cpu, &ss, sp, size, count, selector_error(cpu, inner ? ss.selector : 0));
	gate_offset_check(cpu, &g);
	if (inner) {
		uint64_t old = cpu->s.gpr[CPU_RSP];

		for (unsigned i = 0; v86 && i < 4; i++)
			push_level(cpu, g.cpl, &ss, &sp, size, cpu->s.seg[v86_data[i]].selector);
		push_level(cpu, g.cpl, &ss, &sp, size, cpu->s.seg[CPU_SS].selector);
		push_level(cpu, g.cpl, &ss, &sp, size, old);
	}
	push_level(cpu, g.cpl, &ss, &sp, size, d->flags);
	push_level(cpu, g.cpl, &ss, &sp, size, cpu->s.seg[CPU_CS].selector);
	push_level(cpu, g.cpl, &ss, &sp, size, d->rip);
	if (d->has_error)
		push_level(cpu, g.cpl, &ss, &sp, size, d->error);
	for (unsigned i = 0; v86 && i < 4; i++)
		cpu->s.seg[v86_data[i]] = (struct cpu_segment){ .unusable = 1 };
	cpu->s.seg[CPU_SS] = ss;
	if (ss.db)
		cpu->s.gpr[CPU_RSP] = sp;
	else
		cpu->s.gpr[CPU_RSP] = (cpu->s.gpr[CPU_RSP] & ~UINT64_C(0xffff)) | sp;
	cpu->s.seg[CPU_CS] = g.cs;
	cpu->s.rip = g.offset;
	flags_enter(cpu, g.interrupt);
	mode_update(cpu);
}

void event_deliver(struct cpu *cpu, unsigned vector, enum event_kind kind, bool has_error, uint32_t error, uint64_t rip)
{
	struct delivery d = { vector, kind, has_error, error, rip, rflags_get(cpu) };

	/* A fault returns to the same instruction, which must not hit its breakpoint again. */
	if (kind == EVENT_EXCEPTION && vector != VECTOR_DB && vector != VECTOR_DF)
		d.flags |= RFLAGS_RF;
	if (rip == cpu->p->rep_rip)
		d.flags |= RFLAGS_RF;
	/* On Intel the bit says "not by INT n", on AMD "by an interrupt" (SDM vol. 3, 6.13; APM vol. 2, 8.4.1). */
	cpu->p->delivering_external = kind == EVENT_EXTERNAL || (kind == EVENT_EXCEPTION && cpu->p->intel);
	if (!(cpu->s.cr0 & CR0_PE))
		deliver_real(cpu, &d);
	else if (cpu->s.efer & EFER_LMA)
		deliver_64(cpu, &d);
	else
		deliver_32(cpu, &d);
	cpu->p->delivering_external = false;
}

/* ---- pending events ----------------------------------------------------------------------------------------- */

/* An NMI that is intercepted is a #VMEXIT, which the run loop makes. */
static bool nmi_possible(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	return unlikely(e->nmi.pending) && !e->nmi.masked && e->shadow == 0 && cpu->s.svm.gif &&
	       !svm_intercepts(cpu, SVM_EXIT_NMI);
}

bool event_is_pending(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	return e->exception.pending || e->exception.injected || e->interrupt.injected || e->nmi.injected ||
	       nmi_possible(cpu);
}

bool event_is_raised(const struct cpu *cpu)
{
	return cpu->p->raised && cpu->s.events.exception.pending;
}

/* The hypervisor is not asked about what it injected itself, nor about what is already on its way. */
static void deliver_intercept(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;

	if (e->exception.injected || e->exception.vector >= 32 ||
	    !svm_intercepts(cpu, SVM_EXIT_EXCEPTION + e->exception.vector))
		return;
	e->exception.pending = false;
	intercept_exception(cpu, e->exception.vector, e->exception.has_error ? e->exception.error : 0);
}

static void deliver_exception(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;
	unsigned vector = e->exception.vector;
	/* One that a hypervisor injects asks the gate's DPL, as the instruction would. */
	bool soft = e->exception.injected && cpu->s.svm.guest && (vector == VECTOR_BP || vector == VECTOR_OF);

	deliver_intercept(cpu);
	if (e->exception.has_payload && vector == VECTOR_PF)
		cpu->s.cr2 = e->exception.payload;
	if (e->exception.has_payload && vector == VECTOR_DB)
		debug_payload(cpu);
	e->exception.has_payload = false;
	cpu->p->delivering = (int)vector;
	/* When a front end restores an INT3 or INTO, RIP is already behind it, as with INT n. */
	event_deliver(cpu, vector, soft ? EVENT_SOFT_EXCEPTION : EVENT_EXCEPTION,
	              e->exception.has_error && (cpu->s.cr0 & CR0_PE), e->exception.error,
	              e->exception.injected ? svm_return_rip(cpu) : cpu->s.rip);
	e->exception.pending = e->exception.injected = false;
}

static void deliver_nmi(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;

	if (!e->nmi.injected)
		e->nmi.pending--;
	e->nmi.injected = true;
	e->nmi.masked |= !cpu->p->svm.nmi_injected;
	cpu->p->delivering = VECTOR_NMI;
	event_deliver(cpu, VECTOR_NMI, EVENT_EXTERNAL, false, 0, cpu->s.rip);
	e->nmi.injected = false;
}

/* In the order of event_deliver_pending: the event that was not delivered is still in s.events. */
uint64_t event_interrupted(const struct cpu *cpu)
{
	const struct cpu_events *e = &cpu->s.events;

	if (cpu->p->delivering_soft != 0)
		return cpu->p->delivering_soft;
	if (e->exception.pending || e->exception.injected) {
		uint64_t event = EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | e->exception.vector;

		if (e->exception.has_error && (cpu->s.cr0 & CR0_PE))
			event |= EVENT_ERROR | (uint64_t)e->exception.error << 32;
		return event;
	}
	if (e->nmi.injected)
		return EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT | VECTOR_NMI;
	if (e->interrupt.injected) {
		unsigned type = e->interrupt.soft ? EVENT_TYPE_SOFTWARE : EVENT_TYPE_INTERRUPT;

		return EVENT_VALID | type << EVENT_TYPE_SHIFT | e->interrupt.vector;
	}
	return 0;
}

void event_undelivered(const struct cpu *cpu, struct cpu_exit_info *exit)
{
	exit->error.event = (uint32_t)event_interrupted(cpu);
	exit->error.gpa = cpu->p->fault_gpa.v;
	exit->error.access = cpu->p->fault_error;
}

bool event_deliver_pending(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;
	struct cpu_private *p = cpu->p;

	p->event_op = (struct op){ .rip = cpu->s.rip, .mem = OP_NO_MEM };
	cpu->op = &p->event_op;
	/* A stack may share a page with code, and only an instruction that runs alone may write there. */
	cpu->single = true;
	if (e->exception.pending || e->exception.injected) {
		deliver_exception(cpu);
	} else if (e->nmi.injected || (!e->interrupt.injected && nmi_possible(cpu))) {
		deliver_nmi(cpu);
	} else if (e->interrupt.injected) {
		p->delivering = 256 + e->interrupt.vector; /* benign for merge, whatever the vector */
		event_deliver(cpu, e->interrupt.vector, e->interrupt.soft ? EVENT_SOFT_INT : EVENT_EXTERNAL, false, 0,
		              svm_return_rip(cpu));
		e->interrupt.injected = false;
	}
	p->delivering = -1;
	svm_inject_done(cpu);
	cpu->single = false;
	e->shadow = 0;
	return true;
}
