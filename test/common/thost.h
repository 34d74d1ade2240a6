/* SPDX-License-Identifier: MIT */
/*
 * A host for tests: that of a POSIX process, which also counts everything, and fails and delays calls on demand. Its
 * address is the VM's host_state. Any thread may change any field at any time (with the atomics below).
 */
#ifndef TEST_COMMON_THOST_H
#define TEST_COMMON_THOST_H

#include <vmmu/vmmu.h>

struct thost {
	/* how much the VM holds now */
	uint64_t allocs, alloc_bytes, chunks;
	/* calls so far */
	uint64_t alloc_calls, page_calls;
	/* the n-th call from now fails (1: the next); 0: none. With `sticky`, every later one fails, too */
	int64_t alloc_fail, page_fail;
	bool sticky;
	size_t alloc_max; /* allocations of more bytes fail; 0: no limit */
	enum vmmu_status page_fail_with; /* default VMMU_EFAULT */
	/* page_get */
	unsigned page_delay_us;  /* sleep up to so long */
	bool busy;               /* with VMMU_NOWAIT every page would have to be waited for; atomic */
	bool read_only_reads;    /* for a read, some pages are not writable (copy-on-write) */
	enum vmmu_level max_level; /* 0: no limit */
	/*
	 * Host memory whose frames move: frames[n] is the host address of the present frame of the page at frames_at
	 * + n * 4096. It may change only within an invalidation. (A process's own memory never moves: a test on it
	 * would not notice that a frame was looked up too early.)
	 */
	uint64_t frames_at, frames_count;
	uint64_t *frames; /* atomic */
	/* called by kick, with the vCPU's cookie */
	void (*kick)(void *cookie);
};

extern const struct vmmu_host thost_ops;

/** The frame behind a host address. */
uint64_t thost_frame(const struct thost *host, uint64_t hva);

/** Does the VM hold nothing any more? Prints what it still holds. */
bool thost_is_empty(const struct thost *host);

#endif
