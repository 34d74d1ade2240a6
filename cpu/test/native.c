/* SPDX-License-Identifier: MIT */
/*
 * The host's CPU as an oracle.
 *
 * A run begins and ends with a signal, so that no register is needed for a trampoline. An int3 of the test enters
 * the handler. The handler replaces the whole interrupted context with that of the case, and returns into the
 * instruction. The int3 behind it, or its fault, enters the handler again, which saves the context and puts that of
 * the test back. Returning with another CS runs 32-bit code the same way.
 */
#include "native.h"
#include "native_xstate.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#define CS_32   0x23u
#define DATA_32 0x2bu
#define CS_16   0x07u /* of the local descriptor table, as make_segments16 fills it */
#define DATA_16 0x0fu

enum phase { IDLE, ENTERING, INSIDE };

static struct {
	volatile sig_atomic_t phase;
	const struct gen_case *c;
	struct gen_state after;
	struct gen_end end;
	gregset_t host;
	bool has_32bit, has_16bit;
	uint8_t pattern[GEN_DATA_SIZE];
} native;

static const int greg_of_gpr[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static void enter(ucontext_t *uc)
{
	const struct gen_state *in = &native.c->in;
	greg_t *g = uc->uc_mcontext.gregs;

	memcpy(native.host, g, sizeof(native.host));
	for (int i = 0; i < 16; i++)
		g[greg_of_gpr[i]] = (greg_t)in->gpr[i];
	g[REG_RIP] = (greg_t)in->rip;
	g[REG_EFL] = (greg_t)in->rflags;
	if (native.c->bits == 32)
		g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)0xffff) | CS_32;
	if (native.c->bits == 16)
		g[REG_CSGSFS] = (g[REG_CSGSFS] & 0xffffffff0000) | CS_16 | (greg_t)DATA_16 << 48;
	native_xstate_keep(uc->uc_mcontext.fpregs);
	native_xstate_put(uc->uc_mcontext.fpregs, in);
}

static void leave(ucontext_t *uc)
{
	struct gen_state *after = &native.after;
	greg_t *g = uc->uc_mcontext.gregs;

	for (int i = 0; i < 16; i++)
		after->gpr[i] = (uint64_t)g[greg_of_gpr[i]];
	after->rip = (uint64_t)g[REG_RIP];
	after->rflags = (uint64_t)g[REG_EFL];
	native_xstate_get(uc->uc_mcontext.fpregs, after);
	native.end.vector = (unsigned int)g[REG_TRAPNO];
	native.end.error = (uint32_t)g[REG_ERR];
	native.end.cr2 = (uint64_t)g[REG_CR2];
	/* Only registers: signal mask and stack are as they were. */
	memcpy(g, native.host, sizeof(native.host));
	native_xstate_restore(uc->uc_mcontext.fpregs);
}

static void handler(int signal, siginfo_t *info, void *context)
{
	(void)info;
	if (native.phase == ENTERING) {
		native.phase = INSIDE;
		enter(context);
	} else if (native.phase == INSIDE) {
		native.phase = IDLE;
		leave(context);
	} else { /* the signal is not from a case: let it happen again and end the process */
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		sigaction(signal, &dfl, NULL);
	}
}

static bool map_at(uintptr_t address, size_t size, int protection)
{
	return mmap((void *)address, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		    0) == (void *)address;
}

/* Can this kind of code be run? */
static bool probe(unsigned int bits)
{
	struct gen_case c = { .bytes = { 0x40 }, .length = 1, .bits = bits }; /* inc eax or ax */
	struct gen_state after;
	struct gen_end end;

	c.code_base = bits == 16 ? GEN_CODE16 : GEN_CODE;
	c.in.rip = bits == 16 ? 0 : GEN_CODE;
	c.code_base = bits == 16 ? GEN_CODE16 : 0;
	c.in.rflags = 0x202;
	c.in.mxcsr = 0x1f80;
	c.in.gpr[0] = 1;
	native_run(&c, &after, &end);
	memset((void *)(uintptr_t)(c.code_base + c.in.rip), 0xcc, 1);
	return end.vector == 3 && after.gpr[0] == 2;
}

static bool make_segments16(void)
{
	struct user_desc code = { .entry_number = 0, .base_addr = GEN_CODE16, .limit = 0xffff, .contents = 2,
				  .useable = 1 };
	struct user_desc data = { .entry_number = 1, .base_addr = GEN_DATA16, .limit = 0xffff, .useable = 1 };

	return syscall(SYS_modify_ldt, 0x11, &code, sizeof(code)) == 0 &&
	       syscall(SYS_modify_ldt, 0x11, &data, sizeof(data)) == 0;
}

bool native_init(const uint8_t pattern[GEN_DATA_SIZE])
{
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS };
	static uint8_t alternate[256 << 10];
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };

	native_xstate_init();
	if (sigaltstack(&stack, NULL) != 0)
		return false;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], &sa, NULL) != 0)
			return false;
	if (!map_at(GEN_DATA, GEN_DATA_SIZE, PROT_READ | PROT_WRITE) ||
	    !map_at(GEN_CODE, GEN_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	memcpy(native.pattern, pattern, GEN_DATA_SIZE);
	memcpy((void *)(uintptr_t)GEN_DATA, pattern, GEN_DATA_SIZE);
	memset((void *)(uintptr_t)GEN_CODE, 0xcc, GEN_CODE_SIZE);
	if (mprotect((void *)(uintptr_t)(GEN_DATA + GEN_DATA_RW), GEN_DATA_SIZE - GEN_DATA_RW, PROT_READ) != 0)
		return false;
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)GEN_GS_BASE) != 0)
		return false;
	native.has_32bit = probe(32);
	native.has_16bit = make_segments16() && probe(16);
	return true;
}

bool native_has(unsigned int bits)
{
	return bits == 64 || (bits == 32 ? native.has_32bit : native.has_16bit);
}

const uint8_t *native_data(void)
{
	return (const uint8_t *)(uintptr_t)GEN_DATA;
}

void native_run(const struct gen_case *c, struct gen_state *after, struct gen_end *end)
{
	uint8_t *data = (uint8_t *)(uintptr_t)GEN_DATA;

	memcpy(data, native.pattern, GEN_DATA_RW);
	for (int i = 0; i < 2; i++)
		memcpy(data + c->poke[i].offset, c->poke[i].bytes, c->poke[i].size);
	memset((void *)(uintptr_t)(c->code_base + c->in.rip), 0xcc, GEN_BYTES);
	memcpy((void *)(uintptr_t)(c->code_base + c->in.rip), c->bytes, c->length);
	/* A signal frame has no DS and ES. 64-bit code does not use them. */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(c->bits == 16 ? DATA_16 : DATA_32));
	native.c = c;
	native.phase = ENTERING;
	__asm__ volatile("int3" ::: "memory", "cc");
	*after = native.after;
	*end = native.end;
}
