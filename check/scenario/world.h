/* SPDX-License-Identifier: MIT */
/* The VM of a scenario: one, with up to two vCPUs, over the fake host. Made in setup, taken apart in finish. */
#ifndef CHECK_SCENARIO_WORLD_H
#define CHECK_SCENARIO_WORLD_H

#include "check/check.h"
#include "check/scenario/abstract.h"
#include "check/scenario/cpu.h"
#include "core/sync/vm.h"

/* One line each: SCENARIO(name, .protocol = ..., ...). */
#define SCENARIO(id, ...) CHECK_SCENARIO(id) = { .name = #id, __VA_ARGS__ }

#define WORLD_CPUS 2u

struct world {
	struct vmmu_vm *vm;
	struct cpu cpu[WORLD_CPUS];
	bool guest_tables;
};

extern struct world world;

/** `real`: see abstract.h. */
void world_make(unsigned real, enum vmmu_mmu mmu, unsigned cpus);
/** The same, with what else a configuration says. */
void world_make_with(unsigned real, const struct vmmu_config *config, unsigned cpus);

/** Set a slot: `pages` from `gfn`, backed by host pages from `page`. pages 0: delete. */
void world_slot(unsigned slot, unsigned gfn, unsigned pages, unsigned page, unsigned flags);
#define world_slot_delete(slot) world_slot(slot, 0, 0, 0, 0)

/**
 * Shadow: tables of a 64-bit guest in gfns 0 .. 3 (PML4, PDPT, PD, PT), mapping linear page n to gfn GUEST_DATA + n, n 0 .. 3; all bits set that a walk would set.
 * vCPUs are told to use them.
 */
#define GUEST_PT   3u
#define GUEST_DATA 4u
void world_guest_tables(void);
/** A guest's entry that leads to gfn. */
uint64_t world_guest_entry(unsigned gfn);
/** Load CR3 on a vCPU: the PML4 is in gfn `table`. `keep` as in vmmu_guest_regs_set. */
void world_cr3(struct cpu *cpu, unsigned table, bool keep);

static inline struct vm *world_vm(void)
{
	return &world.vm->vm;
}

/** Is nothing wrong in the whole of the VM (core/audit)? TDP only; a quiet point. */
void world_audit(unsigned invalidations);

/** Take everything apart; what is left then is a leak. */
void world_end(void);

#endif
