/* SPDX-License-Identifier: MIT */
/*
 * A CPU for scenarios: what hardware does with the library's tables. It walks them from entry.root without a lock, sets Accessed and Dirty, and keeps the last
 * translation, also over exits, until it is told to flush: so a flush that is missing shows as an access to a frame that is gone.
 */
#ifndef CHECK_SCENARIO_CPU_H
#define CHECK_SCENARIO_CPU_H

#include <vmmu/vmmu.h>

#include "port/check/host.h"

struct cpu {
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry entry;
	bool in_guest;
	struct {
		uint64_t page; /* number + 1; 0: empty */
		uint64_t pfn;
		bool write;
	} tlb;
	uint64_t error;    /* of the last access that faulted */
	uint64_t mmio_gpa; /* shadow: where the last fault said */
};

enum cpu_result {
	CPU_DONE,  /* accessed; the CPU is in the guest */
	CPU_FAULT, /* it faults with cpu->error; still in the guest */
	CPU_MMIO,  /* from here on: outside the guest */
	CPU_EMULATE,
	CPU_HOST,
	CPU_TIRED, /* so many faults were answered, and it faults again */
};

/** Enter the guest, unless it is there. */
void cpu_enter(struct cpu *cpu);
void cpu_leave(struct cpu *cpu);

/**
 * One access in the guest, to a guest physical address, or with shadow paging a linear one. Returns: the frame, which the caller then reads or writes; NULL: a fault.
 */
struct host_frame *cpu_access(struct cpu *cpu, uint64_t address, bool write);

/** Answer the last fault, outside the guest. */
enum cpu_result cpu_answer(struct cpu *cpu, uint64_t address);

/** Access and answer faults, at most `faults` of them. After CPU_DONE *frame is what was accessed and the CPU is in the guest. */
enum cpu_result cpu_touch(struct cpu *cpu, uint64_t address, bool write, unsigned faults, struct host_frame **frame);

/** The entry that translates an address, without a trace. Returns: 0 when none does. */
uint64_t cpu_peek(const struct cpu *cpu, uint64_t address);

#endif
