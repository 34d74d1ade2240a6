/* SPDX-License-Identifier: MIT */
/*
 * What is known of every byte of the window in this execution: its last accesses (for data races), whether it was
 * freed, and the location of its atomics. Also the undo log, which restores memory.
 *
 * A plain access must be ordered by happens-before with every write of the same bytes, a plain write with every
 * access. The verdict does not depend on the order in which the checker happens to execute the accesses.
 */
#ifndef CHECK_RUNTIME_SHADOW_H
#define CHECK_RUNTIME_SHADOW_H

#include "check/runtime/rt.h"

/** A plain access of the running thread. Any size and alignment. */
void shadow_access(uint64_t address, uint64_t size, bool write, uint32_t pc);

/** An aligned atomic access of 1 to 8 bytes by event `e`, with its clock before the read. Returns: its location. */
uint32_t shadow_atomic(uint64_t address, unsigned size, bool write, const struct event *e);

/** Memory is freed. All accesses to it must happen before. */
void shadow_free(uint64_t address, uint64_t size, uint32_t pc);

/** Is the address in memory of check_counters? shadow_forget_counters: not any more, for the next search. */
bool shadow_is_counter(uint64_t address);
void shadow_forget_counters(void);

/** The runtime itself is about to write a word of the window. */
void shadow_log(uint64_t address);

/** The numbers of executions begin again, so no mark of an earlier execution may stay. */
void shadow_forget(void);

/** Restore memory to what it was before the execution. */
void shadow_restore(void);
/** Keep what setup wrote until the end of the search, which undoes all of it. */
void shadow_keep_setup(void);
void shadow_undo_setup(void);

#endif
