/* SPDX-License-Identifier: MIT */
/* What the files of x87 share. */
#ifndef CPU_FPU_X87_H
#define CPU_FPU_X87_H

#include "cpu/base/private.h"
#include "cpu/insn/insn.h"

#define FSW_EVENTS 0x003fu
#define FSW_ES     0x0080u
#define FSW_B      0x8000u

/** What every x87 instruction checks: #NM. */
void x87_check(struct cpu *cpu);
/** What an instruction that waits checks: that, and #MF for an unmasked exception that is pending. */
void x87_wait(struct cpu *cpu);
/** KVM's emulator has no x87: an emulation error when the instruction's operand is a device. */
void x87_no_device(struct cpu *cpu);
/** A status word as the processor has it under this control word: ES and B say whether an unmasked exception is pending. */
uint16_t x87_status(uint16_t fsw, uint16_t fcw);
/** A control word as the processor keeps it. */
uint16_t x87_control(uint16_t fcw);
/** FNINIT. The registers keep their values, and are empty. */
void x87_init(struct cpu *cpu);

/* TOP becomes 0. The registers stay where they are, so the FXSAVE image, which is in stack order, turns. */
static inline void x87_top_clear(struct cpu *cpu)
{
	unsigned top = cpu->s.fx.fsw >> 11 & 7;
	uint8_t st[8][16];

	if (top == 0)
		return;
	memcpy(st, cpu->s.fx.st, sizeof(st));
	for (unsigned i = 0; i < 8; i++)
		memcpy(cpu->s.fx.st[(i + top) & 7], st[i], sizeof(st[i]));
	cpu->s.fx.fsw &= (uint16_t)~0x3800u;
}

/** image.c's instructions. */
op_fn *fpu_image_select(const struct insn *insn, struct op *op);

#endif
