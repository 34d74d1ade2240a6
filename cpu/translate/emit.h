/* SPDX-License-Identifier: MIT */
/*
 * Bytes of host code. Each function writes one instruction; its name is the instruction, its operands follow in
 * Intel's order. None looks at where the code goes but for jumps, which are relative.
 */
#ifndef CPU_TRANSLATE_EMIT_H
#define CPU_TRANSLATE_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Host registers, in the order of their encoding. */
enum host_register {
	H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI,
	H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15,
};

/* Conditions of jumps, as encoded. */
enum host_condition { H_B = 2, H_AE = 3, H_E = 4, H_NE = 5, H_BE = 6, H_A = 7 };

struct emit {
	uint8_t *at;       /* where the next byte is written */
	ptrdiff_t to_run;  /* at + to_run is where it will run */
};

/** Where the next instruction will run. */
static inline const uint8_t *emit_here(const struct emit *e)
{
	return e->at + e->to_run;
}

void emit_bytes(struct emit *e, const void *bytes, size_t n);
#define EMIT(e, ...) \
	emit_bytes(e, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
void emit_32(struct emit *e, uint32_t value);
void emit_64(struct emit *e, uint64_t value);

/** ModRM, SIB and displacement of disp(base), as the shortest form has it. `reg`: the other operand. */
void emit_place(struct emit *e, unsigned reg, unsigned base, int32_t disp);
/** The same of disp(base,index,1 << scale). */
void emit_place_indexed(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale, int32_t disp);
/** An instruction with opcode byte `opcode`, operands `reg` and disp(base). `wide`: of 64 bits, else 32. */
void emit_reg_mem(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned base, int32_t disp);
void emit_reg_indexed(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned base, unsigned index,
                      unsigned scale, int32_t disp);
/** The same with a register as ModRM.rm. */
void emit_reg_reg(struct emit *e, bool wide, uint8_t opcode, unsigned reg, unsigned rm);

void emit_mov(struct emit *e, unsigned to, unsigned from);
void emit_load(struct emit *e, unsigned to, unsigned base, int32_t disp);
void emit_store(struct emit *e, unsigned base, int32_t disp, unsigned from);
void emit_lea(struct emit *e, unsigned to, unsigned base, int32_t disp);
/** The shortest move of a constant. Changes no flags. */
void emit_mov_constant(struct emit *e, unsigned to, uint64_t value);

/** Jumps of 4 bytes. Return: their displacement, for emit_aim. `to` may be NULL. */
uint8_t *emit_jmp(struct emit *e, const void *to);
uint8_t *emit_jcc(struct emit *e, unsigned condition, const void *to);
uint8_t *emit_call(struct emit *e, const void *to);
/** Let the jump with this displacement lead to `to`, where code runs. */
void emit_aim(const struct emit *e, uint8_t *displacement, const void *to);

#endif
