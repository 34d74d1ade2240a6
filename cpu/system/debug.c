/* SPDX-License-Identifier: MIT */
/*
 * Stepping and breakpoints: RFLAGS.TF and DR0-DR7 of the guest, and the host's debugging of the guest.
 *
 * With a breakpoint set the CPU runs one instruction at a time with an empty TLB, so that every access calls
 * debug_data. This is slow, and costs nothing when no breakpoint is set.
 */
#include "cpu/base/private.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/debug.h"

#define DR6_BD   UINT64_C(0x2000)
#define DR7_GD   UINT64_C(0x2000)
#define DR6_INIT UINT64_C(0xffff0ff0)

static const uint64_t *debug_registers(const struct cpu *cpu)
{
	return cpu->p->debug & CPU_DEBUG_HW_BP ? cpu->p->debug_dr : cpu->s.dr;
}

bool debug_is_on(const struct cpu *cpu)
{
	if (cpu->p->debug & CPU_DEBUG_STEP)
		return true;
	/* With GIF clear the guest's own breakpoints are not noticed (APM vol. 2, 15.17). The host's are. */
	if (!cpu->s.svm.gif && !(cpu->p->debug & CPU_DEBUG_HW_BP))
		return false;
	return debug_registers(cpu)[7] & 0xff; /* which breakpoints are on */
}

static bool enabled(uint64_t dr7, unsigned n)
{
	return dr7 >> (2 * n) & 3;
}

/* 0 execute, 1 write, 2 I/O, 3 read or write. */
static unsigned kind(uint64_t dr7, unsigned n)
{
	return dr7 >> (16 + 4 * n) & 3;
}

static unsigned length(uint64_t dr7, unsigned n)
{
	static const uint8_t bytes[] = { 1, 2, 8, 4 };

	return bytes[dr7 >> (18 + 4 * n) & 3];
}

static void exit_debug(struct cpu *cpu, uint64_t pc, uint64_t dr6)
{
	struct cpu_exit_info *exit = &cpu->p->exit;

	exit->debug.exception = VECTOR_DB;
	exit->debug.pc = pc;
	exit->debug.dr6 = dr6 | DR6_INIT;
	exit->debug.dr7 = debug_registers(cpu)[7];
	exit->reason = CPU_EXIT_DEBUG;
	cpu->p->debug_exit = true;
}

void debug_before(struct cpu *cpu)
{
	const uint64_t *dr = debug_registers(cpu);
	uint64_t pc = cpu->seg_base[CPU_CS] + cpu->s.rip, hits = 0;

	tlb_flush(cpu);
	if ((cpu->s.rflags & RFLAGS_RF) || cpu->p->completing || cpu->p->rep_rip == cpu->s.rip)
		return;
	for (unsigned n = 0; n < 4; n++) {
		if (enabled(dr[7], n) && kind(dr[7], n) == 0 && dr[n] == pc)
			hits |= UINT64_C(1) << n;
	}
	if (hits == 0 || cpu->p->step_past == pc)
		return;
	if (cpu->p->debug & CPU_DEBUG_HW_BP) {
		/* After the exit the instruction runs, and must not hit the same breakpoint again. */
		cpu->p->step_past = pc;
		exit_debug(cpu, pc, hits);
		cpu_leave(cpu, LEAVE_EXCEPTION);
	}
	cpu->p->event_op = (struct op){ .rip = cpu->s.rip, .mem = OP_NO_MEM };
	cpu->op = &cpu->p->event_op;
	cpu->s.events.exception.has_payload = true;
	cpu->s.events.exception.payload = hits;
	cpu_raise(cpu, VECTOR_DB);
}

void debug_payload(struct cpu *cpu)
{
	cpu->s.dr[6] = (cpu->s.dr[6] & ~UINT64_C(15)) | cpu->s.events.exception.payload;
	cpu->s.dr[7] &= ~DR7_GD;
}

void debug_data(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	const uint64_t *dr = debug_registers(cpu);

	for (unsigned n = 0; n < 4; n++) {
		unsigned k = kind(dr[7], n), bytes = length(dr[7], n);
		uint64_t at = dr[n] & ~(uint64_t)(bytes - 1);

		if (!enabled(dr[7], n) || !(k == 3 || (k == 1 && write)))
			continue;
		if (linear < at + bytes && at < linear + size)
			cpu->p->dr6_hits |= UINT64_C(1) << n;
	}
}

void debug_register_access(struct cpu *cpu)
{
	if ((cpu->p->debug & CPU_DEBUG_HW_BP) && (cpu->p->debug_dr[7] & DR7_GD)) {
		cpu->s.rip = cpu->op->rip;
		exit_debug(cpu, cpu->seg_base[CPU_CS] + cpu->op->rip, DR6_BD);
		cpu_leave(cpu, LEAVE_EXCEPTION);
	}
}

static void trap(struct cpu *cpu, uint64_t dr6)
{
	cpu->s.events.exception.pending = true;
	cpu->s.events.exception.vector = VECTOR_DB;
	cpu->s.events.exception.has_error = false;
	cpu->s.events.exception.has_payload = true;
	cpu->s.events.exception.payload = dr6;
}

void debug_held(struct cpu *cpu)
{
	uint64_t dr6 = cpu->p->dr6_held;

	cpu->p->dr6_held = 0;
	if (dr6 != 0)
		trap(cpu, dr6);
}

void debug_after(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	uint64_t pc = cpu->seg_base[CPU_CS] + cpu->s.rip, dr6 = p->dr6_hits | p->dr6_held;
	bool step = p->step_trap;

	p->step_past = ~UINT64_C(0);
	p->dr6_hits = p->dr6_held = 0;
	p->step_trap = false;
	if (p->debug & CPU_DEBUG_STEP) {
		exit_debug(cpu, pc, dr6 | DR6_BS);
		return;
	}
	/* Nothing may come between MOV SS and the next instruction. A step is dropped, a breakpoint is held. */
	if (cpu->s.events.shadow & CPU_SHADOW_MOV_SS) {
		p->dr6_held = dr6;
		return;
	}
	if (dr6 != 0 && (p->debug & CPU_DEBUG_HW_BP))
		exit_debug(cpu, pc, dr6);
	else if (step || dr6 != 0)
		trap(cpu, dr6 | (step ? DR6_BS : 0));
}

void cpu_debug_set(struct cpu *cpu, unsigned flags, const uint64_t dr[8])
{
	struct cpu_private *p = cpu->p;

	p->debug = flags;
	p->step_past = ~UINT64_C(0);
	for (unsigned i = 0; i < 8 && dr != NULL; i++)
		p->debug_dr[i] = dr[i];
	if (flags & (CPU_DEBUG_INJECT_DB | CPU_DEBUG_INJECT_BP)) {
		cpu->s.events.exception.pending = true;
		cpu->s.events.exception.vector = flags & CPU_DEBUG_INJECT_DB ? VECTOR_DB : VECTOR_BP;
		cpu->s.events.exception.has_error = false;
	}
	/* Fast translations would hide accesses from debug_data. */
	tlb_flush_contexts(cpu);
}
