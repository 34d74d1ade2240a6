/* SPDX-License-Identifier: MIT */
/*
 * x87 and the saving of x87 and SSE state.
 *
 * x87 arithmetic is done by the host's own x87, on x86 hosts: the guest's state goes in by FXRSTOR, the one instruction runs with its memory
 * operand in a buffer, and the state comes back by FXSAVE. All exceptions are masked meanwhile; those that the guest has unmasked
 * become pending afterwards, as #MF at the next waiting instruction. Other hosts: CPU_ERROR_EMULATION.
 */
#include "cpu/insn.h"
#include "cpu/run_int.h"

#define FSW_ES     0x0080u
#define FSW_B      0x8000u
#define FXSR_X87_A 24u  /* the control words and pointers */
#define FXSR_ST    32u  /* the registers */
#define FXSR_XMM   160u
#define XSAVE_X87  1u
#define XSAVE_SSE  2u


/* ---- availability ------------------------------------------------------------------------------------------------ */

static void x87_check(struct cpu *cpu)
{
	if (unlikely(cpu->s.cr0 & (CR0_EM | CR0_TS)))
		cpu_raise(cpu, VECTOR_NM);
}

/* An instruction that waits: an unmasked exception that is pending comes now. */
static void x87_wait(struct cpu *cpu)
{
	x87_check(cpu);
	if (unlikely(cpu->s.fx.fsw & ~cpu->s.fx.fcw & 0x3f))
		cpu_raise(cpu, VECTOR_MF);
}

static void sse_state_check(struct cpu *cpu)
{
	if (cpu->s.cr0 & CR0_EM)
		cpu_ud(cpu);
	if (cpu->s.cr0 & CR0_TS)
		cpu_raise(cpu, VECTOR_NM);
}

/* As KVM's emulator: no x87 on devices but FNSTCW and FNSTSW. */
static void no_device(struct cpu *cpu)
{
	if (unlikely(cpu->p->armed_count != 0))
		cpu_unimplemented(cpu);
}

/* ---- control ------------------------------------------------------------------------------------------------------- */

static void op_fninit(struct cpu *cpu, const struct op *op)
{
	struct cpu_fxsave *fx = &cpu->s.fx;

	(void)op;
	x87_check(cpu);
	x87_top_clear(cpu);
	fx->fcw = 0x37f;
	fx->fsw = 0;
	fx->ftw = 0;
	fx->fop = 0;
	fx->fip = fx->fdp = 0;
}

static void op_fnclex(struct cpu *cpu, const struct op *op)
{
	(void)op;
	x87_check(cpu);
	cpu->s.fx.fsw &= 0x7f00;
}

static void op_fldcw(struct cpu *cpu, const struct op *op)
{
	uint16_t fcw;

	x87_wait(cpu);
	no_device(cpu);
	fcw = (uint16_t)mem_read(cpu, op_linear(cpu, op, 2, false), 2);
	cpu->s.fx.fcw = (fcw & 0x1f3f) | 0x40;
}

static void op_fnstcw(struct cpu *cpu, const struct op *op)
{
	x87_check(cpu);
	mem_write(cpu, op_linear(cpu, op, 2, true), 2, cpu->s.fx.fcw);
}

static uint16_t status_word(const struct cpu *cpu)
{
	uint16_t fsw = cpu->s.fx.fsw & (uint16_t)~(FSW_ES | FSW_B);

	return fsw & ~cpu->s.fx.fcw & 0x3f ? fsw | FSW_ES | FSW_B : fsw;
}

static void op_fnstsw(struct cpu *cpu, const struct op *op)
{
	x87_check(cpu);
	if (op->mem == 0)
		mem_write(cpu, op_linear(cpu, op, 2, true), 2, status_word(cpu));
	else
		reg_write(cpu, OPR(CPU_RAX), 2, status_word(cpu));
}

static void op_fwait(struct cpu *cpu, const struct op *op)
{
	(void)op;
	if ((cpu->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		cpu_raise(cpu, VECTOR_NM);
	if (cpu->s.fx.fsw & ~cpu->s.fx.fcw & 0x3f)
		cpu_raise(cpu, VECTOR_MF);
}

/* ---- arithmetic on the host ------------------------------------------------------------------------------------------ */

#if defined(__x86_64__)

/* Four bytes for each opcode D8..DF and ModRM: the instruction (memory forms: on [RDI]) and RET. */
extern const uint8_t cpu_x87_stubs[];
__asm__(".pushsection .text.cpu_x87_stubs, \"ax\", @progbits\n"
        ".balign 16\n"
        ".local cpu_x87_stubs\n"
        "cpu_x87_stubs:\n"
        ".set x87_op, 0xd8\n"
        ".rept 8\n"
        ".set x87_modrm, 0\n"
        ".rept 256\n"
        ".byte x87_op, x87_modrm, 0xc3, 0xcc\n"
        ".set x87_modrm, x87_modrm + 1\n"
        ".endr\n"
        ".set x87_op, x87_op + 1\n"
        ".endr\n"
        ".popsection\n");

/* `flags`: RFLAGS before (FCMOVcc) and after (FCOMI), arithmetic bits only. */
static void host_x87(struct cpu_fxsave *guest, const uint8_t *stub, void *memory, uint64_t *flags)
{
	struct cpu_fxsave host;

	__asm__ volatile("fxsave64 (%[host])\n\t"
	                 "fxrstor64 (%[guest])\n\t"
	                 "lea -128(%%rsp), %%rsp\n\t" /* the red zone */
	                 "push %[flags]\n\t"
	                 "popfq\n\t"
	                 "call *%[stub]\n\t"
	                 "pushfq\n\t"
	                 "pop %[flags]\n\t"
	                 "lea 128(%%rsp), %%rsp\n\t"
	                 "fxsave64 (%[guest])\n\t"
	                 "fxrstor64 (%[host])\n\t"
	                 : [flags] "+&r"(*flags)
	                 : [host] "r"(&host), [guest] "r"(guest), [stub] "r"(stub), "D"(memory)
	                 : "memory", "cc", "rax");
}

/* sub: bit 0 memory is read, bit 1 written, bit 2 the state's own image (no masking), bit 3 writes RFLAGS. imm: opcode and ModRM. */
static void op_x87(struct cpu *cpu, const struct op *op)
{
	uint8_t memory[128] __attribute__((aligned(16)));
	struct cpu_fxsave image = { .mxcsr = 0x1f80 };
	uint64_t linear = 0;
	unsigned opcode = (unsigned)op->imm >> 8 & 7, modrm = (unsigned)op->imm & 0xff;
	uint16_t fcw = cpu->s.fx.fcw;
	uint64_t flags = flags_get(cpu) | RFLAGS_FIXED1;

	x87_wait(cpu);
	no_device(cpu);
	if (op->mem != OP_NO_MEM) {
		modrm = (modrm & 0x38) | 7;
		linear = op_linear(cpu, op, op->imm2, op->sub & 2);
		if (op->sub & 1)
			mem_read_bytes(cpu, linear, memory, op->imm2);
		if (op->sub & 2)
			mem_check_write(cpu, linear, op->imm2);
	}
	memcpy(&image, &cpu->s.fx, FXSR_X87_A);
	memcpy(image.st, cpu->s.fx.st, sizeof(image.st));
	if (!(op->sub & 4))
		image.fcw |= 0x3f;
	host_x87(&image, &cpu_x87_stubs[(opcode * 256 + modrm) * 4], memory, &flags);
	if (op->sub & 8)
		flags_set(cpu, flags);
	if (op->sub & 2)
		mem_write_bytes(cpu, linear, memory, op->imm2);
	if (!(op->sub & 4)) {
		image.fcw = fcw;
		image.fip = op->rip;
		image.fdp = linear;
		image.fop = (uint16_t)(opcode << 8 | modrm);
	}
	memcpy(&cpu->s.fx, &image, FXSR_X87_A);
	memcpy(cpu->s.fx.st, image.st, sizeof(image.st));
}

static op_fn *select_x87(const struct insn *insn, struct op *op)
{
	const ZydisDecodedInstruction *z = insn->z;
	unsigned sub = 0;

	if (z->opcode < 0xd8 || z->opcode > 0xdf || z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
		return NULL;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FCOMI: case ZYDIS_MNEMONIC_FCOMIP: case ZYDIS_MNEMONIC_FUCOMI: case ZYDIS_MNEMONIC_FUCOMIP:
		sub = 8;
		break;
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FRSTOR: case ZYDIS_MNEMONIC_FNSAVE:
		if (op->osize == 2)
			return NULL;
		sub = 4;
		break;
	default:
		break;
	}
	if (op->mem != OP_NO_MEM) {
		const ZydisDecodedOperand *o = &insn->o[op->mem];

		op->imm2 = (uint8_t)(o->size / 8);
		if (op->imm2 == 0 || op->imm2 > 108)
			return NULL;
		sub |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? 1 : 0) |
		       (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? 2 : 0);
	}
	op->sub = (uint8_t)sub;
	op->flags |= OPF_X87;
	op->imm = z->opcode << 8 | z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 | z->raw.modrm.rm;
	return op_x87;
}

#else

static op_fn *select_x87(const struct insn *insn, struct op *op)
{
	(void)insn;
	(void)op;
	return NULL;
}

#endif

/* ---- saving and restoring ---------------------------------------------------------------------------------------------- */

static void op_fxsave(struct cpu *cpu, const struct op *op)
{
	unsigned bytes = cpu_is_64(cpu) ? 416 : 288;
	uint64_t linear;

	sse_state_check(cpu);
	linear = op_linear(cpu, op, 512, true);
	if (linear & 15)
		cpu_gp(cpu);
	cpu->s.fx.mxcsr_mask = 0xffff;
	mem_write_bytes(cpu, linear, &cpu->s.fx, bytes);
}

static void op_fxrstor(struct cpu *cpu, const struct op *op)
{
	unsigned bytes = cpu_is_64(cpu) ? 416 : 288;
	struct cpu_fxsave image;
	uint64_t linear;

	sse_state_check(cpu);
	linear = op_linear(cpu, op, 512, false);
	if (linear & 15)
		cpu_gp(cpu);
	memcpy(&image, &cpu->s.fx, sizeof(image));
	mem_read_bytes(cpu, linear, &image, bytes);
	if (image.mxcsr & ~0xffffu)
		cpu_gp(cpu);
	image.mxcsr_mask = 0xffff;
	memcpy(&cpu->s.fx, &image, sizeof(image));
}

static uint64_t xsave_address(struct cpu *cpu, const struct op *op, bool write)
{
	uint64_t linear;

	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		cpu_ud(cpu);
	if (cpu->s.cr0 & CR0_TS)
		cpu_raise(cpu, VECTOR_NM);
	linear = op_linear(cpu, op, 576, write);
	if (linear & 63)
		cpu_gp(cpu);
	return linear;
}

static uint64_t xsave_mask(const struct cpu *cpu)
{
	return ((uint32_t)cpu->s.gpr[CPU_RAX] | cpu->s.gpr[CPU_RDX] << 32) & cpu->s.xcr0;
}

static void op_xsave(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = xsave_address(cpu, op, true), mask = xsave_mask(cpu), have;
	const uint8_t *fx = (const uint8_t *)&cpu->s.fx;

	have = mem_read(cpu, linear + 512, 8);
	mem_check_write(cpu, linear, 520);
	cpu->s.fx.mxcsr_mask = 0xffff;
	if (mask & XSAVE_X87) {
		mem_write_bytes(cpu, linear, fx, FXSR_X87_A);
		mem_write_bytes(cpu, linear + FXSR_ST, fx + FXSR_ST, 128);
	}
	if (mask & XSAVE_SSE) {
		mem_write_bytes(cpu, linear + 24, fx + 24, 8);
		mem_write_bytes(cpu, linear + FXSR_XMM, fx + FXSR_XMM, cpu_is_64(cpu) ? 256 : 128);
	}
	mem_write(cpu, linear + 512, 8, (have & ~mask) | mask);
}

static void op_xrstor(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = xsave_address(cpu, op, false), mask = xsave_mask(cpu), have;
	struct cpu_fxsave image, now = cpu->s.fx;
	unsigned xmm = cpu_is_64(cpu) ? 256 : 128;

	have = mem_read(cpu, linear + 512, 8);
	if ((have & ~cpu->s.xcr0) || mem_read(cpu, linear + 520, 8) != 0 || mem_read(cpu, linear + 528, 8) != 0)
		cpu_gp(cpu);
	mem_read_bytes(cpu, linear, &image, 416);
	if (mask & XSAVE_SSE) {
		if (image.mxcsr & ~0xffffu)
			cpu_gp(cpu);
		now.mxcsr = image.mxcsr;
		if (have & XSAVE_SSE)
			memcpy(now.xmm, image.xmm, xmm);
		else
			memset(now.xmm, 0, xmm);
	}
	if (mask & XSAVE_X87) {
		if (have & XSAVE_X87) {
			memcpy(&now, &image, FXSR_X87_A);
			memcpy(now.st, image.st, sizeof(now.st));
		} else {
			memset(&now, 0, FXSR_X87_A);
			memset(now.st, 0, sizeof(now.st));
			now.fcw = 0x37f;
		}
	}
	cpu->s.fx = now;
}

static void op_ldmxcsr(struct cpu *cpu, const struct op *op)
{
	uint32_t value;

	cpu_sse_check(cpu);
	value = (uint32_t)mem_read(cpu, op_linear(cpu, op, 4, false), 4);
	if (value & ~0xffffu)
		cpu_gp(cpu);
	cpu->s.fx.mxcsr = value;
}

static void op_stmxcsr(struct cpu *cpu, const struct op *op)
{
	cpu_sse_check(cpu);
	mem_write(cpu, op_linear(cpu, op, 4, true), 4, cpu->s.fx.mxcsr);
}

/* ---- selection ------------------------------------------------------------------------------------------------------------ */

op_fn *fpu_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT: return op_fninit;
	case ZYDIS_MNEMONIC_FNCLEX: return op_fnclex;
	case ZYDIS_MNEMONIC_FLDCW: return op_fldcw;
	case ZYDIS_MNEMONIC_FNSTCW: return op_fnstcw;
	case ZYDIS_MNEMONIC_FNSTSW: return op_fnstsw;
	case ZYDIS_MNEMONIC_FWAIT: return op_fwait;
	case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXSAVE64: return op_fxsave;
	case ZYDIS_MNEMONIC_FXRSTOR: case ZYDIS_MNEMONIC_FXRSTOR64: return op_fxrstor;
	case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64: return op_xsave;
	case ZYDIS_MNEMONIC_XRSTOR: case ZYDIS_MNEMONIC_XRSTOR64: return op_xrstor;
	case ZYDIS_MNEMONIC_LDMXCSR: return op_ldmxcsr;
	case ZYDIS_MNEMONIC_STMXCSR: return op_stmxcsr;
	default: return select_x87(insn, op);
	}
}
