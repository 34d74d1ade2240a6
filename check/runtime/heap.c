/* SPDX-License-Identifier: MIT */
#include "check/runtime/heap.h"

#include <stdio.h>

#include "check/runtime/shadow.h"
#include "check/runtime/tell.h"

#define HERE ((uint32_t)(uintptr_t)__builtin_return_address(0))

/* what setup allocated stays; what finish allocates comes after it */
static struct { uint64_t used; unsigned blocks; } setup;

void heap_keep_setup(void)
{
	setup.used = rt.thread[THREADS].arena_used;
	setup.blocks = rt.thread[THREADS].block_count;
}

/* An execution may have freed what setup allocated. */
void heap_reset(void)
{
	for (unsigned t = 0; t < THREADS; t++) {
		rt.thread[t].arena_used = 0;
		rt.thread[t].block_count = 0;
	}
	rt.thread[THREADS].arena_used = setup.used;
	rt.thread[THREADS].block_count = setup.blocks;
	for (unsigned i = 0; i < setup.blocks; i++)
		rt.block[THREADS][i].freed = false;
}

static struct block *block_of(uint64_t address, unsigned *arena)
{
	unsigned low = 0, high;

	*arena = (unsigned)((address - HEAP_ADDRESS) / ARENA_BYTES);
	if (address < HEAP_ADDRESS || *arena > THREADS)
		return NULL;
	high = rt.thread[*arena].block_count;
	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (rt.block[*arena][mid].start <= address)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0 || address - rt.block[*arena][low - 1].start >= (rt.block[*arena][low - 1].size + 7ull) / 8 * 8)
		return NULL;
	return &rt.block[*arena][low - 1];
}

bool check_stack_of(uint64_t address, int *thread, bool *local)
{
	uint64_t offset = address - STACKS_ADDRESS;

	if (offset >= (THREADS + 1) * STACK_BYTES)
		return false;
	*thread = offset / STACK_BYTES == THREADS ? -1 : (int)(offset / STACK_BYTES);
	*local = offset % STACK_BYTES >= rt.stack_bytes;
	return true;
}

bool check_block_of(uint64_t address, uint64_t *start, int *thread, unsigned *number)
{
	unsigned arena;
	const struct block *block = block_of(address, &arena);

	if (!block)
		return false;
	*start = block->start;
	*number = (unsigned)(block - rt.block[arena]) + 1;
	*thread = arena == THREADS ? -1 : (int)arena;
	return true;
}

size_t check_size_of(const void *ptr)
{
	unsigned arena;
	const struct block *block = block_of((uint64_t)ptr, &arena);

	return block && block->start == (uint64_t)ptr ? block->size : 0;
}

void heap_fail_freed(uint64_t address, uint32_t pc)
{
	unsigned arena;
	const struct block *block = block_of(address, &arena);

	rt.result->race_address = address;
	rt.result->race_pc[1] = pc;
	rt.result->race_thread[1] = rt.self;
	if (!block)
		rt_fail(CHECK_USE_AFTER_FREE, "use after free of %#lx", (unsigned long)address);
	rt.result->race_pc[0] = block->free_pc;
	rt.result->race_thread[0] = block->freed_by;
	rt_fail(CHECK_USE_AFTER_FREE,
	        "use after free: %#lx (pc %#x, thread %d) is %lu bytes into a block of %u, allocated at pc %#x, "
	        "freed by thread %d at pc %#x",
	        (unsigned long)address, pc, rt.self, (unsigned long)(address - block->start), block->size,
	        block->alloc_pc, block->freed_by, block->free_pc);
}

void *check_alloc(size_t size, size_t align)
{
	unsigned arena = rt.self >= 0 ? (unsigned)rt.self : THREADS;
	struct thread *t = &rt.thread[arena];
	uint64_t at = HEAP_ADDRESS + arena * ARENA_BYTES + t->arena_used;

	if (align < 16)
		align = 16;
	if ((align & (align - 1)) || align > 4096)
		rt_fail(CHECK_LIMIT, "check_alloc: alignment %zu", align);
	at = (at + align - 1) & ~(uint64_t)(align - 1);
	if (size >= ARENA_BYTES || at + size + 16 > HEAP_ADDRESS + (arena + 1) * ARENA_BYTES ||
	    t->block_count == BLOCKS)
		rt_fail(CHECK_LIMIT,
		        "check_alloc: no room for %zu bytes; one thread may allocate %llu bytes and %u blocks in an "
		        "execution",
		        size, ARENA_BYTES, BLOCKS);
	t->visit_count = 0;
	/* the 16 bytes between two blocks belong to none */
	t->arena_used = at + (size ? (size + 7) & ~7ull : 8) + 16 - (HEAP_ADDRESS + arena * ARENA_BYTES);
	rt.block[arena][t->block_count++] = (struct block){ .start = at, .size = (uint32_t)size, .alloc_pc = HERE };
	if (rt.mode == RT_THREADS && telling())
		tell_simple(CHECK_EV_ALLOC, at, size, 0, 0, HERE, NULL);
	return (void *)at;
}

void check_free(void *ptr)
{
	unsigned arena;
	struct block *block = block_of((uint64_t)ptr, &arena);

	if (!ptr)
		return;
	if (!block || block->start != (uint64_t)ptr)
		rt_fail(CHECK_BAD_FREE, "free of %p, which check_alloc did not return (pc %#x)", ptr, HERE);
	if (block->freed)
		rt_fail(CHECK_BAD_FREE, "double free of %p (pc %#x): thread %d freed it at pc %#x", ptr, HERE,
		        block->freed_by, block->free_pc);
	if (telling())
		tell_simple(CHECK_EV_FREE, block->start, block->size, 0, 0, HERE, NULL);
	block->free_pc = HERE;
	if (rt.self >= 0)
		self_thread()->visit_count = 0;
	block->freed_by = (int8_t)rt.self;
	if (rt.mode == RT_SETUP) {
		/* freed by setup: it is gone in every execution */
		block->start = (uint64_t)ptr;
		block->size = 0;
		return;
	}
	shadow_free(block->start, block->size, HERE);
	block->freed = true;
}

void check_setup_freed(void)
{
	for (unsigned i = 0; i < rt.thread[THREADS].block_count; i++) {
		const struct block *block = &rt.block[THREADS][i];

		if (!block->freed && block->size)
			rt_fail(CHECK_LEAK, "leak: %u bytes that setup allocated at pc %#x", block->size,
			        block->alloc_pc);
	}
}

void heap_check_leaks(void)
{
	if (rt.search->scenario->flags & CHECK_NO_LEAK_CHECK)
		return;
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = 0; i < rt.thread[t].block_count; i++)
			if (!rt.block[t][i].freed) {
				rt.failed = true;
				rt.verdict = CHECK_LEAK;
				snprintf(rt.message, sizeof(rt.message),
				         "leak: %u bytes that thread %u allocated at pc %#x", rt.block[t][i].size,
				         t, rt.block[t][i].alloc_pc);
				return;
			}
}
