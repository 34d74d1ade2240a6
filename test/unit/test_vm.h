/* SPDX-License-Identifier: MIT */
/* A struct vm with memslots, but without tables, and with a host that counts allocations and fails on demand. */
#ifndef TEST_UNIT_TEST_VM_H
#define TEST_UNIT_TEST_VM_H

#include "core/memslot/slots.h"
#include "core/sync/vm.h"

/* The calls of the hooks, in their order. */
enum test_event_kind {
	EVENT_ZAP,
	EVENT_COMMITTED,
	EVENT_GENERATION,
};

struct test_event {
	enum test_event_kind kind;
	enum slot_change change;
	const struct memslot *old, *new;
	uint64_t generation;
};

#define TEST_EVENTS 16

struct test_vm {
	struct vm vm;
	struct vmmu_host host;
	long live;        /* allocations not freed yet; atomic, as is the next */
	long live_bytes;
	long countdown;   /* the countdown-th allocation from now fails; 0: none does */
	struct test_event events[TEST_EVENTS]; /* the first ones since test_vm_forget */
	unsigned event_count;
	bool arch_lock_is_busy; /* other threads take slots_arch_lock, so the hooks do not check that it is free */
	void (*on_event)(struct test_vm *test, const struct test_event *event); /* may be NULL */
};

/* The stand-in for the arrays of a slot (P1), used when vm.shadow is set. */
#define TEST_ARRAYS_MAGIC 0x61727261u
struct test_arrays {
	uint32_t magic, id;
};

/* Make a VM with empty slots. */
struct test_vm *test_vm_make(unsigned address_spaces);
void test_vm_free(struct test_vm *test);

/* Call slots_change under slots_lock. */
enum vmmu_status test_vm_set(struct test_vm *test, const struct vmmu_region *region);

/* A region, given in pages. */
struct vmmu_region test_region(uint32_t as_id, uint32_t slot, uint64_t gfn, uint64_t npages, uint64_t hva_page,
                               uint32_t flags);

static inline void test_vm_forget(struct test_vm *test)
{
	test->event_count = 0;
}

/*
 * Check that everything is in order between two changes: both sets of each address space are valid trees with the
 * same slots; numbers, counts and statistics are right; no flag of core's own is left. On an error it fails the test,
 * or aborts in a thread.
 */
void test_vm_audit(struct test_vm *test);

#endif
