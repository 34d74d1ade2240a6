/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions that no other selector has: checks, the memory operand, and the stub that runs the instruction.
 *
 * Everything that can fault comes before the stub, except a host page that has gone. That faults inside the stub, at
 * the instruction, before anything is stored.
 */
#include "cpu/base/private.h"
#include "cpu/fpu/sse.h"
#include "cpu/stub/stub.h"

#define XCR0_AVX    UINT64_C(0x06)
#define XCR0_AVX512 UINT64_C(0xe6)

/* ---- may the instruction run? ----------------------------------------------------------------------------------- */

/* In real and virtual-8086 mode there are no VEX prefixes. */
static void avx_check(struct cpu *cpu, uint64_t state)
{
	if (!(cpu->mode & MODE_PROT) || !(cpu->s.cr4 & CR4_OSXSAVE) || (cpu->s.xcr0 & state) != state)
		cpu_ud(cpu);
	if (cpu->s.cr0 & CR0_TS)
		cpu_raise(cpu, VECTOR_NM);
}

void stub_unit_check(struct cpu *cpu, enum stub_unit unit)
{
	switch (unit) {
	case UNIT_MMX: mmx_check(cpu); break;
	case UNIT_SSE: cpu_sse_check(cpu); break;
	case UNIT_AVX: avx_check(cpu, XCR0_AVX); break;
	case UNIT_AVX512: avx_check(cpu, XCR0_AVX512); break;
	}
}

/* ---- running a stub --------------------------------------------------------------------------------------------- */

static uint64_t call(struct cpu *cpu, const struct stub *stub, void *memory)
{
	const uint8_t *code = stub->code;
	uint64_t (*run)(struct cpu *cpu, void *memory);

	memcpy(&run, &code, sizeof(run));
	return run(cpu, memory);
}

bool stub_may_raise(const struct cpu *cpu, const struct stub *stub)
{
	return cpu->mxcsr_careful && (stub->flags & STUB_MXCSR);
}

/* With an unmasked exception: the registers come back if it is raised. */
static __attribute__((noinline)) uint64_t call_careful(struct cpu *cpu, const struct stub *stub, void *memory)
{
	struct cpu_vectors vectors = cpu->s.vectors;
	uint64_t gpr[CPU_GPR_COUNT], rflags;
	uint32_t raised;

	memcpy(gpr, cpu->s.gpr, sizeof(gpr));
	rflags = call(cpu, stub, memory);
	raised = host_mxcsr_get() & MXCSR_FLAGS;
	host_mxcsr_set(mxcsr_for_host(cpu));
	if (raised & ~(cpu->s.fx.mxcsr >> 7)) {
		cpu->s.vectors = vectors;
		memcpy(cpu->s.gpr, gpr, sizeof(gpr));
	}
	sse_raised(cpu, raised);
	return rflags;
}

void stub_run(struct cpu *cpu, const struct stub *stub, void *memory)
{
	uint64_t rflags;

	if (stub->flags & STUB_MMX)
		mmx_begin_write(cpu); /* the registers are where the stub looks for them when TOP is 0 */
	rflags = unlikely(stub_may_raise(cpu, stub)) ? call_careful(cpu, stub, memory) : call(cpu, stub, memory);
	if (stub->flags & STUB_RFLAGS)
		flags_set(cpu, rflags);
}

/* ---- handlers --------------------------------------------------------------------------------------------------- */

static void run_registers(struct cpu *cpu, const struct op *op)
{
	const struct stub *stub = op->stub;

	stub_unit_check(cpu, (enum stub_unit)stub->unit);
	stub_run(cpu, stub, NULL);
}

/* On a copy of the operand: it crosses a page, is a device's or in a page with code, or may not be written at once. */
static __attribute__((noinline)) void run_on_copy(struct cpu *cpu, const struct stub *stub, uint64_t linear)
{
	uint8_t copy[64] __attribute__((aligned(64)));

	if (stub->flags & STUB_WRITES)
		mem_check_write(cpu, linear, stub->bytes);
	if (stub->flags & STUB_READS)
		mem_read_bytes(cpu, linear, copy, stub->bytes);
	stub_run(cpu, stub, copy);
	if (stub->flags & STUB_WRITES)
		mem_write_bytes(cpu, linear, copy, stub->bytes);
}

static void run_memory(struct cpu *cpu, const struct op *op)
{
	const struct stub *stub = op->stub;
	bool write = stub->flags & STUB_WRITES;
	uint64_t linear;
	void *at;

	stub_unit_check(cpu, (enum stub_unit)stub->unit);
	linear = op_linear(cpu, op, stub->bytes, write);
	if (unlikely(linear & (stub->align - 1u)))
		cpu_gp(cpu);
	at = tlb_find(cpu, write ? TLB_WRITE : TLB_READ, linear, stub->bytes);
	if (likely(at != NULL) && !(stub->flags & STUB_COPY) && likely(!write || !stub_may_raise(cpu, stub)))
		stub_run(cpu, stub, at);
	else
		run_on_copy(cpu, stub, linear);
}

/* ---- what needs no stub ----------------------------------------------------------------------------------------- */

/* In 64-bit mode of all 16 registers that VEX can name; else of eight. Those above are EVEX's. */
static void zero_above(struct cpu *cpu, unsigned bytes)
{
	avx_check(cpu, XCR0_AVX);
	for (unsigned i = 0; i < (cpu_is_64(cpu) ? 16u : 8u); i++)
		memset(cpu_xmm(cpu, i) + bytes, 0, 64 - bytes);
}

static void vzeroupper(struct cpu *cpu, const struct op *op)
{
	(void)op;
	zero_above(cpu, 16);
}

static void vzeroall(struct cpu *cpu, const struct op *op)
{
	(void)op;
	zero_above(cpu, 0);
}

op_fn *vector_select(struct cpu *cpu, const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_VZEROUPPER: return vzeroupper;
	case ZYDIS_MNEMONIC_VZEROALL: return vzeroall;
	/* Elements that are masked off are not accessed. */
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return NULL;
	default: break;
	}
	if (insn->z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return NULL;
	op->stub = stub_make(cpu, insn);
	if (op->stub == NULL)
		return NULL;
	return op->mem == OP_NO_MEM ? run_registers : run_memory;
}
