/* SPDX-License-Identifier: MIT */
/*
 * What the tests of nested guests share: a VM with config.nested, an L1 that builds nested tables in its memory, and
 * two vCPUs in guest mode, played by hand. L1 stores to its tables as an emulated instruction does (vmmu_guest_write).
 * The CPUs keep all translations that they are not told to drop.
 */
#ifndef TEST_UNIT_NESTED_FIXTURE_H
#define TEST_UNIT_NESTED_FIXTURE_H

#include "test/unit/test.h"

#include <vmmu/vmmu.h>

#include "test/common/thost.h"

#define NEST_VCPUS 2

#define MIB        (UINT64_C(1) << 20)
#define RAM_GPA    (16 * MIB) /* L1's memory: its first MiB is for tables */
#define RAM_BYTES  (16 * MIB)
#define ROM_GPA    (64 * MIB) /* a read-only slot */
#define ROM_BYTES  MIB
#define HOLE_GPA   (128 * MIB) /* no slot */
#define DATA_GPA   (RAM_GPA + 2 * MIB)

#define RAM_SLOT 1
#define ROM_SLOT 2

#define NEST_RING 256u

/* Entries of NPT as L1 writes them. */
#define E_P   UINT64_C(0x001)
#define E_W   UINT64_C(0x002)
#define E_U   UINT64_C(0x004)
#define E_A   UINT64_C(0x020)
#define E_D   UINT64_C(0x040)
#define E_PS  UINT64_C(0x080)
#define E_NX  (UINT64_C(1) << 63)
#define E_RWX (E_P | E_W | E_U)

/* L1's own registers. */
#define R_PSE  (UINT64_C(1) << 4)
#define R_PAE  (UINT64_C(1) << 5)
#define R_LA57 (UINT64_C(1) << 12)
#define R_LMA  (UINT64_C(1) << 10)
#define R_NXE  (UINT64_C(1) << 11)

/* Accesses, as a CPU reports them. */
#define READ   VMMU_PF_GUEST_FINAL
#define WRITE  (VMMU_PF_GUEST_FINAL | VMMU_PF_WRITE)
#define FETCH  (VMMU_PF_GUEST_FINAL | VMMU_PF_FETCH)
#define TABLE  (VMMU_PF_GUEST_PAGE | VMMU_PF_WRITE)

struct l2_translation {
	uint64_t tag; /* L2 frame + 1; 0: none */
	uint64_t host;
	bool write, exec;
};

struct l2_cpu {
	struct vmmu_vcpu *vcpu;
	struct vmmu_entry entry;
	struct l2_translation tlb[64];
	unsigned faults, flushes;
};

struct nest {
	struct vmmu_vm *vm;
	struct thost host;
	char *mapped, *ram, *rom;
	struct l2_cpu cpu[NEST_VCPUS];
	struct vmmu_nested l1;
	unsigned levels, entry_bytes; /* of L1's table */
	uint64_t next_frame;
	bool rings;
	struct vmmu_dirty_gfn ring[NEST_VCPUS][NEST_RING];
	uint64_t bitmap[RAM_BYTES / 4096 / 64];
};

/** Make it, with an empty nested table of so many levels: 2 (4-byte entries), 3 (PAE), 4, 5. */
struct nest *nest_make(unsigned levels, bool rings);
/** Audit, and free everything. */
void nest_free(struct nest *n);
void nest_audit(struct nest *n);

/** Make or change a slot. `bytes`: 0: delete it. */
void nest_region(struct nest *n, unsigned slot, uint32_t flags, uint64_t bytes);

/** A zeroed frame of L1's for a table. */
uint64_t l1_frame(struct nest *n);
/** A new, empty root: what l1_map works on from now on. Returns: nCR3. */
uint64_t l1_root(struct nest *n);
void l1_store(struct nest *n, uint64_t gpa, uint64_t value);
uint64_t l1_load(const struct nest *n, uint64_t gpa);
/** Where L1's entry of `level` for an L2 address is. The tables above must be there. */
uint64_t l1_entry(const struct nest *n, uint64_t l2, unsigned level);
/** Store a leaf's entry, after the tables on the way were made, with all rights. Returns: where it is. */
uint64_t l1_map(struct nest *n, uint64_t l2, unsigned level, uint64_t entry);

/** Guest mode begins on n->l1. */
void l2_enter(struct nest *n, unsigned cpu);

struct l2_result {
	enum vmmu_page_fault answer; /* FIXED: the access was made */
	uint64_t error, gpa;         /* of info */
	uint64_t host;
	unsigned faults;             /* it took so many */
};

/** One access of L2, in guest mode. A write stores `l2` itself. The CPU leaves the guest after it. */
struct l2_result l2_access(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access);

/** The access succeeds, and reaches L1's address `gpa`. Returns: how many faults it took. */
unsigned l2_ok(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, uint64_t gpa);
/** The fault is L1's, with this EXITINFO1. */
void l2_npf(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, uint64_t error);
/** The access has this answer, about L1's address `gpa`. */
void l2_answer(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, enum vmmu_page_fault answer, uint64_t gpa);

/** The CPU drops its translations, as L1 asked it to, or on its own account. */
void l2_forget(struct nest *n, unsigned cpu);

#endif
