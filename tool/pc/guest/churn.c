/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory work in tool/run-pc: mappings come and go under a second thread that uses them, and children copy
 * them on write. The content of each page is known, so a translation that should be gone shows as a wrong word.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 24
#define PAGES  96
#define PAGE   4096
#define WORDS  (PAGE / sizeof(uint64_t))

static volatile uint64_t *window;  /* shows page N of a file in round N */
static volatile uint64_t *counter; /* private memory that the second thread counts in */
static uint64_t round_now;         /* the window shows this page or a later one; stop at ROUNDS */
static unsigned long checked;

static void wrong(const char *what, uint64_t got, uint64_t want)
{
	printf("WRONG: %s: %#llx, not %#llx\n", what, (unsigned long long)got, (unsigned long long)want);
	fflush(stdout);
	_exit(1);
}

static void *map(void *where, size_t pages, int flags, int fd, unsigned first)
{
	void *at = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, (off_t)first * PAGE);

	if (at == MAP_FAILED)
		wrong("mmap fails", 0, 0);
	return at;
}

/* What round `round` writes into a page: another word in each, at another place. */
static void fill(uint64_t *at, uint64_t round)
{
	for (unsigned page = 0; page < PAGES; page++)
		at[page * WORDS + page] = round << 32 | page;
}

static void check(const char *what, const uint64_t *at, uint64_t round)
{
	for (unsigned page = 0; page < PAGES; page++)
		if (at[page * WORDS + page] != (round << 32 | page))
			wrong(what, at[page * WORDS + page], round << 32 | page);
	checked += PAGES;
}

/* The second thread. Once round_now says N, a read of the window must not show a page before N: the TLB was flushed. */
static void *use(void *none)
{
	for (;;) {
		uint64_t least = __atomic_load_n(&round_now, __ATOMIC_ACQUIRE), seen = *window;

		if (seen < least)
			wrong("an old page in the window", seen, least);
		if (least == ROUNDS)
			return none;
		*counter += 1;
	}
}

/*
 * In a child, after fork. Its copy of the counter must stand still: the second thread is the parent's, and its entry
 * of the page is read-only since fork. What the child writes, the parent must not see.
 */
static void child(uint64_t *pages, uint64_t round)
{
	uint64_t before = *counter;

	check("a child's pages", pages, round);
	fill(pages, round + ROUNDS);
	check("what a child wrote", pages, round + ROUNDS);
	if (*counter != before)
		wrong("the parent counts in its child's page", *counter, before);
	_exit(0);
}

static void turn(int file, uint64_t round)
{
	uint64_t *pages = map(NULL, PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	fill(pages, round);
	map((void *)window, 1, MAP_SHARED | MAP_FIXED, file, (unsigned)round);
	__atomic_store_n(&round_now, round, __ATOMIC_RELEASE);
	pid = fork();
	if (pid == 0)
		child(pages, round);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		wrong("a child's end", (uint64_t)status, 0);
	check("a parent's pages", pages, round);
	if (mprotect(pages, PAGES * PAGE / 2, PROT_READ) != 0)
		wrong("mprotect fails", 0, 0);
	check("pages made read-only", pages, round);
	munmap(pages, PAGES * PAGE);
}

int main(void)
{
	int file = memfd_create("pages", 0);
	pthread_t thread;

	for (uint64_t page = 0; page <= ROUNDS; page++)
		if (pwrite(file, &page, sizeof(page), (off_t)page * PAGE) != sizeof(page))
			wrong("a file in memory", 0, 0);
	if (ftruncate(file, (ROUNDS + 1) * PAGE) != 0)
		wrong("ftruncate fails", 0, 0);
	window = map(NULL, 1, MAP_SHARED, file, 0);
	counter = map(NULL, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pthread_create(&thread, NULL, use, NULL) != 0)
		wrong("pthread_create fails", 0, 0);
	for (uint64_t round = 1; round <= ROUNDS; round++)
		turn(file, round);
	pthread_join(thread, NULL);
	printf("%lu\n", checked);
	return 0;
}
