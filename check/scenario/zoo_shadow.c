/* SPDX-License-Identifier: MIT */
/*
 * Situations in which historical bugs of shadow paging showed (check/zoo) and that no other scenario has. Linear page
 * n leads to gfn GUEST_DATA + n, as world_guest_tables sets it, until a scenario writes the guest's tables.
 *
 * "From outside": the tables are written in setup, and the library is not told.
 */
#include "check/scenario/world.h"
#include "core/shadow/shadow_int.h"

#define PD    2u
#define LARGE 512u /* a gfn where a large page of the guest may begin */

/* For setup and finish: nothing else runs. */
static void touch(struct cpu *cpu, unsigned page, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, page * PAGE_SIZE, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* For threads: during an invalidation a fault is told to come again. */
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

/* --- 1 and 2: the child table that is there is another one --- */

/*
 * The guest's directory has a large page at gfn 0. One 4K piece of it is mapped, through a direct shadow page. Large
 * pages begin at multiples of 512.
 */
static void large_setup(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, LARGE, 4, 4, 0);
	world_guest_tables();
	host.frame[PD].word[0] = world_guest_entry(0) | GPTE_PS;
	touch(&world.cpu[0], 0, false);
}

/*
 * From outside: the directory's entry leads to a table at the same gfn. That table's second entry leads to host page
 * 7.
 */
static void role_setup(void)
{
	large_setup();
	host.frame[PD].word[0] = world_guest_entry(0);
	host.frame[0].word[1] = world_guest_entry(LARGE + 3);
}

/* From outside: the directory's entry is another large page, with the same rights. */
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

/* I2.5: a leaf is found under the gfn that it was added under. This invalidation at the latest would show it. */
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

/*
 * P2, P5. The vCPU faults on linear page 1 while the host invalidates the page. The child of another role is
 * not used again (I2.5, zoo 1).
 */
SCENARIO(zoo_child_role, .protocol = "P2 P5", .claim = "a child is used again only under its own role (I2.5, zoo 1)",
         .threads = 2, .setup = role_setup, .thread = { touch_second, invalidate_7 }, .finish = role_finish);

/*
 * P2, P5. The vCPU faults on linear page 1 while the host invalidates the page. The child of another gfn is
 * not used again (I2.5, zoo 2).
 */
SCENARIO(zoo_child_gfn, .protocol = "P2 P5", .claim = "a child is used again only under its own gfn (I2.5, zoo 2)",
         .threads = 2, .setup = gfn_setup, .thread = { touch_second, invalidate_5 }, .finish = gfn_finish);

/* --- 3: MMIO where a page was --- */

/* Linear page 0 is mapped read-only, since its slot is logged. Then, from outside, it leads to a gfn in no slot. */
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

/*
 * P2, P10. The vCPU writes linear page 0, which is MMIO now, while the host ages the old page. The old leaf is
 * removed before the MMIO entry is set (I2.5, zoo 3).
 */
SCENARIO(zoo_mmio_over_leaf, .protocol = "P2 P10",
         .claim = "an MMIO entry is set where nothing is, not over a leaf (I2.5, zoo 3)",
         .threads = 2, .setup = mmio_setup, .thread = { write_mmio, age_data }, .finish = mmio_finish);

/* --- 4: a fault reclaims shadow pages --- */

/*
 * The modes of the two vCPUs differ, so each has shadow pages of its own for the same tables. Together they
 * are more than the limit allows.
 */
static void reclaim_setup(void)
{
	struct vmmu_guest_regs regs = {
		.cr0 = CR0_PG, .cr3 = 0, .cr4 = CR4_PAE, .efer = EFER_LMA | EFER_NXE, .phys_bits = 48
	};

	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT - 1].word[1] = world_guest_entry(GUEST_PT); /* linear pages 4 to 7 are those of 0 to 3 */
	vmmu_guest_regs_set(world.cpu[1].vcpu, &regs, false);
	touch(&world.cpu[0], 0, false);
	touch(&world.cpu[1], 0, false);
	check_assert(vmmu_shadow_limit_set(world.vm, 1) == VMMU_OK);
}

/*
 * vCPU 1's directory has the table under another entry, and not under this one yet. So the
 * fault does not go beside others.
 */
static void touch_other(void)
{
	try(&world.cpu[1], 4, false);
}

static void reclaim_finish(void)
{
	touch(&world.cpu[0], 1, false);
	world_end();
}

/*
 * P3. vCPU 0 faults while a fault of vCPU 1 reclaims shadow pages. Nothing is installed under a root that
 * was reclaimed (I3.3, zoo 4).
 */
SCENARIO(zoo_stale_before_reclaim, .protocol = "P3",
         .claim = "a fault installs nothing under a root that reclaim took (I3.3, zoo 4)",
         .threads = 2, .setup = reclaim_setup, .thread = { touch_second, touch_other }, .finish = reclaim_finish);

/* --- 5: a table seen from two address spaces --- */

/* vCPU 1 is in address space 1 and has written gfn 7 there. gfn 7 is not a table yet. */
static void spaces_setup(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_SHADOW, .max_vcpus = WORLD_CPUS,
		.address_spaces = 2
	};
	struct vmmu_region region = {
		.slot = 0, .address_space = 1, .bytes = HOST_PAGES * PAGE_SIZE, .hva = host_hva(0)
	};

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

/*
 * P4. vCPU 0 uses gfn 7 as a root while vCPU 1 writes it in the other address space. The shadowed table is writable
 * in no address space (I4.4, zoo 5).
 */
SCENARIO(zoo_two_spaces_tracking, .protocol = "P4",
         .claim = "a shadowed table is writable in no address space (I4.4, zoo 5)",
         .threads = 2, .setup = spaces_setup, .thread = { use_7_as_root, write_7 }, .finish = spaces_finish);

/* --- 14: a new entry leads to an unsync table --- */

/*
 * Linear pages 0 and 1 are mapped. Through linear page 2 the guest writes its table: page 1 leads to gfn 6
 * from now on. It does not flush.
 */
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

/* A second entry of the directory leads to the table. Addresses below it were never in a TLB, so they need no flush. */
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

/*
 * P8. The vCPU links the unsync table a second time while the host ages a page. The table is synced before the new
 * entry leads to it (I4.2, zoo 14).
 */
SCENARIO(zoo_link_unsync, .protocol = "P8", .claim = "a table is synced before a new entry leads to it (I4.2, zoo 14)",
         .threads = 2, .setup = link_setup, .thread = { link, age_data }, .finish = end);

/* --- 16: the hypervisor says that a root is no table any more --- */

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

/*
 * P3. vCPU 0 faults while vCPU 1 unprotects the page that is both vCPUs' root. A page in use as a root
 * outlives its zap (I3.4, zoo 16).
 */
SCENARIO(zoo_root_unprotected, .protocol = "P3", .claim = "a page in use as a root outlives its zap (I3.4, zoo 16)",
         .threads = 2, .setup = root_setup, .thread = { touch_second, unprotect_root }, .finish = end);

/* --- 18: cached roots --- */

/* The vCPU's current root is of gfn 7; that of gfn 0 is cached. */
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

/*
 * P3. The vCPU switches back to its cached root while a slot is deleted. Obsolete roots are dropped,
 * cached or not (I3.2, zoo 18).
 */
SCENARIO(zoo_cached_roots, .protocol = "P3", .claim = "a vCPU drops an obsolete root, cached or not (I3.2, zoo 18)",
         .threads = 2, .setup = cached_setup, .thread = { back_to_first, delete_6 }, .finish = cached_finish);
