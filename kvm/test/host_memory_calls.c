/* SPDX-License-Identifier: MIT */
/*
 * The program's own memory calls do to memory under a budget what the kernel does to any other memory. The test makes
 * each call on two equal areas and then compares the areas page by page. One area is plain memory. The other belongs
 * to a slot, and the manager has taken most of it away.
 *
 *     host_memory_calls      under --host-memory 1M
 */
#include "check.h"

#include <sys/syscall.h>

#define PAGES 512u /* the pages of an area: twice the budget */
#define BYTES (PAGES * PAGE)
#define GPA   0x10000000u

/* Advice that is not tried: both take memory from the machine itself, for good. */
#define HWPOISON     100
#define SOFT_OFFLINE 101

#define COLLAPSE     25
#define FREE_ADVICE  MADV_FREE

static struct machine m;
static uint8_t *managed, *plain;
static int pipe_fds[2];

static uint64_t pattern(unsigned page)
{
	return 0x1234567800000001u + page * 7919u;
}

static uint8_t *area_make(void)
{
	/* Reserve twice the size: remap_grown makes the area grow. */
	uint8_t *area = mmap(NULL, 2 * BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(area != MAP_FAILED);
	NEED(mprotect(area, BYTES, PROT_READ | PROT_WRITE) == 0);
	return area;
}

static void area_fill(uint8_t *area)
{
	for (unsigned page = 0; page < PAGES; page++) {
		*(uint64_t *)(area + page * PAGE) = pattern(page);
		*(uint64_t *)(area + (page + 1) * PAGE - 8) = pattern(page);
	}
}

static void areas_make(void)
{
	managed = area_make();
	plain = area_make();
	NEED(machine_slot(m.vm, 1, 0, GPA, BYTES, managed) == 0);
	area_fill(managed);
	area_fill(plain);
}

static void areas_free(void)
{
	NEED(machine_slot(m.vm, 1, 0, GPA, 0, managed) == 0);
	munmap(managed, 2 * BYTES);
	munmap(plain, 2 * BYTES);
}

/* Wait until at least a quarter of the managed area has been taken away. */
static void wait_taken(void)
{
	static unsigned char present[PAGES];
	unsigned taken = 0;

	for (int tries = 0; tries < 60000 && taken < PAGES / 4; tries++) {
		usleep(tries ? 1000 : 0);
		taken = 0;
		if (mincore(managed, BYTES, present) != 0)
			return; /* a part of the area is unmapped */
		for (unsigned page = 0; page < PAGES; page++)
			taken += !(present[page] & 1);
	}
	CHECK(taken >= PAGES / 4);
}

/* Read the first and the last word of a page. Returns: false when the page cannot be read. */
static bool page_read(const uint8_t *page, uint64_t *first, uint64_t *last)
{
	uint64_t words[2];

	if (write(pipe_fds[1], page, 8) != 8)
		return false;
	NEED(write(pipe_fds[1], page + PAGE - 8, 8) == 8);
	NEED(read(pipe_fds[0], words, 16) == 16);
	*first = words[0];
	*last = words[1];
	return true;
}

/*
 * Compare the areas. `may_go`: a page may hold zeros in one area and its old contents in the other.
 * Returns: how many pages changed.
 */
static unsigned areas_compare(const char *what, int number, bool may_go)
{
	unsigned changed = 0, wrong = 0;

	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t got[2] = { 0 }, want[2] = { 0 };
		bool got_any = page_read(managed + page * PAGE, &got[0], &got[1]),
		     want_any = page_read(plain + page * PAGE, &want[0], &want[1]);
		bool zero = got_any && !got[0] && !got[1],
		     kept = got_any && got[0] == pattern(page) && got[1] == pattern(page);

		changed += !kept || !want_any || want[0] != got[0];
		if (may_go && want_any ? !zero && !kept : got_any != want_any || got[0] != want[0] || got[1] != want[1])
			wrong++;
	}
	if (wrong)
		printf("%s %d: %u of %u pages differ from plain memory\n", what, number, wrong, PAGES);
	CHECK(wrong == 0);
	return changed;
}

static void test_every_advice(void)
{
	areas_make();
	for (int advice = -1; advice < 256; advice++) {
		int got, want, got_errno, want_errno;

		if (advice == HWPOISON || advice == SOFT_OFFLINE)
			continue;
		wait_taken();
		errno = 0;
		want = madvise(plain, BYTES, advice);
		want_errno = errno;
		errno = 0;
		got = madvise(managed, BYTES, advice);
		got_errno = errno;
		/* Whether MADV_COLLAPSE succeeds depends on which pages are present. */
		if ((got != want || got_errno != want_errno) && advice != COLLAPSE)
			printf("madvise %d: %d (errno %d), of plain memory %d (%d)\n", advice, got, got_errno, want,
			       want_errno);
		CHECK(advice == COLLAPSE || (got == want && got_errno == want_errno));
		if (areas_compare("madvise", advice, advice == FREE_ADVICE) == 0)
			continue;
		areas_free();
		areas_make();
	}
	areas_free();
}

/* Calls on an area. Each returns an offset, a value or -errno. */
static long result_of(long result)
{
	return result < 0 ? -errno : result;
}

static long dontneed_unaligned(uint8_t *area)
{
	return result_of(madvise(area + 1, BYTES - PAGE, MADV_DONTNEED));
}

static long dontneed_endless(uint8_t *area)
{
	return result_of(madvise(area, ~(size_t)0, MADV_DONTNEED));
}

static long dontneed_over_a_hole(uint8_t *area)
{
	NEED(munmap(area + 100 * PAGE, 3 * PAGE) == 0);
	return result_of(madvise(area, BYTES, MADV_DONTNEED));
}

static long dontneed_until_locked(uint8_t *area)
{
	long result;

	NEED(mlock(area + 200 * PAGE, 2 * PAGE) == 0);
	result = result_of(madvise(area, BYTES, MADV_DONTNEED));
	NEED(munlock(area + 200 * PAGE, 2 * PAGE) == 0);
	return result;
}

static long dontneed_locked_first(uint8_t *area)
{
	long result;

	NEED(mlock(area, 2 * PAGE) == 0);
	result = result_of(madvise(area, BYTES, MADV_DONTNEED));
	NEED(munlock(area, 2 * PAGE) == 0);
	return result;
}

static long munmap_unaligned(uint8_t *area)
{
	return result_of(munmap(area + 8, BYTES - PAGE));
}

static long munmap_middle(uint8_t *area)
{
	return result_of(munmap(area + 50 * PAGE, 300 * PAGE));
}

static long map_over_the_middle(uint8_t *area)
{
	return mmap(area + 50 * PAGE, 300 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	            0) == area + 50 * PAGE ? 0 : -errno;
}

static long map_refused(uint8_t *area)
{
	return mmap(area, BYTES, PROT_READ, MAP_PRIVATE | MAP_FIXED, 1000, 0) == MAP_FAILED ? -errno : 0;
}

static long map_not_replacing(uint8_t *area)
{
	return mmap(area, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE, -1, 0) ==
	       MAP_FAILED ? -errno : 0;
}

static long protect_and_back(uint8_t *area)
{
	long result = result_of(mprotect(area + 10 * PAGE, 400 * PAGE, PROT_NONE));

	usleep(20000); /* time for the manager to take some of it while it is inaccessible */
	return result ? result : result_of(mprotect(area + 10 * PAGE, 400 * PAGE, PROT_READ | PROT_WRITE));
}

static long protect_refused(uint8_t *area)
{
	return result_of(mprotect(area, BYTES, 0x4000));
}

static long protect_for_good(uint8_t *area)
{
	return result_of(mprotect(area + 10 * PAGE, 400 * PAGE, PROT_NONE));
}

static long remap_shrunk(uint8_t *area)
{
	return mremap(area, BYTES, 300 * PAGE, 0) == area ? 0 : -errno;
}

static long remap_grown(uint8_t *area)
{
	NEED(munmap(area + BYTES, BYTES) == 0);
	if (mremap(area, BYTES, 2 * BYTES, 0) != area)
		return -errno;
	for (unsigned page = 0; page < PAGES; page++)
		if (area[BYTES + page * PAGE])
			return 1;
	return 0;
}

static long remap_away_and_back(uint8_t *area)
{
	uint8_t *away = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(away != MAP_FAILED);
	if (mremap(area, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, away) != away)
		return -errno;
	return mremap(away, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, area) == area ? 0 : -errno;
}

static long remap_onto(uint8_t *area)
{
	uint8_t *other = mmap(NULL, 100 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(other != MAP_FAILED);
	memset(other, 0x77, 100 * PAGE);
	return mremap(other, 100 * PAGE, 100 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 20 * PAGE) ==
	       area + 20 * PAGE ? 0 : -errno;
}

static long remap_refused(uint8_t *area)
{
	return mremap(area, BYTES, BYTES, MREMAP_FIXED, area + BYTES) == MAP_FAILED ? -errno : 0;
}

/* libc gives memory back by system calls of its own, which the front end does not see. */
static long unmapped_unseen(uint8_t *area)
{
	long at = (long)area, got;

	__asm__ volatile("syscall" : "=a"(got) : "a"(SYS_munmap), "D"(at), "S"((long)BYTES) : "rcx", "r11", "memory");
	NEED(got == 0);
	NEED(mmap(area, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	     area);
	area_fill(area);
	if (area == managed) {
		/* Memory of another slot needs room now. */
		uint8_t *other = area_make();

		NEED(machine_slot(m.vm, 2, 0, GPA + 2 * BYTES, BYTES, other) == 0);
		area_fill(other);
		usleep(50000);
		NEED(machine_slot(m.vm, 2, 0, GPA + 2 * BYTES, 0, other) == 0 && munmap(other, 2 * BYTES) == 0);
	}
	return 0;
}

static void test_calls(void)
{
	static const struct {
		const char *name;
		long (*call)(uint8_t *area);
	} calls[] = {
		{ "dontneed unaligned", dontneed_unaligned },
		{ "dontneed endless", dontneed_endless },
		{ "dontneed over a hole", dontneed_over_a_hole },
		{ "dontneed until locked", dontneed_until_locked },
		{ "dontneed locked first", dontneed_locked_first },
		{ "munmap unaligned", munmap_unaligned },
		{ "munmap middle", munmap_middle },
		{ "map over the middle", map_over_the_middle },
		{ "map refused", map_refused },
		{ "map not replacing", map_not_replacing },
		{ "protect and back", protect_and_back },
		{ "protect refused", protect_refused },
		{ "protect for good", protect_for_good },
		{ "remap shrunk", remap_shrunk },
		{ "remap grown", remap_grown },
		{ "remap away and back", remap_away_and_back },
		{ "remap onto", remap_onto },
		{ "remap refused", remap_refused },
		{ "unmapped unseen", unmapped_unseen },
	};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		long got, want;

		areas_make();
		wait_taken();
		want = calls[i].call(plain);
		got = calls[i].call(managed);
		if (got != want)
			printf("%s: %ld, of plain memory %ld\n", calls[i].name, got, want);
		CHECK(got == want);
		areas_compare(calls[i].name, 0, false);
		areas_free();
	}
}

int main(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		return 77; /* skipped: this machine does not allow --host-memory */
	close(fd);
	NEED(pipe(pipe_fds) == 0);
	machine_make(&m, 1, 0x100000);
	test_every_advice();
	test_calls();
	machine_free(&m, 1);
	return check_end();
}
