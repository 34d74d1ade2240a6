/* SPDX-License-Identifier: MIT */
#include "check/report/calls.h"

#include <Zydis/Zydis.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check/report/memory.h"

/*
 * The program's file, mapped. The program is linked at fixed addresses, so a symbol's value
 * is its address in memory too.
 */
struct image {
	const char *bytes;
	const Elf64_Sym *symbol;
	const char *strings;
	size_t symbols;
	unsigned wanted; /* symbols in `target` */
	struct target {
		uintptr_t address;
		const char *name;
	} *target;
};

static bool image_open(struct image *image)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const Elf64_Ehdr *header;
	const Elf64_Shdr *section;
	struct stat stat;

	if (fd < 0)
		return false;
	if (fstat(fd, &stat) != 0 ||
	    (image->bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED) {
		close(fd);
		return false;
	}
	close(fd);
	header = (const Elf64_Ehdr *)image->bytes;
	section = (const Elf64_Shdr *)(image->bytes + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++)
		if (section[i].sh_type == SHT_SYMTAB) {
			image->symbol = (const Elf64_Sym *)(image->bytes + section[i].sh_offset);
			image->symbols = section[i].sh_size / sizeof(Elf64_Sym);
			image->strings = image->bytes + section[section[i].sh_link].sh_offset;
		}
	return image->symbol && header->e_type == ET_EXEC;
}

static const char *symbol_name(const struct image *image, const Elf64_Sym *symbol)
{
	return image->strings + symbol->st_name;
}

static bool is_function(const Elf64_Sym *symbol)
{
	return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_value && symbol->st_shndx != SHN_UNDEF;
}

static void targets_find(struct image *image, bool (*wanted)(const char *symbol))
{
	for (size_t i = 0; i < image->symbols; i++) {
		const char *name = symbol_name(image, &image->symbol[i]);

		if (!is_function(&image->symbol[i]) || !wanted(name))
			continue;
		image->target = memory_resize(image->target, (image->wanted + 1) * sizeof(*image->target));
		image->target[image->wanted++] = (struct target){ image->symbol[i].st_value, memory_text(name) };
	}
}

static const char *target_at(const struct image *image, uintptr_t address)
{
	for (unsigned i = 0; i < image->wanted; i++)
		if (image->target[i].address == address)
			return image->target[i].name;
	return NULL;
}

/* The constants in the argument registers, as far as one pass over the code knows them. */
struct constants {
	long value[4];
};

static const ZydisRegister argument_register[4] = {
	ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_RSI, ZYDIS_REGISTER_RDX, ZYDIS_REGISTER_RCX
};

static void constants_forget(struct constants *constants)
{
	for (unsigned i = 0; i < 4; i++)
		constants->value[i] = CALL_UNKNOWN;
}

static void constants_follow(struct constants *constants, const ZydisDecodedInstruction *instruction,
                             const ZydisDecodedOperand *operand)
{
	if (instruction->mnemonic == ZYDIS_MNEMONIC_CALL) {
		constants_forget(constants);
		return;
	}
	for (unsigned o = 0; o < instruction->operand_count; o++) {
		ZydisRegister written;

		if (operand[o].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operand[o].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		written = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operand[o].reg.value);
		for (unsigned i = 0; i < 4; i++) {
			if (argument_register[i] != written)
				continue;
			constants->value[i] = CALL_UNKNOWN;
			if (instruction->mnemonic == ZYDIS_MNEMONIC_MOV &&
			    operand[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
				constants->value[i] = (long)operand[1].imm.value.u;
			if (instruction->mnemonic == ZYDIS_MNEMONIC_XOR &&
			    operand[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    operand[1].reg.value == operand[0].reg.value)
				constants->value[i] = 0;
		}
	}
}

static void call_add(struct calls *calls, uintptr_t pc, const char *callee, const char *caller,
                     const struct constants *constants)
{
	struct call *call;

	calls->call = memory_resize(calls->call, (calls->count + 1) * sizeof(*calls->call));
	call = &calls->call[calls->count++];
	*call = (struct call){ .pc = pc, .callee = callee, .caller = memory_text(caller) };
	memcpy(call->argument, constants->value, sizeof(call->argument));
}

/* The target of a call or jump that names its address. */
static bool goes_to(const ZydisDecodedInstruction *instruction, const ZydisDecodedOperand *operand, uintptr_t at,
                    ZyanU64 *to)
{
	if (instruction->mnemonic != ZYDIS_MNEMONIC_CALL && instruction->mnemonic != ZYDIS_MNEMONIC_JMP)
		return false;
	return operand[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	       ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(instruction, &operand[0], at, to));
}

static void function_decode(const ZydisDecoder *decoder, const struct image *image, const Elf64_Sym *symbol,
                            struct calls *calls)
{
	const uint8_t *code = (const uint8_t *)symbol->st_value;
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction instruction;
	struct constants constants;

	constants_forget(&constants);
	for (size_t at = 0; at < symbol->st_size; at += instruction.length) {
		const char *callee;
		ZyanU64 to;

		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, code + at, symbol->st_size - at, &instruction,
		                                         operand)))
			return;
		if (goes_to(&instruction, operand, symbol->st_value + at, &to) && (callee = target_at(image, to)))
			call_add(calls, symbol->st_value + at + instruction.length, callee,
			         symbol_name(image, symbol), &constants);
		constants_follow(&constants, &instruction, operand);
	}
}

static int by_address(const void *a, const void *b)
{
	const struct call *x = a, *y = b;

	return x->pc < y->pc ? -1 : x->pc > y->pc;
}

bool calls_find(bool (*wanted)(const char *symbol), struct calls *calls)
{
	struct image image = { .bytes = NULL };
	ZydisDecoder decoder;

	*calls = (struct calls){ 0, NULL };
	if (!image_open(&image) ||
	    !ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return false;
	targets_find(&image, wanted);
	for (size_t i = 0; i < image.symbols && image.wanted; i++)
		if (is_function(&image.symbol[i]))
			function_decode(&decoder, &image, &image.symbol[i], calls);
	free(image.target);
	if (calls->count)
		qsort(calls->call, calls->count, sizeof(*calls->call), by_address);
	return true;
}
