/* SPDX-License-Identifier: MIT */
/*
 * The library and the signals of a POSIX process (vmmu_host_posix).
 *
 * Host memory may be unmapped, or its file cut short, while the library reads or writes it for the guest. The library
 * then answers VMMU_EFAULT or VMMU_FAULT_HOST. In a process such an access is a SIGSEGV or SIGBUS, and somebody must
 * turn the signal into that answer. There are two ways, and the application chooses.
 *
 * By default the library does all of it. It takes both signals before it first touches guest memory. A signal that is
 * not its own it hands on to the handler that was there, as sigaction(2) would call it. Before each access it checks
 * that its handlers are still installed. If an application, or a library that it uses, has installed its own since,
 * the library takes the signal again and hands on to that one. So VMMU_EFAULT holds whatever is installed, and
 * whenever. The price: each access to guest memory that the library makes costs two system calls, and sigaction shows
 * the application handlers that it did not install. A handler that another thread installs during the access itself is
 * not seen.
 *
 * Or the application owns the signals (vmmu_posix_signals_own). Then the library installs nothing and checks nothing,
 * and the application's handlers for both signals begin with vmmu_posix_signal. An access then costs nothing more.
 *
 * Either way, no thread that calls the library may block these signals: a kernel kills for a blocked fault, whatever
 * handler is installed.
 */
#ifndef VMMU_POSIX_H
#define VMMU_POSIX_H

#include <vmmu/types.h>

VMMU_BEGIN_DECLS

/**
 * From here on the application's handlers for SIGSEGV and SIGBUS call vmmu_posix_signal, and the library installs
 * none. Call it before the first VM is made; later, the library's handlers stay until the application installs its
 * own. Process-wide, for good.
 */
void vmmu_posix_signals_own(void);

/**
 * Was this SIGSEGV or SIGBUS an access of the library to memory that is gone? `info`, `context`: as the handler
 * (SA_SIGINFO) got them. Async-signal-safe.
 * Returns: true if it was; the handler returns, and the access fails. False: the fault is the application's own.
 */
VMMU_MUST_CHECK bool vmmu_posix_signal(int signal, void *info, void *context);

VMMU_END_DECLS

#endif
