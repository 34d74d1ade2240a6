/* SPDX-License-Identifier: MIT */
/* Page walks, as the TLB misses of mem.c and the fetches of decode/block.c ask for them. */
#ifndef CPU_MEMORY_WALK_H
#define CPU_MEMORY_WALK_H

#include "cpu/base/private.h"

/* Where one byte of linear memory is. */
struct place {
	uint8_t *host; /* NULL: a device, or memory that must be treated like one */
	uint64_t gpa;
	bool slow;     /* write: the page holds decoded code */
	const uint8_t *behind; /* not NULL: the page, which the library will write (mirrored.h) */
};

/** Translate with all side effects, and fill the TLB. Raises #PF; leaves for faults of the second stage. */
struct place walk(struct cpu *cpu, uint64_t linear, enum access access);
/** The second stage alone. `error`: VMMU_PF_* of the access. Returns: false on a fault, which p->fault_* describe. */
bool nested_walk(struct cpu *cpu, uint64_t gpa, uint64_t error, uint64_t *host);
/**
 * Outside the guest: read code at `linear` into to[0 .. most), as far as the guest's tables lead to memory. No effects.
 * Returns: how many bytes were read.
 */
unsigned code_read(struct cpu *cpu, uint64_t linear, uint8_t *to, unsigned most);
/**
 * Outside the guest: the guest's own address of `gpa`, which the second stage translates now. Another one only in a
 * nested guest with nested paging. No effects. Returns: 0 when the hypervisor maps nothing there.
 */
uint64_t second_stage_origin(struct cpu *cpu, uint64_t gpa);

#endif
