/* SPDX-License-Identifier: MIT */
/*
 * What a VM asks of its host: the part of the port that may differ per VM. The part that differs per binary (atomics,
 * waiting, RCU) is linked in; see port/contract. An embedder on POSIX uses vmmu_host_posix and writes none of this.
 */
#ifndef VMMU_HOST_H
#define VMMU_HOST_H

#include <vmmu/types.h>

VMMU_BEGIN_DECLS

/* The answer to "what is behind this host address?" */
struct vmmu_host_page {
	struct vmmu_pfn pfn;       /* the frame of the 4 KiB page that was asked for */
	bool writable;             /* the guest may be given write access */
	/*
	 * The largest naturally aligned block around the page that is contiguous in host memory, to be mapped as one.
	 */
	enum vmmu_level max_level;
	/*
	 * The 7 pages on either side are the 7 frames on either side, with the same rights, and may be mapped without
	 * being asked for. May be left false.
	 */
	bool neighbours;
};

/* The library asks for table pages in chunks of this size and alignment: 63 tables and a page of headers. */
#define VMMU_CHUNK_BYTES (UINT64_C(256) << 10)

struct vmmu_host {
	/**
	 * A chunk for tables: VMMU_CHUNK_BYTES, aligned to its size, zeroed, contiguous in host physical memory.
	 * Called with no vmmu lock that forbids sleeping. May sleep.
	 * Returns: NULL if the host has no memory.
	 */
	void *(*chunk_alloc)(void *state);
	void (*chunk_free)(void *state, void *chunk);

	/**
	 * Any other memory: `bytes` of it, zeroed, 64-aligned. May sleep. Sizes reach many MiB: a dirty bitmap takes 2
	 * bits for each guest page.
	 */
	void *(*alloc)(void *state, size_t bytes);
	void (*free)(void *state, void *memory, size_t bytes);

	/**
	 * Resolve the host page behind `hva` for `access` (VMMU_READ, perhaps | VMMU_WRITE); make it present if it is
	 * not. `writable` may be true even if only a read was asked for. Called with no vmmu lock held but the SRCU
	 * read side. May sleep for long.
	 * With VMMU_NOWAIT in `access` the host may answer VMMU_EBUSY where it would wait for long, for a disk, say
	 * (KVM's FOLL_NOWAIT). It need not look at VMMU_NOWAIT.
	 * Returns: VMMU_OK; VMMU_EFAULT if nothing, or nothing writable for a write, is mapped there; VMMU_EAGAIN to
	 * have the guest access tried again; VMMU_EBUSY.
	 */
	enum vmmu_status (*page_get)(void *state, struct vmmu_hva hva, unsigned access,
	                             struct vmmu_host_page *out);

	/**
	 * Make the vCPU leave the guest soon (an IPI, a signal). May be NULL if the CPU polls vmmu_entry.poll, as the
	 * software vCPU does. `cookie`: the one given to vmmu_vcpu_create. Called from any thread, with mmu_lock held:
	 * must not sleep.
	 */
	void (*kick)(void *state, void *cookie);
};

/**
 * The host of a POSIX process; its state is NULL. Host physical memory is the process's own address space: a frame
 * number is an address divided by 4096. Links with port/posix. vmmu/posix.h says what it does with signals.
 */
extern const struct vmmu_host vmmu_host_posix;

VMMU_END_DECLS

#endif
