/* SPDX-License-Identifier: MIT */
/*
 * A client whose own allocator gives memory back to the kernel with the allocator's lock held, as many do. A wrapper
 * of the front end around such a call must not allocate: it would wait for that lock for ever. Here the allocator
 * notes the call instead of waiting.
 */
#include "check.h"
#include <stdalign.h>
#include <stddef.h>

static _Thread_local bool locked;
static volatile bool reentered;

static alignas(16) char arena[64 << 20];
static size_t used;

/* The size of a block stands before it, for realloc. No block is ever reused. */
void *malloc(size_t bytes)
{
	size_t room = (bytes + 31) & ~(size_t)15, at;

	if (locked)
		reentered = true;
	at = __atomic_fetch_add(&used, room, __ATOMIC_RELAXED);
	if (bytes > sizeof(arena) || at + room > sizeof(arena))
		return NULL;
	memcpy(arena + at, &bytes, sizeof(bytes));
	return arena + at + 16;
}

void free(void *block)
{
	if (locked && block)
		reentered = true;
}

void *calloc(size_t count, size_t bytes)
{
	return bytes && count > sizeof(arena) / bytes ? NULL : malloc(count * bytes);
}

void *realloc(void *block, size_t bytes)
{
	void *new = malloc(bytes);
	size_t old = 0;

	if (block)
		memcpy(&old, (char *)block - 16, sizeof(old));
	if (new && block)
		memcpy(new, block, old < bytes ? old : bytes);
	return new;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	char *block = malloc(bytes + alignment), *up;

	if (!block)
		return NULL;
	up = (char *)(((uintptr_t)block + alignment - 1) & ~(uintptr_t)(alignment - 1));
	if (up - block >= 16)
		memcpy(up - 16, &bytes, sizeof(bytes));
	return up;
}

void *memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes)
{
	return aligned_alloc(alignment, bytes);
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
	*block = aligned_alloc(alignment, bytes);
	return *block ? 0 : ENOMEM;
}

/* Make every call that takes memory away, as if in the middle of the allocator. */
static void give_back(uint8_t *memory)
{
	void *moved;

	locked = true;
	madvise(memory, 4 * PAGE, MADV_NOHUGEPAGE);
	madvise(memory, 4 * PAGE, MADV_HUGEPAGE);
	madvise(memory, 4 * PAGE, MADV_NOHUGEPAGE);
	madvise(memory, 8 * PAGE, MADV_DONTNEED);
	mprotect(memory, PAGE, PROT_READ);
	mmap(memory, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	moved = mremap(memory + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 6 * PAGE);
	munmap(memory, 8 * PAGE);
	locked = false;
	CHECK(moved == memory + 6 * PAGE);
	CHECK(!reentered);
	reentered = false;
}

int main(void)
{
	/* mov [0x2000], al; hlt */
	static const uint8_t store[] = { 0xa2, 0x00, 0x20, 0xf4 };
	uint8_t *memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct machine m;

	NEED(memory != MAP_FAILED);
	give_back(memory);
	for (int i = 0; i < 2; i++) {
		machine_make(&m, 1, 16 * PAGE);
		memcpy(m.memory + 0x1000, store, sizeof(store));
		NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_HLT);
		give_back(m.memory);
		/* give_back has unmapped the lower half. Other code may have mapped something there since. */
		m.memory += 8 * PAGE;
		m.bytes -= 8 * PAGE;
		machine_free(&m, 1);
	}
	return check_end();
}
