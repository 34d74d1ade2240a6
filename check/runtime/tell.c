/* SPDX-License-Identifier: MIT */
#include "check/runtime/tell.h"

#include <stdio.h>

#include "check/runtime/model.h"

#define ADDRESS_BITS 0x0000ffffffffffffull
#define NAMES 512

static unsigned step;
static unsigned step_of[THREADS][EVENTS];
static struct { uint64_t start, size; char name[48]; } names[NAMES];
static unsigned name_count;

void tell_start(void)
{
	step = 0;
}

/*
 * The tracer is no part of the execution, and neither is this code, for which a compiler may call memset. So its
 * accesses are not looked at; the callers see to that.
 */
static void tell(struct check_event *event)
{
	const struct thread *t = rt.self >= 0 ? self_thread() : &rt.thread[THREADS];

	event->step = step++;
	event->thread = rt.self;
	for (unsigned i = t->depth < CALL_DEPTH ? t->depth : CALL_DEPTH;
	     i-- > 0 && event->stack_count < CHECK_MAX_STACK;)
		event->stack[event->stack_count++] = t->stack[i];
	rt.search->tracer->event(rt.search->arg, event);
}

static enum check_event_kind kind_of(const struct op *op, const struct event *e)
{
	if (op->shown > 0)
		return (enum check_event_kind)(op->shown - 1);
	switch (e->flags & (EV_READS | EV_WRITES)) {
	case EV_READS | EV_WRITES: return CHECK_EV_RMW;
	case EV_WRITES: return CHECK_EV_STORE;
	case EV_READS: return op->kind == OP_CAS ? CHECK_EV_CAS_FAILED : CHECK_EV_LOAD;
	default: return CHECK_EV_FENCE;
	}
}

static __attribute__((noinline)) void tell_of_access(const struct op *op, const struct event *e,
                                                     const struct location *l, unsigned stale)
{
	struct check_event event = {
		.kind = kind_of(op, e), .address = op->address & ADDRESS_BITS, .size = op->size,
		.order = e->order, .weakened = op->weakened, .reads_from = -1, .stale = stale, .pc = op->pc,
		.caller = op->caller
	};

	step_of[e->thread][e->index] = step;
	if (op->shown < 0)
		return;
	if (e->flags & EV_READS)
		event.old = e->read;
	if (e->flags & EV_WRITES)
		event.value = e->value;
	if (op->kind == OP_AWAIT_RMW || op->kind == OP_TRY)
		event.value = op->operand != 1;
	if ((e->flags & EV_READS) && e->from && l) {
		event.reads_from = (int)step_of[EVENT_THREAD(e->from)][EVENT_INDEX(e->from)];
		event.synchronizes = acquires(e->order) && !vclock_covers((vclock){ 0 }, event_of(e->from)->release);
	}
	tell(&event);
}

void tell_access(const struct op *op, const struct event *e, const struct location *l, unsigned stale)
{
	enum rt_mode mode = rt.mode;

	rt.mode = RT_IDLE;
	tell_of_access(op, e, l, stale);
	rt.mode = mode;
}

static __attribute__((noinline)) void tell_of(enum check_event_kind kind, uint64_t address, uint64_t value,
                                              uint64_t old, unsigned size, uint32_t pc, const char *text)
{
	struct check_event event = {
		.kind = kind, .address = address & ADDRESS_BITS, .value = value, .old = old, .size = size,
		.pc = pc, .caller = 0, .reads_from = -1, .text = text
	};

	tell(&event);
}

void tell_simple(enum check_event_kind kind, uint64_t address, uint64_t value, uint64_t old, unsigned size,
                 uint32_t pc, const char *text)
{
	enum rt_mode mode = rt.mode;

	rt.mode = RT_IDLE;
	tell_of(kind, address, value, old, size, pc, text);
	rt.mode = mode;
}

/* What a plain access reads is what is there. What it writes comes after its hook. */
void tell_access_plain(uint64_t address, uint64_t size, bool write, uint32_t pc)
{
	uint64_t value = 0;

	if (!write && size <= 8 && address >= 4096 && address < WINDOW_END)
		for (unsigned i = 0; i < size; i++)
			value |= (uint64_t)((const uint8_t *)address)[i] << 8 * i;
	tell_simple(write ? CHECK_EV_WRITE : CHECK_EV_READ, address, 0, value, (unsigned)size, pc, NULL);
}

void check_log(const char *format, ...)
{
	char line[256];
	va_list args;

	if (rt.mode == RT_IDLE || !telling())
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	tell_simple(CHECK_EV_LOG, 0, 0, 0, 0, (uint32_t)(uintptr_t)__builtin_return_address(0), line);
}

void check_name(const void *ptr, size_t size, const char *name)
{
	unsigned i = 0;

	while (i < name_count && names[i].start != (uint64_t)ptr)
		i++;
	if (i == NAMES)
		return;
	if (i == name_count)
		name_count++;
	names[i].start = (uint64_t)ptr;
	names[i].size = size;
	snprintf(names[i].name, sizeof(names[i].name), "%s", name);
}

const char *check_name_of(uint64_t address)
{
	static char text[80];

	for (unsigned i = name_count; i-- > 0;)
		if (address - names[i].start < names[i].size) {
			uint64_t offset = address - names[i].start;

			if (!offset)
				return names[i].name;
			snprintf(text, sizeof(text), "%s+%lu", names[i].name, (unsigned long)offset);
			return text;
		}
	return NULL;
}
