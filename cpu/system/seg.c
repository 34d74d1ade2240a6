/* SPDX-License-Identifier: MIT */
/*
 * Segments: descriptors, loading, checks on access, and the mode that follows from them.
 */
#include "cpu/base/private.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/seg.h"

#define TYPE_CODE       8u
#define TYPE_CONFORMING 4u /* code */
#define TYPE_DOWN       4u /* data: expand-down */
#define TYPE_WRITABLE   2u /* data; readable for code */
#define TYPE_ACCESSED   1u

/* ---- the mode ------------------------------------------------------------------------------------------ */

static bool is_protected(const struct cpu *cpu)
{
	return (cpu->s.cr0 & CR0_PE) && !(cpu->s.rflags & RFLAGS_VM);
}

/* Can accesses skip seg_linear_slow? */
static bool segment_is_fast(const struct cpu *cpu, const struct cpu_segment *seg)
{
	if (seg->unusable || !seg->present || seg->limit != 0xffffffff)
		return false;
	if (!is_protected(cpu))
		return true;
	return !(seg->type & TYPE_CODE) && !(seg->type & TYPE_DOWN) && (seg->type & TYPE_WRITABLE);
}

static uint8_t mode_bits(const struct cpu *cpu)
{
	const struct cpu_segment *cs = &cpu->s.seg[CPU_CS];

	if ((cpu->s.efer & EFER_LMA) && cs->l)
		return MODE_BITS_64;
	return cs->db && !(cpu->s.rflags & RFLAGS_VM) ? MODE_BITS_32 : MODE_BITS_16;
}

void mode_update(struct cpu *cpu)
{
	uint64_t old_base = cpu->seg_base[CPU_CS], old_mask = cpu->lin_mask;
	uint8_t mode = mode_bits(cpu), fast = 0;
	bool is_64 = mode == MODE_BITS_64;

	cpu->cpl = !(cpu->s.cr0 & CR0_PE) ? 0 : cpu->s.rflags & RFLAGS_VM ? 3 : cpu->s.seg[CPU_SS].dpl;
	if (cpu->cpl == 3)
		mode |= MODE_USER;
	if (cpu->s.seg[CPU_SS].db)
		mode |= MODE_SS32;
	if (is_protected(cpu))
		mode |= MODE_PROT;
	if ((cpu->s.cr0 & CR0_PE) && (cpu->s.rflags & RFLAGS_VM))
		mode |= MODE_V86;
	cpu->mode = mode;
	cpu->lin_mask = is_64 ? ~UINT64_C(0) : 0xffffffffu;
	for (unsigned i = CPU_ES; i <= CPU_GS; i++) {
		const struct cpu_segment *seg = &cpu->s.seg[i];

		cpu->seg_base[i] = is_64 && i < CPU_FS ? 0 : seg->base;
		if (is_64 || segment_is_fast(cpu, seg))
			fast |= (uint8_t)(1u << i);
	}
	cpu->seg_fast = fast;
	/* A block is found by its RIP, and the same RIP leads elsewhere now. Validating a block checks the limit. */
	if (old_base != cpu->seg_base[CPU_CS] || old_mask != cpu->lin_mask ||
	    (!is_64 && cpu->p->cs_limit != cpu->s.seg[CPU_CS].limit)) {
		code_gen_next(cpu);
		cpu->p->cs_limit = cpu->s.seg[CPU_CS].limit;
	}
	tlb_tag_update(cpu);
}

/* ---- access -------------------------------------------------------------------------------------------- */

static _Noreturn void segment_fault(struct cpu *cpu, unsigned seg)
{
	cpu_raise_error(cpu, seg == CPU_SS ? VECTOR_SS : VECTOR_GP, 0);
}

uint64_t seg_linear_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, bool write)
{
	const struct cpu_segment *s = &cpu->s.seg[seg];
	uint64_t last = offset + size - 1;
	bool down = false;

	if (cpu->mode & MODE_PROT) {
		if (s->unusable || !s->present)
			segment_fault(cpu, seg);
		if (write && ((s->type & TYPE_CODE) || !(s->type & TYPE_WRITABLE)))
			segment_fault(cpu, seg);
		if ((s->type & TYPE_CODE) && !(s->type & TYPE_WRITABLE))
			segment_fault(cpu, seg);
		down = !(s->type & TYPE_CODE) && (s->type & TYPE_DOWN);
	}
	if (down) {
		if (offset <= s->limit || last > (s->db ? 0xffffffffu : 0xffffu))
			segment_fault(cpu, seg);
	} else if (last > s->limit) {
		segment_fault(cpu, seg);
	}
	return (cpu->seg_base[seg] + offset) & cpu->lin_mask;
}

uint64_t level_read(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size)
{
	return cpl == 3 ? mem_read(cpu, linear & cpu->lin_mask, size) : sys_read(cpu, linear, size);
}

void level_write(struct cpu *cpu, unsigned cpl, uint64_t linear, unsigned size, uint64_t value)
{
	if (cpl == 3)
		mem_write(cpu, linear & cpu->lin_mask, size, value);
	else
		sys_write(cpu, linear, size, value);
}

/* ---- descriptors --------------------------------------------------------------------------------------- */

uint32_t selector_error(struct cpu *cpu, uint16_t selector)
{
	return (selector & 0xfffcu) | (cpu->p->delivering_external ? 1 : 0);
}

/* Where a selector's descriptor is. Returns: false when it is outside its table. */
static bool descriptor_address(struct cpu *cpu, uint16_t selector, uint64_t *linear)
{
	const struct cpu_segment *ldt = &cpu->s.seg[CPU_LDTR];
	unsigned offset = selector & 0xfff8u;

	if (selector & 4) {
		if (ldt->unusable || offset + 7 > ldt->limit)
			return false;
		*linear = ldt->base + offset;
		return true;
	}
	*linear = cpu->s.gdt.base + offset;
	return offset + 7 <= cpu->s.gdt.limit;
}

bool descriptor_read(struct cpu *cpu, uint16_t selector, uint64_t *descriptor)
{
	uint64_t linear;

	if (!descriptor_address(cpu, selector, &linear))
		return false;
	*descriptor = sys_read(cpu, linear, 8);
	return true;
}

void descriptor_accessed(struct cpu *cpu, uint16_t selector, uint64_t *descriptor)
{
	uint64_t linear;

	if ((*descriptor >> 40 & TYPE_ACCESSED) || !descriptor_address(cpu, selector, &linear))
		return;
	*descriptor |= (uint64_t)TYPE_ACCESSED << 40;
	sys_write(cpu, linear + 5, 1, *descriptor >> 40);
}

struct cpu_segment descriptor_segment(uint16_t selector, uint64_t d)
{
	struct cpu_segment s = {
		.base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000),
		.limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000)),
		.selector = selector,
		.type = d >> 40 & 15,
		.s = d >> 44 & 1,
		.dpl = d >> 45 & 3,
		.present = d >> 47 & 1,
		.avl = d >> 52 & 1,
		.l = d >> 53 & 1,
		.db = d >> 54 & 1,
		.g = d >> 55 & 1,
	};

	if (s.g)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static void seg_null(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct cpu_segment *s = &cpu->s.seg[seg];

	*s = (struct cpu_segment){ .selector = selector, .unusable = 1 };
	if (seg == CPU_SS)
		s->dpl = selector & 3; /* the CPL is read from the DPL of SS */
	mode_update(cpu);
}

void seg_load_real(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	struct cpu_segment *s = &cpu->s.seg[seg];

	s->selector = selector;
	s->base = (uint32_t)selector << 4;
	if (cpu->s.rflags & RFLAGS_VM && (cpu->s.cr0 & CR0_PE)) {
		s->limit = 0xffff;
		s->dpl = 3;
	}
	s->present = s->s = 1;
	s->unusable = 0;
	s->type = 3;
	s->db = s->l = s->g = 0;
	mode_update(cpu);
}

struct cpu_segment stack_segment(struct cpu *cpu, uint16_t selector, unsigned cpl, enum cpu_vector fault)
{
	struct cpu_segment s;
	uint64_t d;

	if ((selector & 0xfffc) == 0 || (selector & 3) != cpl || !descriptor_read(cpu, selector, &d))
		cpu_raise_error(cpu, fault, selector_error(cpu, selector));
	s = descriptor_segment(selector, d);
	if (!s.s || s.dpl != cpl || (s.type & (TYPE_CODE | TYPE_WRITABLE)) != TYPE_WRITABLE)
		cpu_raise_error(cpu, fault, selector_error(cpu, selector));
	if (!s.present)
		cpu_raise_error(cpu, VECTOR_SS, selector_error(cpu, selector));
	descriptor_accessed(cpu, selector, &d);
	s.type |= TYPE_ACCESSED;
	return s;
}

void stack_room_check(struct cpu *cpu, const struct cpu_segment *ss, uint64_t sp, unsigned size, unsigned count,
                      uint32_t error)
{
	uint64_t most = ss->db ? 0xffffffffu : 0xffffu;
	bool down = ss->type & TYPE_DOWN, bad = false;

	/* A task that faults before its SS is loaded has none to check. Under a KVM its handler is reached, too. */
	if (likely(!down && ss->limit == 0xffffffff) || ss->unusable)
		return;
	for (unsigned i = 0; i < count && !bad; i++) {
		uint64_t last;

		sp = (sp - size) & most;
		last = sp + size - 1;
		bad = down ? sp <= ss->limit || last > most : last > ss->limit;
	}
	if (bad)
		cpu_raise_error(cpu, VECTOR_SS, error);
}

static void load_data(struct cpu *cpu, unsigned seg, uint16_t selector, enum cpu_vector fault)
{
	uint32_t error = selector_error(cpu, selector);
	struct cpu_segment s;
	uint64_t d;
	bool conforming;

	if (!descriptor_read(cpu, selector, &d))
		cpu_raise_error(cpu, fault, error);
	s = descriptor_segment(selector, d);
	conforming = (s.type & TYPE_CODE) && (s.type & TYPE_CONFORMING);
	if (!s.s || ((s.type & TYPE_CODE) && !(s.type & TYPE_WRITABLE)))
		cpu_raise_error(cpu, fault, error);
	if (!conforming && ((selector & 3) > s.dpl || cpu->cpl > s.dpl))
		cpu_raise_error(cpu, fault, error);
	if (!s.present)
		cpu_raise_error(cpu, VECTOR_NP, error);
	descriptor_accessed(cpu, selector, &d);
	s.type |= TYPE_ACCESSED;
	cpu->s.seg[seg] = s;
	mode_update(cpu);
}

void seg_load_task(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	if ((selector & 0xfffc) == 0)
		seg_null(cpu, seg, selector);
	else
		load_data(cpu, seg, selector, VECTOR_TS);
}

void seg_load(struct cpu *cpu, unsigned seg, uint16_t selector)
{
	if (!(cpu->mode & MODE_PROT)) {
		seg_load_real(cpu, seg, selector);
		return;
	}
	if (seg != CPU_SS) {
		if ((selector & 0xfffc) == 0)
			seg_null(cpu, seg, selector);
		else
			load_data(cpu, seg, selector, VECTOR_GP);
		return;
	}
	if ((selector & 0xfffc) == 0) {
		if (!cpu_is_64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl)
			cpu_gp(cpu);
		seg_null(cpu, seg, selector);
		return;
	}
	cpu->s.seg[CPU_SS] = stack_segment(cpu, selector, cpu->cpl, VECTOR_GP);
	mode_update(cpu);
}

void seg_drop_inner(struct cpu *cpu, unsigned cpl)
{
	static const uint8_t data[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };

	for (unsigned i = 0; i < sizeof(data); i++) {
		struct cpu_segment *s = &cpu->s.seg[data[i]];
		bool conforming = (s->type & TYPE_CODE) && (s->type & TYPE_CONFORMING);

		/* The base stays: 64-bit code goes on using those of FS and GS. */
		if (!s->unusable && !conforming && s->dpl < cpl)
			*s = (struct cpu_segment){ .base = s->base, .unusable = 1 };
	}
}
