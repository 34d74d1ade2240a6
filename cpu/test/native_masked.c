/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of memory a masked instruction accesses: what cpu/stub/masked.c says, against the host's processor.
 *
 * Every EVEX instruction with a mask register and a memory operand that the host has, and the masked moves of VEX, run
 * on an operand whose first j bytes are in memory and whose others are not, for each j. A fault, and its address, tell
 * which bytes were accessed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "cpu/stub/masked.h"
#include "gen_rand.h"

#define PAGE  4096u
#define MASKS 12u
#define SHOWN 20u

static struct {
	uint64_t k1;
	uint8_t zmm[4][64];
} in;

static struct {
	sigjmp_buf env;
	unsigned vector;
	uintptr_t address;
} fault;

static struct {
	unsigned long instructions, missing, compared, failed, shown;
	unsigned long of_kind[MASKED_SIGNS + 1], without_suppression;
} total;

static uint8_t *memory; /* a page; none follows it */
static uint8_t *code;
static struct cpu cpu;

static void handler(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	fault.vector = signal == SIGILL ? VECTOR_UD : (unsigned)uc->uc_mcontext.gregs[REG_TRAPNO];
	fault.address = (uintptr_t)info->si_addr;
	siglongjmp(fault.env, 1);
}

/* Run the code on @operand. Returns: the exception's vector, or 0. */
static unsigned run_code(uint8_t *operand)
{
	fault.address = 0;
	if (sigsetjmp(fault.env, 1) != 0)
		return fault.vector;
	__asm__ volatile("kmovq (%%rdi), %%k1\n\t"
			 "vmovdqu64 8(%%rdi), %%zmm0\n\t"
			 "vmovdqu64 72(%%rdi), %%zmm1\n\t"
			 "vmovdqu64 136(%%rdi), %%zmm2\n\t"
			 "vmovdqu64 200(%%rdi), %%zmm3\n\t"
			 "sub $128, %%rsp\n\t"
			 "call *%%rdx\n\t"
			 "add $128, %%rsp\n\t"
			 "vzeroupper"
			 :
			 : "D"(&in), "S"(operand), "d"(code)
			 : "rax", "rcx", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3");
	return 0;
}

static void show(const ZydisDisassembledInstruction *d, unsigned j, uint64_t accessed, unsigned vector)
{
	static char last[sizeof(d->text)];

	/* One line for each instruction. */
	total.failed++;
	if (strcmp(last, d->text) == 0 || ++total.shown > SHOWN)
		return;
	strcpy(last, d->text);
	printf("  DIFFERENT: %s, k1 %#llx, %u bytes in memory: vmmu says it accesses %#llx; "
	       "real exception %u at byte %ld\n",
	       d->text, (unsigned long long)in.k1, j, (unsigned long long)accessed, vector,
	       fault.address == 0 ? -1 : (long)(fault.address - (uintptr_t)(memory + PAGE - j)));
}

/* One instruction, one mask, every j. */
static void compare(const ZydisDisassembledInstruction *d, const ZydisDecodedOperand *o, uint64_t accessed)
{
	unsigned size = o->size / 8u;
	bool aligned = d->info.meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1;

	for (unsigned j = 0; j <= size; j++) {
		uint64_t absent = j < 64 ? accessed >> j << j : 0;
		unsigned expect = absent != 0 ? VECTOR_PF : 0, vector;
		uint8_t *operand = memory + PAGE - j;

		if (aligned && accessed != 0 && j % size != 0)
			expect = VECTOR_GP;
		vector = run_code(operand);
		total.compared++;
		if (vector != expect || (vector == VECTOR_PF && fault.address !=
		    (uintptr_t)operand + (unsigned)__builtin_ctzll(absent)))
			show(d, j, accessed, vector);
	}
}

static const ZydisDecodedOperand *memory_operand(const ZydisDisassembledInstruction *d)
{
	for (unsigned i = 0; i < d->info.operand_count_visible; i++)
		if (d->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &d->operands[i];
	return NULL;
}

static uint64_t mask_number(struct gen_rand *rand, unsigned n)
{
	static const uint64_t fixed[] = { 0, 1, ~UINT64_C(0), 0xaaaaaaaaaaaaaaaa, 0x8000000000008080, 2 };

	if (n < sizeof(fixed) / sizeof(fixed[0]))
		return fixed[n];
	return n & 1 ? gen_next(rand) & gen_next(rand) & gen_next(rand) : UINT64_C(1) << gen_below(rand, 64);
}

/* Returns: false if there is no such instruction, in the decoder or in the host. */
static bool try_instruction(struct gen_rand *rand, const uint8_t *bytes, unsigned length)
{
	ZydisDisassembledInstruction d;
	const ZydisDecodedOperand *o;
	struct insn insn = { &d.info, d.operands, 64, bytes };
	struct masked m;

	if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, bytes, length, &d)))
		return false;
	o = memory_operand(&d);
	if (o == NULL)
		return false;
	m = masked_describe(&insn, o);
	if (m.kind == MASKED_NOT || d.info.avx.mask.mode == ZYDIS_MASK_MODE_DISABLED)
		return false;
	memcpy(code, bytes, d.info.length);
	code[d.info.length] = 0xc3; /* ret */
	memset(&in, 0, sizeof(in));
	if (run_code(memory) == VECTOR_UD) {
		total.missing++;
		return false;
	}
	total.instructions++;
	total.of_kind[m.kind]++;
	total.without_suppression += m.faults;
	for (unsigned n = 0; n < MASKS; n++) {
		in.k1 = cpu.s.vectors.k[1] = mask_number(rand, n);
		for (unsigned i = 0; i < 64; i++)
			in.zmm[2][i] = cpu.s.vectors.v[2][i] = (uint8_t)(in.k1 >> i / 4 << 7);
		compare(&d, o, m.faults ? masked_all(o->size / 8u) : masked_bytes(&cpu, &m));
	}
	return true;
}

/* P: what the fields map, pp, W, L of both encodings are. ModRM: [rsi]. */
static void try_evex(struct gen_rand *rand, unsigned map, unsigned p, unsigned length, bool broadcast, unsigned opcode,
		     unsigned reg)
{
	static const uint8_t vvvv[] = { 0x68, 0x78 }; /* register 2, none */
	uint8_t bytes[15] = { 0x62, (uint8_t)(0xf0 | map), 0, (uint8_t)(0x09 | length << 5 | broadcast << 4),
			      (uint8_t)opcode, (uint8_t)(reg << 3 | 6), 1 };

	for (unsigned i = 0; i < 2; i++) {
		bytes[2] = (uint8_t)((p & 4) << 5 | vvvv[i] | 4 | (p & 3));
		if (try_instruction(rand, bytes, 7))
			return;
	}
}

static void try_all_evex(struct gen_rand *rand)
{
	for (unsigned map = 1; map <= 6; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned p = 0; p < 8; p++)
				for (unsigned form = 0; form < 6; form++)
					for (unsigned reg = 0; reg < 8; reg++) {
						/* The field is part of the opcode of shifts alone. */
						if (reg != 1 && (map != 1 || opcode < 0x71 || opcode > 0x73))
							continue;
						try_evex(rand, map, p, form / 2, form & 1, opcode, reg);
					}
}

static void try_all_vex(struct gen_rand *rand)
{
	static const uint8_t opcodes[] = { 0x2c, 0x2d, 0x2e, 0x2f, 0x8c, 0x8e };

	for (unsigned i = 0; i < sizeof(opcodes); i++)
		for (unsigned form = 0; form < 4; form++) {
			uint8_t bytes[5] = { 0xc4, 0xe2, (uint8_t)((form & 2) << 6 | 0x69 | (form & 1) << 2),
					     opcodes[i], 1 << 3 | 6 };

			try_instruction(rand, bytes, sizeof(bytes));
		}
}

static bool prepare(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL };
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER };

	memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || code == MAP_FAILED || mprotect(memory + PAGE, PAGE, PROT_NONE) != 0)
		return false;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], &sa, NULL) != 0)
			return false;
	return true;
}

int main(void)
{
	struct gen_rand rand;

	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
		printf("the host has no AVX-512\n");
		return 77;
	}
	if (!prepare()) {
		printf("no memory, or no memory for code\n");
		return 77;
	}
	rand.state = 20220505;
	try_all_evex(&rand);
	try_all_vex(&rand);
	printf("%lu instructions, %lu that the host lacks; %lu by bits (%lu without suppression), %lu packed, "
	       "%lu by signs\n",
	       total.instructions, total.missing, total.of_kind[MASKED_BITS], total.without_suppression,
	       total.of_kind[MASKED_PACKED], total.of_kind[MASKED_SIGNS]);
	printf("%lu runs compared, %lu differ\n", total.compared, total.failed);
	return total.failed != 0 || total.of_kind[MASKED_PACKED] == 0 || total.of_kind[MASKED_SIGNS] == 0;
}
