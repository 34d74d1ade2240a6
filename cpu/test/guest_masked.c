/* SPDX-License-Identifier: MIT */
/* Masked loads and stores at the end of memory, in read-only memory, in devices and in code. */
#include "guest_wide.h"

/* ---- at the end of memory --------------------------------------------------------------------------------------- */

GUEST_ASM(load, "vmovdqu32 (%rax), %zmm3{%k1} \n hlt")
GUEST_ASM(load_add, "vpaddd (%rax), %zmm2, %zmm3{%k1} \n hlt")
GUEST_ASM(load_widen, "vpmovzxbd (%rax), %zmm3{%k1} \n hlt")
GUEST_ASM(load_expand, "vpexpandd (%rax), %zmm3{%k1} \n hlt")
GUEST_ASM(load_repeat, "vpaddd (%rax){1to16}, %zmm2, %zmm3{%k1} \n hlt")
GUEST_ASM(load_repeat4, "vbroadcasti32x4 (%rax), %zmm3{%k1} \n hlt")
GUEST_ASM(load_permute, "vpermd (%rax), %zmm2, %zmm3{%k1} \n hlt")
GUEST_ASM(load_scalar, "vmovss (%rax), %xmm3{%k1} \n hlt")
GUEST_ASM(load_compare, "vpcmpeqd (%rax), %zmm2, %k1{%k1} \n hlt")
GUEST_ASM(load_maskmov, "vpmaskmovd (%rax), %ymm1, %ymm3 \n hlt")

#define CODE(name) name, name##_end

/* Byte `first` is the first that an instruction with that mask accesses behind the end; -1: none. */
static const struct load {
	const uint8_t *code, *end;
	uint32_t mask;
	uint16_t before; /* bytes of the operand before the end */
	int8_t first;
} loads[] = {
	{ CODE(load), 0x000f, 16, -1 },
	{ CODE(load), 0x001f, 16, 16 },
	{ CODE(load), 0x8001, 16, 60 },
	{ CODE(load), 0x8000, 0, 60 },
	{ CODE(load), 0x0000, 0, -1 },
	{ CODE(load), 0x0010, 18, 18 }, /* an element across the end */
	{ CODE(load_add), 0x0003, 8, -1 },
	{ CODE(load_add), 0x1003, 8, 48 },
	{ CODE(load_widen), 0x00ff, 8, -1 },
	{ CODE(load_widen), 0x0200, 8, 9 },
	{ CODE(load_expand), 0x8100, 8, -1 }, /* two elements, wherever they go */
	{ CODE(load_expand), 0x8101, 8, 8 },
	{ CODE(load_repeat), 0x0000, 0, -1 },
	{ CODE(load_repeat), 0x8000, 0, 0 },
	{ CODE(load_repeat4), 0x3333, 8, -1 },
	{ CODE(load_repeat4), 0x0080, 8, 12 },
	{ CODE(load_permute), 0x0000, 32, 32 }, /* no suppression */
	{ CODE(load_scalar), 0xfffe, 0, -1 },
	{ CODE(load_scalar), 0x0001, 0, 0 },
	{ CODE(load_compare), 0x0001, 4, -1 },
	{ CODE(load_compare), 0x0002, 4, 4 },
	{ CODE(load_maskmov), 0x000f, 16, -1 },
	{ CODE(load_maskmov), 0x0080, 16, 28 },
};

static void set_mask(struct guest *g, uint32_t mask)
{
	cpu_state(g->cpu)->vectors.k[1] = mask;
	for (unsigned i = 0; i < 16; i++)
		vector_set(g, 1, i, 4, mask >> i & 1 ? 0x80000000 : 0x7fffffff);
}

static void test_masked_load_faults_for_what_it_accesses(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	vector_end_is(g, END_ABSENT);
	for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		const struct load *l = &loads[i];
		uint8_t before[64];

		set_mask(g, l->mask);
		memset(s->vectors.v[3], 0xee, 64);
		memcpy(before, s->vectors.v[3], 64);
		s->gpr[CPU_RAX] = VECTOR_END - l->before;
		guest_code(g, GUEST_CODE, l->code, (unsigned)(l->end - l->code));
		assert_int_equal(vector_run(g), l->first < 0 ? -1 : 14);
		if (l->first < 0)
			continue;
		assert_int_equal(s->cr2, VECTOR_END - l->before + (unsigned)l->first);
		assert_memory_equal(s->vectors.v[3], before, 64);
		assert_int_equal(s->vectors.k[1], l->mask);
	}
}

static void test_masked_load_takes_its_elements(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	vector_end_is(g, END_ABSENT);
	s->gpr[CPU_RAX] = VECTOR_END - 16;
	set_mask(g, 0x0005);
	memset(s->vectors.v[3], 0xee, 64);
	assert_int_equal(VECTOR_RUN(g, load), -1);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(vector_get(g, 3, i, 4), i == 0 || i == 2 ? guest_read(g, VECTOR_END - 16 + 4 * i, 4) :
									    0xeeeeeeee);
	set_mask(g, 0x8110);
	assert_int_equal(VECTOR_RUN(g, load_expand), -1);
	assert_int_equal(vector_get(g, 3, 4, 4), guest_read(g, VECTOR_END - 16, 4));
	assert_int_equal(vector_get(g, 3, 8, 4), guest_read(g, VECTOR_END - 12, 4));
	assert_int_equal(vector_get(g, 3, 15, 4), guest_read(g, VECTOR_END - 8, 4));
	set_mask(g, 0x0009);
	assert_int_equal(VECTOR_RUN(g, load_maskmov), -1);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(vector_get(g, 3, i, 4),
				 i == 0 || i == 3 ? guest_read(g, VECTOR_END - 16 + 4 * i, 4) : 0);
}

/* ---- stores ----------------------------------------------------------------------------------------------------- */

GUEST_ASM(store, "vmovdqu32 %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_bytes, "vmovdqu8 %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_narrow, "vpmovdb %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_compress, "vpcompressd %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_compress_bytes, "vpcompressb %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_extract, "vextracti32x4 $1, %zmm3, (%rax){%k1} \n hlt")
GUEST_ASM(store_maskmov, "vmaskmovps %ymm3, %ymm1, (%rax) \n hlt")
GUEST_ASM(store_half, "vcvtps2ph $0, %zmm3, (%rax){%k1} \n hlt")

/* Register 3 has 4-byte elements 0x3c3c0000 + i. Memory then has byte i of `from`, of those that are set in `bytes`. */
static const struct store {
	const uint8_t *code, *end;
	uint32_t mask;
	uint16_t before;
	int8_t first;
	uint64_t bytes;  /* what it writes */
	uint8_t element; /* bytes in memory */
	int8_t source[8]; /* elements of the register, in the order of memory */
} stores[] = {
	{ CODE(store), 0x000f, 16, -1, 0xffff, 4, { 0, 1, 2, 3 } },
	{ CODE(store), 0x0005, 16, -1, 0x0f0f, 4, { 0, 1, 2, 3 } },
	{ CODE(store), 0x0015, 16, 16, 0, 4, { 0 } },
	{ CODE(store), 0x0000, 0, -1, 0, 4, { 0 } },
	{ CODE(store), 0x0010, 18, 18, 0, 4, { 0 } },
	{ CODE(store_bytes), 0x0102, 9, -1, 0x102, 1, { 0 } },
	{ CODE(store_bytes), 0x0302, 9, 9, 0, 1, { 0 } },
	{ CODE(store_narrow), 0x0003, 2, -1, 3, 1, { 0, 1 } },
	{ CODE(store_narrow), 0x0005, 2, 2, 0, 1, { 0 } },
	{ CODE(store_compress), 0x8100, 8, -1, 0xff, 4, { 8, 15 } },
	{ CODE(store_compress), 0x8101, 8, 8, 0, 4, { 0 } },
	{ CODE(store_compress_bytes), 0xf00, 4, -1, 0xf, 1, { 0 } },
	{ CODE(store_compress_bytes), 0xf01, 4, 4, 0, 1, { 0 } },
	{ CODE(store_extract), 0x0001, 16, -1, 0xf, 4, { 4 } },
	{ CODE(store_extract), 0x0001, 8, 8, 0, 4, { 4 } }, /* no suppression */
	{ CODE(store_maskmov), 0x0009, 16, -1, 0xf00f, 4, { 0, 1, 2, 3 } },
	{ CODE(store_maskmov), 0x0089, 16, 28, 0, 4, { 0 } },
	{ CODE(store_half), 0x0003, 4, -1, 0xf, 2, { 0 } },
	{ CODE(store_half), 0x0006, 4, 4, 0, 2, { 0 } },
};

static uint8_t register_byte(struct guest *g, const struct store *s, unsigned i)
{
	/* Of narrow elements, byte i of the register itself, or what the instruction makes of it. */
	if (s->code == store_bytes)
		return (uint8_t)vector_get(g, 3, i, 1);
	if (s->code == store_compress_bytes)
		return (uint8_t)vector_get(g, 3, 8 + i, 1);
	if (s->code == store_half)
		return i & 1 ? 0x21 : 0xe0; /* 0.0115: 0x21e0 */
	return (uint8_t)(vector_get(g, 3, (unsigned)s->source[i / s->element], 4) >> 8 * (i % s->element));
}

static void try_store(struct guest *g, const struct store *s)
{
	uint64_t at = VECTOR_END - s->before;

	vector_fill_memory(g);
	set_mask(g, s->mask);
	for (unsigned i = 0; i < 16; i++)
		vector_set(g, 3, i, 4, 0x3c3c0000 + i);
	cpu_state(g->cpu)->gpr[CPU_RAX] = at;
	guest_code(g, GUEST_CODE, s->code, (unsigned)(s->end - s->code));
	assert_int_equal(vector_run(g), s->first < 0 ? -1 : 14);
	if (s->first >= 0)
		assert_int_equal(cpu_state(g->cpu)->cr2, at + (unsigned)s->first);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t is = guest_read(g, at + i, 1);

		if (s->first < 0 && s->bytes >> i & 1)
			assert_int_equal(is, register_byte(g, s, i));
		else
			assert_int_equal(is, (at + i - GUEST_DATA - 0xf00) % 251 + 1);
	}
}

static void test_masked_store_writes_its_elements_or_nothing(void **state)
{
	struct guest *g = *state;

	for (unsigned i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
		vector_end_is(g, END_ABSENT);
		try_store(g, &stores[i]);
		vector_end_is(g, END_READ_ONLY);
		try_store(g, &stores[i]);
		if (stores[i].first < 0) { /* the fast way, too */
			vector_end_is(g, END_MEMORY);
			try_store(g, &stores[i]);
			try_store(g, &stores[i]);
		}
	}
}

GUEST_ASM(store_maskmovdqu, "vmaskmovdqu %xmm1, %xmm3 \n hlt")

/* It checks all of its operand, whatever the mask says. */
static void test_maskmovdqu_checks_its_whole_operand(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	vector_end_is(g, END_READ_ONLY);
	memset(s->vectors.v[1], 0x7f, 16);
	s->vectors.v[1][3] = 0x80;
	memset(s->vectors.v[3], 0x55, 16);
	s->gpr[CPU_RDI] = VECTOR_END - 15;
	assert_int_equal(VECTOR_RUN(g, store_maskmovdqu), 14);
	assert_int_equal(s->cr2, VECTOR_END);
	assert_int_equal(guest_read(g, VECTOR_END - 12, 1), 0xf4 % 251 + 1);
	s->gpr[CPU_RDI] = VECTOR_END - 16;
	assert_int_equal(VECTOR_RUN(g, store_maskmovdqu), -1);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(guest_read(g, VECTOR_END - 16 + i, 1), i == 3 ? 0x55 : (0xf0 + i) % 251 + 1);
}

/* ---- alignment -------------------------------------------------------------------------------------------------- */

GUEST_ASM(load_aligned, "vmovdqa32 (%rax), %zmm3{%k1} \n hlt")
GUEST_ASM(store_aligned, "vmovaps %zmm3, (%rax){%k1} \n hlt")

static void test_masked_move_must_be_aligned_if_it_accesses(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->gpr[CPU_RAX] = GUEST_DATA + 32;
	set_mask(g, 2);
	assert_int_equal(VECTOR_RUN(g, load_aligned), 13);
	assert_int_equal(VECTOR_RUN(g, store_aligned), 13);
	set_mask(g, 0);
	assert_int_equal(VECTOR_RUN(g, load_aligned), -1);
	assert_int_equal(VECTOR_RUN(g, store_aligned), -1);
	set_mask(g, 2);
	cpu_state(g->cpu)->gpr[CPU_RAX] = GUEST_DATA + 64;
	assert_int_equal(VECTOR_RUN(g, load_aligned), -1);
	assert_int_equal(vector_get(g, 3, 1, 4), guest_read(g, GUEST_DATA + 68, 4));
	assert_int_equal(VECTOR_RUN(g, store_aligned), -1);
	/* The same when the page is in the TLB. */
	cpu_state(g->cpu)->gpr[CPU_RAX] = GUEST_DATA + 32;
	assert_int_equal(VECTOR_RUN(g, load_aligned), 13);
	assert_int_equal(VECTOR_RUN(g, store_aligned), 13);
	set_mask(g, 0);
	assert_int_equal(VECTOR_RUN(g, load_aligned), -1);
	assert_int_equal(VECTOR_RUN(g, store_aligned), -1);
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static struct cpu_exit_info *expect_device(struct guest *g, bool write, uint64_t offset, unsigned len)
{
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_int_equal(info->mmio.write, write);
	assert_int_equal(info->mmio.gpa, GUEST_MMIO + offset);
	assert_int_equal(info->mmio.len, len);
	return info;
}

static void test_masked_load_asks_a_device_for_its_elements(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	vector_end_is(g, END_DEVICE);
	set_mask(g, 0x8419);
	memset(s->vectors.v[3], 0xee, 64);
	s->gpr[CPU_RAX] = VECTOR_END - 4;
	GUEST_LOAD(g, GUEST_CODE, load);
	memcpy(expect_device(g, false, 8, 8)->mmio.data, "\1\2\3\4\5\6\7\10", 8);
	memcpy(expect_device(g, false, 36, 4)->mmio.data, "\11\12\13\14", 4);
	memcpy(expect_device(g, false, 56, 4)->mmio.data, "\15\16\17\20", 4);
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(vector_get(g, 3, 0, 4), guest_read(g, VECTOR_END - 4, 4));
	assert_int_equal(vector_get(g, 3, 3, 4), 0x04030201);
	assert_int_equal(vector_get(g, 3, 4, 4), 0x08070605);
	assert_int_equal(vector_get(g, 3, 10, 4), 0x0c0b0a09);
	assert_int_equal(vector_get(g, 3, 15, 4), 0x100f0e0d);
	assert_int_equal(vector_get(g, 3, 1, 4), 0xeeeeeeee);
}

/* The most pieces that there are: every other byte. */
static void test_masked_store_to_a_device_writes_every_other_byte(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	vector_end_is(g, END_DEVICE);
	s->vectors.k[1] = 0xaaaaaaaaaaaaaaaa;
	for (unsigned i = 0; i < 64; i++)
		vector_set(g, 3, i, 1, i ^ 0x80);
	s->gpr[CPU_RAX] = VECTOR_END;
	GUEST_LOAD(g, GUEST_CODE, store_bytes);
	for (unsigned i = 1; i < 64; i += 2)
		assert_int_equal(expect_device(g, true, i, 1)->mmio.data[0], i ^ 0x80);
	assert_int_equal(guest_run_to_hlt(g), -1);
}

/* ---- code ------------------------------------------------------------------------------------------------------- */

GUEST_ASM(store_to_code,
	"vmovdqu8 %zmm3, 1f(%rip){%k1} \n .balign 64, 0x90 \n 1: mov $1, %ecx \n mov $2, %edx \n hlt")

static void test_masked_store_to_code_changes_it(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->vectors.k[1] = 1 << 6;
	memset(s->vectors.v[3], 0x77, 64);
	assert_int_equal(VECTOR_RUN(g, store_to_code), -1);
	assert_int_equal(s->gpr[CPU_RCX], 1);
	assert_int_equal(s->gpr[CPU_RDX], 0x77);
}

/* ---- the bits of page-table entries ------------------------------------------------------------------------------ */

#define ACCESSED 0x20u
#define DIRTY    0x40u

static const struct marks {
	const uint8_t *code, *end;
	uint32_t mask;
	uint16_t first, second; /* what becomes set in the entries of the pages before and behind VECTOR_END */
} marks[] = {
	{ CODE(store), 0x000f, ACCESSED | DIRTY, 0 },
	{ CODE(store), 0x8000, 0, ACCESSED | DIRTY },
	{ CODE(store), 0x0018, ACCESSED | DIRTY, ACCESSED | DIRTY },
	{ CODE(store), 0x0000, 0, 0 },
	{ CODE(store_maskmov), 0x000f, ACCESSED | DIRTY, 0 },
	{ CODE(store_compress), 0xf000, ACCESSED | DIRTY, 0 },
	{ CODE(store_compress), 0xf800, ACCESSED | DIRTY, ACCESSED | DIRTY },
	{ CODE(load), 0x000f, ACCESSED, 0 },
	{ CODE(load), 0x0030, 0, ACCESSED },
	{ CODE(load), 0x0000, 0, 0 },
	{ CODE(load_maskmov), 0x0080, 0, ACCESSED },
	{ CODE(load_permute), 0x0000, ACCESSED, ACCESSED }, /* no suppression */
};

/* A page of which nothing is accessed is neither accessed nor dirty. The operand has 16 bytes in the first page. */
static void test_masked_access_marks_the_pages_that_it_touches(void **state)
{
	struct guest *g = *state;
	uint64_t *first = guest_pte(g, VECTOR_END - 1), *second = guest_pte(g, VECTOR_END);

	cpu_state(g->cpu)->gpr[CPU_RAX] = VECTOR_END - 16;
	for (unsigned i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		const struct marks *m = &marks[i];

		*first &= ~(uint64_t)(ACCESSED | DIRTY);
		vector_end_is(g, END_MEMORY);
		*second &= ~(uint64_t)(ACCESSED | DIRTY);
		set_mask(g, m->mask);
		guest_code(g, GUEST_CODE, m->code, (unsigned)(m->end - m->code));
		assert_int_equal(vector_run(g), -1);
		assert_int_equal(*first & (ACCESSED | DIRTY), m->first);
		assert_int_equal(*second & (ACCESSED | DIRTY), m->second);
	}
}

/* ---- mask registers --------------------------------------------------------------------------------------------- */

GUEST_ASM(masks,
	"kmovq (%rax), %k1 \n kmovw %ecx, %k2 \n kandnq %k1, %k2, %k3 \n kmovd %k1, %edx \n kshiftlq $4, %k1, %k4 \n"
	"kunpckwd %k2, %k1, %k5 \n kmovb %k1, 8(%rax) \n kmovw %k1, 16(%rax) \n"
	"kmovq %k1, 24(%rax) \n"
	"kxorq %k6, %k6, %k6 \n kortestq %k6, %k6 \n setz %bl \n setc %bh \n"
	"kxnorb %k6, %k6, %k7 \n kortestb %k7, %k6 \n pushfq \n pop %rsi \n ktestq %k1, %k4 \n pushfq \n"
	"pop %rdi \n hlt")

static void test_mask_instructions(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint64_t k1 = 0x8123456789abcdef;

	s->gpr[CPU_RAX] = GUEST_DATA;
	s->gpr[CPU_RCX] = 0xffff1234;
	s->gpr[CPU_RDX] = ~UINT64_C(0);
	s->rflags |= 0x8d5;
	cpu_state_changed(g->cpu, CPU_CHANGED_RFLAGS);
	vector_fill_memory(g);
	guest_write(g, GUEST_DATA, 8, k1);
	assert_int_equal(VECTOR_RUN(g, masks), -1);
	assert_int_equal(s->vectors.k[1], k1);
	assert_int_equal(s->vectors.k[2], 0x1234);
	assert_int_equal(s->vectors.k[3], k1 & ~UINT64_C(0x1234));
	assert_int_equal(s->gpr[CPU_RDX], 0x89abcdef);
	assert_int_equal(s->vectors.k[4], k1 << 4);
	assert_int_equal(s->vectors.k[5], 0xcdef1234);
	assert_int_equal(s->vectors.k[7], 0xff);
	assert_int_equal(guest_read(g, GUEST_DATA + 8, 2), 0xef | guest_read(g, GUEST_DATA + 9, 1) << 8);
	assert_int_equal(guest_read(g, GUEST_DATA + 16, 4), 0xcdef | guest_read(g, GUEST_DATA + 18, 2) << 16);
	assert_int_equal(guest_read(g, GUEST_DATA + 24, 8), k1);
	assert_int_equal(s->gpr[CPU_RBX] & 0xffff, 1);
	assert_int_equal(s->gpr[CPU_RSI] & 0x8d5, 0x1); /* all bits: CF alone */
	assert_int_equal(s->gpr[CPU_RDI] & 0x8d5, (k1 << 4 & ~k1) == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, vector_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_masked_load_faults_for_what_it_accesses),
		TEST(test_masked_load_takes_its_elements),
		TEST(test_masked_store_writes_its_elements_or_nothing),
		TEST(test_maskmovdqu_checks_its_whole_operand),
		TEST(test_masked_move_must_be_aligned_if_it_accesses),
		TEST(test_masked_load_asks_a_device_for_its_elements),
		TEST(test_masked_store_to_a_device_writes_every_other_byte),
		TEST(test_masked_store_to_code_changes_it),
		TEST(test_masked_access_marks_the_pages_that_it_touches),
		TEST(test_mask_instructions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
