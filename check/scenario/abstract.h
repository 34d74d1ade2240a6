/* SPDX-License-Identifier: MIT */
/*
 * The locks and grace periods under a scenario. In most scenarios mutexes, mmu_lock and SRCU are the checker's own,
 * one step each, so that the search spends its time on what they protect. Scenarios about the locks use the
 * library's. The linker's --wrap sends the calls here; core is the same in both.
 */
#ifndef CHECK_SCENARIO_ABSTRACT_H
#define CHECK_SCENARIO_ABSTRACT_H

#define REAL_MUTEX     (1u << 0)
#define REAL_MMU_LOCK  (1u << 1)
#define REAL_SRCU      (1u << 2)
#define MAY_CONTEND    (1u << 3) /* mmu_lock_contended may say yes, once in a thread: a walk may yield anywhere */
#define SPIN_ONCE      (1u << 4) /* a waiter looks once more before it sleeps */

/** Call this first in setup. `real`: which locks are the library's own; before this call none is. */
void abstract_init(unsigned real);

#endif
