/* SPDX-License-Identifier: MIT */
/*
 * A small machine around the software vCPU, without the library. Its fake second stage is filled by faults, as the
 * real one is. So every path between the CPU and vmmu_vcpu_enter, vmmu_fault and vmmu_vcpu_leave is taken.
 *
 * Guest physical memory: RAM of GUEST_RAM bytes at 0; a read-only page at GUEST_ROM; nothing elsewhere (devices).
 */
#ifndef VMMU_CPU_TEST_GUEST_H
#define VMMU_CPU_TEST_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <vmmu/dirty.h>
#include <vmmu/nested.h>

#include "cpu/cpu.h"

#define GUEST_RAM (UINT64_C(64) << 20)
#define GUEST_ROM UINT64_C(0x8000000) /* one page, read-only */
#define GUEST_MMIO UINT64_C(0xd0000000)

/* Where guest_long, guest_protected and guest_real put things. */
#define GUEST_PML4  0x1000u
#define GUEST_GDT   0x8000u
#define GUEST_TSS   0x9000u
#define GUEST_IDT   0xa000u
#define GUEST_STUBS 0xb000u /* 16 bytes for each vector: out imm8, then hlt */
#define GUEST_CODE  0x10000u
#define GUEST_STACK 0x20000u /* top; grows down */
#define GUEST_RSP0  0x28000u
#define GUEST_IST1  0x2c000u
#define GUEST_DATA  0x100000u
#define GUEST_USER_CODE 0x400000u /* user page */

/* Selectors of guest_gdt. */
#define SEL_CODE64  0x08u
#define SEL_DATA    0x10u
#define SEL_CODE32  0x18u
#define SEL_CODE16  0x20u
#define SEL_DATA16  0x28u
#define SEL_UCODE32 0x33u
#define SEL_UDATA   0x3bu
#define SEL_UCODE64 0x43u
#define SEL_TSS     0x48u
#define SEL_DOWN    0x58u /* data, expand-down, limit 0xfff */
#define SEL_ABSENT  0x60u /* data, not present */
#define SEL_SMALL   0x68u /* data, limit 0xff, base GUEST_DATA */

struct vmmu_vcpu {
	struct guest *guest;
	_Atomic uint32_t poll;
	bool flush;
	bool ring_full; /* the next vmmu_vcpu_enter says so */
	bool ring_reserve; /* the last vmmu_vcpu_dirty_ring_reserve */
	bool in_nested; /* vmmu_nested_enter was called with `nested` */
	struct vmmu_nested nested;
};

struct guest {
	uint8_t *ram, *rom;
	uint64_t *root;     /* the second stage, NPT */
	uint64_t tables[512][512] __attribute__((aligned(4096)));
	unsigned tables_used;
	pthread_mutex_t lock; /* of vmmu_fault */
	unsigned faults;    /* calls of vmmu_fault */
	uint64_t last_error; /* of the last one */
	uint64_t last_gpa;
	/* Pages that the library mirrors, and what was done to them: stores by vmmu_guest_write, and so on. */
	uint64_t mirrored[8]; /* gpa | 1; 0: none */
	unsigned mirrored_stores, mirrored_written, unprotected;
	bool stores_fail;    /* vmmu_guest_write finds the host's memory gone */
	bool has_nested;     /* nested paging can be given to nested guests */
	/* Shadows of nested tables: the tables' roots, and what the CPU walks in their place. */
	struct {
		uint64_t l1; /* 0: none */
		uint64_t *root;
	} shadows[4];
	unsigned nested_faults, nested_enters; /* calls of vmmu_nested_fault and _enter */
	struct vmmu_vcpu vcpu[2];
	struct cpu_vm *vm;
	struct cpu *cpu;    /* vcpu[0]'s */
	struct cpu_ops ops; /* may be filled in before guest_boot_* */
	void (*entering)(struct guest *g); /* called once inside vmmu_vcpu_enter, where a kick comes too early */
};

struct guest *guest_make(void);
void guest_free(struct guest *g);

/** cmocka's setup and teardown: a machine in guest_long's mode. */
int guest_setup(void **state);
int guest_teardown(void **state);

/** A second CPU of the same machine, in the state of the first. */
struct cpu *guest_second(struct guest *g);

/**
 * 64-bit mode, paging on, identity map: 4 KiB pages for the first 32 MiB, 2 MiB pages for the rest of the first 4
 * GiB. All are supervisor pages, but the 2 MiB from GUEST_USER_CODE on are user pages. IDT with a stub for each
 * vector. RIP at GUEST_CODE.
 */
void guest_long(struct guest *g);
/** 32-bit protected mode with flat segments, no paging. */
void guest_protected(struct guest *g);
/** Real mode at 0:GUEST_CODE / 0x1000:0. */
void guest_real(struct guest *g);

void guest_code(struct guest *g, uint64_t at, const void *bytes, unsigned size);
#define GUEST_CODE_BYTES(g, at, ...) \
	guest_code(g, at, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

uint64_t guest_read(struct guest *g, uint64_t gpa, unsigned size);
void guest_write(struct guest *g, uint64_t gpa, unsigned size, uint64_t value);
/** The leaf entry of the identity map of guest_long. */
uint64_t *guest_pte(struct guest *g, uint64_t linear);

/** The library mirrors the page at `gpa` from now on: no mapping of it lets a CPU write. */
void guest_mirror(struct guest *g, uint64_t gpa);
bool guest_is_mirrored(const struct guest *g, uint64_t gpa);

/** The hypervisor has changed a nested table: drop all shadows of them, as core would. */
void guest_nested_changed(struct guest *g);

/** Drop the second stage, as core would: the next entry flushes. */
void guest_unmap_all(struct guest *g);
/** The leaf of the second stage for a page, or 0. */
uint64_t guest_npte(struct guest *g, uint64_t gpa);

/**
 * Run to a HLT; anything else fails the test.
 * Returns: the vector whose stub reported itself, or -1 for a HLT of the program itself.
 */
int guest_run_to_hlt(struct guest *g);

#endif
