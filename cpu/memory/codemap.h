/* SPDX-License-Identifier: MIT */
/*
 * Which host pages hold decoded code, and the lock for locked accesses that no atomic instruction can make. codemap.c has
 * the protocol.
 */
#ifndef CPU_MEMORY_CODEMAP_H
#define CPU_MEMORY_CODEMAP_H

#include "cpu/base/private.h"

/* A host page that holds decoded code in some CPU of the VM. */
struct code_page {
	uint64_t page; /* host address */
	_Atomic(uint64_t) version;
	_Atomic(uint64_t) lines;      /* bit n: line n of 64 bytes has decoded code */
	_Atomic(uint64_t) shot;       /* version + 1 for which write TLBs were shot down */
	struct code_page *next;
};

/** Returns: false without memory. */
bool codemap_cpu_add(struct cpu_vm *vm, struct cpu *cpu);
void codemap_cpu_remove(struct cpu_vm *vm, struct cpu *cpu);
/** The page's record when it holds decoded code now, else NULL. Any time. */
struct code_page *codemap_find(struct cpu_vm *vm, const void *host);
/** An instruction is about to write where no code was found: take note if there was some. May leave, unless it runs alone. */
void codemap_heed(struct cpu *cpu);
/** codemap_find for a page that an instruction is about to write, with codemap_heed. */
struct code_page *codemap_for_write(struct cpu *cpu, const void *host);
/** The lines of a page that some bytes in it touch, a bit each. */
uint64_t codemap_lines(const uint8_t *host, unsigned bytes);
/** Is what was decoded at that version, from those lines, still good? */
bool codemap_alive(const struct code_page *page, uint64_t version, uint64_t lines);
/**
 * Before decoding `bytes` at `host` (one page): after it, no vCPU writes there unnoticed. Waits for other CPUs; leaves when this one is
 * asked to exit meanwhile. Returns: NULL without memory.
 */
struct code_page *codemap_mark(struct cpu *cpu, const uint8_t *host, unsigned bytes, uint64_t *version);
/** The page was (or is about to have been) written: all its blocks die, in every CPU. */
void codemap_written(struct cpu *cpu, struct code_page *page);
/** Answer REQUEST_SHOOT and REQUEST_CODE. At a block boundary or outside the guest. */
void codemap_answer(struct cpu *cpu);
INLINE void codemap_serve(struct cpu *cpu)
{
	if (unlikely(atomic_load(&cpu->p->seat->requests) & (REQUEST_SHOOT | REQUEST_CODE)))
		codemap_answer(cpu);
}
/** For CPUs that wait in codemap_mark: this one left the guest, or was asked something. After a full barrier. Async-signal-safe. */
INLINE void codemap_ring(struct cpu *cpu)
{
	bell_ring(cpu->p->bell);
}
/**
 * One lock for accesses that no atomic instruction can do; p->atomic_locked says that this CPU has it. Its owner may be outside the guest,
 * where the library makes the access, and wait for CPUs that are inside. So it is only tried inside, and awaited outside: until it
 * comes, in the order of asking, or the CPU is asked to exit.
 */
bool codemap_atomic_try(struct cpu *cpu);
void codemap_atomic_await(struct cpu *cpu);
void codemap_atomic_give(struct cpu *cpu);

#endif
