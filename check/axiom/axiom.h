/* SPDX-License-Identifier: MIT */
/*
 * What the memory model allows, computed from its axioms: an oracle for the checker's runtime.
 *
 * The runtime executes programs; the oracle enumerates graphs. It knows only straight-line programs of atomics. For
 * each it tries every reads-from and every modification order, and keeps the graphs that the axioms admit. It shares
 * no code and no idea with the runtime. It is slow, and simple enough to be compared with the papers:
 *
 *     AX_C11  RC11 (Lahav, Vafeiadis, Kang, Hur, Dreyer: "Repairing Sequential Consistency in C/C++11", PLDI 2017),
 *             which forbids cycles of program order and reads-from: no out-of-thin-air values, and no load
 *             buffering
 *     AX_TSO  x86-TSO as axioms (Owens, Sarkar, Sewell, TPHOLs 2009; Alglave, Maranget, Tautschnig, TOPLAS 2014),
 *             for the usual compilation: a sequentially consistent store or fence drains the store buffer,
 *             read-modify-writes are locked, all else is a MOV
 */
#ifndef CHECK_AXIOM_AXIOM_H
#define CHECK_AXIOM_AXIOM_H

#include <stddef.h>
#include <stdint.h>

#define AX_THREADS   4
#define AX_OPS       6  /* the most of one thread */
#define AX_LOCATIONS 4
#define AX_RESULTS   16 /* the most reads of all threads and locations together: an outcome has 64 bits */

enum ax_model { AX_C11, AX_TSO };
enum ax_order { AX_RLX, AX_ACQ, AX_REL, AX_ACQ_REL, AX_SC };
enum ax_kind { AX_LOAD, AX_STORE, AX_ADD, AX_SWAP, AX_CAS, AX_FENCE };

struct ax_op {
	enum ax_kind kind;
	enum ax_order order; /* a failed compare-and-swap is a relaxed load */
	unsigned location;
	unsigned value;      /* what is stored, added or swapped in; 0 to 15 */
	unsigned expected;   /* AX_CAS */
};

struct ax_program {
	unsigned threads, locations; /* locations begin as 0 */
	struct {
		unsigned count;
		struct ax_op op[AX_OPS];
	} thread[AX_THREADS];
};

/*
 * An outcome has four bits for each result, the first result in the lowest. The results are what each
 * load and read-modify-write read, thread by thread in program order, then the last value of each
 * location. Values count modulo 16.
 */
struct ax_outcomes {
	uint64_t *outcome; /* ascending, each once; from malloc */
	size_t count;
	uint64_t graphs; /* how many graphs were tried */
};

/**
 * Enumerate the outcomes of a program. The caller must free() them. Returns: 0; -1 if the program is
 * too large or memory ran out.
 */
int ax_enumerate(const struct ax_program *program, enum ax_model model, struct ax_outcomes *outcomes);

/** How many results an outcome of the program has. */
unsigned ax_results(const struct ax_program *program);

#endif
