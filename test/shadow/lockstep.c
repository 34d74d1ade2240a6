/* SPDX-License-Identifier: MIT */
/*
 * The shadow MMU and the reference in lock step: random guest tables, accesses, edits, flushes, slot changes,
 * invalidations.
 * After every access the outcome, the data, the error code, and all of guest memory (with its A and D bits) must
 * agree.
 *
 * P4 and P8: every edit is a store by the guest through its own mappings, or one by the hypervisor. A vCPU flushes as
 * late as the architecture allows: when it is about to use a table that was edited since its last flush. It flushes
 * by a load of CR3, or by INVLPG of that address alone. Until then its TLB, which drops nothing by itself, keeps its
 * translations.
 *
 *     lockstep [EPOCHS [SEED]]
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "test/common/quiet.h"
#include "test/common/rng.h"
#include "test/common/side.h"
#include "test/shadow/scpu.h"

#define RAM_FRAMES  512u
#define RAM_BYTES   (RAM_FRAMES * 4096ull)
#define POOL_FIRST  16u /* the first frame for tables: POOL_LEVEL frames for each level, from the lowest level up */
#define POOL_LEVEL  5u
#define POOL_FRAMES (5 * POOL_LEVEL)
#define VCPUS       4 /* the most; a guest has 1, 2 or 4 */
#define HOT         24u
#define PROCESSES   6u /* at once; each has its share of the epochs */

enum mode { M_NONE, M_32, M_PAE, M_4, M_5, MODES };
static const char *const mode_name[] = { "no paging", "32-bit", "PAE", "4-level", "5-level" };

static struct test {
	struct rng rng;
	enum mode mode;
	uint8_t *ram, *want; /* guest memory, and the reference's copy of it */
	struct vmmu_vm *vm;
	struct scpu cpu[VCPUS];
	unsigned vcpus;
	/* Frames stored to since the vCPU's last flush. Before it uses one of them as a table it must flush. */
	uint64_t edited[VCPUS][RAM_FRAMES / 64];
	uint64_t hot[HOT];   /* addresses that are used often, so that TLBs hold them */
	uint64_t bytes;      /* the size of memory: RAM_BYTES, or 0 while there is no slot */
	bool logging;
	uint64_t written[RAM_FRAMES / 64]; /* frames written since the log was last fetched */
	uint64_t accesses, faults, flushes, invlpgs;
	uint64_t seed;
} t;

static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "lockstep: seed %" PRIu64 ", %s, access %" PRIu64 ": ", t.seed, mode_name[t.mode], t.accesses);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	for (uint64_t i = 0; i < RAM_BYTES / 8; i++)
		if (((uint64_t *)t.ram)[i] != ((uint64_t *)t.want)[i])
			fprintf(stderr, "  memory at %#" PRIx64 " is %#" PRIx64 ", should be %#" PRIx64 "\n", i * 8,
			        ((uint64_t *)t.ram)[i], ((uint64_t *)t.want)[i]);
	exit(1);
}

static uint32_t pick(uint32_t below)
{
	return rng_below(&t.rng, below);
}

static bool chance(unsigned percent)
{
	return pick(100) < percent;
}

static bool wide(void)
{
	return t.mode >= M_PAE;
}

/* An index for an address or an edit. There are few, so that tables are shared; both ends of a table are among them. */
static unsigned index_pick(int level)
{
	static const unsigned indices[] = { 0, 1, 2, 511, 256 };

	if (t.mode == M_PAE && level == 3)
		return pick(4);
	if (t.mode == M_32)
		return (unsigned[]){ 0, 1, 2, 511, 512, 1023 }[pick(6)];
	return indices[pick(5)];
}

static uint64_t gva_any(void)
{
	/* The offset in the page is one of those entries, in case the page is used as a table. */
	uint64_t gva = index_pick(1) * (wide() ? 8 : 4);

	switch (t.mode) {
	case M_NONE:
		return chance(95) ? pick(RAM_FRAMES) * 4096ull + gva : 0xfee00000 + gva;
	case M_32:
		return (uint64_t)index_pick(2) << 22 | (uint64_t)index_pick(1) << 12 | gva;
	case M_PAE:
		return (uint64_t)index_pick(3) << 30 | (uint64_t)index_pick(2) << 21 | (uint64_t)index_pick(1) << 12 |
		       gva;
	default:
		for (int level = 1; level <= (t.mode == M_5 ? 5 : 4); level++)
			gva |= (uint64_t)index_pick(level) << (12 + 9 * (level - 1));
		return (uint64_t)((int64_t)(gva << (t.mode == M_5 ? 7 : 16)) >> (t.mode == M_5 ? 7 : 16));
	}
}

static uint64_t gva_pick(void)
{
	return chance(60) ? t.hot[pick(HOT)] : gva_any();
}

static int top_level(void)
{
	return t.mode == M_32 ? 2 : t.mode == M_PAE ? 3 : t.mode == M_4 ? 4 : 5;
}

/*
 * The frame that an entry of a table at `level` leads to. Mostly it is one that fits; now and then it is any frame,
 * so that a table is used at two levels, or maps itself.
 */
static uint64_t frame_pick(int level)
{
	if (chance(level == 1 ? 12 : 4))
		return POOL_FIRST + pick(POOL_FRAMES);
	if (level == 1)
		return chance(97) ? POOL_FIRST + POOL_FRAMES + pick(16) :
		       chance(60) ? pick(RAM_FRAMES) : 0xfee00 + pick(2);
	return POOL_FIRST + (level - 2) * POOL_LEVEL + pick(POOL_LEVEL);
}

static uint64_t entry_pick(int level)
{
	uint64_t entry = chance(97) ? 1 : 0, frame = frame_pick(level);

	entry |= chance(92) ? 2 : 0;
	entry |= chance(92) ? 4 : 0;
	entry |= chance(30) ? 0x20 : 0;
	entry |= chance(30) ? 0x40 : 0;
	if (level > 1 && chance(6)) {
		entry |= 0x80;
		frame = chance(70) ? 0 : frame & ~511ull;
	}
	entry |= frame << 12;
	if (!wide())
		return entry & 0xffffffff;
	if (chance(2))
		entry |= 1ull << 63;
	if (chance(20) && chance(2))
		entry |= 1ull << 50; /* reserved */
	if (t.mode >= M_4 && chance(20))
		entry |= (uint64_t)pick(4) << 59;
	return entry;
}

/* The value of a random store: often an entry, so that tables stay usable. */
static uint64_t value_pick(void)
{
	return chance(90) && t.mode != M_NONE ? entry_pick(1 + pick(top_level())) : rng_next(&t.rng);
}

static void ram_random(void)
{
	for (unsigned frame = 0; frame < RAM_FRAMES; frame++)
		for (unsigned i = 0; i < 512; i++)
			((uint64_t *)t.ram)[frame * 512 + i] = frame * 0x1000ull + i;
	for (unsigned frame = POOL_FIRST; frame < POOL_FIRST + POOL_FRAMES; frame++)
		for (unsigned i = 0; i < 4096u / (wide() ? 8 : 4); i++) {
			int level = 1 + (frame - POOL_FIRST) / POOL_LEVEL;
			uint64_t entry = entry_pick(level < top_level() ? level : top_level());

			if (t.mode == M_PAE && level == 3)
				entry &= ~0x1e6ull;
			memcpy(t.ram + frame * 4096ull + i * (wide() ? 8 : 4), &entry, wide() ? 8 : 4);
		}
	memcpy(t.want, t.ram, RAM_BYTES);
}

/* --- the vCPUs --- */

static void cr3_load(unsigned id)
{
	struct ref_cpu *regs = &t.cpu[id].regs;

	/* Mostly the same CR3 again: no more than a flush. */
	if (chance(20) || !regs->cr3)
		regs->cr3 = (POOL_FIRST + (top_level() - 1) * POOL_LEVEL + pick(POOL_LEVEL)) * 4096ull +
		            (t.mode == M_PAE ? pick(4) * 32 : 0);
	if (t.mode == M_PAE && t.bytes) {
		ref_load_pdptes(t.ram, t.bytes, regs);
		for (int i = 0; i < 4; i++) /* clear the bits for which the CPU would refuse the load */
			regs->pdpte[i] &= ~(0xfff00000000001e6ull | 0xf000000000000ull);
	}
	scpu_regs(&t.cpu[id]);
	memset(t.edited[id], 0, sizeof(t.edited[id]));
	t.flushes++;
}

/* Flush, if the architecture asks for it before the address is used. */
static void flush_if_needed(unsigned id, uint64_t gva)
{
	uint64_t table[5];
	unsigned tables = ref_tables(t.want, t.bytes, &t.cpu[id].regs, gva, table);
	bool needed = false;

	for (unsigned i = 0; i < tables; i++)
		needed |= t.edited[id][table[i] / 64] >> (table[i] % 64) & 1;
	if (!needed)
		return;
	if (chance(50)) {
		cr3_load(id);
	} else {
		scpu_invlpg(&t.cpu[id], gva);
		t.invlpgs++;
	}
}

static void controls_random(unsigned id)
{
	struct ref_cpu *regs = &t.cpu[id].regs;

	regs->cr0 = 1 | (t.mode != M_NONE ? 1ull << 31 : 0) | (chance(60) ? 1 << 16 : 0);
	regs->cr4 = (t.mode >= M_PAE ? 1 << 5 : 0) | (t.mode == M_5 ? 1 << 12 : 0) | (chance(70) ? 1 << 4 : 0);
	regs->cr4 |= (chance(30) ? 1 << 20 : 0) | (chance(30) ? 1 << 21 : 0) |
	             (t.mode >= M_4 && chance(30) ? 1 << 22 : 0);
	regs->efer = (t.mode >= M_4 ? 1 << 8 | 1 << 10 : 0) | (chance(80) ? 1 << 11 : 0);
	regs->pkru = t.mode >= M_4 ? pick(256) : 0;
	cr3_load(id);
}

static void ram_compare(void)
{
	for (uint64_t i = 0; i < RAM_BYTES / 8; i++)
		if (((uint64_t *)t.ram)[i] != ((uint64_t *)t.want)[i])
			fail("memory at %#" PRIx64 " is %#" PRIx64 ", should be %#" PRIx64, i * 8,
			     ((uint64_t *)t.ram)[i], ((uint64_t *)t.want)[i]);
}

static void written_mark(uint64_t frame)
{
	t.written[frame / 64] |= 1ull << (frame % 64);
}

/* A frame was stored to. Any frame may be a table, or may become one. */
static void edited_mark(uint64_t frame)
{
	for (unsigned i = 0; i < t.vcpus; i++)
		t.edited[i][frame / 64] |= 1ull << (frame % 64);
}

static void access_compare(unsigned id, uint64_t gva, enum ref_access access, uint64_t value)
{
	struct scpu *cpu = &t.cpu[id];
	unsigned bytes = t.mode == M_32 ? 4 : 8;
	uint64_t error = 0, got = value, wanted = 0;
	struct ref_result want = ref_translate(t.want, t.bytes, &cpu->regs, gva, access);
	enum scpu_outcome outcome = scpu_access(cpu, gva, access, bytes, &got, &error);

	t.accesses++;
	for (unsigned i = 0; i < want.marked_count; i++)
		written_mark(want.marked_frame[i]);
	if (outcome == SCPU_STUCK)
		fail("vCPU %u is stuck at %#" PRIx64, id, gva);
	if (want.fault) {
		t.faults++;
		if (outcome != SCPU_FAULT || error != want.error)
			fail("vCPU %u, gva %#" PRIx64 ", access %d: outcome %d, error %#" PRIx64
			     ", should be a fault, %#x", id, gva, access, outcome, error, want.error);
		return;
	}
	if (want.gpa >= t.bytes) {
		if (outcome != SCPU_MMIO || error != want.gpa)
			fail("vCPU %u, gva %#" PRIx64 ", access %d: outcome %d, %#" PRIx64
			     ", should be a device at %#" PRIx64, id, gva, access, outcome, error, want.gpa);
		return;
	}
	if (outcome != SCPU_DONE)
		fail("vCPU %u, gva %#" PRIx64 ", access %d: outcome %d, error %#" PRIx64 ", should reach %#" PRIx64, id,
		     gva, access, outcome, error, want.gpa);
	if (access == REF_WRITE) {
		memcpy(t.want + want.gpa, &value, bytes);
		written_mark(want.gpa >> 12);
		edited_mark(want.gpa >> 12);
		return;
	}
	memcpy(&wanted, t.want + want.gpa, bytes);
	if (got != wanted)
		fail("vCPU %u, gva %#" PRIx64 ": read %#" PRIx64 ", should be %#" PRIx64 " of %#" PRIx64, id, gva, got,
		     wanted, want.gpa);
}

/* --- operations --- */

static void op_access(unsigned id)
{
	enum ref_access access = (enum ref_access)pick(3);
	uint64_t value = value_pick(), gva = gva_pick();

	flush_if_needed(id, gva);
	t.cpu[id].regs.user = chance(50);
	t.cpu[id].regs.ac = chance(50);
	access_compare(id, gva, access, value);
}

/* Several accesses to one page in a row, with and without the right to them: TLB hits, and upgrades of an entry. */
static void op_again(unsigned id)
{
	uint64_t gva = gva_pick();

	for (int i = 0; i < 4; i++) {
		flush_if_needed(id, gva);
		t.cpu[id].regs.user = chance(50);
		t.cpu[id].regs.ac = true;
		access_compare(id, gva, i == 3 ? REF_READ : (enum ref_access)pick(2), value_pick());
	}
}

/* The hypervisor stores into a frame for tables, which may or may not be in use. */
static void op_host_write(unsigned id)
{
	uint64_t frame = POOL_FIRST + pick(POOL_FRAMES), size = wide() ? 8 : 4,
	         at = frame * 4096 + index_pick(1) * size, value = value_pick();

	if (vmmu_guest_write(t.cpu[id].vcpu, (struct vmmu_gpa){ at }, &value, size) != VMMU_OK)
		fail("the hypervisor's write was refused");
	memcpy(t.want + at, &value, size);
	written_mark(frame);
	edited_mark(frame);
}

static void op_invalidate(void)
{
	uint64_t frame = pick(RAM_FRAMES), frames = 1 + pick(4);
	struct vmmu_hva start = { (uintptr_t)t.ram + frame * 4096 }, end;

	if (frame + frames > RAM_FRAMES)
		frames = RAM_FRAMES - frame;
	end.v = start.v + frames * 4096;
	vmmu_invalidate_begin(t.vm, start, end);
	/* The host page changes: a vCPU that kept the old translation would read old memory. */
	if (mmap((void *)(uintptr_t)start.v, end.v - start.v, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		abort();
	memcpy((void *)(uintptr_t)start.v, t.want + frame * 4096, frames * 4096);
	vmmu_invalidate_end(t.vm, start, end);
}

static void slot_set(uint64_t bytes, uint32_t flags)
{
	struct vmmu_region region = { .slot = 1, .bytes = bytes, .flags = flags, .hva = { (uintptr_t)t.ram } };

	if (vmmu_region_set(t.vm, &region) != VMMU_OK)
		fail("a slot change was refused");
	t.bytes = bytes;
}

/* Accesses while there is no memory, and no tables. Roots loaded now must find their tables when it is back (F32). */
static void gap(void)
{
	for (unsigned i = pick(2 * t.vcpus); i; i--)
		access_compare(pick(t.vcpus), gva_pick(), (enum ref_access)pick(3), value_pick());
}

static void op_slot(void)
{
	if (chance(30)) {
		slot_set(0, 0);
		gap();
		t.logging = false;
		memset(t.written, 0, sizeof(t.written));
	} else {
		t.logging = !t.logging;
		memset(t.written, 0, sizeof(t.written));
	}
	slot_set(RAM_BYTES, t.logging ? VMMU_SLOT_LOG_DIRTY : 0);
}

static void op_log(void)
{
	uint64_t bitmap[RAM_FRAMES / 64];

	if (!t.logging)
		return;
	if (vmmu_dirty_get(t.vm, 0, 1, bitmap, RAM_FRAMES / 64) != VMMU_OK)
		fail("the dirty log was refused");
	for (unsigned frame = 0; frame < RAM_FRAMES; frame++)
		if ((t.written[frame / 64] & ~bitmap[frame / 64]) >> (frame % 64) & 1)
			fail("frame %#x was written and is not in the log", frame);
	memset(t.written, 0, sizeof(t.written));
}

static void op_age(void)
{
	struct vmmu_hva start = { (uintptr_t)t.ram + pick(RAM_FRAMES) * 4096ull };

	vmmu_age(t.vm, start, (struct vmmu_hva){ start.v + 4096 }, true);
}

static void op_limit(void)
{
	if (vmmu_shadow_limit_set(t.vm, chance(50) ? 0 : 12 + pick(40)) != VMMU_OK)
		abort();
}

static void op(void)
{
	unsigned id = pick(t.vcpus), what = pick(1000);

	if (what < 800)
		op_access(id);
	else if (what < 900)
		op_again(id);
	else if (what < 930)
		cr3_load(id);
	else if (what < 940)
		op_host_write(id);
	else if (what < 955)
		controls_random(id);
	else if (what < 970)
		op_invalidate();
	else if (what < 980)
		op_age();
	else if (what < 990)
		op_log();
	else if (what < 995)
		op_limit();
	else
		op_slot();
}

static void epoch(uint64_t seed, unsigned ops)
{
	struct vmmu_config config = { .size = sizeof(config), .host = &vmmu_host_posix, .mmu = VMMU_MMU_SHADOW };
	struct vmmu_stats stats;

	t.seed = seed;
	rng_seed(&t.rng, seed);
	t.mode = (enum mode)pick(MODES);
	t.logging = false;
	t.vcpus = 1u << pick(3);
	for (unsigned i = 0; i < HOT; i++)
		t.hot[i] = gva_any();
	ram_random();
	if (vmmu_vm_create(&config, &t.vm) != VMMU_OK)
		fail("no VM");
	slot_set(RAM_BYTES, 0);
	for (unsigned id = 0; id < t.vcpus; id++) {
		memset(&t.cpu[id], 0, sizeof(t.cpu[id]));
		if (vmmu_vcpu_create(t.vm, id, NULL, &t.cpu[id].vcpu) != VMMU_OK)
			fail("no vCPU");
		controls_random(id);
	}
	for (unsigned i = 0; i < ops; i++) {
		op();
		if (i % 256 == 0 || getenv("ALL")) {
			ram_compare();
			if (!quiet_audit(t.vm, NULL))
				fail("the audit");
		}
		if (vmmu_vm_is_dead(t.vm))
			fail("the VM is dead");
	}
	ram_compare();
	vmmu_stats_get(t.vm, &stats, sizeof(stats));
	for (unsigned id = 0; id < t.vcpus; id++)
		vmmu_vcpu_destroy(t.cpu[id].vcpu);
	slot_set(0, 0);
	vmmu_stats_get(t.vm, &stats, sizeof(stats));
	if (stats.pages_4k || stats.pages_2m || stats.pages_1g)
		fail("%" PRIu64 " leaves are left of a slot that is gone", stats.pages_4k);
	vmmu_vm_destroy(t.vm);
}

static unsigned epochs, processes;
static uint64_t seed;

static int process_run(unsigned index)
{
	unsigned done = 0;

	t.ram = mmap(NULL, RAM_BYTES + (2u << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t.want = malloc(RAM_BYTES);
	/* Aligned to 2 MiB as gpa 0 is, so that huge leaves are possible. */
	t.ram = (uint8_t *)(((uintptr_t)t.ram + (2u << 20) - 1) & ~(uintptr_t)((2u << 20) - 1));
	for (unsigned i = index; i < epochs; i += processes, done++)
		epoch(seed + i, 4000);
	printf("%u epochs from seed %" PRIu64 ": %" PRIu64 " accesses, %" PRIu64 " of them guest faults, %" PRIu64
	       " loads of CR3, %" PRIu64 " INVLPGs: shadow and reference agree\n",
	       done, seed + index, t.accesses, t.faults, t.flushes, t.invlpgs);
	return 0;
}

int main(int argc, char **argv)
{
	epochs = argc > 1 ? atoi(argv[1]) : 60;
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL) * 1000;
	processes = epochs < PROCESSES ? epochs : PROCESSES;
	return !side_by_side(processes, process_run);
}
