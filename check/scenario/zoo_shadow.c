/* SPDX-License-Identifier: MIT */
/*
 * Situations in which historical bugs of shadow paging showed (check/zoo), and that no other scenario is about. Linear page n leads to gfn GUEST_DATA + n, as
 * world_guest_tables says, until a test writes the guest's tables; "from outside" is a write that the library is not told of.
 */
#include "check/scenario/world.h"
#include "core/shadow/shadow_int.h"

#define PD    2u
#define LARGE 512u /* a gfn where a large page of the guest may begin */

/* Alone: nothing is in its way. */
static void touch(struct cpu *cpu, unsigned page, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, page * PAGE_SIZE, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* Beside others: while an invalidation lasts a fault only says that it is to be tried again. */
static void try(struct cpu *cpu, unsigned page, bool write)
{
	struct host_frame *frame;
	enum cpu_result result = cpu_touch(cpu, page * PAGE_SIZE, write, 2, &frame);

	check_assert(result == CPU_DONE || result == CPU_TIRED);
	cpu_leave(cpu);
}

static void invalidate(unsigned page)
{
	vmmu_invalidate_begin(world.vm, host_hva(page), host_hva(page + 1));
	vmmu_invalidate_end(world.vm, host_hva(page), host_hva(page + 1));
}

static void touch_second(void)
{
	try(&world.cpu[0], 1, false);
}

/* --- 1 and 2: the child that is there is another --- */

/* The guest's directory has a large page, of gfn 0 and what follows; one piece of it is mapped, by a direct page. A large page begins at a multiple of 512. */
static void large_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, LARGE, 4, 4, 0);
	world_guest_tables();
	host.frame[PD].word[0] = world_guest_entry(0) | GPTE_PS;
	touch(&world.cpu[0], 0, false);
}

/* From outside: a table at the same gfn. Its second entry leads to host page 7. */
static void role_setup(void)
{
	large_setup();
	host.frame[PD].word[0] = world_guest_entry(0);
	host.frame[0].word[1] = world_guest_entry(LARGE + 3);
}

/* From outside: another large page, with the same rights. */
static void gfn_setup(void)
{
	large_setup();
	host.frame[PD].word[0] = world_guest_entry(LARGE) | GPTE_PS;
}

static void invalidate_7(void)
{
	invalidate(7);
}

static void invalidate_5(void)
{
	invalidate(5);
}

/* I2.5: a leaf is found under the gfn that it was put under, by an invalidation now at the latest. */
static void role_finish(void)
{
	invalidate(7);
	world_end();
}

static void gfn_finish(void)
{
	invalidate(5);
	world_end();
}

SCENARIO(zoo_child_role, .protocol = "P2 P5", .claim = "a child is used again only under its own role (I2.5, zoo 1)", .threads = 2, .setup = role_setup,
         .thread = { touch_second, invalidate_7 }, .finish = role_finish);

SCENARIO(zoo_child_gfn, .protocol = "P2 P5", .claim = "a child is used again only under its own gfn (I2.5, zoo 2)", .threads = 2, .setup = gfn_setup,
         .thread = { touch_second, invalidate_5 }, .finish = gfn_finish);

/* --- 3: MMIO where a page was --- */

/* Linear page 0 is mapped read-only, since its slot is logged; then, from outside, it leads to where no slot is. */
static void mmio_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, 4, 4, 4, VMMU_SLOT_LOG_DIRTY);
	world_guest_tables();
	touch(&world.cpu[0], 0, false);
	host.frame[GUEST_PT].word[0] = world_guest_entry(20);
}

static void write_mmio(void)
{
	struct host_frame *frame;

	check_assert(cpu_touch(&world.cpu[0], 0, true, 4, &frame) == CPU_MMIO);
}

static void age_data(void)
{
	vmmu_age(world.vm, host_hva(4), host_hva(5), true);
}

static void mmio_finish(void)
{
	const struct memslot *slot = memslot_find(memslots_current(world_vm(), 0), GFN(4));

	check_assert(rmap_is_empty(gfn_rmap(slot, GFN(4), 1)));
	world_end();
}

SCENARIO(zoo_mmio_over_leaf, .protocol = "P2 P10", .claim = "an MMIO entry takes the place of nothing, not of a leaf (I2.5, zoo 3)", .threads = 2,
         .setup = mmio_setup, .thread = { write_mmio, age_data }, .finish = mmio_finish);

/* --- 4: room is made within the fault --- */

/* Two vCPUs, whose modes differ, have pages of their own for the same tables: more than the limit allows. */
static void reclaim_setup(void)
{
	struct vmmu_guest_regs regs = { .cr0 = CR0_PG, .cr3 = 0, .cr4 = CR4_PAE, .efer = EFER_LMA | EFER_NXE, .phys_bits = 48 };

	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT - 1].word[1] = world_guest_entry(GUEST_PT); /* linear pages 4 .. 7 as 0 .. 3 */
	vmmu_guest_regs_set(world.cpu[1].vcpu, &regs, false);
	touch(&world.cpu[0], 0, false);
	touch(&world.cpu[1], 0, false);
	check_assert(vmmu_shadow_limit_set(world.vm, 1) == VMMU_OK);
}

/* Its directory has the table under another entry, and not yet under this one: no fault that goes beside others. */
static void touch_other(void)
{
	try(&world.cpu[1], 4, false);
}

static void reclaim_finish(void)
{
	touch(&world.cpu[0], 1, false);
	world_end();
}

SCENARIO(zoo_stale_before_reclaim, .protocol = "P3", .claim = "nothing is installed under a root that reclaim took (I3.3, zoo 4)", .threads = 2,
         .setup = reclaim_setup, .thread = { touch_second, touch_other }, .finish = reclaim_finish);

/* --- 5: a table seen from two address spaces --- */

/* vCPU 1 is in address space 1 and has written gfn 7 there; it is no table yet. */
static void spaces_setup(void)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_SHADOW, .max_vcpus = WORLD_CPUS, .address_spaces = 2 };
	struct vmmu_region region = { .slot = 0, .address_space = 1, .bytes = HOST_PAGES * PAGE_SIZE, .hva = host_hva(0) };

	world_make_with(0, &config, 2);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	check_assert(vmmu_region_set(world.vm, &region) == VMMU_OK);
	check_assert(vmmu_vcpu_address_space_set(world.cpu[1].vcpu, 1) == VMMU_OK);
	world_guest_tables();
	host.frame[7].word[0] = world_guest_entry(1);
	touch(&world.cpu[1], 3, true);
}

static void use_7_as_root(void)
{
	world_cr3(&world.cpu[0], 7, false);
	touch(&world.cpu[0], 0, false);
}

static void write_7(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[1], 3 * PAGE_SIZE, true, 4, &frame) == CPU_DONE)
		store_relaxed(&frame->word[2], 1);
	cpu_leave(&world.cpu[1]);
}

static void spaces_finish(void)
{
	check_assert(!(cpu_peek(&world.cpu[1], 3 * PAGE_SIZE) & VMMU_NPT_W));
	world_end();
}

SCENARIO(zoo_two_spaces_tracking, .protocol = "P4", .claim = "a shadowed table is writable in no address space (I4.4, zoo 5)", .threads = 2,
         .setup = spaces_setup, .thread = { use_7_as_root, write_7 }, .finish = spaces_finish);

/* --- 14: a new way to a table that is unsync --- */

/* Linear pages 0 and 1 are mapped; through linear page 2 the guest writes its table: page 1 leads to gfn 6 from now on. It does not flush. */
static void link_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[2] = world_guest_entry(GUEST_PT);
	touch(&world.cpu[0], 0, false);
	touch(&world.cpu[0], 1, false);
	check_assert(cpu_touch(&world.cpu[0], 2 * PAGE_SIZE, true, 4, &frame) == CPU_DONE);
	store_relaxed(&frame->word[1], world_guest_entry(6));
	cpu_leave(&world.cpu[0]);
}

/* A second entry of the directory leads to the table: what is reached by it was never in a TLB, and needs no flush. */
static void link(void)
{
	uint64_t entry = world_guest_entry(GUEST_PT);
	struct host_frame *frame;

	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA(PD * PAGE_SIZE + 8), &entry, sizeof(entry)) == VMMU_OK);
	touch(&world.cpu[0], 4, false);
	check_assert(cpu_touch(&world.cpu[0], 5 * PAGE_SIZE, false, 4, &frame) == CPU_DONE);
	check_assert(frame == &host.frame[6]);
	cpu_leave(&world.cpu[0]);
}

static void end(void)
{
	world_end();
}

SCENARIO(zoo_link_unsync, .protocol = "P8", .claim = "a table is synced before a new entry leads to it (I4.2, zoo 14)", .threads = 2, .setup = link_setup,
         .thread = { link, age_data }, .finish = end);

/* --- 16: a root that is no table any more --- */

static void root_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	world_guest_tables();
	touch(&world.cpu[0], 0, false);
}

static void unprotect_root(void)
{
	vmmu_unprotect(world.cpu[1].vcpu, GPA(0));
}

SCENARIO(zoo_root_unprotected, .protocol = "P3", .claim = "a page in use as a root outlives its zap (I3.4, zoo 16)", .threads = 2, .setup = root_setup,
         .thread = { touch_second, unprotect_root }, .finish = end);

/* --- 18: roots that are cached --- */

/* The vCPU has a root of gfn 7, and keeps that of gfn 0. */
static void cached_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 6, 0, 0);
	world_slot(1, 6, 1, 6, 0);
	world_slot(2, 7, 1, 7, 0);
	world_guest_tables();
	host.frame[7].word[0] = world_guest_entry(1);
	touch(&world.cpu[0], 0, false);
	world_cr3(&world.cpu[0], 7, true);
	touch(&world.cpu[0], 0, false);
}

static void back_to_first(void)
{
	world_cr3(&world.cpu[0], 0, true);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static void delete_6(void)
{
	world_slot_delete(1);
}

static void cached_finish(void)
{
	touch(&world.cpu[0], 0, false);
	world_cr3(&world.cpu[0], 7, true);
	touch(&world.cpu[0], 0, false);
	world_end();
}

SCENARIO(zoo_cached_roots, .protocol = "P3", .claim = "an obsolete root is dropped, cached or not (I3.2, zoo 18)", .threads = 2, .setup = cached_setup,
         .thread = { back_to_first, delete_6 }, .finish = cached_finish);
