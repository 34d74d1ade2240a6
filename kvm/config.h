/* SPDX-License-Identifier: MIT */
/* What `vmmu run` tells the preload library through the environment, read once. */
#ifndef VMMU_KVM_CONFIG_H
#define VMMU_KVM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <vmmu/vm.h>

#define CONFIG_ENV_STATS "VMMU_STATS"   /* "1": print statistics at exit */
#define CONFIG_ENV_TRACE "VMMU_TRACE"   /* a file descriptor or path: names of ioctls and capabilities asked for */
#define CONFIG_ENV_FORMAT "VMMU_FORMAT" /* npt4 (default), npt5, ept4, ept5 */

bool config_stats(void);
/** Where to append the trace at exit, or NULL. */
const char *config_trace(void);
enum vmmu_format config_format(void);

/** The host's TSC rate in kHz, measured once. */
uint32_t config_tsc_khz(void);
/** Is a rate so close to the host's that KVM would call them the same (250 ppm)? */
bool config_tsc_khz_close(uint32_t khz);

#endif
