/* SPDX-License-Identifier: MIT */
/*
 * C1: code caches (cpu/memory/codemap.c) and how CPUs wait for each other (cpu/base/turns.c), both as they are. Two
 * CPUs of one VM. A CPU here does what the run loop and cpu/memory/mem.c do around them: it says that it is in the
 * guest, looks at its requests, and looks again at a block boundary when it was kicked. It has one page, and for it one
 * write entry of a TLB.
 */
#include <linux/futex.h>
#include <stdarg.h>

#include "check/check.h"
#include "cpu/base/private.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/tlb.h"

/* --- what the files call --- */

int *code_errno(void)
{
	static _Thread_local int number;

	return &number;
}

long code_futex(long number, ...)
{
	va_list args;
	const uint32_t *word;
	int operation;

	(void)number;
	va_start(args, number);
	word = va_arg(args, const uint32_t *);
	operation = va_arg(args, int) & FUTEX_CMD_MASK;
	if (operation == FUTEX_WAIT_BITSET)
		check_wait(word, va_arg(args, uint32_t));
	else
		check_wake(word);
	va_end(args);
	return 0;
}

#define MAP_MOST (64u << 10)

void *code_map(size_t bytes)
{
	return check_alloc(bytes < MAP_MOST ? bytes : MAP_MOST, 64);
}

void *code_alloc(size_t bytes)
{
	return check_alloc(bytes, 64);
}

void code_free(void *memory)
{
	check_free(memory);
}

/* --- a CPU --- */

static struct code_cpu {
	struct cpu *cpu;
	bool fast;       /* a write entry of its TLB leads to the page */
	uint32_t kicked; /* a: look at the requests at the next block boundary */
	/* the block that it decoded */
	struct code_page *page;
	uint64_t version;
	uint64_t believed; /* the code generation for which it need not be looked at again */
	uint8_t byte;
} code_cpu[2];

static struct cpu_vm *machine;
static _Alignas(4096) uint8_t code_memory[2][4096];

static struct code_cpu *of_cpu(const struct cpu *cpu)
{
	return code_cpu[0].cpu == cpu ? &code_cpu[0] : &code_cpu[1];
}

void tlb_flush_writes(struct cpu *cpu)
{
	of_cpu(cpu)->fast = false;
}

_Noreturn void cpu_leave(struct cpu *cpu, enum leave why)
{
	(void)cpu;
	(void)why;
	check_fail("a CPU that nobody asks to exit leaves");
	__builtin_unreachable();
}

void code_kick(struct vmmu_vcpu *vcpu)
{
	for (unsigned i = 0; i < 2; i++)
		if (code_cpu[i].cpu && code_cpu[i].cpu->p->vcpu == vcpu)
			__atomic_store_n(&code_cpu[i].kicked, 1, __ATOMIC_SEQ_CST);
}

static void cpu_begin(unsigned n)
{
	struct code_cpu *c = &code_cpu[n];

	c->cpu = check_alloc(sizeof(*c->cpu), 64);
	c->cpu->p = check_alloc(sizeof(*c->cpu->p), 64);
	c->cpu->p->vm = machine;
	c->cpu->p->vcpu = (struct vmmu_vcpu *)c; /* only a name */
	check_assert(codemap_cpu_add(machine, c->cpu));
}

static void setup_cpus(void)
{
	machine = cpu_vm_create();
	check_assert(machine);
	cpu_begin(0);
	cpu_begin(1);
}

/* It looks at each bucket, which costs a search much. So only scenarios that are short end so. */
static void end_cpus(void)
{
	for (unsigned n = 0; n < 2; n++)
		codemap_cpu_remove(machine, code_cpu[n].cpu);
	cpu_vm_destroy(machine);
}

static void guest_begin(struct code_cpu *c)
{
	atomic_store(&c->cpu->p->seat->in_guest, 1);
	codemap_serve(c->cpu);
}

/* Between two blocks. */
static void boundary(struct code_cpu *c)
{
	if (!__atomic_exchange_n(&c->kicked, 0, __ATOMIC_ACQ_REL))
		return;
	codemap_serve(c->cpu);
}

static void guest_end(struct code_cpu *c)
{
	atomic_store_explicit(&c->cpu->p->seat->in_guest, 0, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst); /* vmmu_vcpu_leave */
	codemap_ring(c->cpu);
}

static void decode(struct code_cpu *c, const uint8_t *at)
{
	c->page = codemap_mark(c->cpu, at, 1, &c->version);
	check_assert(c->page);
	c->byte = __atomic_load_n(at, __ATOMIC_RELAXED);
	c->believed = c->cpu->code_gen;
}

static bool block_lives(const struct code_cpu *c)
{
	return codemap_alive(c->page, c->version, codemap_lines(code_memory[0], 1));
}

/* Would the CPU run its block? */
static bool block_runs(const struct code_cpu *c)
{
	return c->believed == c->cpu->code_gen || block_lives(c);
}

/* As cpu/memory/mem.c writes: through the TLB, or slowly. */
static void write_byte(struct code_cpu *c, uint8_t *at, uint8_t byte)
{
	struct code_page *page;

	__atomic_store_n(at, byte, __ATOMIC_RELAXED);
	if (c->fast)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	page = codemap_find(machine, at);
	if (page && (atomic_load(&page->lines) & codemap_lines(at, 1)))
		codemap_written(c->cpu, page);
}

/* --- a page becomes code while it is written --- */

static void setup_fast(void)
{
	setup_cpus();
	code_cpu[1].fast = true;
}

static void decoder(void)
{
	struct code_cpu *c = &code_cpu[0];

	guest_begin(c);
	decode(c, code_memory[0]);
	boundary(c);
	guest_end(c);
}

static void writer(void)
{
	struct code_cpu *c = &code_cpu[1];

	guest_begin(c);
	write_byte(c, code_memory[0], 1);
	boundary(c);
	guest_end(c);
}

static void writer_twice(void)
{
	struct code_cpu *c = &code_cpu[1];

	guest_begin(c);
	write_byte(c, code_memory[0], 1);
	boundary(c);
	write_byte(c, code_memory[0], 2);
	guest_end(c);
}

/* The CPU enters once more. What it would run then is what is there. */
static void finish_code(void)
{
	struct code_cpu *c = &code_cpu[0];

	guest_begin(c);
	check_assert(!block_runs(c) || c->byte == code_memory[0][0]);
}

#define SCENARIO(id, what, before, after, ...)                                                                        \
	CHECK_SCENARIO(id) = { .name = #id, .protocol = "C1", .claim = what, .flags = CHECK_NO_LEAK_CHECK,            \
	                       .threads = sizeof((void (*[])(void)){ __VA_ARGS__ }) / sizeof(void *),                 \
	                       .setup = before, .thread = { __VA_ARGS__ }, .finish = after }

SCENARIO(code_decode_vs_fast_write,
         "code that is written through a TLB while it is decoded is dead, or decoded as written", setup_fast,
         finish_code, decoder, writer);
SCENARIO(code_decode_vs_slow_write, "code that is written slowly while it is decoded is dead, or decoded as written",
         setup_cpus, finish_code, decoder, writer);
SCENARIO(code_decode_vs_two_writes, "what a writer's TLB loses meanwhile it writes slowly", setup_fast, finish_code,
         decoder, writer_twice);

/* --- a CPU's own code --- */

/* Both CPUs have decoded the page. */
static void setup_decoded(void)
{
	setup_cpus();
	decode(&code_cpu[0], code_memory[0]);
	decode(&code_cpu[1], code_memory[0]);
}

static void writer_runs_it(void)
{
	struct code_cpu *c = &code_cpu[1];

	guest_begin(c);
	write_byte(c, code_memory[0], 1);
	check_assert(!block_runs(c));
	guest_end(c);
}

/* Another CPU runs the block, and then decodes it again if it is dead. */
static void runner(void)
{
	struct code_cpu *c = &code_cpu[0];

	guest_begin(c);
	if (!block_runs(c))
		decode(c, code_memory[0]);
	boundary(c);
	guest_end(c);
}

SCENARIO(code_run_vs_own_write, "a CPU that writes its own code never runs the old one", setup_decoded, finish_code,
         runner, writer_runs_it);

/* --- two that shoot --- */

static void setup_both_fast(void)
{
	setup_fast();
	code_cpu[0].fast = true;
}

static void decoder_beside(void)
{
	struct code_cpu *c = &code_cpu[1];

	guest_begin(c);
	decode(c, code_memory[1]);
	guest_end(c);
}

static void finish_shot(void)
{
	check_assert(!code_cpu[0].fast && !code_cpu[1].fast);
}

SCENARIO(code_decode_vs_decode, "two CPUs that shoot down each other's TLBs both go on", setup_both_fast, finish_shot,
         decoder, decoder_beside);

/* --- the lock for accesses that no instruction makes --- */

static unsigned locked; /* plain: changes under that lock only */

static void locked_access(unsigned n)
{
	struct code_cpu *c = &code_cpu[n];

	guest_begin(c);
	if (!codemap_atomic_try(c->cpu)) {
		guest_end(c);
		codemap_atomic_await(c->cpu);
		guest_begin(c);
	}
	check_assert(c->cpu->p->atomic_locked);
	locked++;
	codemap_atomic_give(c->cpu);
	guest_end(c);
}

static void locked_0(void)
{
	locked_access(0);
}

static void locked_1(void)
{
	locked_access(1);
}

static void finish_locked(void)
{
	check_assert(locked == 2 && codemap_atomic_try(code_cpu[0].cpu));
}

SCENARIO(code_locked_access_vs_itself, "one locked access at a time, and no CPU waits for ever", setup_cpus,
         finish_locked, locked_0, locked_1);

/* CPU 1 waits for it, and is asked to exit meanwhile. CPU 0 has it, and gives it back. */
static void setup_held(void)
{
	setup_cpus();
	check_assert(codemap_atomic_try(code_cpu[0].cpu));
}

static void await(void)
{
	struct code_cpu *c = &code_cpu[1];

	codemap_atomic_await(c->cpu);
	check_assert(c->cpu->p->atomic_locked || (atomic_load(&c->cpu->p->seat->requests) & REQUEST_EXIT));
}

static void ask_and_give(void)
{
	struct cpu *waiter = code_cpu[1].cpu;

	atomic_fetch_or(&waiter->p->seat->requests, REQUEST_EXIT);
	codemap_ring(waiter);
	codemap_atomic_give(code_cpu[0].cpu);
}

/* Who gave up waiting does not get it later. */
static void finish_given(void)
{
	check_assert(code_cpu[1].cpu->p->atomic_locked || codemap_atomic_try(code_cpu[0].cpu));
}

SCENARIO(code_locked_wait_vs_exit, "a CPU that is asked to exit gives up the wait, and the lock is nobody's",
         setup_held, finish_given, await, ask_and_give);

static void ask(void)
{
	struct cpu *waiter = code_cpu[1].cpu;

	atomic_fetch_or(&waiter->p->seat->requests, REQUEST_EXIT);
	codemap_ring(waiter);
}

static void finish_withdrawn(void)
{
	check_assert(!code_cpu[1].cpu->p->atomic_locked);
	codemap_atomic_give(code_cpu[0].cpu);
	check_assert(codemap_atomic_try(code_cpu[0].cpu));
	end_cpus();
}

SCENARIO(code_locked_wait_vs_exit_alone, "a wait that nobody else ends is ended by a request to exit", setup_held,
         finish_withdrawn, await, ask);

static void finish_asked(void)
{
	check_assert(atomic_load(&code_cpu[1].cpu->p->seat->requests) & REQUEST_EXIT);
	end_cpus();
}

SCENARIO(code_decode_vs_exit, "a request to exit is not lost when a shootdown is asked for at once", setup_cpus,
         finish_asked, decoder, ask);

/* CPU 1 answers other requests meanwhile. */
static void setup_asked(void)
{
	setup_cpus();
	atomic_store(&code_cpu[1].cpu->p->seat->requests, REQUEST_SHOOT | REQUEST_CODE);
}

static void answer(void)
{
	guest_begin(&code_cpu[1]);
	guest_end(&code_cpu[1]);
}

SCENARIO(code_run_vs_exit, "a request to exit is not lost when others are answered", setup_asked, finish_asked, answer,
         ask);

/* --- turns --- */

static struct turns turns;
static unsigned in_turn; /* plain: changes under the lock only */

static void take_turn(void)
{
	turns_take(&turns);
	in_turn++;
	turns_give(&turns);
}

static void finish_turns(void)
{
	check_assert(in_turn == 3);
}

SCENARIO(code_turns_vs_itself, "one holder at a time, and who asked is woken", NULL, finish_turns, take_turn, take_turn,
         take_turn);
