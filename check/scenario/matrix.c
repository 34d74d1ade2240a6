/* SPDX-License-Identifier: MIT */
/*
 * Operation against operation: pairs that no scenario with a subject of its own brings together
 * (doc/check-matrix.md). Each holds the accesses of a vCPU, or the work of a thread, against another operation. What
 * must hold is the same in all. A vCPU that was let through to a page uses it before the page is somebody else's: data
 * of the page is then written without an order, which is a race if the vCPU still uses it. And in the end the audit
 * finds nothing.
 */
#include <vmmu/memory.h>

#include "check/scenario/world.h"
#include "core/fault/vcpu.h"
#include "core/mmu/mmu.h"
#include "core/vm/vm_int.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)

/* --- what there is before --- */

static void begin(unsigned flags)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, flags);
	check_assert(cpu_touch(&world.cpu[0], PAGE_GPA, true, 3, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void setup_mapped(void)
{
	begin(0);
}

static void setup_logged(void)
{
	begin(VMMU_SLOT_LOG_DIRTY);
}

/* The page is mapped and aged, and still in the TLB. */
static void setup_aged(void)
{
	begin(0);
	vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true);
}

/* The page is write-protected, and a store takes the fast path. */
static void setup_protected(void)
{
	uint64_t bitmap = 0;

	begin(VMMU_SLOT_LOG_DIRTY);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK && bitmap == 1);
}

/* Nothing is mapped, and a fault maps the page beside as well. */
static void setup_beside(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	host.neighbours = true;
	world_slot(1, PAGE, 2, PAGE, 0);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

/* --- a vCPU --- */

static void access(bool write)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA, write, 2, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void use(void)
{
	access(false);
}

static void store(void)
{
	access(true);
}

static void use_beside(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA + PAGE_SIZE, false, 2, &frame) == CPU_DONE) {
		frame = cpu_access(&world.cpu[0], PAGE_GPA, false);
		if (frame)
			check_assert(frame->data == 0);
	}
	cpu_leave(&world.cpu[0]);
}

/* --- the others --- */

/* The page is another's afterwards. */
static void delete(void)
{
	world_slot_delete(1);
	host.frame[PAGE].data = 1;
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	host_move(PAGE, HOST_PAGES);
	host.frame[PAGE].data = 1;
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

static void zap_all(void)
{
	mutex_lock(&world_vm()->slots_lock);
	mmu_zap_all_fast(world_vm());
	mutex_unlock(&world_vm()->slots_lock);
}

static void log_start(void)
{
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
}

static void log_end(void)
{
	world_slot(1, PAGE, 2, PAGE, 0);
}

static void get(void)
{
	uint64_t bitmap = 0;

	(void)!vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1); /* refused when the slot is not logged any more */
}

static void age(void)
{
	vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true);
}

static void flush(void)
{
	vcpus_flush(world_vm());
}

static void create_vcpu(void)
{
	check_assert(vmmu_vcpu_create(world.vm, 1, NULL, &world.cpu[1].vcpu) == VMMU_OK);
}

static void create_slot(void)
{
	world_slot(2, PAGE + 2, 1, PAGE + 2, 0);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

#define PAIR(id, protocols, what, before, a, b)                                                                       \
	SCENARIO(id, .protocol = protocols, .claim = what, .threads = 2, .setup = before, .thread = { a, b },         \
	         .finish = finish)

PAIR(aged_use_vs_slot_delete, "P2 P3", "a page that was aged is not used once its slot is gone", setup_aged, use,
     delete);
PAIR(aged_use_vs_zap_all, "P2 P3", "an aged page is zapped with its root", setup_aged, use, zap_all);
PAIR(aged_use_vs_log_start, "P2 P11", "a log begins with an aged page", setup_aged, store, log_start);
PAIR(aged_use_vs_slot_create, "P2 P10", "a slot comes beside an aged page", setup_aged, use, create_slot);
PAIR(aged_use_vs_age, "P2", "an aged page is aged again while it is used", setup_aged, use, age);
PAIR(aged_use_vs_flush, "P2 P9", "an aged page is used while its vCPU is asked to flush", setup_aged, use, flush);
PAIR(aged_use_vs_vcpu_create, "P2 P9", "an aged page is used while a vCPU comes", setup_aged, use, create_vcpu);

PAIR(fast_fault_vs_zap_all, "P6 P3", "the fast path gives no right below a root that is zapped", setup_protected, store,
     zap_all);
PAIR(fast_fault_vs_log_end, "P6 P11", "the fast path may run while a log ends", setup_protected, store, log_end);
PAIR(fast_fault_vs_age, "P6 P2", "the fast path and aging change one entry", setup_protected, store, age);
PAIR(fast_fault_vs_flush, "P6 P9", "the fast path may run while its vCPU is asked to flush", setup_protected, store,
     flush);
PAIR(fast_fault_vs_vcpu_create, "P6 P9", "the fast path may run while a vCPU comes", setup_protected, store,
     create_vcpu);

PAIR(neighbour_use_vs_slot_delete, "P7 P3", "no neighbour is used once its slot is gone", setup_beside, use_beside,
     delete);
PAIR(neighbour_use_vs_zap_all, "P7 P3", "no neighbour is installed below a root that is zapped", setup_beside,
     use_beside, zap_all);
PAIR(neighbour_use_vs_log_start, "P7 P11", "a log that begins finds neighbours, or they are mapped for it",
     setup_beside, use_beside, log_start);
PAIR(neighbour_use_vs_age, "P7 P2", "neighbours are mapped while they are aged", setup_beside, use_beside, age);
PAIR(neighbour_use_vs_slot_create, "P7 P10", "neighbours are mapped while a slot comes beside them", setup_beside,
     use_beside, create_slot);
PAIR(neighbour_use_vs_flush, "P7 P9", "neighbours are mapped while their vCPU is asked to flush", setup_beside,
     use_beside, flush);

PAIR(log_start_vs_invalidate, "P5 P11", "a page is taken away while a log of it begins", setup_mapped, log_start,
     invalidate);
PAIR(log_start_vs_age, "P2 P11", "a page is aged while a log of it begins", setup_mapped, log_start, age);
PAIR(log_start_vs_flush, "P9 P11", "a vCPU is asked to flush by two", setup_mapped, log_start, flush);
PAIR(log_start_vs_vcpu_create, "P9 P11", "a vCPU comes while a log begins", setup_mapped, log_start, create_vcpu);
PAIR(log_end_vs_dirty_get, "P11", "the last harvest of a log may come late", setup_logged, log_end, get);
PAIR(dirty_get_vs_invalidate, "P5 P11", "a page is taken away while it is harvested", setup_logged, get, invalidate);
PAIR(dirty_get_vs_age, "P2 P11", "a page is aged while it is harvested", setup_logged, get, age);
PAIR(dirty_get_vs_vcpu_create, "P9 P11", "a vCPU comes while a page is harvested", setup_logged, get, create_vcpu);
PAIR(vcpu_create_vs_zap_all, "P3 P9", "a vCPU comes while roots are zapped", setup_mapped, create_vcpu, zap_all);
PAIR(vcpu_create_vs_invalidate, "P5 P9", "a vCPU comes while a page is taken away", setup_mapped, create_vcpu,
     invalidate);
PAIR(flush_vs_zap_all, "P3 P9", "a vCPU gets two requests at once", setup_mapped, flush, zap_all);
PAIR(flush_vs_invalidate, "P5 P9", "a vCPU is asked to flush while a page is taken away", setup_mapped, flush,
     invalidate);
