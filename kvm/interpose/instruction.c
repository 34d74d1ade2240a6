/* SPDX-License-Identifier: MIT */
/*
 * Where decoding starts in the middle of an instruction, it goes astray; after some instructions it is nearly always
 * right again. So decoding begins at several places before the bytes in question, and a third of these ways must come
 * to an instruction that begins exactly there: of real ones about half do, of others hardly any.
 */
#include "kvm/interpose/instruction.h"
#include <Zydis/Zydis.h>
#include <string.h>

#define FARTHEST 64u /* where the first way begins, and the last */
#define NEAREST  33u

/* Does decoding from `at` come to an instruction at `wanted`? */
static bool leads_to(const ZydisDecoder *decoder, const uint8_t *code, size_t size, size_t at, size_t wanted)
{
	ZydisDecodedInstruction instruction;

	while (at < wanted) {
		if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(decoder, NULL, code + at, size - at, &instruction)))
			return false;
		at += instruction.length;
	}
	return at == wanted;
}

static bool is_instruction(const ZydisDecoder *decoder, const uint8_t *code, size_t size, size_t at)
{
	unsigned ways = 0, good = 0;

	for (size_t back = NEAREST; back <= FARTHEST && back <= at; back++) {
		ways++;
		good += leads_to(decoder, code, size, at - back, at);
	}
	return good * 3 >= ways;
}

bool instruction_makes_calls(const uint8_t *code, size_t size)
{
	const uint8_t *end = code + size, *at = code;
	ZydisDecoder decoder;

	if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return true;
	while (at < end && (at = memchr(at, 0x0f, (size_t)(end - at)))) {
		if (end - at >= 2 && at[1] == 0x05 && is_instruction(&decoder, code, size, (size_t)(at - code)))
			return true;
		at++;
	}
	return false;
}
