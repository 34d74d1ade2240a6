/* SPDX-License-Identifier: MIT */
/*
 * A small machine on the software CPU and the library: RAM, a device in the fourth GiB, and one to four vCPUs in
 * 64-bit mode. The guest maps the RAM one to one by 4 KiB pages, and its page tables also through the root's entry
 * SELF, which leads to the root itself.
 */
#ifndef TEST_SHADOW_MACHINE_H
#define TEST_SHADOW_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <vmmu/vmmu.h>

#include "cpu/cpu.h"
#include "cpu/test/guest_asm.h"

#define VCPUS 4             /* the most */
#define RAM   (16u << 20)
#define PML4  0x1000u
#define PDPT  0x2000u
#define PD    0x3000u
#define PD2   0x4000u     /* for the second GiB */
#define FREE  0x800u      /* the offset, in a table, of entries that no access uses */
#define GDT   0x8000u
#define TSS   0x9000u
#define IDT   0xa000u
#define STUBS 0xb000u     /* 16 bytes for each vector: hlt */
#define CODE  0x10000u
#define STACK 0x20000u
#define PT    0x40000u    /* the first of eight */
#define DATA  0x100000u
#define SELF  510u        /* the PML4 entry that maps the tables */

struct machine {
	uint8_t *ram;
	struct vmmu_vm *mmu;
	struct vmmu_vcpu *vcpu[VCPUS];
	struct cpu_vm *vm;
	struct cpu *cpu[VCPUS];
	uint64_t device; /* the last value written to the device */
	unsigned device_writes;
	bool shadow;
};

static inline uint64_t load(const struct machine *m, uint64_t at)
{
	uint64_t value;

	memcpy(&value, m->ram + at, 8);
	return value;
}

static inline void store(struct machine *m, uint64_t at, uint64_t value)
{
	memcpy(m->ram + at, &value, 8);
}

struct machine *machine_make(enum vmmu_mmu mmu);
void machine_free(struct machine *m);

/** Make another vCPU, in the state in which the first began. */
void machine_cpu_make(struct machine *m, unsigned id);

/** Run to a HLT; another exit fails the test. Returns: the vector in whose stub the HLT was, or -1 when in no stub. */
int machine_run(struct machine *m, unsigned id, uint64_t rip);

/** Run the test in a VM with a second stage, and in one with shadow paging. */
void machine_each(void (*test)(struct machine *m, bool shadow));

#define LOAD(m, at, name) memcpy((m)->ram + (at), name, (size_t)((name##_end) - (name)))

#endif
