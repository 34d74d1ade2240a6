/* SPDX-License-Identifier: MIT */
/*
 * Pairs of calls that no protocol is about. A lock of the library keeps two calls apart, or keeps alive
 * what one of them reads, and only such a pair shows it. These were written for the sites of
 * doc/ordering.md that had no scenario.
 */
#include "check/scenario/world.h"
#include "core/memslot/gate.h"
#include "core/shadow/shadow_int.h"

static void end(void)
{
	world_end();
}

/* I2.5, I4.2: the audit finds every leaf on the chain of its frame. */
static void end_audited(void)
{
	world_audit(0);
	world_end();
}

static void touch(struct cpu *cpu, unsigned page, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, page * PAGE_SIZE, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* --- slots_lock: slot changes, and calls that use slots, one at a time --- */

static void slots_setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
	world_slot(0, 0, 1, 0, 0);
	world_slot(1, 4, 2, 4, VMMU_SLOT_LOG_DIRTY);
}

static void create_2(void)
{
	world_slot(2, 2, 1, 2, 0);
}

static void create_3(void)
{
	world_slot(3, 3, 1, 3, 0);
}

static void delete_1(void)
{
	world_slot_delete(1);
}

static void both_finish(void)
{
	struct vmmu_region region;

	check_assert(vmmu_region_get(world.vm, 0, 2, &region) == VMMU_OK &&
	             vmmu_region_get(world.vm, 0, 3, &region) == VMMU_OK);
	world_audit(0);
	world_end();
}

/* P1, P5. Two threads create different slots. Both slots are there in the end. */
SCENARIO(slot_change_vs_slot_change, .protocol = "P1 P5", .claim = "of two slot changes at once, neither is lost",
         .threads = 2, .setup = slots_setup, .thread = { create_2, create_3 }, .finish = both_finish);

static void get(void)
{
	uint64_t bitmap = 0;
	enum vmmu_status status = vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1);

	check_assert(status == VMMU_OK || status == VMMU_ENOENT);
}

static void clear(void)
{
	uint64_t bitmap = 3;
	enum vmmu_status status = vmmu_dirty_clear(world.vm, 0, 1, 0, 2, &bitmap);

	check_assert(status == VMMU_OK || status == VMMU_ENOENT);
}

static void region_get(void)
{
	struct vmmu_region region;
	enum vmmu_status status = vmmu_region_get(world.vm, 0, 1, &region);

	check_assert(status == VMMU_OK || status == VMMU_ENOENT);
}

static void mode_set(void)
{
	check_assert(vmmu_dirty_mode_set(world.vm, VMMU_DIRTY_MANUAL_PROTECT) == VMMU_OK);
}

static void marked_setup(void)
{
	uint64_t value = 1;

	slots_setup();
	check_assert(vmmu_guest_write(world.cpu[0].vcpu, GPA(4 * PAGE_SIZE), &value, sizeof(value)) == VMMU_OK);
}

/* P11. One thread reads the dirty log of slot 1, the other deletes the slot. The harvest finds a whole slot or none. */
SCENARIO(dirty_get_vs_slot_delete, .protocol = "P11",
         .claim = "a slot and its bitmap live while a call harvests the bitmap",
         .threads = 2, .setup = marked_setup, .thread = { get, delete_1 }, .finish = end);

/* P11. One thread clears dirty pages of slot 1, the other deletes the slot. The call finds a whole slot or none. */
SCENARIO(dirty_clear_vs_slot_delete, .protocol = "P11",
         .claim = "a slot and its bitmap live while a call clears the bitmap",
         .threads = 2, .setup = marked_setup, .thread = { clear, delete_1 }, .finish = end);

/*
 * P11. One thread reads the dirty log, the other changes the dirty mode. The whole harvest
 * is of the old or the new mode.
 */
SCENARIO(dirty_mode_vs_dirty_get, .protocol = "P11",
         .claim = "a whole harvest is of the old dirty mode or of the new one",
         .threads = 2, .setup = marked_setup, .thread = { get, mode_set }, .finish = end);

/* One thread asks for slot 1, the other deletes it. The answer describes a whole slot, or says that there is none. */
SCENARIO(region_get_vs_slot_delete, .protocol = "", .claim = "a slot lives while a call describes it",
         .threads = 2, .setup = slots_setup, .thread = { region_get, delete_1 }, .finish = end);

static void delete_set(void)
{
	vmmu_slot_delete_set(world.vm, true);
}

/* P3. One thread deletes slot 1, the other changes what a deletion zaps. It zaps the slot's range, or everything. */
SCENARIO(slot_delete_mode_vs_slot_delete, .protocol = "P3",
         .claim = "a whole deletion is of the old way to zap a slot or of the new one",
         .threads = 2, .setup = marked_setup, .thread = { delete_set, delete_1 }, .finish = end);

/* --- SRCU: the hypervisor's own accesses to guest memory --- */

static void guest_read(void)
{
	uint64_t value;
	enum vmmu_status status = vmmu_guest_read(world.cpu[0].vcpu, GPA(4 * PAGE_SIZE), &value, sizeof(value));

	check_assert(status == VMMU_OK || status == VMMU_ENOENT);
}

static void guest_written(void)
{
	vmmu_guest_written(world.cpu[0].vcpu, GPA(4 * PAGE_SIZE), 8);
}

/*
 * SRCU. The hypervisor reads guest memory through slot 1, another thread deletes the slot. The
 * slot is not freed meanwhile.
 */
SCENARIO(guest_read_vs_slot_delete, .protocol = "SRCU",
         .claim = "a slot lives while the hypervisor reads guest memory through it",
         .threads = 2, .setup = slots_setup, .thread = { guest_read, delete_1 }, .finish = end);

/*
 * SRCU, P11. The hypervisor reports a store to slot 1, another thread deletes it. The slot and its
 * bitmap are not freed meanwhile.
 */
SCENARIO(guest_written_vs_slot_delete, .protocol = "SRCU P11",
         .claim = "a slot and its bitmap live while the hypervisor reports a store",
         .threads = 2, .setup = slots_setup, .thread = { guest_written, delete_1 }, .finish = end);

/* --- vcpus.lock --- */

static void vcpus_setup(void)
{
	world_make(0, VMMU_MMU_TDP, 1);
}

static void vcpu_make(void)
{
	struct vmmu_vcpu *vcpu;
	enum vmmu_status status = vmmu_vcpu_create(world.vm, 1, NULL, &vcpu);

	check_assert(status == VMMU_OK || status == VMMU_EEXIST);
	if (status == VMMU_OK)
		world.cpu[1].vcpu = vcpu; /* at most one thread of two comes here */
}

static void vcpu_destroy(void)
{
	vmmu_vcpu_destroy(world.cpu[0].vcpu);
	world.cpu[0].vcpu = NULL;
}

static void stats(void)
{
	struct vmmu_stats stats;

	vmmu_stats_get(world.vm, &stats, sizeof(stats));
}

/* P9. Two threads create vCPU 1. One succeeds; the other is told that the vCPU exists. */
SCENARIO(vcpu_create_vs_vcpu_create, .protocol = "P9", .claim = "of two calls that create the same vCPU, one succeeds",
         .threads = 2, .setup = vcpus_setup, .thread = { vcpu_make, vcpu_make }, .finish = end);

/* P9. One thread creates vCPU 1, the other destroys vCPU 0. The set of vCPUs then ends after its last vCPU. */
SCENARIO(vcpu_create_vs_vcpu_destroy, .protocol = "P9", .claim = "the set of vCPUs ends after its last vCPU",
         .threads = 2, .setup = vcpus_setup, .thread = { vcpu_make, vcpu_destroy }, .finish = end);

/* P9. One thread adds up the statistics of all vCPUs, the other destroys vCPU 0. The vCPU is not freed meanwhile. */
SCENARIO(stats_vs_vcpu_destroy, .protocol = "P9", .claim = "a vCPU lives while a call adds up its counters",
         .threads = 2, .setup = vcpus_setup, .thread = { stats, vcpu_destroy }, .finish = end);

/* --- the gate is forced open: a VM is destroyed with an invalidation in flight --- */

static struct gate gate;
static unsigned published; /* plain: changes under the gate's lock only */

static void publish(void *arg)
{
	(void)arg;
	published++;
}

static void gate_setup(void)
{
	abstract_init(0);
	gate_init(&gate);
	gate_enter(&gate);
}

static void gate_go(void)
{
	gate_publish(&gate, publish, NULL);
}

static void gate_force(void)
{
	gate_force_open(&gate);
}

static void gate_end(void)
{
	gate_leave(&gate);
}

static void gate_finish(void)
{
	check_assert(published == 1 && !gate.active);
}

/*
 * P5. An invalidation is in flight. One thread publishes a slot set and waits for it; one thread ends the
 * invalidation; one forces the gate open. Whichever opens the gate wakes the publisher (I5.6).
 */
SCENARIO(gate_force_vs_leave_vs_publish, .protocol = "P5",
         .claim = "whichever thread opens the gate wakes the slot change that waits at it (I5.6)",
         .threads = 3, .setup = gate_setup, .thread = { gate_go, gate_force, gate_end }, .finish = gate_finish);

/* --- mmu_lock: calls that work on shadow pages --- */

/*
 * Linear page 2 leads to the guest's table. The guest has written the table through it, so the table's page is
 * unsync.
 */
static void shadow_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_SHADOW, 2);
	world_slot(0, 0, HOST_PAGES, 0, 0);
	world_guest_tables();
	host.frame[GUEST_PT].word[2] = world_guest_entry(GUEST_PT);
	touch(&world.cpu[0], 0, false);
	touch(&world.cpu[1], 0, false);
	check_assert(cpu_touch(&world.cpu[0], 2 * PAGE_SIZE, true, 4, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
}

static void invlpg(void)
{
	vmmu_invlpg(world.cpu[0].vcpu, GVA(0));
}

static void try_other(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[1], PAGE_SIZE, false, 2, &frame);
	cpu_leave(&world.cpu[1]);
}

static void delete_0(void)
{
	world_slot_delete(0);
}

/*
 * vCPU 1 uses tables that begin a level further down, so their pages have other roles. That makes eight pages, two
 * more than the least limit leaves. The limit takes the oldest pages, those below the root of vCPU 0.
 */
static void limit_setup(void)
{
	shadow_setup();
	host.frame[GUEST_DATA].word[0] = world_guest_entry(GUEST_DATA);
	world_cr3(&world.cpu[1], 1, false);
	touch(&world.cpu[1], 0, false);
}

static void limit(void)
{
	check_assert(vmmu_shadow_limit_set(world.vm, 1) == VMMU_OK);
}

static void try_first(void)
{
	struct host_frame *frame;

	cpu_touch(&world.cpu[0], PAGE_SIZE, false, 2, &frame);
	cpu_leave(&world.cpu[0]);
}

static void limit_two(void)
{
	check_assert(vmmu_shadow_limit_set(world.vm, 2) == VMMU_OK);
}

static void log_off(void)
{
	world_slot(0, 0, HOST_PAGES, 0, 0);
}

static void log_on(void)
{
	world_slot(0, 0, HOST_PAGES, 0, VMMU_SLOT_LOG_DIRTY);
}

static void logged_setup(void)
{
	shadow_setup();
	log_on();
}

static void flush_and_enter(void)
{
	world_cr3(&world.cpu[0], 0, false);
	cpu_enter(&world.cpu[0]);
	cpu_leave(&world.cpu[0]);
}

/* P8. vCPU 0 executes INVLPG while vCPU 1 faults on another page. No table changes while INVLPG looks for the entry. */
SCENARIO(invlpg_vs_fault, .protocol = "P8", .claim = "no table changes while INVLPG looks for an entry",
         .threads = 2, .setup = shadow_setup, .thread = { invlpg, try_other }, .finish = end_audited);

/*
 * P8, SRCU. vCPU 0 executes INVLPG while slot 0 is deleted. The slot's arrays live until
 * INVLPG has taken the entry out.
 */
SCENARIO(invlpg_vs_slot_delete, .protocol = "P8 SRCU",
         .claim = "the arrays of a slot live until INVLPG has taken the entry out of them",
         .threads = 2, .setup = shadow_setup, .thread = { invlpg, delete_0 }, .finish = end);

/* P8. vCPU 0 loads CR3, which syncs the unsync table; vCPU 1 faults. No table changes while it is synced. */
SCENARIO(flush_vs_fault, .protocol = "P8", .claim = "no table changes while a CR3 load syncs it",
         .threads = 2, .setup = shadow_setup, .thread = { flush_and_enter, try_other }, .finish = end_audited);

/*
 * P3. One thread lowers the limit of shadow pages, which takes some; vCPU 0 faults. No vCPU
 * walks a page while it is taken.
 */
SCENARIO(limit_vs_fault, .protocol = "P3", .claim = "no vCPU walks a shadow page while a lower limit takes it",
         .threads = 2, .setup = limit_setup, .thread = { limit, try_first }, .finish = end_audited);

/* Two threads set different limits. One of the two holds in the end. */
SCENARIO(limit_vs_limit, .protocol = "", .claim = "when two threads set limits, one of the two limits holds",
         .threads = 2, .setup = shadow_setup, .thread = { limit, limit_two }, .finish = end);

/* P11. Logging of slot 0 ends, which zaps leaves; vCPU 1 faults. No leaf is made while the leaves are zapped. */
SCENARIO(shadow_log_off_vs_fault, .protocol = "P11",
         .claim = "no vCPU makes a leaf while the end of logging zaps leaves",
         .threads = 2, .setup = logged_setup, .thread = { log_off, try_other }, .finish = end_audited);

/* P11. Logging of slot 0 begins, which write-protects leaves; vCPU 1 faults. No leaf is made meanwhile. */
SCENARIO(shadow_log_on_vs_fault, .protocol = "P11",
         .claim = "no vCPU makes a leaf while the beginning of logging write-protects leaves",
         .threads = 2, .setup = shadow_setup, .thread = { log_on, try_other }, .finish = end_audited);

/* --- RCU: walks without mmu_lock, or with it held for read, while tables are removed --- */

static void go(struct cpu *cpu, unsigned gfn, bool write)
{
	struct host_frame *frame;

	cpu_touch(cpu, gfn * PAGE_SIZE, write, 1, &frame);
	cpu_leave(cpu);
}

/*
 * gfns 4 to 7 are logged and therefore in small leaves; they may become one huge leaf. gfn 4 is mapped, and a harvest
 * has write-protected it. gfn 0 has a slot of its own.
 */
static void small_setup(void)
{
	struct host_frame *frame;
	uint64_t bitmap;

	world_make(0, VMMU_MMU_TDP, 2);
	host.max_level = VMMU_LEVEL_2M;
	world_slot(0, 0, 1, 0, 0);
	world_slot(1, 4, 4, 4, VMMU_SLOT_LOG_DIRTY);
	check_assert(cpu_touch(&world.cpu[0], 4 * PAGE_SIZE, true, 4, &frame) == CPU_DONE);
	cpu_leave(&world.cpu[0]);
	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
	world.cpu[0].tlb.page = 0;
}

/* gfns 8 and 9 are in no slot. The vCPU has faulted on both, so the table has MMIO entries for them. */
static void mmio_setup(void)
{
	struct host_frame *frame;

	world_make(0, VMMU_MMU_TDP, 2);
	world_slot(0, 0, 1, 0, 0);
	check_assert(cpu_touch(&world.cpu[0], 8 * PAGE_SIZE, false, 4, &frame) == CPU_MMIO);
	check_assert(cpu_touch(&world.cpu[0], 9 * PAGE_SIZE, false, 4, &frame) == CPU_MMIO);
}

static void write_4(void)
{
	go(&world.cpu[0], 4, true);
}

static void read_5(void)
{
	go(&world.cpu[0], 5, false);
}

static void read_8(void)
{
	go(&world.cpu[0], 8, false);
}

static void logging_off(void)
{
	world_slot(1, 4, 4, 4, 0);
}

static void delete_first(void)
{
	world_slot_delete(0);
}

static void invalidate_5(void)
{
	vmmu_invalidate_begin(world.vm, host_hva(5), host_hva(6));
	vmmu_invalidate_end(world.vm, host_hva(5), host_hva(6));
}

static void get_1(void)
{
	uint64_t bitmap;

	check_assert(vmmu_dirty_get(world.vm, 0, 1, &bitmap, 1) == VMMU_OK);
}

/*
 * P6, P7. vCPU 0 writes gfn 4, which the fast path fixes without mmu_lock. Logging ends, and a huge leaf replaces the
 * table that the fast path is in. The table lives until the fast path has left it (I3.7).
 */
SCENARIO(fast_fault_vs_recover, .protocol = "P6 P7",
         .claim = "a table that a huge leaf replaces lives until the fast path has left it (I3.7)",
         .threads = 2, .setup = small_setup, .thread = { write_4, logging_off }, .finish = end);

/*
 * P6, P3. vCPU 0 writes gfn 4 through the fast path; another slot is deleted, which zaps the root. The tables live
 * until the fast path has left them (I3.7).
 */
SCENARIO(fast_fault_vs_slot_delete, .protocol = "P6 P3",
         .claim = "a table of a zapped root lives until the fast path has left it (I3.7)",
         .threads = 2, .setup = small_setup, .thread = { write_4, delete_first }, .finish = end);

/*
 * P7. vCPU 0 faults on gfn 5 while logging ends and a huge leaf replaces the table. The fault
 * installs in a live table (I3.7).
 */
SCENARIO(map_vs_recover, .protocol = "P7",
         .claim = "a table that a huge leaf replaces lives while a fault installs in it (I3.7)",
         .threads = 2, .setup = small_setup, .thread = { read_5, logging_off }, .finish = end);

/*
 * P10, P3. vCPU 0 faults on gfn 8, whose MMIO entry is looked up without mmu_lock; slot 0 is deleted, which zaps the
 * root. The tables live until the look-up has left them (I3.7).
 */
SCENARIO(known_mmio_vs_other_delete, .protocol = "P10 P3",
         .claim = "a table lives while a fault looks in it for an MMIO entry (I3.7)",
         .threads = 2, .setup = mmio_setup, .thread = { read_8, delete_first }, .finish = end);

/*
 * P5, P7. Logging ends, which makes a huge leaf; the host invalidates a page of it. The huge leaf is made before the
 * invalidation, which then zaps it, or after it (I5.3).
 */
SCENARIO(recover_vs_invalidate, .protocol = "P5 P7",
         .claim = "a huge leaf is made before or after an invalidation of its pages, not during it (I5.3)",
         .threads = 2, .setup = small_setup, .thread = { logging_off, invalidate_5 }, .finish = end);

/*
 * P11, P3. One thread reads the dirty log of slot 1, which write-protects; one deletes slot 0, which zaps the root;
 * vCPU 0 writes gfn 4. Write protection works beside the end of the root (I3.4).
 */
SCENARIO(dirty_get_vs_slot_zap_all, .protocol = "P11 P3",
         .claim = "write protection works while a root is being zapped (I3.4)",
         .threads = 3, .setup = small_setup, .thread = { get_1, delete_first, write_4 }, .finish = end);
