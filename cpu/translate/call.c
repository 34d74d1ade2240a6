/* SPDX-License-Identifier: MIT */
/* What translated code calls. Registers are in s.gpr; flags that live are in fast.flags. */
#include "cpu/base/flags.h"
#include "cpu/base/x87_host.h"
#include "cpu/memory/mem.h"
#include "cpu/translate/translate_int.h"

static void fast_fill(struct cpu *cpu, uint64_t linear, const uint8_t *host, bool write)
{
	unsigned slot = (linear >> 12) % TLB_ENTRIES, mode = cpu->tlb_tag & (TLB_USER | TLB_SMAP);

	cpu->fast.tlb[mode][write ? TLB_WRITE : TLB_READ][slot] = (struct fast_entry){
		.tag = linear & ~UINT64_C(0xfff), .host = (uint64_t)(uintptr_t)host & ~UINT64_C(0xfff),
	};
	cpu->fast.used[mode][write ? TLB_WRITE : TLB_READ] |= UINT64_C(1) << (slot / 16);
}

uint64_t translate_access(struct cpu *cpu, uint64_t linear, int64_t what)
{
	bool write = what & 1, x87 = cpu->x87_loaded;
	uint8_t *host;

	cpu->op = (const struct op *)(uintptr_t)(what >> 16);
	cpu->p->translate->stats.accesses++;
	flags_set(cpu, rflags_of_fast(cpu->fast.flags)); /* the walk may leave */
	host = mem_place(cpu, linear, write, (unsigned)what >> 1 & 0x7f);
	/* The owner may have been asked for the page. */
	if (unlikely(x87 && !cpu->x87_loaded))
		x87_host_load(cpu);
	if (host != NULL && !cpu->fast.miss)
		fast_fill(cpu, linear, host, write);
	if (write && host != NULL && unlikely(translate_engine() == CPU_ENGINE_CHECK))
		check_note_write(cpu, host, (unsigned)what >> 1 & 0x7f);
	return (uint64_t)(uintptr_t)host;
}

uint64_t translate_call(struct cpu *cpu, const struct op *op)
{
	uint64_t gen = cpu->code_gen, tag = cpu->tlb_tag;

	cpu->p->translate->stats.calls++;
	flags_set(cpu, rflags_of_fast(cpu->fast.flags));
	cpu->op = op;
	op->fn(cpu, op);
	cpu->fast.flags = (uint32_t)fast_flags_of(flags_get(cpu));
	if (cpu->fast.x87)
		x87_look_again(cpu);
	/* With an unmasked exception, vector instructions are interpreted. */
	if (likely(cpu->code_gen == gen && cpu->tlb_tag == tag && !(cpu->fast.vectors && cpu->mxcsr_careful)))
		return 0;
	return (uint64_t)(uintptr_t)(op + 1) << LEAVE_SHIFT | LEAVE_OP;
}

uint64_t translate_vectors(struct cpu *cpu, const struct op *op)
{
	flags_set(cpu, rflags_of_fast(cpu->fast.flags));
	cpu->op = op;
	cpu_sse_check(cpu);
	return !cpu->mxcsr_careful;
}
