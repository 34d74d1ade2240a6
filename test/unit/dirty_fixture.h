/* SPDX-License-Identifier: MIT */
/*
 * What the tests of dirty logging share (P11): a VM with one slot that can be logged, two model CPUs, and their
 * rings.
 */
#ifndef TEST_UNIT_DIRTY_FIXTURE_H
#define TEST_UNIT_DIRTY_FIXTURE_H

#include "test/unit/threads.h"

#include "test/common/mcpu.h"
#include "test/common/thost.h"

#define VCPUS     2
#define PAGES     1221 /* two whole 2M blocks and more, and not a multiple of 64 */
#define WORDS     ((PAGES + 63) / 64)
#define BASE      UINT64_C(512)
#define SLOT      3
#define RING_SIZE 256u
#define LOG       VMMU_SLOT_LOG_DIRTY
#define MANUAL    VMMU_DIRTY_MANUAL_PROTECT
#define INITIALLY VMMU_DIRTY_INITIALLY_SET

struct fixture {
	struct vmmu_vm *vm;
	struct thost host;
	char *mapped, *memory; /* memory: aligned as the slot's gpa is */
	struct vmmu_vcpu *vcpu[VCPUS];
	struct mcpu cpu[VCPUS];
	struct vmmu_dirty_gfn ring[VCPUS][RING_SIZE];
	uint32_t harvested[VCPUS]; /* the number of entries harvested so far */
	uint64_t bitmap[WORDS];
	bool rings;
	uint32_t done;
	uint64_t copy[PAGES];
};

/** Make it with two vCPUs, and logging off. `mode`: the bitmap's. */
struct fixture *fixture_make_on(enum vmmu_mmu mmu, unsigned mode, bool rings, enum vmmu_format format);
/** The same, with TDP. */
struct fixture *fixture_make(unsigned mode, bool rings, enum vmmu_format format);
/** Audit, and free everything. */
void fixture_free(struct fixture *f);
/** Let all CPUs leave, and check that the whole VM is in order. */
void audit(struct fixture *f);

/** Make or change the slot. */
void region_set(struct fixture *f, uint32_t flags, uint64_t npages);

/** The word that guest_write writes, of a page of the slot. */
uint64_t *word_of(struct fixture *f, uint64_t page);
enum mcpu_result guest_try(struct fixture *f, unsigned cpu, uint64_t page);
void guest_write(struct fixture *f, unsigned cpu, uint64_t page);
void guest_read(struct fixture *f, unsigned cpu, uint64_t page);

/** Harvest a ring, as the program does. Returns: how many pages. */
unsigned harvest(struct fixture *f, unsigned cpu, uint64_t *pages, unsigned most);
uint64_t reset(struct fixture *f);

#endif
