/* SPDX-License-Identifier: MIT */
/*
 * Stores to guest memory that the library mirrors (VMMU_FAULT_EMULATE, VMMU_PAGE_EMULATE): a guest's tables with
 * shadow paging, a hypervisor's nested tables with a second stage. mirrored.c describes them.
 */
#ifndef CPU_MEMORY_MIRRORED_H
#define CPU_MEMORY_MIRRORED_H

#include "cpu/base/private.h"
#include "cpu/memory/walk.h"

/* ---- in the guest ---- */

/** Collect a write to `place`, of which place->behind is set. The library makes it. */
void mirrored_write(struct cpu *cpu, const struct place *place, unsigned size, uint64_t value);

/**
 * A locked access to such a page, which does not cross it. Returns: where to make it. The library is told when the
 * instruction is complete.
 */
void *mirrored_in_place(struct cpu *cpu, const struct place *place, unsigned size);

/* ---- outside the guest ---- */

/**
 * The library answered EMULATE to a write of the instruction at cpu->op, which runs again. `gpa`: the faulting address.
 * `target`: the memory behind it, of the guest itself. Returns: false when the instruction comes to no end.
 */
bool mirrored_fault(struct cpu *cpu, uint64_t gpa, struct vmmu_gpa target);
/** The same for a write that is the page walk's own: the page is given up as a table. */
bool mirrored_walk_fault(struct cpu *cpu, struct vmmu_gpa target);
/** The library makes the writes that the last instruction left. Returns: false when memory there is gone. */
bool mirrored_make(struct cpu *cpu);

#endif
