/* SPDX-License-Identifier: MIT */
/*
 * A VM with both MMUs at once, as nested guests need it. vCPU 0 walks a TDP root, vCPU 1 a shadow of its guest's
 * tables.
 */
#include "check/scenario/world.h"
#include "core/fault/context.h"
#include "core/shadow/shadow.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)

static void touch(struct cpu *cpu, uint64_t address)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, true, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* vCPU 0 has written the page. Nothing was ever shadowed. `flags`: of the page's slot. */
static void setup_with(bool slot_delete_zaps_slot, unsigned flags)
{
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &host_ops,
		.mmu = VMMU_MMU_TDP,
		.max_vcpus = WORLD_CPUS,
		.slot_delete_zaps_slot = slot_delete_zaps_slot,
	};

	world_make_with(0, &config, WORLD_CPUS);
	check_assert(shadow_init(world_vm()) == VMMU_OK);
	check_assert(vcpu_context_set(world.cpu[1].vcpu, &context_shadow) == VMMU_OK);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, 2, PAGE, flags);
	world_guest_tables();
	touch(&world.cpu[0], PAGE_GPA);
}

static void setup_logged(void)
{
	setup_with(false, VMMU_SLOT_LOG_DIRTY);
}

static void setup_zaps_slot(void)
{
	setup_with(true, 0);
}

/* The first entry of vCPU 1 makes the VM's first shadow root. Its write gives the page a second leaf, and a mark. */
static void first_shadow_write(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[1], 0, true, 1, &frame);
	cpu_leave(&world.cpu[1]);
}

static void harvest(void)
{
	uint64_t bitmap = 0;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK && (bitmap & 1));
}

/* The audit finds a page that can be written and that no record names. */
static void finish(void)
{
	world_audit(0);
	world_end();
}

/*
 * P1, P11. A harvest takes the mark of the page and write-protects it, while vCPU 1 makes the first shadow root and
 * writes the page. The harvest may begin before there is anything shadowed. If it takes a mark that vCPU 1 made, it
 * must find the shadow leaf as well.
 */
SCENARIO(both_first_shadow_root_vs_dirty_get, .protocol = "P1 P11",
         .claim = "a harvest that takes a mark made through a shadow leaf protects that leaf, too", .threads = 2,
         .setup = setup_logged, .thread = { first_shadow_write, harvest }, .finish = finish);

static void data_delete(void)
{
	world_slot_delete(1);
}

static void tables_delete(void)
{
	world_slot_delete(0);
}

/*
 * P1, P3. A slot is deleted whose own range is zapped as long as nothing is shadowed, while vCPU 1 makes the first
 * shadow root. If the deletion does not see that root, the root's vCPU sees that the slot is invalid.
 */
SCENARIO(both_first_shadow_root_vs_slot_delete, .protocol = "P1 P3",
         .claim = "no shadow leaf maps a slot that was deleted while the first shadow root was made", .threads = 2,
         .setup = setup_zaps_slot, .thread = { first_shadow_write, data_delete }, .finish = finish);

/* P1, P3. The same when the slot holds the tables that vCPU 1 begins to shadow. */
SCENARIO(both_first_shadow_root_vs_tables_delete, .protocol = "P1 P3",
         .claim = "no shadow page mirrors a table of a slot that was deleted while the first shadow root was made",
         .threads = 2, .setup = setup_zaps_slot, .thread = { first_shadow_write, tables_delete }, .finish = finish);

/* --- N2, N3: logs --- */

static void setup_unlogged(void)
{
	setup_with(false, 0);
}

static void log_begin(void)
{
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
}

SCENARIO(both_first_shadow_root_vs_log_begin, .protocol = "N2 P1 P11",
         .claim = "a log that begins while the first shadow root is made misses no leaf of either MMU", .threads = 2,
         .setup = setup_unlogged, .thread = { first_shadow_write, log_begin }, .finish = finish);

static uint64_t copied; /* the harvester's last copy of the page */

static uint64_t content(void)
{
	return load_relaxed(&host.frame[host.frame_of[PAGE]].word[0]);
}

/* The page is logged, marked, and in the TLB of each vCPU, writable. */
static void setup_both(void)
{
	setup_logged();
	touch(&world.cpu[1], 0);
	copied = content();
}

static void get(void)
{
	uint64_t bitmap = 0;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	if (bitmap & 1)
		copied = content();
}

/* A store through the TLB or the tables. A fault is left unanswered. */
static void store_on(struct cpu *cpu, uint64_t address, uint64_t value)
{
	struct host_frame *frame;

	cpu_enter(cpu);
	frame = cpu_access(cpu, address, true);
	if (frame)
		store_relaxed(&frame->word[0], value);
	cpu_leave(cpu);
}

static void store_tdp(void)
{
	store_on(&world.cpu[0], PAGE_GPA, 100);
}

static void store_shadow(void)
{
	store_on(&world.cpu[1], 0, 200);
}

/* The last copy is what the page holds, or the page is marked. */
static void finish_log(void)
{
	uint64_t bitmap = 0;

	world_audit(0);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	check_assert((bitmap & 1) || copied == content());
	world_end();
}

SCENARIO(both_tdp_store_vs_dirty_get, .protocol = "N3 P11",
         .claim = "no store through the one MMU's leaf is lost when a harvest protects the leaves of both",
         .threads = 2, .setup = setup_both, .thread = { store_tdp, get }, .finish = finish_log);

SCENARIO(both_shadow_store_vs_dirty_get, .protocol = "N3 P11",
         .claim = "no store through the other MMU's leaf is lost when a harvest protects the leaves of both",
         .threads = 2, .setup = setup_both, .thread = { store_shadow, get }, .finish = finish_log);

SCENARIO(both_stores_vs_dirty_get, .protocol = "N3 P11",
         .claim = "no store through either MMU's leaf is lost", .threads = 3, .setup = setup_both,
         .thread = { store_tdp, store_shadow, get }, .finish = finish_log);

/* --- N3: aging and invalidation --- */

static bool was_young;

/* Both leaves are old, and no TLB has them. */
static void setup_old(void)
{
	setup_both();
	check_assert(vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true));
	world.cpu[0].tlb.page = world.cpu[1].tlb.page = 0;
	was_young = false;
}

static void age(void)
{
	was_young = vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true);
}

static void read_shadow(void)
{
	struct cpu *cpu = &world.cpu[1];

	cpu_enter(cpu);
	check_assert(cpu_access(cpu, 0, false));
	cpu_leave(cpu);
}

static void read_tdp(void)
{
	struct cpu *cpu = &world.cpu[0];

	cpu_enter(cpu);
	check_assert(cpu_access(cpu, PAGE_GPA, false));
	cpu_leave(cpu);
}

static void finish_age(void)
{
	check_assert(was_young || vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), false));
	world_audit(0);
	world_end();
}

SCENARIO(both_shadow_use_vs_age, .protocol = "N3 P2", .claim = "a page that one MMU's vCPU uses does not pass for old",
         .threads = 2, .setup = setup_old, .thread = { read_shadow, age }, .finish = finish_age);

SCENARIO(both_tdp_use_vs_age, .protocol = "N3 P2",
         .claim = "a page that the other MMU's vCPU uses does not pass for old", .threads = 2, .setup = setup_old,
         .thread = { read_tdp, age }, .finish = finish_age);

/* The page's frame is given away. Who still uses it then has a data race. */
static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	host.frame[PAGE].data++;
	host_move(PAGE, HOST_PAGES);
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

static void use_on(struct cpu *cpu, uint64_t address)
{
	struct host_frame *frame;

	cpu_enter(cpu);
	frame = cpu_access(cpu, address, false);
	if (frame)
		check_assert(!frame->data || frame != &host.frame[PAGE]);
	cpu_leave(cpu);
}

static void use_tdp(void)
{
	use_on(&world.cpu[0], PAGE_GPA);
}

static void use_shadow(void)
{
	use_on(&world.cpu[1], 0);
}

static void finish_invalidate(void)
{
	check_assert(!cpu_peek(&world.cpu[0], PAGE_GPA) && !cpu_peek(&world.cpu[1], 0));
	world_audit(0);
	world_end();
}

SCENARIO(both_tdp_use_vs_invalidate, .protocol = "N3 P5",
         .claim = "after an invalidation of a page with a leaf in both MMUs has begun, none is used through TDP",
         .threads = 2, .setup = setup_both, .thread = { use_tdp, invalidate }, .finish = finish_invalidate);

SCENARIO(both_shadow_use_vs_invalidate, .protocol = "N3 P5",
         .claim = "after an invalidation of a page with a leaf in both MMUs has begun, none is used through a shadow",
         .threads = 2, .setup = setup_both, .thread = { use_shadow, invalidate }, .finish = finish_invalidate);

SCENARIO(both_uses_vs_invalidate, .protocol = "N3 P5",
         .claim = "after an invalidation has begun no vCPU uses the page, through whichever MMU", .threads = 3,
         .setup = setup_both, .thread = { use_tdp, use_shadow, invalidate }, .finish = finish_invalidate);

/* --- N4: a root that waits --- */

static void setup_waiting(void)
{
	setup_with(false, 0);
	touch(&world.cpu[1], 0);
	check_assert(vcpu_context_set(world.cpu[1].vcpu, &context_tdp) == VMMU_OK);
	touch(&world.cpu[1], PAGE_GPA);
}

/* The vCPU goes on once more, and hears of what became obsolete. Then it goes back to its shadow root. */
static void switch_back(void)
{
	cpu_enter(&world.cpu[1]);
	cpu_leave(&world.cpu[1]);
	check_assert(vcpu_context_set(world.cpu[1].vcpu, &context_shadow) == VMMU_OK);
	use_shadow();
}

/* Everything becomes obsolete, and the frame is given away. */
static void zap_all_and_move(void)
{
	world_slot_delete(1);
	host.frame[PAGE].data++;
}

SCENARIO(both_switch_vs_slot_delete, .protocol = "N4 P3",
         .claim = "a vCPU that goes back to the root of another kind does not find an obsolete one", .threads = 2,
         .setup = setup_waiting, .thread = { switch_back, zap_all_and_move }, .finish = finish);
