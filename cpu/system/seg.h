/* SPDX-License-Identifier: MIT */
/* Segment registers, descriptors, and the mode of the CPU that follows from them. */
#ifndef CPU_SYSTEM_SEG_H
#define CPU_SYSTEM_SEG_H

#include "cpu/base/types.h"

/** Compute mode, seg_fast, seg_base, lin_mask and cpl anew from segments and control registers. */
void mode_update(struct cpu *cpu);
/** Load a segment register with all checks, as MOV Sreg and POP Sreg do. */
void seg_load(struct cpu *cpu, unsigned seg, uint16_t selector);
/** Load ES, DS, FS or GS of a new task. What seg_load would refuse by #GP is #TS. */
void seg_load_task(struct cpu *cpu, unsigned seg, uint16_t selector);
/** Load a segment register as real and virtual-8086 mode do. */
void seg_load_real(struct cpu *cpu, unsigned seg, uint16_t selector);
/** Read the 8-byte descriptor of a selector. Returns: false when it is outside its table. */
bool descriptor_read(struct cpu *cpu, uint16_t selector, uint64_t *descriptor);
/** Unpack a descriptor. */
struct cpu_segment descriptor_segment(uint16_t selector, uint64_t descriptor);
/** Set the accessed bit in the table if it is clear. */
void descriptor_accessed(struct cpu *cpu, uint16_t selector, uint64_t *descriptor);
/** The error code for a selector: without RPL, and with EXT while an external event is delivered. */
uint32_t selector_error(struct cpu *cpu, uint16_t selector);
/**
 * Check the descriptor of `selector` for SS at privilege `cpl`, and unpack it. A bad one raises `fault`: #TS for a
 * task's stack, else #GP.
 */
struct cpu_segment stack_segment(struct cpu *cpu, uint16_t selector, unsigned cpl, enum cpu_vector fault);
/**
 * Raise #SS(error) unless `count` pushes of `size` bytes fit on a stack of 16 or 32 bits: SS as it will be, and the
 * stack pointer before them.
 */
void stack_room_check(struct cpu *cpu, const struct cpu_segment *ss, uint64_t sp, unsigned size, unsigned count,
                      uint32_t error);
/** After a return to an outer level: data segments that this level may not see become null. */
void seg_drop_inner(struct cpu *cpu, unsigned cpl);
/** Read or write a stack that belongs to privilege `cpl`. */
uint64_t level_read(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size);
void level_write(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size, uint64_t value);

#endif
