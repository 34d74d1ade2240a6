/* SPDX-License-Identifier: MIT */
/*
 * Far control transfers: JMP, CALL, RET, IRET to other code segments and privilege levels, and to other tasks
 * (task.c).
 */
#include "cpu/base/flags.h"
#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/system/control.h"
#include "cpu/system/far.h"
#include "cpu/system/intercept.h"
#include "cpu/system/seg.h"
#include "cpu/system/task.h"
#include "cpu/system/vme.h"

#define TYPE_CONFORMING 4u

/* ---- code segments ------------------------------------------------------------------------------------- */

/* Where a far transfer goes. */
struct target {
	struct cpu_segment cs;
	uint64_t rip;
	unsigned cpl;
};

/* Read a selector's descriptor for a jump or call; #GP(selector) when there is none. */
static uint64_t target_descriptor(struct cpu *cpu, uint16_t selector)
{
	uint64_t descriptor;

	if ((selector & 0xfffc) == 0)
		cpu_gp(cpu);
	if (!descriptor_read(cpu, selector, &descriptor))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	return descriptor;
}

static void check_offset(struct cpu *cpu, const struct target *t)
{
	bool is_64 = (cpu->s.efer & EFER_LMA) && t->cs.l;

	if (is_64 ? !canonical(cpu, t->rip) : t->rip > t->cs.limit)
		cpu_gp(cpu);
}

static void code_common(struct cpu *cpu, uint16_t selector, uint64_t descriptor, struct target *t)
{
	if ((cpu->s.efer & EFER_LMA) && t->cs.l && t->cs.db)
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	if (!t->cs.present)
		cpu_raise_error(cpu, VECTOR_NP, selector_error(cpu, selector));
	descriptor_accessed(cpu, selector, &descriptor);
	t->cs.type |= 1;
	t->cs.selector = (uint16_t)((selector & 0xfffc) | t->cpl);
}

/* JMP or CALL names a code segment directly: the privilege level stays. */
static void code_direct(struct cpu *cpu, uint16_t selector, uint64_t descriptor, struct target *t)
{
	bool conforming;

	t->cs = descriptor_segment(selector, descriptor);
	t->cpl = cpu->cpl;
	conforming = t->cs.type & TYPE_CONFORMING;
	if (conforming ? t->cs.dpl > cpu->cpl : (selector & 3) > cpu->cpl || t->cs.dpl != cpu->cpl)
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	code_common(cpu, selector, descriptor, t);
	check_offset(cpu, t);
}

/* In real and virtual-8086 mode the limit stays what it is. */
static void check_real_offset(struct cpu *cpu, uint64_t offset)
{
	if (offset > cpu->s.seg[CPU_CS].limit)
		cpu_gp(cpu);
}

static bool is_code(uint64_t descriptor)
{
	return (descriptor >> 44 & 1) && (descriptor >> 43 & 1);
}

static void arrive(struct cpu *cpu, const struct target *t)
{
	cpu->s.seg[CPU_CS] = t->cs;
	cpu->s.rip = t->rip;
	mode_update(cpu);
}

/* ---- call gates ---------------------------------------------------------------------------------------- */

struct call_gate {
	struct target target;
	unsigned size;   /* of what a call pushes: 2, 4, 8 */
	unsigned params; /* words to copy to the inner stack */
};

static uint64_t next_rip(const struct cpu *cpu)
{
	return (cpu->op->rip + cpu->op->len) & cpu->lin_mask;
}

/* JMP or CALL to a TSS or a task gate. */
static _Noreturn void task_transfer(struct cpu *cpu, uint16_t selector, uint64_t descriptor, bool jump)
{
	struct task_switch t = {
		.cause = jump ? TASK_JUMP : TASK_CALL, .selector = selector, .rip = next_rip(cpu),
		.flags = rflags_get(cpu),
	};
	unsigned dpl = descriptor >> 45 & 3;

	if (dpl < cpu->cpl || dpl < (selector & 3u))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	if (!(descriptor >> 47 & 1))
		cpu_raise_error(cpu, VECTOR_NP, selector_error(cpu, selector));
	if ((descriptor >> 40 & 15) == 5)
		t.selector = (uint16_t)(descriptor >> 16);
	task_switch(cpu, &t);
}

/* IRET with NT set. The outgoing TSS links to the one to go back to. */
static _Noreturn void task_return(struct cpu *cpu)
{
	struct task_switch t = { .cause = TASK_IRET, .rip = next_rip(cpu), .flags = rflags_get(cpu) };

	t.selector = (uint16_t)sys_read(cpu, cpu->s.seg[CPU_TR].base, 2);
	task_switch(cpu, &t);
}

static void gate_open(struct cpu *cpu, uint16_t selector, uint64_t low, bool jump, struct call_gate *g)
{
	bool is_long = cpu->s.efer & EFER_LMA;
	unsigned type = low >> 40 & 15, dpl = low >> 45 & 3;
	uint32_t error = selector_error(cpu, selector);
	uint16_t code = (uint16_t)(low >> 16);
	uint64_t descriptor;

	if ((low >> 44 & 1) || (type != 12 && (is_long || type != 4))) {
		if (!is_long && !(low >> 44 & 1) && (type == 1 || type == 5 || type == 9))
			task_transfer(cpu, selector, low, jump);
		cpu_raise_error(cpu, VECTOR_GP, error);
	}
	if (dpl < cpu->cpl || dpl < (selector & 3u))
		cpu_raise_error(cpu, VECTOR_GP, error);
	if (!(low >> 47 & 1))
		cpu_raise_error(cpu, VECTOR_NP, error);
	g->size = is_long ? 8 : type == 12 ? 4 : 2;
	g->params = is_long ? 0 : low >> 32 & 31;
	g->target.rip = (low & 0xffff) | (type == 12 ? low >> 32 & 0xffff0000 : 0);
	if (is_long) {
		uint64_t high = 0;

		/* The type of the upper half, where a descriptor has its own, is one that no descriptor has. */
		if ((selector | 7u) + 8 > 0xffff || !descriptor_read(cpu, selector + 8, &high) || (high >> 40 & 31))
			cpu_raise_error(cpu, VECTOR_GP, error);
		g->target.rip |= high << 32;
	}
	descriptor = target_descriptor(cpu, code);
	g->target.cs = descriptor_segment(code, descriptor);
	if (!is_code(descriptor) || g->target.cs.dpl > cpu->cpl || (is_long && !g->target.cs.l))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, code));
	if (jump && !(g->target.cs.type & TYPE_CONFORMING) && g->target.cs.dpl != cpu->cpl)
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, code));
	g->target.cpl = g->target.cs.type & TYPE_CONFORMING ? cpu->cpl : g->target.cs.dpl;
	code_common(cpu, code, descriptor, &g->target);
}

/* ---- jumps and calls ----------------------------------------------------------------------------------- */

void far_jump(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned osize)
{
	struct call_gate g;
	uint64_t descriptor;

	(void)osize;
	if (!(cpu->mode & MODE_PROT)) {
		check_real_offset(cpu, offset);
		seg_load_real(cpu, CPU_CS, selector);
		cpu->s.rip = offset;
		return;
	}
	descriptor = target_descriptor(cpu, selector);
	if (is_code(descriptor)) {
		g.target.rip = offset;
		code_direct(cpu, selector, descriptor, &g.target);
	} else {
		gate_open(cpu, selector, descriptor, true, &g);
		check_offset(cpu, &g.target);
	}
	arrive(cpu, &g.target);
}

/* A new SS, and what of RSP such a stack has. */
static void stack_arrive(struct cpu *cpu, const struct cpu_segment *ss, uint64_t sp, bool to_64)
{
	cpu->s.seg[CPU_SS] = *ss;
	if (to_64 || ss->db)
		cpu->s.gpr[CPU_RSP] = to_64 ? sp : (uint32_t)sp;
	else
		cpu->s.gpr[CPU_RSP] = (cpu->s.gpr[CPU_RSP] & ~UINT64_C(0xffff)) | (sp & 0xffff);
}

static void push_return(struct cpu *cpu, unsigned size, uint64_t next_rip)
{
	uint64_t sp = cpu->s.gpr[CPU_RSP], mask = stack_mask(cpu);
	uint64_t at = (sp - size) & mask, at2 = (sp - 2 * size) & mask;

	/* The instruction may have a memory operand. Its segment is not asked: this is the stack. */
	if (cpu_is_64(cpu) && (!canonical(cpu, at + size - 1) || !canonical(cpu, at2)))
		cpu_raise_error(cpu, VECTOR_SS, 0);
	mem_write(cpu, seg_linear(cpu, CPU_SS, at, size, true), size, cpu->s.seg[CPU_CS].selector);
	mem_write(cpu, seg_linear(cpu, CPU_SS, at2, size, true), size, next_rip);
	stack_pointer_set(cpu, sp - 2 * size);
}

static void call_same(struct cpu *cpu, const struct call_gate *g, uint64_t next_rip)
{
	check_offset(cpu, &g->target);
	push_return(cpu, g->size, next_rip);
}

static void call_inner_64(struct cpu *cpu, const struct call_gate *g, uint64_t next_rip)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	uint64_t values[] = {
		cpu->s.seg[CPU_SS].selector, cpu->s.gpr[CPU_RSP], cpu->s.seg[CPU_CS].selector, next_rip
	};
	unsigned cpl = g->target.cpl;
	uint64_t sp;

	if (4 + 8 * cpl + 7 > tr->limit)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, tr->selector));
	sp = sys_read(cpu, tr->base + 4 + 8 * cpl, 8);
	if (!canonical(cpu, sp - 1) || !canonical(cpu, sp - sizeof(values)))
		cpu_raise_error(cpu, VECTOR_SS, 0);
	check_offset(cpu, &g->target);
	cpu->lin_mask = ~UINT64_C(0);
	for (unsigned i = 0; i < 4; i++) {
		sp -= 8;
		level_write(cpu, cpl, sp, 8, values[i]);
	}
	cpu->s.gpr[CPU_RSP] = sp;
	cpu->s.seg[CPU_SS] = (struct cpu_segment){ .selector = (uint16_t)cpl, .dpl = (uint8_t)cpl, .unusable = 1 };
}

static void call_inner_32(struct cpu *cpu, const struct call_gate *g, uint64_t next_rip)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	bool is_32 = tr->type & 8;
	unsigned offset = is_32 ? 4 + 8 * g->target.cpl : 2 + 4 * g->target.cpl, size = g->size;
	uint64_t values[35], sp, mask;
	unsigned count = 0;
	struct cpu_segment ss;
	uint16_t selector;

	if (offset + (is_32 ? 5 : 3) > tr->limit)
		cpu_raise_error(cpu, VECTOR_TS, selector_error(cpu, tr->selector));
	sp = sys_read(cpu, tr->base + offset, is_32 ? 4 : 2);
	selector = (uint16_t)sys_read(cpu, tr->base + offset + (is_32 ? 4 : 2), 2);
	ss = stack_segment(cpu, selector, g->target.cpl, VECTOR_TS);
	values[count++] = cpu->s.seg[CPU_SS].selector;
	values[count++] = cpu->s.gpr[CPU_RSP];
	for (unsigned i = g->params; i > 0; i--)
		values[count++] = stack_peek(cpu, size, (i - 1) * size);
	values[count++] = cpu->s.seg[CPU_CS].selector;
	values[count++] = next_rip;
	stack_room_check(cpu, &ss, sp, size, count, selector_error(cpu, selector));
	check_offset(cpu, &g->target);
	mask = ss.db ? 0xffffffffu : 0xffffu;
	for (unsigned i = 0; i < count; i++) {
		sp = (sp - size) & mask;
		level_write(cpu, g->target.cpl, ss.base + sp, size, values[i]);
	}
	stack_arrive(cpu, &ss, sp, false);
}

void far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, uint64_t next_rip, unsigned osize)
{
	struct call_gate g;
	uint64_t descriptor;

	if (!(cpu->mode & MODE_PROT)) {
		check_real_offset(cpu, offset);
		push_return(cpu, osize, next_rip);
		seg_load_real(cpu, CPU_CS, selector);
		cpu->s.rip = offset;
		return;
	}
	descriptor = target_descriptor(cpu, selector);
	if (is_code(descriptor)) {
		g.target.rip = offset;
		code_direct(cpu, selector, descriptor, &g.target);
		push_return(cpu, osize, next_rip);
	} else {
		gate_open(cpu, selector, descriptor, false, &g);
		if (g.target.cpl == cpu->cpl)
			call_same(cpu, &g, next_rip);
		else if (cpu->s.efer & EFER_LMA)
			call_inner_64(cpu, &g, next_rip);
		else
			call_inner_32(cpu, &g, next_rip);
	}
	arrive(cpu, &g.target);
}

/* ---- returns ------------------------------------------------------------------------------------------- */

/* The code segment that RET or IRET goes back to. */
static void code_return(struct cpu *cpu, uint16_t selector, struct target *t)
{
	uint64_t descriptor = target_descriptor(cpu, selector);
	bool conforming;

	t->cs = descriptor_segment(selector, descriptor);
	t->cpl = selector & 3;
	conforming = t->cs.type & TYPE_CONFORMING;
	if (!is_code(descriptor) || t->cpl < cpu->cpl || (conforming ? t->cs.dpl > t->cpl : t->cs.dpl != t->cpl))
		cpu_raise_error(cpu, VECTOR_GP, selector_error(cpu, selector));
	code_common(cpu, selector, descriptor, t);
}

/* SS for the level of `t`. 64-bit code above level 3 may have a null one. */
static struct cpu_segment stack_return(struct cpu *cpu, uint16_t selector, const struct target *t)
{
	bool to_64 = (cpu->s.efer & EFER_LMA) && t->cs.l;

	if ((selector & 0xfffc) == 0 && to_64 && t->cpl != 3 && (selector & 3) == t->cpl)
		return (struct cpu_segment){ .selector = selector, .dpl = (uint8_t)t->cpl, .unusable = 1 };
	return stack_segment(cpu, selector, t->cpl, VECTOR_GP);
}

void far_return(struct cpu *cpu, unsigned osize, unsigned pop_bytes)
{
	uint64_t rip = stack_peek(cpu, osize, 0), sp;
	uint16_t selector = (uint16_t)stack_peek(cpu, osize, osize), ss_selector;
	struct cpu_segment ss;
	struct target t = { .rip = rip };

	if (!(cpu->mode & MODE_PROT)) {
		check_real_offset(cpu, rip);
		stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + 2 * osize + pop_bytes);
		seg_load_real(cpu, CPU_CS, selector);
		cpu->s.rip = rip;
		return;
	}
	code_return(cpu, selector, &t);
	if (t.cpl == cpu->cpl) {
		check_offset(cpu, &t);
		stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + 2 * osize + pop_bytes);
		arrive(cpu, &t);
		return;
	}
	sp = stack_peek(cpu, osize, 2 * osize + pop_bytes);
	ss_selector = (uint16_t)stack_peek(cpu, osize, 3 * osize + pop_bytes);
	ss = stack_return(cpu, ss_selector, &t);
	check_offset(cpu, &t);
	stack_arrive(cpu, &ss, sp + pop_bytes, (cpu->s.efer & EFER_LMA) && t.cs.l);
	seg_drop_inner(cpu, t.cpl);
	arrive(cpu, &t);
}

/* Which flags IRET may change, by operand size and privilege. */
static void iret_flags(struct cpu *cpu, uint64_t flags, unsigned osize, unsigned old_cpl)
{
	uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;

	if (osize >= 4)
		mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID;
	if (old_cpl == 0)
		mask |= RFLAGS_IOPL | (osize >= 4 ? RFLAGS_VIF | RFLAGS_VIP : 0);
	if (old_cpl <= (cpu->s.rflags >> 12 & 3))
		mask |= RFLAGS_IF;
	rflags_set(cpu, (rflags_get(cpu) & ~mask & ~RFLAGS_RF) | (flags & mask));
}

static void iret_real(struct cpu *cpu, unsigned osize)
{
	uint64_t rip = stack_peek(cpu, osize, 0), flags = stack_peek(cpu, osize, 2 * osize);
	uint16_t selector = (uint16_t)stack_peek(cpu, osize, osize);

	if (cpu->mode & MODE_V86)
		vme_flags_check(cpu, flags, osize);
	check_real_offset(cpu, rip);
	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + 3 * osize);
	seg_load_real(cpu, CPU_CS, selector);
	cpu->s.rip = rip;
	if (cpu->mode & MODE_V86)
		vme_flags_load(cpu, flags, osize, RFLAGS_RF);
	else
		iret_flags(cpu, flags, osize, 0);
}

static void iret_to_v86(struct cpu *cpu, uint64_t rip, uint16_t cs, uint64_t flags)
{
	static const uint8_t order[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };
	uint64_t sp = stack_peek(cpu, 4, 12), values[5];

	for (unsigned i = 0; i < 5; i++)
		values[i] = stack_peek(cpu, 4, 16 + 4 * i);
	rflags_set(cpu, (uint32_t)flags);
	seg_load_real(cpu, CPU_CS, cs);
	seg_load_real(cpu, CPU_SS, (uint16_t)values[0]);
	for (unsigned i = 0; i < 4; i++)
		seg_load_real(cpu, order[i], (uint16_t)values[i + 1]);
	cpu->s.gpr[CPU_RSP] = sp;
	cpu->s.rip = rip & 0xffff;
	mode_update(cpu);
}

void iret(struct cpu *cpu, unsigned osize)
{
	unsigned old_cpl = cpu->cpl;
	uint64_t rip, flags, sp = 0;
	struct cpu_segment ss = { 0 };
	struct target t;
	uint16_t selector;
	bool new_stack;

	if (!(cpu->mode & MODE_PROT)) {
		iret_real(cpu, osize);
		return;
	}
	if (cpu->s.rflags & RFLAGS_NT) {
		if (cpu->s.efer & EFER_LMA)
			cpu_gp(cpu);
		task_return(cpu);
	}
	rip = stack_peek(cpu, osize, 0);
	selector = (uint16_t)stack_peek(cpu, osize, osize);
	flags = stack_peek(cpu, osize, 2 * osize);
	if ((flags & RFLAGS_VM) && old_cpl == 0 && osize == 4 && !(cpu->s.efer & EFER_LMA)) {
		iret_to_v86(cpu, rip, selector, flags);
		return;
	}
	t.rip = rip;
	code_return(cpu, selector, &t);
	new_stack = cpu_is_64(cpu) || t.cpl != old_cpl;
	if (new_stack) {
		sp = stack_peek(cpu, osize, 3 * osize);
		ss = stack_return(cpu, (uint16_t)stack_peek(cpu, osize, 4 * osize), &t);
		check_offset(cpu, &t);
		stack_arrive(cpu, &ss, sp, (cpu->s.efer & EFER_LMA) && t.cs.l);
	} else {
		check_offset(cpu, &t);
		stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + 3 * osize);
	}
	iret_flags(cpu, flags, osize, old_cpl);
	if (t.cpl != old_cpl)
		seg_drop_inner(cpu, t.cpl);
	arrive(cpu, &t);
}
