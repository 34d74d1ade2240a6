/* SPDX-License-Identifier: MIT */
/*
 * IN, OUT, INS, OUTS: permission, and the exits. run/exit.c serves the exits.
 */
#include "cpu/insn/sys_int.h"
#include "cpu/system/debug.h"
#include "cpu/system/intercept.h"

/* The I/O permission bitmap of the TSS must have a 0 for each byte of the port. */
static void bitmap_check(struct cpu *cpu, uint16_t port, unsigned size)
{
	const struct cpu_segment *tr = &cpu->s.seg[CPU_TR];
	uint64_t map, bits;

	if (tr->unusable || !(tr->type & 8) || tr->limit < 103)
		cpu_gp(cpu);
	map = sys_read(cpu, tr->base + 102, 2) + port / 8;
	if (map + 1 > tr->limit)
		cpu_gp(cpu);
	bits = sys_read(cpu, tr->base + map, 2) >> (port & 7);
	if (bits & ((1u << size) - 1))
		cpu_gp(cpu);
}

/* op->sub is the size of an element, op->imm the port, or -1 for DX. */
static uint16_t op_port(const struct cpu *cpu, const struct op *op)
{
	return op->imm < 0 ? (uint16_t)cpu->s.gpr[CPU_RDX] : (uint16_t)op->imm;
}

static bool repeated(const struct op *op)
{
	return op->flags & (OPF_REP | OPF_REPNE);
}

/* What the TSS says about the port, and then what a hypervisor says. `info`: PORT_* that the op does not tell. */
static void port_check(struct cpu *cpu, const struct op *op, uint32_t info)
{
	uint16_t port = op_port(cpu, op);

	if ((cpu->s.cr0 & CR0_PE) && ((cpu->mode & MODE_V86) || cpu->cpl > (cpu->s.rflags >> 12 & 3)))
		bitmap_check(cpu, port, op->sub);
	if (likely(!intercept_port(cpu)))
		return;
	info |= (uint32_t)port << PORT_SHIFT | (uint32_t)op->asize << PORT_ADDRESS_SHIFT |
	        (uint32_t)op->sub << PORT_SIZE_SHIFT;
	if ((info & PORT_STRING) && repeated(op))
		info |= PORT_REPEATED;
	intercept_port_ask(cpu, info);
}

/* What an SMI of the port's device saves, so that its handler can let the instruction run again (APM vol. 2, 10.2). */
static void io_note(struct cpu *cpu, const struct op *op, bool in, bool string)
{
	enum { IN = 1, VALID = 2, STRING = 4, REPEATED = 8, SIZE_SHIFT = 4 };
	struct cpu_private *p = cpu->p;

	p->io_last.valid = true;
	p->io_last.trap = (uint32_t)op_port(cpu, op) << PORT_SHIFT | (uint32_t)op->sub << SIZE_SHIFT | VALID |
	                  (in ? IN : 0) | (string ? STRING : 0) | (string && repeated(op) ? REPEATED : 0);
	p->io_last.rip = op->rip;
	p->io_last.rcx = cpu->s.gpr[CPU_RCX];
	p->io_last.rsi = cpu->s.gpr[CPU_RSI];
	p->io_last.rdi = cpu->s.gpr[CPU_RDI];
}

static void exit_fill(struct cpu *cpu, const struct op *op, bool in, bool string, uint32_t count)
{
	struct cpu_exit_info *exit = &cpu->p->exit;

	io_note(cpu, op, in, string);

	exit->io.in = in;
	exit->io.size = op->sub;
	exit->io.port = op_port(cpu, op);
	exit->io.count = count;
	exit->io.data = cpu->p->io_data;
}

static void op_in(struct cpu *cpu, const struct op *op)
{
	port_check(cpu, op, PORT_IN);
	debug_port(cpu, op_port(cpu, op), op->sub);
	exit_fill(cpu, op, true, false, 1);
	memset(cpu->p->io_data, 0, 8);
	cpu_leave_exit(cpu, CPU_EXIT_IO, COMPLETE_IN);
}

static void op_out(struct cpu *cpu, const struct op *op)
{
	port_check(cpu, op, 0);
	debug_port(cpu, op_port(cpu, op), op->sub);
	exit_fill(cpu, op, false, false, 1);
	memcpy(cpu->p->io_data, &cpu->s.gpr[CPU_RAX], 8);
	cpu_leave_exit(cpu, CPU_EXIT_IO, COMPLETE_OUT);
}

/* ---- strings ------------------------------------------------------------------------------------------- */

static uint64_t address_mask(const struct op *op)
{
	return op->asize == 2 ? 0xffff : op->asize == 4 ? 0xffffffff : ~UINT64_C(0);
}

/* Add to an address or count register, at the address size. */
static void advance(struct cpu *cpu, const struct op *op, unsigned reg, int64_t by)
{
	uint64_t mask = address_mask(op), value = (cpu->s.gpr[reg] + (uint64_t)by) & mask;

	cpu->s.gpr[reg] = op->asize == 2 ? (cpu->s.gpr[reg] & ~mask) | value : value;
}

static uint64_t elements(const struct cpu *cpu, const struct op *op)
{
	return repeated(op) ? cpu->s.gpr[CPU_RCX] & address_mask(op) : 1;
}

/* Store one of the elements that an exit brought. */
static void ins_store(struct cpu *cpu, const struct op *op, bool down)
{
	struct cpu_private *p = cpu->p;
	unsigned size = op->sub;
	uint64_t linear = seg_linear(cpu, CPU_ES, cpu->s.gpr[CPU_RDI] & address_mask(op), size, true);

	mem_write_bytes(cpu, linear, p->io_data + p->io_used * size, size);
	p->io_used++;
	advance(cpu, op, CPU_RDI, down ? -(int64_t)size : (int64_t)size);
	if (repeated(op))
		advance(cpu, op, CPU_RCX, -1);
}

static void op_ins(struct cpu *cpu, const struct op *op)
{
	struct cpu_private *p = cpu->p;
	bool down = cpu->s.rflags & RFLAGS_DF;
	uint64_t count = elements(cpu, op), most, linear;

	if (p->io_have != 0) /* the port was read: debug_port has let this run alone before that */
		debug_port(cpu, op_port(cpu, op), op->sub);
	while (p->io_used < p->io_have && count > 0) {
		ins_store(cpu, op, down);
		count = repeated(op) ? elements(cpu, op) : 0;
		/* A store that a device or the library must make is made before the next one. */
		if ((p->writes_count != 0 || p->shadow.writes_count != 0) && p->io_used < p->io_have && count > 0)
			cpu_leave(cpu, LEAVE_PART);
	}
	if (count == 0) {
		done(cpu, op);
		return;
	}
	if (p->io_have != 0)
		rep_restart(cpu);
	port_check(cpu, op, PORT_IN | PORT_STRING | CPU_ES << PORT_SEGMENT_SHIFT);
	debug_port(cpu, op_port(cpu, op), op->sub);
	linear = seg_linear(cpu, CPU_ES, cpu->s.gpr[CPU_RDI] & address_mask(op), op->sub, true);
	mem_check_write(cpu, linear, op->sub);
	/* Ask for as many elements as fit in the page, so that they can be stored when they come. */
	most = down ? 1 : (4096 - (linear & 0xfff)) / op->sub;
	if (most > CPU_IO_MAX / op->sub)
		most = CPU_IO_MAX / op->sub;
	if (most == 0)
		most = 1;
	exit_fill(cpu, op, true, true, (uint32_t)(count < most ? count : most));
	memset(p->io_data, 0, sizeof(p->io_data));
	p->io_used = 0;
	cpu_leave_exit(cpu, CPU_EXIT_IO, COMPLETE_STRING);
}

static void op_outs(struct cpu *cpu, const struct op *op)
{
	struct cpu_private *p = cpu->p;
	unsigned size = op->sub;
	int64_t step = cpu->s.rflags & RFLAGS_DF ? -(int64_t)size : (int64_t)size;
	uint64_t count = elements(cpu, op);

	if (count == 0) {
		done(cpu, op);
		return;
	}
	port_check(cpu, op, PORT_STRING | (uint32_t)op->seg << PORT_SEGMENT_SHIFT);
	debug_port(cpu, op_port(cpu, op), op->sub);
	mem_read_bytes(cpu, seg_linear(cpu, op->seg, cpu->s.gpr[CPU_RSI] & address_mask(op), size, false), p->io_data,
	               size);
	exit_fill(cpu, op, false, true, 1);
	advance(cpu, op, CPU_RSI, step);
	if (repeated(op))
		advance(cpu, op, CPU_RCX, -1);
	p->exit.reason = CPU_EXIT_IO;
	p->completion = COMPLETE_OUT;
	cpu->s.rip = p->complete_rip = op->rip;
	if (count > 1)
		p->rep_rip = op->rip;
	p->complete_next = count == 1 ? (op->rip + op->len) & cpu->lin_mask : op->rip;
	cpu_leave(cpu, LEAVE_EXIT);
}

/* ---- selection ----------------------------------------------------------------------------------------- */

static op_fn *port_op(const struct insn *insn, struct op *op, unsigned data, op_fn *fn)
{
	op->sub = (uint8_t)(insn->o[data].size / 8);
	if (insn->o[1 - data].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		op->imm = -1;
	else
		op->imm &= 0xff;
	op->flags |= OPF_END;
	return fn;
}

op_fn *io_select(const struct insn *insn, struct op *op)
{
	switch (insn->z->mnemonic) {
	case ZYDIS_MNEMONIC_IN: return port_op(insn, op, 0, op_in);
	case ZYDIS_MNEMONIC_OUT: return port_op(insn, op, 1, op_out);
	case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_INSW: case ZYDIS_MNEMONIC_INSD:
		return port_op(insn, op, 0, op_ins);
	case ZYDIS_MNEMONIC_OUTSB: case ZYDIS_MNEMONIC_OUTSW: case ZYDIS_MNEMONIC_OUTSD:
		return port_op(insn, op, 1, op_outs);
	default: return NULL;
	}
}
