/* SPDX-License-Identifier: MIT */
/*
 * Three parties, or all of a slot change, cut until every execution can be explored: a fault is its answer alone, with no CPU that walks tables and sets A bits beside it; a visit
 * to the guest is an entry; a walk yields once, wherever it may. What is left out has scenarios of its own.
 */
#include "check/scenario/world.h"
#include "core/memslot/slots.h"
#include "core/notifier/notifier.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)
#define BLOCK    4u

static void map(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

static void answer(struct cpu *cpu, uint64_t address, uint64_t error)
{
	cpu->error = error;
	cpu_answer(cpu, address);
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

static void delete(void)
{
	world_slot_delete(1);
}

/* What is mapped is what is there. */
static void finish(void)
{
	check_assert(world_vm()->notifier->in_progress == 0);
	world_audit(0);
	world_end();
}

/* The root that the vCPU still holds is obsolete, and nothing is below it (I3.3). */
static void finish_zapped(void)
{
	check_assert(!cpu_peek(&world.cpu[0], world.cpu[0].entry.shadow ? 0 : PAGE_GPA));
	finish();
}

/* --- P3: a zap that yields --- */

static void setup_yield(void)
{
	world_make(MAY_CONTEND, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
	map(&world.cpu[0], PAGE_GPA, false);
	map(&world.cpu[0], PAGE_GPA + PAGE_SIZE, false);
}

SCENARIO(slot_delete_yield_vs_invalidate, .protocol = "P3 P5", .claim = "a zap that yields goes on where it was, and trusts nothing that it has read (I3.4)",
         .threads = 2, .setup = setup_yield, .thread = { delete, invalidate }, .finish = finish_zapped);

/* --- P3, shadow paging: a root that is cached --- */

#define SECOND_PML4 6u

static const uint64_t *cached_root;
static uint64_t cached_root_gone; /* plain: who is on the root reads it */

/* CR3 0 and CR3 6 lead to the same tables; the second is current, the first is cached. */
static void setup_cached(void)
{
	struct cpu *cpu = &world.cpu[0];

	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, PAGE, 0, 0);
	world_slot(2, SECOND_PML4, 1, SECOND_PML4, 0);
	world_slot(1, PAGE, 1, PAGE, 0);
	world_guest_tables();
	cpu_enter(cpu);
	cpu_leave(cpu);
	cached_root = cpu->entry.root;
	world_cr3(cpu, SECOND_PML4, true);
	cpu_enter(cpu);
	cpu_leave(cpu);
}

static void back_to_cached(void)
{
	struct cpu *cpu = &world.cpu[0];

	world_cr3(cpu, 0, true);
	cpu_enter(cpu);
	if (cpu->entry.root == cached_root)
		check_assert(!cached_root_gone);
	cpu_leave(cpu);
}

static void delete_beside_cached(void)
{
	delete();
	cached_root_gone = 1;
}

SCENARIO(shadow_slot_delete_vs_switch, .protocol = "P3 P9", .claim = "no vCPU enters the guest on an obsolete root, be it cached (I3.2)", .threads = 2,
         .setup = setup_cached, .thread = { back_to_cached, delete_beside_cached }, .finish = finish);

/* --- P3, shadow paging: a fault beside all of a slot change --- */

static void setup_shadow_beside(void)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, 2, PAGE, 0);
	world_guest_tables();
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static void answer_read(void)
{
	answer(&world.cpu[0], world.cpu[0].entry.shadow ? 0 : PAGE_GPA, 0);
}

SCENARIO(shadow_slot_delete_vs_answer, .protocol = "P3 P5", .claim = "nothing is installed under an obsolete root, nor of a slot that is gone (I3.1, I3.3)",
         .threads = 2, .setup = setup_shadow_beside, .thread = { answer_read, delete }, .finish = finish_zapped);

/* --- P5 and P3 at once. Another slot goes: a fault on one that goes ends before the zap begins, or is told to come again --- */

static void setup_root(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static void setup_other_slot(void)
{
	setup_root();
	world_slot(2, PAGE + BLOCK, 1, PAGE + 2, 0);
}

static void delete_other(void)
{
	world_slot_delete(2);
}

/* Pages of both slots. */
static void migrate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 3));
	host_move(PAGE, HOST_PAGES);
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 3));
}

SCENARIO(answer_vs_invalidate_vs_slot_delete, .protocol = "P3 P5", .claim = "all three at once (I3.1, I3.3, I5.1 to I5.3)", .threads = 3,
         .setup = setup_other_slot, .thread = { answer_read, migrate, delete_other }, .finish = finish_zapped);

/* --- P6: two that bring a right back, and the log --- */

static void setup_protected(void)
{
	uint64_t bitmap;

	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(1, PAGE, 1, PAGE, VMMU_SLOT_LOG_DIRTY);
	map(&world.cpu[0], PAGE_GPA, true);
	map(&world.cpu[1], PAGE_GPA, false);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK && bitmap == 1);
}

static void answer_write(unsigned cpu)
{
	answer(&world.cpu[cpu], PAGE_GPA, VMMU_PF_WRITE | VMMU_PF_PRESENT);
}

static void answer_write_0(void)
{
	answer_write(0);
}

static void answer_write_1(void)
{
	answer_write(1);
}

static void harvest(void)
{
	uint64_t bitmap;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
}

/* Who may write is in the log. The audit says so, too. */
static void finish_protected(void)
{
	uint64_t bitmap, leaf = cpu_peek(&world.cpu[0], PAGE_GPA);

	world_audit(0);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	check_assert(!(leaf & VMMU_NPT_W) || bitmap == 1);
	world_end();
}

SCENARIO(fast_answers_vs_dirty_get, .protocol = "P6 P11", .claim = "a page whose write right two bring back is marked", .threads = 3, .setup = setup_protected,
         .thread = { answer_write_0, answer_write_1, harvest }, .finish = finish_protected);

/* --- P7: tables that appear, and a page goes --- */

static void setup_two_roots(void)
{
	setup_root();
	check_assert(vmmu_vcpu_create(world.vm, 1, NULL, &world.cpu[1].vcpu) == VMMU_OK);
	cpu_enter(&world.cpu[1]);
	cpu_leave(&world.cpu[1]);
}

static void answer_beside(void)
{
	answer(&world.cpu[1], PAGE_GPA + PAGE_SIZE, 0);
}

SCENARIO(answers_vs_invalidate, .protocol = "P5 P7", .claim = "two install tables and leaves, and all of it may go at any time (I5.3)", .threads = 3,
         .setup = setup_two_roots, .thread = { answer_read, answer_beside, migrate }, .finish = finish);

/* --- P10: a slot moves, and a page that is memory before and after is asked for --- */

#define IN_BOTH 3u

static void setup_move(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(1, IN_BOTH - 1, 2, PAGE, 0);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

static void move(void)
{
	world_slot(1, IN_BOTH, 2, PAGE, 0);
}

static void answer_in_both(void)
{
	world.cpu[0].error = 0;
	check_assert(cpu_answer(&world.cpu[0], IN_BOTH * PAGE_SIZE) == CPU_DONE);
}

SCENARIO(slot_move_vs_answer, .protocol = "P10 P3", .claim = "a page of a slot that goes is not taken for MMIO", .threads = 2, .setup = setup_move,
         .thread = { answer_in_both, move }, .finish = finish);

/* --- P11 and P3: the log is read while roots go --- */

static void setup_protected_beside(void)
{
	setup_protected();
	world_slot(2, PAGE + BLOCK, 1, PAGE + 2, 0);
}

SCENARIO(answer_vs_dirty_get_vs_slot_delete, .protocol = "P11 P3", .claim = "write protection beside the end of a root (I3.4)", .threads = 3,
         .setup = setup_protected_beside, .thread = { answer_write_0, harvest, delete_other }, .finish = finish_protected);
