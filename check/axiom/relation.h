/* SPDX-License-Identifier: MIT */
/* Relations between at most 32 events, as rows of bits, with the operators that papers on memory models use. */
#ifndef CHECK_AXIOM_RELATION_H
#define CHECK_AXIOM_RELATION_H

#include <stdbool.h>
#include <stdint.h>

#define EVENTS 32

struct relation {
	uint32_t row[EVENTS]; /* bit b of row a: (a, b) */
};

static inline uint32_t rel_bit(unsigned event)
{
	return UINT32_C(1) << event;
}

static inline bool rel_has(const struct relation *r, unsigned a, unsigned b)
{
	return r->row[a] >> b & 1;
}

static inline void rel_add(struct relation *r, unsigned a, unsigned b)
{
	r->row[a] |= rel_bit(b);
}

static inline void rel_remove(struct relation *r, unsigned a, unsigned b)
{
	r->row[a] &= ~rel_bit(b);
}

static inline struct relation rel_or(struct relation a, struct relation b)
{
	for (unsigned i = 0; i < EVENTS; i++)
		a.row[i] |= b.row[i];
	return a;
}

/* a ; b */
static inline struct relation rel_then(struct relation a, struct relation b)
{
	struct relation r = { 0 };

	for (unsigned i = 0; i < EVENTS; i++)
		for (uint32_t left = a.row[i]; left; left &= left - 1)
			r.row[i] |= b.row[__builtin_ctz(left)];
	return r;
}

static inline struct relation rel_reflexive(struct relation a, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		a.row[i] |= rel_bit(i);
	return a;
}

/* a+ */
static inline struct relation rel_closure(struct relation a)
{
	for (unsigned via = 0; via < EVENTS; via++)
		for (unsigned i = 0; i < EVENTS; i++)
			if (a.row[i] >> via & 1)
				a.row[i] |= a.row[via];
	return a;
}

static inline bool rel_is_irreflexive(struct relation a)
{
	for (unsigned i = 0; i < EVENTS; i++)
		if (a.row[i] >> i & 1)
			return false;
	return true;
}

static inline bool rel_is_acyclic(struct relation a)
{
	return rel_is_irreflexive(rel_closure(a));
}

#endif
