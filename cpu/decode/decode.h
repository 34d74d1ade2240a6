/* SPDX-License-Identifier: MIT */
/* Bytes to ops, one instruction at a time. */
#ifndef CPU_DECODE_DECODE_H
#define CPU_DECODE_DECODE_H

#include "cpu/base/types.h"

enum decoded { DECODED_OK, DECODED_END, DECODED_MORE /* needs bytes beyond `available` */ };
/* What of an op was computed from its RIP, beside op->rip. */
#define RELATIVE_IMM  1u
#define RELATIVE_DISP 2u
/**
 * Decode one instruction. Always fills in the op (undefined ones raise #UD). `relative`: receives RELATIVE_*.
 * DECODED_END: a block ends after it.
 */
enum decoded decode(struct cpu *cpu, const uint8_t *bytes, unsigned available, uint64_t rip, struct op *op,
                    unsigned *relative);

/** Does CPUID offer the instruction? If not, it is #UD. */
bool instruction_is_offered(const ZydisDecodedInstruction *z);
/** ZydisDecoderInit for this processor. */
void decoder_init(ZydisDecoder *decoder, ZydisMachineMode mode, ZydisStackWidth width);

/**
 * Supplied by run/execute.c: fill in op->label. `hot` 0: call op->fn, and look up the next block when OPF_END; 1:
 * the end of a block; else hot_select's number.
 */
void op_label_set(struct cpu *cpu, struct op *op, unsigned hot);

#endif
