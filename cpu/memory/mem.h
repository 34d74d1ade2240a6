/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as instructions reach it: effective address -> linear address -> host memory through the TLB.
 *
 * Every mem_* call may fault and then does not return (see base/types.h). An access that crosses a page checks both
 * pages before it has any effect. An address without memory (no slot) is a device's: a read returns the device's
 * data, and writes are collected and made when the instruction is complete.
 */
#ifndef CPU_MEMORY_MEM_H
#define CPU_MEMORY_MEM_H

#include <string.h>

#include "cpu/base/types.h"

struct mmio_armed;

/* ---- addresses --------------------------------------------------------------------------------------- */

/** Supplied by system/seg.c. Segment checks and base: offset -> linear for `size` bytes. Raises #GP/#SS. */
uint64_t seg_linear_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, bool write);

INLINE uint64_t seg_linear(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, bool write)
{
	if (likely(cpu->seg_fast >> seg & 1))
		return (cpu->seg_base[seg] + offset) & cpu->lin_mask;
	return seg_linear_slow(cpu, seg, offset, size, write);
}

/** Effective address (the offset in the segment), wrapped at the address size. What LEA computes. */
INLINE uint64_t op_ea(const struct cpu *cpu, const struct op *op)
{
	uint64_t ea = reg_read(cpu, op->base, 8) + (reg_read(cpu, op->index, 8) << op->scale) + (uint64_t)op->disp;

	if (likely(op->asize == 8))
		return ea;
	return op->asize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

/** Linear address of the memory operand, for an access of `size` bytes. */
INLINE uint64_t op_linear(struct cpu *cpu, const struct op *op, unsigned size, bool write)
{
	if (likely(op->flags & OPF_FLAT))
		return reg_read(cpu, op->base, 8) + (reg_read(cpu, op->index, 8) << op->scale) +
		       (uint64_t)op->disp;
	return seg_linear(cpu, op->seg, op_ea(cpu, op), size, write);
}

/* ---- host memory behind the guest's --------------------------------------------------------------------- */

typedef uint16_t __attribute__((may_alias, aligned(1))) guest16;
typedef uint32_t __attribute__((may_alias, aligned(1))) guest32;
typedef uint64_t __attribute__((may_alias, aligned(1))) guest64;

/* One load or store each, which the compiler neither splits nor repeats: other vCPUs access the same memory. */
GUEST_RACY_INLINE uint64_t host_load(const void *at, unsigned size)
{
	switch (size) {
	case 1: return *(const volatile uint8_t *)at;
	case 2: return *(const volatile guest16 *)at;
	case 4: return *(const volatile guest32 *)at;
	default: return *(const volatile guest64 *)at;
	}
}

GUEST_RACY_INLINE void host_store(void *at, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *(volatile uint8_t *)at = (uint8_t)value; break;
	case 2: *(volatile guest16 *)at = (uint16_t)value; break;
	case 4: *(volatile guest32 *)at = (uint32_t)value; break;
	default: *(volatile guest64 *)at = value; break;
	}
}

/** The TLB's answer for an access that lies in one page: a host address, or NULL when the slow path must see to it. */
INLINE void *tlb_find(struct cpu *cpu, enum tlb_kind kind, uint64_t linear, unsigned size)
{
	struct tlb_entry *e = &cpu->tlb[kind][(linear >> 12) % TLB_ENTRIES];

	/*
	 * Compares the page of the last byte with the entry of the first: an access that crosses pages never
	 * matches.
	 */
	if (likely((((linear + size - 1) & ~UINT64_C(0xfff)) | cpu->tlb_tag) == e->tag))
		return (void *)(uintptr_t)(linear + e->addend);
	return NULL;
}

/* ---- plain reads and writes; linear addresses -------------------------------------------------------------- */

uint64_t mem_read_slow(struct cpu *cpu, uint64_t linear, unsigned size);
void mem_write_slow(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value);

/** Read 1, 2, 4 or 8 bytes, zero-extended. */
INLINE uint64_t mem_read(struct cpu *cpu, uint64_t linear, unsigned size)
{
	void *at = tlb_find(cpu, TLB_READ, linear, size);

	if (likely(at != NULL))
		return host_load(at, size);
	return mem_read_slow(cpu, linear, size);
}

INLINE void mem_write(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value)
{
	void *at = tlb_find(cpu, TLB_WRITE, linear, size);

	if (likely(at != NULL))
		host_store(at, size, value);
	else
		mem_write_slow(cpu, linear, size, value);
}

/** Up to 1024 bytes: vectors, state components, descriptors. Aligned pieces of 8 bytes are not torn. */
void mem_read_bytes(struct cpu *cpu, uint64_t linear, void *to, unsigned size);
void mem_write_bytes(struct cpu *cpu, uint64_t linear, const void *from, unsigned size);

/**
 * Raise what a read of `size` bytes would raise, and read nothing: before the first of several reads, which may be a
 * device's and so must not happen when a later one faults.
 */
void mem_check_read(struct cpu *cpu, uint64_t linear, unsigned size);
/** Raise what a write of `size` bytes would raise, and write nothing. For instructions that write more than once. */
void mem_check_write(struct cpu *cpu, uint64_t linear, unsigned size);

/* ---- alignment (#AC) -------------------------------------------------------------------------------------------- */

/**
 * With CR0.AM, RFLAGS.AC and CPL 3 each access above checks its alignment: 1 to 8 bytes their own size, larger ones as
 * alignment_of in mem.c says. An instruction for which another rule holds asks here, and lets the others not check.
 */
INLINE bool mem_checks_alignment(const struct cpu *cpu)
{
	return unlikely((cpu->tlb_tag & TLB_ALIGNED) == TLB_ALIGNED);
}
/** Raises #AC when `linear` is not a multiple of `align`, a power of 2, and alignment is checked. */
void mem_check_alignment(struct cpu *cpu, uint64_t linear, unsigned align);
/** Alignment is not checked until mem_alignment_on, or until the instruction leaves. */
INLINE uint64_t mem_alignment_off(struct cpu *cpu)
{
	uint64_t tag = cpu->tlb_tag;

	if (mem_checks_alignment(cpu))
		cpu->tlb_tag &= ~(uint64_t)TLB_SMAP;
	return tag;
}
INLINE void mem_alignment_on(struct cpu *cpu, uint64_t tag)
{
	cpu->tlb_tag = tag;
}

/* ---- read-modify-write ---------------------------------------------------------------------------------------- */

/*
 * mem_rmw_begin checks the rights to read and to write; nothing faults after it. The handler works on *host. That is
 * guest memory itself, or a copy when the access crosses a page or hits a device; mem_rmw_end writes the copy back.
 *
 *     struct mem_rmw m;
 *     mem_rmw_begin(cpu, linear, size, &m);
 *     host_store(m.host, size, op(host_load(m.host, size)));
 *     mem_rmw_end(cpu, &m);
 *
 * A locked instruction uses mem_lock_begin/end and a host atomic on m.host (size 16: CMPXCHG16B, 16-aligned). The
 * address may be misaligned: x86 hosts do a split lock in hardware. What hardware cannot do runs on the copy, under
 * a lock of the VM.
 */
struct mem_rmw {
	void *host;
	uint64_t linear;
	unsigned size;
	bool copy, locked;
	uint8_t bounce[16] __attribute__((aligned(16)));
};

void mem_rmw_slow(struct cpu *cpu, uint64_t linear, unsigned size, struct mem_rmw *m, bool lock);
void mem_rmw_finish(struct cpu *cpu, struct mem_rmw *m);

INLINE void mem_rmw_begin(struct cpu *cpu, uint64_t linear, unsigned size, struct mem_rmw *m)
{
	m->copy = false;
	/* x86 has no page that may be written and not read. */
	m->host = tlb_find(cpu, TLB_WRITE, linear, size);
	if (unlikely(m->host == NULL))
		mem_rmw_slow(cpu, linear, size, m, false);
}

INLINE void mem_lock_begin(struct cpu *cpu, uint64_t linear, unsigned size, struct mem_rmw *m)
{
	m->copy = false;
	m->host = tlb_find(cpu, TLB_WRITE, linear, size);
	if (unlikely(m->host == NULL))
		mem_rmw_slow(cpu, linear, size, m, true);
}

INLINE void mem_rmw_end(struct cpu *cpu, struct mem_rmw *m)
{
	if (unlikely(m->copy))
		mem_rmw_finish(cpu, m);
}

INLINE void mem_lock_end(struct cpu *cpu, struct mem_rmw *m)
{
	mem_rmw_end(cpu, m);
}

/* ---- runs of memory, for REP ---------------------------------------------------------------------------------- */

/**
 * Host address of `linear`, and in *bytes how much of the page follows it. May fault as an access of 1 byte would.
 * Valid until the handler returns; memory may change under a copy through it. Returns: NULL when the access must go
 * element by element: a device, a page with code, debugging, an instruction alone.
 */
void *mem_span(struct cpu *cpu, uint64_t linear, bool write, unsigned *bytes);

/**
 * The same for one access of `size` bytes, which may also lie in a page with code if it is a read.
 * Returns: NULL when the instruction must be interpreted, too, because the access reaches into another page.
 */
void *mem_place(struct cpu *cpu, uint64_t linear, bool write, unsigned size);

/* ---- stack, as PUSH and POP see it: SS, RSP wrapped at the stack size ---------------------------------- */

/** What stack offsets wrap to. */
INLINE uint64_t stack_mask(const struct cpu *cpu)
{
	if (likely(cpu_is_64(cpu)))
		return ~UINT64_C(0);
	return cpu->mode & MODE_SS32 ? 0xffffffffu : 0xffffu;
}

INLINE void stack_pointer_set(struct cpu *cpu, uint64_t sp)
{
	uint64_t mask = stack_mask(cpu);

	/* A 16-bit stack keeps the upper bits of RSP. */
	cpu->s.gpr[CPU_RSP] = mask == 0xffff ? (cpu->s.gpr[CPU_RSP] & ~mask) | (sp & mask) : sp & mask;
}

/** Write below RSP, then move RSP: a fault leaves RSP alone. */
INLINE void stack_push(struct cpu *cpu, unsigned size, uint64_t value)
{
	uint64_t sp = (cpu->s.gpr[CPU_RSP] - size) & stack_mask(cpu);

	mem_write(cpu, seg_linear(cpu, CPU_SS, sp, size, true), size, value);
	stack_pointer_set(cpu, sp);
}

/** The value that a pop would give, `depth` bytes above RSP. Does not move RSP. */
INLINE uint64_t stack_peek(struct cpu *cpu, unsigned size, unsigned depth)
{
	uint64_t sp = (cpu->s.gpr[CPU_RSP] + depth) & stack_mask(cpu);

	return mem_read(cpu, seg_linear(cpu, CPU_SS, sp, size, false), size);
}

INLINE uint64_t stack_pop(struct cpu *cpu, unsigned size)
{
	uint64_t value = stack_peek(cpu, size, 0);

	stack_pointer_set(cpu, cpu->s.gpr[CPU_RSP] + size);
	return value;
}

/* ---- for the machinery --------------------------------------------------------------------------------- */

/** Access as the supervisor, whatever the CPL: descriptor tables and the TSS. */
uint64_t sys_read(struct cpu *cpu, uint64_t linear, unsigned size);
void sys_write(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value);
/** As mem_check_write. */
void sys_check_write(struct cpu *cpu, uint64_t linear, unsigned size);
/**
 * Did a fault of this instruction find that this access is a device's, or a write to a table that the library mirrors?
 * `gpa`: as the second stage translates it. Returns: what was found, or NULL.
 */
const struct mmio_armed *mmio_armed_find(const struct cpu *cpu, uint64_t gpa, bool write);

#endif
