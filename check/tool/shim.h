/* SPDX-License-Identifier: MIT */
/*
 * Functions that a program calls in libc's place. The program is linked with --wrap for each of them (shims.opts), so
 * that only its own calls come here, and not those of the libraries that the checker itself uses.
 */
#ifndef CHECK_TOOL_SHIM_H
#define CHECK_TOOL_SHIM_H

#define SHIM(name) __wrap_##name
#define REAL(name) __real_##name

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifdef __clang__
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#endif

#endif
