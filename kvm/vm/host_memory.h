/* SPDX-License-Identifier: MIT */
/*
 * `vmmu run --host-memory`: keeps the guest memory of all VMs of the process within a budget. Without a budget
 * each call costs one load.
 */
#ifndef VMMU_KVM_HOST_MEMORY_H
#define VMMU_KVM_HOST_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "port/posix/fork.h"

/**
 * Read the configuration, and start if it asks for a budget. Acts once. If the budget cannot be had, ends the
 * program with the reason.
 */
void host_memory_start(void);

extern atomic_bool host_memory_on;

static inline bool host_memory_any(void)
{
	return atomic_load_explicit(&host_memory_on, memory_order_acquire);
}

/** A slot is backed by [start, end) from now on. */
void host_memory_slot(uint64_t start, uint64_t end);

/**
 * The program is about to move, register or poison [start, end). Brings all its pages back and stops managing the
 * range.
 */
void host_memory_give_up(uint64_t start, uint64_t end);

/*
 * The program's calls on [start, end). Made here, because the manager knows where the pages are: see
 * port/posix/hostmem.h. Only with host_memory_any. Return: as the kernel.
 */
long host_memory_discard(uint64_t start, uint64_t end, int advice, bool lazily);
long host_memory_unmap(uint64_t start, uint64_t end, long number, const long a[6]);
long host_memory_protect(uint64_t start, uint64_t end, long number, const long a[6]);

/** Would a use of the page wait until it has been brought back? */
bool host_memory_is_away(uint64_t address);

/** As hostmem_fetch_start and hostmem_fetch_cancel. */
struct hostmem_fetch;
void host_memory_fetch(struct hostmem_fetch *fetch);
void host_memory_fetch_cancel(struct hostmem_fetch *fetch);

/* What became of faults on pages that were away, for statistics. */
enum host_memory_event { HOST_MEMORY_TOLD, HOST_MEMORY_HALTED, HOST_MEMORY_EVENTS };
void host_memory_count(enum host_memory_event event);

/** A forked child has all the memory of its parent, and no budget. */
fork_fn host_memory_fork;

/** Lines of --stats. */
void host_memory_print(FILE *out, void (*line)(const char *name, uint64_t value));

#endif
