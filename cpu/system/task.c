/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches.
 *
 * The first half belongs to the old task, and its faults to the instruction or event that asked for the switch. It
 * reads the new TSS and checks everything that it writes; then it writes the old TSS and loads the registers. What it
 * writes before a fault it writes again: the busy bit of the new TSS comes last.
 *
 * The guest is then left, as the new task may have other page tables. The second half loads the segments, and its
 * faults belong to the new task. As in hardware, segments that were not loaded before a fault hold a selector and are
 * unusable.
 */
#include "cpu/system/task.h"

#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/system/control.h"
#include "cpu/system/debug.h"
#include "cpu/system/intercept.h"
#include "cpu/system/seg.h"
#include "cpu/system/svm.h"

#define TSS_16_TYPE 1u
#define TSS_32_TYPE 9u
#define TSS_BUSY    2u
#define TYPE_32     8u

/* Where a TSS has what. `size`: of registers; selectors take as much, and have 16 bits. */
struct tss_format {
	unsigned size, least; /* the least limit */
	unsigned cr3;         /* 0: none */
	unsigned ip, flags, registers, selectors, selectors_count, ldt;
};
static const struct tss_format tss_16 = { 2, 43, 0, 14, 16, 18, 34, 4, 42 };
static const struct tss_format tss_32 = { 4, 103, 28, 32, 36, 40, 72, 6, 96 };
#define TSS_32_TRAP 100u

static const struct tss_format *format_of(unsigned type)
{
	return type & TYPE_32 ? &tss_32 : &tss_16;
}

/* ---- the old task ---------------------------------------------------------------------------------------------- */

static struct cpu_segment new_tss(struct cpu *cpu, const struct task_switch *t)
{
	/* IRET goes back to a busy TSS. */
	enum cpu_vector fault = t->cause == TASK_IRET ? VECTOR_TS : VECTOR_GP;
	uint32_t error = selector_error(cpu, t->selector);
	struct cpu_segment tss;
	uint64_t descriptor;
	unsigned type;

	if ((t->selector & 4) || !descriptor_read(cpu, t->selector, &descriptor))
		cpu_raise_error(cpu, fault, error);
	tss = descriptor_segment(t->selector, descriptor);
	type = t->cause == TASK_IRET ? tss.type ^ TSS_BUSY : tss.type;
	if (tss.s || (type != TSS_16_TYPE && type != TSS_32_TYPE))
		cpu_raise_error(cpu, fault, error);
	if (!tss.present)
		cpu_raise_error(cpu, VECTOR_NP, error);
	if (tss.limit < format_of(type)->least)
		cpu_raise_error(cpu, VECTOR_TS, error);
	return tss;
}

/* What the new TSS says. */
struct task_image {
	uint64_t cr3, rip, flags, gpr[8];
	uint16_t selectors[6], ldt;
	bool trap;
};

/*
 * A 16-bit TSS has no FS and no GS. The manuals do not say what becomes of them; here they are null, as in QEMU and
 * Bochs. (KVM leaves them to the new task as the old one had them, though it may be of a lesser level.)
 */
static void image_read(struct cpu *cpu, const struct cpu_segment *tss, struct task_image *image)
{
	const struct tss_format *f = format_of(tss->type);

	*image = (struct task_image){ .rip = sys_read(cpu, tss->base + f->ip, f->size) };
	if (f->cr3 != 0)
		image->cr3 = sys_read(cpu, tss->base + f->cr3, f->size);
	image->flags = sys_read(cpu, tss->base + f->flags, f->size);
	for (unsigned i = 0; i < 8; i++)
		image->gpr[i] = sys_read(cpu, tss->base + f->registers + i * f->size, f->size);
	for (unsigned i = 0; i < f->selectors_count; i++)
		image->selectors[i] = (uint16_t)sys_read(cpu, tss->base + f->selectors + i * f->size, 2);
	image->ldt = (uint16_t)sys_read(cpu, tss->base + f->ldt, 2);
	if (f == &tss_32)
		image->trap = sys_read(cpu, tss->base + TSS_32_TRAP, 1) & 1;
}

static uint64_t type_byte(struct cpu *cpu, uint16_t selector)
{
	return cpu->s.gdt.base + (selector & 0xfff8u) + 5;
}

/* Raise what the writes of task_save raise. */
static void save_check(struct cpu *cpu, const struct task_switch *t, const struct cpu_segment *tss)
{
	const struct cpu_segment *old = &cpu->s.seg[CPU_TR];
	const struct tss_format *f = format_of(old->type);

	if (old->unusable || old->limit < f->least)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, old->selector));
	sys_check_write(cpu, old->base + f->ip, f->selectors + f->selectors_count * f->size - f->ip);
	if (t->cause == TASK_JUMP || t->cause == TASK_IRET)
		sys_check_write(cpu, type_byte(cpu, old->selector), 1);
	if (t->cause != TASK_IRET)
		sys_check_write(cpu, type_byte(cpu, t->selector), 1);
	if (t->cause == TASK_CALL || t->cause == TASK_EVENT)
		sys_check_write(cpu, tss->base, 2);
}

static void task_save(struct cpu *cpu, const struct task_switch *t, const struct cpu_segment *tss)
{
	const struct cpu_segment *old = &cpu->s.seg[CPU_TR];
	const struct tss_format *f = format_of(old->type);
	uint64_t at = type_byte(cpu, old->selector);

	sys_write(cpu, old->base + f->ip, f->size, t->rip);
	sys_write(cpu, old->base + f->flags, f->size, t->cause == TASK_IRET ? t->flags & ~RFLAGS_NT : t->flags);
	for (unsigned i = 0; i < 8; i++)
		sys_write(cpu, old->base + f->registers + i * f->size, f->size, cpu->s.gpr[i]);
	for (unsigned i = 0; i < f->selectors_count; i++)
		sys_write(cpu, old->base + f->selectors + i * f->size, f->size, cpu->s.seg[i].selector);
	if (t->cause == TASK_CALL || t->cause == TASK_EVENT)
		sys_write(cpu, tss->base, 2, old->selector);
	if (t->cause == TASK_JUMP || t->cause == TASK_IRET)
		sys_write(cpu, at, 1, sys_read(cpu, at, 1) & ~(uint64_t)TSS_BUSY);
	at = type_byte(cpu, t->selector);
	if (t->cause != TASK_IRET)
		sys_write(cpu, at, 1, sys_read(cpu, at, 1) | TSS_BUSY);
}

/* The event is the new task's from now on: it is not delivered again. */
static void event_taken(struct cpu *cpu)
{
	struct cpu_events *e = &cpu->s.events;

	if (cpu->p->delivering_soft != 0)
		return;
	if (e->exception.pending || e->exception.injected)
		e->exception.pending = e->exception.injected = false;
	else if (e->nmi.injected)
		e->nmi.injected = false;
	else
		e->interrupt.injected = false;
	svm_inject_done(cpu);
}

static void registers_load(struct cpu *cpu, const struct task_switch *t, const struct cpu_segment *tss,
                           const struct task_image *image)
{
	bool nests = t->cause == TASK_CALL || t->cause == TASK_EVENT;
	bool v86 = image->flags & RFLAGS_VM;

	for (unsigned i = 0; i < 8; i++)
		cpu->s.gpr[i] = image->gpr[i];
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		cpu->s.seg[i] = (struct cpu_segment){ .selector = image->selectors[i], .unusable = 1 };
	cpu->s.seg[CPU_SS].dpl = v86 ? 3 : image->selectors[CPU_CS] & 3;
	cpu->s.seg[CPU_LDTR] = (struct cpu_segment){ .selector = image->ldt, .unusable = 1 };
	cpu->s.seg[CPU_TR] = *tss;
	cpu->s.seg[CPU_TR].type |= TSS_BUSY;
	cpu->s.seg[CPU_TR].selector &= 0xfffc;
	rflags_set(cpu, image->flags | (nests ? RFLAGS_NT : 0));
	cpu->s.rip = image->rip;
	cpu->s.cr0 |= CR0_TS;
	cpu->s.dr[7] &= ~DR7_LOCAL;
	if (tss->type & TYPE_32) {
		(void)cr3_write(cpu, image->cr3); /* outside long mode any value is legal */
		cpu->p->shadow.owner_wrote = true; /* with PAE: PDPTEs are read before the next entry */
	}
	mode_update(cpu);
}

_Noreturn void task_switch(struct cpu *cpu, const struct task_switch *t)
{
	struct cpu_segment tss = new_tss(cpu, t);
	struct cpu_private *p = cpu->p;
	struct task_image image;

	if (svm_intercepts(cpu, SVM_EXIT_TASK_SWITCH))
		intercept_task_switch(cpu, t);
	image_read(cpu, &tss, &image);
	save_check(cpu, t, &tss);
	task_save(cpu, t, &tss);
	p->task.loading = true;
	p->task.external = p->delivering_external;
	p->task.delivering = p->delivering;
	p->task.trap = image.trap;
	p->task.has_error = t->has_error;
	p->task.error = t->error;
	if (t->cause == TASK_EVENT)
		event_taken(cpu);
	if (t->cause == TASK_IRET)
		cpu->s.events.nmi.masked = false;
	registers_load(cpu, t, &tss, &image);
	p->task.rip = cpu->s.rip;
	p->event_op = (struct op){ .rip = cpu->s.rip, .mem = OP_NO_MEM };
	cpu->op = &p->event_op;
	cpu_leave(cpu, LEAVE_TASK);
}

/* ---- the new task ---------------------------------------------------------------------------------------------- */

static void ldt_load(struct cpu *cpu)
{
	uint16_t selector = cpu->s.seg[CPU_LDTR].selector;
	struct cpu_segment ldt;
	uint64_t descriptor;

	if ((selector & 0xfffc) == 0)
		return;
	if ((selector & 4) || !descriptor_read(cpu, selector, &descriptor))
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, selector));
	ldt = descriptor_segment(selector, descriptor);
	if (ldt.s || ldt.type != 2 || !ldt.present)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, selector));
	cpu->s.seg[CPU_LDTR] = ldt;
}

static void code_load(struct cpu *cpu)
{
	uint16_t selector = cpu->s.seg[CPU_CS].selector;
	unsigned cpl = selector & 3;
	struct cpu_segment cs;
	uint64_t descriptor;

	if ((selector & 0xfffc) == 0 || !descriptor_read(cpu, selector, &descriptor))
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, selector));
	cs = descriptor_segment(selector, descriptor);
	if (!cs.s || !(cs.type & 8) || (cs.type & 4 ? cs.dpl > cpl : cs.dpl != cpl))
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, selector));
	if (!cs.present)
		cpu_raise_error(cpu, VECTOR_NP, selector_error(cpu, selector));
	descriptor_accessed(cpu, selector, &descriptor);
	cs.type |= 1;
	cpu->s.seg[CPU_CS] = cs;
}

static void segments_load(struct cpu *cpu)
{
	static const uint8_t data[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };

	ldt_load(cpu);
	if (cpu->s.rflags & RFLAGS_VM) {
		for (unsigned i = CPU_ES; i <= CPU_GS; i++)
			seg_load_real(cpu, i, cpu->s.seg[i].selector);
		return;
	}
	code_load(cpu);
	cpu->s.seg[CPU_SS] = stack_segment(cpu, cpu->s.seg[CPU_SS].selector, cpu->s.seg[CPU_CS].selector & 3,
	                                   VECTOR_TS);
	mode_update(cpu);
	for (unsigned i = 0; i < sizeof(data); i++)
		seg_load_task(cpu, data[i], cpu->s.seg[data[i]].selector);
}

static void error_push(struct cpu *cpu)
{
	if (cpu->s.seg[CPU_TR].type & TYPE_32)
		stack_push(cpu, 4, cpu->p->task.error);
	else
		stack_push(cpu, 2, cpu->p->task.error);
}

void task_load(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	p->event_op = (struct op){ .rip = cpu->s.rip, .mem = OP_NO_MEM };
	cpu->op = &p->event_op;
	cpu->single = true;
	p->delivering = p->task.delivering;
	p->delivering_external = p->task.external;
	segments_load(cpu);
	if (cpu->s.rip > cpu->s.seg[CPU_CS].limit)
		cpu_gp(cpu);
	if (p->task.has_error)
		error_push(cpu);
	cpu->single = false;
	p->delivering = -1;
	p->delivering_external = false;
	p->task.loading = false;
	debug_task(cpu, p->task.trap);
}
