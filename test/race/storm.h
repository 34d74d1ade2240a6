/* SPDX-License-Identifier: MIT */
/*
 * Threads against each other on one VM: vCPUs that access memory through model CPUs, and actors that change what
 * they access. Every few hundred milliseconds all of them stop: a quiet point, where the audit runs and memory is
 * compared with what the actors know.
 *
 * Guest memory, each area with a slot of its own:
 *
 *     LOG      vCPU n writes a growing number into word n of pages. An actor harvests the dirty log and copies what it names, as a live migration
 *              does: at a quiet point the copy equals the memory, or something was lost (P11)
 *     INV      actors invalidate ranges: after begin they poison the pages, look that nobody writes to them, then make them valid again or give
 *              them back to the kernel, then end. A vCPU that reads poison, or writes over it, used a page that was taken away (P5)
 *     SWAP     a slot that is deleted, created elsewhere, moved. What it mapped before is poisoned (P3). While it is known to be there a vCPU must
 *              not be told that it is MMIO, and while it is known to be gone an access must not succeed (P10)
 *
 *     FRAME    memory whose frames move, as a host's do. A frame that was given up is poisoned: a vCPU that reads poison, or writes over it, got a frame
 *              that was looked up before the invalidation and installed after (P5)
 *
 * No memory of a guest is accessed by plain loads and stores of two threads unless the library orders them:
 * ThreadSanitizer checks that for us.
 */
#ifndef TEST_RACE_STORM_H
#define TEST_RACE_STORM_H

#include <pthread.h>
#include <vmmu/vmmu.h>

#include "test/common/mcpu.h"
#include "test/common/rng.h"
#include "test/common/thost.h"

#define VCPUS      4
#define MAX_ACTORS 16
#define AREA_PAGES 1024u /* 4 MiB: two huge leaves */
#define HOT_PAGES  16u   /* the first pages of an area get half of all accesses */
#define RING       512u
#define POISON     UINT64_C(0xdeaddeaddeaddead)
#define VALID      (UINT64_C(0x5a5a) << 48)

enum area { AREA_LOG, AREA_INV, AREA_SWAP, AREA_SWAP2, AREAS }; /* SWAP2: the other backing of SWAP */
enum { SLOT_LOG = 0, SLOT_INV = 1, SLOT_SWAP = 2, SLOT_DUMMY = 3, SLOT_FRAME = 4, SLOT_TABLES = 5 };
#define GPA_LOG   UINT64_C(0x10000000)
#define GPA_INV   UINT64_C(0x20000000)
#define GPA_SWAP  UINT64_C(0x30000000)
#define GPA_MOVED UINT64_C(0x40000000)
#define GPA_FRAME  UINT64_C(0x60000000)
#define FRAME_PAGES 64u /* and as many frames more */
#define GPA_DUMMY UINT64_C(0x50000000)

/* In a VM that shadows: the page tables of two guests, each on every other vCPU. */
#define GPA_TABLES  UINT64_C(0x70000000)
#define TABLE_PAGES 1024u
#define GUESTS      2

/* What vCPUs do. */
#define DO_LOG      (1u << 0)
#define DO_INV      (1u << 1)
#define DO_SWAP     (1u << 2)
#define DO_PREFAULT (1u << 3)
#define DO_COPY     (1u << 4) /* vmmu_guest_read and write */
#define DO_MMIO     (1u << 5)
#define DO_FRAME    (1u << 6)

struct storm;
struct actor {
	struct storm *storm;
	const char *name;
	void (*step)(struct actor *actor); /* one short piece of work */
	unsigned index;
	struct rng rng;
	uint64_t steps, seen_steps; /* seen: by the watchdog */
	pthread_t thread;
};

typedef void (*actor_fn)(struct actor *actor);

/* One configuration of the library, and who is there. */
struct storm_plan {
	const char *name;
	unsigned vcpu_work;  /* DO_* */
	struct {
		const char *name;
		actor_fn step;
	} actors[MAX_ACTORS - VCPUS];
	bool ring;
	bool log_from_start; /* the LOG slot is logged, and nobody changes that */
	unsigned page_delay_us;
};

struct storm {
	const struct storm_plan *plan;
	struct thost host;
	struct vmmu_vm *vm;
	struct mcpu *cpu[VCPUS];
	bool shadow;          /* VMs shadow */
	bool paging;          /* guests use paging */
	char *tables;         /* of GUESTS guests */
	struct mcpu_guest guest[GUESTS];
	struct vmmu_dirty_gfn *ring[VCPUS];
	uint32_t fetch[VCPUS];
	char *area[AREAS];
	struct actor actor[MAX_ACTORS];
	unsigned actors;

	/* the quiet point */
	pthread_mutex_t lock;
	pthread_cond_t parked_one, go;
	unsigned parked;       /* under lock */
	uint32_t pause, stop;  /* atomic */

	/* SWAP: the number of the change after which it is surely at GPA_SWAP, or surely not; 0: neither. Atomic */
	uint64_t up, down, changes;
	uint64_t phase;        /* counts up at the begin of each change: odd, it goes; even, it comes. Atomic */
	uint64_t gone_in;      /* the phase in which a vCPU was told that it is gone. Atomic */
	unsigned backing;      /* changer only: 0: AREA_SWAP, 1: AREA_SWAP2 */

	/* FRAME */
	char *frame_hva;          /* reserved, and never touched: only page_get knows what is behind it */
	char *frame_pool;         /* 2 * FRAME_PAGES frames */
	uint64_t frame[FRAME_PAGES];
	unsigned spare[FRAME_PAGES], spares_at; /* frames given up, oldest first: indices into the pool */

	/* LOG: the log's actor, and main at quiet points */
	uint64_t (*mirror)[VCPUS];
	bool mirror_valid, manual;
	uint32_t may_unmap;    /* atomic: INV pages may be missing for a moment */

	/* counters of what was checked; atomic */
	uint64_t accesses, harvests, dirty_pages, invalidations, swaps, compared, mmio;
	uint64_t guest_faults, edits, emulated; /* of VMs that are gone */
};

/**
 * Run the plans for their share of time, alternating configurations. Arguments: "shadow" for VMs that shadow; seconds
 * (or VMMU_STORM_SECONDS). Returns: an exit status.
 */
int storm_main(const struct storm_plan *plans, unsigned count, int argc, char **argv);

/** Report and end the program. */
_Noreturn void storm_fail(struct storm *storm, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** At every step of every thread: stop here if all are to stop. */
void storm_point(struct actor *actor);

#define atomic_get(p)    __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define atomic_set(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define atomic_count(p)  __atomic_add_fetch(p, 1, __ATOMIC_RELAXED)

/** A model CPU for the storm's n-th vCPU. */
void vcpu_boot(struct storm *storm, struct mcpu *cpu, struct vmmu_vcpu *vcpu, unsigned n);

void region_set(struct storm *storm, unsigned slot, uint64_t gpa, uint64_t pages, const void *memory, unsigned flags);
static inline uint64_t *page_word(char *area, unsigned page, unsigned word)
{
	return (uint64_t *)(area + ((size_t)page << 12)) + word;
}

/* Actors (actors.c, log.c). */
void actor_vcpu(struct actor *actor);
void actor_invalidate(struct actor *actor);       /* of INV: one half each, by index */
void actor_invalidate_other(struct actor *actor); /* of memory in no slot, and of LOG with no change */
void actor_hammer(struct actor *actor);           /* zaps the hot pages of LOG */
void actor_frames(struct actor *actor);           /* moves pages of FRAME */
void frames_make(struct storm *storm);
void actor_swap(struct actor *actor);
void actor_zap(struct actor *actor);              /* deletes a slot, and so zaps everything */
void actor_age(struct actor *actor);
void actor_kick(struct actor *actor);
void actor_room(struct actor *actor);             /* the limit of shadow pages falls and rises */
void actor_churn(struct actor *actor);            /* vCPUs come and go */
void actor_log(struct actor *actor);              /* bitmaps */
void actor_log_toggle(struct actor *actor);       /* starts and stops the log; the same thread harvests */
void actor_ring(struct actor *actor);

/** At a quiet point: take what is left in the log and compare. */
void log_compare(struct storm *storm);

#endif
