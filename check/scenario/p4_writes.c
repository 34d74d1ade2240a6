/* SPDX-License-Identifier: MIT */
/*
 * P4: one thread shadows a guest's page table while a vCPU writes it. In the end the shadow entry is what the
 * guest's entry says, or empty.
 *
 * The guest's entry is that of linear page 0 in its 4K-level table. It leads to the frame BEFORE, and the
 * vCPU makes it lead to AFTER.
 */
#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/shadow/shadow_int.h"

#define ENTRY_GPA (GUEST_PT * PAGE_SIZE)
#define BEFORE    GUEST_DATA
#define AFTER     (GUEST_DATA + 1)

static void setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, 6, 0, 0);
	world_guest_tables();
}

/* The hypervisor writes for the guest, as it does when it emulates a store. */
static void guest_write(void)
{
	uint64_t value = world_guest_entry(AFTER);

	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA(ENTRY_GPA), &value, sizeof(value)) == VMMU_OK);
}

static uint64_t guest_entry_now(void)
{
	return host.frame[host.frame_of[GUEST_PT]].word[0];
}

/* --- the protocol alone --- */

static struct shadow *shadowed;
static struct guest_reader reader;
static struct memslot_cache cache;

static void setup_page(void)
{
	struct vm *vm;
	struct srcu_read srcu;
	struct vmmu_vcpu *vcpu;

	setup();
	vm = world_vm();
	vcpu = world.cpu[1].vcpu;
	srcu = srcu_read_lock(&vm->srcu, 0);
	check_assert(arrays_first_root(vm, srcu) == VMMU_OK);
	srcu_read_unlock(&vm->srcu, srcu);
	check_assert(shadow_caches_fill(vm, vcpu->shadow, &vcpu->tables));
	reader = (struct guest_reader){ &vcpu->shadow->mode, memslots_current(vm, 0), &cache, vm, NULL };
}

/*
 * As shadow_map does for the last two levels: get the table's shadow page, then read the
 * guest's entry, then set the leaf.
 */
static void shadow_table(void)
{
	struct vmmu_vcpu *vcpu = world.cpu[1].vcpu;
	struct vm *vm = world_vm();
	struct mmu_write token = mmu_write_lock(vm);
	struct leaf leaf;
	uint64_t value;
	hva_t table;

	shadowed = shadow_get(&token.token, vcpu->shadow, &vcpu->tables, GFN(GUEST_PT),
	                      vcpu->shadow->role | ROLE_LEVEL(1) | ROLE_RIGHTS(ACC_ALL));
	check_assert(guest_table_find(&reader, GFN(GUEST_PT), &table) &&
	             guest_entry_read(reader.mode, table, 0, &value));
	leaf.gfn = guest_leaf_gfn(reader.mode, value, 1);
	leaf.spte = shadow_make_leaf(vm, PFN(HOST_PFN + leaf.gfn.v), 1, ACC_ALL, 0, true, true);
	entry_set_leaf(&token.token, vcpu->shadow, memslot_find(reader.slots, leaf.gfn), shadowed, &shadowed->spt[0],
	               &leaf);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
}

/* I4.1, I4.2, I4.3. */
static void finish_page(void)
{
	struct mmu_write token;
	spte_t spte = shadowed->spt[0];

	check_assert(guest_entry_now() == world_guest_entry(AFTER));
	check_assert(!spte || spte_pfn(spte).v == HOST_PFN + AFTER);
	check_assert(world_vm()->shadow->indirect == 1);
	token = mmu_write_lock(world_vm());
	shadow_zap(&token.token, shadowed);
	mmu_flush(&token.token);
	mmu_write_unlock(&token);
	world_end();
}

/*
 * P4. The hypervisor writes the guest's entry while another thread shadows the table. It never happens that the
 * writer saw no shadowed table and the other thread used the old entry (I4.1).
 */
SCENARIO(guest_write_vs_shadow_get, .protocol = "P4",
         .claim = "never both: the writer saw no shadowed table, and the other thread used the old entry (I4.1)",
         .threads = 2, .setup = setup_page, .thread = { guest_write, shadow_table }, .finish = finish_page);

/* --- the same by a page fault --- */

static void fault(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[1], 0, false, 2, &frame);
	cpu_leave(&world.cpu[1]);
}

/* I4.2: the shadow's leaf is what the guest's entry says, or empty. */
static void finish(void)
{
	uint64_t leaf = cpu_peek(&world.cpu[1], 0);

	check_assert(guest_entry_now() == world_guest_entry(AFTER));
	check_assert(!leaf || spte_pfn(leaf).v == HOST_PFN + AFTER);
	world_end();
}

/*
 * P4. The hypervisor writes the guest's entry while vCPU 1 faults on linear page 0. The leaf is what the guest's
 * entry says, or empty (I4.2).
 */
SCENARIO(guest_write_vs_page_fault, .protocol = "P4", .claim = "a leaf is what the guest's entry says, or empty (I4.2)",
         .threads = 2, .setup = setup, .thread = { guest_write, fault }, .finish = finish);

/* --- a store through a TLB --- */

/* vCPU 0 runs with paging off. It has the frame of vCPU 1's table in its TLB, writable. */
static void setup_tlb(void)
{
	struct vmmu_guest_regs flat = { .phys_bits = 48 };
	struct host_frame *frame;

	setup();
	vmmu_guest_regs_set(world.cpu[0].vcpu, &flat, false);
	check_assert(cpu_touch(&world.cpu[0], ENTRY_GPA, true, 2, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void store(void)
{
	struct cpu *cpu = &world.cpu[0];
	struct host_frame *frame;

	cpu_enter(cpu);
	frame = cpu_access(cpu, ENTRY_GPA, true);
	if (frame)
		store_relaxed(&frame->word[0], world_guest_entry(AFTER));
	cpu_leave(cpu);
}

/* The shadow's leaf is what the guest's entry says now, or empty. */
static void finish_tlb(void)
{
	uint64_t leaf = cpu_peek(&world.cpu[1], 0);
	uint64_t entry = guest_entry_now();

	check_assert(!leaf || spte_pfn(leaf).v == HOST_PFN + (entry >> PAGE_SHIFT));
	world_end();
}

/*
 * P4. vCPU 0 stores to the table through its TLB while vCPU 1 faults and shadows the table. The table is read only
 * when no TLB can write it any more (I4.2, I4.4).
 */
SCENARIO(guest_store_vs_page_fault, .protocol = "P4",
         .claim = "a fault reads a table only when no TLB can write it any more (I4.2, I4.4)",
         .threads = 2, .setup = setup_tlb, .thread = { store, fault }, .finish = finish_tlb);
