/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/program.h"
#include "kvm/interpose/instruction.h"
#include "port/posix/raw.h"
#include <elf.h>
#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#define SCAN_MOST (4u << 20) /* bytes that a program loads */
#define FSGSBASE 2 /* in AT_HWCAP2: programs may change FS and GS */

struct image {
	const uint8_t *bytes;
	size_t size;
	Elf64_Ehdr header;
};

/* `bytes` of the file at `offset`. Returns: NULL when they are not all in the file. */
static const void *part(const struct image *image, uint64_t offset, uint64_t bytes)
{
	return offset <= image->size && bytes <= image->size - offset ? image->bytes + offset : NULL;
}

/* The text at `offset`. Returns: NULL when it does not end in the file. */
static const char *text(const struct image *image, uint64_t offset)
{
	const char *at = part(image, offset, 1);

	return at && memchr(at, 0, image->size - offset) ? at : NULL;
}

static bool segment(const struct image *image, unsigned i, Elf64_Phdr *out)
{
	const void *at = part(image, image->header.e_phoff + (uint64_t)i * image->header.e_phentsize, sizeof(*out));

	if (at)
		memcpy(out, at, sizeof(*out));
	return at;
}

/* The first segment of a type. Returns: false when there is none. */
static bool segment_find(const struct image *image, uint32_t type, Elf64_Phdr *out)
{
	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, out); i++)
		if (out->p_type == type)
			return true;
	return false;
}

/* The offset in the file of the byte that will be at `address`. */
static uint64_t offset_of(const struct image *image, uint64_t address)
{
	Elf64_Phdr s;

	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++)
		if (s.p_type == PT_LOAD && address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz)
			return address - s.p_vaddr + s.p_offset;
	return UINT64_MAX;
}

/* The i-th entry of the dynamic section. Returns: false past the last. */
static bool dynamic(const struct image *image, const Elf64_Phdr *section, uint64_t i, Elf64_Dyn *out)
{
	const void *at = i < section->p_filesz / sizeof(*out) && section->p_offset <= image->size
	                         ? part(image, section->p_offset + i * sizeof(*out), sizeof(*out))
	                         : NULL;

	if (at)
		memcpy(out, at, sizeof(*out));
	return at && out->d_tag != DT_NULL;
}

bool program_is_runtime(const char *name, size_t length)
{
	static const char *const runtimes[] = {
		"libasan.so", "libtsan.so", "liblsan.so", "libhwasan.so", "libclang_rt.",
	};

	for (size_t i = 0; i < sizeof(runtimes) / sizeof(*runtimes); i++)
		if (length >= strlen(runtimes[i]) && memcmp(name, runtimes[i], strlen(runtimes[i])) == 0)
			return true;
	return false;
}

/* Where in the file the names are of which the dynamic section speaks; 0 when it has none. */
static uint64_t names_find(const struct image *image, const Elf64_Phdr *section)
{
	Elf64_Dyn d;

	for (uint64_t i = 0; dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_STRTAB)
			return offset_of(image, d.d_un.d_ptr);
	return 0;
}

static void runtime_find(const struct image *image, const Elf64_Phdr *section, struct program_file *out)
{
	uint64_t names = names_find(image, section);
	Elf64_Dyn d;

	for (uint64_t i = 0; names && dynamic(image, section, i, &d); i++) {
		const char *name = d.d_tag == DT_NEEDED ? text(image, names + d.d_un.d_val) : NULL;

		if (name && strlen(name) < sizeof(out->runtime) && program_is_runtime(name, strlen(name))) {
			strcpy(out->runtime, name);
			return;
		}
	}
}

static bool is_pie(const struct image *image, const Elf64_Phdr *section)
{
	Elf64_Dyn d;

	for (uint64_t i = 0; dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_FLAGS_1)
			return d.d_un.d_val & DF_1_PIE;
	return false;
}

/* glibc's loader, which runs a program that it is given, and preloads for it. */
static bool is_loader(const struct image *image, const Elf64_Phdr *section)
{
	uint64_t names = names_find(image, section);
	const char *name = NULL;
	Elf64_Dyn d;

	for (uint64_t i = 0; names && dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_SONAME)
			name = text(image, names + d.d_un.d_val);
	return name && strncmp(name, "ld-linux-", 9) == 0;
}

/* A word of a script's first line. Returns: its length, 0 at the end of the line. */
static size_t script_word(const struct image *image, size_t *at, size_t size, const char *ends)
{
	size_t length = 0;

	while (*at < size && (image->bytes[*at] == ' ' || image->bytes[*at] == '\t'))
		++*at;
	while (*at + length < size && !strchr(ends, image->bytes[*at + length]))
		length++;
	return length;
}

/* The first line of a script, as the kernel takes it. Returns: false when it is no script. */
static bool script(const struct image *image, struct program_file *out)
{
	size_t size = image->size < PROGRAM_INTERPRETER ? image->size : PROGRAM_INTERPRETER, at = 2, length;

	if (size < 3 || memcmp(image->bytes, "#!", 2) != 0)
		return false;
	length = script_word(image, &at, size, " \t\n");
	if (!length || at + length == PROGRAM_INTERPRETER)
		return false;
	memcpy(out->interpreter, image->bytes + at, length);
	at += length;
	/* All that follows is one argument. */
	length = script_word(image, &at, size, "\n");
	while (length && strchr(" \t", image->bytes[at + length - 1]))
		length--;
	memcpy(out->argument, image->bytes + at, length);
	return true;
}

/* Is a note of the Go toolchain in the file? */
static bool is_go(const struct image *image)
{
	Elf64_Phdr s;

	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++) {
		const uint8_t *note = s.p_type == PT_NOTE ? part(image, s.p_offset, 16) : NULL;

		if (note && memcmp(note, "\4\0\0\0", 4) == 0 && memcmp(note + 12, "Go\0\0", 4) == 0)
			return true;
	}
	return false;
}

/* Is the name in these bytes? Some programs have megabytes, so 16 places are looked at together. */
static bool has_name(const uint8_t *bytes, size_t size)
{
	static const char name[] = "/dev/kvm";
	const size_t length = sizeof(name) - 1;
	size_t i = 0;

	for (; i + 16 + length <= size; i += 16) {
		__m128i slash = _mm_loadu_si128((const __m128i *)(bytes + i));
		__m128i k = _mm_loadu_si128((const __m128i *)(bytes + i + 5));
		int both = _mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(slash, _mm_set1_epi8('/')),
		                                           _mm_cmpeq_epi8(k, _mm_set1_epi8('k'))));

		for (; both; both &= both - 1)
			if (memcmp(bytes + i + __builtin_ctz((unsigned)both), name, length) == 0)
				return true;
	}
	return memmem(bytes + i, size - i, name, length);
}

/* How much of the file the program loads: debug information may be most of the file, and does not count. */
static uint64_t loaded_bytes(const struct image *image)
{
	uint64_t bytes = 0;
	Elf64_Phdr s;

	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++)
		if (s.p_type == PT_LOAD && part(image, s.p_offset, s.p_filesz))
			bytes += s.p_filesz;
	return bytes;
}

/* Does the file name /dev/kvm? A program that never uses it need not be hosted. */
static bool names_kvm(const struct image *image)
{
	Elf64_Phdr s;

	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++) {
		const void *bytes = s.p_type == PT_LOAD ? part(image, s.p_offset, s.p_filesz) : NULL;

		if (bytes && has_name(bytes, s.p_filesz))
			return true;
	}
	return false;
}

/*
 * Is a sanitizer in it, as a library or as part of the program? It needs memory where hosted programs are, and its own
 * system calls are none of KVM's.
 */
static bool is_sanitized(const struct image *image)
{
	static const char *const names[] = {
		"__asan_init", "__tsan_init", "__msan_init", "AddressSanitizer", "ThreadSanitizer", "MemorySanitizer",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (memmem(image->bytes, image->size, names[i], strlen(names[i])))
			return true;
	return false;
}

/*
 * Does it reach KVM by system calls of its own? Go's programs make them so, also those that use libc; of others the
 * code tells.
 */
static bool is_raw(const struct image *image)
{
	const bool go = is_go(image);
	Elf64_Phdr s;

	/* To look at all of a large program at each start of it, as a compiler's, would be felt. */
	if ((!go && loaded_bytes(image) > SCAN_MOST) || !names_kvm(image))
		return false;
	if (go)
		return true;
	for (unsigned i = 0; i < image->header.e_phnum && segment(image, i, &s); i++) {
		const void *code = s.p_type == PT_LOAD && s.p_flags & PF_X ? part(image, s.p_offset, s.p_filesz) : NULL;

		if (code && instruction_makes_calls(code, s.p_filesz))
			return !is_sanitized(image);
	}
	return false;
}

static enum program_form look(struct image *image, struct program_file *out)
{
	Elf64_Phdr found, section;
	const char *loader, *name;
	const void *at = part(image, 0, sizeof(image->header));
	bool is_dynamic;

	if (!part(image, 0, EI_NIDENT) || memcmp(image->bytes, ELFMAG, SELFMAG) != 0)
		return script(image, out) ? FORM_SCRIPT : FORM_OTHER;
	if (!at)
		return FORM_BROKEN;
	memcpy(&image->header, at, sizeof(image->header));
	if (image->header.e_ident[EI_CLASS] != ELFCLASS64 || image->header.e_machine != EM_X86_64)
		return FORM_FOREIGN;
	if (image->header.e_phnum && !segment(image, image->header.e_phnum - 1u, &found))
		return FORM_BROKEN;
	is_dynamic = segment_find(image, PT_DYNAMIC, &section);
	if (is_dynamic)
		runtime_find(image, &section, out);
	if (is_dynamic && is_loader(image, &section))
		return FORM_GLIBC;
	if (!segment_find(image, PT_INTERP, &found))
		return image->header.e_type == ET_DYN && is_dynamic && !is_pie(image, &section) ? FORM_LIBRARY
		                                                                                : FORM_STATIC;
	loader = text(image, found.p_offset);
	if (!loader)
		return FORM_BROKEN;
	name = strrchr(loader, '/');
	out->raw = is_raw(image);
	return strncmp(name ? name + 1 : loader, "ld-musl-", 8) == 0 ? FORM_MUSL : FORM_GLIBC;
}

bool program_look(const char *path, struct program_file *out)
{
	long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
	struct image image = { 0 };
	long error = fd, at;
	struct stat st;

	memset(out, 0, sizeof(*out));
	if (fd >= 0) {
		error = raw_syscall(SYS_fstat, fd, (long)&st, 0, 0, 0, 0);
		if (error == 0 && st.st_size > 0 && S_ISREG(st.st_mode)) {
			at = raw_syscall(SYS_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
			error = at < 0 ? at : 0;
			image.bytes = (const uint8_t *)at; // NOLINT: the kernel's answer is an address
			image.size = (size_t)st.st_size;
		}
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	}
	if (error < 0) {
		errno = (int)-error;
		return false;
	}
	if (image.size) {
		out->form = look(&image, out);
		raw_syscall(SYS_munmap, (long)image.bytes, (long)image.size, 0, 0, 0, 0);
	}
	return true;
}

/* Will the kernel give the program other rights than this process has? Then the loader does not preload for it. */
static bool is_privileged(const char *path)
{
	char some[1];
	struct stat st;

	if (raw_syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1)
		return false;
	if (raw_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0, 0, 0) == 0) {
		if (st.st_mode & S_ISUID && st.st_uid != (uid_t)raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0))
			return true;
		if (st.st_mode & S_ISGID && st.st_gid != (gid_t)raw_syscall(SYS_getegid, 0, 0, 0, 0, 0, 0))
			return true;
	}
	if (raw_syscall(SYS_geteuid, 0, 0, 0, 0, 0, 0) == 0)
		return false;
	return raw_syscall(SYS_getxattr, (long)path, (long)"security.capability", (long)some, 0, 0, 0) > 0;
}

enum program_kind program_examine(const char *path, struct program_file *file, struct program_scripts *scripts)
{
	for (scripts->count = 0; ; scripts->count++) {
		if (!program_look(path, file))
			return PROGRAM_UNREADABLE;
		if (file->form != FORM_SCRIPT)
			break;
		if (scripts->count == PROGRAM_SCRIPTS)
			return PROGRAM_OTHER;
		memcpy(scripts->level[scripts->count].interpreter, file->interpreter, sizeof(file->interpreter));
		memcpy(scripts->level[scripts->count].argument, file->argument, sizeof(file->argument));
		path = scripts->level[scripts->count].interpreter;
	}
	switch (file->form) {
	case FORM_FOREIGN:
	case FORM_BROKEN: return PROGRAM_FOREIGN;
	case FORM_LIBRARY: return PROGRAM_LIBRARY;
	case FORM_STATIC:
	case FORM_MUSL:
	case FORM_GLIBC: break;
	default: return PROGRAM_OTHER;
	}
	if (is_privileged(path))
		return PROGRAM_SETUID;
	if (file->form != FORM_GLIBC)
		return file->form == FORM_STATIC ? PROGRAM_STATIC : PROGRAM_MUSL;
	return file->raw ? PROGRAM_RAW : PROGRAM_DYNAMIC;
}

/* May programs be hosted here? Returns: NULL, or why not. */
static const char *host_obstacle(enum config_raw raw)
{
	if (raw == RAW_OFF)
		return "it makes system calls without the libc that vmmu preloads a library for, and '--raw off' says "
		       "that such programs are not hosted";
	if (!(getauxval(AT_HWCAP2) & FSGSBASE))
		return "it makes system calls without the libc that vmmu preloads a library for, and to host it takes "
		       "a processor with FSGSBASE and Linux 5.9 (link it dynamically with glibc)";
	return NULL;
}

static const char *kind_obstacle(enum program_kind kind)
{
	switch (kind) {
	case PROGRAM_SETUID:
		return "setuid, setgid or with file capabilities: the front end cannot be in it "
		       "(run a copy without those bits)";
	case PROGRAM_LIBRARY:
		return "a shared object, not a program";
	case PROGRAM_FOREIGN:
		return "not an x86-64 program";
	default:
		return NULL;
	}
}

enum program_way program_way(enum program_kind kind, enum config_raw raw, const char **obstacle)
{
	bool other = kind == PROGRAM_OTHER || kind == PROGRAM_UNREADABLE;
	bool host = kind == PROGRAM_STATIC || kind == PROGRAM_MUSL || (kind == PROGRAM_RAW && raw != RAW_OFF) ||
	            (kind == PROGRAM_DYNAMIC && raw == RAW_ON);

	*obstacle = kind_obstacle(kind);
	if (!*obstacle && !other && host)
		*obstacle = host_obstacle(raw);
	return *obstacle ? WAY_NONE : host ? WAY_HOST : WAY_PRELOAD;
}

char **program_arguments(char **room, const struct program_scripts *scripts, const char *path, char *const *arguments)
{
	size_t count = 0;
	char **first = room + 2 * PROGRAM_SCRIPTS;

	for (; arguments[count]; count++)
		first[count] = arguments[count];
	first[count] = NULL;
	for (unsigned i = 0; i < scripts->count; i++) {
		first[0] = (char *)(i ? scripts->level[i - 1].interpreter : path);
		if (scripts->level[i].argument[0])
			*--first = (char *)scripts->level[i].argument;
		*--first = (char *)scripts->level[i].interpreter;
	}
	return first;
}

bool program_host(const char *library, char *path, size_t size)
{
	const char *slash = strrchr(library, '/');
	size_t length = slash ? (size_t)(slash - library) + 1 : 0;

	if (length + sizeof("vmmu-host") > size)
		return false;
	memcpy(path, library, length);
	memcpy(path + length, "vmmu-host", sizeof("vmmu-host"));
	return true;
}
