/* SPDX-License-Identifier: MIT */
/*
 * The slow half of mem.h: TLB misses, page crossings, devices, writes to pages with code.
 */
#include "cpu/memory/codemap.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/walk.h"

#include "cpu/base/private.h"
#include "cpu/memory/mirrored.h"

/* ---- where a byte is --------------------------------------------------------------------------------------- */

static struct place locate(struct cpu *cpu, uint64_t linear, enum access access)
{
	struct tlb_entry *e = &cpu->tlb[access][(linear >> 12) % TLB_ENTRIES];
	uint64_t tag = (linear & ~UINT64_C(0xfff)) | cpu->tlb_tag;

	if ((e->tag & ~TLB_SLOW) == tag) {
		struct place place = { .host = (uint8_t *)(uintptr_t)(linear + e->addend) };

		place.slow = access == ACCESS_WRITE && (e->tag & TLB_SLOW);
		if (place.slow && codemap_for_write(cpu, place.host) == NULL) {
			/* No CPU has code of this page any more: writes may use the fast entry. */
			if (!debug_watches(cpu, linear))
				e->tag = tag;
			place.slow = false;
		}
		return place;
	}
	return walk(cpu, linear, access);
}

static unsigned page_left(uint64_t linear)
{
	return 4096 - (unsigned)(linear & 0xfff);
}

/* ---- devices ------------------------------------------------------------------------------------------------- */

const struct mmio_armed *mmio_armed_find(const struct cpu *cpu, uint64_t gpa, bool write)
{
	for (unsigned i = 0; i < cpu->p->armed_count; i++) {
		const struct mmio_armed *armed = &cpu->p->armed[i];

		if (armed->page == gpa >> 12 && armed->write == write)
			return armed;
	}
	return NULL;
}

static uint64_t mmio_read(struct cpu *cpu, uint64_t gpa, unsigned size)
{
	struct cpu_private *p = cpu->p;
	struct mmio_fragment *f = &p->reads[p->reads_used];
	uint64_t value = 0;

	if (p->reads_used < p->reads_count && f->gpa == gpa && f->len == size) {
		p->reads_used++;
		memcpy(&value, f->data, size);
		return value;
	}
	if (p->reads_used >= MMIO_FRAGMENTS)
		cpu_unimplemented(cpu);
	/* Exit for the answer. The instruction then runs again and finds it above. */
	p->reads_count = p->reads_used;
	p->exit.reason = CPU_EXIT_MMIO;
	p->exit.mmio.gpa = gpa;
	p->exit.mmio.write = false;
	p->exit.mmio.len = (uint8_t)size;
	p->completion = COMPLETE_MMIO_READ;
	cpu_leave(cpu, LEAVE_EXIT);
}

static void mmio_write(struct cpu *cpu, uint64_t gpa, unsigned size, uint64_t value)
{
	struct cpu_private *p = cpu->p;
	struct mmio_fragment *f = &p->writes[p->writes_count];

	if (p->writes_count >= MMIO_FRAGMENTS)
		cpu_unimplemented(cpu);
	f->gpa = gpa;
	f->len = (uint8_t)size;
	memcpy(f->data, &value, size);
	p->writes_count++;
}

/* ---- writes to pages with code ------------------------------------------------------------------------- */

/* Begin the instruction again, alone: codemap_heed does not send it back then. */
static void run_alone(struct cpu *cpu)
{
	if (cpu->single)
		return;
	cpu->p->single_next = true;
	cpu_leave(cpu, LEAVE_RESTART);
}

/* The instruction writes over code, perhaps of its own block. Run it alone; after it the page's blocks are dead. */
static void code_write_note(struct cpu *cpu, struct code_page *page)
{
	struct cpu_private *p = cpu->p;

	run_alone(cpu);
	for (unsigned i = 0; i < p->written_count; i++) {
		if (p->written[i] == page)
			return;
	}
	if (p->written_count < 4)
		p->written[p->written_count++] = page;
	else
		codemap_written(cpu, page);
}

static void place_check_code(struct cpu *cpu, const struct place *place, unsigned size)
{
	struct code_page *page;

	if (likely(!place->slow))
		return;
	page = codemap_find(cpu->p->vm, place->host);
	if (page != NULL && (atomic_load(&page->lines) & codemap_lines(place->host, size)))
		code_write_note(cpu, page);
	else
		codemap_heed(cpu);
}

/* ---- one page ------------------------------------------------------------------------------------------ */

static uint64_t place_read(struct cpu *cpu, const struct place *place, unsigned size)
{
	uint64_t value = 0;

	if (unlikely(place->host == NULL))
		return mmio_read(cpu, place->gpa, size);
	if (likely((size & (size - 1)) == 0))
		return host_load(place->host, size);
	for (unsigned i = 0; i < size; i++)
		value |= host_load(place->host + i, 1) << (8 * i);
	return value;
}

/* Does not leave. The caller has called place_check_code for every place that the instruction writes. */
static void place_write(struct cpu *cpu, const struct place *place, unsigned size, uint64_t value)
{
	struct code_page *page;

	if (unlikely(place->host == NULL)) {
		if (place->behind != NULL)
			mirrored_write(cpu, place, size, value);
		else
			mmio_write(cpu, place->gpa, size, value);
		return;
	}
	if ((size & (size - 1)) == 0) {
		host_store(place->host, size, value);
	} else {
		for (unsigned i = 0; i < size; i++)
			host_store(place->host + i, 1, value >> (8 * i));
	}
	if (unlikely(place->slow)) {
		/* Pairs with codemap_mark: either the decoder sees this store, or this CPU sees the decoder's line. */
		atomic_thread_fence(memory_order_seq_cst);
		page = codemap_find(cpu->p->vm, place->host);
		if (page == NULL || !(atomic_load(&page->lines) & codemap_lines(place->host, size)))
			return;
		if (cpu->single)
			code_write_note(cpu, page);
		else
			codemap_written(cpu, page);
	}
}

/* ---- alignment --------------------------------------------------------------------------------------------- */

/*
 * As AMD's processors check: vectors of 16 bytes and more 16, an 80-bit number 8, images of the FPU 4 or, in their
 * 16-bit form, 2. The check comes before those of paging.
 */
static unsigned alignment_of(unsigned size)
{
	if (size <= 8 && (size & (size - 1)) == 0)
		return size;
	if (size == 16 || size == 32 || size == 64)
		return 16;
	return size == 10 ? 8 : size % 4 == 0 ? 4 : size % 2 == 0 ? 2 : 1;
}

void mem_check_alignment(struct cpu *cpu, uint64_t linear, unsigned align)
{
	if (mem_checks_alignment(cpu) && (linear & (align - 1)))
		cpu_raise_error(cpu, VECTOR_AC, 0);
}

/* Begins what each function below does while alignment is checked. */
static uint64_t aligned_begin(struct cpu *cpu, uint64_t linear, unsigned size)
{
	mem_check_alignment(cpu, linear, alignment_of(size));
	return mem_alignment_off(cpu);
}

static __attribute__((noinline)) uint64_t read_aligned(struct cpu *cpu, uint64_t linear, unsigned size)
{
	uint64_t tag = aligned_begin(cpu, linear, size), value = mem_read(cpu, linear, size);

	mem_alignment_on(cpu, tag);
	return value;
}

static __attribute__((noinline)) void write_aligned(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value)
{
	uint64_t tag = aligned_begin(cpu, linear, size);

	mem_write(cpu, linear, size, value);
	mem_alignment_on(cpu, tag);
}

/* ---- mem.h --------------------------------------------------------------------------------------------- */

uint64_t mem_read_slow(struct cpu *cpu, uint64_t linear, unsigned size)
{
	unsigned left = page_left(linear);
	struct place first, second;
	uint64_t low;

	if (mem_checks_alignment(cpu))
		return read_aligned(cpu, linear, size);
	debug_data(cpu, linear, size, false);
	first = locate(cpu, linear, ACCESS_READ);
	if (likely(size <= left))
		return place_read(cpu, &first, size);
	second = locate(cpu, (linear + left) & cpu->lin_mask, ACCESS_READ);
	low = place_read(cpu, &first, left);
	return low | place_read(cpu, &second, size - left) << (8 * left);
}

void mem_write_slow(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value)
{
	unsigned left = page_left(linear);
	struct place first, second;

	if (mem_checks_alignment(cpu)) {
		write_aligned(cpu, linear, size, value);
		return;
	}
	debug_data(cpu, linear, size, true);
	first = locate(cpu, linear, ACCESS_WRITE);
	if (likely(size <= left)) {
		place_check_code(cpu, &first, size);
		place_write(cpu, &first, size, value);
		return;
	}
	second = locate(cpu, (linear + left) & cpu->lin_mask, ACCESS_WRITE);
	place_check_code(cpu, &first, left);
	place_check_code(cpu, &second, size - left);
	place_write(cpu, &first, left, value);
	place_write(cpu, &second, size - left, value >> (8 * left));
}

/* What of `size` bytes, 8 at most, is in the page of `linear`. A device sees it as one access, as KVM has it. */
static unsigned piece(uint64_t linear, unsigned size)
{
	unsigned left = page_left(linear);
	unsigned n = size < left ? size : left;

	return n < 8 ? n : 8;
}

/* In memory: the largest power of two of it. */
static unsigned power_of_two(unsigned n)
{
	return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

GUEST_RACY void mem_read_bytes(struct cpu *cpu, uint64_t linear, void *to, unsigned size)
{
	uint64_t tag = aligned_begin(cpu, linear, size);
	const uint8_t *at = size <= page_left(linear) ? tlb_find(cpu, TLB_READ, linear, 1) : NULL;
	uint8_t *out = to;

	if (at == NULL)
		mem_check_read(cpu, linear, size);
	while (size > 0) {
		unsigned n = piece(linear, size);
		uint64_t value;

		if (at != NULL) {
			n = power_of_two(n);
			value = host_load(at, n);
			at += n;
		} else if (n == power_of_two(n)) {
			value = mem_read(cpu, linear & cpu->lin_mask, n);
		} else {
			value = mem_read_slow(cpu, linear & cpu->lin_mask, n);
		}
		memcpy(out, &value, n);
		out += n;
		linear += n;
		size -= n;
	}
	mem_alignment_on(cpu, tag);
}

GUEST_RACY void mem_write_bytes(struct cpu *cpu, uint64_t linear, const void *from, unsigned size)
{
	uint64_t tag = aligned_begin(cpu, linear, size);
	uint8_t *at = size <= page_left(linear) ? tlb_find(cpu, TLB_WRITE, linear, 1) : NULL;
	const uint8_t *in = from;

	if (at == NULL)
		mem_check_write(cpu, linear, size);
	while (size > 0) {
		unsigned n = at != NULL ? power_of_two(piece(linear, size)) : piece(linear, size);
		uint64_t value = 0;

		memcpy(&value, in, n);
		if (at != NULL) {
			host_store(at, n, value);
			at += n;
		} else if (n == power_of_two(n)) {
			mem_write(cpu, linear & cpu->lin_mask, n, value);
		} else {
			mem_write_slow(cpu, linear & cpu->lin_mask, n, value);
		}
		in += n;
		linear += n;
		size -= n;
	}
	mem_alignment_on(cpu, tag);
}

void mem_check_read(struct cpu *cpu, uint64_t linear, unsigned size)
{
	uint64_t tag = aligned_begin(cpu, linear, size);

	while (size > 0) {
		unsigned n = size < page_left(linear) ? size : page_left(linear);

		locate(cpu, linear & cpu->lin_mask, ACCESS_READ);
		linear += n;
		size -= n;
	}
	mem_alignment_on(cpu, tag);
}

void mem_check_write(struct cpu *cpu, uint64_t linear, unsigned size)
{
	uint64_t tag = aligned_begin(cpu, linear, size);

	while (size > 0) {
		unsigned n = size < page_left(linear) ? size : page_left(linear);
		struct place place = locate(cpu, linear & cpu->lin_mask, ACCESS_WRITE);

		place_check_code(cpu, &place, n);
		linear += n;
		size -= n;
	}
	mem_alignment_on(cpu, tag);
}

/* ---- read-modify-write --------------------------------------------------------------------------------- */

static void rmw_slow(struct cpu *cpu, uint64_t linear, unsigned size, struct mem_rmw *m, bool lock)
{
	bool crosses = size > page_left(linear);
	unsigned reads_used;
	struct place first;

	debug_data(cpu, linear, size, true);
	if (crosses)
		run_alone(cpu); /* the instruction must not begin again when one half is stored */
	mem_check_write(cpu, linear, size);
	first = locate(cpu, linear, ACCESS_WRITE);
	m->linear = linear;
	m->size = size;
	m->locked = false;
	if (!crosses && first.host != NULL) {
		struct code_page *page = first.slow ? codemap_find(cpu->p->vm, first.host) : NULL;

		if (page != NULL)
			code_write_note(cpu, page);
		m->host = first.host;
		return;
	}
	if (!crosses && lock && first.behind != NULL) {
		m->host = mirrored_in_place(cpu, &first, size);
		return;
	}
	/*
	 * The first read collects the answers of a device, should the access reach into one. The read with the lock
	 * held finds those answers, and reads memory anew.
	 */
	reads_used = cpu->p->reads_used;
	mem_read_bytes(cpu, linear, m->bounce, size);
	if (lock && (first.host != NULL || first.behind != NULL)) {
		if (!cpu->p->atomic_locked && !codemap_atomic_try(cpu)) {
			cpu->p->single_next = true;
			cpu_leave(cpu, LEAVE_LOCK);
		}
		m->locked = true;
		cpu->p->reads_used = reads_used;
		mem_read_bytes(cpu, linear, m->bounce, size);
	}
	m->copy = true;
	m->host = m->bounce;
}

void mem_rmw_slow(struct cpu *cpu, uint64_t linear, unsigned size, struct mem_rmw *m, bool lock)
{
	uint64_t tag = aligned_begin(cpu, linear, size);

	rmw_slow(cpu, linear, size, m, lock);
	mem_alignment_on(cpu, tag);
}

void mem_rmw_finish(struct cpu *cpu, struct mem_rmw *m)
{
	mem_write_bytes(cpu, m->linear, m->bounce, m->size);
	/* Writes that the library makes come later, under the same lock. */
	if (m->locked && cpu->p->shadow.writes_count == 0)
		codemap_atomic_give(cpu);
}

void *mem_span(struct cpu *cpu, uint64_t linear, bool write, unsigned *bytes)
{
	struct place place;

	if (cpu->single || debug_watches(cpu, linear) || mem_checks_alignment(cpu))
		return NULL;
	place = locate(cpu, linear, write ? ACCESS_WRITE : ACCESS_READ);
	if (place.host == NULL || place.slow)
		return NULL;
	*bytes = page_left(linear);
	return place.host;
}

void *mem_place(struct cpu *cpu, uint64_t linear, bool write, unsigned size)
{
	struct place place;

	if (size > page_left(linear) || debug_watches(cpu, linear))
		return NULL;
	place = locate(cpu, linear, write ? ACCESS_WRITE : ACCESS_READ);
	return place.slow ? NULL : place.host;
}

/* ---- as the supervisor --------------------------------------------------------------------------------- */

/* A fault before the tag is put back leaves it wrong: every landing in run/run.c computes it anew. */
static uint64_t tag_supervisor(struct cpu *cpu)
{
	uint64_t tag = cpu->tlb_tag;

	cpu->tlb_tag &= ~(uint64_t)(TLB_USER | TLB_SMAP);
	if (cpu->s.cr4 & CR4_SMAP)
		cpu->tlb_tag |= TLB_SMAP;
	return tag;
}

/*
 * Descriptor tables and stacks of long mode have 64-bit addresses, whatever code runs. A landing computes the mask
 * anew, as it does the tag.
 */
static uint64_t mask_system(struct cpu *cpu)
{
	uint64_t mask = cpu->lin_mask;

	if (cpu->s.efer & EFER_LMA)
		cpu->lin_mask = ~UINT64_C(0);
	return mask;
}

uint64_t sys_read(struct cpu *cpu, uint64_t linear, unsigned size)
{
	uint64_t tag = tag_supervisor(cpu), mask = mask_system(cpu);
	uint64_t value = mem_read(cpu, linear & cpu->lin_mask, size);

	cpu->tlb_tag = tag;
	cpu->lin_mask = mask;
	return value;
}

void sys_write(struct cpu *cpu, uint64_t linear, unsigned size, uint64_t value)
{
	uint64_t tag = tag_supervisor(cpu), mask = mask_system(cpu);

	mem_write(cpu, linear & cpu->lin_mask, size, value);
	cpu->tlb_tag = tag;
	cpu->lin_mask = mask;
}

void sys_check_write(struct cpu *cpu, uint64_t linear, unsigned size)
{
	uint64_t tag = tag_supervisor(cpu), mask = mask_system(cpu);

	mem_check_write(cpu, linear & cpu->lin_mask, size);
	cpu->tlb_tag = tag;
	cpu->lin_mask = mask;
}
