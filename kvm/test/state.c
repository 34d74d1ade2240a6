/* SPDX-License-Identifier: MIT */
/*
 * The state that a client sets is the state that it gets. Interrupts, NMIs, windows, I/O and MMIO, as a small device
 * model sees them.
 */
#include "check.h"
#include <stddef.h>
#include <sys/eventfd.h>

static void code(struct machine *m, const void *bytes, size_t size)
{
	memcpy(m->memory + 0x1000, bytes, size);
}
#define CODE(m, ...)                                                                                               \
	do {                                                                                                       \
		static const uint8_t bytes_[] = { __VA_ARGS__ };                                                   \
		code(m, bytes_, sizeof(bytes_));                                                                   \
	} while (0)

/* Real-mode interrupt vector: handler at 0:address. */
static void vector(struct machine *m, unsigned number, uint16_t address)
{
	const uint16_t entry[2] = { address, 0 };

	memcpy(m->memory + number * 4, entry, 4);
}

static int run(struct machine *m)
{
	return ioctl(m->vcpu[0], KVM_RUN, 0) == 0 ? (int)m->run[0]->exit_reason : -errno;
}

static bool out_to(struct machine *m, unsigned port)
{
	return m->run[0]->exit_reason == KVM_EXIT_IO && m->run[0]->io.direction == KVM_EXIT_IO_OUT &&
	       m->run[0]->io.port == port;
}

static void test_registers(void)
{
	struct machine m;
	struct kvm_regs regs, back;
	struct kvm_fpu fpu, fpu_back;
	struct kvm_xsave xsave, xsave_back;
	struct kvm_debugregs debug, debug_back;
	struct kvm_sregs sregs;
	struct kvm_sregs2 sregs2;
	struct kvm_mp_state mp;
	struct kvm_translation translation = { .linear_address = 0x1234 };

	machine_make(&m, 1, 16 * PAGE);
	for (unsigned i = 0; i < sizeof(regs) / 8; i++)
		((uint64_t *)&regs)[i] = 0x0111111111111111 * (i + 1);
	regs.rflags = 0x246;
	CHECK(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0 && ioctl(m.vcpu[0], KVM_GET_REGS, &back) == 0);
	CHECK(memcmp(&regs, &back, sizeof(regs)) == 0);

	NEED(ioctl(m.vcpu[0], KVM_GET_FPU, &fpu) == 0);
	for (unsigned i = 0; i < 16; i++)
		memset(fpu.xmm[i], (int)i + 1, 16);
	for (unsigned i = 0; i < 8; i++)
		memset(fpu.fpr[i], (int)i + 1, 10);
	fpu.fcw = 0x27f;
	fpu.fsw = 0x1000;
	fpu.ftwx = 0xff;
	CHECK(ioctl(m.vcpu[0], KVM_SET_FPU, &fpu) == 0 && ioctl(m.vcpu[0], KVM_GET_FPU, &fpu_back) == 0);
	CHECK(memcmp(fpu.xmm, fpu_back.xmm, sizeof(fpu.xmm)) == 0 && memcmp(fpu.fpr[3], fpu_back.fpr[3], 10) == 0);
	CHECK(fpu_back.fcw == 0x27f && fpu_back.fsw == 0x1000 && fpu_back.ftwx == 0xff);

	NEED(ioctl(m.vcpu[0], KVM_GET_XSAVE, &xsave) == 0);
	memset((char *)xsave.region + 160, 0x77, 256);
	xsave.region[512 / 4] |= 3; /* x87 and SSE are in the image */
	CHECK(ioctl(m.vcpu[0], KVM_SET_XSAVE, &xsave) == 0 && ioctl(m.vcpu[0], KVM_GET_XSAVE, &xsave_back) == 0);
	CHECK(memcmp((char *)xsave_back.region + 160, (char *)xsave.region + 160, 256) == 0);

	NEED(ioctl(m.vcpu[0], KVM_GET_DEBUGREGS, &debug) == 0);
	debug.db[0] = 0x1000;
	debug.db[3] = 0x4000;
	debug.dr7 = 0x402;
	CHECK(ioctl(m.vcpu[0], KVM_SET_DEBUGREGS, &debug) == 0 &&
	      ioctl(m.vcpu[0], KVM_GET_DEBUGREGS, &debug_back) == 0);
	CHECK(memcmp(debug.db, debug_back.db, sizeof(debug.db)) == 0 && debug_back.dr7 == 0x402);

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0 && ioctl(m.vcpu[0], KVM_GET_SREGS2, &sregs2) == 0);
	CHECK(memcmp(&sregs, &sregs2, offsetof(struct kvm_sregs2, flags)) == 0);
	sregs2.gdt.base = 0x5000;
	sregs2.gdt.limit = 0x37;
	CHECK(ioctl(m.vcpu[0], KVM_SET_SREGS2, &sregs2) == 0 && ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	CHECK(sregs.gdt.base == 0x5000 && sregs.gdt.limit == 0x37);

	CHECK(ioctl(m.vcpu[0], KVM_GET_MP_STATE, &mp) == 0 && mp.mp_state == KVM_MP_STATE_RUNNABLE);
	CHECK(ioctl(m.vcpu[0], KVM_TRANSLATE, &translation) == 0);
	CHECK(translation.valid && translation.physical_address == 0x1234);
	CHECK(ioctl(m.vcpu[0], KVM_GET_TSC_KHZ, 0) > 100000);
	machine_free(&m, 1);
}

/* An x87 exception that the client sets is pending in the guest: ES and B follow from the status and control words. */
static void test_pending_exception(void)
{
	static const uint16_t status[2] = { 0x8084, 0x0004 };
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	CODE(&m, 0x0f, 0xae, 0x06, 0x00, 0x30, 0xf4); /* fxsave [0x3000]; hlt */
	for (int masked = 0; masked < 2; masked++) {
		struct kvm_fpu fpu = { .fcw = masked ? 0x37f : 0x37b, .fsw = masked ? 0x8084 : 0x0004 };
		uint16_t words[2];

		machine_start(&m, 0, 0x1000);
		NEED(ioctl(m.vcpu[0], KVM_SET_FPU, &fpu) == 0);
		CHECK(run(&m) == KVM_EXIT_HLT);
		memcpy(words, m.memory + 0x3000, sizeof(words));
		CHECK(words[0] == fpu.fcw);
		CHECK(words[1] == status[masked]);
	}
	machine_free(&m, 1);
}

static void test_clock(void)
{
	struct machine m;
	struct kvm_clock_data clock = { .clock = 1000000000000ull }, back;

	machine_make(&m, 1, 16 * PAGE);
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &clock) == 0);
	CHECK(ioctl(m.vm, KVM_GET_CLOCK, &back) == 0);
	CHECK(back.clock >= clock.clock && back.clock < clock.clock + 60000000000ull);
	clock.flags = 0x80000000;
	errno = 0;
	CHECK(ioctl(m.vm, KVM_SET_CLOCK, &clock) == -1 && errno == EINVAL);
	machine_free(&m, 1);
}

static void test_io(void)
{
	struct machine m;
	struct kvm_regs regs;
	uint8_t *data;

	machine_make(&m, 1, 16 * PAGE);
	/* mov dx, 0x55; in eax, dx (66); out dx, ax; hlt */
	CODE(&m, 0xba, 0x55, 0x00, 0x66, 0xed, 0xef, 0xf4);
	CHECK(run(&m) == KVM_EXIT_IO && m.run[0]->io.direction == KVM_EXIT_IO_IN && m.run[0]->io.size == 4);
	CHECK(m.run[0]->io.port == 0x55 && m.run[0]->io.count == 1);
	data = (uint8_t *)m.run[0] + m.run[0]->io.data_offset;
	memcpy(data, "\x11\x22\x33\x44", 4);
	CHECK(run(&m) == KVM_EXIT_IO && out_to(&m, 0x55) && m.run[0]->io.size == 2);
	CHECK(data[0] == 0x11 && data[1] == 0x22);
	CHECK(run(&m) == KVM_EXIT_HLT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rax == 0x44332211 && regs.rip == 0x1007);

	/* mov si, 0x2000; mov cx, 5; mov dx, 0x66; cld; rep outsb; hlt */
	CODE(&m, 0xbe, 0x00, 0x20, 0xb9, 0x05, 0x00, 0xba, 0x66, 0x00, 0xfc, 0xf3, 0x6e, 0xf4);
	memcpy(m.memory + 0x2000, "hello", 5);
	machine_start(&m, 0, 0x1000);
	{
		char got[16] = "";
		unsigned n = 0;

		while (run(&m) == KVM_EXIT_IO && out_to(&m, 0x66) && n < 5) {
			memcpy(got + n, data, m.run[0]->io.count);
			n += m.run[0]->io.count;
		}
		CHECK(n == 5 && strcmp(got, "hello") == 0 && m.run[0]->exit_reason == KVM_EXIT_HLT);
	}
	machine_free(&m, 1);
}

static void test_mmio(void)
{
	struct machine m;
	struct kvm_regs regs;
	uint8_t *rom = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	machine_make(&m, 1, 16 * PAGE);
	/* mov ax, 0x9000; mov ds, ax; mov eax, [0x10] (66); mov [0x20], al; hlt. No memory is at 0x90000. */
	CODE(&m, 0xb8, 0x00, 0x90, 0x8e, 0xd8, 0x66, 0xa1, 0x10, 0x00, 0xa2, 0x20, 0x00, 0xf4);
	CHECK(run(&m) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == 0x90010 && m.run[0]->mmio.len == 4);
	CHECK(!m.run[0]->mmio.is_write);
	memcpy(m.run[0]->mmio.data, "\x78\x56\x34\x12", 4);
	CHECK(run(&m) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == 0x90020 && m.run[0]->mmio.len == 1);
	CHECK(m.run[0]->mmio.is_write && m.run[0]->mmio.data[0] == 0x78);
	CHECK(run(&m) == KVM_EXIT_HLT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rax == 0x12345678);

	/* The same on read-only memory: a read does not exit, and a write exits and changes nothing. */
	NEED(machine_slot(m.vm, 1, KVM_MEM_READONLY, 0x90000, PAGE, rom) == 0);
	memcpy(rom + 0x10, "\x21\x43\x65\x87", 4);
	machine_start(&m, 0, 0x1000);
	CHECK(run(&m) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == 0x90020 && m.run[0]->mmio.is_write);
	CHECK(m.run[0]->mmio.data[0] == 0x21);
	CHECK(run(&m) == KVM_EXIT_HLT && rom[0x20] == 0);
	machine_free(&m, 1);
	munmap(rom, PAGE);
}

static void test_interrupts(void)
{
	struct machine m;
	struct kvm_interrupt interrupt = { .irq = 0x40 };

	machine_make(&m, 1, 16 * PAGE);
	/* sti; nop; jmp -3 */
	CODE(&m, 0xfb, 0x90, 0xeb, 0xfd);
	/* The handlers: out 0x40, al; iret -- out 2, al; iret */
	memcpy(m.memory + 0x1100, "\xe6\x40\xcf", 3);
	memcpy(m.memory + 0x1200, "\xe6\x02\xcf", 3);
	vector(&m, 0x40, 0x1100);
	vector(&m, 2, 0x1200);
	m.run[0]->request_interrupt_window = 1;
	CHECK(run(&m) == KVM_EXIT_IRQ_WINDOW_OPEN);
	CHECK(m.run[0]->if_flag && m.run[0]->ready_for_interrupt_injection);
	m.run[0]->request_interrupt_window = 0;
	CHECK(ioctl(m.vcpu[0], KVM_INTERRUPT, &interrupt) == 0);
	CHECK(run(&m) == KVM_EXIT_IO && out_to(&m, 0x40));
	CHECK(!m.run[0]->if_flag && !m.run[0]->ready_for_interrupt_injection);
	m.run[0]->request_interrupt_window = 1;
	CHECK(run(&m) == KVM_EXIT_IRQ_WINDOW_OPEN);
	m.run[0]->request_interrupt_window = 0;
	CHECK(ioctl(m.vcpu[0], KVM_NMI, 0) == 0);
	CHECK(run(&m) == KVM_EXIT_IO && out_to(&m, 2));
	machine_free(&m, 1);
}

static void test_ioeventfd(void)
{
	struct machine m;
	int port_fd = eventfd(0, EFD_NONBLOCK), address_fd = eventfd(0, EFD_NONBLOCK);
	struct kvm_ioeventfd port = { .addr = 0x77, .len = 1, .datamatch = 5, .fd = port_fd,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH };
	struct kvm_ioeventfd address = { .addr = 0x90000, .fd = address_fd };
	uint64_t count = 0;

	machine_make(&m, 1, 16 * PAGE);
	/*
	 * mov al, 5; out 0x77, al; mov al, 6; out 0x77, al; mov ax, 0x9000; mov ds, ax; mov [0], ax; mov [2], ax; hlt
	 */
	CODE(&m, 0xb0, 0x05, 0xe6, 0x77, 0xb0, 0x06, 0xe6, 0x77, 0xb8, 0x00, 0x90, 0x8e, 0xd8, 0xa3, 0x00, 0x00,
	     0xa3, 0x02, 0x00, 0xf4);
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == 0);
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &address) == 0);
	errno = 0;
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == -1 && errno == EEXIST);
	CHECK(run(&m) == KVM_EXIT_IO && out_to(&m, 0x77)); /* the OUT of 6: the ioeventfd took that of 5 */
	CHECK(read(port_fd, &count, 8) == 8 && count == 1);
	CHECK(run(&m) == KVM_EXIT_MMIO && m.run[0]->mmio.phys_addr == 0x90002);
	CHECK(read(address_fd, &count, 8) == 8 && count == 1);
	CHECK(run(&m) == KVM_EXIT_HLT);
	port.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == 0);
	errno = 0;
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == -1 && errno == ENOENT);
	machine_start(&m, 0, 0x1000);
	CHECK(run(&m) == KVM_EXIT_IO && out_to(&m, 0x77)); /* the OUT of 5, now that the ioeventfd is gone */
	port.flags = 0x8000;
	errno = 0;
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == -1 && errno == EINVAL);
	port.flags = 0;
	port.fd = m.kvm;
	errno = 0;
	CHECK(ioctl(m.vm, KVM_IOEVENTFD, &port) == -1 && errno == EINVAL);
	machine_free(&m, 1);
	close(port_fd);
	close(address_fd);
}

/* ---- the rest ------------------------------------------------------------------------------------- */

static void test_step(void)
{
	struct machine m;
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	machine_make(&m, 1, 16 * PAGE);
	CODE(&m, 0x90, 0x40, 0x90, 0xf4); /* nop; inc ax; nop; hlt */
	CHECK(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	CHECK(run(&m) == KVM_EXIT_DEBUG && m.run[0]->debug.arch.pc == 0x1001 && m.run[0]->debug.arch.exception == 1);
	CHECK(run(&m) == KVM_EXIT_DEBUG && m.run[0]->debug.arch.pc == 0x1002);
	debug.control = 0;
	CHECK(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	CHECK(run(&m) == KVM_EXIT_HLT);
	machine_free(&m, 1);
}

#define DR7_BITS(n, kind, bytes) (UINT64_C(1) << 2 * (n) | (uint64_t)((kind) | ((bytes) - 1) << 2) << (16 + 4 * (n)))
enum { AT_CODE = 0, AT_WRITE = 1, AT_ACCESS = 3 };

/* Set the client's breakpoints, and run to the next: `pc`, where it stops, and which one it is. */
static void expect_breakpoint(struct machine *m, struct kvm_guest_debug *debug, uint64_t pc, unsigned which)
{
	const struct kvm_debug_exit_arch *arch = &m->run[0]->debug.arch;

	CHECK(ioctl(m->vcpu[0], KVM_SET_GUEST_DEBUG, debug) == 0);
	CHECK(run(m) == KVM_EXIT_DEBUG && arch->exception == 1 && arch->pc == pc);
	CHECK((arch->dr6 & 15) == 1u << which && (arch->dr7 & 0xff) == (debug->arch.debugreg[7] & 0xff));
}

/* The client's breakpoints. Meanwhile the guest's own are not in force, and afterwards they are as they were. */
static void test_hardware_breakpoints(void)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
		.arch.debugreg = { 0x1001, 0x3000, 0x3004, 0x3004,
			[7] = 0x400 | DR7_BITS(0, AT_CODE, 1) | DR7_BITS(1, AT_WRITE, 2) | DR7_BITS(2, AT_ACCESS, 1) |
			      DR7_BITS(3, AT_WRITE, 1) },
	};
	struct kvm_debugregs own = { .db = { 0x1002 }, .dr6 = 0xffff0ff0, .dr7 = 0x400 | DR7_BITS(0, AT_CODE, 1) }, now;
	struct machine m;
	struct kvm_regs regs;

	machine_make(&m, 1, 16 * PAGE);
	/* nop; inc ax; mov [0x3000], ax; nop; mov bl, [0x3004]; hlt */
	CODE(&m, 0x90, 0x40, 0xa3, 0x00, 0x30, 0x90, 0x8a, 0x1e, 0x04, 0x30, 0xf4);
	m.memory[0x2000] = 0xf4; /* the guest's handler */
	memcpy(m.memory + 4, &(uint32_t){ 0x2000 }, 4);
	CHECK(ioctl(m.vcpu[0], KVM_SET_DEBUGREGS, &own) == 0);
	expect_breakpoint(&m, &debug, 0x1001, 0);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rip == 0x1001 && regs.rax == 0);
	debug.arch.debugreg[7] &= ~UINT64_C(1);
	expect_breakpoint(&m, &debug, 0x1005, 1);
	CHECK(m.memory[0x3000] == 1);
	expect_breakpoint(&m, &debug, 0x100a, 2);
	CHECK(run(&m) == KVM_EXIT_HLT);
	CHECK(ioctl(m.vcpu[0], KVM_GET_DEBUGREGS, &now) == 0 && memcmp(&own, &now, sizeof(own)) == 0);
	debug.control = 0;
	CHECK(ioctl(m.vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	machine_start(&m, 0, 0x1000);
	CHECK(run(&m) == KVM_EXIT_HLT);
	NEED(ioctl(m.vcpu[0], KVM_GET_REGS, &regs) == 0);
	CHECK(regs.rip == 0x2001 && ioctl(m.vcpu[0], KVM_GET_DEBUGREGS, &now) == 0 && (now.dr6 & 15) == 1);
	machine_free(&m, 1);
}

static void test_dirty_log(void)
{
	struct machine m;
	uint64_t bitmap[1] = { 0 };
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bitmap };

	machine_make(&m, 1, 16 * PAGE);
	NEED(machine_slot(m.vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 16 * PAGE, m.memory) == 0);
	/* mov [0x3000], ax; hlt; mov [0x5000], ax; hlt */
	CODE(&m, 0xa3, 0x00, 0x30, 0xf4, 0xa3, 0x00, 0x50, 0xf4);
	CHECK(run(&m) == KVM_EXIT_HLT);
	CHECK(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0 && bitmap[0] & 1 << 3 && !(bitmap[0] & 1 << 5));
	CHECK(run(&m) == KVM_EXIT_HLT);
	CHECK(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0 && bitmap[0] & 1 << 5 && !(bitmap[0] & 1 << 3));
	CHECK(ioctl(m.vm, KVM_GET_DIRTY_LOG, &log) == 0 && bitmap[0] == 0);
	machine_free(&m, 1);
}

static void test_stats(void)
{
	struct machine m;
	struct kvm_stats_header header;
	uint64_t before[512], after[512];
	ssize_t bytes;
	int fd;

	machine_make(&m, 1, 16 * PAGE);
	CODE(&m, 0xe6, 0x10, 0xeb, 0xfc);
	fd = ioctl(m.vcpu[0], KVM_GET_STATS_FD, 0);
	NEED(fd >= 0 && read(fd, &header, sizeof(header)) == sizeof(header));
	bytes = pread(fd, before, sizeof(before), header.data_offset);
	for (int i = 0; i < 100; i++)
		CHECK(run(&m) == KVM_EXIT_IO);
	CHECK(bytes > 0 && pread(fd, after, sizeof(after), header.data_offset) == bytes);
	CHECK(memcmp(before, after, (size_t)bytes) != 0);
	close(m.vcpu[0]);
	close(m.vm);
	/* The statistics descriptor keeps the VM alive. */
	CHECK(pread(fd, after, sizeof(after), header.data_offset) == bytes);
	close(fd);
	munmap(m.run[0], 3 * PAGE);
	munmap(m.memory, m.bytes);
	close(m.kvm);
}

int main(void)
{
	test_registers();
	test_pending_exception();
	test_clock();
	test_io();
	test_mmio();
	test_interrupts();
	test_ioeventfd();
	test_step();
	test_hardware_breakpoints();
	test_dirty_log();
	test_stats();
	return check_end();
}
