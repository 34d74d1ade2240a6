/* SPDX-License-Identifier: MIT */
/*
 * The slow, obvious model of a VM's memory, and the library beside it. Every operation is done to both, and compared.
 *
 * Host memory consists of a few arenas. For each of their pages the model knows whether it is there, and the word at
 * its start, which identifies the write: every write stores a number that was never used before. A slot is an element
 * of an array. Dirty pages are a byte for each page.
 */
#ifndef TEST_ORACLE_MODEL_H
#define TEST_ORACLE_MODEL_H

#include <vmmu/vmmu.h>

#include "test/common/mcpu.h"
#include "test/common/rng.h"
#include "test/common/thost.h"

#define ARENAS  3
#define SLOTS   12
#define CPUS    3
#define RANGES  3
#define RING    256
#define GUESTS  2           /* under shadow paging: sets of page tables, each used by every other vCPU */
#define TABLES  1024u
#define PAGING  (UINT64_C(1) << 42) /* the page tables' gpa, far from all slots of the model */
#define GUEST_PAGES (UINT64_C(1) << 36)

enum page_state {
	PAGE_OK,
	PAGE_READONLY, /* by mprotect: a write to it fails in the host */
	PAGE_GONE,
};

struct arena {
	char *base;
	uint64_t pages;
	uint64_t *value; /* the word at the start of each page */
	uint8_t *state;  /* enum page_state */
};

enum ever {
	EVER_NOT,
	EVER_WRITTEN,
	EVER_REFUSED, /* the host refused the last write to it */
};

struct mslot {
	bool used;
	uint32_t id, as, flags;
	uint64_t base, pages; /* the first gfn, and the number of pages */
	struct arena *arena;
	uint64_t offset;      /* its first page in the arena */
	uint8_t *dirty;       /* if logged: the page was written since it was last cleared */
	uint8_t *ever;        /* if logged: enum ever */
	/* If logged: a ring that has gone named the page. Until the next reset writes to it may be unlogged. */
	uint8_t *gone;
};

struct range {
	char *start, *end;
	bool active;
};

struct model {
	struct rng rng;
	struct thost host;
	struct vmmu_vm *vm;
	struct vmmu_config config;
	unsigned dirty_mode;
	bool ring, jumped;
	bool shadow;          /* the VMs use shadow paging */
	char *tables;
	struct mcpu_guest guest[GUESTS];
	struct arena arena[ARENAS];
	struct mslot slot[SLOTS];
	struct range range[RANGES]; /* invalidations that have begun and not ended */
	unsigned outstanding;
	struct {
		struct mcpu cpu;
		bool exists;
		unsigned as;
		struct vmmu_dirty_gfn *ring;
		uint32_t fetch;
	} cpu[CPUS];
	uint64_t next_value;
	uint64_t ops, compared;
	struct vmmu_stats sum; /* of each field, over all VMs */
};

/* --- check.c: reporting errors --- */

/** Add a line to the trace that a failure prints. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Print the trace and the VM, and end the program. */
_Noreturn void mismatch(struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void audit_or_die(struct model *m);

/* --- model.c --- */

void model_start(struct model *m, uint64_t seed);
void model_stop(struct model *m);
/** Give the arenas new memory, in which all pages are 0. */
void arenas_make(struct model *m);
void arenas_reset(struct model *m);

/** The slot that holds a gfn, or NULL. */
struct mslot *model_slot_at(struct model *m, uint32_t as, uint64_t gfn);
/** Pick a gfn: mostly in a slot, and mostly one that was used before. */
uint64_t model_pick_gfn(struct model *m, uint32_t as);
uint64_t model_pick_page(struct model *m, const struct mslot *slot);
struct mslot *model_pick_slot(struct model *m);

/** The result that an access must have. MCPU_BUSY: an invalidation of the page is in progress. */
enum mcpu_result model_access(struct model *m, uint32_t as, uint64_t gfn, bool write, uint64_t **value,
                              struct mslot **slot);
void model_mark(struct mslot *slot, uint64_t gfn);
/** Is the host address in a range whose invalidation has begun? */
bool model_in_range(const struct model *m, const char *hva);

/* --- operations: each picks its arguments, does it to both, and compares --- */

void op_access(struct model *m);
void op_guest_copy(struct model *m);
void op_prefault(struct model *m);
void op_slot(struct model *m);
void op_invalidate_begin(struct model *m);
void op_invalidate_end(struct model *m);
void op_age(struct model *m);
void op_dirty(struct model *m);
void op_dirty_mode(struct model *m);
void op_vcpu(struct model *m);
void op_generations(struct model *m);
void op_room(struct model *m);
/** Compare everything, at a quiet point. */
void op_compare_all(struct model *m);

/** Harvest the whole ring of vCPU n, which is about to go. Its entries are not given back. */
void ring_leave(struct model *m, unsigned n);
/** Harvest the rings, give the entries back, and compare. `all`: every entry, not only some of them. */
void ring_harvest(struct model *m, bool all);

/** Make an access by vCPU n and compare it with the model. Empties full rings when it must. */
void access_check(struct model *m, unsigned n, uint64_t gfn, bool write);

#endif
