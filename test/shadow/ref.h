/* SPDX-License-Identifier: MIT */
/*
 * The reference: paging as the manual describes it, on a flat copy of the guest's memory. It shares nothing with
 * core/guest. It follows the tables of SDM vol. 3, chapter 4, with one function for each paging mode, slow and plain.
 */
#ifndef TEST_SHADOW_REF_H
#define TEST_SHADOW_REF_H

#include <stdbool.h>
#include <stdint.h>

struct ref_cpu {
	uint64_t cr0, cr3, cr4, efer, pdpte[4];
	uint32_t pkru;
	bool user, ac; /* CPL 3; EFLAGS.AC */
};

enum ref_access { REF_READ, REF_WRITE, REF_FETCH };

struct ref_result {
	bool fault;
	uint32_t error;
	uint64_t gpa;
	uint64_t table[5];     /* the frames of the tables that the walk read */
	unsigned tables;
	uint64_t marked_frame[5]; /* the frames in which A or D was set */
	unsigned marked_count;
};

/** Translate, setting A and D in `ram`. Tables outside of [0, bytes) are not present. */
struct ref_result ref_translate(uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva,
                                enum ref_access access);

/** The frames of the tables that a translation reads. It changes nothing. Returns: how many tables. */
unsigned ref_tables(const uint8_t *ram, uint64_t bytes, const struct ref_cpu *cpu, uint64_t gva, uint64_t table[5]);

/** Load the PDPTEs as MOV to CR3 does in PAE mode. */
void ref_load_pdptes(const uint8_t *ram, uint64_t bytes, struct ref_cpu *cpu);

#endif
