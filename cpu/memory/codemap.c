/* SPDX-License-Identifier: MIT */
/*
 * Which host pages hold decoded code, for all vCPUs of a VM, so that self- and cross-modifying code works.
 *
 * A page that holds code is never written through a fast TLB entry: such writes come to mem.c, which calls
 * codemap_written when they touch a line with code. The protocol, for a decoder D and a writer W:
 *
 *   D: v = version. If lines has D's lines and write TLBs were shot down for v, go on. Otherwise, with the lock:
 *      v = version, lines |= D's. Then, without the lock: shoot down, wait, and note that write TLBs were shot down
 *      for v. Decode. The block remembers v and its lines.
 *   W: (fast entry)  The shootdown removes the entry. W's stores before that are visible to D.
 *   W: (slow entry)  Store; fence. If lines has the line, with the lock: REQUEST_CODE to all CPUs; lines = 0;
 *      version++.
 *
 * A block is alive while version is what the block remembers and its lines are set. A CPU may run a dead block until
 * it serves REQUEST_CODE. It does so at the next block boundary after the kick, or when it writes to a page in which
 * it finds no code (codemap_heed). So a CPU that changes code itself never runs the old code. REQUEST_CODE is set
 * before lines are cleared: a CPU that sees a line cleared also sees the request. version rises last: a CPU that
 * reads the new version sees no line from before it, and takes the lock.
 *
 * Waiting. The CPUs of a guest may write each other's code all the time, and no CPU may starve of that. The lock is
 * held for a few instructions and is taken in turns (base/turns.h). No CPU waits for another one with the lock held.
 * A CPU that waits for a shootdown answers those of others meanwhile, so that two CPUs that shoot at each other both
 * go on. A CPU that is asked to exit gives up the wait: the lines stay marked, which costs at most a needless look,
 * and the shootdown is not noted.
 *
 * Two shootdowns at a time: both set REQUEST_SHOOT, and one answer serves both. The answer is a flush and then the
 * clearing of the bit, with no guest instruction between, and an entry made after it takes the lines of both into
 * account. If version moves on during a shootdown, the note names a version that is gone, and the next decoder
 * shoots again.
 *
 * Records are never freed before the VM: a few dozen bytes for each page that ever held code.
 */
#include "cpu/base/private.h"
#include "cpu/memory/codemap.h"
#include "cpu/memory/tlb.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BUCKETS 4096u
#define RECORDS (UINT64_C(1) << 18) /* for 1 GiB of code */

struct cpu_vm {
	struct turns lock; /* which CPU has which seat; versions, lines as they are cleared, REQUEST_CODE */
	struct bell bell;  /* of CPUs that wait for a shootdown or for atomic_owner */
	_Atomic(struct seat *) seats; /* only added to */
	struct cpu *_Atomic atomic_owner; /* written with the lock */
	uint64_t atomic_asked;            /* with the lock: the number that was given out last */
	/* RECORDS of them, mapped in advance: a guest decides when one is needed. Taking one makes no system call. */
	struct code_page *records;
	_Atomic(uint64_t) records_used; /* more than RECORDS: the rest came from malloc */
	_Atomic(struct code_page *) bucket[BUCKETS];
};

static struct code_page *record_make(struct cpu_vm *vm)
{
	uint64_t n = atomic_fetch_add(&vm->records_used, 1);

	return n < RECORDS ? &vm->records[n] : calloc(1, sizeof(struct code_page));
}

static void record_free(struct cpu_vm *vm, struct code_page *record)
{
	if (record < vm->records || record >= vm->records + RECORDS)
		free(record);
}

struct cpu_vm *cpu_vm_create(void)
{
	/* Mapped: most buckets are never touched. */
	struct cpu_vm *vm = mmap(NULL, sizeof(*vm), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (vm == MAP_FAILED)
		return NULL;
	vm->records = mmap(NULL, RECORDS * sizeof(struct code_page), PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->records == MAP_FAILED) {
		munmap(vm, sizeof(*vm));
		return NULL;
	}
	return vm;
}

void cpu_vm_destroy(struct cpu_vm *vm)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct code_page *page = atomic_load(&vm->bucket[i]);

		while (page != NULL) {
			struct code_page *next = page->next;

			record_free(vm, page);
			page = next;
		}
	}
	for (struct seat *seat = atomic_load(&vm->seats), *next; seat != NULL; seat = next) {
		next = seat->next;
		free(seat);
	}
	munmap(vm->records, RECORDS * sizeof(struct code_page));
	munmap(vm, sizeof(*vm));
}

/* Holds: the lock. Finds an empty seat, or makes one. */
static struct seat *seat_get(struct cpu_vm *vm)
{
	struct seat *seat;

	for (seat = atomic_load(&vm->seats); seat != NULL; seat = seat->next) {
		if (seat->cpu == NULL)
			return seat;
	}
	seat = calloc(1, sizeof(*seat));
	if (seat == NULL)
		return NULL;
	seat->next = atomic_load(&vm->seats);
	atomic_store(&vm->seats, seat); /* seq_cst: a reader without the lock sees the whole seat */
	return seat;
}

bool codemap_cpu_add(struct cpu_vm *vm, struct cpu *cpu)
{
	struct seat *seat;

	turns_take(&vm->lock);
	seat = seat_get(vm);
	if (seat != NULL) {
		seat->cpu = cpu;
		atomic_store(&seat->requests, 0);
		cpu->p->seat = seat;
		cpu->p->bell = &vm->bell;
	}
	turns_give(&vm->lock);
	return seat != NULL;
}

void codemap_cpu_remove(struct cpu_vm *vm, struct cpu *cpu)
{
	turns_take(&vm->lock);
	cpu->p->seat->cpu = NULL;
	turns_give(&vm->lock);
}

static _Atomic(struct code_page *) *codemap_bucket(struct cpu_vm *vm, uint64_t page)
{
	return &vm->bucket[(page >> 12 ^ page >> 24) % BUCKETS];
}

static struct code_page *codemap_lookup(struct cpu_vm *vm, uint64_t page)
{
	/* acquire: see the whole record. Pairs with the compare-and-swap in codemap_make. */
	struct code_page *at = atomic_load_explicit(codemap_bucket(vm, page), memory_order_acquire);

	while (at != NULL && at->page != page)
		at = at->next;
	return at;
}

struct code_page *codemap_find(struct cpu_vm *vm, const void *host)
{
	struct code_page *page = codemap_lookup(vm, (uint64_t)(uintptr_t)host & ~UINT64_C(0xfff));

	return page != NULL && atomic_load(&page->lines) != 0 ? page : NULL;
}

static struct code_page *codemap_make(struct cpu_vm *vm, uint64_t page)
{
	_Atomic(struct code_page *) *bucket = codemap_bucket(vm, page);
	struct code_page *found = codemap_lookup(vm, page);
	struct code_page *made;

	if (found != NULL)
		return found;
	made = record_make(vm);
	if (made == NULL)
		return NULL;
	made->page = page;
	made->next = atomic_load(bucket);
	while (!atomic_compare_exchange_weak(bucket, &made->next, made)) {
		/* Another CPU added a record to this bucket, perhaps for the same page. */
		found = codemap_lookup(vm, page);
		if (found != NULL) {
			record_free(vm, made); /* a mapped record is lost, whenever two CPUs meet here */
			return found;
		}
	}
	return made;
}

/* ---- asking the other CPUs, and answering ---------------------------------------------------------------------- */

static void serve_shoot(struct cpu *cpu)
{
	struct seat *seat = cpu->p->seat;

	if (likely(!(atomic_load(&seat->requests) & REQUEST_SHOOT)))
		return;
	tlb_flush_writes(cpu);
	atomic_fetch_and(&seat->requests, ~REQUEST_SHOOT);
	codemap_ring(cpu);
}

/*
 * Takes the lock, so that the writer that set the request has finished. Validation of a block finds from now on that
 * the block is dead.
 */
static void serve_code(struct cpu *cpu)
{
	turns_take(&cpu->p->vm->lock);
	atomic_fetch_and(&cpu->p->seat->requests, ~REQUEST_CODE);
	turns_give(&cpu->p->vm->lock);
	code_gen_next_all(cpu);
}

void codemap_answer(struct cpu *cpu)
{
	serve_shoot(cpu);
	if (unlikely(atomic_load(&cpu->p->seat->requests) & REQUEST_CODE))
		serve_code(cpu);
}

/* Holds: the lock. CPUs in the guest come out of it. */
static void others_kick(struct cpu *cpu)
{
	for (struct seat *seat = atomic_load(&cpu->p->vm->seats); seat != NULL; seat = seat->next) {
		/* seq_cst: pairs with run/run.c: in_guest = 1, then load of requests. One of the two sees the other. */
		if (seat->cpu != NULL && seat->cpu != cpu && atomic_load(&seat->in_guest))
			vmmu_vcpu_kick(seat->cpu->p->vcpu);
	}
}

/* Holds: the lock. */
static void others_ask(struct cpu *cpu, unsigned request)
{
	for (struct seat *seat = atomic_load(&cpu->p->vm->seats); seat != NULL; seat = seat->next) {
		if (seat->cpu != NULL && seat->cpu != cpu)
			atomic_fetch_or(&seat->requests, request);
	}
}

static bool has_answered(struct seat *seat)
{
	return !atomic_load(&seat->in_guest) || !(atomic_load(&seat->requests) & REQUEST_SHOOT);
}

/* Returns: false when this CPU is asked to exit. */
static bool answer_await(struct cpu *cpu, struct seat *seat)
{
	struct bell *bell = &cpu->p->vm->bell;

	for (unsigned spins = 0; !has_answered(seat); spins++) {
		serve_shoot(cpu);
		if (atomic_load(&cpu->p->seat->requests) & REQUEST_EXIT)
			return false;
		if (spins < TURNS_SPINS) {
			turns_pause();
		} else {
			uint32_t seen = bell_listen(bell);

			if (!has_answered(seat) &&
			    !(atomic_load(&cpu->p->seat->requests) & (REQUEST_SHOOT | REQUEST_EXIT)))
				bell_sleep(bell, seen);
			bell_leave(bell);
		}
	}
	return true;
}

/*
 * Take the fast write entries away from every CPU of the VM, and wait until no CPU can be using one. Called without the
 * lock, after others_ask and others_kick. Returns: false when this CPU is asked to exit.
 */
static bool shoot_await(struct cpu *cpu)
{
	tlb_flush_writes(cpu);
	codemap_ring(cpu); /* other CPUs may sleep in answer_await, too */
	for (struct seat *seat = atomic_load(&cpu->p->vm->seats); seat != NULL; seat = seat->next) {
		if (seat != cpu->p->seat && !answer_await(cpu, seat))
			return false;
	}
	return true;
}

/*
 * ---- code, and writes to it ----------------------------------------------------------------------------------------
 */

uint64_t codemap_lines(const uint8_t *host, unsigned bytes)
{
	unsigned at = (unsigned)(uintptr_t)host & 0xfff, first = at / 64, last = (at + bytes - 1) / 64;

	return (~UINT64_C(0) >> (63 - (last - first))) << first;
}

struct code_page *codemap_mark(struct cpu *cpu, const uint8_t *host, unsigned bytes, uint64_t *version)
{
	uint64_t mask = codemap_lines(host, bytes);
	struct code_page *page = codemap_make(cpu->p->vm, (uint64_t)(uintptr_t)host & ~UINT64_C(0xfff));
	bool shot;

	if (page == NULL)
		return NULL;
	*version = atomic_load(&page->version);
	if ((atomic_load(&page->lines) & mask) == mask && atomic_load(&page->shot) == *version + 1)
		return page;
	turns_take(&cpu->p->vm->lock);
	*version = atomic_load(&page->version);
	atomic_fetch_or(&page->lines, mask);
	shot = atomic_load(&page->shot) == *version + 1;
	if (!shot) {
		others_ask(cpu, REQUEST_SHOOT);
		others_kick(cpu);
	}
	turns_give(&cpu->p->vm->lock);
	if (shot)
		return page;
	if (!shoot_await(cpu))
		cpu_leave(cpu, LEAVE_RESTART);
	atomic_store(&page->shot, *version + 1);
	return page;
}

bool codemap_alive(const struct code_page *page, uint64_t version, uint64_t lines)
{
	return page != NULL && atomic_load(&page->version) == version && (atomic_load(&page->lines) & lines) == lines;
}

void codemap_written(struct cpu *cpu, struct code_page *page)
{
	struct cpu_vm *vm = cpu->p->vm;

	turns_take(&vm->lock);
	others_ask(cpu, REQUEST_CODE);
	atomic_store(&page->lines, 0);
	atomic_fetch_add(&page->version, 1);
	others_kick(cpu);
	turns_give(&vm->lock);
	code_gen_next_all(cpu);
}

void codemap_heed(struct cpu *cpu)
{
	if (likely(!(atomic_load(&cpu->p->seat->requests) & REQUEST_CODE)))
		return;
	/*
	 * The page may have held code that this CPU still believes in, perhaps the block that it is running. Do not
	 * answer here: the instruction may hold an address that answering REQUEST_SHOOT takes away. run/run.c answers
	 * when the instruction has left, and the instruction begins again, alone. An instruction that runs alone goes
	 * on, or other CPUs could send it back for ever. No old block runs before run/run.c answers at its end.
	 */
	if (cpu->single)
		return;
	cpu->p->single_next = true;
	cpu_leave(cpu, LEAVE_RESTART);
}

struct code_page *codemap_for_write(struct cpu *cpu, const void *host)
{
	struct code_page *page = codemap_find(cpu->p->vm, host);

	if (page == NULL)
		codemap_heed(cpu);
	return page;
}

/*
 * ---- one locked access at a time ------------------------------------------------------------------------------------
 */

bool codemap_atomic_try(struct cpu *cpu)
{
	struct cpu_vm *vm = cpu->p->vm;
	bool got;

	turns_take(&vm->lock);
	got = atomic_load(&vm->atomic_owner) == NULL; /* while a CPU waits for it, it has an owner */
	if (got)
		atomic_store(&vm->atomic_owner, cpu);
	turns_give(&vm->lock);
	cpu->p->atomic_locked = got;
	return got;
}

/* The lock goes to the CPU that has waited longest. */
void codemap_atomic_give(struct cpu *cpu)
{
	struct cpu_vm *vm = cpu->p->vm;
	struct seat *first = NULL;

	turns_take(&vm->lock);
	for (struct seat *seat = atomic_load(&vm->seats); seat != NULL; seat = seat->next) {
		if (seat->atomic_number != 0 && (first == NULL || seat->atomic_number < first->atomic_number))
			first = seat;
	}
	if (first != NULL)
		first->atomic_number = 0;
	atomic_store(&vm->atomic_owner, first != NULL ? first->cpu : NULL);
	turns_give(&vm->lock);
	cpu->p->atomic_locked = false;
	codemap_ring(cpu);
}

/* Holds: vm->lock. Give up waiting. Returns: false when the lock for accesses has come already. */
static bool atomic_withdraw(struct cpu *cpu)
{
	cpu->p->seat->atomic_number = 0;
	return atomic_load(&cpu->p->vm->atomic_owner) != cpu;
}

void codemap_atomic_await(struct cpu *cpu)
{
	struct cpu_vm *vm = cpu->p->vm;
	bool withdrawn = false;

	if (codemap_atomic_try(cpu))
		return;
	turns_take(&vm->lock);
	if (atomic_load(&vm->atomic_owner) == NULL)
		atomic_store(&vm->atomic_owner, cpu); /* the lock was given back since codemap_atomic_try */
	else
		cpu->p->seat->atomic_number = ++vm->atomic_asked;
	turns_give(&vm->lock);
	while (atomic_load(&vm->atomic_owner) != cpu && !withdrawn) {
		uint32_t seen = bell_listen(&vm->bell);

		/* An instruction to which a device has answered is finished first. */
		if (!cpu->p->completing && (atomic_load(&cpu->p->seat->requests) & REQUEST_EXIT)) {
			turns_take(&vm->lock);
			withdrawn = atomic_withdraw(cpu);
			turns_give(&vm->lock);
		} else if (atomic_load(&vm->atomic_owner) != cpu) {
			bell_sleep(&vm->bell, seen);
		}
		bell_leave(&vm->bell);
	}
	cpu->p->atomic_locked = !withdrawn;
}
