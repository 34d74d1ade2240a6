/* SPDX-License-Identifier: MIT */
/* The machine of guest.h. */
#include "engine.h"
#include "guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <vmmu/format.h>
#include <vmmu/mmu.h>

#define PTE_P  UINT64_C(1)
#define PTE_W  UINT64_C(2)
#define PTE_U  UINT64_C(4)
#define PTE_PS UINT64_C(0x80)

/* ---- the library's part -------------------------------------------------------------------------------- */

static uint64_t *new_table(struct guest *g)
{
	assert_true(g->tables_used < 512);
	memset(g->tables[g->tables_used], 0, 4096);
	return g->tables[g->tables_used++];
}

/* The shadow of the nested table that the vCPU was given. */
static uint64_t *nested_root(struct vmmu_vcpu *vcpu)
{
	struct guest *g = vcpu->guest;
	unsigned i = 0;

	while (g->shadows[i].l1 != 0 && g->shadows[i].l1 != vcpu->nested.root)
		assert_true(++i < 4);
	if (g->shadows[i].l1 == 0) {
		g->shadows[i].l1 = vcpu->nested.root;
		g->shadows[i].root = new_table(g);
	}
	return g->shadows[i].root;
}

enum vmmu_enter vmmu_vcpu_enter(struct vmmu_vcpu *vcpu, struct vmmu_entry *entry)
{
	void (*entering)(struct guest *) = vcpu->guest->entering;

	if (vcpu->ring_full && !vcpu->ring_reserve) {
		vcpu->ring_full = false;
		return VMMU_ENTER_RING_FULL;
	}
	if (entering != NULL) {
		vcpu->guest->entering = NULL;
		entering(vcpu->guest);
	}
	vcpu->poll = VMMU_POLL_RUN;
	*entry = (struct vmmu_entry){
		.root = vcpu->in_nested ? nested_root(vcpu) : vcpu->guest->root,
		.format = VMMU_FORMAT_NPT4, .levels = 4, .flush = vcpu->flush,
		.poll = (const uint32_t *)&vcpu->poll,
	};
	vcpu->flush = false;
	return VMMU_ENTER_RUN;
}

void vmmu_vcpu_leave(struct vmmu_vcpu *vcpu)
{
	vcpu->poll = 0;
}

void vmmu_vcpu_dirty_ring_reserve(struct vmmu_vcpu *vcpu, bool open)
{
	vcpu->ring_reserve = open;
}

void vmmu_vcpu_kick(struct vmmu_vcpu *vcpu)
{
	vcpu->poll = 0;
}

/* release: the other CPU may walk while this one answers a fault. Pairs with vmmu_table_entry_load. */
static void entry_store(uint64_t *entry, const void *to, uint64_t bits)
{
	__atomic_store_n(entry, (uint64_t)(uintptr_t)to | bits, __ATOMIC_RELEASE);
}

/* The leaf slot for gpa in the tables of `root`. Makes missing tables when `make`. */
static uint64_t *slot_under(struct guest *g, uint64_t *root, uint64_t gpa, bool make)
{
	uint64_t *table = root;

	for (unsigned level = 4; level > 1; level--) {
		uint64_t *at = &table[gpa >> (12 + 9 * (level - 1)) & 511];

		if (!(vmmu_table_entry_load(at) & PTE_P)) {
			if (!make)
				return NULL;
			entry_store(at, new_table(g), PTE_P | PTE_W | PTE_U);
		}
		table = (uint64_t *)(uintptr_t)(vmmu_table_entry_load(at) & VMMU_ENTRY_ADDR);
	}
	return &table[gpa >> 12 & 511];
}

static uint64_t *npt_slot(struct guest *g, uint64_t gpa, bool make)
{
	return slot_under(g, g->root, gpa, make);
}

static enum vmmu_fault answer_fault(struct guest *g, struct vmmu_gpa gpa, uint64_t error)
{
	uint64_t page = gpa.v & ~UINT64_C(0xfff);

	g->faults++;
	g->last_error = error;
	g->last_gpa = gpa.v;
	if (page < GUEST_RAM) {
		uint64_t *slot = npt_slot(g, page, true);
		bool mirrored = guest_is_mirrored(g, page);

		if (mirrored && (error & VMMU_PF_WRITE))
			return VMMU_FAULT_EMULATE;
		/* The other CPU may have filled the slot, and even set Dirty. */
		if (!(vmmu_table_entry_load(slot) & (mirrored ? PTE_P : PTE_W)))
			entry_store(slot, g->ram + page, PTE_P | PTE_U | (mirrored ? 0 : PTE_W));
		return VMMU_FAULT_FIXED;
	}
	if (page == GUEST_ROM) {
		entry_store(npt_slot(g, page, true), g->rom, PTE_P | PTE_U);
		return error & VMMU_PF_WRITE ? VMMU_FAULT_MMIO : VMMU_FAULT_FIXED;
	}
	return VMMU_FAULT_MMIO;
}

enum vmmu_fault vmmu_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error)
{
	enum vmmu_fault result;

	pthread_mutex_lock(&vcpu->guest->lock);
	result = answer_fault(vcpu->guest, gpa, error);
	pthread_mutex_unlock(&vcpu->guest->lock);
	return result;
}

/* ---- nested guests ------------------------------------------------------------------------------------- */

enum vmmu_status vmmu_nested_enter(struct vmmu_vcpu *vcpu, const struct vmmu_nested *l1)
{
	assert_int_equal(l1->format, VMMU_NESTED_NPT);
	assert_int_equal(l1->cr4 & 0x20, 0x20); /* this machine's hypervisors are in long mode */
	if (!vcpu->guest->has_nested)
		return VMMU_EINVAL;
	vcpu->nested = *l1;
	vcpu->in_nested = true;
	vcpu->guest->nested_enters++;
	return VMMU_OK;
}

void vmmu_nested_leave(struct vmmu_vcpu *vcpu)
{
	vcpu->in_nested = false;
}

void guest_nested_changed(struct guest *g)
{
	memset(g->shadows, 0, sizeof(g->shadows));
	g->vcpu[0].flush = g->vcpu[1].flush = true;
}

#define PTE_A  UINT64_C(0x20)
#define PTE_D  UINT64_C(0x40)
#define PTE_NX (UINT64_C(1) << 63)
#define RESERVED (UINT64_C(0xf) << 48) /* the machine has 48 address bits */

/* A leaf of the hypervisor's nested table, and the rights on the way to it. */
struct nested_leaf {
	uint64_t l1, rights;
	bool nx;
};

/* Walk it as a processor does. Returns: 0, or the bits of EXITINFO1 that the walk adds, with GUEST_FINAL for none. */
static uint64_t nested_table_walk(struct vmmu_vcpu *vcpu, uint64_t gpa, uint64_t error, struct nested_leaf *leaf)
{
	uint64_t table = vcpu->nested.root, *e;

	*leaf = (struct nested_leaf){ .rights = PTE_W | PTE_U };
	for (unsigned level = 4;; level--) {
		uint64_t inside = (UINT64_C(1) << (12 + 9 * (level - 1))) - 1;

		assert_true(table < GUEST_RAM);
		e = (uint64_t *)(void *)(vcpu->guest->ram + table) + (gpa >> (12 + 9 * (level - 1)) & 511);
		if (!(*e & PTE_P))
			return VMMU_PF_GUEST_FINAL;
		if ((*e & RESERVED) || (level == 4 && (*e & PTE_PS)))
			return VMMU_PF_PRESENT | VMMU_PF_RSVD;
		leaf->rights &= *e;
		leaf->nx |= *e >> 63;
		*e |= PTE_A;
		table = *e & VMMU_ENTRY_ADDR;
		if (level == 1 || (*e & PTE_PS)) {
			leaf->l1 = (table & ~inside) | (gpa & inside);
			break;
		}
	}
	if (!(leaf->rights & PTE_U) || ((error & VMMU_PF_WRITE) && !(leaf->rights & PTE_W)) ||
	    ((error & VMMU_PF_FETCH) && leaf->nx))
		return VMMU_PF_PRESENT;
	*e |= error & VMMU_PF_WRITE ? PTE_D : 0;
	leaf->rights &= *e & PTE_D ? ~UINT64_C(0) : ~PTE_W;
	return 0;
}

enum vmmu_page_fault vmmu_nested_fault(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, uint64_t error,
                                       struct vmmu_page_info *info)
{
	const uint64_t kinds = VMMU_PF_GUEST_FINAL | VMMU_PF_GUEST_PAGE, access = VMMU_PF_WRITE | VMMU_PF_FETCH;
	struct guest *g = vcpu->guest;
	struct nested_leaf leaf;
	uint64_t found = nested_table_walk(vcpu, gpa.v, error, &leaf), page = leaf.l1 & ~UINT64_C(0xfff);
	bool mirrored = guest_is_mirrored(g, page), rom = page == GUEST_ROM;

	assert_true(vcpu->in_nested && (error & VMMU_PF_USER) && (error & kinds) && (error & kinds) != kinds);
	g->nested_faults++;
	if (found != 0) {
		info->error = (error & (kinds | access)) | VMMU_PF_USER | (found & ~kinds);
		return VMMU_PAGE_GUEST;
	}
	info->gpa.v = leaf.l1;
	if (!rom && page >= GUEST_RAM)
		return VMMU_PAGE_MMIO;
	if ((error & VMMU_PF_WRITE) && (rom || mirrored))
		return rom ? VMMU_PAGE_MMIO : VMMU_PAGE_EMULATE;
	entry_store(slot_under(g, nested_root(vcpu), gpa.v & ~UINT64_C(0xfff), true), rom ? g->rom : g->ram + page,
	            PTE_P | PTE_U | (rom || mirrored ? 0 : leaf.rights & PTE_W) | (leaf.nx ? PTE_NX : 0));
	return VMMU_PAGE_FIXED;
}

/* ---- memory as the library sees it ------------------------------------------------------------------------ */

enum vmmu_status vmmu_guest_read(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, void *to, size_t bytes)
{
	if (gpa.v + bytes > GUEST_RAM)
		return VMMU_ENOENT;
	memcpy(to, vcpu->guest->ram + gpa.v, bytes);
	return VMMU_OK;
}

enum vmmu_status vmmu_guest_write(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, const void *from, size_t bytes)
{
	struct guest *g = vcpu->guest;

	if (gpa.v + bytes > GUEST_RAM)
		return VMMU_ENOENT;
	if (g->stores_fail)
		return VMMU_EFAULT;
	if (guest_is_mirrored(g, gpa.v))
		g->mirrored_stores++;
	memcpy(g->ram + gpa.v, from, bytes);
	return VMMU_OK;
}

void vmmu_guest_written(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa, size_t bytes)
{
	assert_true((gpa.v & 0xfff) + bytes <= 4096 && guest_is_mirrored(vcpu->guest, gpa.v));
	vcpu->guest->mirrored_written++;
}

/* Returns: which place in g->mirrored has `value`, which is 0 or a page with bit 0 set; NULL: none. */
static uint64_t *mirror_slot(struct guest *g, uint64_t value)
{
	for (unsigned i = 0; i < sizeof(g->mirrored) / sizeof(g->mirrored[0]); i++) {
		if (g->mirrored[i] == value)
			return &g->mirrored[i];
	}
	return NULL;
}

static uint64_t *mirror_of(struct guest *g, uint64_t gpa)
{
	return mirror_slot(g, (gpa & ~UINT64_C(0xfff)) | 1);
}

bool vmmu_unprotect(struct vmmu_vcpu *vcpu, struct vmmu_gpa gpa)
{
	uint64_t *slot = mirror_of(vcpu->guest, gpa.v);

	if (slot == NULL)
		return false;
	*slot = 0;
	vcpu->guest->unprotected++;
	return true;
}

bool guest_is_mirrored(const struct guest *g, uint64_t gpa)
{
	return mirror_of((struct guest *)(uintptr_t)g, gpa) != NULL;
}

void guest_mirror(struct guest *g, uint64_t gpa)
{
	uint64_t *slot = npt_slot(g, gpa, false), *free_slot = mirror_slot(g, 0);

	assert_non_null(free_slot);
	*free_slot = (gpa & ~UINT64_C(0xfff)) | 1;
	if (slot != NULL)
		*slot &= ~PTE_W;
	memset(g->shadows, 0, sizeof(g->shadows));
	g->vcpu[0].flush = g->vcpu[1].flush = true;
}

/* ---- the machine --------------------------------------------------------------------------------------- */

static void *zeroed(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

struct guest *guest_make(void)
{
	struct guest *g = zeroed(sizeof(*g));

	engine_from_environment();
	g->ram = zeroed(GUEST_RAM);
	g->rom = zeroed(4096);
	g->root = new_table(g);
	pthread_mutex_init(&g->lock, NULL);
	g->vm = cpu_vm_create();
	for (unsigned i = 0; i < 2; i++) {
		g->vcpu[i].guest = g;
		g->vcpu[i].flush = true;
	}
	g->cpu = cpu_create(&g->vcpu[0], &g->ops, g, g->vm);
	return g;
}

void guest_free(struct guest *g)
{
	cpu_destroy(g->cpu);
	cpu_vm_destroy(g->vm);
	munmap(g->ram, GUEST_RAM);
	munmap(g->rom, 4096);
	munmap(g, sizeof(*g));
}

struct cpu *guest_second(struct guest *g)
{
	struct cpu *second = cpu_create(&g->vcpu[1], &g->ops, g, g->vm);

	*cpu_state(second) = *cpu_state(g->cpu);
	cpu_state(second)->gpr[CPU_RSP] = GUEST_STACK - 0x4000;
	cpu_state_changed(second, CPU_CHANGED_ALL);
	return second;
}

void guest_code(struct guest *g, uint64_t at, const void *bytes, unsigned size)
{
	memcpy(g->ram + at, bytes, size);
}

uint64_t guest_read(struct guest *g, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, g->ram + gpa, size);
	return value;
}

void guest_write(struct guest *g, uint64_t gpa, unsigned size, uint64_t value)
{
	memcpy(g->ram + gpa, &value, size);
}

void guest_unmap_all(struct guest *g)
{
	memset(g->tables, 0, sizeof(g->tables));
	g->tables_used = 1;
	memset(g->shadows, 0, sizeof(g->shadows));
	g->vcpu[0].flush = g->vcpu[1].flush = true;
}

uint64_t guest_npte(struct guest *g, uint64_t gpa)
{
	uint64_t *slot = npt_slot(g, gpa, false);

	return slot != NULL ? *slot : 0;
}

/* ---- segments ------------------------------------------------------------------------------------------ */

/* A descriptor. `flags`: G D/B L AVL. */
static uint64_t descriptor(uint64_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (base >> 24 & 0xff) << 56;
}

static void make_gdt(struct guest *g)
{
	const uint64_t gdt[] = {
		[0] = 0,
		[SEL_CODE64 / 8] = descriptor(0, 0xfffff, 0x9a, 0xa),
		[SEL_DATA / 8] = descriptor(0, 0xfffff, 0x92, 0xc),
		[SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0x9a, 0xc),
		[SEL_CODE16 / 8] = descriptor(0, 0xffff, 0x9a, 0x0),
		[SEL_DATA16 / 8] = descriptor(0, 0xffff, 0x92, 0x0),
		[SEL_UCODE32 / 8] = descriptor(0, 0xfffff, 0xfa, 0xc),
		[SEL_UDATA / 8] = descriptor(0, 0xfffff, 0xf2, 0xc),
		[SEL_UCODE64 / 8] = descriptor(0, 0xfffff, 0xfa, 0xa),
		[SEL_TSS / 8] = descriptor(GUEST_TSS, 0x20ff, 0x89, 0x0),
		[SEL_TSS / 8 + 1] = 0,
		[SEL_DOWN / 8] = descriptor(0, 0xfff, 0x96, 0x4),
		[SEL_ABSENT / 8] = descriptor(0, 0xfffff, 0x12, 0xc),
		[SEL_SMALL / 8] = descriptor(GUEST_DATA, 0xff, 0x92, 0x4),
	};

	memcpy(g->ram + GUEST_GDT, gdt, sizeof(gdt));
	cpu_state(g->cpu)->gdt = (struct cpu_table){ GUEST_GDT, sizeof(gdt) - 1 };
}

static struct cpu_segment flat(uint16_t selector, bool code, bool is_64)
{
	return (struct cpu_segment){
		.limit = 0xffffffff, .selector = selector, .type = code ? 11 : 3, .present = 1, .db = !is_64 || !code,
		.s = 1, .l = is_64 && code, .g = 1, .dpl = selector & 3,
	};
}

static void flat_segments(struct guest *g, bool is_64)
{
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		s->seg[i] = flat(SEL_DATA, false, is_64);
	s->seg[CPU_CS] = flat(is_64 ? SEL_CODE64 : SEL_CODE32, true, is_64);
	s->seg[CPU_TR] = (struct cpu_segment){ .base = GUEST_TSS, .limit = 0x20ff, .selector = SEL_TSS, .type = 11,
	                                      .present = 1 };
	s->seg[CPU_LDTR] = (struct cpu_segment){ .unusable = 1 };
}

/* The stub of every vector: out %al, $vector; hlt. */
static void make_idt(struct guest *g, bool is_64)
{
	unsigned size = is_64 ? 16 : 8;

	for (unsigned v = 0; v < 256; v++) {
		uint64_t stub = GUEST_STUBS + 16 * v;
		uint64_t selector = is_64 ? SEL_CODE64 : SEL_CODE32;
		/* INT 0x80 and INT3 may come from level 3. */
		uint64_t dpl = v == 0x80 || v == 3 ? 3 : 0;

		GUEST_CODE_BYTES(g, stub, 0xe6, (uint8_t)v, 0xf4);
		guest_write(g, GUEST_IDT + size * v, 8,
		            (stub & 0xffff) | selector << 16 | (0x8e00 | dpl << 13) << 32 |
		                    (stub >> 16 & 0xffff) << 48);
		if (is_64)
			guest_write(g, GUEST_IDT + size * v + 8, 8, 0);
	}
	cpu_state(g->cpu)->idt = (struct cpu_table){ GUEST_IDT, (uint16_t)(256 * size - 1) };
}

/* ---- modes --------------------------------------------------------------------------------------------- */

static void make_tables(struct guest *g)
{
	uint64_t pdpt = GUEST_PML4 + 0x1000, pd = pdpt + 0x1000, pts = 0x40000;

	guest_write(g, GUEST_PML4, 8, pdpt | 7);
	for (unsigned i = 0; i < 4; i++) {
		guest_write(g, pdpt + 8 * i, 8, (pd + 0x1000 * i) | 7);
		for (uint64_t j = 0; j < 512; j++)
			guest_write(g, pd + 0x1000 * i + 8 * j, 8, (i * 512 + j) << 21 | PTE_PS | PTE_W | PTE_P);
	}
	for (uint64_t j = 0; j < 16; j++) {
		guest_write(g, pd + 8 * j, 8, (pts + 0x1000 * j) | 7);
		for (uint64_t k = 0; k < 512; k++) {
			uint64_t page = (j * 512 + k) << 12;
			bool user = page >= GUEST_USER_CODE && page < GUEST_USER_CODE + 0x200000;

			guest_write(g, pts + 0x1000 * j + 8 * k, 8, page | PTE_P | PTE_W | (user ? PTE_U : 0));
		}
	}
}

uint64_t *guest_pte(struct guest *g, uint64_t linear)
{
	return (uint64_t *)(g->ram + 0x40000 + (linear >> 12) * 8);
}

void guest_long(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);

	make_tables(g);
	make_gdt(g);
	make_idt(g, true);
	flat_segments(g, true);
	guest_write(g, GUEST_TSS + 4, 8, GUEST_RSP0);
	guest_write(g, GUEST_TSS + 36, 8, GUEST_IST1);
	guest_write(g, GUEST_TSS + 102, 2, 104);
	s->cr0 = 0x80010033;
	s->cr3 = GUEST_PML4;
	s->cr4 = 0x620;
	s->efer = 0xd01;
	s->rflags = 2;
	s->rip = GUEST_CODE;
	s->gpr[CPU_RSP] = GUEST_STACK;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

void guest_protected(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);

	make_gdt(g);
	make_idt(g, false);
	flat_segments(g, false);
	guest_write(g, GUEST_TSS + 4, 4, GUEST_RSP0);
	guest_write(g, GUEST_TSS + 8, 2, SEL_DATA);
	s->cr0 = 0x31;
	s->rflags = 2;
	s->rip = GUEST_CODE;
	s->gpr[CPU_RSP] = GUEST_STACK;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

void guest_real(struct guest *g)
{
	struct cpu_state *s = cpu_state(g->cpu);

	/* The interrupt vectors lead to 16-bit stubs. */
	for (unsigned v = 0; v < 256; v++) {
		GUEST_CODE_BYTES(g, GUEST_STUBS + 16 * v, 0xe6, (uint8_t)v, 0xf4);
		guest_write(g, 4 * v, 4, GUEST_STUBS + 16 * v);
	}
	s->idt = (struct cpu_table){ 0, 0x3ff };
	s->seg[CPU_CS].base = GUEST_CODE;
	s->seg[CPU_CS].selector = GUEST_CODE >> 4;
	s->rip = 0;
	s->gpr[CPU_RSP] = 0xf000;
	cpu_state_changed(g->cpu, CPU_CHANGED_ALL);
}

int guest_run_to_hlt(struct guest *g)
{
	int vector = -1;

	for (;;) {
		enum cpu_exit exit = cpu_run(g->cpu);

		if (exit == CPU_EXIT_IO && !cpu_exit_info(g->cpu)->io.in) {
			vector = cpu_exit_info(g->cpu)->io.port;
			continue;
		}
		if (exit != CPU_EXIT_HLT)
			print_error("exit %d at rip %#llx\n", exit, (unsigned long long)cpu_state(g->cpu)->rip);
		assert_int_equal(exit, CPU_EXIT_HLT);
		return vector;
	}
}

int guest_setup(void **state)
{
	*state = guest_make();
	guest_long(*state);
	return 0;
}

int guest_teardown(void **state)
{
	guest_free(*state);
	return 0;
}
