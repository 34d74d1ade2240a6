/* SPDX-License-Identifier: MIT */
/*
 * Stepping and breakpoints: RFLAGS.TF and DR0-DR7 of the guest, and the host's debugging of the guest.
 *
 * Only what touches a breakpoint is slow. No block has an instruction breakpoint behind its first instruction, and none
 * begins at one: that instruction runs alone. The TLB has no fast entry for a page with a data breakpoint, so that each
 * access to the page calls debug_data; one that hits lets the instruction begin again, alone.
 */
#include <string.h>

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

/* With GIF clear the guest's own breakpoints are not noticed (APM vol. 2, 15.17). The host's are. */
static bool are_noticed(const struct cpu *cpu)
{
	return cpu->s.svm.gif || (cpu->p->debug & CPU_DEBUG_HW_BP);
}

static bool enabled(uint64_t dr7, unsigned n)
{
	return dr7 >> (2 * n) & 3;
}

enum { KIND_EXECUTE, KIND_WRITE, KIND_PORT, KIND_ACCESS };

static unsigned kind(uint64_t dr7, unsigned n)
{
	return dr7 >> (16 + 4 * n) & 3;
}

static unsigned length(uint64_t dr7, unsigned n)
{
	static const uint8_t bytes[] = { 1, 2, 8, 4 };

	return bytes[dr7 >> (18 + 4 * n) & 3];
}

/* ---- what is on ------------------------------------------------------------------------------------------ */

static bool is_watch(unsigned kind)
{
	return kind == KIND_WRITE || kind == KIND_ACCESS;
}

void debug_arm(struct cpu *cpu)
{
	const uint64_t *dr = debug_registers(cpu);
	struct debug_armed *was = &cpu->p->armed_breakpoints, now = { .looks = was->looks };

	if (likely(!(dr[7] & 0xff) && !was->code && !was->data))
		return;
	for (unsigned n = 0; n < 4; n++) {
		if (!enabled(dr[7], n) || kind(dr[7], n) == KIND_PORT)
			continue;
		now.dr[n] = dr[n];
		now.dr7 |= dr[7] & (UINT64_C(3) << (2 * n) | UINT64_C(15) << (16 + 4 * n));
		now.code |= kind(dr[7], n) == KIND_EXECUTE;
		now.data |= is_watch(kind(dr[7], n));
	}
	if (now.dr7 == was->dr7 && memcmp(now.dr, was->dr, sizeof(now.dr)) == 0)
		return;
	*was = now;
	tlb_flush_contexts(cpu);
}

bool debug_breaks_slow(const struct cpu *cpu, uint64_t linear)
{
	const struct debug_armed *a = &cpu->p->armed_breakpoints;

	for (unsigned n = 0; n < 4; n++) {
		if (enabled(a->dr7, n) && kind(a->dr7, n) == KIND_EXECUTE && a->dr[n] == linear)
			return true;
	}
	return false;
}

bool debug_watches_slow(const struct cpu *cpu, uint64_t linear)
{
	const struct debug_armed *a = &cpu->p->armed_breakpoints;

	for (unsigned n = 0; n < 4; n++) {
		if (enabled(a->dr7, n) && is_watch(kind(a->dr7, n)) && ((a->dr[n] ^ linear) & ~UINT64_C(0xfff)) == 0)
			return true;
	}
	return false;
}

void debug_begin(struct cpu *cpu)
{
	if (cpu->p->step_past != cpu->seg_base[CPU_CS] + cpu->s.rip)
		cpu->p->step_past = ~UINT64_C(0);
}

/* ---- hits -------------------------------------------------------------------------------------------------- */

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
	uint64_t pc = (cpu->seg_base[CPU_CS] + cpu->s.rip) & cpu->lin_mask, hits = 0;

	if ((cpu->s.rflags & RFLAGS_RF) || cpu->p->completing || cpu->p->rep_rip == cpu->s.rip || !are_noticed(cpu))
		return;
	for (unsigned n = 0; n < 4; n++) {
		if (enabled(dr[7], n) && kind(dr[7], n) == KIND_EXECUTE && dr[n] == pc)
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

/* What was hit is reported after the instruction, so it must run alone. */
static void hits_note(struct cpu *cpu, uint64_t hits)
{
	if (likely(hits == 0) || !are_noticed(cpu))
		return;
	if (!cpu->single) {
		cpu->p->single_next = true;
		cpu_leave(cpu, LEAVE_RESTART);
	}
	cpu->p->dr6_hits |= hits;
}

/* Does breakpoint `n` share a byte with the `size` bytes at `at`? */
static bool overlaps(const uint64_t dr[8], unsigned n, uint64_t at, unsigned size)
{
	unsigned bytes = length(dr[7], n);
	uint64_t from = dr[n] & ~(uint64_t)(bytes - 1);

	return enabled(dr[7], n) && at < from + bytes && from < at + size;
}

void debug_data_slow(struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	const uint64_t *dr = debug_registers(cpu);
	uint64_t hits = 0;

	cpu->p->armed_breakpoints.looks++;
	for (unsigned n = 0; n < 4; n++) {
		unsigned k = kind(dr[7], n);

		if ((k == KIND_ACCESS || (k == KIND_WRITE && write)) && overlaps(dr, n, linear, size))
			hits |= UINT64_C(1) << n;
	}
	hits_note(cpu, hits);
}

void debug_port(struct cpu *cpu, uint16_t port, unsigned size)
{
	const uint64_t *dr = debug_registers(cpu);
	uint64_t hits = 0;

	if (likely(!(dr[7] & 0xff)) || !(cpu->s.cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++) {
		if (kind(dr[7], n) == KIND_PORT && overlaps(dr, n, port, size))
			hits |= UINT64_C(1) << n;
	}
	hits_note(cpu, hits);
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

static void hits_trap(struct cpu *cpu, uint64_t more)
{
	uint64_t hits = cpu->p->dr6_held | cpu->p->dr6_hits;

	cpu->p->dr6_held = cpu->p->dr6_hits = 0;
	if (hits != 0 && (cpu->p->debug & CPU_DEBUG_HW_BP))
		exit_debug(cpu, cpu->seg_base[CPU_CS] + cpu->s.rip, hits);
	else if ((hits | more) != 0)
		trap(cpu, hits | more);
}

void debug_held(struct cpu *cpu)
{
	hits_trap(cpu, 0);
}

void debug_task(struct cpu *cpu, bool trap_bit)
{
	hits_trap(cpu, trap_bit ? DR6_BT : 0);
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
	debug_arm(cpu);
}
