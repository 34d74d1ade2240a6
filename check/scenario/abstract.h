/* SPDX-License-Identifier: MIT */
/*
 * Locks and grace periods as means: in most scenarios mutexes, mmu_lock and SRCU are the checker's own, one step each, so that what is explored is what they
 * protect. In scenarios about them the library's are used. The linker's --wrap sends the calls here; core is the same in both.
 */
#ifndef CHECK_SCENARIO_ABSTRACT_H
#define CHECK_SCENARIO_ABSTRACT_H

#define REAL_MUTEX     (1u << 0)
#define REAL_MMU_LOCK  (1u << 1)
#define REAL_SRCU      (1u << 2)
#define MAY_CONTEND    (1u << 3) /* "contended" is answered both ways, so that a walk yields anywhere; once at most in each thread */
#define SPIN_ONCE      (1u << 4) /* waiters look once more before they sleep */

/** In setup, first of all: which are the library's own. None, until this is called. */
void abstract_init(unsigned real);

#endif
