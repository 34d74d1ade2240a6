/* SPDX-License-Identifier: MIT */
/* The MSRs that are part of the CPU, and the time stamp counter. */
#include <time.h>

#include "cpu/base/private.h"
#include "cpu/system/control.h"
#include "cpu/system/seg.h"
#include "cpu/system/vmcb.h"

#define MSR_TSC            0x10u
#define MSR_APIC_BASE      0x1bu
#define MSR_SPEC_CTRL      0x48u
#define MSR_SYSENTER_CS    0x174u
#define MSR_SYSENTER_ESP   0x175u
#define MSR_SYSENTER_EIP   0x176u
#define MSR_MISC_ENABLE    0x1a0u
#define MSR_PAT            0x277u
#define MISC_ENABLE_EMON   (UINT64_C(1) << 7)
#define MISC_ENABLE_UNAVAILABLE (1u << 11 | 1u << 12) /* branch trace storage, precise events: the guest only reads */
#define MSR_XSS            0xda0u
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u
#define MSR_VM_CR          0xc0010114u
#define MSR_VM_HSAVE_PA    0xc0010117u

static const uint32_t msr_list[] = {
	MSR_TSC, MSR_APIC_BASE, MSR_SPEC_CTRL, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_MISC_ENABLE,
	MSR_PAT, MSR_XSS, MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE, MSR_GS_BASE,
	MSR_KERNEL_GS_BASE, MSR_TSC_AUX, MSR_VM_HSAVE_PA,
};

size_t cpu_msr_list(const uint32_t **list)
{
	*list = msr_list;
	return sizeof(msr_list) / sizeof(msr_list[0]);
}

static uint64_t host_tsc(void)
{
#if defined(__x86_64__)
	uint64_t tsc;

	/* A guest orders RDTSC by LFENCE, which does nothing here. The fences are made at the RDTSC instead. */
	__builtin_ia32_lfence();
	tsc = __builtin_ia32_rdtsc();
	__builtin_ia32_lfence();
	return tsc;
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

uint64_t cpu_tsc(struct cpu *cpu)
{
	return cpu_tsc_scale(host_tsc(), cpu->s.tsc_ratio) + cpu->s.tsc_offset;
}

/* The variable behind an MSR that is a plain variable; NULL for the others. */
static uint64_t *msr_variable(struct cpu *cpu, uint32_t index)
{
	switch (index) {
	case MSR_APIC_BASE: return &cpu->s.apic_base;
	case MSR_SPEC_CTRL: return &cpu->s.spec_ctrl;
	case MSR_SYSENTER_CS: return &cpu->s.sysenter_cs;
	case MSR_SYSENTER_ESP: return &cpu->s.sysenter_esp;
	case MSR_SYSENTER_EIP: return &cpu->s.sysenter_eip;
	case MSR_MISC_ENABLE: return &cpu->s.misc_enable;
	case MSR_PAT: return &cpu->s.pat;
	case MSR_XSS: return &cpu->s.xss;
	case MSR_EFER: return &cpu->s.efer;
	case MSR_STAR: return &cpu->s.star;
	case MSR_LSTAR: return &cpu->s.lstar;
	case MSR_CSTAR: return &cpu->s.cstar;
	case MSR_SFMASK: return &cpu->s.sfmask;
	case MSR_FS_BASE: return &cpu->s.seg[CPU_FS].base;
	case MSR_GS_BASE: return &cpu->s.seg[CPU_GS].base;
	case MSR_KERNEL_GS_BASE: return &cpu->s.kernel_gs_base;
	case MSR_TSC_AUX: return &cpu->s.tsc_aux;
	case MSR_VM_CR: return &cpu->s.svm.vm_cr;
	case MSR_VM_HSAVE_PA: return &cpu->s.svm.hsave_pa;
	default: return NULL;
	}
}

uint64_t cpu_tsc_read(struct cpu *cpu)
{
	const struct vmcb_control *control = (const struct vmcb_control *)(const void *)cpu->s.svm.control;

	return cpu_tsc(cpu) + (cpu->s.svm.guest ? control->tsc_offset : 0);
}

bool cpu_msr_get(struct cpu *cpu, uint32_t index, uint64_t *value, bool host)
{
	const uint64_t *variable;

	if (index == MSR_TSC) {
		*value = host ? cpu_tsc(cpu) : cpu_tsc_read(cpu);
		return true;
	}
	variable = msr_variable(cpu, index);
	if (variable == NULL)
		return false;
	*value = *variable;
	return true;
}

/* Each byte a memory type that exists: 0, 1, 4, 5, 6, 7. */
bool cpu_pat_is_legal(uint64_t value)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = value >> (8 * i) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static bool msr_is_legal(const struct cpu *cpu, uint32_t index, uint64_t value, bool host)
{
	switch (index) {
	case MSR_LSTAR: case MSR_CSTAR: case MSR_FS_BASE: case MSR_GS_BASE: case MSR_KERNEL_GS_BASE:
	case MSR_SYSENTER_ESP: case MSR_SYSENTER_EIP:
		return canonical_register(cpu, value);
	case MSR_PAT: return cpu_pat_is_legal(value);
	case MSR_TSC_AUX: return value >> 32 == 0;
	case MSR_XSS: return value == 0;
	case MSR_VM_CR: return !(value & ~VM_CR_VALID) && !((value & VM_CR_SVMDIS) && (cpu->s.efer & EFER_SVME));
	case MSR_VM_HSAVE_PA: return host || !(value & (~cpu->p->phys_mask | 0xfff));
	case MSR_MISC_ENABLE: return host || !((cpu->s.misc_enable ^ value) & MISC_ENABLE_UNAVAILABLE);
	case MSR_APIC_BASE: return host || !(value & (~cpu->p->phys_mask | 0x2ff));
	default: return true;
	}
}

/* Registers of 32 bits that Intel refuses to load with more, and AMD loads without it (APM vol. 2, 6.1.2 and 3.2.5). */
static bool has_32_bits(const struct cpu *cpu, uint32_t index)
{
	return !cpu->p->intel && (index == MSR_SYSENTER_ESP || index == MSR_SYSENTER_EIP || index == MSR_TSC_AUX);
}

bool cpu_msr_set(struct cpu *cpu, uint32_t index, uint64_t value, bool host)
{
	uint64_t *variable = msr_variable(cpu, index);

	if (index == MSR_TSC) {
		cpu->s.tsc_offset = value - cpu_tsc_scale(host_tsc(), cpu->s.tsc_ratio);
		return true;
	}
	if (index == MSR_EFER)
		return efer_write(cpu, value, host);
	if (has_32_bits(cpu, index))
		value = (uint32_t)value;
	if (variable == NULL || !msr_is_legal(cpu, index, value, host))
		return false;
	if (index == MSR_MISC_ENABLE && !host) /* the guest cannot change whether performance monitoring is available */
		value = (value & ~MISC_ENABLE_EMON) | (*variable & MISC_ENABLE_EMON);
	if (index == MSR_VM_CR && !host && (*variable & VM_CR_LOCK))
		value = (value & ~(VM_CR_LOCK | VM_CR_SVMDIS)) | (*variable & (VM_CR_LOCK | VM_CR_SVMDIS));
	*variable = value;
	if (index == MSR_FS_BASE || index == MSR_GS_BASE)
		mode_update(cpu);
	return true;
}
