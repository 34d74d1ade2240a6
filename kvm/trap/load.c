/* SPDX-License-Identifier: MIT */
/*
 * Loads the hosted program as the kernel would: its segments, its interpreter if it has one, and the first stack. All
 * is mapped as its file says and never writable and executable at once. The program runs on the process's first
 * stack, below what the front end used of it.
 */
#include "kvm/interpose/break.h"
#include "kvm/interpose/program.h"
#include "kvm/process/config.h"
#include "kvm/process/handlers.h"
#include "kvm/process/hosted.h"
#include "kvm/process/real.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/trap/trap.h"
#include <alloca.h>
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE         UINT64_C(4096)
#define EXIT_CANNOT  126
#define SEGMENTS     64
#define BASE         (TRAP_LIMIT / 2) /* a program that can be anywhere is from here on */
#define BASE_SPREAD  (UINT64_C(1) << 26) /* pages: as far as the kernel spreads it, a quarter of the room */
#define INTERPRETER_BASE (BASE - (UINT64_C(1) << 36))

/* A program or an interpreter that is loaded. */
struct loaded {
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS];
	uint64_t base;    /* what is added to the file's addresses */
	uint64_t end;     /* of its memory */
	char interpreter[PATH_MAX];
};

static int fail(const char *path, const char *why)
{
	fprintf(stderr, "vmmu: %s: %s\n", path, why);
	return EXIT_CANNOT;
}

static uint64_t page_down(uint64_t at)
{
	return at & ~(PAGE - 1);
}

static uint64_t page_up(uint64_t at)
{
	return page_down(at + PAGE - 1);
}

/* Read the headers. Returns: NULL, or why the file cannot be loaded. */
static const char *headers_read(int fd, struct loaded *out)
{
	const size_t size = sizeof(out->segments[0]);

	if (pread(fd, &out->header, sizeof(out->header), 0) != sizeof(out->header) ||
	    memcmp(out->header.e_ident, ELFMAG, SELFMAG) != 0 || out->header.e_machine != EM_X86_64 ||
	    out->header.e_ident[EI_CLASS] != ELFCLASS64 || out->header.e_phentsize != size)
		return "not an x86-64 program";
	if (out->header.e_phnum > SEGMENTS)
		return "too many segments";
	if (pread(fd, out->segments, out->header.e_phnum * size, (off_t)out->header.e_phoff) !=
	    (ssize_t)(out->header.e_phnum * size))
		return "its headers end early";
	for (unsigned i = 0; i < out->header.e_phnum; i++) {
		const Elf64_Phdr *s = &out->segments[i];

		if (s->p_type == PT_LOAD && (s->p_memsz < s->p_filesz || s->p_vaddr > TRAP_LIMIT ||
		                             s->p_memsz > TRAP_LIMIT || s->p_offset % PAGE != s->p_vaddr % PAGE))
			return "a segment is out of bounds";
		if (s->p_type != PT_INTERP)
			continue;
		if (s->p_filesz >= sizeof(out->interpreter) ||
		    pread(fd, out->interpreter, s->p_filesz, (off_t)s->p_offset) != (ssize_t)s->p_filesz)
			return "its interpreter has no name";
	}
	return NULL;
}

/* The memory of all segments, as the file numbers it. */
static void extent(const struct loaded *l, uint64_t *low, uint64_t *high)
{
	*low = UINT64_MAX;
	*high = 0;
	for (unsigned i = 0; i < l->header.e_phnum; i++) {
		const Elf64_Phdr *s = &l->segments[i];

		if (s->p_type != PT_LOAD)
			continue;
		if (page_down(s->p_vaddr) < *low)
			*low = page_down(s->p_vaddr);
		if (page_up(s->p_vaddr + s->p_memsz) > *high)
			*high = page_up(s->p_vaddr + s->p_memsz);
	}
}

static long map(uint64_t at, uint64_t bytes, int protection, int flags, int fd, uint64_t offset)
{
	return SYS6(SYS_mmap, at, bytes, protection, MAP_PRIVATE | flags, fd, offset);
}

/* Map one segment in the place that is reserved for it: the file's part, the rest of its last page, whole pages. */
static const char *segment_map(int fd, const struct loaded *l, const Elf64_Phdr *s)
{
	const int protection = (s->p_flags & PF_R ? PROT_READ : 0) | (s->p_flags & PF_W ? PROT_WRITE : 0) |
	                       (s->p_flags & PF_X ? PROT_EXEC : 0);
	uint64_t start = l->base + s->p_vaddr, file_end = start + s->p_filesz, end = start + s->p_memsz;
	uint64_t first = page_down(start), file_pages = page_up(file_end), pages = page_up(end);

	if ((protection & PROT_WRITE) && (protection & PROT_EXEC))
		return "a segment is writable and executable";
	if (s->p_filesz && map(first, file_end - first, protection, MAP_FIXED, fd, page_down(s->p_offset)) < 0)
		return "a segment cannot be mapped";
	if (!s->p_filesz)
		file_pages = first;
	if (pages > file_pages &&
	    map(file_pages, pages - file_pages, protection, MAP_FIXED | MAP_ANONYMOUS, -1, 0) < 0)
		return "no memory";
	if (s->p_filesz && (protection & PROT_WRITE) && file_end < file_pages)
		memset((void *)file_end, 0, file_pages - file_end); // NOLINT: glibc's loader uses all
	return NULL;
}

static const char *segments_map(int fd, struct loaded *l, uint64_t base)
{
	const char *why = NULL;
	uint64_t low, high;

	extent(l, &low, &high);
	if (low >= high || high - low > TRAP_LIMIT / 4)
		return "it has no memory, or too much";
	l->base = l->header.e_type == ET_DYN ? base - low : 0;
	l->end = l->base + high;
	if (l->end >= TRAP_LIMIT)
		return "its addresses are too high";
	if (map(l->base + low, high - low, PROT_NONE, MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) !=
	    (long)(l->base + low))
		return "its addresses are not free";
	for (unsigned i = 0; i < l->header.e_phnum && !why; i++)
		if (l->segments[i].p_type == PT_LOAD && l->segments[i].p_memsz)
			why = segment_map(fd, l, &l->segments[i]);
	return why;
}

static const char *load(int fd, struct loaded *l, uint64_t base)
{
	const char *why = headers_read(fd, l);

	return why ? why : segments_map(fd, l, base);
}

/* Where the program's headers are in its memory: 0 when they are in no segment. */
static uint64_t headers_at(const struct loaded *l)
{
	for (unsigned i = 0; i < l->header.e_phnum; i++) {
		const Elf64_Phdr *s = &l->segments[i];

		if (s->p_type == PT_LOAD && l->header.e_phoff >= s->p_offset &&
		    l->header.e_phoff - s->p_offset < s->p_filesz)
			return l->base + s->p_vaddr + (l->header.e_phoff - s->p_offset);
	}
	return 0;
}

static void auxiliary_set(Elf64_auxv_t *entry, const struct loaded *l, const struct loaded *loader, const char *name)
{
	switch (entry->a_type) {
	case AT_PHDR: entry->a_un.a_val = headers_at(l); break;
	case AT_PHENT: entry->a_un.a_val = l->header.e_phentsize; break;
	case AT_PHNUM: entry->a_un.a_val = l->header.e_phnum; break;
	case AT_BASE: entry->a_un.a_val = loader ? loader->base : 0; break;
	case AT_ENTRY: entry->a_un.a_val = l->base + l->header.e_entry; break;
	case AT_EXECFN: entry->a_un.a_val = (uint64_t)(uintptr_t)name; break;
	default: break;
	}
}

/* Is this variable for vmmu-host only? A program with a loader must not have the front end preloaded once more. */
static bool is_hidden(const char *entry, bool has_loader)
{
	static const char program[] = CONFIG_ENV_PROGRAM "=", preload[] = "LD_PRELOAD=";

	return strncmp(entry, program, sizeof(program) - 1) == 0 ||
	       (has_loader && strncmp(entry, preload, sizeof(preload) - 1) == 0);
}

/* The first stack: `words` has room. Returns: how many words it takes. */
static size_t stack_fill(uint64_t *words, int argc, char **argv, char **environment, const struct loaded *l,
                         const struct loaded *loader, const char *name)
{
	const Elf64_auxv_t *auxiliary;
	uint64_t *at = words;

	*at++ = (uint64_t)argc;
	for (int i = 0; i < argc; i++)
		*at++ = (uint64_t)(uintptr_t)argv[i];
	*at++ = 0;
	for (; *environment; environment++)
		if (!is_hidden(*environment, loader))
			*at++ = (uint64_t)(uintptr_t)*environment;
	*at++ = 0;
	auxiliary = (const Elf64_auxv_t *)(environment + 1);
	for (bool more = true; more; auxiliary++, at += 2) {
		Elf64_auxv_t entry = *auxiliary;

		more = entry.a_type != AT_NULL;
		auxiliary_set(&entry, l, loader, name);
		memcpy(at, &entry, sizeof(entry));
	}
	return (size_t)(at - words);
}

static uint64_t xsave_bytes(void)
{
	unsigned a, b = 0, c, d;

	__cpuid_count(0xd, 0, a, b, c, d);
	return b;
}

/* This thread is the program's first. Returns: NULL, or why it cannot be. */
static const char *thread_begin(void)
{
	const uint64_t open_signal = signals_bit(SIGSYS);
	long stack = map(0, TRAP_STACK + PAGE, PROT_NONE, MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (stack < 0 || SYS3(SYS_mprotect, stack + (long)PAGE, TRAP_STACK, PROT_READ | PROT_WRITE) != 0)
		return "no memory";
	trap_xsave_bytes = xsave_bytes();
	trap_thread_begin((uintptr_t)stack + PAGE, (uintptr_t)stack + PAGE + TRAP_STACK,
	                  (uintptr_t)stack + PAGE + TRAP_STACK);
	trap_rseq_release();
	handlers_host();
	signals_init(); /* a copy from the program's memory may fault */
	SYS4(SYS_rt_sigprocmask, SIG_UNBLOCK, &open_signal, NULL, sizeof(open_signal));
	return trap_filter(false) == 0 ? NULL : "the system forbids the seccomp filter by which its calls are seen";
}

/* Begin the program. */
static _Noreturn void begin(const struct loaded *l, const struct loaded *loader, uint64_t *stack)
{
	struct trap_frame frame = {
		.self = &hosted_self,
		.rflags = 0x202,
		.rip = loader ? loader->base + loader->header.e_entry : l->base + l->header.e_entry,
		.rsp = (uint64_t)(uintptr_t)stack,
	};

	trap_resume(&frame);
}

/* The program's own name: what the kernel would say for /proc/self/exe. */
static const char *name_of(int fd)
{
	static char name[PATH_MAX];
	char link[32];
	long length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = SYS3(SYS_readlink, link, name, sizeof(name) - 1);
	return length > 0 ? name : NULL;
}

static const char *loader_load(const struct loaded *l, struct loaded *loader)
{
	int fd = open(l->interpreter, O_RDONLY | O_CLOEXEC);
	const char *why;

	if (fd < 0)
		return "its interpreter cannot be opened";
	why = load(fd, loader, INTERPRETER_BASE);
	close(fd);
	return why;
}

static uint64_t random_below(uint64_t limit)
{
	uint64_t value = 0;

	SYS3(SYS_getrandom, &value, sizeof(value), 1 /* do not wait */);
	return value % limit;
}

EXPORT int vmmu_host(int argc, char **argv, char **environment)
{
	static struct loaded program, loader;
	const char *path = getenv(CONFIG_ENV_PROGRAM), *why, *base;
	size_t count = 0;
	uint64_t *stack;
	int fd;

	if (!path)
		return fail("vmmu-host", "this is run by vmmu, not by hand");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(path, strerror(errno));
	trap_program = name_of(fd);
	if (strncmp(path, "/proc/self/fd/", 14) == 0)
		close(atoi(path + 14)); /* it was opened for us */
	why = load(fd, &program, BASE + random_below(BASE_SPREAD) * PAGE);
	close(fd);
	if (!why && program.interpreter[0])
		why = loader_load(&program, &loader);
	if (!why)
		why = thread_begin();
	if (why)
		return fail(path, why);
	break_init(page_up(program.end) + random_below(8192) * PAGE);
	base = strrchr(path, '/');
	SYS2(SYS_prctl, PR_SET_NAME, base ? base + 1 : path);

	while (environment[count])
		count++;
	for (const Elf64_auxv_t *a = (const Elf64_auxv_t *)(environment + count + 1); a->a_type != AT_NULL; a++)
		count += 2;
	stack = alloca((size_t)(count + (size_t)argc + 8) * sizeof(*stack) + 16);
	stack = (uint64_t *)(((uintptr_t)stack + 15) & ~(uintptr_t)15); // NOLINT: aligned
	stack_fill(stack, argc, argv, environment, &program, program.interpreter[0] ? &loader : NULL, path);
	begin(&program, program.interpreter[0] ? &loader : NULL, stack);
}
