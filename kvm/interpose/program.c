/* SPDX-License-Identifier: MIT */
#include "kvm/interpose/program.h"
#include "port/posix/raw.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

static void runtime_find(const struct image *image, const Elf64_Phdr *section, struct program_file *out)
{
	uint64_t names = 0;
	Elf64_Dyn d;

	for (uint64_t i = 0; dynamic(image, section, i, &d); i++)
		if (d.d_tag == DT_STRTAB)
			names = offset_of(image, d.d_un.d_ptr);
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

static enum program_form look(struct image *image, struct program_file *out)
{
	Elf64_Phdr found, section;
	const char *loader, *name;
	const void *at = part(image, 0, sizeof(image->header));
	bool is_dynamic;

	if (!part(image, 0, EI_NIDENT) || memcmp(image->bytes, ELFMAG, SELFMAG) != 0)
		return FORM_OTHER;
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
	if (!segment_find(image, PT_INTERP, &found))
		return image->header.e_type == ET_DYN && is_dynamic && !is_pie(image, &section) ? FORM_LIBRARY
		                                                                                : FORM_STATIC;
	loader = text(image, found.p_offset);
	if (!loader)
		return FORM_BROKEN;
	name = strrchr(loader, '/');
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
