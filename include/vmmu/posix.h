/* SPDX-License-Identifier: MIT */
/*
 * The library and the signals of a POSIX process (vmmu_host_posix).
 *
 * Host memory may be unmapped, or its file cut short, while the library reads or writes it for the guest: it then
 * answers VMMU_EFAULT or VMMU_FAULT_HOST. In a process such an access is a SIGSEGV or SIGBUS, and somebody must turn it
 * into that answer. There are two ways, and the application chooses.
 *
 * Unless it says otherwise the library does all of it. It takes both signals before it first touches guest memory,
 * hands on what is not its own to the handler that was there, as sigaction(2) would call it, and before each access
 * looks whether its handlers are still the ones installed. Where an application, or a library that it uses, has
 * installed its own since, the library takes the signal again and hands on to that one. So VMMU_EFAULT holds whatever
 * is installed and when. It costs two system calls for each access to guest memory that the library makes, and
 * sigaction tells the application of handlers that it did not install. A handler that is installed by another thread
 * during the access itself is not seen.
 *
 * Or the application owns the signals (vmmu_posix_signals_own): the library installs nothing and asks for nothing, and
 * the application's handlers for both signals begin with vmmu_posix_signal. An access costs nothing more then.
 *
 * Either way neither signal may be blocked on a thread that calls the library: a kernel kills for a blocked fault,
 * whatever is installed.
 */
#ifndef VMMU_POSIX_H
#define VMMU_POSIX_H

#include <vmmu/types.h>

VMMU_BEGIN_DECLS

/**
 * The application's handlers for SIGSEGV and SIGBUS call vmmu_posix_signal from here on, and the library installs none.
 * Before the first VM is made; after it the library's handlers stay installed until the application installs its own.
 * Process-wide, for good.
 */
void vmmu_posix_signals_own(void);

/**
 * Was this SIGSEGV or SIGBUS an access of the library to memory that is gone? `info`, `context`: as the handler
 * (SA_SIGINFO) got them. Async-signal-safe.
 * Returns: true when it was: the handler returns, and the access fails. False: the fault is the application's own.
 */
VMMU_MUST_CHECK bool vmmu_posix_signal(int signal, void *info, void *context);

VMMU_END_DECLS

#endif
