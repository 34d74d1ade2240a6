/* SPDX-License-Identifier: MIT */
/*
 * Threads against each other on one VM: vCPUs that access memory through model CPUs, and actors that change what
 * they access. Every few hundred milliseconds all of them stop. At this quiet point the audit runs, and memory is
 * compared with what the actors know.
 *
 * Guest memory. Each area has a slot of its own:
 *
 *     LOG      vCPU n writes a growing number into word n of pages. An actor harvests the dirty log and copies the
 *              pages it names, as a live migration does. At a quiet point the copy equals the memory, else a write
 *              was lost (P11).
 *     INV      Actors invalidate ranges. After begin they poison the pages and check that nothing writes to them.
 *              Then they make the pages valid again, or give them back to the kernel, and call end. A vCPU that
 *              reads or overwrites poison used a page that was taken away (P5).
 *     SWAP     A slot that is deleted, created with other memory, and moved. Its former memory is poisoned (P3).
 *              While the slot is known to be there no vCPU may be told that it is MMIO. While it is known to be
 *              gone no access may succeed (P10).
 *     FRAME    Memory whose frames move, as a host's do. A frame that was given up is poisoned. A vCPU that reads
 *              or overwrites poison got a frame that was looked up before the invalidation and installed after it
 *              (P5).
 *
 * Two threads never access a guest's memory by plain loads and stores unless the library orders them;
 * ThreadSanitizer checks that.
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
#define HOT_PAGES  16u   /* the first pages of an area, which get half of all accesses */
#define RING       512u
#define POISON     UINT64_C(0xdeaddeaddeaddead)
#define VALID      (UINT64_C(0x5a5a) << 48)

enum area { AREA_LOG, AREA_INV, AREA_SWAP, AREA_SWAP2, AREAS }; /* SWAP2: the second backing of SWAP */
enum { SLOT_LOG = 0, SLOT_INV = 1, SLOT_SWAP = 2, SLOT_DUMMY = 3, SLOT_FRAME = 4, SLOT_TABLES = 5 };
#define GPA_LOG   UINT64_C(0x10000000)
#define GPA_INV   UINT64_C(0x20000000)
#define GPA_SWAP  UINT64_C(0x30000000)
#define GPA_MOVED UINT64_C(0x40000000)
#define GPA_FRAME  UINT64_C(0x60000000)
#define FRAME_PAGES 64u /* there are twice as many frames */
#define GPA_DUMMY UINT64_C(0x50000000)

/*
 * In a VM that shadows: the page tables of two guests. Each runs on every other vCPU. In a VM with nested guests these
 * are guests of the guest, which is their kernel and changes the tables through TDP leaves (N1).
 */
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
	uint64_t steps, seen_steps; /* seen_steps: the watchdog's copy */
	pthread_t thread;
};

typedef void (*actor_fn)(struct actor *actor);

/* One configuration of the library, and its actors. */
struct storm_plan {
	const char *name;
	unsigned vcpu_work;  /* DO_* */
	struct {
		const char *name;
		actor_fn step;
	} actors[MAX_ACTORS - VCPUS];
	bool ring;
	bool log_from_start; /* the LOG slot is logged all the time */
	unsigned page_delay_us;
};

struct storm {
	const struct storm_plan *plan;
	struct thost host;
	struct vmmu_vm *vm;
	struct mcpu *cpu[VCPUS];
	bool shadow;          /* VMs shadow */
	bool nested;          /* VMs on TDP whose vCPUs run guests of their own now and then */
	bool paging;          /* guests use paging */
	char *tables;         /* the tables of all GUESTS guests */
	struct mcpu_guest guest[GUESTS];
	struct vmmu_dirty_gfn *ring[VCPUS];
	uint32_t fetch[VCPUS];
	char *area[AREAS];
	struct actor actor[MAX_ACTORS];
	unsigned actors;

	/* for quiet points */
	pthread_mutex_t lock;
	pthread_cond_t parked_one, go;
	unsigned parked;       /* under lock */
	uint32_t pause, stop;  /* atomic */

	/*
	 * SWAP, atomic. up: the number of the change after which the slot is surely at GPA_SWAP;
	 * down: surely not; 0: not sure
	 */
	uint64_t up, down, changes;
	uint64_t phase;        /* atomic: counts up when a change begins. Odd: the slot goes; even: it comes */
	uint64_t gone_in;      /* atomic: the phase in which a vCPU was told that the slot is gone */
	unsigned backing;      /* changer only: 0: AREA_SWAP, 1: AREA_SWAP2 */

	/* FRAME */
	char *frame_hva;          /* reserved and never touched: only page_get knows what is behind it */
	char *frame_pool;         /* 2 * FRAME_PAGES frames */
	uint64_t frame[FRAME_PAGES];
	unsigned spare[FRAME_PAGES], spares_at; /* frames given up, oldest first, as indices into the pool */

	/* LOG: for the log's actor, and for main at quiet points */
	uint64_t (*mirror)[VCPUS];
	bool mirror_valid, manual;
	uint32_t may_unmap;    /* atomic: INV pages may be missing for a moment */

	/* counters of what was done and checked; atomic */
	uint64_t accesses, harvests, dirty_pages, invalidations, swaps, compared, mmio;
	/* of VMs that have ended */
	uint64_t guest_faults, edits, emulated, nested_enters, stale_checks;
};

/**
 * Run the plans for their share of time, with changing configurations. Arguments: "shadow" for VMs that shadow,
 * "nested" for VMs with nested guests; then seconds (else VMMU_STORM_SECONDS). Returns: an exit status.
 */
int storm_main(const struct storm_plan *plans, unsigned count, int argc, char **argv);

/** Report and end the program. */
_Noreturn void storm_fail(struct storm *storm, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Every thread calls this at every step. It stops here while a quiet point is wanted. */
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
void actor_invalidate(struct actor *actor);       /* invalidates INV: a half for each of two actors, by index */
void actor_invalidate_other(struct actor *actor); /* invalidates memory in no slot, and LOG without a change */
void actor_hammer(struct actor *actor);           /* zaps the hot pages of LOG */
void actor_frames(struct actor *actor);           /* moves pages of FRAME */
void frames_make(struct storm *storm);
void actor_swap(struct actor *actor);
void actor_zap(struct actor *actor);              /* deletes a slot, and so zaps everything */
void actor_age(struct actor *actor);
void actor_kick(struct actor *actor);
/** With nested guests: draw anew whether the hypervisor or its guest runs on the vCPU from now on. */
void vcpu_level_draw(struct storm *storm, struct mcpu *cpu, struct rng *rng);
void actor_room(struct actor *actor);             /* the limit of shadow pages falls and rises */
void actor_churn(struct actor *actor);            /* vCPUs come and go */
void actor_log(struct actor *actor);              /* bitmaps */
void actor_log_toggle(struct actor *actor);       /* starts and stops the log; the same thread harvests */
void actor_ring(struct actor *actor);

/** At a quiet point, take what is left in the log and compare. */
void log_compare(struct storm *storm);

#endif
