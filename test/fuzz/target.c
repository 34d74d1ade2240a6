/* SPDX-License-Identifier: MIT */
/*
 * The public API with hostile numbers: the input is a program that calls it. Contracts about threads and pairs are
 * kept (each begin has its end, and a vCPU in the guest is not destroyed). Every number, size, address, flag and
 * order that a caller can get wrong may be wrong. In any case there must be no sanitizer report, no dead VM, no
 * finding of the audit, and no leak.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/audit/audit.h"
#include "core/sync/vm.h"
#include "test/common/mcpu.h"
#include "test/common/thost.h"

/* A call whose answer may be anything. */
#define ANY(call) ((void)!(call))

#define CPUS   3
#define RANGES 3
#define PAGES  2048u
#define RING   128u
#define BUFFER (600u << 10) /* more pages than a ring has entries */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	const uint8_t *data, *end;
	struct thost host;
	struct vmmu_vm *vm;
	bool ring, shadow;
	struct mcpu *cpu[CPUS];
	struct vmmu_dirty_gfn *rings[CPUS];
	struct {
		struct vmmu_hva start, end;
		bool active;
	} range[RANGES];
	unsigned outstanding;
};

/*
 * The guest's memory, of PAGES pages, lies alone in an empty part of the address space. So a slot may have any size
 * and begin anywhere there, and does not reach this program's own memory.
 */
#define WINDOW UINT64_C(0x200000000000)
static char *memory;
static char buffer[BUFFER];
static uint64_t bitmap[1 << 12];

static uint8_t byte(struct fuzz *f)
{
	return f->data < f->end ? *f->data++ : 0;
}

static uint64_t raw(struct fuzz *f, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | byte(f);
	return value;
}

/* A number: a small one, one close to a power of two, a multiple of the page size, or any. */
static uint64_t number(struct fuzz *f)
{
	uint8_t kind = byte(f);

	switch (kind & 7) {
	case 0:
		return kind >> 3;
	case 1:
		return (UINT64_C(1) << (byte(f) & 63)) + (kind >> 3) - 16;
	case 2:
	case 3:
		return raw(f, 2) << 12;
	case 4:
		return (uint64_t)byte(f) << 21;
	case 5:
		return raw(f, 8);
	case 6:
		return (raw(f, 5) << 12) & ((UINT64_C(1) << 48) - 1);
	default:
		return UINT64_MAX - raw(f, 2);
	}
}

/* An address: mostly where the VM has, or may have, memory. */
static uint64_t address(struct fuzz *f)
{
	uint8_t kind = byte(f);

	return kind < 200 ? ((uint64_t)(kind & 3) << 21) + (raw(f, 2) % PAGES << 12) + (kind & 8) : number(f);
}

static uint64_t host_address(struct fuzz *f)
{
	uint64_t any;

	if (byte(f) < 220)
		return (uintptr_t)memory + (raw(f, 2) % PAGES << 12);
	any = number(f);
	return any >> 47 ? any : WINDOW + (any & ((UINT64_C(1) << 42) - 1));
}

/* --- operations --- */

static void kicked(void *cookie)
{
	mcpu_leave(cookie);
}

static bool vm_make(struct fuzz *f)
{
	uint8_t kind = byte(f);
	enum vmmu_mmu mmu = kind < 130 ? VMMU_MMU_TDP : kind < 250 ? VMMU_MMU_SHADOW : byte(f);
	struct vmmu_config config = {
		.size = sizeof(config),
		.host = &thost_ops,
		.host_state = &f->host,
		.mmu = mmu,
		.format = mmu == VMMU_MMU_TDP ? byte(f) % 6 : byte(f) < 250 ? VMMU_FORMAT_NPT4 : byte(f),
		.address_spaces = byte(f) < 250 ? byte(f) % 3 : byte(f),
		.guest_phys_bits = byte(f) < 200 ? 0 : byte(f),
		.max_vcpus = byte(f) < 200 ? 8 : raw(f, 2),
		.slot_delete_zaps_slot = byte(f) & 1,
	};

	f->host.kick = kicked;
	f->host.alloc_max = 1 << 20;
	if (vmmu_vm_create(&config, &f->vm) != VMMU_OK)
		return false;
	f->shadow = config.mmu == VMMU_MMU_SHADOW;
	if (byte(f) & 1)
		f->ring = vmmu_dirty_ring_enable(f->vm, byte(f) < 200 ? RING : number(f)) == VMMU_OK;
	return true;
}

static void op_region(struct fuzz *f)
{
	struct vmmu_region region = {
		.slot = byte(f) < 230 ? byte(f) % 6 : (uint32_t)number(f),
		.address_space = byte(f) < 230 ? byte(f) & 1 : (uint32_t)number(f),
		.flags = byte(f) < 230 ? byte(f) & 3 : (uint32_t)number(f),
		.gpa = { byte(f) < 200 ? (uint64_t)(byte(f) % 4) << 21 : number(f) },
		.bytes = byte(f) < 200 ? raw(f, 2) % (PAGES + 1) << 12 : number(f),
		.hva = { byte(f) < 200 ? (uintptr_t)memory : host_address(f) },
	};

	if (!f->outstanding)
		ANY(vmmu_region_set(f->vm, &region));
	ANY(vmmu_region_get(f->vm, region.address_space, region.slot, &region));
}

static struct mcpu *pick_cpu(struct fuzz *f)
{
	return f->cpu[byte(f) % CPUS];
}

static void op_vcpu(struct fuzz *f)
{
	unsigned n = byte(f) % CPUS, id = byte(f) < 230 ? n : (unsigned)number(f);
	struct vmmu_vcpu *vcpu;

	if (f->cpu[n]) {
		mcpu_leave(f->cpu[n]);
		vmmu_vcpu_destroy(f->cpu[n]->vcpu);
		free(f->cpu[n]);
		free(f->rings[n]);
		f->cpu[n] = NULL;
		f->rings[n] = NULL;
		return;
	}
	f->cpu[n] = malloc(sizeof(*f->cpu[n]));
	if (vmmu_vcpu_create(f->vm, id, f->cpu[n], &vcpu) != VMMU_OK) {
		free(f->cpu[n]);
		f->cpu[n] = NULL;
		return;
	}
	mcpu_init(f->cpu[n], vcpu);
	f->cpu[n]->max_retries = 2;
	/* With the largest number of entries: the size with which rings were enabled is not kept here. */
	if (f->ring && byte(f) < 240) {
		f->rings[n] = calloc(VMMU_DIRTY_RING_MAX, sizeof(*f->rings[n]));
		vmmu_vcpu_dirty_ring_set(vcpu, f->rings[n]);
	}
}

static void op_access(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	uint64_t gpa = address(f) & ~UINT64_C(7), value = 1;

	if (!cpu)
		return;
	if (gpa >> 48) /* a CPU's address has no more bits: a walk of 4 levels would wrap round */
		gpa &= (UINT64_C(1) << 48) - 1;
	if (f->shadow && !(cpu->regs.efer & 1 << 10))
		gpa &= 0xffffffff; /* outside long mode it has 32 bits */
	if ((byte(f) & 1 ? mcpu_write(cpu, gpa, value) : mcpu_read(cpu, gpa, &value)) >= MCPU_STUCK)
		abort();
}

static void op_fault(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	struct vmmu_gpa gpa = { address(f) };
	uint64_t error = byte(f) < 128 ? byte(f) & 31 : number(f);

	if (!cpu)
		return;
	mcpu_leave(cpu);
	ANY(vmmu_fault(cpu->vcpu, gpa, error));
}

/* Set the control registers, to any combination that hardware allows. */
static void op_regs(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	uint8_t kind = byte(f), bits = byte(f);
	bool paging = kind & 7, is_long = paging && kind & 4, pae = is_long || (kind & 2);
	struct vmmu_guest_regs regs = {
		.cr0 = 1 | (paging ? 1u << 31 : 0) | (bits & 1 ? 1u << 16 : 0),
		.cr4 = (pae ? 1u << 5 : 0) | (is_long && kind & 8 ? 1u << 12 : 0) | (bits & 2 ? 1u << 4 : 0) |
		       (uint64_t)(bits >> 2 & 7) << 20,
		.efer = (is_long ? 0x500 : 0) | (bits & 32 ? 1u << 11 : 0),
		.cr3 = address(f), .phys_bits = byte(f) < 200 ? 48 : 32 + byte(f) % 17, .gbpages = bits & 64,
		.amd = bits & 128,
	};

	if (!cpu)
		return;
	if (!is_long)
		regs.cr3 &= 0xffffffe0;
	for (unsigned i = 0; i < 4; i++)
		regs.pdpte[i] = (address(f) & 0xfffffffff000) | (byte(f) & 1);
	mcpu_leave(cpu);
	cpu->regs = regs;
	vmmu_guest_regs_set(cpu->vcpu, &regs, byte(f) & 1);
}

/* Write entries of page tables, most of which make sense. */
static void op_tables(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	uint64_t gpa = address(f) & ~UINT64_C(4095), entry[16];
	unsigned count = 1 + byte(f) % 16;

	for (unsigned i = 0; i < count; i++)
		entry[i] = byte(f) < 220 ? (address(f) & ~UINT64_C(4095)) | byte(f) | (byte(f) < 230 ? 1 : 0)
		                         : number(f);
	if (!cpu)
		return;
	mcpu_leave(cpu);
	ANY(vmmu_guest_write(cpu->vcpu, (struct vmmu_gpa){ gpa + byte(f) % 8 * 8 }, entry, count * 8));
}

static void op_shadow(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	struct vmmu_page_info info;

	if (!cpu)
		return;
	mcpu_leave(cpu);
	switch (byte(f) & 7) {
	case 0:
		vmmu_invlpg(cpu->vcpu, (struct vmmu_gva){ address(f) });
		mcpu_forget(cpu);
		break;
	case 1:
		vmmu_invpcid(cpu->vcpu, byte(f), number(f), (struct vmmu_gva){ address(f) });
		mcpu_forget(cpu);
		break;
	case 2:
		vmmu_unprotect(cpu->vcpu, (struct vmmu_gpa){ address(f) });
		break;
	case 3:
		ANY(vmmu_shadow_limit_set(f->vm, number(f)));
		break;
	default:
		ANY(vmmu_page_fault(cpu->vcpu, (struct vmmu_gva){ address(f) },
		                    byte(f) < 200 ? byte(f) & 31 : number(f), (uint32_t)number(f), &info));
		break;
	}
}

static void op_copy(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	struct vmmu_gpa gpa = { address(f) };
	size_t bytes = byte(f) < 128 ? raw(f, 2) : raw(f, 3) % BUFFER;

	if (!cpu)
		return;
	mcpu_leave(cpu);
	if (byte(f) & 1)
		ANY(vmmu_guest_write(cpu->vcpu, gpa, buffer, bytes));
	else
		ANY(vmmu_guest_read(cpu->vcpu, gpa, buffer, bytes));
}

static void op_prefault(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	struct vmmu_gpa gpa = { address(f) };
	uint64_t bytes = number(f), done;

	if (!cpu)
		return;
	mcpu_leave(cpu);
	ANY(vmmu_prefault(cpu->vcpu, gpa, bytes, &done));
	if (done > bytes)
		abort();
}

static void op_misc(struct fuzz *f)
{
	struct mcpu *cpu = pick_cpu(f);
	struct vmmu_stats stats;

	vmmu_stats_get(f->vm, &stats, sizeof(stats));
	if (!cpu)
		return;
	vmmu_vcpu_kick(cpu->vcpu);
	mcpu_leave(cpu);
	ANY(vmmu_vcpu_address_space_set(cpu->vcpu, byte(f) < 200 ? byte(f) & 1 : (unsigned)number(f)));
}

static void op_invalidate(struct fuzz *f)
{
	unsigned n = byte(f) % RANGES;

	if (f->range[n].active) {
		vmmu_invalidate_end(f->vm, f->range[n].start, f->range[n].end);
		f->range[n].active = false;
		f->outstanding--;
		return;
	}
	f->range[n].start.v = host_address(f);
	f->range[n].end.v = byte(f) < 200 ? f->range[n].start.v + raw(f, 2) * 512 : host_address(f);
	f->range[n].active = true;
	f->outstanding++;
	vmmu_invalidate_begin(f->vm, f->range[n].start, f->range[n].end);
	if (byte(f) & 1)
		madvise(memory + (raw(f, 2) % PAGES << 12), 4096, MADV_DONTNEED);
}

static void op_age(struct fuzz *f)
{
	struct vmmu_hva start = { host_address(f) }, end = { byte(f) < 200 ? start.v + raw(f, 3) : host_address(f) };

	vmmu_age(f->vm, start, end, byte(f) & 1);
}

static void op_dirty(struct fuzz *f)
{
	uint32_t as = byte(f) < 230 ? byte(f) & 1 : (uint32_t)number(f),
	         slot = byte(f) < 230 ? byte(f) % 6 : (uint32_t)number(f);
	const uint64_t room = sizeof(bitmap) * 8;
	uint64_t first = number(f), pages = number(f), taken;

	switch (byte(f) & 3) {
	case 0:
		ANY(vmmu_dirty_get(f->vm, as, slot, bitmap, raw(f, 2) % (sizeof(bitmap) / 8 + 1)));
		break;
	case 1:
		if (pages > room && pages <= VMMU_MAX_SLOT_PAGES)
			pages %= room; /* a caller must have as many bits as it says */
		ANY(vmmu_dirty_clear(f->vm, as, slot, byte(f) < 128 ? first & ~UINT64_C(63) : first,
		                     byte(f) < 128 ? pages & ~UINT64_C(63) : pages, bitmap));
		break;
	case 2:
		ANY(vmmu_dirty_mode_set(f->vm, byte(f) < 200 ? byte(f) & 3 : (unsigned)number(f)));
		break;
	default:
		ANY(vmmu_dirty_ring_reset(f->vm, &taken));
		break;
	}
}

/* The program that shares the rings writes anything into them (zoo 20). */
static void op_scribble(struct fuzz *f)
{
	struct vmmu_dirty_gfn *ring = f->rings[byte(f) % CPUS];
	unsigned count = byte(f), at = raw(f, 2);

	for (unsigned i = 0; ring && i < count; i++) {
		struct vmmu_dirty_gfn *entry = &ring[(at + i) % VMMU_DIRTY_RING_MAX];

		entry->flags = byte(f) < 200 ? VMMU_DIRTY_GFN_RESET : (uint32_t)number(f);
		if (byte(f) < 40) {
			entry->slot = (uint32_t)number(f);
			entry->offset = number(f);
		}
	}
}

static void op_host(struct fuzz *f)
{
	f->host.alloc_fail = byte(f) % 32;
	f->host.page_fail = byte(f) % 32;
	f->host.page_fail_with = byte(f) < 200 ? VMMU_EFAULT + (byte(f) & 1) * 2 : byte(f) % VMMU_EDEAD;
	f->host.max_level = byte(f) % 4;
	f->host.read_only_reads = byte(f) & 1;
}

static void (*const ops[])(struct fuzz *f) = {
	op_region, op_vcpu, op_access, op_access, op_access, op_access, op_fault, op_copy,
	op_prefault, op_misc, op_invalidate, op_age, op_dirty, op_dirty, op_scribble, op_host, op_regs, op_tables,
	op_tables, op_shadow,
};

static void line_out(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "    %s\n", text);
}

static void finish(struct fuzz *f)
{
	/*
	 * Slots share host memory, and allocations fail: checks of the audit that do not allow for that are left out.
	 */
	struct audit_report report = { .out = { line_out, NULL }, .ran_out_of_memory = true, .tables_unwatched = true };

	for (unsigned n = 0; n < RANGES; n++)
		if (f->range[n].active)
			vmmu_invalidate_end(f->vm, f->range[n].start, f->range[n].end);
	for (unsigned n = 0; n < CPUS; n++)
		if (f->cpu[n])
			mcpu_leave(f->cpu[n]);
	/* With rings the log may have been forged, and the audit would complain: only the other checks are made. */
	if (!f->ring && !audit_vm(&f->vm->vm, &report))
		abort();
	for (unsigned n = 0; n < CPUS; n++) {
		if (!f->cpu[n])
			continue;
		vmmu_vcpu_destroy(f->cpu[n]->vcpu);
		free(f->cpu[n]);
		free(f->rings[n]);
	}
	if (vmmu_vm_is_dead(f->vm))
		abort();
	vmmu_vm_destroy(f->vm);
	if (!thost_is_empty(&f->host))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = { .data = data, .end = data + size };

	if (!memory) {
		memory = mmap((void *)WINDOW, PAGES << 12, PROT_READ | PROT_WRITE,
		              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (memory != (char *)WINDOW)
			abort();
		memset(bitmap, 0xa5, sizeof(bitmap));
	}
	if (!vm_make(&f)) {
		if (!thost_is_empty(&f.host))
			abort();
		return 0;
	}
	while (f.data < f.end)
		ops[byte(&f) % (sizeof(ops) / sizeof(ops[0]))](&f);
	finish(&f);
	return 0;
}
