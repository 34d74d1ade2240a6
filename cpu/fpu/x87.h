/* SPDX-License-Identifier: MIT */
/* The x87 state, as the files of x87 and MMX share it. */
#ifndef CPU_FPU_X87_H
#define CPU_FPU_X87_H

#include "cpu/base/private.h"
#include "cpu/base/x87_host.h"
#include "cpu/insn/insn.h"

#define FSW_EVENTS 0x003fu
#define FSW_ES     0x0080u
#define FSW_B      0x8000u

/** What every x87 instruction checks: #NM. */
void x87_check(struct cpu *cpu);
/** What an instruction that waits checks: #NM, and #MF for a pending unmasked exception. */
void x87_wait(struct cpu *cpu);
/** An emulation error when the operand of the instruction is a device: KVM's emulator has no x87. */
void x87_no_device(struct cpu *cpu);
/** A status word with ES and B set as this control word asks: is an unmasked exception pending? */
uint16_t x87_status(uint16_t fsw, uint16_t fcw);
/** A control word as the processor keeps it. */
uint16_t x87_control(uint16_t fcw);
/** FNINIT, after x87_unload: the registers become empty and keep their values. */
void x87_init(struct cpu *cpu);

/* In an image without REX.W, pointers have 32 bits, and selectors of 0 follow. */
static inline void x87_pointers_shorten(struct cpu_fx *fx)
{
	fx->fip = (uint32_t)fx->fip;
	fx->fdp = (uint32_t)fx->fdp;
}

/* An image that came from memory becomes what the processor keeps. */
static inline void x87_normalize(struct cpu_fx *fx)
{
	fx->fcw = x87_control(fx->fcw);
	fx->fsw = x87_status(fx->fsw, fx->fcw);
	fx->fop &= 0x7ff;
	for (unsigned i = 0; i < 8; i++)
		memset(fx->st[i] + 10, 0, sizeof(fx->st[i]) - 10);
}

/*
 * Set TOP to 0, after x87_unload. Physical registers keep their values, so the FXSAVE image, which is in stack order,
 * rotates.
 */
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

/** LDMXCSR and STMXCSR, and their forms in AVX, after the checks of the unit. */
void mxcsr_read(struct cpu *cpu, const struct op *op);
void mxcsr_write(struct cpu *cpu, const struct op *op);

/** The selectors behind fpu_select for the instructions of image.c and xsave.c. */
op_fn *fpu_image_select(const struct insn *insn, struct op *op);
op_fn *fpu_xsave_select(const struct insn *insn, struct op *op);

#endif
