/* SPDX-License-Identifier: MIT */
/*
 * Atomics whose order is only known at run time. An order must be a constant at its call, so each
 * order has a call of its own.
 */
#ifndef CHECK_LITMUS_ORDERS_H
#define CHECK_LITMUS_ORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "check/axiom/axiom.h"

#define EACH_ORDER(order, use)                         \
	switch (order) {                               \
	case AX_RLX: use(__ATOMIC_RELAXED); break;     \
	case AX_ACQ: use(__ATOMIC_ACQUIRE); break;     \
	case AX_REL: use(__ATOMIC_RELEASE); break;     \
	case AX_ACQ_REL: use(__ATOMIC_ACQ_REL); break; \
	case AX_SC: use(__ATOMIC_SEQ_CST); break;      \
	}

static inline uint32_t order_load(const uint32_t *p, enum ax_order order)
{
	switch (order) {
	case AX_SC: return __atomic_load_n(p, __ATOMIC_SEQ_CST);
	case AX_ACQ: return __atomic_load_n(p, __ATOMIC_ACQUIRE);
	default: return __atomic_load_n(p, __ATOMIC_RELAXED);
	}
}

static inline void order_store(uint32_t *p, uint32_t value, enum ax_order order)
{
	switch (order) {
	case AX_SC: __atomic_store_n(p, value, __ATOMIC_SEQ_CST); break;
	case AX_REL: __atomic_store_n(p, value, __ATOMIC_RELEASE); break;
	default: __atomic_store_n(p, value, __ATOMIC_RELAXED); break;
	}
}

static inline uint32_t order_add(uint32_t *p, uint32_t value, enum ax_order order)
{
	uint32_t old = 0;

#define USE(o) old = __atomic_fetch_add(p, value, o)
	EACH_ORDER(order, USE)
#undef USE
	return old;
}

static inline uint32_t order_swap(uint32_t *p, uint32_t value, enum ax_order order)
{
	uint32_t old = 0;

#define USE(o) old = __atomic_exchange_n(p, value, o)
	EACH_ORDER(order, USE)
#undef USE
	return old;
}

/* Returns: what was read. It was swapped if that is `expected`. A failure is relaxed. */
static inline uint32_t order_cas(uint32_t *p, uint32_t expected, uint32_t value, enum ax_order order)
{
#define USE(o) __atomic_compare_exchange_n(p, &expected, value, false, o, __ATOMIC_RELAXED)
	EACH_ORDER(order, USE)
#undef USE
	return expected;
}

static inline void order_fence(enum ax_order order)
{
#define USE(o) __atomic_thread_fence(o)
	EACH_ORDER(order, USE)
#undef USE
}

#endif
