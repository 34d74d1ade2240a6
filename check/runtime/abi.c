/* SPDX-License-Identifier: MIT */
/*
 * The functions that code compiled with -fsanitize=thread calls (gcc 12, clang 14). A return
 * address is a site (sites.h).
 *
 * Atomics of 16 bytes are not modelled: a program that uses them does not link.
 */
#include "check/runtime/model.h"
#include "check/runtime/shadow.h"
#include "check/runtime/tell.h"
#include "check/runtime/weaken.h"

#define PC ((uint32_t)(uintptr_t)__builtin_return_address(0))

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifdef __clang__
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#endif

/*
 * The caller's registers that a call keeps go to the stack right below the hook's frame. There spin.c sees them. The
 * hooks of loads begin with this.
 */
#define SAVE_REGISTERS() __asm__ volatile("" : : : "rbx", "r12", "r13", "r14", "r15")
#define FRAME ((uint64_t)__builtin_frame_address(0))

static void endless(uint32_t pc)
{
	rt_fail(CHECK_HANG, "thread %d made %u plain accesses and no atomic operation: an endless loop? (pc %#x)",
	        rt.self, PLAIN_MOST, pc);
}

/* Is what the running thread writes there seen by others, or by itself where spin.c does not look? */
static inline bool is_effect(uint64_t address)
{
	return rt.mode == RT_THREADS &&
	       address - (STACKS_ADDRESS + (unsigned)rt.self * STACK_BYTES) >= rt.stack_bytes;
}

static inline void access(const void *address, uint64_t size, bool write, uint32_t pc)
{
	if (unlikely(!rt_is_up || rt.mode == RT_IDLE))
		return;
	if (unlikely(rt.plain++ == PLAIN_MOST))
		endless(pc);
	if (write && is_effect((uint64_t)address))
		self_thread()->visit_count = 0;
	tell_plain((uint64_t)address, size, write, pc);
	shadow_access((uint64_t)address, size, write, pc);
}

#define PLAIN(name, size)                                                                                              \
	void __tsan_read##name(const void *p) { access(p, size, false, PC); }                                          \
	void __tsan_write##name(const void *p) { access(p, size, true, PC); }                                          \
	void __tsan_volatile_read##name(const void *p) { access(p, size, false, PC); }                                 \
	void __tsan_volatile_write##name(const void *p) { access(p, size, true, PC); }                                 \
	void __tsan_unaligned_read##name(const void *p) { access(p, size, false, PC); }                                \
	void __tsan_unaligned_write##name(const void *p) { access(p, size, true, PC); }                                \
	void __tsan_unaligned_volatile_read##name(const void *p) { access(p, size, false, PC); }                       \
	void __tsan_unaligned_volatile_write##name(const void *p) { access(p, size, true, PC); }                       \
	void __tsan_read_write##name(const void *p) { access(p, size, true, PC); }                                     \
	void __tsan_unaligned_read_write##name(const void *p) { access(p, size, true, PC); }

PLAIN(1, 1)
PLAIN(2, 2)
PLAIN(4, 4)
PLAIN(8, 8)
PLAIN(16, 16)

void __tsan_read_range(const void *p, size_t size) { access(p, size, false, PC); }
void __tsan_write_range(const void *p, size_t size) { access(p, size, true, PC); }
void __tsan_vptr_update(void **p, void *value) { (void)value; access(p, 8, true, PC); }
void __tsan_vptr_read(void **p) { access(p, 8, false, PC); }
void __tsan_init(void) {}

void __tsan_func_entry(const void *pc)
{
	if (rt_is_up && rt.mode != RT_IDLE) {
		struct thread *t = rt.self >= 0 ? self_thread() : &rt.thread[THREADS];

		if (t->depth < CALL_DEPTH)
			t->stack[t->depth] = (uint32_t)(uintptr_t)pc;
		t->depth++;
	}
}

void __tsan_func_exit(void)
{
	if (rt_is_up && rt.mode != RT_IDLE) {
		struct thread *t = rt.self >= 0 ? self_thread() : &rt.thread[THREADS];

		if (t->depth)
			t->depth--;
	}
}

/* ---- atomics -------------------------------------------------------------------------------------- */

static uint64_t mask_of(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << (8 * size)) - 1;
}

static uint64_t peek(uint64_t address, unsigned size)
{
	switch (size) {
	case 1: return *(uint8_t *)address;
	case 2: return *(uint16_t *)address;
	case 4: return *(uint32_t *)address;
	default: return *(uint64_t *)address;
	}
}

static void poke(uint64_t address, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *(uint8_t *)address = (uint8_t)value; break;
	case 2: *(uint16_t *)address = (uint16_t)value; break;
	case 4: *(uint32_t *)address = (uint32_t)value; break;
	default: *(uint64_t *)address = value; break;
	}
}

/* Setup and finish run alone, and counters are not checked. So memory itself has the value. */
static uint64_t do_alone(struct op *op)
{
	uint64_t old = peek(op->address, op->size);

	if (rt_is_up && rt.mode != RT_IDLE)
		shadow_access(op->address, op->size, op->kind != OP_LOAD, op->pc);
	if (op->kind == OP_STORE)
		poke(op->address, op->size, op->operand);
	else if (op->kind == OP_RMW)
		poke(op->address, op->size, op->change(old, op->operand));
	op->swapped = op->kind == OP_CAS && old == op->expected;
	if (op->swapped)
		poke(op->address, op->size, op->operand);
	return old;
}

static uint64_t do_split(struct op *op)
{
	struct op load = *op, store = *op;
	uint64_t old;

	load.kind = OP_LOAD;
	load.order = releases(op->order) ? (acquires(op->order) ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED) : op->order;
	old = model_do(&load);
	op->swapped = op->kind == OP_RMW || old == op->expected;
	if (!op->swapped)
		return old;
	store.kind = OP_STORE;
	store.order = releases(op->order) ? __ATOMIC_RELEASE : __ATOMIC_RELAXED;
	store.operand = (op->kind == OP_RMW ? op->change(old, op->operand) : op->operand) & mask_of(op->size);
	model_do(&store);
	return old;
}

static uint64_t atomic(struct op *op)
{
	if (!rt_is_up || rt.mode != RT_THREADS || shadow_is_counter(op->address))
		return do_alone(op);
	if (unlikely(op->address & (op->size - 1u)))
		rt_fail(CHECK_MIXED, "an atomic of %u bytes at %#lx, which is not aligned (pc %#x)", op->size,
		        (unsigned long)op->address, op->pc);
	if (unlikely(op->address >= WINDOW_END || op->address < 4096))
		rt_fail(CHECK_CRASH, "an atomic at %#lx, which is not memory of the scenario (pc %#x)",
		        (unsigned long)op->address, op->pc);
	op->caller = weaken_caller();
	if (unlikely(weaken_site(op)))
		return do_split(op);
	return model_do(op);
}

static uint64_t change_swap(uint64_t old, uint64_t operand) { (void)old; return operand; }
static uint64_t change_add(uint64_t old, uint64_t operand) { return old + operand; }
static uint64_t change_sub(uint64_t old, uint64_t operand) { return old - operand; }
static uint64_t change_and(uint64_t old, uint64_t operand) { return old & operand; }
static uint64_t change_or(uint64_t old, uint64_t operand) { return old | operand; }
static uint64_t change_xor(uint64_t old, uint64_t operand) { return old ^ operand; }
static uint64_t change_nand(uint64_t old, uint64_t operand) { return ~(old & operand); }

#define RMW(bits, name, fn)                                                                                            \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t v, int order)           \
	{                                                                                                              \
		SAVE_REGISTERS();                                                                                      \
		struct op op = { .kind = OP_RMW, .size = bits / 8, .order = (uint8_t)order, .address = (uint64_t)p,    \
			         .operand = v, .change = fn, .pc = PC, .frame = FRAME };                               \
		return (uint##bits##_t)atomic(&op);                                                                    \
	}

#define CAS_OP(bits, expect)                                                                                           \
	SAVE_REGISTERS();                                                                                              \
	struct op op = { .kind = OP_CAS, .size = bits / 8, .order = (uint8_t)order, .fail_order = (uint8_t)fail,       \
		         .address = (uint64_t)p, .expected = (expect), .operand = v, .pc = PC, .frame = FRAME }

#define CAS(bits, name)                                                                                                \
	int __tsan_atomic##bits##_##name(volatile uint##bits##_t *p, uint##bits##_t *expected,                         \
	                                 uint##bits##_t v, int order, int fail)                                        \
	{                                                                                                              \
		CAS_OP(bits, *expected);                                                                               \
		uint##bits##_t old = (uint##bits##_t)atomic(&op);                                                      \
		if (!op.swapped)                                                                                       \
			*expected = old;                                                                               \
		return op.swapped;                                                                                     \
	}

#define ATOMICS(bits)                                                                                                  \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order)                         \
	{                                                                                                              \
		SAVE_REGISTERS();                                                                                      \
		struct op op = { .kind = OP_LOAD, .size = bits / 8, .order = (uint8_t)order, .address = (uint64_t)p,   \
			         .pc = PC, .frame = FRAME };                                                           \
		return (uint##bits##_t)atomic(&op);                                                                    \
	}                                                                                                              \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order)                      \
	{                                                                                                              \
		struct op op = { .kind = OP_STORE, .size = bits / 8, .order = (uint8_t)order, .address = (uint64_t)p,  \
			         .operand = v, .pc = PC };                                                             \
		atomic(&op);                                                                                           \
	}                                                                                                              \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(volatile uint##bits##_t *p, uint##bits##_t expected, \
	                                                          uint##bits##_t v, int order, int fail)               \
	{                                                                                                              \
		CAS_OP(bits, expected);                                                                                \
		return (uint##bits##_t)atomic(&op);                                                                    \
	}                                                                                                              \
	CAS(bits, compare_exchange_strong)                                                                             \
	CAS(bits, compare_exchange_weak)                                                                               \
	RMW(bits, exchange, change_swap)                                                                               \
	RMW(bits, fetch_add, change_add)                                                                               \
	RMW(bits, fetch_sub, change_sub)                                                                               \
	RMW(bits, fetch_and, change_and)                                                                               \
	RMW(bits, fetch_or, change_or)                                                                                 \
	RMW(bits, fetch_xor, change_xor)                                                                               \
	RMW(bits, fetch_nand, change_nand)

ATOMICS(8)
ATOMICS(16)
ATOMICS(32)
ATOMICS(64)

void __tsan_atomic_thread_fence(int order)
{
	struct op op = { .kind = OP_FENCE, .order = (uint8_t)order, .pc = PC };

	if (!rt_is_up || rt.mode != RT_THREADS)
		return;
	op.caller = weaken_caller();
	if (!weaken_site(&op))
		model_do(&op);
}

/* A signal fence is for the compiler only; the processor and other threads see nothing of it. */
void __tsan_atomic_signal_fence(int order) { (void)order; }

/* ---- memcpy and its kind: these replace libc's in the whole program ------------------------------------- */

static void *copy_up(void *to, const void *from, size_t bytes)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

static bool is_looked_at(void)
{
	return rt_is_up && rt.mode != RT_IDLE;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	if (is_looked_at()) {
		access(from, bytes, false, PC);
		access(to, bytes, true, PC);
	}
	return copy_up(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes)
{
	if (is_looked_at()) {
		access(from, bytes, false, PC);
		access(to, bytes, true, PC);
	}
	if ((uintptr_t)to - (uintptr_t)from >= bytes)
		return copy_up(to, from, bytes);
	for (size_t i = bytes; i-- > 0;)
		((volatile char *)to)[i] = ((const volatile char *)from)[i];
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *d = to;

	if (is_looked_at())
		access(to, bytes, true, PC);
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}
