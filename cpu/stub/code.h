/* SPDX-License-Identifier: MIT */
/* Memory for code that is made at run time. */
#ifndef CPU_STUB_CODE_H
#define CPU_STUB_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The same pages at two addresses: what is written at `write` runs at `run`. No page is ever writable and executable
 * at one address. One thread adds code. As the pages are shared, a child of fork() must not use its parent's.
 */
struct code_memory {
	uint8_t *write;
	const uint8_t *run;
	size_t size, used;
};

/** Map `size` bytes. No page is touched. Returns: false when the host has no memory, or forbids executable memory. */
bool code_map(struct code_memory *m, size_t size);
void code_unmap(struct code_memory *m);

#endif
