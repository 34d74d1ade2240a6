/* SPDX-License-Identifier: MIT */
/*
 * Scenarios with three threads, or with a whole slot change, made small enough that every execution is explored. A
 * fault is only its answer: no CPU walks tables or sets A bits beside it. A visit to the guest is only an entry. A
 * walk yields once, wherever it may. Other scenarios have what is left out here.
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

/* The audit finds that what is mapped is where the host's pages are. */
static void finish(void)
{
	check_assert(world_vm()->notifier->in_progress == 0);
	world_audit(0);
	world_end();
}

/* The root that the vCPU still holds is obsolete, with nothing below it (I3.3). */
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

/*
 * P3, P5. The slot is deleted, and the zap may yield; the host invalidates a page. After a yield the zap goes on
 * where it was and reads everything again (I3.4).
 */
SCENARIO(slot_delete_yield_vs_invalidate, .protocol = "P3 P5",
         .claim = "after a yield, a zap goes on where it was and reads everything again (I3.4)",
         .threads = 2, .setup = setup_yield, .thread = { delete, invalidate }, .finish = finish_zapped);

/* --- P3, shadow paging: a root that is cached --- */

#define SECOND_PML4 6u

static const uint64_t *cached_root;
static uint64_t cached_root_gone; /* plain: a CPU reads it while it is on the root */

/* CR3 0 and CR3 6 lead to the same tables. The root of CR3 6 is current, that of CR3 0 is cached. */
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

/*
 * P3, P9. The vCPU switches back to its cached root while the slot is deleted. It does not enter the guest on an
 * obsolete root, cached or not (I3.2).
 */
SCENARIO(shadow_slot_delete_vs_switch, .protocol = "P3 P9",
         .claim = "no vCPU enters the guest on an obsolete root, cached or not (I3.2)",
         .threads = 2, .setup = setup_cached, .thread = { back_to_cached, delete_beside_cached }, .finish = finish);

/* --- P3, shadow paging: a fault beside a whole slot change --- */

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

/*
 * P3, P5. The vCPU answers a fault on a page of the slot while the slot is deleted. Nothing is installed under an
 * obsolete root, and nothing of a deleted slot (I3.1, I3.3).
 */
SCENARIO(shadow_slot_delete_vs_answer, .protocol = "P3 P5",
         .claim = "a fault installs nothing under an obsolete root and nothing of a deleted slot (I3.1, I3.3)",
         .threads = 2, .setup = setup_shadow_beside, .thread = { answer_read, delete }, .finish = finish_zapped);

/*
 * --- P5 and P3 at once ---
 *
 * The slot that is deleted is another than the one faulted on. A fault on the deleted slot would end before the zap
 * begins, or be told to come again.
 */

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

/* The host moves a page, in an invalidation of pages of both slots. */
static void migrate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 3));
	host_move(PAGE, HOST_PAGES);
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 3));
}

/* P3, P5. The vCPU answers a fault on slot 1, the host moves the page, slot 2 is deleted (I3.1, I3.3, I5.1 to I5.3). */
SCENARIO(answer_vs_invalidate_vs_slot_delete, .protocol = "P3 P5",
         .claim = "a fault, an invalidation and a slot change can all run at once (I3.1, I3.3, I5.1 to I5.3)",
         .threads = 3, .setup = setup_other_slot, .thread = { answer_read, migrate, delete_other },
         .finish = finish_zapped);

/* --- P6: two vCPUs restore a write right, beside the log --- */

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

/* A page that the leaf lets the guest write is in the log. The audit says so, too. */
static void finish_protected(void)
{
	uint64_t bitmap, leaf = cpu_peek(&world.cpu[0], PAGE_GPA);

	world_audit(0);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	check_assert(!(leaf & VMMU_NPT_W) || bitmap == 1);
	world_end();
}

/*
 * P6, P11. Two vCPUs answer write faults on a write-protected page by the fast path while the log is read. The page
 * is marked if it is writable.
 */
SCENARIO(fast_answers_vs_dirty_get, .protocol = "P6 P11",
         .claim = "a page that two vCPUs make writable by the fast path is marked",
         .threads = 3, .setup = setup_protected, .thread = { answer_write_0, answer_write_1, harvest },
         .finish = finish_protected);

/* --- P7: two faults install tables while a page is taken away --- */

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

/*
 * P5, P7. Two vCPUs install tables and leaves while the host moves one of the pages. What they install may
 * be zapped at any time (I5.3).
 */
SCENARIO(answers_vs_invalidate, .protocol = "P5 P7",
         .claim = "two vCPUs can install tables and leaves while an invalidation zaps them (I5.3)",
         .threads = 3, .setup = setup_two_roots, .thread = { answer_read, answer_beside, migrate }, .finish = finish);

/* --- P10: a slot moves, and the vCPU faults on a page that is memory before and after --- */

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

/* P10, P3. The vCPU answers a fault on a page that is in the slot before and after the move. The page is never MMIO. */
SCENARIO(slot_move_vs_answer, .protocol = "P10 P3", .claim = "no vCPU takes a page of a moving slot for MMIO",
         .threads = 2, .setup = setup_move, .thread = { answer_in_both, move }, .finish = finish);

/* --- P11 and P3: the log is read while roots are removed --- */

static void setup_protected_beside(void)
{
	setup_protected();
	world_slot(2, PAGE + BLOCK, 1, PAGE + 2, 0);
}

/*
 * P11, P3. The vCPU answers a write fault by the fast path, the log of slot 1 is read, slot 2 is deleted, which zaps
 * the root. Write protection works beside the end of the root (I3.4).
 */
SCENARIO(answer_vs_dirty_get_vs_slot_delete, .protocol = "P11 P3",
         .claim = "write protection works while a root is being zapped (I3.4)",
         .threads = 3, .setup = setup_protected_beside, .thread = { answer_write_0, harvest, delete_other },
         .finish = finish_protected);
