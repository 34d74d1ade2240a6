/* SPDX-License-Identifier: MIT */
/*
 * A small client of /dev/kvm: a VM whose guest runs the routines of guest.S in long mode. Knows nothing of vmmu: the
 * same program measures the real KVM and, under `vmmu run`, vmmu.
 *
 * Guest physical memory: slot 0 is a private megabyte with the text, GDT, page tables and stacks; slot 1 is the
 * data, from DATA_GPA. Guest virtual memory: data pages are mapped one to one by 4 KiB entries.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#define PAGE     UINT64_C(4096)
#define MIB      (UINT64_C(1) << 20)
#define DATA_GPA (UINT64_C(1) << 32)
#define MAX_VCPU 2

struct machine {
	int kvm, vm, vcpu[MAX_VCPU];
	struct kvm_run *run[MAX_VCPU];
	size_t run_bytes;
	int vcpus;
	uint8_t *system; /* slot 0 */
	size_t system_bytes;
	uint8_t *data;   /* slot 1 */
	size_t data_bytes;
};

/* The registers of a routine, as guest.S describes them above each. */
struct call {
	const uint8_t *routine;
	uint64_t rdi, rsi, rdx, r8, r9;
	int cpl; /* 0 or 3 */
};

/** Is there a /dev/kvm that can be opened? */
bool machine_possible(void);

/**
 * Host memory, aligned to 2 MiB and not touched yet. The caller may munmap it.
 * `small`: with MADV_NOHUGEPAGE, so that the host maps it by 4 KiB pages.
 */
void *machine_memory(size_t bytes, bool small);

/* Kinds of data memory, or'ed. */
#define DATA_PRESENT 1u /* touched by the host before the guest runs */
#define DATA_SMALL   2u /* 4 KiB host pages (MADV_NOHUGEPAGE); without it whatever the host gives */
#define DATA_SCRATCH 4u /* slot 0 has 16 MiB: from SCRATCH_GPA to its end there is room for page tables of a test */
#define DATA_IRQCHIP 8u /* the machine has interrupt controllers: see machine_handler */

#define SCRATCH_GPA (4 * MIB)

/** Make a VM with `data_bytes` of data memory (0: none). `data`: DATA_*. */
void machine_init(struct machine *m, int vcpus, size_t data_bytes, unsigned data);
void machine_fini(struct machine *m);

/** The handler of an interrupt. */
void machine_handler(struct machine *m, unsigned vector, const uint8_t *routine);

/** Set one slot; `bytes` 0 deletes it. Returns: 0, or -1 with errno. */
int machine_slot(struct machine *m, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t bytes, const void *memory);

/** Run a routine until its final OUT, resuming after OUTs to port 0x11. Returns: the ns that it took. */
uint64_t machine_call(struct machine *m, int vcpu, const struct call *call);

/**
 * The same on every vCPU at once, each with its own call. `cpu`: receives the CPU time of all vCPUs, in ns.
 * Returns: ns from the first start to the last end.
 */
uint64_t machine_call_all(struct machine *m, const struct call *calls, uint64_t *cpu);

/** The guest physical (and virtual) address of the entry that maps data page `index`, and of the root. */
uint64_t machine_pte_gpa(uint64_t index);
uint64_t machine_root_gpa(void);

/** A page table at `gpa` in slot 0. */
uint64_t *machine_table(struct machine *m, uint64_t gpa);

/** What every entry of a present page table has: P W U A D. */
#define PTE_ALL UINT64_C(0x67)

#endif
