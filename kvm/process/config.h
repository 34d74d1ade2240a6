/* SPDX-License-Identifier: MIT */
/*
 * What `vmmu run` tells the preload library through the environment. The library reads it once, when the program
 * starts. A client that changes its environment later does not change the configuration.
 */
#ifndef VMMU_KVM_CONFIG_H
#define VMMU_KVM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <vmmu/vm.h>

#define CONFIG_ENV_STATS "VMMU_STATS"   /* "1": print statistics at exit */
#define CONFIG_ENV_TRACE "VMMU_TRACE"   /* a file descriptor or path: names of ioctls and capabilities asked for */
#define CONFIG_ENV_MMU "VMMU_MMU"       /* tdp (default), shadow */
#define CONFIG_ENV_FORMAT "VMMU_FORMAT" /* npt4 (default), npt5, ept4, ept5, ept4-no-ad, ept5-no-ad */
#define CONFIG_ENV_NESTED "VMMU_NESTED" /* "0": guests cannot be hypervisors */
#define CONFIG_ENV_CPU_MODEL "VMMU_CPU_MODEL" /* host (default), v1, v2, v3, v4 */
#define CONFIG_ENV_CPU_ENGINE "VMMU_CPU_ENGINE" /* interpret (default), translate, check */

#define CONFIG_ENV_HOST_MEMORY "VMMU_HOST_MEMORY" /* bytes: a budget for guest memory */
#define CONFIG_ENV_HOST_SWAP "VMMU_HOST_SWAP"     /* a path: a swap file behind it */
#define CONFIG_ENV_HOST_SWAP_SIZE "VMMU_HOST_SWAP_SIZE" /* bytes; default: four times the budget */

#define CONFIG_ENV_HOST_KVM "VMMU_HOST_KVM" /* "1": start programs, too, that cannot have the front end */

#define CONFIG_ENV_WATCH "VMMU_WATCH" /* abstract socket on which the watcher hears that /dev/kvm was asked for */

#define CONFIG_ENV_PROGRAM "VMMU_PROGRAM" /* for vmmu-host: the file of the program that it hosts */
#define CONFIG_ENV_RAW "VMMU_RAW" /* which programs are hosted: auto (default), on, off */

/** Read the environment. Called by the library's constructor, once. */
void config_init(void);

/** The path by which the loader knows this library; NULL before config_init. */
const char *config_library(void);
#define CONFIG_KEPT 13u /* the most that config_kept returns */
/** The variables above that were set, as "NAME=value". The list ends with NULL. */
const char *const *config_kept(void);

bool config_stats(void);
/** May programs be started that cannot have the front end? */
bool config_host_kvm(void);

enum config_raw {
	RAW_AUTO, /* those in which no library can be preloaded, and those that make system calls without libc */
	RAW_ON,   /* all */
	RAW_OFF,  /* none */
};
enum config_raw config_raw(void);
/** The socket to tell that /dev/kvm was asked for, or NULL. */
const char *config_watch(void);
/** Returns: true when guest memory has a budget. `swap_path`: NULL without a swap file. */
bool config_host_memory(uint64_t *budget, const char **swap_path, uint64_t *swap_bytes);
/** Where to append the trace at exit, or NULL. */
const char *config_trace(void);
enum vmmu_mmu config_mmu(void);
/** The format of second-stage tables. Shadow tables have one format only. */
enum vmmu_format config_format(void);
/** May a guest be a hypervisor (SVM), and may it give its own guests nested paging? The second implies the first. */
bool config_nested(void);
bool config_nested_paging(void);

/** The host's TSC rate in kHz, measured once since the library was loaded: at least 5 ms. */
uint32_t config_tsc_khz(void);
/** Is the rate within 250 ppm of the host's? KVM treats such rates as equal. */
bool config_tsc_khz_close(uint32_t khz);

#endif
