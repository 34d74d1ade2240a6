/* SPDX-License-Identifier: MIT */
#include "check/report/source.h"

#include <ctype.h>
#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/report/memory.h"

/* --- the debug information of this program --- */

static Dwfl_Module *own_module(void)
{
	static const Dwfl_Callbacks callbacks = {
		.find_elf = dwfl_build_id_find_elf,
		.find_debuginfo = dwfl_standard_find_debuginfo,
		.section_address = dwfl_offline_section_address,
	};
	static Dwfl_Module *module;
	static Dwfl *dwfl;

	if (dwfl)
		return module;
	dwfl = dwfl_begin(&callbacks);
	if (!dwfl)
		return NULL;
	dwfl_report_begin(dwfl);
	module = dwfl_report_offline(dwfl, "", "/proc/self/exe", -1);
	dwfl_report_end(dwfl, NULL, NULL);
	return module;
}

/* Takes "x/../" out of a path, in place. */
static void path_shorten(char *path)
{
	char *up;

	while ((up = strstr(path, "/../"))) {
		char *from = up;

		while (from > path && from[-1] != '/')
			from--;
		memmove(from, up + 4, strlen(up + 4) + 1);
	}
}

static const char *root = CHECK_SOURCE_ROOT;

void source_root(const char *path)
{
	root = memory_text(path);
}

/* Returns: the path from `folder` on; the path itself when it leads elsewhere. */
static char *path_below(char *path, const char *folder)
{
	size_t length = strlen(folder);

	return !strncmp(path, folder, length) && path[length] == '/' ? path + length + 1 : path;
}

/* The path as one of the tree that is looked at, or of the checker's own. NULL: it leads elsewhere. */
static const char *path_known(const char *path, const char *started_in)
{
	size_t size = strlen(started_in) + strlen(path) + 2;
	char *whole = memory_get(size), *below;

	snprintf(whole, size, path[0] == '/' ? "%s%s" : "%s/%s", path[0] == '/' ? "" : started_in, path);
	path_shorten(whole);
	below = path_below(whole, root);
	if (below == whole)
		below = path_below(whole, CHECK_SOURCE_ROOT);
	return below == whole ? NULL : below;
}

/*
 * A path as a reader of the tree knows it. The compiler was started in a build directory: that of this program, or,
 * for the checker's own code in a program of others, another one. A compiler cache may name that of another tree, so
 * a path that leads elsewhere is taken without it.
 */
static const char *file_name(const char *path, const char *started_in)
{
	const char *known = path ? path_known(path, started_in ? started_in : "") : NULL;
	char *name;

	if (!path)
		return "?";
	if (known)
		return known;
	name = memory_text(path);
	path_shorten(name);
	while (name[0] == '.' && (name[1] == '/' || (name[1] == '.' && name[2] == '/')))
		name += name[1] == '/' ? 2 : 3;
	return name;
}

static const char *die_name(Dwarf_Die *die)
{
	const char *name = dwarf_diename(die);

	return name ? name : "?";
}

static unsigned die_number(Dwarf_Die *die, unsigned attribute)
{
	Dwarf_Attribute attr;
	Dwarf_Word value;

	return dwarf_formudata(dwarf_attr(die, attribute, &attr), &value) == 0 ? (unsigned)value : 0;
}

static const char *call_file(Dwarf_Die *unit, Dwarf_Die *inlined)
{
	Dwarf_Files *files;
	Dwarf_Attribute attr;
	size_t count;

	if (dwarf_getsrcfiles(unit, &files, &count) != 0)
		return "?";
	return file_name(dwarf_filesrc(files, die_number(inlined, DW_AT_call_file), NULL, NULL),
	                 dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attr)));
}

/* The innermost place: the line of the address itself. */
static struct source_place innermost(Dwfl_Module *module, Dwarf_Addr address)
{
	struct source_place place = { "?", "?", 0, 0 };
	Dwfl_Line *line = dwfl_module_getsrc(module, address);
	int number = 0, column = 0;
	const char *path;

	if (!line)
		return place;
	path = dwfl_lineinfo(line, NULL, &number, &column, NULL, NULL);
	place.file = file_name(path, dwfl_line_comp_dir(line));
	place.line = (unsigned)number;
	place.column = (unsigned)column;
	return place;
}

/*
 * The scopes around an address, from the inside. Each inlined function says where it was called; that is the
 * place in the function around it.
 */
static void chain_fill(struct source *source, Dwarf_Die *unit, Dwarf_Die *scopes, int count, Dwarf_Addr bias)
{
	for (int i = 0; i < count && source->depth < SOURCE_DEPTH; i++) {
		struct source_place *place = &source->place[source->depth];
		int tag = dwarf_tag(&scopes[i]);
		Dwarf_Addr entry;

		if (tag == DW_TAG_subprogram) {
			place->function = die_name(&scopes[i]);
			source->depth++;
			if (dwarf_lowpc(&scopes[i], &entry) == 0)
				source->function = entry + bias;
			return;
		}
		if (tag != DW_TAG_inlined_subroutine)
			continue;
		place->function = die_name(&scopes[i]);
		source->depth++;
		if (source->depth < SOURCE_DEPTH)
			source->place[source->depth] = (struct source_place){
				"?", call_file(unit, &scopes[i]), die_number(&scopes[i], DW_AT_call_line),
				die_number(&scopes[i], DW_AT_call_column)
			};
	}
}

static void source_look_up(struct source *source, uintptr_t pc)
{
	Dwfl_Module *module = own_module();
	Dwarf_Addr bias = 0, address = pc - 1; /* an address inside the call, not the one after it */
	Dwarf_Die *unit, *scopes = NULL, *nested = NULL, scope;
	int count;

	unit = module ? dwfl_module_addrdie(module, address, &bias) : NULL;
	if (!unit)
		return;
	source->place[0] = innermost(module, address);
	count = dwarf_getscopes(unit, address - bias, &scopes);
	if (count > 0) {
		/*
		 * dwarf_getscopes goes on to where an inlined function was written. The scopes where it
		 * was inlined are wanted here.
		 */
		scope = scopes[0];
		count = dwarf_getscopes_die(&scope, &nested);
		chain_fill(source, unit, nested, count, bias);
	}
	if (!source->depth)
		source->depth = 1;
	free(scopes);
	free(nested);
}

/* --- places found so far --- */

struct known {
	uintptr_t pc;
	struct source *source;
};

static struct known *known_find(uintptr_t pc)
{
	static struct known *table;
	static size_t size, used;
	size_t i;

	if (used * 2 >= size) {
		struct known *old = table;
		size_t old_size = size;

		size = size ? size * 2 : 1024;
		table = memory_get(size * sizeof(*table));
		for (size_t k = 0; k < old_size; k++) {
			if (!old[k].pc)
				continue;
			for (i = old[k].pc * 0x9e3779b97f4a7c15u % size; table[i].pc; i = (i + 1) % size)
				;
			table[i] = old[k];
		}
		free(old);
	}
	for (i = pc * 0x9e3779b97f4a7c15u % size; table[i].pc && table[i].pc != pc; i = (i + 1) % size)
		;
	if (!table[i].pc) {
		table[i].pc = pc;
		used++;
	}
	return &table[i];
}

const struct source *source_of_return(uintptr_t pc)
{
	struct known *known = known_find(pc);

	if (!known->source) {
		known->source = memory_get(sizeof(*known->source));
		source_look_up(known->source, pc);
	}
	return known->source;
}

const char *source_variable(uintptr_t address, uint64_t *offset)
{
	Dwfl_Module *module = own_module();
	GElf_Sym symbol;
	GElf_Off from;
	const char *name = module ? dwfl_module_addrinfo(module, address, &from, &symbol, NULL, NULL, NULL) : NULL;

	if (!name || GELF_ST_TYPE(symbol.st_info) != STT_OBJECT || from >= symbol.st_size)
		return NULL;
	*offset = from;
	return name;
}

const char *source_shown(const char *file)
{
	const char *core = strstr(file, "/core/");

	return core ? core + 1 : file;
}

/* --- the text of a line --- */

struct text_file {
	struct text_file *next;
	char *name, *text;
	unsigned lines;
	char **line;
};

static char *file_read(const char *name)
{
	char path[4096], *text;
	FILE *file;
	long size;

	snprintf(path, sizeof(path), name[0] == '/' ? "%s%s" : "%s/%s", name[0] == '/' ? "" : root, name);
	file = fopen(path, "r");
	if (!file)
		return NULL;
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	rewind(file);
	text = memory_get((size_t)(size < 0 ? 0 : size) + 1);
	text[fread(text, 1, (size_t)(size < 0 ? 0 : size), file)] = '\0';
	fclose(file);
	return text;
}

static void file_split(struct text_file *file)
{
	unsigned lines = 1;

	for (const char *c = file->text; *c; c++)
		lines += *c == '\n';
	file->line = memory_get(lines * sizeof(*file->line));
	for (char *c = file->text; c && *c; file->lines++) {
		file->line[file->lines] = c;
		c = strchr(c, '\n');
		if (c)
			*c++ = '\0';
	}
}

static struct text_file *text_file(const char *name)
{
	static struct text_file *files;
	struct text_file *file;

	for (file = files; file; file = file->next)
		if (!strcmp(file->name, name))
			return file;
	file = memory_get(sizeof(*file));
	file->name = memory_text(name);
	file->text = file_read(name);
	if (file->text)
		file_split(file);
	file->next = files;
	return files = file;
}

const char *source_line(const char *file_wanted, unsigned line)
{
	struct text_file *file = text_file(file_wanted);

	return line == 0 || line > file->lines ? "" : file->line[line - 1];
}

const char *source_text(const char *file, unsigned line)
{
	char *text = (char *)source_line(file, line), *end; /* its memory is text_file's, or "" */

	while (isspace((unsigned char)*text))
		text++;
	for (end = text + strlen(text); end > text && isspace((unsigned char)end[-1]);)
		*--end = '\0';
	return text;
}
