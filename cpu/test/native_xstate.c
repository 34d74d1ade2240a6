/* SPDX-License-Identifier: MIT */
/*
 * A frame begins with an FXSAVE image. Bytes 464 and on of it say whether an XSAVE header and more components follow,
 * in the standard format of XSAVE (Intel SDM vol. 1, 13.4). A component whose bit in the header is clear is in its
 * initial state, whatever its bytes are.
 */
#include "native_xstate.h"

#include <cpuid.h>
#include <string.h>
#include <asm/sigcontext.h>

enum { X87 = 0, SSE = 1, AVX = 2, OPMASK = 5, ZMM_HIGH = 6, ZMM_16 = 7 };
#define BIT(n)     (UINT64_C(1) << (n))
#define COMPONENTS (BIT(X87) | BIT(SSE) | BIT(AVX) | BIT(OPMASK) | BIT(ZMM_HIGH) | BIT(ZMM_16))
#define SW_AREA    464u
#define HEADER     512u

static struct {
	uint64_t xcr0;
	uint32_t offset[8];
	uint8_t kept[HEADER];
} host = { .xcr0 = BIT(X87) | BIT(SSE) };

uint64_t native_xcr0(void)
{
	return host.xcr0;
}

void native_xstate_init(void)
{
	uint32_t a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	host.xcr0 = low & COMPONENTS;
	for (unsigned int i = AVX; i <= ZMM_16; i++)
		if (host.xcr0 >> i & 1 && __get_cpuid_count(0xd, i, &a, &b, &c, &d))
			host.offset[i] = b;
}

void native_xstate_trim(struct gen_state *s)
{
	for (unsigned int i = 0; i < 32; i++) {
		unsigned int bytes = host.xcr0 & BIT(i < 16 ? ZMM_HIGH : ZMM_16) ? 64
				     : i >= 16					? 0
				     : host.xcr0 & BIT(AVX)			? 32
										: 16;

		memset(s->v[i].byte + bytes, 0, sizeof(s->v[i]) - bytes);
	}
	if (!(host.xcr0 & BIT(OPMASK)))
		memset(s->k, 0, sizeof(s->k));
}

static struct _fpx_sw_bytes sw_bytes(const struct _libc_fpstate *frame)
{
	struct _fpx_sw_bytes sw;

	memcpy(&sw, (const uint8_t *)frame + SW_AREA, sizeof(sw));
	return sw;
}

/* The components that are in the frame. */
static uint64_t present(const struct _libc_fpstate *frame)
{
	struct _fpx_sw_bytes sw = sw_bytes(frame);

	return sw.magic1 == FP_XSTATE_MAGIC1 ? sw.xfeatures & host.xcr0 : BIT(X87) | BIT(SSE);
}

static uint64_t header_read(const struct _libc_fpstate *frame)
{
	uint64_t used = BIT(X87) | BIT(SSE);

	if (sw_bytes(frame).magic1 == FP_XSTATE_MAGIC1)
		memcpy(&used, (const uint8_t *)frame + HEADER, sizeof(used));
	return used;
}

static void header_write(struct _libc_fpstate *frame, uint64_t used)
{
	if (sw_bytes(frame).magic1 == FP_XSTATE_MAGIC1)
		memcpy((uint8_t *)frame + HEADER, &used, sizeof(used));
}

/* One component: to the frame, or from it, where one that is not in use is zero. */
static void copy(uint8_t *component, void *reg, size_t size, bool to_frame, bool used)
{
	if (to_frame)
		memcpy(component, reg, size);
	else if (used)
		memcpy(reg, component, size);
	else
		memset(reg, 0, size);
}

static void copy_vectors(uint8_t *frame, struct gen_state *s, uint64_t in_frame, uint64_t used, bool to_frame)
{
	for (unsigned int i = 0; i < 32; i++) {
		uint8_t *v = s->v[i].byte;

		if (i < 16) {
			copy(frame + 160 + 16 * i, v, 16, to_frame, used >> SSE & 1);
			if (in_frame >> AVX & 1)
				copy(frame + host.offset[AVX] + 16 * i, v + 16, 16, to_frame, used >> AVX & 1);
			if (in_frame >> ZMM_HIGH & 1)
				copy(frame + host.offset[ZMM_HIGH] + 32 * i, v + 32, 32, to_frame,
				     used >> ZMM_HIGH & 1);
		} else if (in_frame >> ZMM_16 & 1) {
			copy(frame + host.offset[ZMM_16] + 64 * (i - 16), v, 64, to_frame, used >> ZMM_16 & 1);
		}
	}
	if (in_frame >> OPMASK & 1)
		copy(frame + host.offset[OPMASK], s->k, sizeof(s->k), to_frame, used >> OPMASK & 1);
}

void native_xstate_put(struct _libc_fpstate *frame, const struct gen_state *in)
{
	struct gen_state s = *in;

	frame->mxcsr = s.mxcsr;
	memcpy(frame->_st, s.st, sizeof(s.st));
	frame->cwd = s.fcw;
	frame->swd = s.fsw;
	frame->ftw = s.ftw;
	frame->fop = s.fop;
	frame->rip = s.fip;
	frame->rdp = s.fdp;
	copy_vectors((uint8_t *)frame, &s, present(frame), 0, true);
	header_write(frame, header_read(frame) | present(frame));
}

void native_xstate_get(const struct _libc_fpstate *frame, struct gen_state *out)
{
	/* A signal frame is written by XSAVE, which writes x87 and SSE state whether in use or not. */
	uint64_t used = header_read(frame) | BIT(X87) | BIT(SSE);

	out->mxcsr = frame->mxcsr;
	memcpy(out->st, frame->_st, sizeof(out->st));
	out->fcw = frame->cwd;
	out->fsw = frame->swd;
	out->ftw = (uint8_t)frame->ftw;
	out->fop = frame->fop;
	out->fip = frame->rip;
	out->fdp = frame->rdp;
	copy_vectors((uint8_t *)(uintptr_t)frame, out, present(frame), used, false);
}

void native_xstate_keep(const struct _libc_fpstate *frame)
{
	memcpy(host.kept, frame, SW_AREA);
}

/* The test's own code has no wide registers in use. No x87 exception may be pending in it. */
void native_xstate_restore(struct _libc_fpstate *frame)
{
	memcpy(frame, host.kept, SW_AREA);
	header_write(frame, header_read(frame) & ~(COMPONENTS & ~(BIT(X87) | BIT(SSE))));
}
