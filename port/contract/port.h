/* SPDX-License-Identifier: MIT */
/*
 * What a port supplies, once per binary. This is the file that a porter reads. (struct vmmu_host has what may differ
 * per VM.)
 *
 * Functions are linked in. Those on hot paths come from "port_inline.h", found by include path, which must define:
 *
 *     void  port_pause(void)                 a hint in a spin loop
 *     void  port_rcu_read_lock(void)         an RCU read section; may nest; the caller must not sleep inside
 *     void  port_rcu_read_unlock(void)
 *     struct port_rcu_head                   embedded in objects that are freed by RCU
 *     void *port_pfn_to_ptr(uint64_t pfn)    how the host reaches a frame, and back
 *     uint64_t port_ptr_to_pfn(const void *)
 */
#ifndef PORT_CONTRACT_PORT_H
#define PORT_CONTRACT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "port_inline.h"

/**
 * Sleep until port_wake on the same word, unless *word is no longer `expected` when looked at. May return early for no
 * reason; the caller looks again. A wake that follows a store to *word is never lost (as with a futex).
 */
void port_wait(const uint32_t *word, uint32_t expected);

/** Wake every sleeper on `word`. Never sleeps. */
void port_wake(const uint32_t *word);

/** Give the CPU to another thread, if one wants it. */
void port_yield(void);

/**
 * port_yield for a vCPU's thread that waits for another thread; a moment of sleep will do. A client may forbid the
 * threads of its vCPUs all system calls but futex.
 */
void port_rest(void);

/** Run fn(head) after every RCU read section that is open now has closed. Never sleeps. */
void port_rcu_call(struct port_rcu_head *head, void (*fn)(struct port_rcu_head *head));

/** Wait until every fn that was passed to port_rcu_call before has run. Not in a read section. */
void port_rcu_barrier(void);

/**
 * Copy between safe memory and host memory that may be gone. 4 or 8 bytes, naturally aligned, are one access: nobody
 * may see a guest's table entry half written. Returns: false if part of it could not be reached.
 */
bool port_copy_from_host(void *to, uint64_t hva, size_t bytes);
bool port_copy_to_host(uint64_t hva, const void *from, size_t bytes);

/** One load of 4 or 8 bytes, naturally aligned. Returns: false if the memory is gone. */
bool port_load_from_host(uint64_t hva, unsigned bytes, uint64_t *value);

/**
 * One compare-and-swap of 4 or 8 bytes, naturally aligned, with full ordering.
 * Returns: false if the memory is gone or cannot be written.
 */
bool port_cas_in_host(uint64_t hva, unsigned bytes, uint64_t old, uint64_t new, bool *swapped);

/** A failed ASSERT of a debug build. */
_Noreturn void port_panic(const char *file, int line, const char *what);

/** Report a failed always-on check. Returns. */
void port_warn(const char *file, int line, const char *what);

#endif
