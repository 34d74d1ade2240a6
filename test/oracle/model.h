/* SPDX-License-Identifier: MIT */
/*
 * The slow obvious model of a VM's memory, and the library beside it. Every operation is done to both and compared.
 *
 * Host memory is a few arenas. The model knows of each of their pages whether it is there, and the word at its start: an identity, since every
 * write stores a number never used before. A slot is a row of an array; what is dirty is a byte per page.
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
#define GUESTS  2           /* where VMs shadow: page tables, each on every other vCPU */
#define TABLES  1024u
#define PAGING  (UINT64_C(1) << 42) /* and no slot of the model comes near */
#define GUEST_PAGES (UINT64_C(1) << 36)

enum page_state {
	PAGE_OK,
	PAGE_READONLY, /* mprotect: a write to it is the host's fault */
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
	EVER_REFUSED, /* the last write to it was refused by the host */
};

struct mslot {
	bool used;
	uint32_t id, as, flags;
	uint64_t base, pages; /* gfn */
	struct arena *arena;
	uint64_t offset;      /* page in the arena */
	uint8_t *dirty;       /* logged: written since last cleared */
	uint8_t *ever;        /* logged: enum ever */
	uint8_t *gone;        /* logged: named by a ring that went with its vCPU; until the next reset writes may be unlogged */
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
	bool shadow;          /* VMs shadow */
	char *tables;
	struct mcpu_guest guest[GUESTS];
	struct arena arena[ARENAS];
	struct mslot slot[SLOTS];
	struct range range[RANGES]; /* invalidations begun and not ended */
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
	struct vmmu_stats sum; /* over all VMs: every field added up */
};

/* --- check.c: saying what is wrong --- */

/** Add a line to the trace that a failure prints. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Print the trace and the VM, and end the program. */
_Noreturn void mismatch(struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void audit_or_die(struct model *m);

/* --- model.c --- */

void model_start(struct model *m, uint64_t seed);
void model_stop(struct model *m);
/** Give the arenas new memory, all pages 0. */
void arenas_make(struct model *m);
void arenas_reset(struct model *m);

/** The slot that holds a gfn, or NULL. */
struct mslot *model_slot_at(struct model *m, uint32_t as, uint64_t gfn);
/** A gfn worth looking at: mostly in a slot, mostly one that was used before. */
uint64_t model_pick_gfn(struct model *m, uint32_t as);
uint64_t model_pick_page(struct model *m, const struct mslot *slot);
struct mslot *model_pick_slot(struct model *m);

/** What an access comes to. MCPU_BUSY: an invalidation of the page is under way. */
enum mcpu_result model_access(struct model *m, uint32_t as, uint64_t gfn, bool write, uint64_t **value, struct mslot **slot);
void model_mark(struct mslot *slot, uint64_t gfn);
/** Is the host address in a range whose invalidation has begun? */
bool model_in_range(const struct model *m, const char *hva);

/* --- operations: each picks its arguments, does it, compares --- */

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
/** Everything at once: the quiet point. */
void op_compare_all(struct model *m);

/** Take all ring entries of vCPU n, which is about to go, and give none back. */
void ring_leave(struct model *m, unsigned n);
/** Take and give back all ring entries, and compare them. */
void ring_harvest(struct model *m, bool all);

/** An access by vCPU n as the model expects it, with full rings emptied on the way. */
void access_check(struct model *m, unsigned n, uint64_t gfn, bool write);

#endif
