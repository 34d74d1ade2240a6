/* SPDX-License-Identifier: MIT */
/*
 * N1: L1 (vCPU 0, on a TDP root) stores to a table while a mirror of it is made for L2 (vCPU 1, on shadow pages). In
 * the end the audit finds that each mirrored entry is what the table says, or empty, and that no TDP leaf of a mirrored
 * frame could be written, now or by the fast path, or is huge.
 *
 * The tables of L2 are in gfns 0 to 3, which are one block. L1 stores to the entry of linear page 0 in the 4K-level
 * table. It leads to the frame BEFORE, and L1 makes it lead to AFTER.
 */
#include "check/scenario/world.h"
#include "core/fault/context.h"
#include "core/fault/vcpu.h"
#include "core/shadow/shadow.h"

#define ENTRY_GPA (GUEST_PT * PAGE_SIZE)
#define AFTER     (GUEST_DATA + 1)

#define L1 (&world.cpu[0])
#define L2 (&world.cpu[1])

/* --- what L1 and L2 do --- */

static void store_through(struct host_frame *frame)
{
	store_relaxed(&frame->word[0], world_guest_entry(AFTER));
}

static void store_by_hypervisor(void)
{
	uint64_t value = world_guest_entry(AFTER);

	check_assert(vmmu_guest_write(L1->vcpu, GPA(ENTRY_GPA), &value, sizeof(value)) == VMMU_OK);
}

/* L1's CPU stores to the table, by its TLB or its tables. A fault is left unanswered. */
static void store(void)
{
	struct host_frame *frame;

	cpu_enter(L1);
	frame = cpu_access(L1, ENTRY_GPA, true);
	if (frame)
		store_through(frame);
	cpu_leave(L1);
}

/* L1's CPU has faulted on its store to the table. `error`: the fault's. */
static void store_answer(uint64_t error)
{
	L1->error = VMMU_PF_WRITE | error;
	if (cpu_answer(L1, ENTRY_GPA) == CPU_EMULATE)
		store_by_hypervisor();
}

static void store_answer_absent(void)
{
	store_answer(0);
}

static void store_answer_protected(void)
{
	store_answer(VMMU_PF_PRESENT);
}

/* L1's CPU has faulted on a read of the page before the table. */
static void answer_beside(void)
{
	L1->error = 0;
	cpu_answer(L1, ENTRY_GPA - PAGE_SIZE);
}

/* L2's CPU has faulted on linear page 0. The answer makes a mirror of the table. */
static void l2_answer(void)
{
	L2->error = 0;
	cpu_answer(L2, 0);
}

/* L2's first entry makes the VM's first shadow root, and its fault all mirrors. */
static void l2_touch(void)
{
	struct host_frame *frame;

	cpu_touch(L2, 0, false, 1, &frame);
	cpu_leave(L2);
}

static void mirror_drop(void)
{
	vmmu_unprotect(L2->vcpu, GPA(ENTRY_GPA));
}

static void drop_and_answer(void)
{
	mirror_drop();
	l2_answer();
}

static void log_begin(void)
{
	world_slot(0, 0, 4, 0, VMMU_SLOT_LOG_DIRTY);
}

/* The last step of a log's end. */
static void recover(void)
{
	struct vm *vm = world_vm();

	mutex_lock(&vm->slots_lock);
	fault_recover_huge(vm, memslot_find_id(memslots_current(vm, 0), 1));
	mutex_unlock(&vm->slots_lock);
}

/* --- set up --- */

static void touch(struct cpu *cpu, uint64_t address, bool write)
{
	struct host_frame *frame;

	check_assert(cpu_touch(cpu, address, write, 4, &frame) == CPU_DONE);
	cpu_leave(cpu);
}

/* `flags`: of the tables' slot. L1 has its root. Nothing was ever shadowed. */
static void setup_with(unsigned flags)
{
	world_make(0, VMMU_MMU_TDP, 2);
	check_assert(shadow_init(world_vm()) == VMMU_OK);
	check_assert(vcpu_context_set(L2->vcpu, &context_shadow) == VMMU_OK);
	world_slot(0, 0, 4, 0, flags);
	world_slot(1, GUEST_DATA, 2, GUEST_DATA, 0);
	world_guest_tables();
	cpu_enter(L1);
	cpu_leave(L1);
}

static void setup_first(void)
{
	setup_with(0);
}

/* L2 has run, and is outside the guest. The table's own mirror was given up since; its upper tables' were not. */
static void setup_again_with(unsigned flags)
{
	setup_with(flags);
	touch(L2, 0, false);
	mirror_drop();
	cpu_enter(L2); /* it hears of the page that is gone */
	cpu_leave(L2);
}

static void setup_again(void)
{
	setup_again_with(0);
}

/* L1 has the table in its TLB, writable. */
static void setup_tlb(void)
{
	setup_again_with(0);
	touch(L1, ENTRY_GPA, true);
}

static void setup_first_tlb(void)
{
	setup_with(0);
	touch(L1, ENTRY_GPA, true);
}

/* The table's leaf was writable and is write-protected for the log: the fast path may give the right back. */
static void setup_protected(void)
{
	uint64_t bitmap = 0;

	setup_again_with(VMMU_SLOT_LOG_DIRTY);
	touch(L1, ENTRY_GPA, true);
	check_assert(vmmu_dirty_get(world.vm, 0, 0, &bitmap, 1) == VMMU_OK && bitmap);
}

/* The page before the table is faulted on, and the table is its neighbour. */
static void setup_neighbours(void)
{
	setup_again_with(0);
	host.neighbours = true;
	host.small[GUEST_DATA] = true;
}

/* The tables' block may be one leaf. Nothing is mirrored, since the upper tables are in the block, too. */
static void setup_may_be_huge(void)
{
	setup_with(0);
	host.max_level = VMMU_LEVEL_2M;
	host.small[GUEST_DATA] = host.small[AFTER] = true;
}

static void setup_huge(void)
{
	setup_may_be_huge();
	touch(L1, ENTRY_GPA, true);
}

/*
 * The 4K-level table is in a block without other tables, gfn BLOCK_PT. L2 has run, and the table's mirror was given up
 * since. L1 has a small leaf in the block, as after a log. Linear page 0 is the table above, which is in another block.
 */
#define BLOCK_PT (GUEST_DATA + 2)
static void setup_small(void)
{
	setup_with(0);
	world_slot(1, GUEST_DATA, 0, 0, 0);
	world_slot(1, GUEST_DATA, 4, GUEST_DATA, 0);
	host.frame[GUEST_PT - 1].word[0] = world_guest_entry(BLOCK_PT);
	host.frame[BLOCK_PT].word[0] = world_guest_entry(GUEST_PT - 1);
	touch(L2, 0, false);
	vmmu_unprotect(L2->vcpu, GPA(BLOCK_PT * PAGE_SIZE));
	cpu_enter(L2); /* it hears of the page that is gone */
	cpu_leave(L2);
	touch(L1, GUEST_DATA * PAGE_SIZE, true);
	host.max_level = VMMU_LEVEL_2M;
	host.small[GUEST_PT - 1] = true;
}

/* The table is mirrored, and L1 has a leaf of it. */
static void setup_mirrored(void)
{
	setup_with(0);
	touch(L2, 0, false);
	touch(L1, ENTRY_GPA, false);
}

static void finish(void)
{
	world_audit(0);
	world_end();
}

/* --- a mirror is made --- */

SCENARIO(mirror_vs_tdp_fault, .protocol = "N1",
         .claim = "a TDP fault leaves no writable leaf over a table of which a mirror is made", .threads = 2,
         .setup = setup_again, .thread = { store_answer_absent, l2_answer }, .finish = finish);

SCENARIO(mirror_vs_tdp_store, .protocol = "N1 P4",
         .claim = "a mirror is used only when no TLB can write the table through a TDP leaf any more", .threads = 2,
         .setup = setup_tlb, .thread = { store, l2_answer }, .finish = finish);

SCENARIO(mirror_vs_fast_fault, .protocol = "N1 P6",
         .claim = "the fast path gives no write right back over a table of which a mirror is made", .threads = 2,
         .setup = setup_protected, .thread = { store_answer_protected, l2_answer }, .finish = finish);

SCENARIO(mirror_vs_tdp_neighbours, .protocol = "N1",
         .claim = "a neighbour that a TDP fault maps is not writable over a table of which a mirror is made",
         .threads = 2, .setup = setup_neighbours, .thread = { answer_beside, l2_answer }, .finish = finish);

/* --- the first one, and huge leaves --- */

SCENARIO(mirror_first_vs_tdp_fault, .protocol = "N1 N2 P1",
         .claim = "a TDP fault leaves no writable leaf over a table that the VM's first shadow root mirrors",
         .threads = 2, .setup = setup_first, .thread = { store_answer_absent, l2_touch }, .finish = finish);

SCENARIO(mirror_first_vs_tdp_store, .protocol = "N1 N2 P4",
         .claim = "the VM's first mirrors are used only when no TLB can write the tables any more", .threads = 2,
         .setup = setup_first_tlb, .thread = { store, l2_touch }, .finish = finish);

SCENARIO(mirror_vs_huge_fault, .protocol = "N1 N2",
         .claim = "a TDP fault leaves no huge leaf over a table of which a mirror is made", .threads = 2,
         .setup = setup_may_be_huge, .thread = { store_answer_absent, l2_touch }, .finish = finish);

SCENARIO(mirror_vs_huge_store, .protocol = "N1 N2 P4",
         .claim = "a huge leaf over a table is gone, and no TLB has it, when a mirror of the table is used",
         .threads = 2, .setup = setup_huge, .thread = { store, l2_touch }, .finish = finish);

SCENARIO(mirror_vs_split, .protocol = "N1 N2 P11",
         .claim = "the pieces of a huge TDP leaf that a log splits give no right over a mirrored table", .threads = 2,
         .setup = setup_huge, .thread = { log_begin, l2_touch }, .finish = finish);

SCENARIO(mirror_vs_recover, .protocol = "N1",
         .claim = "the end of a log makes no huge TDP leaf over a table of which a mirror is made", .threads = 2,
         .setup = setup_small, .thread = { recover, l2_answer }, .finish = finish);

/* --- a mirror goes --- */

SCENARIO(mirror_drop_vs_store, .protocol = "N1 P4",
         .claim = "a store is emulated and seen by the mirror, or the mirror has gone", .threads = 2,
         .setup = setup_mirrored, .thread = { store_answer_protected, mirror_drop }, .finish = finish);

SCENARIO(mirror_drop_and_again_vs_store, .protocol = "N1 P4",
         .claim = "a leaf that became writable between two mirrors of a table is protected by the second",
         .threads = 2, .setup = setup_mirrored, .thread = { store_answer_protected, drop_and_answer },
         .finish = finish);
