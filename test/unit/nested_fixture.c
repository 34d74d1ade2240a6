/* SPDX-License-Identifier: MIT */
/* The VM, L1 and CPUs of the tests of nested guests. */
#include "test/unit/nested_fixture.h"

#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/vm/vm_int.h"

#define MAPPED (RAM_BYTES + ROM_BYTES + 2 * MIB)

void nest_region(struct nest *n, unsigned slot, uint32_t flags, uint64_t bytes)
{
	struct vmmu_region region = {
		.slot = slot,
		.flags = flags,
		.gpa = { slot == RAM_SLOT ? RAM_GPA : ROM_GPA },
		.bytes = bytes,
		.hva = { (uintptr_t)(slot == RAM_SLOT ? n->ram : n->rom) },
	};

	assert_int_equal(vmmu_region_set(n->vm, &region), VMMU_OK);
}

static struct vmmu_nested l1_mode(unsigned levels)
{
	return (struct vmmu_nested){
		.format = VMMU_NESTED_NPT,
		.cr4 = levels == 5 ? R_PAE | R_LA57 : levels >= 3 ? R_PAE : R_PSE,
		.efer = R_NXE | (levels >= 4 ? R_LMA : 0),
		.phys_bits = 40,
		.gbpages = true,
	};
}

struct nest *nest_make(unsigned levels, bool rings)
{
	struct nest *n = calloc(1, sizeof(*n));
	struct vmmu_config config = {
		.size = sizeof(config), .host = &thost_ops, .address_spaces = 2, .nested = true
	};

	assert_non_null(n);
	n->mapped = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(n->mapped, MAP_FAILED);
	n->ram = (char *)(((uintptr_t)n->mapped + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));
	n->rom = n->ram + RAM_BYTES;
	config.host_state = &n->host;
	assert_int_equal(vmmu_vm_create(&config, &n->vm), VMMU_OK);
	n->rings = rings;
	if (rings)
		assert_int_equal(vmmu_dirty_ring_enable(n->vm, NEST_RING), VMMU_OK);
	for (unsigned i = 0; i < NEST_VCPUS; i++) {
		assert_int_equal(vmmu_vcpu_create(n->vm, i, n, &n->cpu[i].vcpu), VMMU_OK);
		if (rings)
			vmmu_vcpu_dirty_ring_set(n->cpu[i].vcpu, n->ring[i]);
	}
	nest_region(n, RAM_SLOT, 0, RAM_BYTES);
	nest_region(n, ROM_SLOT, VMMU_SLOT_READONLY, ROM_BYTES);
	n->levels = levels;
	n->entry_bytes = levels == 2 ? 4 : 8;
	n->l1 = l1_mode(levels);
	n->next_frame = RAM_GPA;
	l1_root(n);
	return n;
}

static void print_line(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "audit: %s\n", text);
}

void nest_audit(struct nest *n)
{
	struct audit_report report = { .out = { .line = print_line }, .max_lines = 5 };

	assert_true(audit_vm(&n->vm->vm, &report));
	assert_false(vmmu_vm_is_dead(n->vm));
}

void nest_free(struct nest *n)
{
	nest_audit(n);
	for (unsigned i = 0; i < NEST_VCPUS; i++)
		vmmu_vcpu_destroy(n->cpu[i].vcpu);
	vmmu_vm_destroy(n->vm);
	assert_true(thost_is_empty(&n->host));
	munmap(n->mapped, MAPPED);
	free(n);
}

/* --- L1 --- */

static char *l1_host(const struct nest *n, uint64_t gpa)
{
	assert_true(gpa >= RAM_GPA && gpa < RAM_GPA + RAM_BYTES);
	return n->ram + (gpa - RAM_GPA);
}

uint64_t l1_frame(struct nest *n)
{
	uint64_t frame = n->next_frame;

	assert_true(frame < RAM_GPA + MIB);
	n->next_frame += 4096;
	return frame;
}

uint64_t l1_root(struct nest *n)
{
	n->l1.root = l1_frame(n) | (n->levels == 3 ? 0x60 : 0); /* four entries anywhere in a page */
	return n->l1.root;
}

void l1_store(struct nest *n, uint64_t gpa, uint64_t value)
{
	assert_int_equal(vmmu_guest_write(n->cpu[0].vcpu, (struct vmmu_gpa){ gpa }, &value, n->entry_bytes), VMMU_OK);
}

uint64_t l1_load(const struct nest *n, uint64_t gpa)
{
	uint64_t value = 0;

	memcpy(&value, l1_host(n, gpa), n->entry_bytes);
	return value;
}

static uint64_t l1_entry_in(const struct nest *n, uint64_t table, uint64_t l2, unsigned level)
{
	if (n->levels == 2)
		return table + 4 * (l2 >> (12 + 10 * (level - 1)) & 1023);
	return table + 8 * (l2 >> (12 + 9 * (level - 1)) & (n->levels == 3 && level == 3 ? 3 : 511));
}

uint64_t l1_entry(const struct nest *n, uint64_t l2, unsigned level)
{
	uint64_t at = l1_entry_in(n, n->l1.root, l2, n->levels);

	for (unsigned l = n->levels; l > level; l--)
		at = l1_entry_in(n, l1_load(n, at) & UINT64_C(0xffffffffff000), l2, l - 1);
	return at;
}

uint64_t l1_map(struct nest *n, uint64_t l2, unsigned level, uint64_t entry)
{
	uint64_t at;

	for (unsigned l = n->levels; l > level; l--) {
		at = l1_entry(n, l2, l);
		if (!(l1_load(n, at) & E_P))
			l1_store(n, at, l1_frame(n) | (n->levels == 3 && l == 3 ? E_P : E_RWX));
	}
	at = l1_entry(n, l2, level);
	l1_store(n, at, entry);
	return at;
}

/* --- L2 --- */

void l2_enter(struct nest *n, unsigned cpu)
{
	assert_int_equal(vmmu_nested_enter(n->cpu[cpu].vcpu, &n->l1), VMMU_OK);
}

void l2_forget(struct nest *n, unsigned cpu)
{
	memset(n->cpu[cpu].tlb, 0, sizeof(n->cpu[cpu].tlb));
}

/* What hardware does with the second stage of an NPT VM. Returns: false, with `error`, when it faults. */
static bool l2_walk(struct l2_cpu *cpu, uint64_t l2, uint64_t *error, struct l2_translation *out)
{
	uint64_t *table = (uint64_t *)(uintptr_t)cpu->entry.root;
	bool write = *error & VMMU_PF_WRITE, fetch = *error & VMMU_PF_FETCH;
	uint64_t rights = ~UINT64_C(0), nx = 0;

	if (l2 >> (12 + 9 * cpu->entry.levels))
		return false;
	for (unsigned level = cpu->entry.levels;; level--) {
		uint64_t *at = &table[l2 >> (12 + 9 * (level - 1)) & 511], e = vmmu_table_entry_load(at);
		bool leaf = level == 1 || (level <= 3 && (e & VMMU_NPT_PS));

		if (!(e & VMMU_NPT_P))
			return false;
		if (e & VMMU_ENTRY_RSVD) {
			*error |= VMMU_PF_PRESENT | VMMU_PF_RSVD;
			return false;
		}
		rights &= e;
		nx |= e & VMMU_NPT_NX;
		if (leaf && (!(rights & VMMU_NPT_U) || (write && !(rights & VMMU_NPT_W)) || (fetch && nx))) {
			*error |= VMMU_PF_PRESENT;
			return false;
		}
		assert_true(vmmu_table_entry_mark(at, e, VMMU_NPT_A | (leaf && write ? VMMU_NPT_D : 0)));
		table = (uint64_t *)(uintptr_t)(e & VMMU_ENTRY_ADDR);
		if (leaf) {
			uint64_t inside = (UINT64_C(1) << (12 + 9 * (level - 1))) - 1;

			out->tag = (l2 >> 12) + 1;
			out->host = ((e & VMMU_ENTRY_ADDR & ~inside) | (l2 & inside)) & ~UINT64_C(0xfff);
			out->write = (rights & VMMU_NPT_W) && (vmmu_table_entry_load(at) & VMMU_NPT_D);
			out->exec = !nx;
			return true;
		}
	}
}

static bool l2_translate(struct l2_cpu *cpu, uint64_t l2, uint64_t *error, uint64_t *host)
{
	struct l2_translation *known = &cpu->tlb[(l2 >> 12) % 64];
	bool hit = known->tag == (l2 >> 12) + 1 && (!(*error & VMMU_PF_WRITE) || known->write) &&
	           (!(*error & VMMU_PF_FETCH) || known->exec);

	if (!hit && !l2_walk(cpu, l2, error, known))
		return false;
	*host = known->host | (l2 & 0xfff);
	return true;
}

struct l2_result l2_access(struct nest *n, unsigned index, uint64_t l2, uint64_t access)
{
	struct l2_cpu *cpu = &n->cpu[index];
	struct l2_result result = { .faults = 0 };
	struct vmmu_page_info info;

	for (;;) {
		uint64_t error = access | VMMU_PF_USER;
		bool done;

		assert_int_equal(vmmu_vcpu_enter(cpu->vcpu, &cpu->entry), VMMU_ENTER_RUN);
		assert_false(cpu->entry.shadow);
		if (cpu->entry.flush) {
			l2_forget(n, index);
			cpu->flushes++;
		}
		done = l2_translate(cpu, l2, &error, &result.host);
		if (done && (access & VMMU_PF_WRITE) && (access & VMMU_PF_GUEST_FINAL))
			memcpy((void *)(uintptr_t)result.host, &l2, 8);
		vmmu_vcpu_leave(cpu->vcpu);
		result.answer = VMMU_PAGE_FIXED;
		if (done)
			return result;
		assert_true(result.faults++ < 10);
		cpu->faults++;
		result.answer = vmmu_nested_fault(cpu->vcpu, (struct vmmu_gpa){ l2 }, error, &info);
		result.error = info.error;
		result.gpa = info.gpa.v;
		if (result.answer != VMMU_PAGE_FIXED && result.answer != VMMU_PAGE_RETRY)
			return result;
	}
}

unsigned l2_ok(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, uint64_t gpa)
{
	struct l2_result result = l2_access(n, cpu, l2, access);
	const char *host = gpa >= ROM_GPA ? n->rom + (gpa - ROM_GPA) : l1_host(n, gpa);

	assert_int_equal(result.answer, VMMU_PAGE_FIXED);
	assert_int_equal(result.host, (uintptr_t)host);
	return result.faults;
}

void l2_npf(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, uint64_t error)
{
	struct l2_result result = l2_access(n, cpu, l2, access);

	assert_int_equal(result.answer, VMMU_PAGE_GUEST);
	assert_int_equal(result.error, error);
}

void l2_answer(struct nest *n, unsigned cpu, uint64_t l2, uint64_t access, enum vmmu_page_fault answer, uint64_t gpa)
{
	struct l2_result result = l2_access(n, cpu, l2, access);

	assert_int_equal(result.answer, answer);
	assert_int_equal(result.gpa, gpa);
}
