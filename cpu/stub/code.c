/* SPDX-License-Identifier: MIT */
/*
 * Executable memory on hosts where a page may be writable or executable, not both (SELinux, PaX, seccomp filters).
 *
 * Shared anonymous pages are mapped twice. mremap() with an old size of 0 makes the second mapping. Unlike a memfd,
 * this needs no file descriptor and is not subject to RLIMIT_FSIZE.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/base/private.h"
#include "cpu/stub/code.h"

bool code_map(struct code_memory *m, size_t size)
{
	void *write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *run;

	if (write == MAP_FAILED)
		return false;
	run = mremap(write, 0, size, MREMAP_MAYMOVE);
	if (run == MAP_FAILED || mprotect(run, size, PROT_READ | PROT_EXEC) != 0) {
		if (run != MAP_FAILED)
			munmap(run, size);
		munmap(write, size);
		return false;
	}
	*m = (struct code_memory){ .write = write, .run = run, .size = size };
	return true;
}

void code_unmap(struct code_memory *m)
{
	if (m->write == NULL)
		return;
	munmap(m->write, m->size);
	munmap((void *)(uintptr_t)m->run, m->size);
	*m = (struct code_memory){ .write = NULL };
}

/* Does code that is written at one address run at the other? */
static bool code_runs(void)
{
	static const uint8_t code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 }; /* mov $42,%eax; ret */
	struct code_memory m;
	int (*run)(void);
	bool runs;

	if (!code_map(&m, 4096))
		return false;
	memcpy(m.write, code, sizeof(code));
	memcpy(&run, &m.run, sizeof(run));
	runs = run() == 42;
	code_unmap(&m);
	return runs;
}

bool code_is_allowed(void)
{
	/* Threads that ask at once find the same answer. */
	static _Atomic(int) known;
	int answer = atomic_load_explicit(&known, memory_order_relaxed);

	if (answer == 0) {
		answer = code_runs() ? 1 : -1;
		atomic_store_explicit(&known, answer, memory_order_relaxed);
	}
	return answer > 0;
}
