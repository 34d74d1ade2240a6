/* SPDX-License-Identifier: MIT */
/* Gathers and scatters: faults at each element, what they leave, and how the instruction goes on. */
#include "guest_wide.h"

#define OLD 0xeeeeeeeeu

/* Element i is 12 bytes after element i - 1, from GUEST_DATA on; but `bad` is behind VECTOR_END. */
static uint64_t address_of(unsigned i, int bad)
{
	return (int)i == bad ? VECTOR_END + 4 * i : GUEST_DATA + 12 * i;
}

static void set_indexes(struct guest *g, unsigned count, unsigned size, int bad)
{
	struct cpu_state *s = cpu_state(g->cpu);

	/* The base is behind the data, so that indexes are negative. */
	s->gpr[CPU_RAX] = VECTOR_END + 0x1000;
	memset(s->vectors.v[2], 0xee, 64);
	memset(s->vectors.v[3], 0xee, 64);
	for (unsigned i = 0; i < count; i++)
		vector_set(g, 2, i, size, (address_of(i, bad) - s->gpr[CPU_RAX]) / 4 | (uint64_t)3 << 62);
}

static uint64_t memory_at(struct guest *g, unsigned i, unsigned size)
{
	return guest_read(g, GUEST_DATA + 12 * i, size);
}

GUEST_ASM(gather_avx2, "vpgatherdd %ymm1, (%rax,%ymm2,4), %ymm3 \n hlt")

static void test_gather_of_avx2_leaves_what_is_done(void **state)
{
	struct guest *g = *state;

	for (int bad = 0; bad < 8; bad++) {
		vector_end_is(g, END_ABSENT);
		set_indexes(g, 8, 4, bad);
		memset(cpu_state(g->cpu)->vectors.v[1], 0x77, 64);
		for (unsigned i = 0; i < 8; i++)
			vector_set(g, 1, i, 4, i == 2 ? 0x7fffffff : 0x80000001);
		assert_int_equal(VECTOR_RUN(g, gather_avx2), bad == 2 ? -1 : 14);
		if (bad == 2)
			continue; /* not accessed */
		assert_int_equal(cpu_state(g->cpu)->cr2, VECTOR_END + 4 * (unsigned)bad);
		for (unsigned i = 0; i < 8; i++) {
			bool done = (int)i < bad && i != 2;

			assert_int_equal(vector_get(g, 3, i, 4), done ? memory_at(g, i, 4) : OLD);
			/* As AMD's processors have it, masks before the fault are 0, and others as they were. */
			assert_int_equal(vector_get(g, 1, i, 4), (int)i < bad ? 0 : i == 2 ? 0x7fffffff : 0x80000001);
		}
		assert_int_equal(vector_get(g, 3, 4, 8), 0xeeeeeeeeeeeeeeee);
		assert_int_equal(vector_get(g, 1, 4, 8), 0x7777777777777777);
		/* With the page there, the rest is done. */
		vector_end_is(g, END_MEMORY);
		assert_int_equal(vector_run(g), -1);
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(vector_get(g, 3, i, 4), i == 2 ? OLD : guest_read(g, address_of(i, bad), 4));
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(vector_get(g, 1, i, 8), 0);
		assert_int_equal(vector_get(g, 3, 4, 8), 0);
	}
}

GUEST_ASM(gather_avx512, "vpgatherdd (%rax,%zmm2,4), %zmm3{%k1} \n hlt")

static void test_gather_of_avx512_leaves_what_is_done(void **state)
{
	struct guest *g = *state;
	uint64_t *k1 = &cpu_state(g->cpu)->vectors.k[1];

	for (int bad = 0; bad < 16; bad++) {
		vector_end_is(g, END_ABSENT);
		set_indexes(g, 16, 4, bad);
		*k1 = 0xabcdfffb;
		assert_int_equal(VECTOR_RUN(g, gather_avx512), bad == 2 ? -1 : 14);
		if (bad == 2)
			continue;
		assert_int_equal(cpu_state(g->cpu)->cr2, VECTOR_END + 4 * (unsigned)bad);
		assert_int_equal(*k1, 0xabcdfffb >> bad << bad);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(vector_get(g, 3, i, 4), (int)i < bad && i != 2 ? memory_at(g, i, 4) : OLD);
		vector_end_is(g, END_MEMORY);
		assert_int_equal(vector_run(g), -1);
		assert_int_equal(*k1, 0);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(vector_get(g, 3, i, 4), i == 2 ? OLD : guest_read(g, address_of(i, bad), 4));
	}
}

GUEST_ASM(gather_forms,
	"kxnorq %k1, %k1, %k1 \n vpgatherqd (%rax,%ymm2,4), %xmm16{%k1} \n"
	"kxnorq %k1, %k1, %k1 \n vgatherqpd (%rax,%zmm2,4), %zmm17{%k1} \n"
	"kxnorq %k1, %k1, %k1 \n vgatherqps (%rax,%xmm2,4), %xmm18{%k1} \n"
	"vpcmpeqd %ymm1, %ymm1, %ymm1 \n vpgatherqd %xmm1, (%rax,%ymm2,4), %xmm4 \n"
	"vpcmpeqd %ymm1, %ymm1, %ymm1 \n vpgatherqq %ymm1, -4(%rax,%ymm2,4), %ymm5 \n"
	"vpmovqd %zmm2, %ymm30 \n kxnorq %k1, %k1, %k1 \n vgatherdpd 8(%rax,%ymm30,4), %zmm19{%k1} \n"
	"vpmovqd %zmm2, %ymm2 \n"
	"vpcmpeqd %ymm1, %ymm1, %ymm1 \n vgatherdpd %ymm1, 400(%rax,%xmm2,4), %ymm6 \n"
	"hlt")

static void test_gather_forms_take_their_elements(void **state)
{
	static const struct {
		uint8_t reg, count, size;
		int16_t displacement;
	} want[] = { { 16, 4, 4, 0 }, { 17, 8, 8, 0 }, { 18, 2, 4, 0 }, { 4, 4, 4, 0 }, { 5, 4, 8, -4 },
		     { 19, 8, 8, 8 }, { 6, 4, 8, 400 } };
	struct guest *g = *state;

	set_indexes(g, 8, 8, -1);
	for (unsigned i = 0; i < 32; i++)
		if (i != 2)
			memset(cpu_state(g->cpu)->vectors.v[i], 0xee, 64);
	assert_int_equal(VECTOR_RUN(g, gather_forms), -1);
	for (unsigned w = 0; w < sizeof(want) / sizeof(want[0]); w++) {
		for (unsigned i = 0; i < want[w].count; i++)
			assert_int_equal(
				vector_get(g, want[w].reg, i, want[w].size),
				guest_read(g, GUEST_DATA + 12 * i + (uint64_t)want[w].displacement, want[w].size));
		for (unsigned i = want[w].count * want[w].size; i < 64; i++)
			assert_int_equal(vector_get(g, want[w].reg, i, 1), 0);
	}
}

GUEST_ASM(gather_narrow, "vpcmpeqd %xmm1, %xmm1, %xmm1 \n vpgatherdd %xmm1, 16(%eax,%xmm2,4), %xmm3 \n hlt")

/* An address size of 32 bits: the sum wraps there. */
static void test_gather_with_narrow_addresses_wraps(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->gpr[CPU_RAX] = 0xffff00000000f000; /* the upper half does not count */
	for (unsigned i = 0; i < 4; i++)
		vector_set(g, 2, i, 4, (GUEST_DATA + 12 * i - 0xf010) / 4);
	vector_set(g, 2, 3, 4, 0x40000000 + (GUEST_DATA + 36 - 0xf010) / 4);
	assert_int_equal(VECTOR_RUN(g, gather_narrow), -1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(vector_get(g, 3, i, 4), memory_at(g, i, 4));
}

GUEST_ASM(scatter, "vpscatterdd %zmm3, (%rax,%zmm2,4){%k1} \n hlt")

static void test_scatter_leaves_what_is_done(void **state)
{
	struct guest *g = *state;
	uint64_t *k1 = &cpu_state(g->cpu)->vectors.k[1];

	for (int bad = 0; bad < 16; bad++) {
		vector_fill_memory(g);
		vector_end_is(g, bad & 1 ? END_ABSENT : END_READ_ONLY);
		set_indexes(g, 16, 4, bad);
		for (unsigned i = 0; i < 16; i++)
			vector_set(g, 3, i, 4, 0x55550000 + i);
		*k1 = 0xabcdfffb;
		assert_int_equal(VECTOR_RUN(g, scatter), bad == 2 ? -1 : 14);
		if (bad == 2)
			continue;
		assert_int_equal(cpu_state(g->cpu)->cr2, VECTOR_END + 4 * (unsigned)bad);
		assert_int_equal(*k1, 0xabcdfffb >> bad << bad);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(memory_at(g, i, 4) == 0x55550000 + i, (int)i < bad && i != 2);
		vector_end_is(g, END_MEMORY);
		assert_int_equal(vector_run(g), -1);
		assert_int_equal(*k1, 0);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(guest_read(g, address_of(i, bad), 4) == 0x55550000 + i, i != 2);
	}
}

GUEST_ASM(scatter_one_place, "kxnorq %k1, %k1, %k1 \n vpscatterqq %zmm3, (%rax,%zmm2,8){%k1} \n hlt")

static void test_scatter_to_one_place_keeps_the_last(void **state)
{
	struct guest *g = *state;

	cpu_state(g->cpu)->gpr[CPU_RAX] = GUEST_DATA;
	memset(cpu_state(g->cpu)->vectors.v[2], 0, 64);
	for (unsigned i = 0; i < 8; i++)
		vector_set(g, 3, i, 8, 0x5555000000000000 + i);
	assert_int_equal(VECTOR_RUN(g, scatter_one_place), -1);
	assert_int_equal(guest_read(g, GUEST_DATA, 8), 0x5555000000000007);
}

/* The next exit, which is an access of the device. */
static struct cpu_exit_info *expect_device(struct guest *g, bool write, uint64_t offset, unsigned len)
{
	struct cpu_exit_info *info = cpu_exit_info(g->cpu);

	assert_int_equal(cpu_run(g->cpu), CPU_EXIT_MMIO);
	assert_int_equal(info->mmio.write, write);
	assert_int_equal(info->mmio.gpa, GUEST_MMIO + offset);
	assert_int_equal(info->mmio.len, len);
	return info;
}

/* Each element asks the device once, though all have one address. Some are in memory. */
static void test_gather_from_a_device_reads_each_element_once(void **state)
{
	struct guest *g = *state;
	uint32_t value;

	vector_end_is(g, END_DEVICE);
	set_indexes(g, 16, 4, -1);
	for (unsigned i = 0; i < 16; i += 2)
		vector_set(g, 2, i, 4, (VECTOR_END + 8 - cpu_state(g->cpu)->gpr[CPU_RAX]) / 4 | UINT64_C(3) << 62);
	cpu_state(g->cpu)->vectors.k[1] = 0xffff;
	GUEST_LOAD(g, GUEST_CODE, gather_avx512);
	for (unsigned i = 0; i < 16; i += 2) {
		value = 0x12340000 + i;
		memcpy(expect_device(g, false, 8, 4)->mmio.data, &value, 4);
	}
	assert_int_equal(guest_run_to_hlt(g), -1);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(vector_get(g, 3, i, 4), i & 1 ? memory_at(g, i, 4) : 0x12340000 + i);
}

/* The writes are made in order, those before a fault too; none is made twice. */
static void test_scatter_to_a_device_writes_each_element_once(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);
	uint32_t value;

	vector_end_is(g, END_DEVICE);
	*guest_pte(g, VECTOR_END + 0x1000) = 0;
	set_indexes(g, 16, 4, -1);
	for (unsigned i = 0; i < 16; i++) {
		vector_set(g, 3, i, 4, 0x43210000 + i);
		if (i % 3 == 0)
			vector_set(g, 2, i, 4, (VECTOR_END + 4 * i - s->gpr[CPU_RAX]) / 4 | UINT64_C(3) << 62);
	}
	vector_set(g, 2, 10, 4, 0); /* VECTOR_END + 0x1000 */
	s->vectors.k[1] = 0xffff;
	GUEST_LOAD(g, GUEST_CODE, scatter);
	s->rip = GUEST_CODE;
	for (unsigned i = 0; i < 10; i += 3) {
		memcpy(&value, expect_device(g, true, 4 * i, 4)->mmio.data, 4);
		assert_int_equal(value, 0x43210000 + i);
	}
	assert_int_equal(guest_run_to_hlt(g), 14);
	assert_int_equal(s->cr2, VECTOR_END + 0x1000);
	assert_int_equal(s->vectors.k[1], 0xfc00);
	for (unsigned i = 0; i < 10; i++)
		if (i % 3 != 0)
			assert_int_equal(memory_at(g, i, 4), 0x43210000 + i);
	vector_set(g, 2, 10, 4, (GUEST_DATA + 120 - s->gpr[CPU_RAX]) / 4 | UINT64_C(3) << 62);
	s->rip = GUEST_CODE;
	for (unsigned i = 12; i < 16; i += 3) {
		memcpy(&value, expect_device(g, true, 4 * i, 4)->mmio.data, 4);
		assert_int_equal(value, 0x43210000 + i);
	}
	assert_int_equal(guest_run_to_hlt(g), -1);
	assert_int_equal(s->vectors.k[1], 0);
	assert_int_equal(memory_at(g, 14, 4), 0x43210000 + 14);
}

/* A scatter may write the code behind it. */
GUEST_ASM(scatter_code,
	"kxnorq %k1, %k1, %k1 \n vpscatterdd %xmm3, (%rax,%xmm2,1){%k1} \n mov $1, %ecx \n .balign 64, 0x90 \n"
	"mov $2, %edx \n mov $3, %esi \n hlt")

static void test_scatter_to_code_changes_it(void **state)
{
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	s->gpr[CPU_RAX] = GUEST_CODE + 64;
	for (unsigned i = 0; i < 4; i++)
		vector_set(g, 2, i, 4, i & 1 ? 6 : 1);
	for (unsigned i = 0; i < 4; i++)
		vector_set(g, 3, i, 4, 0x100 + i);
	assert_int_equal(VECTOR_RUN(g, scatter_code), -1);
	assert_int_equal(s->gpr[CPU_RDX], 0x102);
	assert_int_equal(s->gpr[CPU_RSI], 0x103);
}

/* What the manuals call #UD: coinciding registers, no mask, and state that is not enabled. */
static void test_gather_invalid_forms_are_undefined(void **state)
{
	static const uint8_t codes[][8] = {
		{ 0xc4, 0xe2, 0x65, 0x90, 0x1c, 0x90, 0xf4 }, /* mask is destination */
		{ 0xc4, 0xe2, 0x75, 0x90, 0x14, 0x90, 0xf4 }, /* index is destination */
		{ 0xc4, 0xe2, 0x6d, 0x90, 0x1c, 0x90, 0xf4 }, /* mask is index */
		{ 0x62, 0xf2, 0x7d, 0x48, 0x90, 0x1c, 0x90, 0xf4 }, /* k0 */
		{ 0x62, 0xf2, 0x7d, 0x49, 0x90, 0x14, 0x90, 0xf4 }, /* index is destination */
		{ 0x62, 0xf2, 0x7d, 0xc9, 0x90, 0x1c, 0x90, 0xf4 }, /* zeroing */
		{ 0x62, 0xf2, 0x7d, 0x48, 0xa0, 0x1c, 0x90, 0xf4 }, /* scatter with k0 */
		{ 0x62, 0xf2, 0x79, 0x49, 0x90, 0x1c, 0x90, 0xf4 }, /* bit 2 of the second byte is 0 */
	};
	struct guest *g = *state;
	struct cpu_state *s = cpu_state(g->cpu);

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		guest_code(g, GUEST_CODE, codes[i], sizeof(codes[i]));
		assert_int_equal(vector_run(g), 6);
	}
	s->xcr0 = 7;
	assert_int_equal(VECTOR_RUN(g, gather_avx512), 6);
	assert_int_equal(VECTOR_RUN(g, scatter), 6);
	set_indexes(g, 8, 4, -1);
	assert_int_equal(VECTOR_RUN(g, gather_avx2), -1);
	s->xcr0 = 3;
	assert_int_equal(VECTOR_RUN(g, gather_avx2), 6);
	s->xcr0 = 0xe7;
	s->cr0 |= 8; /* TS */
	cpu_state_changed(g->cpu, CPU_CHANGED_MODE);
	assert_int_equal(VECTOR_RUN(g, gather_avx2), 7);
	assert_int_equal(VECTOR_RUN(g, gather_avx512), 7);
	assert_int_equal(VECTOR_RUN(g, scatter), 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, vector_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_gather_of_avx2_leaves_what_is_done),
		TEST(test_gather_of_avx512_leaves_what_is_done),
		TEST(test_gather_forms_take_their_elements),
		TEST(test_gather_with_narrow_addresses_wraps),
		TEST(test_scatter_leaves_what_is_done),
		TEST(test_scatter_to_one_place_keeps_the_last),
		TEST(test_gather_from_a_device_reads_each_element_once),
		TEST(test_scatter_to_a_device_writes_each_element_once),
		TEST(test_scatter_to_code_changes_it),
		TEST(test_gather_invalid_forms_are_undefined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
