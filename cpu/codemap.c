/* SPDX-License-Identifier: MIT */
/*
 * Which host pages hold decoded code, for all vCPUs of a VM, so that self- and cross-modifying code works.
 *
 * A page that holds code is never written through a fast TLB entry: such writes come to mem.c, which calls codemap_written when
 * they touch a line with code. The protocol, for a decoder D and a writer W:
 *
 *   D: v = version; lines |= mine; if nobody shot for v: shoot and wait; decode; the block remembers v.
 *   W: (fast entry)  the shoot removes it, and its stores before that are visible to D.
 *   W: (slow entry)  store; fence; if lines has the line: lines = 0; version++; tell all CPUs.
 *
 * D before W's version++: the block is dead when W's increment is seen, at the latest at the next block boundary after REQUEST_CODE.
 * D after it: sees the store. lines is cleared before version rises and D reads version before it sets lines, so no block is
 * alive whose line is not set.
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

void codemap_serve(struct cpu *cpu)
{
	unsigned requests = atomic_load(&cpu->p->requests);

	if (requests & REQUEST_SHOOT) {
		tlb_flush_writes(cpu);
		atomic_fetch_and(&cpu->p->requests, ~REQUEST_SHOOT);
	}
	if (requests & REQUEST_CODE) {
		atomic_fetch_and(&cpu->p->requests, ~REQUEST_CODE);
		cpu->code_gen++;
	}
}

/* Take fast write entries away from every CPU of the VM, and wait until none can be using one. */
static void codemap_shoot(struct cpu *cpu)
{
	struct cpu_vm *vm = cpu->p->vm;

	tlb_flush_writes(cpu);
	while (pthread_mutex_trylock(&vm->lock) != 0)
		codemap_serve(cpu); /* whoever has it may be waiting for this CPU */
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
			codemap_serve(cpu);
			sched_yield();
		}
	}
	pthread_mutex_unlock(&vm->lock);
}

struct code_page *codemap_mark(struct cpu *cpu, const uint8_t *host, unsigned bytes, uint64_t *version)
{
	uint64_t at = (uint64_t)(uintptr_t)host;
	unsigned first = (at & 0xfff) / 64, last = ((at & 0xfff) + bytes - 1) / 64;
	uint64_t mask = (~UINT64_C(0) >> (63 - (last - first))) << first;
	struct code_page *page = codemap_make(cpu->p->vm, at & ~UINT64_C(0xfff));

	if (page == NULL)
		return NULL;
	*version = atomic_load(&page->version);
	if ((atomic_load(&page->lines) & mask) != mask)
		atomic_fetch_or(&page->lines, mask);
	if (atomic_load(&page->shot) != *version + 1) {
		codemap_shoot(cpu);
		atomic_store(&page->shot, *version + 1);
	}
	return page;
}

void codemap_written(struct cpu *cpu, struct code_page *page)
{
	struct cpu_vm *vm = cpu->p->vm;

	atomic_store(&page->lines, 0);
	atomic_fetch_add(&page->version, 1);
	cpu->code_gen++;
	while (pthread_mutex_trylock(&vm->lock) != 0)
		codemap_serve(cpu);
	for (struct cpu *other = vm->cpus; other != NULL; other = other->p->next) {
		if (other == cpu)
			continue;
		atomic_fetch_or(&other->p->requests, REQUEST_CODE);
		if (atomic_load(&other->p->in_guest))
			vmmu_vcpu_kick(other->p->vcpu);
	}
	pthread_mutex_unlock(&vm->lock);
}

bool codemap_atomic_trylock(struct cpu_vm *vm)
{
	pthread_mutex_lock(&vm->atomic_lock);
}

void codemap_atomic_unlock(struct cpu_vm *vm)
{
	pthread_mutex_unlock(&vm->atomic_lock);
}
