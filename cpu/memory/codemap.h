/* SPDX-License-Identifier: MIT */
/*
 * Which host pages hold decoded code, and the lock for locked accesses that no atomic instruction can make.
 * codemap.c has the protocol.
 */
#ifndef CPU_MEMORY_CODEMAP_H
#define CPU_MEMORY_CODEMAP_H

#include "cpu/base/private.h"

/* A host page that holds decoded code in some CPU of the VM. */
struct code_page {
	uint64_t page; /* host address */
	_Atomic(uint64_t) version;
	_Atomic(uint64_t) lines;      /* bit n: line n of 64 bytes has decoded code */
	_Atomic(uint64_t) shot;       /* 1 + the version for which write TLBs were shot down */
	struct code_page *next;
};

/** Give the CPU a seat in its VM. Returns: false without memory. */
bool codemap_cpu_add(struct cpu_vm *vm, struct cpu *cpu);
void codemap_cpu_remove(struct cpu_vm *vm, struct cpu *cpu);
/** The page's record when it holds decoded code now, else NULL. Any time. */
struct code_page *codemap_find(struct cpu_vm *vm, const void *host);
/**
 * An instruction is about to write where no code was found. If code was there until now, leave, unless it runs
 * alone.
 */
void codemap_heed(struct cpu *cpu);
/** codemap_find for a page that an instruction is about to write. Calls codemap_heed when it finds none. */
struct code_page *codemap_for_write(struct cpu *cpu, const void *host);
/** The lines of its page that `bytes` at `host` touch, a bit each. */
uint64_t codemap_lines(const uint8_t *host, unsigned bytes);
/** Is what was decoded at that version, from those lines, still good? */
bool codemap_alive(const struct code_page *page, uint64_t version, uint64_t lines);
/**
 * Before decoding `bytes` at `host`, in one page. After: no vCPU writes there unnoticed. Waits for other CPUs, and
 * leaves when this one is asked to exit meanwhile. Returns: NULL without memory.
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
/**
 * Wake CPUs that wait in codemap_mark: this CPU left the guest, or was asked something. Call after a full barrier.
 * Async-signal-safe.
 */
INLINE void codemap_ring(struct cpu *cpu)
{
	bell_ring(cpu->p->bell);
}
/**
 * One lock for accesses that no atomic instruction can make. p->atomic_locked says that this CPU has it. Its owner
 * may be outside the guest, where the library makes the access, and may wait for CPUs inside. So a CPU only tries
 * for it inside, and awaits it outside. It comes in the order of asking; the wait also ends when the CPU is asked to
 * exit.
 */
bool codemap_atomic_try(struct cpu *cpu);
void codemap_atomic_await(struct cpu *cpu);
void codemap_atomic_give(struct cpu *cpu);

#endif
