/* SPDX-License-Identifier: MIT */
/*
 * x87 and SSE state in memory: FLDENV FNSTENV FNSAVE FRSTOR, FXSAVE FXRSTOR, LDMXCSR STMXCSR.
 *
 * The selectors of the last x87 instruction and of its operand are not kept. They read as 0, and CPUID says so (leaf
 * 7, EBX bit 13).
 */
#include "cpu/base/mxcsr.h"
#include "cpu/fpu/x87.h"

#define FXSR_XMM 160u

/* ---- the environment ----------------------------------------------------------------------------------- */

#define ENV_WORDS 7u /* of 2 or 4 bytes */
#define ST_BYTES  10u

enum { ENV_FCW, ENV_FSW, ENV_TAGS, ENV_FIP, ENV_FCS, ENV_FDP, ENV_FDS };
enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static unsigned register_tag(const uint8_t st[ST_BYTES])
{
	uint64_t fraction;
	uint16_t exponent;

	memcpy(&fraction, st, 8);
	memcpy(&exponent, st + 8, 2);
	exponent &= 0x7fff;
	if (exponent == 0 && fraction == 0)
		return TAG_ZERO;
	return exponent == 0 || exponent == 0x7fff || !(fraction >> 63) ? TAG_SPECIAL : TAG_VALID;
}

/* The full tag word: two bits for each physical register. The registers of the image are in stack order. */
static uint16_t tags_get(const struct cpu_fx *fx)
{
	unsigned top = fx->fsw >> 11 & 7, tags = 0;

	for (unsigned i = 0; i < 8; i++)
		tags |= (fx->ftw >> i & 1 ? register_tag(fx->st[(i - top) & 7]) : TAG_EMPTY) << 2 * i;
	return (uint16_t)tags;
}

static uint8_t tags_abridge(uint16_t tags)
{
	unsigned ftw = 0;

	for (unsigned i = 0; i < 8; i++)
		ftw |= (unsigned)((tags >> 2 * i & 3) != TAG_EMPTY) << i;
	return (uint8_t)ftw;
}

/* In real mode: the word with the upper bits of a pointer, and with the opcode if it is the instruction's. */
static uint32_t real_high(uint64_t pointer, unsigned fop)
{
	return (uint32_t)(pointer >> 16 & 0xffff) << 12 | (fop & 0x7ff);
}

static unsigned env_unit(const struct op *op)
{
	return op->osize == 2 ? 2 : 4;
}

/* Returns: how many bytes were written. */
static unsigned env_put(const struct cpu *cpu, unsigned unit, uint8_t *to)
{
	const struct cpu_fx *fx = &cpu->s.fx;
	const uint32_t high = 0xffff0000; /* of words whose lower half alone has a meaning */
	uint32_t word[ENV_WORDS] = {
		[ENV_FCW] = high | fx->fcw, [ENV_FSW] = high | fx->fsw, [ENV_TAGS] = high | tags_get(fx),
		[ENV_FIP] = (uint32_t)fx->fip, [ENV_FCS] = (uint32_t)fx->fop << 16, [ENV_FDP] = (uint32_t)fx->fdp,
		[ENV_FDS] = high,
	};

	if (!(cpu->mode & MODE_PROT)) {
		word[ENV_FIP] |= high;
		word[ENV_FCS] = real_high(fx->fip, fx->fop);
		word[ENV_FDP] |= high;
		word[ENV_FDS] = real_high(fx->fdp, 0);
	}
	for (unsigned i = 0; i < ENV_WORDS; i++)
		memcpy(to + i * unit, &word[i], unit);
	return ENV_WORDS * unit;
}

static void env_take(const struct cpu *cpu, unsigned unit, const uint8_t *from, struct cpu_fx *fx)
{
	uint32_t word[ENV_WORDS] = { 0 };

	for (unsigned i = 0; i < ENV_WORDS; i++)
		memcpy(&word[i], from + i * unit, unit);
	fx->fcw = x87_control((uint16_t)word[ENV_FCW]);
	fx->fsw = x87_status((uint16_t)word[ENV_FSW], fx->fcw);
	fx->ftw = tags_abridge((uint16_t)word[ENV_TAGS]);
	fx->fip = word[ENV_FIP];
	fx->fdp = word[ENV_FDP];
	fx->fop = word[ENV_FCS] >> 16 & 0x7ff;
	if (!(cpu->mode & MODE_PROT)) {
		fx->fip = (word[ENV_FIP] & 0xffff) | (word[ENV_FCS] >> 12 & 0xffff) << 16;
		fx->fdp = (word[ENV_FDP] & 0xffff) | (word[ENV_FDS] >> 12 & 0xffff) << 16;
		fx->fop = word[ENV_FCS] & 0x7ff;
	}
}

static void op_fnstenv(struct cpu *cpu, const struct op *op)
{
	uint8_t image[ENV_WORDS * 4];
	unsigned bytes;

	x87_check(cpu);
	x87_no_device(cpu);
	x87_unload(cpu);
	bytes = env_put(cpu, env_unit(op), image);
	mem_write_bytes(cpu, op_linear(cpu, op, bytes, true), image, bytes);
	cpu->s.fx.fcw |= FSW_EVENTS;
	cpu->s.fx.fsw = x87_status(cpu->s.fx.fsw, cpu->s.fx.fcw);
}

static void op_fldenv(struct cpu *cpu, const struct op *op)
{
	unsigned unit = env_unit(op), top;
	uint8_t image[ENV_WORDS * 4];
	struct cpu_fx fx, old;

	x87_wait(cpu);
	x87_no_device(cpu);
	mem_read_bytes(cpu, op_linear(cpu, op, ENV_WORDS * unit, false), image, ENV_WORDS * unit);
	x87_unload(cpu);
	old = fx = cpu->s.fx;
	env_take(cpu, unit, image, &fx);
	/* The physical registers keep their values; the top of the stack moves. */
	top = ((unsigned)fx.fsw >> 11) - ((unsigned)old.fsw >> 11);
	for (unsigned i = 0; i < 8; i++)
		memcpy(fx.st[i], old.st[(i + top) & 7], sizeof(fx.st[i]));
	cpu->s.fx = fx;
}

static void op_fnsave(struct cpu *cpu, const struct op *op)
{
	uint8_t image[ENV_WORDS * 4 + 8 * ST_BYTES];
	unsigned bytes;

	x87_check(cpu);
	x87_no_device(cpu);
	x87_unload(cpu);
	bytes = env_put(cpu, env_unit(op), image);
	for (unsigned i = 0; i < 8; i++, bytes += ST_BYTES)
		memcpy(image + bytes, cpu->s.fx.st[i], ST_BYTES);
	mem_write_bytes(cpu, op_linear(cpu, op, bytes, true), image, bytes);
	x87_init(cpu);
}

static void op_frstor(struct cpu *cpu, const struct op *op)
{
	unsigned unit = env_unit(op), bytes = ENV_WORDS * unit + 8 * ST_BYTES;
	uint8_t image[ENV_WORDS * 4 + 8 * ST_BYTES];

	x87_wait(cpu);
	x87_no_device(cpu);
	mem_read_bytes(cpu, op_linear(cpu, op, bytes, false), image, bytes);
	x87_unload(cpu);
	env_take(cpu, unit, image, &cpu->s.fx);
	for (unsigned i = 0; i < 8; i++) {
		memset(cpu->s.fx.st[i], 0, sizeof(cpu->s.fx.st[i]));
		memcpy(cpu->s.fx.st[i], image + ENV_WORDS * unit + i * ST_BYTES, ST_BYTES);
	}
}

/* ---- FXSAVE -------------------------------------------------------------------------------------------- */

static void sse_state_check(struct cpu *cpu)
{
	if (cpu->s.cr0 & CR0_EM)
		cpu_ud(cpu);
	if (cpu->s.cr0 & CR0_TS)
		cpu_raise(cpu, VECTOR_NM);
}

/* The operand of FXSAVE and FXRSTOR, which is aligned, and how much of it they use: XMM8-15 in 64-bit mode only. */
static uint64_t fxsave_address(struct cpu *cpu, const struct op *op, bool write)
{
	uint64_t linear;

	sse_state_check(cpu);
	linear = op_linear(cpu, op, 512, write);
	/* Not as for moves of vectors, where the alignment comes first. */
	if (unlikely(!canonical(cpu, linear)) && op->seg == CPU_SS)
		cpu_raise_error(cpu, VECTOR_SS, 0);
	if (linear & 15)
		cpu_gp(cpu);
	return linear;
}

static unsigned xmm_count(const struct cpu *cpu)
{
	return cpu_is_64(cpu) ? 16 : 8;
}

static unsigned fxsave_bytes(const struct cpu *cpu)
{
	return FXSR_XMM + 16 * xmm_count(cpu);
}

/* What FXSAVE stores. */
static void image_get(struct cpu *cpu, const struct op *op, struct cpu_fxsave *image)
{
	memset(image, 0, sizeof(*image));
	x87_unload(cpu);
	mxcsr_fold(cpu);
	image->fx = cpu->s.fx;
	image->fx.mxcsr_mask = 0xffff;
	for (unsigned i = 0; i < 16; i++)
		memcpy(image->xmm[i], cpu_xmm(cpu, i), sizeof(image->xmm[i]));
	if (op->sub == 0)
		x87_pointers_shorten(&image->fx);
}

static void op_fxsave(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = fxsave_address(cpu, op, true);
	struct cpu_fxsave image;

	/* All of the operand must be there, also what is not written. AMD's processors try the last byte first. */
	mem_check_write(cpu, linear + sizeof(image) - 1, 1);
	mem_check_write(cpu, linear, sizeof(image));
	image_get(cpu, op, &image);
	mem_write_bytes(cpu, linear, &image, fxsave_bytes(cpu));
}

static void op_fxrstor(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = fxsave_address(cpu, op, false);
	struct cpu_fxsave image;

	mem_check_read(cpu, linear, sizeof(image));
	mem_read_bytes(cpu, linear, &image, fxsave_bytes(cpu));
	if (image.fx.mxcsr & ~0xffffu)
		cpu_gp(cpu);
	image.fx.mxcsr_mask = 0xffff;
	if (op->sub == 0)
		x87_pointers_shorten(&image.fx);
	x87_normalize(&image.fx);
	x87_unload(cpu);
	cpu->s.fx = image.fx;
	mxcsr_load(cpu);
	for (unsigned i = 0; i < xmm_count(cpu); i++)
		memcpy(cpu_xmm(cpu, i), image.xmm[i], sizeof(image.xmm[i]));
}

void mxcsr_read(struct cpu *cpu, const struct op *op)
{
	uint32_t value = (uint32_t)mem_read(cpu, op_linear(cpu, op, 4, false), 4);

	if (value & ~0xffffu)
		cpu_gp(cpu);
	cpu->s.fx.mxcsr = value;
	mxcsr_load(cpu);
}

void mxcsr_write(struct cpu *cpu, const struct op *op)
{
	mxcsr_fold(cpu);
	mem_write(cpu, op_linear(cpu, op, 4, true), 4, cpu->s.fx.mxcsr);
}

static void op_ldmxcsr(struct cpu *cpu, const struct op *op)
{
	cpu_sse_check(cpu);
	mxcsr_read(cpu, op);
}

static void op_stmxcsr(struct cpu *cpu, const struct op *op)
{
	cpu_sse_check(cpu);
	mxcsr_write(cpu, op);
}

/* ---- selection ----------------------------------------------------------------------------------------- */

/* `wide`: with REX.W. */
static op_fn *with_pointers(struct op *op, bool wide, op_fn *fn)
{
	op->sub = wide;
	return fn;
}

op_fn *fpu_image_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_FLDENV: return op_fldenv;
	case ZYDIS_MNEMONIC_FNSTENV: return op_fnstenv;
	case ZYDIS_MNEMONIC_FNSAVE: return op_fnsave;
	case ZYDIS_MNEMONIC_FRSTOR: return op_frstor;
	case ZYDIS_MNEMONIC_FXSAVE: return with_pointers(op, false, op_fxsave);
	case ZYDIS_MNEMONIC_FXSAVE64: return with_pointers(op, true, op_fxsave);
	case ZYDIS_MNEMONIC_FXRSTOR: return with_pointers(op, false, op_fxrstor);
	case ZYDIS_MNEMONIC_FXRSTOR64: return with_pointers(op, true, op_fxrstor);
	case ZYDIS_MNEMONIC_LDMXCSR: return op_ldmxcsr;
	case ZYDIS_MNEMONIC_STMXCSR: return op_stmxcsr;
	default: return NULL;
	}
}
