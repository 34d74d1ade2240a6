/* SPDX-License-Identifier: MIT */
/*
 * Touching memory that may be gone. The probes are a few instructions at known addresses. When one of them faults, the
 * signal handler sends it to its failure path. If the memory is there, a probe costs nothing but what
 * port/posix/signals.h does to be that handler.
 */
#ifndef PORT_POSIX_PROBE_H
#define PORT_POSIX_PROBE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Read one byte, or write it without a change. Returns: false if that is not possible. May sleep as any page fault. */
bool posix_probe_read(const void *address);
bool posix_probe_write(void *address);

/** memcpy between memory that may be gone and safe memory. Returns: false if part of it was not copied. */
bool posix_probe_copy(void *to, const void *from, size_t bytes);

/** One load. */
bool posix_probe_load(const void *address, unsigned bytes, uint64_t *value);
/** One locked compare-and-swap. */
bool posix_probe_cas(void *address, unsigned bytes, uint64_t old, uint64_t new, bool *swapped);

/** Was the fault a probe's? Then make the probe fail, and return true, as vmmu_posix_signal does. Async-signal-safe. */
bool posix_probe_signal(int signal, siginfo_t *info, void *context);

#endif
