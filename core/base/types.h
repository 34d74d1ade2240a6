/* SPDX-License-Identifier: MIT */
/* Short names for the public address kinds, their conversions, and what every file of core needs from the language. */
#ifndef CORE_BASE_TYPES_H
#define CORE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmmu/types.h>

#include "core/base/size.h"

typedef struct vmmu_gva gva_t;
typedef struct vmmu_gpa gpa_t;
typedef struct vmmu_gfn gfn_t;
typedef struct vmmu_hva hva_t;
typedef struct vmmu_pfn pfn_t;
typedef uint64_t spte_t; /* a table entry, in hardware's format */

#define GFN(x) ((gfn_t){ (x) })
#define GPA(x) ((gpa_t){ (x) })
#define GVA(x) ((gva_t){ (x) })
#define HVA(x) ((hva_t){ (x) })
#define PFN(x) ((pfn_t){ (x) })

#define PAGE_SHIFT VMMU_PAGE_SHIFT
#define PAGE_SIZE  VMMU_PAGE_SIZE
#define ENTRIES    (1u << LEVEL_BITS)

/* Pages that one entry at `level` covers: 1, 512, 262144, ... */
static inline uint64_t level_pages(int level)
{
	return UINT64_C(1) << ((level - 1) * LEVEL_BITS);
}

static inline gfn_t gpa_to_gfn(gpa_t gpa)
{
	return GFN(gpa.v >> PAGE_SHIFT);
}

static inline gpa_t gfn_to_gpa(gfn_t gfn)
{
	return GPA(gfn.v << PAGE_SHIFT);
}

/* The first gfn of the block of `level` that holds `gfn`. */
static inline gfn_t gfn_round(gfn_t gfn, int level)
{
	return GFN(gfn.v & ~(level_pages(level) - 1));
}

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define array_size(a) (sizeof(a) / sizeof((a)[0]))

#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define always_inline inline __attribute__((always_inline))
/*
 * A path that is rarely taken: inlined, it would cost the frequent path the saving of its registers. `unused`: a header
 * may define one for files that do not call it.
 */
#define noinline __attribute__((noinline, unused))
#define cacheline     __attribute__((aligned(64)))

#define BIT(n)           (UINT64_C(1) << (n))
#define BIT_MASK(hi, lo) ((~UINT64_C(0) >> (63 - (hi))) & (~UINT64_C(0) << (lo)))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
