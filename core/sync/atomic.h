/* SPDX-License-Identifier: MIT */
/*
 * The one seam for atomics. Objects are plain integers and pointers. Wherever another thread may touch one at the same
 * time, it is accessed through these names; the name says the order. A call that is stronger than relaxed says which
 * barrier it pairs with.
 */
#ifndef CORE_SYNC_ATOMIC_H
#define CORE_SYNC_ATOMIC_H

#define load_relaxed(p)      __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p)      __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_seqcst(p)       __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define store_relaxed(p, v)  __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v)  __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_seqcst(p, v)   __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

#define add_relaxed(p, v)    __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define add_release(p, v)    __atomic_fetch_add((p), (v), __ATOMIC_RELEASE)
#define add_acqrel(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define add_seqcst(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define sub_acqrel(p, v)     __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define or_seqcst(p, v)      __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define or_relaxed(p, v)     __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define or_release(p, v)     __atomic_fetch_or((p), (v), __ATOMIC_RELEASE)
#define and_relaxed(p, v)    __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)
#define and_acqrel(p, v)     __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL)
#define swap_acquire(p, v)   __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define swap_acqrel(p, v)    __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define swap_seqcst(p, v)    __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)

/* Compare and swap: *old is updated on failure. The failure order is relaxed. */
#define cas_relaxed(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define cas_acquire(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define cas_release(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
#define cas_acqrel(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
#define cas_seqcst(p, old, new) \
	__atomic_compare_exchange_n((p), (old), (new), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)

#define fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
#define fence_full()    __atomic_thread_fence(__ATOMIC_SEQ_CST)

#endif
