/* SPDX-License-Identifier: MIT */
/*
 * A VM with one slot that can be logged, two model CPUs, and their rings: what the tests of dirty logging share (P11).
 */
#ifndef TEST_UNIT_DIRTY_FIXTURE_H
#define TEST_UNIT_DIRTY_FIXTURE_H

#include "test/unit/threads.h"

#include "test/common/mcpu.h"
#include "test/common/thost.h"

#define VCPUS     2
#define PAGES     1221 /* not a multiple of 64; two whole 2M blocks and more */
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
	uint32_t harvested[VCPUS]; /* entries, ever */
	uint64_t bitmap[WORDS];
	bool rings;
	uint32_t done;
	uint64_t copy[PAGES];
};

/** Without a log, two vCPUs. `mode`: of the bitmap. */
struct fixture *fixture_make_on(enum vmmu_mmu mmu, unsigned mode, bool rings, enum vmmu_format format);
/** On TDP. */
struct fixture *fixture_make(unsigned mode, bool rings, enum vmmu_format format);
/** Audits first. */
void fixture_free(struct fixture *f);
/** All CPUs leave, and the whole VM is in order. */
void audit(struct fixture *f);

/** Make or change the slot. */
void region_set(struct fixture *f, uint32_t flags, uint64_t npages);

/** The word of the slot's page that guest_write writes. */
uint64_t *word_of(struct fixture *f, uint64_t page);
enum mcpu_result guest_try(struct fixture *f, unsigned cpu, uint64_t page);
void guest_write(struct fixture *f, unsigned cpu, uint64_t page);
void guest_read(struct fixture *f, unsigned cpu, uint64_t page);

/** The program's part of a ring. */
unsigned harvest(struct fixture *f, unsigned cpu, uint64_t *pages, unsigned most);
uint64_t reset(struct fixture *f);

#endif
