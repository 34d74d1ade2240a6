/* SPDX-License-Identifier: MIT */
/*
 * A host for tests: that of a POSIX process, with everything counted, and with failures and delays on demand.
 * Its address is the VM's host_state. All fields may be changed at any time by any thread (use the atomics below).
 */
#ifndef TEST_COMMON_THOST_H
#define TEST_COMMON_THOST_H

#include <vmmu/vmmu.h>

struct thost {
	/* what the VM holds now */
	uint64_t allocs, alloc_bytes, chunks;
	/* calls so far */
	uint64_t alloc_calls, page_calls;
	/* the n-th call from now fails (1: the next); 0: none. `sticky`: and every one after it */
	int64_t alloc_fail, page_fail;
	bool sticky;
	size_t alloc_max; /* allocations of more bytes fail; 0: no limit */
	enum vmmu_status page_fail_with; /* default VMMU_EFAULT */
	/* page_get */
	unsigned page_delay_us;  /* sleep up to so long */
	bool read_only_reads;    /* a read of some pages finds them not writable (copy-on-write) */
	enum vmmu_level max_level; /* 0: no limit */
	/*
	 * Host memory whose frames move: of the page at frames_at + n * 4096, frames[n] is the host address of its frame now. It may change only within an
	 * invalidation. (A process's own memory stays where it is, and a frame looked up too early would never be seen.)
	 */
	uint64_t frames_at, frames_count;
	uint64_t *frames; /* atomic */
	/* called by kick, with the vCPU's cookie */
	void (*kick)(void *cookie);
};

extern const struct vmmu_host thost_ops;

/** The frame behind a host address. */
uint64_t thost_frame(const struct thost *host, uint64_t hva);

/** Nothing is held any more? Prints what is. */
bool thost_is_empty(const struct thost *host);

#endif
