/* SPDX-License-Identifier: MIT */
/*
 * Which host pages hold decoded code, for all vCPUs of a VM, so that self- and cross-modifying code works.
 *
 * A page that holds code is never written through a fast TLB entry: such writes come to mem.c, which calls codemap_written when
 * they touch a line with code. The protocol, for a decoder D and a writer W:
 *
 *   D: v = version; if lines has mine and write TLBs were shot for v: go on, else with the lock: v = version, lines |= mine, shoot and
 *      wait. Decode; the block remembers v and its lines.
 *   W: (fast entry)  the shoot removes it, and its stores before that are visible to D.
 *   W: (slow entry)  store; fence; if lines has the line, with the lock: REQUEST_CODE to all; lines = 0; version++.
 *
 * A block is alive while version is what it remembers and its lines are set. A CPU runs dead blocks at most until it takes note of
 * REQUEST_CODE: at the next block boundary after the kick, or when it writes to a page that it finds without code (codemap_heed),
 * so that a CPU that changes code itself never runs what was there. REQUEST_CODE is set before lines are cleared: who sees no line
 * sees the request. version rises last: who reads the new one sees no line of before, and takes the lock.
 *
 * Records are never freed before the VM: a few dozen bytes for each page that ever held code.
 */
#include "cpu/run_int.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BUCKETS 4096u

struct cpu_vm {
	pthread_mutex_t lock; /* the list of CPUs */
	pthread_mutex_t atomic_lock;
	struct cpu *cpus;
	_Atomic(struct code_page *) bucket[BUCKETS];
};

struct cpu_vm *cpu_vm_create(void)
{
	/* Mapped: most buckets are never touched. */
	struct cpu_vm *vm = mmap(NULL, sizeof(*vm), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (vm == MAP_FAILED)
		return NULL;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->atomic_lock, NULL);
	return vm;
}

void cpu_vm_destroy(struct cpu_vm *vm)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct code_page *page = atomic_load(&vm->bucket[i]);

		while (page != NULL) {
			struct code_page *next = page->next;

			free(page);
			page = next;
		}
	}
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->atomic_lock);
	munmap(vm, sizeof(*vm));
}

void codemap_cpu_add(struct cpu_vm *vm, struct cpu *cpu)
{
	pthread_mutex_lock(&vm->lock);
	cpu->p->next = vm->cpus;
	vm->cpus = cpu;
	pthread_mutex_unlock(&vm->lock);
}

void codemap_cpu_remove(struct cpu_vm *vm, struct cpu *cpu)
{
	pthread_mutex_lock(&vm->lock);
	for (struct cpu **at = &vm->cpus; *at != NULL; at = &(*at)->p->next) {
		if (*at == cpu) {
			*at = cpu->p->next;
			break;
		}
	}
	pthread_mutex_unlock(&vm->lock);
}

static _Atomic(struct code_page *) *codemap_bucket(struct cpu_vm *vm, uint64_t page)
{
	return &vm->bucket[(page >> 12 ^ page >> 24) % BUCKETS];
}

static struct code_page *codemap_lookup(struct cpu_vm *vm, uint64_t page)
{
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
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return NULL;
	made->page = page;
	made->next = atomic_load(bucket);
	while (!atomic_compare_exchange_weak(bucket, &made->next, made)) {
		/* Somebody added one: perhaps this page. */
		found = codemap_lookup(vm, page);
		if (found != NULL) {
			free(made);
			return found;
		}
	}
	return made;
}

static void serve_shoot(struct cpu *cpu)
{
	if (atomic_load(&cpu->p->requests) & REQUEST_SHOOT) {
		tlb_flush_writes(cpu);
		atomic_fetch_and(&cpu->p->requests, ~REQUEST_SHOOT);
	}
}

static void codemap_lock(struct cpu *cpu)
{
	while (pthread_mutex_trylock(&cpu->p->vm->lock) != 0) {
		serve_shoot(cpu); /* whoever has it may be waiting for this CPU */
		sched_yield();
	}
}

/* With the lock, so that a writer who has set the request is through: blocks that are looked at from now on are seen to be dead. */
static void serve_code(struct cpu *cpu)
{
	codemap_lock(cpu);
	atomic_fetch_and(&cpu->p->requests, ~REQUEST_CODE);
	pthread_mutex_unlock(&cpu->p->vm->lock);
	cpu->code_gen++;
}

void codemap_serve(struct cpu *cpu)
{
	serve_shoot(cpu);
	if (unlikely(atomic_load(&cpu->p->requests) & REQUEST_CODE))
		serve_code(cpu);
}

/* Take fast write entries away from every CPU of the VM, and wait until none can be using one. With the lock. */
static void codemap_shoot(struct cpu *cpu)
{
	struct cpu_vm *vm = cpu->p->vm;

	tlb_flush_writes(cpu);
	for (struct cpu *other = vm->cpus; other != NULL; other = other->p->next) {
		if (other == cpu)
			continue;
		/* seq_cst pairs with in_guest = 1 then requests in run.c: one of the two sees the other. */
		atomic_fetch_or(&other->p->requests, REQUEST_SHOOT);
		if (atomic_load(&other->p->in_guest))
			vmmu_vcpu_kick(other->p->vcpu);
	}
	for (struct cpu *other = vm->cpus; other != NULL; other = other->p->next) {
		if (other == cpu)
			continue;
		while (atomic_load(&other->p->in_guest) && (atomic_load(&other->p->requests) & REQUEST_SHOOT)) {
			serve_shoot(cpu);
			sched_yield();
		}
	}
}

uint64_t codemap_lines(const uint8_t *host, unsigned bytes)
{
	unsigned at = (unsigned)(uintptr_t)host & 0xfff, first = at / 64, last = (at + bytes - 1) / 64;

	return (~UINT64_C(0) >> (63 - (last - first))) << first;
}

struct code_page *codemap_mark(struct cpu *cpu, const uint8_t *host, unsigned bytes, uint64_t *version)
{
	uint64_t mask = codemap_lines(host, bytes);
	struct code_page *page = codemap_make(cpu->p->vm, (uint64_t)(uintptr_t)host & ~UINT64_C(0xfff));

	if (page == NULL)
		return NULL;
	*version = atomic_load(&page->version);
	if ((atomic_load(&page->lines) & mask) == mask && atomic_load(&page->shot) == *version + 1)
		return page;
	codemap_lock(cpu);
	*version = atomic_load(&page->version);
	atomic_fetch_or(&page->lines, mask);
	if (atomic_load(&page->shot) != *version + 1) {
		codemap_shoot(cpu);
		atomic_store(&page->shot, *version + 1);
	}
	pthread_mutex_unlock(&cpu->p->vm->lock);
	return page;
}

bool codemap_alive(const struct code_page *page, uint64_t version, uint64_t lines)
{
	return page != NULL && atomic_load(&page->version) == version && (atomic_load(&page->lines) & lines) == lines;
}

void codemap_written(struct cpu *cpu, struct code_page *page)
{
	struct cpu_vm *vm = cpu->p->vm;

	codemap_lock(cpu);
	for (struct cpu *other = vm->cpus; other != NULL; other = other->p->next) {
		if (other != cpu)
			atomic_fetch_or(&other->p->requests, REQUEST_CODE);
	}
	atomic_store(&page->lines, 0);
	atomic_fetch_add(&page->version, 1);
	for (struct cpu *other = vm->cpus; other != NULL; other = other->p->next) {
		if (other != cpu && atomic_load(&other->p->in_guest))
			vmmu_vcpu_kick(other->p->vcpu);
	}
	pthread_mutex_unlock(&vm->lock);
	cpu->code_gen++;
}

void codemap_heed(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;

	if (likely(!(atomic_load(&p->requests) & REQUEST_CODE)))
		return;
	/*
	 * It may have been code that this CPU still believes in, perhaps the block that is being run. Not here, where the instruction
	 * may hold an address that answering REQUEST_SHOOT takes away: run.c serves when it lands, and the instruction begins again.
	 */
	p->single_next = true;
	cpu_leave(cpu, LEAVE_RESTART);
}

struct code_page *codemap_for_write(struct cpu *cpu, const void *host)
{
	struct code_page *page = codemap_find(cpu->p->vm, host);

	if (page == NULL)
		codemap_heed(cpu);
	return page;
}

bool codemap_atomic_trylock(struct cpu_vm *vm)
{
	if (pthread_mutex_trylock(&vm->atomic_lock) == 0)
		return true;
	sched_yield();
	return false;
}

void codemap_atomic_unlock(struct cpu_vm *vm)
{
	pthread_mutex_unlock(&vm->atomic_lock);
}
