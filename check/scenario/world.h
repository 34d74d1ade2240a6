/* SPDX-License-Identifier: MIT */
/*
 * The VM of a scenario. There is one, over the fake host, with at most two vCPUs. setup
 * makes it; finish takes it apart.
 */
#ifndef CHECK_SCENARIO_WORLD_H
#define CHECK_SCENARIO_WORLD_H

#include "check/check.h"
#include "check/scenario/abstract.h"
#include "check/scenario/cpu.h"
#include "core/sync/vm.h"

/* A scenario: SCENARIO(name, .protocol = ..., .claim = ..., ...). */
#define SCENARIO(id, ...) CHECK_SCENARIO(id) = { .name = #id, __VA_ARGS__ }

#define WORLD_CPUS 2u

struct world {
	struct vmmu_vm *vm;
	struct cpu cpu[WORLD_CPUS];
	bool guest_tables;
};

extern struct world world;

/** `real`: the REAL_ flags of abstract.h. */
void world_make(unsigned real, enum vmmu_mmu mmu, unsigned cpus);
/** The same with a configuration of the caller's. */
void world_make_with(unsigned real, const struct vmmu_config *config, unsigned cpus);

/** Set a slot: `pages` guest pages from `gfn`, backed by host pages from `page`. With `pages` 0 the slot is deleted. */
void world_slot(unsigned slot, unsigned gfn, unsigned pages, unsigned page, unsigned flags);
#define world_slot_delete(slot) world_slot(slot, 0, 0, 0, 0)

/**
 * For shadow paging: a 64-bit guest's tables in gfns 0 to 3 (PML4, PDPT, PD, PT). They map linear page n to gfn
 * GUEST_DATA + n, for n 0 to 3, with all bits set that a walk would set. Each vCPU's CR3 is loaded with them.
 */
#define GUEST_PT   3u
#define GUEST_DATA 4u
void world_guest_tables(void);
/** A page-table entry of the guest that leads to gfn. */
uint64_t world_guest_entry(unsigned gfn);
/** Load CR3 on a vCPU: the PML4 is in gfn `table`. `keep` as in vmmu_guest_regs_set. */
void world_cr3(struct cpu *cpu, unsigned table, bool keep);

/**
 * For a VM with config.nested: the vCPU enters guest mode, with the tables of world_guest_tables as L1's nested one, or
 * leaves it. The CPU has one translation and no tags: it drops it.
 */
void world_nested_enter(struct cpu *cpu);
void world_nested_leave(struct cpu *cpu);

static inline struct vm *world_vm(void)
{
	return &world.vm->vm;
}

/**
 * Audit the whole VM (core/audit/audit.h); a finding fails the scenario. Call it at a quiet point: no thread runs.
 * `invalidations`: how many are open.
 */
void world_audit(unsigned invalidations);

/** Destroy the vCPUs and the VM. What is still allocated afterwards is a leak. */
void world_end(void);

#endif
