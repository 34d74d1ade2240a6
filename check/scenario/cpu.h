/* SPDX-License-Identifier: MIT */
/*
 * A CPU for scenarios: it does with the library's tables what hardware does. It walks them from entry.root without a
 * lock and sets Accessed and Dirty.
 *
 * It keeps its last translation, over exits too, until it is told to flush. So a missing flush shows: the CPU
 * accesses a frame that was given away.
 */
#ifndef CHECK_SCENARIO_CPU_H
#define CHECK_SCENARIO_CPU_H

#include <vmmu/vmmu.h>

#include "port/check/host.h"

struct cpu {
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry entry;
	bool in_guest;
	bool nested;       /* in guest mode: addresses are L2 physical (world_nested_enter) */
	struct {
		uint64_t page; /* page number + 1; 0: empty */
		uint64_t pfn;
		bool write;
	} tlb;
	uint64_t error;    /* of the last access that faulted, VMMU_PF_* */
	uint64_t mmio_gpa; /* shadow paging, guest mode: the gpa of the last fault */
};

enum cpu_result {
	CPU_DONE,  /* cpu_touch: accessed, and the CPU is in the guest; cpu_answer: the fault was answered */
	CPU_FAULT, /* the fault is the guest's own; here and below the CPU is outside the guest */
	CPU_MMIO,
	CPU_EMULATE,
	CPU_HOST,
	CPU_TIRED, /* `faults` faults were answered, and the CPU faults again */
};

/** Enter the guest, unless the CPU is in it. */
void cpu_enter(struct cpu *cpu);
void cpu_leave(struct cpu *cpu);

/**
 * One access in the guest. `address`: a guest physical address; with shadow paging a linear one. Returns: the frame,
 * which the caller then reads or writes; NULL for a fault, with cpu->error set.
 */
struct host_frame *cpu_access(struct cpu *cpu, uint64_t address, bool write);

/** Answer the fault of cpu->error at `address`. Call it outside the guest. */
enum cpu_result cpu_answer(struct cpu *cpu, uint64_t address);

/**
 * Access `address`, answering at most `faults` faults. After CPU_DONE *frame is the frame accessed, and the CPU is in
 * the guest; after every other result the CPU is outside.
 */
enum cpu_result cpu_touch(struct cpu *cpu, uint64_t address, bool write, unsigned faults, struct host_frame **frame);

/** The entry that translates an address; leaves no trace in the tables. Returns: 0 when no entry does. */
uint64_t cpu_peek(const struct cpu *cpu, uint64_t address);

#endif
