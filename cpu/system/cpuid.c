/* SPDX-License-Identifier: MIT */
/* What the CPU can do, and what it takes from the CPUID that its owner shows to the guest. */
#include <string.h>

#include "cpu/base/owner.h"
#include "cpu/base/private.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/host.h"
#include "cpu/system/model.h"
#include "cpu/system/vector_features.h"
#include "cpu/system/xstate.h"

#define LEAF1_ECX_XSAVE (1u << 26)

/* CPUID 8000_000A EDX. */
#define SVM_FEATURE_NP              (1u << 0)
#define SVM_FEATURE_NRIPS           (1u << 3)
#define SVM_FEATURE_CLEAN           (1u << 5) /* clean bits may be ignored, and are */
#define SVM_FEATURE_FLUSH_BY_ASID   (1u << 6)
#define SVM_FEATURE_DECODE_ASSISTS  (1u << 7)
#define SVM_FEATURE_PAUSE_FILTER    (1u << 10)
#define SVM_FEATURE_PAUSE_THRESHOLD (1u << 12)
#define SVM_FEATURE_VIRTUAL_VMLOAD  (1u << 15)
#define SVM_FEATURE_VGIF            (1u << 16)
#define SVM_ASIDS                   8u        /* as KVM offers to its guests */

/* What CPUID says where the host does the work, or where a guest would miss what the host has. */
#define HOST_1_C    (1u << 30)             /* RDRAND */
#define HOST_7_B    (1u << 3 | 1u << 8 | 1u << 18 | 1u << 19) /* BMI1 BMI2 RDSEED ADX */
#define HOST_7_C    (1u << 27 | 1u << 28)  /* MOVDIRI MOVDIR64B */
#define HOST_7_D    (1u << 14)             /* SERIALIZE */
#define HOST_EXT8_B (1u << 0 | 1u << 9)    /* CLZERO WBNOINVD */

static void features_1(uint32_t out[4])
{
	uint32_t host[4];

	host_cpuid(1, 0, host);
	out[0] = 0x00000f61; /* family 15, model 6, stepping 1 */
	out[1] = 8u << 8;    /* CLFLUSH line: 64 bytes */
	out[2] = 1u << 0     /* SSE3 */
	         | 1u << 13  /* CMPXCHG16B */
	         | 1u << 17  /* PCID */
	         | 1u << 22  /* MOVBE */
	         | 1u << 23  /* POPCNT */
	         | 1u << 26  /* XSAVE */
	         | 1u << 31  /* hypervisor */
	         | (host[2] & HOST_1_C);
	/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
	out[3] = 0x078bfbff;
}

static void features_7(uint32_t subleaf, uint32_t out[4])
{
	uint32_t host[4];

	if (subleaf != 0)
		return;
	host_cpuid(7, 0, host);
	out[1] = 1u << 0     /* FSGSBASE */
	         | 1u << 7   /* SMEP */
	         | 1u << 9   /* ERMS */
	         | 1u << 10  /* INVPCID */
	         | 1u << 13  /* x87 images with selectors of 0 */
	         | 1u << 20  /* SMAP */
	         | 1u << 23  /* CLFLUSHOPT */
	         | 1u << 24  /* CLWB */
	         | (host[1] & HOST_7_B);
	out[2] = 1u << 2     /* UMIP */
	         | 1u << 3   /* PKU */
	         | 1u << 16  /* LA57 */
	         | 1u << 22  /* RDPID */
	         | (host[2] & HOST_7_C);
	out[3] = host[3] & HOST_7_D;
}

/* The sizes are those with every component on. */
static void features_d(uint32_t subleaf, uint32_t out[4])
{
	uint64_t components = xstate_components();
	uint32_t one[4];

	cpu_cpuid_max(1, 0, one);
	if (!(one[2] & LEAF1_ECX_XSAVE))
		return;
	if (subleaf == 0) {
		out[0] = (uint32_t)components;
		out[1] = out[2] = xstate_bytes(components, false);
		out[3] = components >> 32;
	} else if (subleaf == 1) {
		out[0] = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 3; /* XSAVEOPT XSAVEC XGETBV1 XSAVES */
		out[1] = xstate_bytes(components, true);
	} else if (subleaf >= XSTATE_AVX && subleaf < XSTATE_COUNT && (components & XSTATE_BIT(subleaf))) {
		out[0] = xstate_size(subleaf);
		out[1] = xstate_offset(subleaf, 0);
		out[2] = xstate_is_aligned(subleaf) ? 2 : 0;
	}
}

static void features_extended(uint32_t leaf, uint32_t out[4])
{
	static const char name[48] = "vmmu software CPU";
	uint32_t host[4];

	switch (leaf) {
	case 0x80000000:
		out[0] = 0x8000000a;
		memcpy(&out[1], "Auth", 4);
		memcpy(&out[3], "enti", 4);
		memcpy(&out[2], "cAMD", 4);
		break;
	case 0x80000001:
		out[0] = 0x00000f61;
		/* LAHF in 64-bit mode, SVM, CR8 in legacy mode, LZCNT, PREFETCHW */
		out[2] = 1u << 0 | 1u << 2 | 1u << 4 | 1u << 5 | 1u << 8;
		/* SYSCALL, NX, 1 GiB pages, RDTSCP, long mode, and the bits of leaf 1 that AMD repeats. No FXSR_OPT. */
		out[3] = (0x078bfbff & 0x0183f3ff) | 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29;
		break;
	case 0x80000002: case 0x80000003: case 0x80000004:
		memcpy(out, name + 16 * (leaf - 0x80000002), 16);
		break;
	case 0x80000006:
		out[2] = 0x02008140; /* L2: 512 KiB */
		break;
	case 0x80000007:
		out[3] = 1u << 8; /* invariant TSC */
		break;
	case 0x80000008:
		host_cpuid(leaf, 0, host);
		out[0] = 48 | 57 << 8;
		/* x87 images always have the pointers of the last instruction: XSAVEERPTR. */
		out[1] = 1u << 2 | (host[1] & HOST_EXT8_B);
		break;
	case 0x8000000a:
		out[0] = 1;          /* the revision of SVM */
		out[1] = SVM_ASIDS;
		out[3] = SVM_FEATURE_NP | SVM_FEATURE_NRIPS | SVM_FEATURE_CLEAN | SVM_FEATURE_FLUSH_BY_ASID |
		         SVM_FEATURE_DECODE_ASSISTS | SVM_FEATURE_PAUSE_FILTER | SVM_FEATURE_PAUSE_THRESHOLD |
		         SVM_FEATURE_VIRTUAL_VMLOAD | SVM_FEATURE_VGIF;
		break;
	default:
		break;
	}
}

void cpu_cpuid_max(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
	switch (leaf) {
	case 0:
		out[0] = 0xd;
		memcpy(&out[1], "Auth", 4);
		memcpy(&out[3], "enti", 4);
		memcpy(&out[2], "cAMD", 4);
		break;
	case 1: features_1(out); break;
	case 7: features_7(subleaf, out); break;
	case 0xd: features_d(subleaf, out); break;
	default:
		if (leaf >= 0x80000000)
			features_extended(leaf, out);
		break;
	}
	vector_features(leaf, subleaf, out);
	model_restrict(leaf, subleaf, out);
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	if (cpu->p->ops->cpuid == NULL) {
		cpu_cpuid_max(leaf, subleaf, out);
		if (leaf == 0xd && subleaf <= 1 && out[1] != 0)
			out[1] = xstate_bytes(cpu->s.xcr0 | (subleaf == 1 ? cpu->s.xss : 0), subleaf == 1);
	} else {
		uint32_t guest = owner_begin(cpu);

		memset(out, 0, 4 * sizeof(out[0]));
		cpu->p->ops->cpuid(cpu->p->ops_state, leaf, subleaf, out);
		owner_end(guest);
	}
	/* Bits that mirror a control register. */
	if (leaf == 1) {
		out[2] &= ~(1u << 27);
		if ((out[2] & 1u << 26) && (cpu->s.cr4 & CR4_OSXSAVE))
			out[2] |= 1u << 27;
		if (!(cpu->s.apic_base & 1u << 11))
			out[3] &= ~(1u << 9);
	}
	if (leaf == 7 && subleaf == 0) {
		out[2] &= ~(1u << 4);
		if (cpu->s.cr4 & CR4_PKE)
			out[2] |= 1u << 4;
	}
}

static void features_read(struct cpu *cpu, bool max, uint32_t leaf, uint32_t out[4])
{
	if (max)
		cpu_cpuid_max(leaf, 0, out);
	else
		cpu_cpuid(cpu, leaf, 0, out);
}

static uint64_t cr4_from(const uint32_t one[4], const uint32_t seven[4])
{
	uint64_t cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
	               CR4_OSFXSR | CR4_OSXMMEXCPT;

	if (one[2] & 1u << 17)
		cr4 |= CR4_PCIDE;
	if (one[2] & 1u << 26)
		cr4 |= CR4_OSXSAVE;
	if (seven[1] & 1u << 0)
		cr4 |= CR4_FSGSBASE;
	if (seven[1] & 1u << 7)
		cr4 |= CR4_SMEP;
	if (seven[1] & 1u << 20)
		cr4 |= CR4_SMAP;
	if (seven[2] & 1u << 2)
		cr4 |= CR4_UMIP;
	if (seven[2] & 1u << 3)
		cr4 |= CR4_PKE;
	if (seven[2] & 1u << 16)
		cr4 |= CR4_LA57;
	return cr4;
}

/* Intel's processors have no SVM, whatever their CPUID says. */
static void svm_features(struct cpu_private *p, uint32_t ext, const uint32_t svm[4])
{
	p->svm.has_npt = svm[3] & SVM_FEATURE_NP;
	p->svm.has_nrips = svm[3] & SVM_FEATURE_NRIPS;
	p->svm.has_decode_assists = svm[3] & SVM_FEATURE_DECODE_ASSISTS;
	p->svm.has_virtual_vmload = svm[3] & SVM_FEATURE_VIRTUAL_VMLOAD;
	if ((ext & 1u << 2) && !p->intel)
		p->efer_valid |= EFER_SVME;
}

void features_update(struct cpu *cpu)
{
	struct cpu_private *p = cpu->p;
	uint32_t zero[4], one[4], seven[4], ext[4], size[4], xsave[4], svm[4];
	unsigned phys;
	bool max;

	cpu_cpuid(cpu, 0, 0, zero);
	/* Until the owner sets a CPUID, the CPU has everything, as under KVM before KVM_SET_CPUID2. */
	max = zero[0] == 0;
	features_read(cpu, max, 1, one);
	features_read(cpu, max, 7, seven);
	features_read(cpu, max, 0xd, xsave);
	features_read(cpu, max, 0x80000001, ext);
	features_read(cpu, max, 0x80000008, size);
	features_read(cpu, max, 0x8000000a, svm);
	phys = size[0] & 0xff;
	if (phys == 0)
		phys = 36;
	if (phys > 52)
		phys = 52;
	p->phys_mask = (UINT64_C(1) << phys) - 1;
	p->cr4_valid = cr4_from(one, seven);
	p->intel = zero[1] == 0x756e6547 && zero[3] == 0x49656e69 && zero[2] == 0x6c65746e; /* GenuineIntel */
	p->gbpages = ext[3] & 1u << 26;
	p->has_invpcid = seven[1] & 1u << 10;
	p->has_rdtscp = ext[3] & 1u << 27;
	p->has_rdpid = seven[2] & 1u << 22;
	p->efer_valid = EFER_LMA;
	if (ext[3] & 1u << 11)
		p->efer_valid |= EFER_SCE;
	if (ext[3] & 1u << 20)
		p->efer_valid |= EFER_NX;
	if (ext[3] & 1u << 29)
		p->efer_valid |= EFER_LME;
	if (ext[3] & 1u << 25)
		p->efer_valid |= EFER_FFXSR;
	svm_features(p, ext[2], svm);
	p->xcr0_valid = (xsave[0] | (uint64_t)xsave[3] << 32) & xstate_components();
}
