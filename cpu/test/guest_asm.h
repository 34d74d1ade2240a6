/* SPDX-License-Identifier: MIT */
/*
 * Guest code written as assembly beside the test that runs it:
 *
 *     GUEST_ASM(count_up, "mov $3, %eax \n inc %eax \n hlt")
 *     ...
 *     GUEST_LOAD(g, GUEST_CODE, count_up);
 *
 * The code is copied, so only relative references inside it work. Begin 16- or 32-bit code with .code16 or .code32.
 */
#ifndef VMMU_CPU_TEST_GUEST_ASM_H
#define VMMU_CPU_TEST_GUEST_ASM_H

#include <stdint.h>

#define GUEST_ASM(name, text) \
	extern const uint8_t name[], name##_end[]; \
	__asm__(".pushsection .rodata\n.balign 16\n.local " #name "\n.local " #name "_end\n" #name ":\n" text \
	        "\n" #name "_end:\n.code64\n.popsection\n");

#define GUEST_LOAD(g, at, name) guest_code((g), (at), (name), (unsigned)((name##_end) - (name)))

#endif
