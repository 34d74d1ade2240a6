/* SPDX-License-Identifier: MIT */
#include "test/fault/script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/sync/vm.h"

#define HOME  UINT64_C(0x40000000)
#define MOVED UINT64_C(0x80000000)
#define PAGING UINT64_C(0xc0000000)
#define BLOCK (UINT64_C(2) << 20)

_Noreturn void script_fail(struct script *s, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "variant %u, %s %lld: ", s->variant, s->kind_name, (long long)s->n);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

static void line_out(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "    %s\n", text);
}

void script_audit(struct script *s, const char *step)
{
	struct audit_report report = { .out = { line_out, NULL }, .ran_out_of_memory = s->failed_steps };

	for (unsigned n = 0; n < CPUS; n++)
		if (s->cpu[n].vcpu)
			mcpu_leave(&s->cpu[n]);
	if (s->vm && !audit_vm(&s->vm->vm, &report))
		script_fail(s, "the audit found %llu violations after step %s", (unsigned long long)report.violations,
		            step);
}

void script_memory_make(struct script *s)
{
	char *raw = mmap(NULL, AREA_PAGES * 4096 + BLOCK, PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (raw == MAP_FAILED)
		abort();
	s->tables = mmap(NULL, TABLES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->tables == MAP_FAILED)
		abort();
	s->area = (char *)(((uintptr_t)raw + BLOCK - 1) & ~(BLOCK - 1));
	madvise(s->area, AREA_PAGES * 4096, MADV_NOHUGEPAGE);
}

void script_memory_reset(struct script *s)
{
	madvise(s->area, AREA_PAGES * 4096, MADV_DONTNEED);
	memset(s->tables, 0, TABLES * 4096);
	mcpu_guest_init(&s->guest, PAGING, s->tables, TABLES);
	memset(s->cpu, 0, sizeof(s->cpu));
	memset(s->ring, 0, sizeof(s->ring));
	memset(s->fetch, 0, sizeof(s->fetch));
	memset(s->dirty, 0, sizeof(s->dirty));
	s->vm = NULL;
	s->logged = false;
	s->next_value = 1;
}

/* --- steps --- */

static void kicked(void *cookie)
{
	mcpu_leave(cookie);
}

static enum vmmu_status vm_create(struct script *s)
{
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &thost_ops,
		.host_state = &s->host,
		.mmu = s->variant & 8 ? VMMU_MMU_SHADOW : VMMU_MMU_TDP,
		.format = s->variant & 8 ? VMMU_FORMAT_NPT4 : s->variant & 1 ? VMMU_FORMAT_EPT4 : VMMU_FORMAT_NPT5,
		.address_spaces = 2,
		.max_vcpus = 4,
		.slot_delete_zaps_slot = s->variant & 2,
	};

	s->host.kick = kicked;
	return vmmu_vm_create(&config, &s->vm);
}

static enum vmmu_status mode_set(struct script *s)
{
	if (s->variant & 4)
		return vmmu_dirty_ring_enable(s->vm, RING);
	return vmmu_dirty_mode_set(s->vm, VMMU_DIRTY_MANUAL_PROTECT);
}

static enum vmmu_status tables_create(struct script *s)
{
	struct vmmu_region region = { .slot = 7, .gpa = { PAGING }, .bytes = TABLES * 4096,
	                              .hva = { (uintptr_t)s->tables } };
	enum vmmu_status status = VMMU_OK;

	for (unsigned as = 0; as < 2 && status == VMMU_OK && s->variant & 8; as++) {
		region.address_space = as;
		status = vmmu_region_set(s->vm, &region);
	}
	return status;
}

static enum vmmu_status vcpu_create(struct script *s, unsigned n)
{
	struct vmmu_vcpu *vcpu;
	enum vmmu_status status = vmmu_vcpu_create(s->vm, n, &s->cpu[n], &vcpu);

	if (status != VMMU_OK)
		return status;
	mcpu_init(&s->cpu[n], vcpu);
	s->cpu[n].max_retries = 2;
	if (s->variant & 8)
		mcpu_page(&s->cpu[n], &s->guest, n + 1);
	if (s->variant & 4)
		vmmu_vcpu_dirty_ring_set(vcpu, s->ring[n]);
	return VMMU_OK;
}

static enum vmmu_status vcpus_create(struct script *s)
{
	for (unsigned n = 0; n < CPUS; n++)
		if (!s->cpu[n].vcpu) {
			enum vmmu_status status = vcpu_create(s, n);

			if (status != VMMU_OK)
				return status;
		}
	return VMMU_OK;
}

static enum vmmu_status slot(struct script *s, unsigned as, unsigned id, uint64_t gpa, uint64_t pages, unsigned flags)
{
	struct vmmu_region region = {
		.slot = id, .address_space = as, .flags = flags, .gpa = { gpa }, .bytes = pages << 12,
		.hva = { (uintptr_t)s->area },
	};

	return vmmu_region_set(s->vm, &region);
}

static enum vmmu_status slot_create(struct script *s)
{
	return slot(s, 0, 0, HOME, AREA_PAGES, 0);
}

static enum vmmu_status slot_create_far(struct script *s)
{
	return slot(s, 1, VMMU_MAX_SLOTS - 1, HOME, 700, VMMU_SLOT_READONLY);
}

static enum vmmu_status log_start(struct script *s)
{
	enum vmmu_status status = slot(s, 0, 0, HOME, AREA_PAGES, VMMU_SLOT_LOG_DIRTY);

	s->logged = status == VMMU_OK;
	return status;
}

static enum vmmu_status log_stop(struct script *s)
{
	s->logged = false;
	memset(s->dirty, 0, sizeof(s->dirty));
	return slot(s, 0, 0, HOME, AREA_PAGES, 0);
}

static enum vmmu_status slot_move(struct script *s)
{
	return slot(s, 0, 0, MOVED, AREA_PAGES, 0);
}

static enum vmmu_status slot_move_back(struct script *s)
{
	return slot(s, 0, 0, HOME, AREA_PAGES, 0);
}

static enum vmmu_status slot_delete(struct script *s)
{
	return slot(s, 0, 0, HOME, 0, 0);
}

static enum vmmu_status result_status(struct script *s, enum mcpu_result result)
{
	switch (result) {
	case MCPU_OK:
		return VMMU_OK;
	case MCPU_NOMEM:
		return VMMU_ENOMEM;
	case MCPU_HOST:
		return VMMU_EFAULT;
	default:
		script_fail(s, "an access: %s", mcpu_result_name(result));
	}
}

/* Write several pages in several blocks. The other vCPU reads each value back. */
static enum vmmu_status touch_at(struct script *s, uint64_t gpa)
{
	static const unsigned pages[] = { 0, 5, 300, 18 * 512, 18 * 512 + 300, AREA_PAGES - 512, AREA_PAGES - 400,
	                                  AREA_PAGES - 1 };

	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		unsigned page = pages[i];
		uint64_t value = s->next_value++, got, at = gpa + ((uint64_t)page << 12);
		unsigned n = i % CPUS;
		enum vmmu_status status = result_status(s, mcpu_write(&s->cpu[n], at, value));

		if (status == VMMU_OK)
			s->dirty[page] = s->logged;
		if (status == VMMU_OK)
			status = result_status(s, mcpu_read(&s->cpu[!n], at, &got));
		if (status != VMMU_OK)
			return status;
		if (got != value)
			script_fail(s, "page %u has %llu, not %llu", page, (unsigned long long)got,
			            (unsigned long long)value);
	}
	return VMMU_OK;
}

static enum vmmu_status touch(struct script *s)
{
	return touch_at(s, HOME);
}

/* Map every block by a huge leaf, so that the start of logging has to split all of them. */
static enum vmmu_status fill(struct script *s)
{
	for (unsigned page = 0; page < AREA_PAGES; page += 512) {
		uint64_t value;
		enum vmmu_status status =
			result_status(s, mcpu_read(&s->cpu[0], HOME + ((uint64_t)page << 12), &value));

		if (status != VMMU_OK)
			return status;
	}
	return VMMU_OK;
}

static enum vmmu_status touch_moved(struct script *s)
{
	return touch_at(s, MOVED);
}

static enum vmmu_status touch_mmio(struct script *s)
{
	uint64_t value;
	enum mcpu_result result = mcpu_read(&s->cpu[0], 0x1000, &value);

	return result == MCPU_MMIO ? VMMU_OK : result_status(s, result);
}

static enum vmmu_status touch_smm(struct script *s)
{
	enum mcpu_result result;
	uint64_t value;

	mcpu_leave(&s->cpu[1]);
	if (vmmu_vcpu_address_space_set(s->cpu[1].vcpu, 1) != VMMU_OK)
		abort();
	result = mcpu_read(&s->cpu[1], HOME + 0x1000, &value);
	mcpu_leave(&s->cpu[1]);
	if (result == MCPU_OK && vmmu_vcpu_address_space_set(s->cpu[1].vcpu, 0) != VMMU_OK)
		abort();
	return result_status(s, result);
}

static enum vmmu_status prefault(struct script *s)
{
	uint64_t done;

	mcpu_leave(&s->cpu[0]);
	if (s->variant & 8)
		return VMMU_OK; /* there is no prefault under shadow paging */
	return vmmu_prefault(s->cpu[0].vcpu, (struct vmmu_gpa){ HOME + 512 * 4096 }, 64 * 4096, &done);
}

static enum vmmu_status invalidate(struct script *s)
{
	struct vmmu_hva start = { (uintptr_t)s->area + 100 * 4096 }, end = { start.v + 200 * 4096 };

	vmmu_invalidate_begin(s->vm, start, end);
	madvise(s->area + 100 * 4096, 200 * 4096, MADV_DONTNEED);
	vmmu_invalidate_end(s->vm, start, end);
	return VMMU_OK;
}

static enum vmmu_status harvest_rings(struct script *s)
{
	uint64_t taken;

	for (unsigned n = 0; n < CPUS; n++)
		for (;; s->fetch[n]++) {
			struct vmmu_dirty_gfn *entry = &s->ring[n][s->fetch[n] % RING];

			if (entry->flags != VMMU_DIRTY_GFN_DIRTY)
				break;
			entry->flags = VMMU_DIRTY_GFN_RESET;
			s->dirty[entry->offset] = 0;
		}
	return vmmu_dirty_ring_reset(s->vm, &taken);
}

/* Whatever has failed before, the log must name exactly the pages that were written. */
static enum vmmu_status harvest(struct script *s)
{
	static uint64_t bitmap[AREA_PAGES / 64];
	enum vmmu_status status;

	if (s->variant & 4) {
		status = harvest_rings(s);
	} else {
		status = vmmu_dirty_get(s->vm, 0, 0, bitmap, AREA_PAGES / 64);
		for (unsigned page = 0; status == VMMU_OK && page < AREA_PAGES; page++)
			s->dirty[page] ^= bitmap[page / 64] >> (page % 64) & 1;
		if (status == VMMU_OK)
			status = vmmu_dirty_clear(s->vm, 0, 0, 0, AREA_PAGES, bitmap);
	}
	for (unsigned page = 0; status == VMMU_OK && page < AREA_PAGES; page++)
		if (s->dirty[page])
			script_fail(s, "the log is wrong about page %u", page);
	return status;
}

static enum vmmu_status copy(struct script *s)
{
	uint64_t word = s->next_value++;
	enum vmmu_status status;

	mcpu_leave(&s->cpu[0]);
	status = vmmu_guest_write(s->cpu[0].vcpu, (struct vmmu_gpa){ HOME + 8 }, &word, 8);
	if (status == VMMU_OK)
		s->dirty[0] = s->logged;
	return status;
}

static enum vmmu_status vcpus_destroy(struct script *s)
{
	for (unsigned n = 0; n < CPUS; n++) {
		mcpu_leave(&s->cpu[n]);
		vmmu_vcpu_destroy(s->cpu[n].vcpu);
		s->cpu[n].vcpu = NULL;
		s->fetch[n] = 0;
		memset(s->ring[n], 0, sizeof(s->ring[n]));
	}
	return VMMU_OK;
}

static enum vmmu_status vm_destroy(struct script *s)
{
	if (vmmu_vm_is_dead(s->vm))
		script_fail(s, "the VM is dead");
	vmmu_vm_destroy(s->vm);
	s->vm = NULL;
	return VMMU_OK;
}

const struct step steps[] = {
	{ "create", vm_create },
	{ "mode", mode_set },
	{ "tables", tables_create },
	{ "vCPUs", vcpus_create },
	{ "MMIO", touch_mmio },
	{ "slot", slot_create },
	{ "touch", touch },
	{ "far slot", slot_create_far },
	{ "touch in SMM", touch_smm },
	{ "fill", fill },
	{ "log start", log_start },
	{ "touch logged", touch },
	{ "copy logged", copy },
	{ "harvest", harvest },
	{ "touch again", touch },
	{ "harvest again", harvest },
	{ "invalidate", invalidate },
	{ "touch invalidated", touch },
	{ "harvest a third time", harvest },
	{ "log stop", log_stop },
	{ "touch recovered", touch },
	{ "log start again", log_start },
	{ "prefault", prefault },
	{ "touch logged again", touch },
	{ "harvest last", harvest },
	{ "log stop again", log_stop },
	{ "move", slot_move },
	{ "touch moved", touch_moved },
	{ "move back", slot_move_back },
	{ "touch moved back", touch },
	{ "delete", slot_delete },
	{ "slot again", slot_create },
	{ "touch new", touch },
	{ "no vCPUs", vcpus_destroy },
	{ "vCPUs again", vcpus_create },
	{ "touch last", touch },
	{ "no vCPUs again", vcpus_destroy },
	{ "destroy", vm_destroy },
	{ NULL, NULL },
};
