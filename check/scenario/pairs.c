/* SPDX-License-Identifier: MIT */
/*
 * Pairs of steps that few programs bring together. Each shows that a lock or an order is
 * needed, which nothing else shows.
 */
#include "check/scenario/world.h"
#include "core/memslot/slots.h"
#include "core/fault/context.h"
#include "core/mmu/mmu.h"

#define PAGE     GUEST_DATA
#define PAGE_GPA (PAGE * PAGE_SIZE)

static void map(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 3, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

static void delete(void)
{
	world_slot_delete(1);
}

/* --- roots: the last reference of one is put while others are marked --- */

static void zap_all(void)
{
	mutex_lock(&world_vm()->slots_lock);
	mmu_zap_all_fast(world_vm());
	mutex_unlock(&world_vm()->slots_lock);
}

/* vCPU 0 has not entered since its root was zapped; vCPU 1 is on a new root. */
static void setup_last_reference(void)
{
	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(1, PAGE, 2, PAGE, 0);
	map(&world.cpu[0], PAGE_GPA, false);
	zap_all();
	map(&world.cpu[1], PAGE_GPA, false);
}

static void enter(void)
{
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

/*
 * P3. vCPU 0 enters, which puts the last reference of its old root; another thread zaps everything again. The list
 * of roots stays whole (I3.4).
 */
SCENARIO(zap_all_vs_last_put, .protocol = "P3", .claim = "the list of roots stays whole while a root leaves it (I3.4)",
         .threads = 2, .setup = setup_last_reference, .thread = { enter, zap_all }, .finish = finish);

/* --- a vCPU outside the guest drops its root while others work on the roots --- */

static void setup_root(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
	map(&world.cpu[0], PAGE_GPA, false);
}

static void drop_root(void)
{
	vcpu_roots_drop(world.cpu[0].vcpu, false);
}

static void invalidate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

static void age(void)
{
	vmmu_age(world.vm, host_hva(PAGE), host_hva(PAGE + 1), true);
}

/*
 * P3, P5. The vCPU drops its root, one thread zaps everything, one invalidates a page. Whichever thread is last puts
 * the last reference, once (I3.4, I3.6).
 */
SCENARIO(root_drop_vs_zap_all_vs_invalidate, .protocol = "P3 P5",
         .claim = "whichever thread is last puts the last reference of a root, once (I3.4, I3.6)",
         .threads = 3, .setup = setup_root, .thread = { drop_root, zap_all, invalidate }, .finish = finish);

/*
 * P2, P3. The vCPU drops its root, one thread zaps everything, one ages a page. The root and the tables below it live
 * while the aging walk is in them (I3.7).
 */
SCENARIO(root_drop_vs_zap_all_vs_age, .protocol = "P2 P3",
         .claim = "a root and the tables below it live while a lockless walk may be in them (I3.7)",
         .threads = 3, .setup = setup_root, .thread = { drop_root, zap_all, age }, .finish = finish);

/* --- a zap that has not flushed yet, and an invalidation that finds nothing left to zap --- */

static void setup_zaps_slot(void)
{
	struct vmmu_config config = {
		.size = sizeof(config), .host = &host_ops, .mmu = VMMU_MMU_TDP, .max_vcpus = WORLD_CPUS,
		.slot_delete_zaps_slot = true
	};

	world_make_with(0, &config, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
	/* the same memory at another gfn, so that the invalidation always hits a slot */
	world_slot(2, PAGE + 8, 2, PAGE, 0);
	map(&world.cpu[0], PAGE_GPA, false);
}

static void run(void)
{
	struct host_frame *frame;

	cpu_enter(&world.cpu[0]);
	frame = cpu_access(&world.cpu[0], PAGE_GPA, false);
	if (frame)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

static void migrate(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
	host_move(PAGE, HOST_PAGES);
	host.frame[PAGE].data = 1;
	vmmu_invalidate_end(world.vm, host_hva(PAGE), host_hva(PAGE + 1));
}

/*
 * P3, P5. The slot is deleted, which zaps its range; the host moves the page; the vCPU runs with the page in its TLB.
 * The invalidation flushes what was zapped and not yet flushed, before it goes on (I5.4).
 */
SCENARIO(slot_zap_vs_invalidate_vs_run, .protocol = "P3 P5",
         .claim = "an invalidation flushes what was zapped and not yet flushed before it goes on (I5.4)",
         .threads = 3, .setup = setup_zaps_slot, .thread = { run, delete, migrate }, .finish = finish);

/* --- chains with descriptors: a leaf is added while logging walks them --- */

/* Linear pages 0 and 1 are mapped and lead to one frame. Linear page 2 leads to it, too, and is not mapped yet. */
static void setup_chain(unsigned flags)
{
	world_make(0, VMMU_MMU_SHADOW, 1);
	world_slot(0, 0, 4, 0, 0);
	world_slot(1, PAGE, 2, PAGE, flags);
	world_guest_tables();
	host.frame[GUEST_PT].word[1] = host.frame[GUEST_PT].word[2] = host.frame[GUEST_PT].word[0];
	map(&world.cpu[0], 0, true);
	map(&world.cpu[0], PAGE_SIZE, true);
}

static void setup_chain_unlogged(void)
{
	setup_chain(0);
}

static void setup_chain_logged(void)
{
	setup_chain(VMMU_SLOT_LOG_DIRTY);
}

static void map_third(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[0], 2 * PAGE_SIZE, false, 1, &frame);
	cpu_leave(&world.cpu[0]);
}

static void log_start(void)
{
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
}

static void harvest(void)
{
	uint64_t bitmap = 0;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK && bitmap == 1);
}

/*
 * P2, P11. The vCPU maps linear page 2 while logging begins. Nothing is added to a chain while it is write-protected.
 */
SCENARIO(shadow_map_vs_log_start, .protocol = "P2 P11",
         .claim = "no vCPU adds to a chain while the chain is write-protected",
         .threads = 2, .setup = setup_chain_unlogged, .thread = { map_third, log_start }, .finish = finish);

/*
 * P2, P11. The vCPU maps linear page 2 while the log is read. Nothing is added to a chain
 * while it is write-protected.
 */
SCENARIO(shadow_map_vs_dirty_get, .protocol = "P2 P11",
         .claim = "no vCPU adds to a chain while the chain is write-protected",
         .threads = 2, .setup = setup_chain_logged, .thread = { map_third, harvest }, .finish = finish);

/* --- rings: their vCPU or their slot is removed while they are reset --- */

static struct vmmu_dirty_gfn *ring;

static void setup_ring(void)
{
	uint32_t entries = 2 * VMMU_DIRTY_RING_RESERVED;

	world_make(0, VMMU_MMU_TDP, 0);
	check_assert(vmmu_dirty_ring_enable(world.vm, entries) == VMMU_OK);
	world_slot(1, PAGE, 2, PAGE, VMMU_SLOT_LOG_DIRTY);
	check_assert(vmmu_vcpu_create(world.vm, 0, NULL, &world.cpu[0].vcpu) == VMMU_OK);
	ring = check_alloc(entries * sizeof(*ring), 64);
	vmmu_vcpu_dirty_ring_set(world.cpu[0].vcpu, ring);
	map(&world.cpu[0], PAGE_GPA, true);
	ring[0].flags = VMMU_DIRTY_GFN_RESET;
}

static void reset(void)
{
	uint64_t count;

	check_assert(vmmu_dirty_ring_reset(world.vm, &count) == VMMU_OK);
}

static void destroy(void)
{
	vmmu_vcpu_destroy(world.cpu[0].vcpu);
	world.cpu[0].vcpu = NULL;
}

static void finish_ring(void)
{
	check_free(ring);
	world_audit(0);
	world_end();
}

/*
 * P11. One thread resets all rings, one destroys the vCPU of the ring. The ring of a destroyed vCPU is not read, and
 * no page of it stays writable.
 */
SCENARIO(ring_reset_vs_vcpu_destroy, .protocol = "P11",
         .claim = "a reset does not read the ring of a destroyed vCPU, and no page of that ring stays writable",
         .threads = 2, .setup = setup_ring, .thread = { reset, destroy }, .finish = finish_ring);

static void setup_gone_ring(void)
{
	setup_ring();
	destroy();
}

/*
 * P11. The vCPU of the ring is destroyed. A reset protects its pages while their slot is deleted; the
 * slot is not freed meanwhile.
 */
SCENARIO(gone_ring_reset_vs_slot_delete, .protocol = "P11",
         .claim = "a slot lives while a reset protects its pages for the ring of a destroyed vCPU",
         .threads = 2, .setup = setup_gone_ring, .thread = { reset, delete }, .finish = finish_ring);

/* P11. One thread resets all rings, one deletes the slot that an entry names. The slot is not used once it is freed. */
SCENARIO(ring_reset_vs_slot_delete, .protocol = "P11", .claim = "a reset does not use a freed slot that an entry names",
         .threads = 2, .setup = setup_ring, .thread = { reset, delete }, .finish = finish_ring);

/* --- whole calls with the library's own SRCU and mmu_lock --- */

static void setup_real_srcu(void)
{
	world_make(REAL_SRCU, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
}

/* Read a guest page through the slots. It does all that a reader of slots does, and no more. */
static void read_guest(void)
{
	uint64_t value;
	enum vmmu_status status = vmmu_guest_read(world.cpu[0].vcpu, GPA(PAGE_GPA), &value, sizeof(value));

	check_assert(status == VMMU_OK || status == VMMU_ENOENT);
}

static void setup_real_mmu_lock(void)
{
	world_make(REAL_MMU_LOCK, VMMU_MMU_TDP, 1);
	world_slot(1, PAGE, 2, PAGE, 0);
	map(&world.cpu[0], PAGE_GPA + PAGE_SIZE, false);
}

static void fault(void)
{
	struct host_frame *frame;

	if (cpu_touch(&world.cpu[0], PAGE_GPA, false, 1, &frame) == CPU_DONE)
		check_assert(frame->data == 0);
	cpu_leave(&world.cpu[0]);
}

/*
 * SRCU, P5. The hypervisor reads guest memory while the slot is deleted. The slot lives as
 * long as a reader of its set.
 */
SCENARIO(srcu_guest_read_vs_slot_delete, .protocol = "SRCU P5",
         .claim = "a slot lives as long as a reader of its set, with the library's own SRCU",
         .threads = 2, .setup = setup_real_srcu, .thread = { read_guest, delete }, .finish = finish);

/*
 * P5. The vCPU faults on the page while the host moves it. No frame is installed that was
 * looked up before the move (I5.3).
 */
SCENARIO(mmu_lock_fault_vs_invalidate, .protocol = "P5",
         .claim = "a fault installs no frame that it looked up before an invalidation (I5.3), with the "
                  "library's own mmu_lock",
         .threads = 2, .setup = setup_real_mmu_lock, .thread = { fault, migrate }, .finish = finish);
