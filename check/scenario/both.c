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
