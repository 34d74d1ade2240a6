/* SPDX-License-Identifier: MIT */
/* Segments and descriptor tables in the form that the VMCB has (APM vol. 2, 15.5.1). */
#include "cpu/system/svm_int.h"

uint64_t svm_canonical(const struct cpu *cpu, uint64_t base)
{
	unsigned shift = cpu->p->cr4_valid & CR4_LA57 ? 64 - 57 : 64 - 48;

	return (uint64_t)((int64_t)(base << shift) >> shift);
}

struct vmcb_segment svm_segment_pack(const struct cpu_segment *s)
{
	unsigned bits = (s->type & 15u) | (s->s & 1u) << 4 | (s->dpl & 3u) << 5 |
	                (unsigned)(s->present && !s->unusable) << 7 | (s->avl & 1u) << 8 | (s->l & 1u) << 9 |
	                (s->db & 1u) << 10 | (s->g & 1u) << 11;

	return (struct vmcb_segment){ s->selector, (uint16_t)bits, s->limit, s->base };
}

struct cpu_segment svm_segment_unpack(const struct cpu *cpu, const struct vmcb_segment *from)
{
	unsigned bits = from->attributes;

	return (struct cpu_segment){
		.base = svm_canonical(cpu, from->base), .limit = from->limit, .selector = from->selector,
		.type = bits & 15, .s = bits >> 4 & 1, .dpl = bits >> 5 & 3, .present = bits >> 7 & 1,
		.avl = bits >> 8 & 1, .l = bits >> 9 & 1, .db = bits >> 10 & 1, .g = bits >> 11 & 1,
		.unusable = !(bits >> 7 & 1),
	};
}

struct vmcb_segment svm_table_pack(const struct cpu_table *t)
{
	return (struct vmcb_segment){ .limit = t->limit, .base = t->base };
}

struct cpu_table svm_table_unpack(const struct cpu *cpu, const struct vmcb_segment *from)
{
	return (struct cpu_table){ svm_canonical(cpu, from->base), (uint16_t)from->limit };
}
