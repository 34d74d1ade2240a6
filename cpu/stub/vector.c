/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions that no other selector has: checks, the memory operand, and the stub that runs the instruction.
 *
 * Everything that can fault comes before the stub, except a host page that has gone. That faults inside the stub, at
 * the instruction, before anything is stored.
 */
#include "cpu/base/private.h"
#include "cpu/fpu/sse.h"
#include "cpu/fpu/x87.h"
#include "cpu/stub/gather.h"
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

/* With an unmasked exception: if it is raised, nothing has been written. */
static __attribute__((noinline)) uint64_t call_careful(struct cpu *cpu, const struct stub *stub, void *memory)
{
	uint32_t raised;
	uint64_t rflags = fpe_call(cpu, stub->code, stub->length, memory, &raised);

	sse_raised(cpu, raised);
	return rflags;
}

/* The instruction raises nothing, so that it may run under the guest's own MXCSR: FTZ counts, whatever is unmasked. */
static __attribute__((noinline)) uint64_t call_quiet(struct cpu *cpu, const struct stub *stub, void *memory)
{
	uint64_t rflags;

	host_mxcsr_set(cpu->s.fx.mxcsr);
	rflags = call(cpu, stub, memory);
	host_mxcsr_set(mxcsr_for_host(cpu));
	return rflags;
}

void stub_run(struct cpu *cpu, const struct stub *stub, void *memory)
{
	uint64_t rflags;

	if (stub->flags & STUB_MMX)
		mmx_begin_write(cpu); /* the registers are where the stub looks for them when TOP is 0 */
	if (likely(!cpu->mxcsr_careful) || !(stub->flags & (STUB_MXCSR | STUB_SAE)))
		rflags = call(cpu, stub, memory);
	else
		rflags = stub->flags & STUB_SAE ? call_quiet(cpu, stub, memory) : call_careful(cpu, stub, memory);
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

/*
 * On a copy of the operand: it crosses a page, is a device's or in a page with code, or may not be written at once.
 *
 * What can fault is before the stub. After it a host page may turn out to be gone, or another CPU may have found code
 * in the page: then the instruction begins again. An instruction that stores has changed no register by then that it
 * reads: only flags of MXCSR, which stay set, and of an MMX store TOP and tags, which become what they are.
 */
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

/* The same for what is not masked off. */
static __attribute__((noinline)) void run_masked_on_copy(struct cpu *cpu, const struct op *op, const struct stub *stub)
{
	uint8_t copy[MASKED_OPERAND] __attribute__((aligned(64))) = { 0 };
	uint64_t mask = masked_bytes(cpu, &stub->masked);
	uint64_t accessed = stub->masked.faults ? masked_all(stub->bytes) : mask, tag;

	/* As AMD's processors have it: EVEX checks the alignment of an element, VMASKMOV none. */
	if (mem_checks_alignment(cpu) && stub->masked.kind != MASKED_SIGNS &&
	    !masked_is_aligned(cpu, op, accessed, 1u << stub->masked.shift, stub->flags & STUB_WRITES))
		cpu_raise_error(cpu, VECTOR_AC, 0);
	tag = mem_alignment_off(cpu);
	if (stub->align > 1 && !masked_is_aligned(cpu, op, accessed, stub->align, stub->flags & STUB_WRITES))
		cpu_gp(cpu);
	if (stub->flags & STUB_WRITES)
		masked_check_write(cpu, op, accessed);
	if (stub->flags & STUB_READS)
		masked_read(cpu, op, accessed, copy);
	stub_run(cpu, stub, copy);
	if (stub->flags & STUB_WRITES)
		masked_write(cpu, op, mask, copy);
	mem_alignment_on(cpu, tag);
}

/* Where the whole operand is in memory, the stub may access it: the instruction leaves alone what is masked off. */
static void run_masked(struct cpu *cpu, const struct op *op)
{
	const struct stub *stub = op->stub;
	bool write = stub->flags & STUB_WRITES;
	uint64_t linear;
	void *at = NULL;

	stub_unit_check(cpu, (enum stub_unit)stub->unit);
	/* What is masked off may be outside of the segment. */
	if (likely((op->flags & OPF_FLAT) || (cpu->seg_fast >> op->seg & 1))) {
		linear = op_linear(cpu, op, stub->bytes, write);
		if (likely((linear & (stub->align - 1u)) == 0))
			at = tlb_find(cpu, write ? TLB_WRITE : TLB_READ, linear, stub->bytes);
	}
	if (likely(at != NULL) && likely(!write || !stub_may_raise(cpu, stub)))
		stub_run(cpu, stub, at);
	else
		run_masked_on_copy(cpu, op, stub);
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

static void vldmxcsr(struct cpu *cpu, const struct op *op)
{
	avx_check(cpu, XCR0_AVX);
	mxcsr_read(cpu, op);
}

static void vstmxcsr(struct cpu *cpu, const struct op *op)
{
	avx_check(cpu, XCR0_AVX);
	mxcsr_write(cpu, op);
}

op_fn *vector_select(struct cpu *cpu, const struct insn *insn, struct op *op)
{
	op_fn *fn;

	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_VZEROUPPER: return vzeroupper;
	case ZYDIS_MNEMONIC_VZEROALL: return vzeroall;
	case ZYDIS_MNEMONIC_VLDMXCSR: return vldmxcsr;
	case ZYDIS_MNEMONIC_VSTMXCSR: return vstmxcsr;
	default: break;
	}
	fn = gather_select(insn, op);
	if (fn == NULL)
		fn = masked_select(insn, op);
	if (fn != NULL)
		return fn;
	op->stub = stub_make(cpu, insn);
	if (op->stub == NULL)
		return NULL;
	if (op->mem == OP_NO_MEM)
		return run_registers;
	return op->stub->masked.kind == MASKED_NOT ? run_memory : run_masked;
}
