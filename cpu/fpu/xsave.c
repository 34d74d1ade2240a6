/* SPDX-License-Identifier: MIT */
/*
 * XSAVE XSAVEOPT XSAVEC XSAVES, XRSTOR XRSTORS: Intel SDM vol. 1, 13.7 to 13.12.
 *
 * What the processor may leave out as unchanged since the last XRSTOR is stored all the same: only a program that
 * writes to the area meanwhile could see that.
 */
#include "cpu/base/mxcsr.h"
#include "cpu/fpu/x87.h"
#include "cpu/memory/mem.h"
#include "cpu/memory/tlb.h"
#include "cpu/system/components.h"

#define FXSR_X87_A 24u /* the control words and pointers */
#define FXSR_MXCSR 24u
#define FXSR_ST    32u /* the registers */

/* op->sub */
enum { FORM_XSAVE, FORM_XSAVEOPT, FORM_XSAVEC, FORM_XSAVES, FORM_XRSTOR, FORM_XRSTORS };
#define FORM 0x0fu
#define WIDE 0x10u /* with REX.W: x87 pointers of 64 bits */

struct header {
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};

static const uint64_t x87_bit = XSTATE_BIT(XSTATE_X87), sse_bit = XSTATE_BIT(XSTATE_SSE);
static const uint64_t mxcsr_bits = XSTATE_BIT(XSTATE_SSE) | XSTATE_BIT(XSTATE_AVX);

static bool is_supervisor(const struct op *op)
{
	return (op->sub & FORM) == FORM_XSAVES || (op->sub & FORM) == FORM_XRSTORS;
}

/* The components that the instruction may name. */
static uint64_t enabled(const struct cpu *cpu, const struct op *op)
{
	return is_supervisor(op) ? cpu->s.xcr0 | cpu->s.xss : cpu->s.xcr0;
}

/* RFBM: those that it names. */
static uint64_t requested(const struct cpu *cpu, const struct op *op)
{
	return ((uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32) & enabled(cpu, op);
}

static unsigned registers_reached(const struct cpu *cpu)
{
	return cpu_is_64(cpu) ? 16 : 8;
}

static uint64_t area_address(struct cpu *cpu, const struct op *op, unsigned bytes, bool write)
{
	uint64_t linear;

	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	if (cpu->s.cr0 & CR0_TS)
		cpu_raise(cpu, VECTOR_NM);
	if (is_supervisor(op) && cpu->cpl != 0)
		cpu_gp(cpu);
	linear = op_linear(cpu, op, bytes, write);
	if (linear & 63)
		cpu_gp(cpu);
	return linear;
}

/* ---- XSAVE --------------------------------------------------------------------------------------------- */

static void x87_store(struct cpu *cpu, const struct op *op, uint64_t linear)
{
	struct cpu_fx fx = cpu->s.fx;

	if (!(op->sub & WIDE))
		x87_pointers_shorten(&fx);
	mem_write_bytes(cpu, linear, &fx, FXSR_X87_A);
	mem_write_bytes(cpu, linear + FXSR_ST, fx.st, sizeof(fx.st));
}

/* The components of `which`, but x87. */
static void components_store(struct cpu *cpu, uint64_t linear, uint64_t which, uint64_t xcomp_bv)
{
	uint8_t image[XSTATE_BYTES_MOST];

	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		if (!(which & XSTATE_BIT(i)))
			continue;
		component_get(&cpu->s, i, registers_reached(cpu), image);
		mem_write_bytes(cpu, linear + component_offset(i, xcomp_bv), image,
		                component_bytes(i, registers_reached(cpu)));
	}
}

/*
 * A fault in the middle leaves part of the area written. The header comes last, and the instruction finds everything
 * as it was when it runs again.
 */
static void area_store(struct cpu *cpu, const struct op *op, uint64_t linear, uint64_t which, bool mxcsr,
                       const struct header *header)
{
	mem_check_write(cpu, linear, XSAVE_EXTENDED);
	components_store(cpu, linear, which, header->xcomp_bv);
	if (which & x87_bit)
		x87_store(cpu, op, linear);
	if (mxcsr)
		mem_write(cpu, linear + FXSR_MXCSR, 8, cpu->s.fx.mxcsr | (uint64_t)cpu->s.fx.mxcsr_mask << 32);
	mem_write_bytes(cpu, linear + XSAVE_HEADER, header, header->xcomp_bv ? 16 : 8);
}

/* XSAVE and XSAVEOPT. */
static void op_xsave(struct cpu *cpu, const struct op *op)
{
	uint64_t rfbm = requested(cpu, op), used;
	uint64_t linear = area_address(cpu, op, xstate_bytes(rfbm, false), true);
	struct header header = { .xstate_bv = mem_read(cpu, linear + XSAVE_HEADER, 8) & ~rfbm };

	x87_unload(cpu);
	mxcsr_fold(cpu);
	used = components_in_use(&cpu->s) & rfbm;
	header.xstate_bv |= used;
	area_store(cpu, op, linear, (op->sub & FORM) == FORM_XSAVE ? rfbm : used, rfbm & mxcsr_bits, &header);
}

/* XSAVEC and XSAVES. MXCSR belongs to SSE. */
static void op_xsavec(struct cpu *cpu, const struct op *op)
{
	uint64_t rfbm = requested(cpu, op), used;
	uint64_t linear = area_address(cpu, op, xstate_bytes(rfbm, true), true);
	struct header header = { .xcomp_bv = rfbm | XSAVE_COMPACTED };

	x87_unload(cpu);
	mxcsr_fold(cpu);
	used = components_in_use(&cpu->s);
	if (cpu->s.fx.mxcsr != MXCSR_INIT)
		used |= sse_bit;
	header.xstate_bv = used & rfbm;
	area_store(cpu, op, linear, header.xstate_bv, header.xstate_bv & sse_bit, &header);
}

/* ---- XRSTOR -------------------------------------------------------------------------------------------- */

/* What is to become of the state: nothing of it changes before all of this is read. */
struct image {
	struct cpu_fx fx;
	uint8_t bytes[256 + 256 + 64 + 512 + 1024 + 8]; /* components from SSE on that are loaded, in their order */
};

static void header_check(struct cpu *cpu, const struct op *op, const struct header *header)
{
	uint64_t there = enabled(cpu, op), reserved = header->reserved[0];

	if (header->xcomp_bv & XSAVE_COMPACTED) {
		if (header->xcomp_bv & ~(there | XSAVE_COMPACTED))
			cpu_gp(cpu);
		there = header->xcomp_bv & ~XSAVE_COMPACTED;
		for (unsigned i = 1; i < 6; i++)
			reserved |= header->reserved[i];
	} else if (header->xcomp_bv || is_supervisor(op)) {
		cpu_gp(cpu);
	}
	if ((header->xstate_bv & ~there) || reserved)
		cpu_gp(cpu);
}

static void components_read(struct cpu *cpu, uint64_t linear, uint64_t which, uint64_t xcomp_bv, uint8_t *to)
{
	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		unsigned bytes;

		if (!(which & XSTATE_BIT(i)))
			continue;
		bytes = component_bytes(i, registers_reached(cpu));
		mem_read_bytes(cpu, linear + component_offset(i, xcomp_bv), to, bytes);
		to += bytes;
	}
}

/* Those of `which` get what was read for those of `load`; the others become initial. */
static void components_load(struct cpu *cpu, uint64_t which, uint64_t load, const uint8_t *from)
{
	for (unsigned i = XSTATE_SSE; i < XSTATE_COUNT; i++) {
		if (!(which & XSTATE_BIT(i)))
			continue;
		component_set(&cpu->s, i, registers_reached(cpu), load & XSTATE_BIT(i) ? from : NULL);
		if (load & XSTATE_BIT(i))
			from += component_bytes(i, registers_reached(cpu));
	}
}

static void x87_take(struct cpu *cpu, const struct op *op, const struct cpu_fx *from)
{
	struct cpu_fx *fx = &cpu->s.fx;

	memcpy(fx, from, FXSR_X87_A);
	memcpy(fx->st, from->st, sizeof(fx->st));
	if (!(op->sub & WIDE))
		x87_pointers_shorten(fx);
	x87_normalize(fx);
}

static void op_xrstor(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = area_address(cpu, op, XSAVE_EXTENDED, false), rfbm = requested(cpu, op), load;
	uint32_t pkru = cpu->s.pkru;
	bool compacted, mxcsr;
	struct header header;
	struct image image;

	mem_read_bytes(cpu, linear + XSAVE_HEADER, &header, sizeof(header));
	header_check(cpu, op, &header);
	load = rfbm & header.xstate_bv;
	compacted = header.xcomp_bv & XSAVE_COMPACTED;
	mxcsr = compacted ? load & sse_bit : rfbm & mxcsr_bits;
	(void)op_linear(cpu, op, xstate_bytes(compacted ? header.xcomp_bv & ~XSAVE_COMPACTED : rfbm, compacted), false);
	if ((load & x87_bit) || mxcsr)
		mem_read_bytes(cpu, linear, &image.fx, sizeof(image.fx));
	if (mxcsr && (image.fx.mxcsr & MXCSR_RESERVED))
		cpu_gp(cpu);
	components_read(cpu, linear, load, header.xcomp_bv, image.bytes);
	/* Nothing faults from here on. */
	x87_unload(cpu);
	mxcsr_fold(cpu);
	if (load & x87_bit)
		x87_take(cpu, op, &image.fx);
	else if (rfbm & x87_bit)
		x87_component_reset(&cpu->s.fx);
	if (mxcsr)
		cpu->s.fx.mxcsr = image.fx.mxcsr;
	else if (rfbm & sse_bit)
		cpu->s.fx.mxcsr = MXCSR_INIT;
	mxcsr_load(cpu);
	components_load(cpu, rfbm, load, image.bytes);
	if (cpu->s.pkru != pkru)
		tlb_flush(cpu);
	cpu->s.rip = (op->rip + op->len) & cpu->lin_mask;
}

/* ---- selection ----------------------------------------------------------------------------------------- */

static op_fn *saves(struct op *op, unsigned form, op_fn *fn)
{
	op->sub = (uint8_t)form;
	return fn;
}

/* PKRU changes what the following bytes' pages allow. */
static op_fn *restores(struct op *op, unsigned form)
{
	op->sub = (uint8_t)form;
	op->flags |= OPF_END;
	return op_xrstor;
}

op_fn *fpu_xsave_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_XSAVE: return saves(op, FORM_XSAVE, op_xsave);
	case ZYDIS_MNEMONIC_XSAVE64: return saves(op, FORM_XSAVE | WIDE, op_xsave);
	case ZYDIS_MNEMONIC_XSAVEOPT: return saves(op, FORM_XSAVEOPT, op_xsave);
	case ZYDIS_MNEMONIC_XSAVEOPT64: return saves(op, FORM_XSAVEOPT | WIDE, op_xsave);
	case ZYDIS_MNEMONIC_XSAVEC: return saves(op, FORM_XSAVEC, op_xsavec);
	case ZYDIS_MNEMONIC_XSAVEC64: return saves(op, FORM_XSAVEC | WIDE, op_xsavec);
	case ZYDIS_MNEMONIC_XSAVES: return saves(op, FORM_XSAVES, op_xsavec);
	case ZYDIS_MNEMONIC_XSAVES64: return saves(op, FORM_XSAVES | WIDE, op_xsavec);
	case ZYDIS_MNEMONIC_XRSTOR: return restores(op, FORM_XRSTOR);
	case ZYDIS_MNEMONIC_XRSTOR64: return restores(op, FORM_XRSTOR | WIDE);
	case ZYDIS_MNEMONIC_XRSTORS: return restores(op, FORM_XRSTORS);
	case ZYDIS_MNEMONIC_XRSTORS64: return restores(op, FORM_XRSTORS | WIDE);
	default: return NULL;
	}
}
