/* SPDX-License-Identifier: MIT */
/*
 * The translator: guest code as host code.
 *
 * Guest and host have the same instructions. The translator copies those of a decoded block (decode/block.h) nearly as
 * they are, and puts a look-up in a TLB before each access to memory. What it does not know is run by the handler of
 * the instruction, so that both engines are one CPU. A block that cannot be translated is interpreted.
 *
 * While translated code runs:
 *  - R11 is the struct cpu, moved by STATE_BIAS. R12, R14 and R15 are temporaries. R13 is the guest's RSP. The guest's
 *    R11 to R15 are in s.gpr, its other registers in the host's of the same name. The host's stack is the thread's own.
 *  - The guest's XMM registers are the host's from the first instruction on that has one, until translated code is
 *    left: fast.vectors. A block asks for that once. A call of C stores and loads them.
 *  - So are its x87 registers, while fast.x87 is set (x87.c).
 *  - The guest's arithmetic flags are in RFLAGS or in cpu->fast.flags; which, is known at each instruction. A block is
 *    entered with them in cpu->fast.flags. Flags that the block overwrites before it reads them may be lost.
 *  - At an access to memory every register has the value from before the instruction. So an access that fails leaves
 *    the state of an instruction that has not begun.
 *  - cpu->code_gen does not change. So blocks of a page, which were proved together when the page was entered from
 *    outside, stay good, and lead to each other by plain jumps. Every other way goes through a cache of addresses
 *    (cpu->fast.jump) and asks whether the page was proved in the current generation.
 */
#ifndef CPU_TRANSLATE_TRANSLATE_H
#define CPU_TRANSLATE_TRANSLATE_H

#include "cpu/base/private.h"
#include "cpu/decode/block.h"

/**
 * For the loop of run/execute.c, at the first op of a block that has host code or may get it. s.rip need not be right.
 * Returns: where the loop goes on, with the op in *op; NULL: at the block at s.rip. May leave.
 */
const void *translate_run(struct cpu *cpu, const struct op **op);

/** Supplied by run/execute.c: interpret from an op on, to the end of the block or to HOT_STOP. */
void translate_interpret(struct cpu *cpu, const struct op *op);

#endif
