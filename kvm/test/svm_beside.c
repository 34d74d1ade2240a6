/* SPDX-License-Identifier: MIT */
/*
 * What a client does to a VM while two vCPUs run L2, which writes and checks its memory all the time: slots come, move
 * and go; memory is taken and replaced; the dirty log and the rings are used as a live migration uses them.
 *
 *     svm_beside [NAMES]       all tests, or those
 *     svm_beside half          under --host-memory: 77 where the machine does not allow it
 */
#include "svm_guest.h"

#include <sys/syscall.h>

#define OWN_PASSES (OWN_MARK + 8)
#define OWN_SEEN   (OWN_MARK + 16)

/* The pages that L2 sweeps, all but the last, which is replaced, as is one that L1 has mapped by 4 KiB. */
#define SWEEP_PAGES ((SVM_BYTES - SVM_DATA) / 4096 - 1)
static const uint64_t replaced[SVM_VCPUS] = { L2_DATA, SVM_BYTES - 4096 };

static bool half;

/* How often something is done: less where each pass waits for its pages. */
static unsigned times(unsigned count)
{
	return half ? count / 4 : count;
}

static uint64_t *word(unsigned page, unsigned v)
{
	return at64(SVM_DATA + page * PAGE + v * 8);
}

static void sweep_begin(unsigned vcpus)
{
	for (unsigned v = 0; v < vcpus; v++) {
		uint64_t passes = *word(0, v);

		l2_reset(v);
		vmcb(v)->save.rip = svm_routine(svm_sweep);
		*l2_reg(v, RSI) = SVM_DATA;
		*l2_reg(v, RDI) = v * 8;
		*l2_reg(v, RCX) = SWEEP_PAGES;
		*l2_reg(v, R8) = passes;
		*l2_reg(v, R10) = replaced[v];
		*own64(v, OWN_MARK) = 0;
		*own64(v, OWN_PASSES) = passes;
	}
	for (unsigned v = 0; v < vcpus; v++)
		svm_begin(v);
	for (unsigned v = 0; v < vcpus; v++)
		wait_for_mark(v);
}

/* Tell L2 to end after its pass. */
static void sweep_stop(unsigned vcpus)
{
	for (unsigned v = 0; v < vcpus; v++)
		__atomic_store_n((uint8_t *)own64(v, OWN_MARK), 2, __ATOMIC_RELEASE);
}

static void sweep_end(unsigned vcpus)
{
	sweep_stop(vcpus);
	for (unsigned v = 0; v < vcpus; v++) {
		unsigned wrong = 0;

		SAME(svm_end(v), SVM_EXIT_VMMCALL);
		SAME(*l2_reg(v, R9), 0);
		for (unsigned page = 0; page < SWEEP_PAGES; page++)
			wrong += *word(page, v) != *l2_reg(v, R8);
		SAME(wrong, 0);
	}
}

/* Wait until a word of the vCPU's own page is at least, or exactly, `value`. */
static void own_wait(unsigned v, unsigned offset, uint64_t value, bool exactly)
{
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t now = __atomic_load_n(own64(v, offset), __ATOMIC_ACQUIRE);

		if (exactly ? now == value : now >= value)
			return;
		usleep(100);
	}
	SAME(__atomic_load_n(own64(v, offset), __ATOMIC_ACQUIRE), value);
}

static uint64_t passes_of(unsigned v)
{
	return __atomic_load_n(own64(v, OWN_PASSES), __ATOMIC_ACQUIRE);
}

/* Wait until L2 has gone through its pages as a whole since now. */
static void pass_wait(unsigned v)
{
	own_wait(v, OWN_PASSES, passes_of(v) + 2, false);
}

static void passes_wait(void)
{
	for (unsigned v = 0; v < SVM_VCPUS; v++)
		pass_wait(v);
}

/* ---- slots ----------------------------------------------------------------------------------------------- */

static void test_slots(void)
{
	const uint64_t one = UINT64_C(0x50000000), other = UINT64_C(0x60000000);
	uint8_t *memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(memory != MAP_FAILED);
	sweep_begin(SVM_VCPUS);
	for (unsigned i = 0; i < times(40); i++) {
		NEED(machine_slot(s.m.vm, 1, 0, one, 16 * PAGE, memory) == 0);
		NEED(machine_slot(s.m.vm, 1, 0, other, 16 * PAGE, memory) == 0);
		NEED(machine_slot(s.m.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, other, 16 * PAGE, memory) == 0);
		NEED(machine_slot(s.m.vm, 1, 0, other, 16 * PAGE, memory) == 0);
		NEED(machine_slot(s.m.vm, 1, 0, other, 0, memory) == 0);
		if (i % 8 == 0)
			passes_wait();
	}
	sweep_end(SVM_VCPUS);
	munmap(memory, 16 * PAGE);
}

/* ---- memory goes ----------------------------------------------------------------------------------------- */

/* The client puts another page in the place of one that L2 reads and writes. L2 goes on with the new one. */
static void test_replace(void)
{
	sweep_begin(SVM_VCPUS);
	for (unsigned i = 0; i < times(40); i++) {
		unsigned v = i & 1;
		uint64_t *page = at64(replaced[v]), value = 0x1000 + i;

		if (i & 2)
			NEED(madvise(page, PAGE, MADV_DONTNEED) == 0);
		else
			NEED(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			          0) == page);
		own_wait(v, OWN_SEEN, 0, true);
		__atomic_store_n(page, value, __ATOMIC_RELEASE);
		own_wait(v, OWN_SEEN, value, true);
		pass_wait(v);
		SAME(__atomic_load_n(page + 1, __ATOMIC_ACQUIRE) != 0, 1);
	}
	sweep_end(SVM_VCPUS);
}

/* ---- the dirty log: a copy that follows it is the memory in the end --------------------------------------- */

static uint64_t copy[SWEEP_PAGES][SVM_VCPUS];
static uint64_t bitmap[SVM_BYTES / 4096 / 64];
static unsigned copied; /* pages, since the first copy */

static void page_copy(uint64_t gfn)
{
	if (gfn < SVM_DATA / 4096 || gfn >= SVM_DATA / 4096 + SWEEP_PAGES)
		return;
	gfn -= SVM_DATA / 4096;
	for (unsigned v = 0; v < SVM_VCPUS; v++)
		copy[gfn][v] = __atomic_load_n(word((unsigned)gfn, v), __ATOMIC_RELAXED);
	copied++;
}

static void copy_begin(void)
{
	for (unsigned page = 0; page < SWEEP_PAGES; page++)
		page_copy(SVM_DATA / 4096 + page);
	copied = 0;
}

static void copy_check(void)
{
	unsigned wrong = 0;

	for (unsigned page = 0; page < SWEEP_PAGES; page++)
		for (unsigned v = 0; v < SVM_VCPUS; v++)
			wrong += copy[page][v] != *word(page, v);
	SAME(wrong, 0);
}

static void log_take(bool clear)
{
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bitmap };

	NEED(ioctl(s.m.vm, KVM_GET_DIRTY_LOG, &log) == 0);
	/* What is cleared is cleared before it is copied. The last part does not end at 64 pages of the slot's end. */
	for (unsigned first = 0; clear && first < SVM_BYTES / 4096; first += 512) {
		struct kvm_clear_dirty_log part = { .slot = 0, .first_page = first, .num_pages = 512,
		                                    .dirty_bitmap = bitmap + first / 64 };

		NEED(ioctl(s.m.vm, KVM_CLEAR_DIRTY_LOG, &part) == 0);
	}
	for (unsigned page = 0; page < SVM_BYTES / 4096; page++)
		if (bitmap[page / 64] >> (page % 64) & 1)
			page_copy(page);
}

static void log_rounds(bool clear)
{
	for (unsigned round = 0; round < times(4); round++) {
		sweep_begin(SVM_VCPUS);
		NEED(machine_slot(s.m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, s.m.bytes, s.m.memory) == 0);
		copy_begin();
		for (unsigned i = 0; i < times(40); i++)
			log_take(clear);
		passes_wait();
		copied = 0;
		log_take(clear);
		SAME(copied, SWEEP_PAGES); /* L2 has written every page */
		sweep_end(SVM_VCPUS);
		log_take(clear);
		copy_check();
		copied = 0;
		log_take(clear);
		SAME(copied, 0);
		sweep_begin(SVM_VCPUS);
		NEED(machine_slot(s.m.vm, 0, 0, 0, s.m.bytes, s.m.memory) == 0);
		passes_wait();
		sweep_end(SVM_VCPUS);
	}
}

static void test_log(void)
{
	log_rounds(false);
}

static void test_clear(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 1 } };

	NEED(ioctl(s.m.vm, KVM_ENABLE_CAP, &cap) == 0);
	log_rounds(true);
}

/* All pages are dirty when the log begins, and none is protected until it is cleared. */
static void test_initially_set(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { 3 } };

	NEED(ioctl(s.m.vm, KVM_ENABLE_CAP, &cap) == 0);
	log_rounds(true);
}

/* ---- the rings ------------------------------------------------------------------------------------------- */

#define RING_ENTRIES (SVM_RING_BYTES / sizeof(struct kvm_dirty_gfn))

static struct {
	struct kvm_dirty_gfn *entry;
	unsigned next;
} ring[SVM_VCPUS];

static void rings_map(void)
{
	for (unsigned v = 0; v < SVM_VCPUS; v++) {
		ring[v].next = 0;
		ring[v].entry = mmap(NULL, SVM_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.m.vcpu[v],
		                     KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
		NEED(ring[v].entry != MAP_FAILED);
	}
}

static void rings_unmap(void)
{
	for (unsigned v = 0; v < SVM_VCPUS; v++)
		munmap(ring[v].entry, SVM_RING_BYTES);
}

/* Takes what is in the rings, then copies: a page that is written after the reset is in a ring again. */
static void rings_take(void)
{
	static uint64_t gfn[SVM_VCPUS * RING_ENTRIES];
	unsigned count = 0;

	for (unsigned v = 0; v < SVM_VCPUS; v++)
		for (unsigned most = RING_ENTRIES; most; most--, ring[v].next++) {
			struct kvm_dirty_gfn *entry = &ring[v].entry[ring[v].next % RING_ENTRIES];

			if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
				break;
			gfn[count++] = entry->offset;
			__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		}
	SAME((unsigned)ioctl(s.m.vm, KVM_RESET_DIRTY_RINGS), count);
	for (unsigned i = 0; i < count; i++)
		page_copy(gfn[i]);
}

/* There is room in the rings until L2 has ended. */
static void rings_end(unsigned vcpus)
{
	sweep_stop(vcpus);
	for (unsigned v = 0; v < vcpus; v++)
		while (svm_runs(v)) {
			rings_take();
			usleep(100);
		}
	sweep_end(vcpus);
	rings_take();
	copy_check();
}

static void test_rings(void)
{
	rings_map();
	copy_begin();
	for (unsigned round = 0; round < times(4); round++) {
		sweep_begin(SVM_VCPUS);
		for (unsigned i = 0; i < times(60); i++)
			rings_take();
		rings_end(SVM_VCPUS);
		SAME(copied >= SWEEP_PAGES, 1);
		copied = 0;
		rings_take();
		SAME(copied, 0);
	}
	rings_unmap();
}

/* A ring that is full ends KVM_RUN in guest mode, and L2 goes on when there is room. */
static void test_full(void)
{
	rings_map();
	copy_begin();
	for (unsigned round = 0; round < times(4); round++) {
		unsigned seen = __atomic_load_n(&s.ring_full, __ATOMIC_SEQ_CST);
		uint64_t wanted = *word(0, 0) + 3;

		sweep_begin(1);
		for (unsigned i = 0; i < 200000 && __atomic_load_n(&s.ring_full, __ATOMIC_SEQ_CST) == seen; i++)
			usleep(100);
		SAME(__atomic_load_n(&s.ring_full, __ATOMIC_SEQ_CST) != seen, 1);
		for (unsigned i = 0; i < 200000 && passes_of(0) < wanted; i++) {
			rings_take();
			usleep(100);
		}
		rings_end(1);
	}
	rings_unmap();
}

static const struct svm_test tests[] = {
	{ "slots", test_slots, SVM_STAYS },
	{ "replace", test_replace, SVM_STAYS },
	{ "log", test_log, SVM_STAYS },
	{ "clear", test_clear, SVM_STAYS },
	{ "initially set", test_initially_set, SVM_STAYS },
	{ "rings", test_rings, SVM_STAYS | SVM_RING },
	{ "full ring", test_full, SVM_STAYS | SVM_RING },
};

int main(int argc, char **argv)
{
	int fd, bad;

	half = argc > 1 && !strcmp(argv[1], "half");
	fd = half ? (int)syscall(SYS_userfaultfd, O_CLOEXEC) : -1;
	if (half && fd < 0)
		return 77; /* skipped: this machine does not allow --host-memory */
	if (half)
		close(fd);
	bad = svm_tests(tests, sizeof(tests) / sizeof(tests[0]), argc > 1 + half ? argv + 1 + half : NULL);
	return check_end() ? 1 : bad;
}
