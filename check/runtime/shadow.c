/* SPDX-License-Identifier: MIT */
#include "check/runtime/shadow.h"

#include <sys/mman.h>

#include "check/runtime/heap.h"
#include "check/runtime/model.h"

static inline struct cell *cell_at(uint64_t address)
{
	struct cell *cell = (struct cell *)SHADOW_ADDRESS + (address >> 3);

	if (unlikely(cell->execution != rt.execution))
		*cell = (struct cell){ .execution = rt.execution };
	return cell;
}

static inline bool on_a_stack(uint64_t address)
{
	return address - STACKS_ADDRESS < (THREADS + 1) * STACK_BYTES;
}

/* Stacks are not restored: a thread writes what it uses there. */
static inline void log_word(struct cell *cell, uint64_t address)
{
	if (likely(cell->logged))
		return;
	cell->logged = true;
	if (on_a_stack(address))
		return;
	if (rt.undo_count == sizeof(rt.undo) / sizeof(rt.undo[0]))
		rt_fail(CHECK_LIMIT, "an execution writes more than %u words", rt.undo_count);
	rt.undo[rt.undo_count++] = (struct undo){ (uint64_t *)(address & ~7ull), *(uint64_t *)(address & ~7ull) };
}

static struct {
	uint64_t start, size;
} counters;

void check_counters(const void *ptr, size_t size)
{
	if (rt.mode != RT_SETUP)
		rt_fail(CHECK_LIMIT, "check_counters: from setup only");
	counters.start = (uint64_t)ptr;
	counters.size = size;
}

bool shadow_is_counter(uint64_t address)
{
	return address - counters.start < counters.size;
}

void shadow_forget_counters(void)
{
	counters.size = 0;
}

void shadow_log(uint64_t address)
{
	log_word(cell_at(address), address);
}

void shadow_keep_setup(void)
{
	memcpy(rt.setup_undo, rt.undo, rt.undo_count * sizeof(rt.undo[0]));
	rt.setup_count = rt.undo_count;
	rt.undo_count = 0;
}

void shadow_undo_setup(void)
{
	while (rt.setup_count) {
		const struct undo *undo = &rt.setup_undo[--rt.setup_count];

		*undo->word = undo->old;
	}
}

void shadow_forget(void)
{
	madvise((void *)SHADOW_ADDRESS, WINDOW_END / 8 * sizeof(struct cell), MADV_DONTNEED);
	memset(rt.abstract, 0, sizeof(rt.abstract));
	rt.execution = 1;
}

void shadow_restore(void)
{
	while (rt.undo_count) {
		const struct undo *undo = &rt.undo[--rt.undo_count];

		*undo->word = undo->old;
	}
}

static void found_race(uint64_t address, int other, uint32_t other_pc, uint32_t pc, const char *what)
{
	rt.result->race_address = address;
	rt.result->race_pc[0] = other_pc;
	rt.result->race_pc[1] = pc;
	rt.result->race_thread[0] = other;
	rt.result->race_thread[1] = rt.self;
	if (rt.freeing)
		rt_fail(CHECK_USE_AFTER_FREE,
		        "thread %d frees %#lx (pc %#x), and an access by thread %d (pc %#x) is not ordered before that",
		        rt.self, (unsigned long)address, pc, other, other_pc);
	rt_fail(CHECK_RACE, "data race: %s at %#lx by thread %d (pc %#x) is not ordered with %s thread %d%s", what,
	        (unsigned long)address, rt.self, pc, "an access by", other, other_pc ? "" : " (atomic)");
}

static unsigned first_uncovered(vclock clock, vclock known)
{
	for (unsigned t = 0; t < THREADS; t++)
		if (clock[t] > known[t])
			return t;
	return 0;
}

/* Check a plain access against the last atomic accesses of a location. */
static void against_atomics(const struct location *l, uint64_t address, bool write, vclock now, uint32_t pc)
{
	const char *what = write ? "plain write" : "plain read";
	vclock theirs = write ? vclock_join(l->written, l->read) : l->written;
	unsigned other;

	if (likely(vclock_covers(now, theirs)))
		return;
	other = first_uncovered(theirs, now);
	found_race(address, (int)other, event_of(EVENT_ID(other, theirs[other]))->pc, pc, what);
}

static inline void plain(struct cell *cell, uint64_t address, bool write, vclock now, uint32_t pc)
{
	if (unlikely(cell->written > now[cell->writer]))
		found_race(address, cell->writer, cell->write_pc, pc, write ? "plain write" : "plain read");
	if (unlikely(cell->location)) {
		against_atomics(&rt.location[cell->location], address, write, now, pc);
		if (write)
			cell->location = 0; /* later atomics begin with the value that this access writes */
	}
	if (!write) {
		cell->read[rt.self] = now[rt.self];
		cell->read_pc = pc;
		return;
	}
	if (unlikely(!vclock_covers(now, cell->read)))
		found_race(address, (int)first_uncovered(cell->read, now), cell->read_pc, pc, "plain write");
	cell->written = now[rt.self];
	cell->writer = (uint8_t)rt.self;
	cell->write_pc = pc;
}

static uint32_t cell_new(const struct cell *like, unsigned mask, uint32_t next)
{
	if (rt.cell_count + 1 >= sizeof(rt.cells) / sizeof(rt.cells[0]))
		rt_fail(CHECK_LIMIT, "an execution accesses too many words in parts");
	rt.cells[++rt.cell_count] = *like;
	rt.cells[rt.cell_count].mask = (uint8_t)mask;
	rt.cells[rt.cell_count].next = next;
	return rt.cell_count;
}

/*
 * Split the word's cells until each lies within `mask` or outside, and make cells for the
 * bytes of `mask` without one.
 */
static void cells_split(struct cell *first, unsigned mask)
{
	struct cell empty = { .execution = rt.execution, .freed = first->freed };
	unsigned missing = mask;

	for (struct cell *c = first;; c = &rt.cells[c->next]) {
		unsigned inside = c->mask & mask;

		missing &= ~inside;
		if (inside && inside != c->mask) {
			c->next = cell_new(c, c->mask & ~inside, c->next);
			c->mask = (uint8_t)inside;
		}
		if (!c->next)
			break;
	}
	if (missing && !first->mask)
		first->mask = (uint8_t)missing;
	else if (missing)
		first->next = cell_new(&empty, missing, first->next);
}

/*
 * A write or an atomic overlaps the bytes of an atomic location without being exactly those. The location ends here;
 * later atomics begin with what is in memory. All its loads and stores happen before, so none concerns a later one.
 */
static void end_other_atomics(struct cell *first, unsigned mask, uint64_t address, vclock now, bool atomic)
{
	for (struct cell *c = first;; c = &rt.cells[c->next]) {
		if (c->location && (c->mask & mask) && c->mask != mask) {
			const struct location *l = &rt.location[c->location];

			if (!vclock_covers(now, vclock_join(l->written, l->read)))
				rt_fail(atomic ? CHECK_MIXED : CHECK_RACE,
				        "%s of %u bytes at %#lx, not ordered with atomics of %u bytes on the same "
				        "memory",
				        atomic ? "an atomic" : "a plain write", (unsigned)__builtin_popcount(mask),
				        (unsigned long)address, l->size);
			c->location = 0;
		}
		if (!c->next)
			break;
	}
}

/* Split cells to fit. A cell with atomics counts as read whole. */
static void cells_split_for_read(struct cell *first, unsigned mask)
{
	for (struct cell *c = first;; c = &rt.cells[c->next]) {
		if (c->location && (c->mask & mask))
			mask |= c->mask;
		if (!c->next)
			break;
	}
	cells_split(first, mask);
}

static void parts_access(struct cell *first, uint64_t address, unsigned mask, bool write, vclock now, uint32_t pc)
{
	if (write) {
		end_other_atomics(first, mask, address, now, false);
		cells_split(first, mask);
	} else {
		cells_split_for_read(first, mask);
	}
	for (struct cell *c = first;; c = &rt.cells[c->next]) {
		if (c->mask & mask)
			plain(c, address, write, now, pc);
		if (!c->next)
			break;
	}
}

static void word_access(uint64_t address, unsigned size, bool write, uint32_t pc)
{
	struct cell *cell = cell_at(address);
	unsigned mask = ((1u << size) - 1) << (address & 7);

	if (write)
		log_word(cell, address);
	if (unlikely(cell->freed))
		heap_fail_freed(address, pc);
	if (unlikely(rt.mode != RT_THREADS || shadow_is_counter(address)))
		return;
	if (!cell->mask)
		cell->mask = (uint8_t)mask;
	if (likely(cell->mask == mask))
		plain(cell, address, write, self_thread()->clock, pc);
	else
		parts_access(cell, address, mask, write, self_thread()->clock, pc);
}

void shadow_access(uint64_t address, uint64_t size, bool write, uint32_t pc)
{
	if (address >= WINDOW_END || size > WINDOW_END || address < 4096)
		return;
	while (size) {
		unsigned here = (unsigned)(8 - (address & 7));

		if (here > size)
			here = (unsigned)size;
		word_access(address, here, write, pc);
		address += here;
		size -= here;
	}
}

void shadow_free(uint64_t address, uint64_t size, uint32_t pc)
{
	rt.freeing = true;
	shadow_access(address, size, true, pc);
	rt.freeing = false;
	for (uint64_t at = address; at < address + size; at += 8)
		cell_at(at)->freed = true;
}

static uint32_t location_new(uint64_t address, unsigned size)
{
	uint64_t value = 0;
	uint32_t index = location_make(address, size);

	switch (size) {
	case 1: value = *(uint8_t *)address; break;
	case 2: value = *(uint16_t *)address; break;
	case 4: value = *(uint32_t *)address; break;
	case 8: value = *(uint64_t *)address; break;
	}
	rt.location[index].first = value;
	rt.location[index].memory = true;
	return index;
}

uint32_t shadow_atomic(uint64_t address, unsigned size, bool write, const struct event *e)
{
	struct cell *cell = cell_at(address);
	unsigned mask = ((1u << size) - 1) << (address & 7);

	if (unlikely(cell->freed))
		heap_fail_freed(address, e->pc);
	if (write)
		log_word(cell, address);
	if (unlikely(cell->mask != mask)) {
		end_other_atomics(cell, mask, address, e->clock, true);
		cells_split(cell, mask);
		while (cell->mask != mask) {
			/* Several cells inside: combine what they know. */
			if (cell->mask & mask) {
				if (cell->written > e->clock[cell->writer])
					found_race(address, cell->writer, cell->write_pc, e->pc, "atomic access");
				if (write && !vclock_covers(e->clock, cell->read))
					found_race(address, (int)first_uncovered(cell->read, e->clock),
					           cell->read_pc, e->pc, "atomic write");
				cell->mask &= (uint8_t)~mask;
			}
			if (!cell->next) {
				struct cell empty = { .execution = rt.execution };

				cell->next = cell_new(&empty, mask, 0);
			}
			cell = &rt.cells[cell->next];
		}
	}
	if (unlikely(cell->written > e->clock[cell->writer]))
		found_race(address, cell->writer, cell->write_pc, e->pc, "atomic access");
	if (unlikely(write && !vclock_covers(e->clock, cell->read)))
		found_race(address, (int)first_uncovered(cell->read, e->clock), cell->read_pc, e->pc, "atomic write");
	if (unlikely(!cell->location))
		cell->location = location_new(address, size);
	return cell->location;
}
