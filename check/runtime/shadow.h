/* SPDX-License-Identifier: MIT */
/*
 * What is known of every byte of the window in this execution: who accessed it last (data races), whether it was freed, and the
 * location of its atomics. Also the undo log, which puts memory back.
 *
 * A plain access must be ordered by happens-before with every write of the same bytes, a plain write with every access. That does not depend on
 * the order in which the checker happens to execute them.
 */
#ifndef CHECK_RUNTIME_SHADOW_H
#define CHECK_RUNTIME_SHADOW_H

#include "check/runtime/rt.h"

/** A plain access by the thread that runs. Any size and alignment. */
void shadow_access(uint64_t address, uint64_t size, bool write, uint32_t pc);

/** An atomic access, aligned, of 1 to 8 bytes, by event `e` (its clock before it reads). Returns: its location. */
uint32_t shadow_atomic(uint64_t address, unsigned size, bool write, const struct event *e);

/** Memory is freed: all accesses must happen before. */
void shadow_free(uint64_t address, uint64_t size, uint32_t pc);

/** Is it one of check_counters? No more, for the next search. */
bool shadow_is_counter(uint64_t address);
void shadow_forget_counters(void);

/** The runtime itself is about to write a word of the window. */
void shadow_log(uint64_t address);

/** The numbers of executions begin again: no mark of an earlier one may be left. */
void shadow_forget(void);

/** Put memory back to what it was before the execution. */
void shadow_restore(void);
/** What setup wrote stays, until all of it is undone at the end of the search. */
void shadow_keep_setup(void);
void shadow_undo_setup(void);

#endif
