/* SPDX-License-Identifier: MIT */
/* Operations of vCPUs: accesses, copies by the hypervisor, prefault, and vCPUs that come and go. */
#include <stdlib.h>
#include <string.h>

#include "test/oracle/model.h"

/*
 * While any invalidation is in progress, a fault anywhere may be told to retry: the library keeps one range that
 * covers all invalidations in progress.
 */
static bool acceptable(const struct model *m, enum mcpu_result wanted, enum mcpu_result got)
{
	if (got == wanted)
		return true;
	if (wanted == MCPU_OK || m->shadow) /* under shadow paging the guest's kernel may have to make an entry first */
		return got == MCPU_BUSY && m->outstanding;
	/* The page is gone, and its invalidation is in progress: the library may notice either of the two first. */
	return wanted == MCPU_HOST && got == MCPU_BUSY && m->outstanding;
}

void access_check(struct model *m, unsigned n, uint64_t gfn, bool write)
{
	struct mcpu *cpu = &m->cpu[n].cpu;
	uint64_t value = m->next_value, *expected;
	enum mcpu_result wanted, got;
	struct mslot *slot;

	if (m->shadow && gfn >= GUEST_PAGES)
		return; /* no linear address of four-level paging reaches it */
	wanted = model_access(m, m->cpu[n].as, gfn, write, &expected, &slot);
	for (;;) {
		got = write ? mcpu_write(cpu, gfn << 12, value) : mcpu_read(cpu, gfn << 12, &value);
		if (got != MCPU_RING_FULL || !m->ring)
			break;
		/* The fault may have marked the page, but the access was not made. */
		if (write && slot && slot->ever)
			slot->ever[gfn - slot->base] = EVER_WRITTEN;
		ring_harvest(m, rng_one_in(&m->rng, 2));
	}
	trace("vcpu %u %s gfn %llx as %u: %s, value %llu", n, write ? "write" : "read", (unsigned long long)gfn,
	      m->cpu[n].as, mcpu_result_name(got), (unsigned long long)value);
	m->compared++;
	if (!acceptable(m, wanted, got))
		mismatch(m, "vcpu %u, gfn %llx: expected %s, got %s", n, (unsigned long long)gfn,
		         mcpu_result_name(wanted), mcpu_result_name(got));
	if (got == MCPU_HOST && write && slot->ever)
		slot->ever[gfn - slot->base] = EVER_REFUSED;
	if (got != MCPU_OK)
		return;
	if (write) {
		*expected = value;
		m->next_value++;
		model_mark(slot, gfn);
	} else if (value != *expected) {
		mismatch(m, "vcpu %u, gfn %llx: expected value %llu, got %llu", n, (unsigned long long)gfn,
		         (unsigned long long)*expected, (unsigned long long)value);
	}
}

static int pick_cpu(struct model *m)
{
	unsigned first = rng_below(&m->rng, CPUS);

	for (unsigned i = 0; i < CPUS; i++)
		if (m->cpu[(first + i) % CPUS].exists)
			return (first + i) % CPUS;
	return -1;
}

void op_access(struct model *m)
{
	int n = pick_cpu(m);
	unsigned accesses = 1 + rng_below(&m->rng, 12);

	if (n < 0)
		return;
	if (m->config.address_spaces > 1 && rng_one_in(&m->rng, 12)) {
		mcpu_leave(&m->cpu[n].cpu);
		m->cpu[n].as = rng_below(&m->rng, 2);
		if (vmmu_vcpu_address_space_set(m->cpu[n].cpu.vcpu, m->cpu[n].as) != VMMU_OK)
			abort();
		trace("vcpu %d to address space %u", n, m->cpu[n].as);
	}
	while (accesses--)
		access_check(m, n, model_pick_gfn(m, m->cpu[n].as), rng_one_in(&m->rng, 2));
}

/* --- copies by the hypervisor: up to three pages --- */

enum { COPY_PAGES = 3 };

static enum vmmu_status copy_expected(struct model *m, unsigned as, uint64_t gfn, unsigned pages, bool write)
{
	enum vmmu_status status = VMMU_OK;

	for (unsigned i = 0; i < pages; i++) {
		struct mslot *slot = model_slot_at(m, as, gfn + i);
		uint8_t state;

		if (!slot || (write && (slot->flags & VMMU_SLOT_READONLY)))
			return VMMU_ENOENT;
		state = slot->arena->state[slot->offset + gfn + i - slot->base];
		if (status == VMMU_OK && (state == PAGE_GONE || (write && state == PAGE_READONLY)))
			status = VMMU_EFAULT;
	}
	return status;
}

/* Apply a copy to the model: the pages before the first that failed were written. */
static void copy_apply(struct model *m, unsigned as, uint64_t gfn, unsigned pages, const uint64_t *words)
{
	for (unsigned i = 0; i < pages; i++) {
		struct mslot *slot = model_slot_at(m, as, gfn + i);
		uint64_t page = slot->offset + gfn + i - slot->base;

		if (slot->arena->state[page] != PAGE_OK)
			return;
		slot->arena->value[page] = words[i * 512];
		model_mark(slot, gfn + i);
	}
}

static void copy_compare(struct model *m, unsigned as, uint64_t gfn, unsigned pages, const uint64_t *words)
{
	for (unsigned i = 0; i < pages; i++) {
		struct mslot *slot = model_slot_at(m, as, gfn + i);
		uint64_t expected = slot->arena->value[slot->offset + gfn + i - slot->base];

		if (words[i * 512] != expected)
			mismatch(m, "guest_read of gfn %llx: expected %llu, got %llu", (unsigned long long)gfn + i,
			         (unsigned long long)expected, (unsigned long long)words[i * 512]);
	}
}

void op_guest_copy(struct model *m)
{
	static uint64_t words[COPY_PAGES * 512];
	int n = pick_cpu(m);
	unsigned pages = 1 + rng_below(&m->rng, COPY_PAGES);
	bool write = rng_one_in(&m->rng, 2);
	enum vmmu_status wanted, got;
	uint64_t gfn;

	if (n < 0)
		return;
	mcpu_leave(&m->cpu[n].cpu);
	if (m->ring)
		ring_harvest(m, true); /* make room: a copy does not stop for a full ring as a vCPU that enters does */
	gfn = model_pick_gfn(m, m->cpu[n].as);
	for (unsigned i = 0; write && i < pages; i++)
		words[i * 512] = m->next_value++;
	wanted = copy_expected(m, m->cpu[n].as, gfn, pages, write);
	got = write ? vmmu_guest_write(m->cpu[n].cpu.vcpu, (struct vmmu_gpa){ gfn << 12 }, words, pages * 4096)
	            : vmmu_guest_read(m->cpu[n].cpu.vcpu, (struct vmmu_gpa){ gfn << 12 }, words, pages * 4096);
	trace("vcpu %d guest_%s gfn %llx, %u pages: %s", n, write ? "write" : "read", (unsigned long long)gfn, pages,
	      vmmu_status_name(got));
	if (got != wanted)
		mismatch(m, "expected %s", vmmu_status_name(wanted));
	if (write && got != VMMU_ENOENT)
		copy_apply(m, m->cpu[n].as, gfn, pages, words);
	else if (got == VMMU_OK)
		copy_compare(m, m->cpu[n].as, gfn, pages, words);
}

/* --- prefault --- */

void op_prefault(struct model *m)
{
	int n = pick_cpu(m);
	uint64_t pages = 1 + rng_below(&m->rng, 20), gfn, done = 0, expected = 0, *value;
	enum vmmu_status got;
	enum mcpu_result result = MCPU_OK;
	struct mslot *slot;

	if (n < 0)
		return;
	mcpu_leave(&m->cpu[n].cpu);
	gfn = model_pick_gfn(m, m->cpu[n].as);
	got = vmmu_prefault(m->cpu[n].cpu.vcpu, (struct vmmu_gpa){ gfn << 12 }, pages << 12, &done);
	trace("vcpu %d prefault gfn %llx, %llu pages: %s after %llu", n, (unsigned long long)gfn,
	      (unsigned long long)pages, vmmu_status_name(got), (unsigned long long)done >> 12);
	if (m->shadow || gfn + pages > GUEST_PAGES) {
		if (got != VMMU_EINVAL || done)
			mismatch(m, "expected %s", vmmu_status_name(VMMU_EINVAL));
		return;
	}
	while (expected < pages && (result = model_access(m, m->cpu[n].as, gfn + expected, false, &value,
	                                                  &slot)) == MCPU_OK)
		expected++;
	if (m->outstanding && got == VMMU_EAGAIN && done >> 12 <= expected)
		return;
	if (done != expected << 12)
		mismatch(m, "expected %llu pages", (unsigned long long)expected);
	if (got != (result == MCPU_OK ? VMMU_OK : result == MCPU_MMIO ? VMMU_ENOENT :
	            result == MCPU_HOST ? VMMU_EFAULT : VMMU_EAGAIN))
		mismatch(m, "page %llu: %s", (unsigned long long)expected, mcpu_result_name(result));
}

/* --- vCPUs come and go --- */

static void vcpu_make(struct model *m, unsigned n)
{
	struct vmmu_vcpu *vcpu;
	enum vmmu_status status = vmmu_vcpu_create(m->vm, n, &m->cpu[n].cpu, &vcpu);

	if (status != VMMU_OK)
		mismatch(m, "vcpu %u: %s", n, vmmu_status_name(status));
	if (vmmu_vcpu_create(m->vm, n, NULL, &vcpu) != VMMU_EEXIST)
		mismatch(m, "two vCPUs of one number");
	mcpu_init(&m->cpu[n].cpu, vcpu);
	m->cpu[n].cpu.max_retries = 3;
	if (m->shadow)
		mcpu_page(&m->cpu[n].cpu, &m->guest[n % GUESTS], rng_next(&m->rng));
	m->cpu[n].exists = true;
	m->cpu[n].as = 0;
	m->cpu[n].fetch = 0;
	if (!m->ring)
		return;
	m->cpu[n].ring = calloc(RING, sizeof(*m->cpu[n].ring));
	vmmu_vcpu_dirty_ring_set(vcpu, m->cpu[n].ring);
}

void op_vcpu(struct model *m)
{
	unsigned n = rng_below(&m->rng, CPUS);

	trace("vcpu %u %s", n, m->cpu[n].exists ? "goes" : "comes");
	if (!m->cpu[n].exists) {
		vcpu_make(m, n);
		return;
	}
	mcpu_leave(&m->cpu[n].cpu);
	if (m->ring)
		ring_leave(m, n);
	vmmu_vcpu_destroy(m->cpu[n].cpu.vcpu);
	free(m->cpu[n].ring);
	m->cpu[n].ring = NULL;
	m->cpu[n].exists = false;
}
