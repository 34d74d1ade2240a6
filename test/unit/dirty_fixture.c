/* SPDX-License-Identifier: MIT */
/* The VM of the tests of dirty logging. */
#include "test/unit/dirty_fixture.h"

#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/vm/vm_int.h"

void region_set(struct fixture *f, uint32_t flags, uint64_t npages)
{
	struct vmmu_region region = {
		.slot = SLOT,
		.flags = flags,
		.gpa = { BASE * 4096 },
		.bytes = npages * 4096,
		.hva = { (uintptr_t)f->memory },
	};

	assert_int_equal(vmmu_region_set(f->vm, &region), VMMU_OK);
}

struct fixture *fixture_make_on(enum vmmu_mmu mmu, unsigned mode, bool rings, enum vmmu_format format)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct vmmu_config config = { .size = sizeof(config), .host = &thost_ops, .mmu = mmu, .format = format };

	f->rings = rings;
	f->mapped = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->mapped, MAP_FAILED);
	f->memory = (char *)(((uintptr_t)f->mapped + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
	config.host_state = &f->host;
	assert_int_equal(vmmu_vm_create(&config, &f->vm), VMMU_OK);
	assert_int_equal(vmmu_dirty_mode_set(f->vm, mode), VMMU_OK);
	if (rings)
		assert_int_equal(vmmu_dirty_ring_enable(f->vm, RING_SIZE), VMMU_OK);
	for (unsigned i = 0; i < VCPUS; i++) {
		assert_int_equal(vmmu_vcpu_create(f->vm, i, f, &f->vcpu[i]), VMMU_OK);
		if (rings)
			vmmu_vcpu_dirty_ring_set(f->vcpu[i], f->ring[i]);
		mcpu_init(&f->cpu[i], f->vcpu[i]);
	}
	region_set(f, 0, PAGES);
	return f;
}

struct fixture *fixture_make(unsigned mode, bool rings, enum vmmu_format format)
{
	return fixture_make_on(VMMU_MMU_TDP, mode, rings, format);
}

static void print_line(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "audit: %s\n", text);
}

void audit(struct fixture *f)
{
	struct audit_report report = { .out = { .line = print_line }, .max_lines = 5 };

	for (unsigned i = 0; i < VCPUS; i++)
		mcpu_leave(&f->cpu[i]);
	assert_true(audit_vm(&f->vm->vm, &report));
	assert_false(vmmu_vm_is_dead(f->vm));
}

void fixture_free(struct fixture *f)
{
	audit(f);
	for (unsigned i = 0; i < VCPUS; i++)
		vmmu_vcpu_destroy(f->vcpu[i]);
	vmmu_vm_destroy(f->vm);
	assert_true(thost_is_empty(&f->host));
	munmap(f->mapped, 8 << 20);
	free(f);
}

uint64_t *word_of(struct fixture *f, uint64_t page)
{
	return (uint64_t *)(f->memory + page * 4096);
}

/* One access. Then the CPU leaves the guest: with a single thread, nobody else could make it leave. */
enum mcpu_result guest_try(struct fixture *f, unsigned cpu, uint64_t page)
{
	enum mcpu_result result = mcpu_write(&f->cpu[cpu], (BASE + page) * 4096, page);

	mcpu_leave(&f->cpu[cpu]);
	return result;
}

void guest_write(struct fixture *f, unsigned cpu, uint64_t page)
{
	assert_int_equal(guest_try(f, cpu, page), MCPU_OK);
}

void guest_read(struct fixture *f, unsigned cpu, uint64_t page)
{
	uint64_t value;

	assert_int_equal(mcpu_read(&f->cpu[cpu], (BASE + page) * 4096, &value), MCPU_OK);
	mcpu_leave(&f->cpu[cpu]);
}

/* The program's part: collect the entries that are DIRTY, in order, and mark them RESET. Returns: how many pages. */
unsigned harvest(struct fixture *f, unsigned cpu, uint64_t *pages, unsigned most)
{
	unsigned count = 0;

	while (count < most) {
		struct vmmu_dirty_gfn *entry = &f->ring[cpu][f->harvested[cpu] % RING_SIZE];

		if (!(load_acquire(&entry->flags) & VMMU_DIRTY_GFN_DIRTY))
			break;
		CHECK(load_relaxed(&entry->slot) == SLOT && load_relaxed(&entry->offset) < PAGES);
		pages[count++] = load_relaxed(&entry->offset);
		store_release(&entry->flags, VMMU_DIRTY_GFN_RESET);
		f->harvested[cpu]++;
	}
	return count;
}

uint64_t reset(struct fixture *f)
{
	uint64_t count;

	assert_int_equal(vmmu_dirty_ring_reset(f->vm, &count), VMMU_OK);
	return count;
}
