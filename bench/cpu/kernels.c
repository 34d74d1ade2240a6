/* SPDX-License-Identifier: MIT */
/*
 * The kernels of whole numbers. They call nothing of a library, and the compiler is told so: it would make memset of
 * loops.
 */
#include "bench/cpu/kernels.h"

#include <stdbool.h>
#include <stddef.h>

#define KIB 1024u
#define MIB (1024u * KIB)

static uint8_t bytes[2 * MIB];
static uint64_t seed;

static void bytes_fill(unsigned count)
{
	seed = 88172645463325252u;
	for (unsigned i = 0; i < count; i++)
		bytes[i] = (uint8_t)(kernel_random(&seed) >> 20);
}

static uint64_t sieve(void)
{
	uint64_t found = 0;

	for (unsigned round = 0; round < 72; round++) {
		for (unsigned i = 0; i < 256 * KIB; i++)
			bytes[i] = 1;
		for (unsigned i = 2; i < 256 * KIB; i++) {
			if (!bytes[i])
				continue;
			found++;
			for (unsigned j = i + i; j < 256 * KIB; j += i)
				bytes[j] = 0;
		}
	}
	return found;
}

static uint64_t crc32(void)
{
	static uint32_t table[256];
	uint32_t crc = ~0u;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (unsigned bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		table[i] = c;
	}
	bytes_fill(128 * KIB);
	for (unsigned round = 0; round < 160; round++) {
		for (unsigned i = 0; i < 128 * KIB; i++)
			crc = table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
	}
	return crc;
}

/* ---- sha256 ---------------------------------------------------------------------------------------------- */

static uint32_t rotate(uint32_t x, unsigned by)
{
	return x >> by | x << (32 - by);
}

/* The constants are the first bits of roots of primes (FIPS 180-4). Others do as well here, and are shorter. */
static void sha256_block(uint32_t state[8], const uint8_t *data, const uint32_t constants[64])
{
	uint32_t w[64], s[8];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 |
		       (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
	for (unsigned i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	for (unsigned i = 0; i < 8; i++)
		s[i] = state[i];
	for (unsigned i = 0; i < 64; i++) {
		uint32_t a = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
		             ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
		uint32_t b = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
		             ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		s[7] = s[6];
		s[6] = s[5];
		s[5] = s[4];
		s[4] = s[3] + a;
		s[3] = s[2];
		s[2] = s[1];
		s[1] = s[0];
		s[0] = a + b;
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] += s[i];
}

static uint64_t sha256(void)
{
	static uint32_t constants[64];
	uint32_t state[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	bytes_fill(64 * KIB);
	for (unsigned i = 0; i < 64; i++)
		constants[i] = (uint32_t)kernel_random(&seed);
	for (unsigned round = 0; round < 160; round++) {
		for (unsigned at = 0; at < 64 * KIB; at += 64)
			sha256_block(state, bytes + at, constants);
	}
	return (uint64_t)state[0] << 32 | state[7];
}

/* ---- data structures --------------------------------------------------------------------------------------- */

static uint64_t hash(void)
{
	static struct {
		uint64_t key, value;
	} slots[32 * KIB];
	const unsigned mask = 32 * KIB - 1;
	uint64_t sum = 0;

	seed = 88172645463325252u;
	for (unsigned i = 0; i <= mask; i++)
		slots[i].key = slots[i].value = 0;
	for (unsigned i = 0; i < 9000000; i++) {
		uint64_t key = kernel_random(&seed) % 20000 + 1;
		unsigned at = (unsigned)(key * 0x9e3779b97f4a7c15u >> 40) & mask;

		while (slots[at].key != 0 && slots[at].key != key)
			at = (at + 1) & mask;
		slots[at].key = key;
		slots[at].value += i;
		sum ^= slots[at].value + at;
	}
	return sum;
}

static int compare_numbers(const uint32_t *a, const uint32_t *b)
{
	return *a < *b ? -1 : *a > *b;
}

static void sort(uint32_t *at, long count, int (*compare)(const uint32_t *, const uint32_t *))
{
	while (count > 1) {
		uint32_t pivot = at[count / 2];
		long low = 0, high = count - 1;

		while (low <= high) {
			while (compare(&at[low], &pivot) < 0)
				low++;
			while (compare(&at[high], &pivot) > 0)
				high--;
			if (low <= high) {
				uint32_t other = at[low];

				at[low++] = at[high];
				at[high--] = other;
			}
		}
		sort(at, high + 1, compare);
		at += low;
		count -= low;
	}
}

static uint64_t quick_sort(void)
{
	static uint32_t numbers[64 * KIB];
	/* The compiler is not to know which function it is. */
	int (*volatile compare)(const uint32_t *, const uint32_t *) = compare_numbers;
	uint64_t sum = 0;

	seed = 88172645463325252u;
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 64 * KIB; i++)
			numbers[i] = (uint32_t)kernel_random(&seed);
		sort(numbers, 64 * KIB, compare);
		sum = sum * 31 + numbers[round * 1000];
	}
	return sum;
}

/* Follow a chain through `count` lines of 64 bytes, in an order that no prefetcher knows. */
static uint64_t chase_through(uint32_t (*lines)[16], uint32_t count, unsigned steps)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < count; i++)
		lines[i][0] = i;
	for (uint32_t i = count - 1; i > 0; i--) { /* one cycle through all of them */
		uint32_t other = (uint32_t)(kernel_random(&seed) % i), saved = lines[i][0];

		lines[i][0] = lines[other][0];
		lines[other][0] = saved;
	}
	for (unsigned i = 0; i < steps; i++)
		at = lines[at][0];
	return at;
}

static uint64_t chase(void)
{
	static uint32_t lines[32 * MIB / 64][16] __attribute__((aligned(4096)));

	seed = 88172645463325252u;
	return chase_through(lines, 16 * KIB / 64, 20000000) ^ chase_through(lines, MIB / 64, 4000000) ^
	       chase_through(lines, 32 * MIB / 64, 1000000);
}

struct body {
	struct body *next;
	int32_t place[3], speed[3];
	uint16_t kind, hits;
	uint8_t alive, age;
};

static void body_move(struct body *body)
{
	for (unsigned i = 0; i < 3; i++) {
		body->place[i] += body->speed[i];
		if (body->place[i] < 0 || body->place[i] > 100000) {
			body->speed[i] = -body->speed[i];
			body->hits++;
		}
	}
	if (body->hits > 100 && body->kind != 3) {
		body->kind = (uint16_t)((body->kind + 1) & 3);
		body->hits = 0;
		body->age++;
	}
	body->alive = body->age < 200;
}

static uint64_t structs(void)
{
	static struct body bodies[1000];
	uint64_t sum = 0;

	seed = 88172645463325252u;
	for (unsigned i = 0; i < 1000; i++) {
		struct body *b = &bodies[i];

		*b = (struct body){ .next = i < 999 ? &bodies[(i * 7 + 1) % 1000] : NULL, .alive = 1 };
		for (unsigned j = 0; j < 3; j++) {
			b->place[j] = (int32_t)(kernel_random(&seed) % 100000);
			b->speed[j] = (int32_t)(kernel_random(&seed) % 2000) - 1000;
		}
	}
	for (unsigned round = 0; round < 7500; round++) {
		struct body *b = &bodies[round % 1000];

		for (unsigned i = 0; i < 1000 && b; i++, b = b->next) {
			body_move(b);
			if (b->alive)
				sum += (uint64_t)b->place[0] + b->kind;
		}
	}
	return sum;
}

/* ---- text --------------------------------------------------------------------------------------------------- */

static size_t length_of(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

static int compare_text(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *(const uint8_t *)a - *(const uint8_t *)b;
}

static char *copy_text(char *to, const char *from)
{
	while ((*to = *from++))
		to++;
	return to;
}

static uint64_t string(void)
{
	static char words[1000][32], line[64];
	uint64_t sum = 0;

	seed = 88172645463325252u;
	for (unsigned i = 0; i < 1000; i++) {
		unsigned length = 4 + (unsigned)(kernel_random(&seed) % 24);

		for (unsigned j = 0; j < length; j++)
			words[i][j] = (char)('a' + kernel_random(&seed) % 3);
		words[i][length] = 0;
	}
	for (unsigned i = 0; i < 700000; i++) {
		const char *a = words[i % 1000], *b = words[i * 7 % 1000];
		char *end = copy_text(copy_text(line, a), b);

		sum += length_of(line) + (uint64_t)(end - line);
		if (compare_text(a, b) < 0)
			sum = sum * 3 + (uint8_t)line[5];
	}
	return sum;
}

/* ---- interpreting ------------------------------------------------------------------------------------------- */

enum { LOAD, ADD, XOR, STORE, DECREMENT, BRANCH, MULTIPLY, SHIFT, STOP };

static uint64_t bytecode(void)
{
	/* The compiler is not to know the program. */
	static volatile uint8_t source[] = { LOAD, 0, ADD, 1, STORE, 0, XOR, 2, SHIFT, 3, ADD, 3, STORE, 1,
		                             LOAD, 1, MULTIPLY, 3, ADD, 0, STORE, 2, DECREMENT, 4, BRANCH, 0, STOP };
	static uint8_t program[sizeof(source)];
	uint64_t r[8] = { 1, 2, 88172645463325252u, 5, 2000000 }, a = 0;
	const uint8_t *at = program;

	for (unsigned i = 0; i < sizeof(source); i++)
		program[i] = source[i];
	for (;;) {
		switch (*at++) {
		case LOAD: a = r[*at++ & 7]; break;
		case ADD: a += r[*at++ & 7]; break;
		case XOR: a ^= r[*at++ & 7]; break;
		case STORE: r[*at++ & 7] = a; break;
		case DECREMENT: a = --r[*at++ & 7]; break;
		case BRANCH: at = a ? program + *at : at + 1; break;
		case MULTIPLY: a *= r[*at++ & 7]; break;
		case SHIFT: a = a >> (*at & 63) | a << (64 - (*at & 63)); at++; break;
		default: return r[0] ^ r[1] ^ r[2];
		}
	}
}

static __attribute__((noinline)) uint64_t fibonacci(unsigned n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t fib(void)
{
	return fibonacci(34);
}

/* ---- lz ------------------------------------------------------------------------------------------------------- */

#define LZ_BYTES (256u * KIB)
#define LZ_FROM  MIB        /* where in bytes[] the compressed form is */
#define LZ_BACK  (MIB + MIB / 2) /* and what comes out of it again */

static uint32_t four(unsigned at)
{
	return bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 |
	       (uint32_t)bytes[at + 3] << 24;
}

/* A literal is 0 and the byte; a match is its length, at least 4, and the distance. Returns: where the output ends. */
static unsigned lz_pack(uint32_t *heads)
{
	unsigned at = 0, out = LZ_FROM;

	while (at + 4 < LZ_BYTES) {
		unsigned slot = four(at) * 2654435761u >> 20, from = heads[slot], length = 0;

		heads[slot] = at;
		if (from < at && at - from < 65536)
			while (length < 255 && at + length < LZ_BYTES && bytes[from + length] == bytes[at + length])
				length++;
		if (length >= 4) {
			bytes[out++] = (uint8_t)length;
			bytes[out++] = (uint8_t)(at - from);
			bytes[out++] = (uint8_t)((at - from) >> 8);
			at += length;
		} else {
			bytes[out++] = 0;
			bytes[out++] = bytes[at++];
		}
	}
	return out;
}

static unsigned lz_unpack(unsigned end)
{
	unsigned out = LZ_BACK;

	for (unsigned at = LZ_FROM; at < end;) {
		unsigned length = bytes[at++];

		if (length) {
			unsigned distance = bytes[at] | (unsigned)bytes[at + 1] << 8;

			at += 2;
			for (; length; length--, out++)
				bytes[out] = bytes[out - distance];
		} else {
			bytes[out++] = bytes[at++];
		}
	}
	return out;
}

static uint64_t lz(void)
{
	static uint32_t heads[4096];
	uint64_t sum = 0;

	seed = 88172645463325252u;
	for (unsigned i = 0; i < LZ_BYTES; i++)
		bytes[i] = i > 512 && kernel_random(&seed) % 16 ? bytes[i - 1 - (seed >> 9) % 4 * 100]
		                                                : (uint8_t)(seed >> 30 & 15);
	for (unsigned round = 0; round < 24; round++) {
		unsigned end;

		for (unsigned i = 0; i < 4096; i++)
			heads[i] = LZ_BYTES;
		end = lz_pack(heads);
		sum = sum * 31 + end + lz_unpack(end);
		for (unsigned i = 0; i < LZ_BYTES; i += 64)
			sum += bytes[LZ_BACK + i];
	}
	return sum;
}

const struct kernel kernels[] = {
	{ "sieve of 256 KiB", sieve },
	{ "crc32", crc32 },
	{ "sha256", sha256 },
	{ "hash", hash },
	{ "qsort", quick_sort },
	{ "chase", chase },
	{ "string", string },
	{ "bytecode", bytecode },
	{ "fib", fib },
	{ "lz", lz },
	{ "large code", large_code },
	{ "structs", structs },
	{ "matrix multiply", matrix_multiply },
	{ "double multiply-add", double_multiply_add },
	{ "x87", x87 },
	{ NULL, NULL },
};
