/* SPDX-License-Identifier: MIT */
/*
 * The code around an instruction. Zydis says which operands it has and what it does with them, hidden ones too.
 *
 *     uint64_t code(struct cpu *cpu, void *memory);    %rdi, %rsi. Returns: RFLAGS behind the instruction
 *
 * A vector register of the guest is the same one of the host. General registers are RAX, RCX and RDX as encode.c says,
 * and themselves where the instruction implies them. Legacy instructions keep what is above 16 bytes of a register, so
 * that is what is loaded and stored. VEX and EVEX clear it, so the whole register is stored.
 */
#include <string.h>
#include <sys/mman.h>

#include "cpu/base/private.h"
#include "cpu/stub/code.h"
#include "cpu/stub/stub.h"
#include "cpu/system/host.h"

/* ---- what the instruction reads and writes ----------------------------------------------------------------------- */

#define WRITES (ZYDIS_OPERAND_ACTION_MASK_WRITE)
/* A conditional write keeps the old value otherwise. */
#define READS  (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE)

struct plan {
	bool legacy;
	bool wide;            /* touches more than 16 bytes of a register */
	uint8_t load[32];     /* bytes to load of each vector register; 0: none */
	uint32_t store;       /* vector registers to store */
	uint8_t mmx_load, mmx_store, k_load, k_store; /* sets of registers */
	uint8_t gpr[3];       /* which register of the guest is RAX, RCX, RDX of the host */
	uint8_t gpr_load, gpr_store;
	bool vector;          /* it is an instruction on vectors */
};

static bool plan_vector(struct plan *p, const ZydisDecodedOperand *o, unsigned bytes)
{
	unsigned n = (unsigned)ZydisRegisterGetId(o->reg.value);

	if (((o->actions & READS) || p->legacy) && p->load[n] < bytes)
		p->load[n] = (uint8_t)bytes;
	if (o->actions & WRITES)
		p->store |= 1u << n;
	if (bytes > 16)
		p->wide = true;
	p->vector = true;
	return true;
}

static bool plan_set(struct plan *p, const ZydisDecodedOperand *o, uint8_t *load, uint8_t *store)
{
	uint8_t bit = (uint8_t)(1u << (ZydisRegisterGetId(o->reg.value) & 7));

	if (o->actions & READS)
		*load |= bit;
	if (o->actions & WRITES)
		*store |= bit;
	p->vector = true;
	return true;
}

static bool plan_gpr(struct plan *p, const ZydisDecodedOperand *o)
{
	unsigned n = (unsigned)ZydisRegisterGetId(o->reg.value), host;

	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: host = ENCODE_REG; break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: host = ENCODE_RM; break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: host = ENCODE_VVVV; break;
	case ZYDIS_OPERAND_ENCODING_NONE: host = n; break;
	default: return false;
	}
	/* An implied register must not be another's place. */
	if (host >= 3 || (((p->gpr_load | p->gpr_store) >> host & 1) && p->gpr[host] != n))
		return false;
	p->gpr[host] = (uint8_t)n;
	if (o->actions & READS)
		p->gpr_load |= (uint8_t)(1u << host);
	if (o->actions & WRITES)
		p->gpr_store |= (uint8_t)(1u << host);
	return true;
}

static bool plan_register(struct plan *p, const ZydisDecodedOperand *o)
{
	switch (ZydisRegisterGetClass(o->reg.value)) {
	case ZYDIS_REGCLASS_XMM: return plan_vector(p, o, 16);
	case ZYDIS_REGCLASS_YMM: return plan_vector(p, o, 32);
	case ZYDIS_REGCLASS_ZMM: return plan_vector(p, o, 64);
	case ZYDIS_REGCLASS_MMX: return plan_set(p, o, &p->mmx_load, &p->mmx_store);
	case ZYDIS_REGCLASS_MASK:
		return o->reg.value == ZYDIS_REGISTER_K0 && o->encoding == ZYDIS_OPERAND_ENCODING_MASK ?
		       true : plan_set(p, o, &p->k_load, &p->k_store);
	case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64: return plan_gpr(p, o);
	case ZYDIS_REGCLASS_FLAGS: return true;
	default: return false;
	}
}

static bool plan_memory(const struct insn *insn, struct stub *s, const ZydisDecodedOperand *o)
{
	if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN || o->mem.type != ZYDIS_MEMOP_TYPE_MEM || s->bytes != 0 ||
	    o->size == 0 || o->size > 512)
		return false;
	s->bytes = (uint8_t)(o->size / 8);
	s->masked = masked_describe(insn, o);
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		s->flags |= STUB_READS;
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		s->flags |= STUB_WRITES;
	return true;
}

/* ---- the stub's description ------------------------------------------------------------------------------------ */

/* Legacy instructions with operands of 16 bytes that need not be aligned. */
static bool may_be_unaligned(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVUPS: case ZYDIS_MNEMONIC_MOVUPD: case ZYDIS_MNEMONIC_MOVDQU: case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI: case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI: case ZYDIS_MNEMONIC_PCMPISTRM:
		return true;
	default:
		return false;
	}
}

static uint8_t alignment(const struct insn *insn, const struct stub *s)
{
	/* AMD's processors take any address, and Intel's want 16. The guest sees the former: see STUB_COPY. */
	if (insn->z->meta.isa_set == ZYDIS_ISA_SET_SHA)
		return 1;
	switch (insn->z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_AVX1: case ZYDIS_EXCEPTION_CLASS_E1: case ZYDIS_EXCEPTION_CLASS_E1NF:
		return s->bytes;
	default:
		break;
	}
	if (insn->z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || s->bytes != 16)
		return 1;
	return may_be_unaligned(insn->z->mnemonic) ? 1 : 16;
}

/* Approximations and classification: they raise no exception, and still look at MXCSR for what denormal numbers are. */
static bool looks_at_mxcsr(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VRCP14PS: case ZYDIS_MNEMONIC_VRCP14PD:
	case ZYDIS_MNEMONIC_VRCP14SS: case ZYDIS_MNEMONIC_VRCP14SD:
	case ZYDIS_MNEMONIC_VRSQRT14PS: case ZYDIS_MNEMONIC_VRSQRT14PD:
	case ZYDIS_MNEMONIC_VRSQRT14SS: case ZYDIS_MNEMONIC_VRSQRT14SD:
	case ZYDIS_MNEMONIC_VFPCLASSPS: case ZYDIS_MNEMONIC_VFPCLASSPD:
	case ZYDIS_MNEMONIC_VFPCLASSSS: case ZYDIS_MNEMONIC_VFPCLASSSD:
		return true;
	default:
		return false;
	}
}

/* Zydis does not name MXCSR as an operand. Its classes of exceptions tell who can raise those of floating point. */
static bool computes(const ZydisDecodedInstruction *z)
{
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE2: case ZYDIS_EXCEPTION_CLASS_SSE3:
	case ZYDIS_EXCEPTION_CLASS_AVX2: case ZYDIS_EXCEPTION_CLASS_AVX3: case ZYDIS_EXCEPTION_CLASS_AVX11:
	case ZYDIS_EXCEPTION_CLASS_E2: case ZYDIS_EXCEPTION_CLASS_E2NF:
	case ZYDIS_EXCEPTION_CLASS_E3: case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E11: case ZYDIS_EXCEPTION_CLASS_E11NF:
		return true;
	default:
		return looks_at_mxcsr(z);
	}
}

/* The instruction says itself that no exception is raised, and perhaps how to round. */
static bool suppresses(const ZydisDecodedInstruction *z)
{
	return z->avx.has_sae || z->avx.rounding.mode != ZYDIS_ROUNDING_MODE_INVALID;
}

static bool plan_make(const struct insn *insn, struct plan *p, struct stub *s)
{
	for (unsigned i = 0; i < insn->z->operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->o[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER ? !plan_register(p, o) :
		    o->type == ZYDIS_OPERAND_TYPE_MEMORY ? !plan_memory(insn, s, o) :
		    o->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
	}
	return p->vector || computes(insn->z); /* VCVTSS2SI of memory */
}

static bool describe(const struct insn *insn, const struct plan *p, struct stub *s)
{
	const ZydisDecodedInstruction *z = insn->z;
	const ZydisAccessedFlags *f = z->cpu_flags;

	if (p->mmx_load || p->mmx_store)
		s->flags |= STUB_MMX;
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || p->k_load || p->k_store)
		s->unit = UNIT_AVX512;
	else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		s->unit = UNIT_AVX;
	else
		s->unit = s->flags & STUB_MMX ? UNIT_MMX : UNIT_SSE;
	/* A fault in the stub would come after the MMX registers were moved. */
	if ((s->flags & STUB_MMX) || z->meta.isa_set == ZYDIS_ISA_SET_SHA)
		s->flags |= STUB_COPY;
	if (computes(z))
		s->flags |= suppresses(z) || looks_at_mxcsr(z) ? STUB_SAE : STUB_MXCSR;
	s->align = alignment(insn, s);
	if (f == NULL || (f->modified | f->set_0 | f->set_1 | f->undefined | f->tested) == 0)
		return true;
	/* All of them, though Zydis does not name those that VPTEST and VTESTPS clear. */
	s->flags |= STUB_RFLAGS;
	return f->tested == 0;
}

/* Does the host's kernel keep registers of 64 bytes, and masks? */
static bool host_has_zmm(void)
{
	uint32_t out[4], low, high;

	host_cpuid(1, 0, out);
	if (!(out[2] & 1u << 27)) /* OSXSAVE */
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & 0xe6) == 0xe6;
}

/* ---- emission -------------------------------------------------------------------------------------------------- */

struct emit {
	uint8_t *at;
	bool zmm; /* the host has registers of 64 bytes */
};

static void put(struct emit *e, const void *bytes, size_t n)
{
	memcpy(e->at, bytes, n);
	e->at += n;
}

#define PUT(e, ...) put(e, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* ModRM for `reg` and offset(%rdi). */
static void put_place(struct emit *e, unsigned reg, size_t offset)
{
	uint32_t disp = (uint32_t)offset;

	PUT(e, (uint8_t)(0x80 | (reg & 7) << 3 | 7));
	put(e, &disp, sizeof(disp));
}

/* MOVAPS between a vector register and its place, in the instruction's own encoding family. */
static void put_vector(struct emit *e, bool legacy, bool store, unsigned n, unsigned bytes)
{
	uint8_t high = n >> 3 & 1, higher = n >> 4 & 1, opcode = store ? 0x29 : 0x28;

	if (legacy) {
		if (high)
			PUT(e, 0x44);
		PUT(e, 0x0f, opcode);
	} else if (bytes == 64 || higher) {
		PUT(e, 0x62, (uint8_t)(0x61 | (high ? 0 : 0x80) | (higher ? 0 : 0x10)), 0x7c,
		    (uint8_t)(0x08 | (bytes == 64 ? 0x40 : bytes == 32 ? 0x20 : 0)), opcode);
	} else {
		PUT(e, 0xc5, (uint8_t)((high ? 0 : 0x80) | 0x78 | (bytes == 32 ? 4 : 0)), opcode);
	}
	put_place(e, n, offsetof(struct cpu, s.vectors.v[n]));
}

static void put_gpr(struct emit *e, bool store, unsigned host, unsigned n)
{
	PUT(e, 0x48, store ? 0x89 : 0x8b);
	put_place(e, host, OPR(n));
}

static void put_mmx(struct emit *e, bool store, unsigned n)
{
	size_t place = offsetof(struct cpu, s.fx.st[n]);

	PUT(e, 0x0f, store ? 0x7f : 0x6f);
	put_place(e, n, place);
	if (store) { /* movw $0xffff: the exponent of a register that an MMX instruction wrote */
		PUT(e, 0x66, 0xc7);
		put_place(e, 0, place + 8);
		PUT(e, 0xff, 0xff);
	}
}

/* KMOVQ. Hosts with AVX-512 and without 64-bit masks are not supported. */
static void put_k(struct emit *e, bool store, unsigned n)
{
	PUT(e, 0xc4, 0xe1, 0xf8, store ? 0x91 : 0x90);
	put_place(e, n, offsetof(struct cpu, s.vectors.k[n]));
}

static void put_loads(struct emit *e, const struct plan *p)
{
	for (unsigned i = 0; i < 32; i++)
		if (p->load[i])
			put_vector(e, p->legacy, false, i, p->load[i]);
	for (unsigned i = 0; i < 8; i++) {
		if (p->mmx_load >> i & 1)
			put_mmx(e, false, i);
		if (p->k_load >> i & 1)
			put_k(e, false, i);
	}
	for (unsigned i = 0; i < 3; i++)
		if (p->gpr_load >> i & 1)
			put_gpr(e, false, i, p->gpr[i]);
}

static void put_stores(struct emit *e, const struct plan *p)
{
	for (unsigned i = 0; i < 32; i++)
		if (p->store >> i & 1)
			put_vector(e, p->legacy, true, i, e->zmm ? 64 : 32);
	for (unsigned i = 0; i < 8; i++) {
		if (p->mmx_store >> i & 1)
			put_mmx(e, true, i);
		if (p->k_store >> i & 1)
			put_k(e, true, i);
	}
	for (unsigned i = 0; i < 3; i++)
		if (p->gpr_store >> i & 1)
			put_gpr(e, true, i, p->gpr[i]);
}

static uint16_t emit(const struct insn *insn, const struct plan *p, const struct stub *s, uint8_t *to)
{
	struct emit e = { .at = to, .zmm = host_has_zmm() };

	put_loads(&e, p);
	e.at += encode(insn, e.at);
	if (s->flags & STUB_RFLAGS)
		PUT(&e, 0x9c, 0x41, 0x58); /* pushfq; pop %r8 */
	put_stores(&e, p);
	if (s->flags & STUB_RFLAGS)
		PUT(&e, 0x4c, 0x89, 0xc0); /* mov %r8,%rax */
	if (s->flags & STUB_MMX)
		PUT(&e, 0x0f, 0x77); /* emms: C code may use x87 */
	if (p->wide)
		PUT(&e, 0xc5, 0xf8, 0x77); /* vzeroupper: legacy SSE is slow without */
	PUT(&e, 0xc3);
	return (uint16_t)(e.at - to);
}

/* ---- the store of stubs ---------------------------------------------------------------------------------------- */

#define STUB_MEMORY  (8u << 20) /* of a CPU. Thrown away with its blocks when it is full */
#define STUB_BUCKETS 4096u

struct stubs {
	struct code_memory code;
	const struct stub *bucket[STUB_BUCKETS];
};

bool stubs_init(struct cpu *cpu)
{
	struct stubs *t;

	if (cpu->p->stubs != NULL || !code_is_allowed())
		return true;
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t == MAP_FAILED)
		return false;
	if (!code_map(&t->code, STUB_MEMORY)) {
		munmap(t, sizeof(*t));
		return false;
	}
	cpu->p->stubs = t;
	return true;
}

void stubs_fini(struct cpu *cpu)
{
	struct stubs *t = cpu->p->stubs;

	if (t == NULL)
		return;
	code_unmap(&t->code);
	munmap(t, sizeof(*t));
	cpu->p->stubs = NULL;
}

bool stubs_have_room(const struct cpu *cpu, unsigned count)
{
	const struct stubs *t = cpu->p->stubs;

	return t == NULL || t->code.size - t->code.used >= (size_t)count * STUB_MOST;
}

void stubs_forget(struct cpu *cpu)
{
	struct stubs *t = cpu->p->stubs;

	if (t == NULL)
		return;
	memset(t->bucket, 0, sizeof(t->bucket));
	t->code.used = 0;
}

static uint32_t hash(const uint8_t *bytes, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ bytes[i]) * 16777619u;
	return h ^ h >> 15;
}

/* The stub with the same description and code, or a new one. */
static const struct stub *stub_keep(struct stubs *t, const struct stub *s)
{
	size_t described = offsetof(struct stub, code) - offsetof(struct stub, length);
	const uint8_t *key = (const uint8_t *)&s->length;
	const struct stub **chain = &t->bucket[hash(key, described + s->length) % STUB_BUCKETS], *old;
	struct stub *new;

	for (old = *chain; old != NULL; old = old->next)
		if (memcmp(&old->length, key, described + s->length) == 0)
			return old;
	new = (struct stub *)(t->code.write + t->code.used);
	old = (const struct stub *)(t->code.run + t->code.used);
	t->code.used += (sizeof(*s) + s->length + 15) & ~(size_t)15;
	memcpy(new, s, sizeof(*s) + s->length);
	new->next = *chain;
	*chain = old;
	return old;
}

const struct stub *stub_make(struct cpu *cpu, const struct insn *insn)
{
	struct plan plan = { .legacy = insn->z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY };
	union {
		struct stub s;
		uint8_t bytes[STUB_MOST];
	} made = { .s = { .align = 1 } };

	if (cpu->p->stubs == NULL)
		return NULL;
	if (!plan_make(insn, &plan, &made.s) || !describe(insn, &plan, &made.s))
		return NULL;
	made.s.length = emit(insn, &plan, &made.s, made.s.code);
	return stub_keep(cpu->p->stubs, &made.s);
}
