/* SPDX-License-Identifier: MIT */
/* check_alloc: an arena for each thread, at a fixed address. No memory is used twice in an execution. */
#ifndef CHECK_RUNTIME_HEAP_H
#define CHECK_RUNTIME_HEAP_H

#include "check/runtime/rt.h"

/** Everything that is allocated now exists at the start of every execution. */
void heap_keep_setup(void);
void heap_reset(void);
void heap_check_leaks(void);
/** Fail: the access at `address` is to freed memory. */
_Noreturn void heap_fail_freed(uint64_t address, uint32_t pc);

#endif
