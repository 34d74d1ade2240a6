/* SPDX-License-Identifier: MIT */
/* Tells the tracer, when there is one, what happens. */
#ifndef CHECK_RUNTIME_TELL_H
#define CHECK_RUNTIME_TELL_H

#include "check/runtime/rt.h"

void tell_access(const struct op *op, const struct event *e, const struct location *l, unsigned stale);
void tell_simple(enum check_event_kind kind, uint64_t address, uint64_t value, uint64_t old, unsigned size,
                 uint32_t pc, const char *text);
void tell_start(void);

void tell_access_plain(uint64_t address, uint64_t size, bool write, uint32_t pc);

static inline bool telling(void)
{
	return unlikely(rt.search->tracer != NULL);
}

static inline void tell_read(const struct op *op, const struct event *e, const struct location *l, unsigned stale)
{
	if (telling())
		tell_access(op, e, l, stale);
}

static inline void tell_store(const struct op *op, const struct event *e, const struct location *l, unsigned stale)
{
	if (telling())
		tell_access(op, e, l, stale);
}

static inline void tell_fence(const struct op *op, const struct event *e)
{
	if (telling())
		tell_access(op, e, NULL, 0);
}

static inline void tell_choice(const struct op *op, const struct event *e)
{
	if (telling())
		tell_simple(CHECK_EV_CHOOSE, 0, e->value, op->operand, 0, op->pc, NULL);
}

static inline void tell_block(const struct op *op)
{
	if (telling())
		tell_simple(CHECK_EV_BLOCK, op->address & 0x0000ffffffffffffull, 0, 0, op->size, op->pc, op->waits_for);
}

static inline void tell_begin(void)
{
	if (telling())
		tell_simple(CHECK_EV_BEGIN, 0, 0, 0, 0, 0, NULL);
}

static inline void tell_end(void)
{
	if (telling())
		tell_simple(CHECK_EV_END, 0, 0, 0, 0, 0, NULL);
}

static inline void tell_fail(void)
{
	if (rt.search && telling())
		tell_simple(CHECK_EV_FAIL, 0, 0, 0, 0, 0, rt.message);
}

/* Of a thread that does nothing else, only so many plain accesses are told. */
#define PLAIN_TOLD 512

static inline void tell_plain(uint64_t address, uint64_t size, bool write, uint32_t pc)
{
	if (telling() && rt.search->tracer->plain && rt.plain < PLAIN_TOLD)
		tell_access_plain(address, size, write, pc);
}

#endif
