/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine monitor: boots Linux on /dev/kvm, with a serial console and a disk.
 *
 *     cc -O2 -pthread tinyvm.c -o tinyvm
 *     stty raw -echo; ./tinyvm BZIMAGE INITRAMFS DISK "console=ttyS0 reboot=t"; stty sane
 *
 * KVM has the processor, memory and interrupt controllers. A monitor has the rest: it loads the kernel, and answers
 * when the guest reaches for a device. One thread runs the processor. Another serves the terminal and the disk: an
 * eventfd tells it that the guest has work for the disk (ioeventfd), and by others it interrupts the guest (irqfd).
 * The guest is not trusted: what it says is checked before it is used. A triple fault (reboot=t) ends it all.
 */
#include <asm/bootparam.h>
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/serial_reg.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where things are in the guest's memory, and among its ports and interrupts, which are those of a PC. */
enum { GDT = 0x1000, ZERO_PAGE = 0x2000, WORDS = 0x3000, KERNEL = 1 << 20, INITRAMFS = 128 << 20, MEMORY = 256 << 20 };
enum { SERIAL = 0x3f8, SERIAL_IRQ = 4, PCI_ADDRESS = 0xcf8, PCI_DATA = 0xcfc, DISK = 0xc000,
	DISK_PORTS = 64, DISK_IRQ = 10, QUEUE_SIZE = 128 };

static char *memory;
static int vcpu;
static struct kvm_run *run;

/* An ioctl that must succeed. */
#define REQUEST(fd, number, argument) \
	({ int result = ioctl(fd, number, argument); if (result < 0) err(1, #number); result; })

/* The guest's memory at an address that the guest named; NULL if it has none there. */
static void *guest(uint64_t address, uint64_t bytes)
{
	return address < MEMORY && bytes <= MEMORY - address ? memory + address : NULL;
}

/* The serial port: a 16550. */
static struct {
	uint8_t reg[8], input[256];
	atomic_uint first, last; /* of `input`; they only grow */
	bool sent;               /* the transmitter became empty, and the guest was not told yet */
	int irq;
} serial = { .reg[UART_MSR] = UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS };

/* Why it interrupts now. */
static uint8_t serial_cause(void)
{
	return serial.reg[UART_IER] & UART_IER_RDI && serial.first != serial.last ? UART_IIR_RDI :
	       serial.reg[UART_IER] & UART_IER_THRI && serial.sent ? UART_IIR_THRI : UART_IIR_NO_INT;
}

static uint8_t serial_read(unsigned reg)
{
	uint8_t cause = serial_cause();

	switch (reg) {
	case UART_RX: return serial.first == serial.last ? 0 : serial.input[serial.first++ % sizeof(serial.input)];
	case UART_LSR: return UART_LSR_THRE | UART_LSR_TEMT | (serial.first == serial.last ? 0 : UART_LSR_DR);
	case UART_IIR:
		serial.sent &= cause != UART_IIR_THRI;
		return cause | (serial.reg[UART_FCR] & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
	}
	return serial.reg[reg];
}

static void serial_write(unsigned reg, uint8_t value)
{
	if (reg <= UART_IER && serial.reg[UART_LCR] & UART_LCR_DLAB)
		return; /* it sets the speed */
	if (reg == UART_TX && write(STDOUT_FILENO, &value, 1) != 1)
		_exit(1);
	serial.reg[reg] = value;
	serial.sent |= reg <= UART_IER;
	if (serial_cause() != UART_IIR_NO_INT)
		eventfd_write(serial.irq, 1);
}

/* The disk: virtio-blk on PCI, in the old form, whose registers are ports. */
static struct {
	int file, irq;
	uint64_t bytes;
	uint32_t status, selected; /* `selected`: one of its queues, of which there is one */
	atomic_uint page;          /* where the queue begins; 0: nowhere yet */
	_Atomic uint16_t next;     /* the request to look at next */
	atomic_uchar interrupt;
} disk;

/* Carry out a request: a chain of a header, data, and a byte for the result. Returns: how many bytes it has set. */
static uint32_t disk_request(const struct vring *ring, struct vring_desc d)
{
	const struct virtio_blk_outhdr *from = guest(d.addr, sizeof(*from));
	const struct virtio_blk_outhdr header = from ? *from : (struct virtio_blk_outhdr){ .type = UINT32_MAX };
	uint8_t result = header.type > VIRTIO_BLK_T_OUT ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_OK;
	uint64_t at = header.sector * 512, set = 0;

	for (unsigned i = 0; i < QUEUE_SIZE && d.flags & VRING_DESC_F_NEXT; i++, at += d.len, set += d.len) {
		ssize_t done = -1;
		uint8_t *data;

		d = ring->desc[d.next % QUEUE_SIZE];
		data = guest(d.addr, d.len);
		if (data && d.len && !(d.flags & VRING_DESC_F_NEXT))
			*data = result;
		else if (data && result == VIRTIO_BLK_S_OK && at <= disk.bytes && d.len <= disk.bytes - at)
			done = header.type == VIRTIO_BLK_T_IN ? pread(disk.file, data, d.len, (off_t)at) :
			                                        pwrite(disk.file, data, d.len, (off_t)at);
		if (done != d.len && result == VIRTIO_BLK_S_OK)
			result = VIRTIO_BLK_S_IOERR;
	}
	return (uint32_t)set;
}

static void disk_serve(void)
{
	uint64_t page = disk.page;
	char *queue = guest(page << VIRTIO_PCI_QUEUE_ADDR_SHIFT, vring_size(QUEUE_SIZE, VIRTIO_PCI_VRING_ALIGN));
	struct vring ring;

	if (!queue || !page)
		return;
	vring_init(&ring, QUEUE_SIZE, queue, VIRTIO_PCI_VRING_ALIGN);
	/* acquire: see the request that was counted. release: the guest sees what was done before it is counted. */
	while (disk.next != __atomic_load_n(&ring.avail->idx, __ATOMIC_ACQUIRE)) {
		struct vring_used_elem *used = &ring.used->ring[ring.used->idx % QUEUE_SIZE];

		used->id = ring.avail->ring[disk.next++ % QUEUE_SIZE];
		used->len = disk_request(&ring, ring.desc[used->id % QUEUE_SIZE]);
		__atomic_store_n(&ring.used->idx, (uint16_t)(ring.used->idx + 1), __ATOMIC_RELEASE);
	}
	disk.interrupt = 1;
	eventfd_write(disk.irq, 1);
}

static uint32_t disk_read(unsigned reg)
{
	switch (reg) {
	case VIRTIO_PCI_QUEUE_PFN: return disk.selected ? 0 : disk.page;
	case VIRTIO_PCI_QUEUE_NUM: return disk.selected ? 0 : QUEUE_SIZE;
	case VIRTIO_PCI_STATUS: return disk.status;
	case VIRTIO_PCI_ISR: return atomic_exchange(&disk.interrupt, 0);
	}
	reg -= VIRTIO_PCI_CONFIG_OFF(0); /* Then comes the number of its sectors, which is read in single bytes. */
	return reg < 8 ? (uint32_t)(disk.bytes / 512 >> reg * 8) : 0;
}

static void disk_write(unsigned reg, uint32_t value)
{
	if (reg == VIRTIO_PCI_QUEUE_SEL)
		disk.selected = value;
	else if (reg == VIRTIO_PCI_QUEUE_PFN && !disk.selected)
		disk.page = value;
	else if (reg == VIRTIO_PCI_STATUS && !(disk.status = value))
		atomic_store(&disk.page, 0), atomic_store(&disk.next, 0); /* a reset */
}

/* What the devices of the PCI bus say about themselves: 0, a host bridge, and 1, the disk. */
static uint32_t pci_address, pci[2][16] = {
	{ 0x12378086, 0, 0x06000000 },
	{ 0x10011af4, 1, 0x01000000, 0, DISK | 1, [11] = 0x00021af4, [15] = 1 << 8 | DISK_IRQ },
};

static void port_access(bool in, unsigned port, unsigned size, void *data)
{
	uint32_t device = (pci_address & INT32_MAX) >> 11, reg = (pci_address & 0x7ff) / 4;
	uint32_t value = in && port != 0x71 ? UINT32_MAX : 0; /* port 0x71 is the clock: it is midnight */
	uint32_t *config = port - PCI_DATA < 4 && pci_address >> 31 && device < 2 && reg < 16 ? &pci[device][reg] :
	                   port == PCI_ADDRESS ? &pci_address : NULL;

	memcpy(&value, data, in ? 0 : size);
	if (port - SERIAL < 8 && in)
		value = serial_read(port - SERIAL);
	else if (port - SERIAL < 8)
		serial_write(port - SERIAL, (uint8_t)value);
	else if (port - DISK < DISK_PORTS && in)
		value = disk_read(port - DISK);
	else if (port - DISK < DISK_PORTS)
		disk_write(port - DISK, value);
	else if (config && in)
		value = *config >> port % 4 * 8;
	else if (config == &pci_address || config == &pci[1][4]) /* to which ones are written to learn its size */
		*config = config == &pci_address ? value : (value & ~(DISK_PORTS - 1u)) | 1;
	memcpy(data, &value, in ? size : 0);
}

static void *run_vcpu(void *unused)
{
	for (;;) {
		REQUEST(vcpu, KVM_RUN, 0);
		if (run->exit_reason == KVM_EXIT_SHUTDOWN) /* a triple fault */
			_exit(0);
		else if (run->exit_reason == KVM_EXIT_IO)
			for (unsigned i = 0; i < run->io.count; i++)
				port_access(run->io.direction == KVM_EXIT_IO_IN, run->io.port, run->io.size,
				            (char *)run + run->io.data_offset + i * run->io.size);
		else if (run->exit_reason == KVM_EXIT_MMIO) /* nothing is there */
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		else
			errx(1, "KVM_RUN ended with %u", run->exit_reason);
	}
	return unused;
}

/* Read a file into the guest's memory, from its byte `offset` on. Returns: how many bytes there are. */
static uint32_t load(const char *name, off_t offset, uint64_t address, uint64_t room)
{
	int fd = open(name, O_RDONLY);
	ssize_t bytes = fd < 0 ? -1 : pread(fd, guest(address, room), room, offset);

	if (bytes <= 0 || (uint64_t)bytes == room)
		err(1, "%s", name);
	return (uint32_t)bytes;
}

/* Load Linux, and begin it in 32-bit mode, as its boot protocol says. */
static void load_linux(const char *kernel, const char *initramfs, const char *words)
{
	struct boot_params *zero = guest(ZERO_PAGE, sizeof(*zero));
	struct kvm_regs regs = { .rip = KERNEL, .rsi = ZERO_PAGE, .rflags = 2 };
	struct kvm_sregs sregs;

	load(kernel, 0, INITRAMFS, MEMORY - INITRAMFS);
	zero->hdr = ((struct boot_params *)guest(INITRAMFS, sizeof(*zero)))->hdr;
	if (zero->hdr.header != 0x53726448)
		errx(1, "%s is no bzImage", kernel);
	load(kernel, (zero->hdr.setup_sects + 1) * 512, KERNEL, INITRAMFS - KERNEL);
	zero->hdr.type_of_loader = 0xff;
	zero->hdr.ramdisk_image = INITRAMFS;
	zero->hdr.ramdisk_size = load(initramfs, 0, INITRAMFS, MEMORY - INITRAMFS);
	zero->hdr.cmd_line_ptr = WORDS;
	strncpy(guest(WORDS, 4096), words, 4095);
	zero->e820_entries = 2;
	zero->e820_table[0] = (struct boot_e820_entry){ 0, 0x9f000, 1 };
	zero->e820_table[1] = (struct boot_e820_entry){ KERNEL, MEMORY - KERNEL, 1 };
	memcpy(guest(GDT, 32), (uint64_t[]){ 0, 0, 0x00cf9a000000ffff, 0x00cf92000000ffff }, 32);
	REQUEST(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = (struct kvm_segment){ 0, ~0u, 0x10, .type = 11, .present = 1, .s = 1, .db = 1, .g = 1 };
	sregs.ds = sregs.es = sregs.ss =
		(struct kvm_segment){ 0, ~0u, 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = GDT, .limit = 31 };
	sregs.cr0 |= 1; /* protected mode */
	REQUEST(vcpu, KVM_SET_SREGS, &sregs);
	REQUEST(vcpu, KVM_SET_REGS, &regs);
}

int main(int argc, char **argv)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[128]; } cpuid = { .head.nent = 128 };
	int kvm = open("/dev/kvm", O_RDWR), vm = REQUEST(kvm, KVM_CREATE_VM, 0), kick = eventfd(0, 0);
	struct kvm_ioeventfd notify = { 0, DISK + VIRTIO_PCI_QUEUE_NOTIFY, 2, kick, KVM_IOEVENTFD_FLAG_PIO, { 0 } };
	struct pollfd from[2] = { { kick, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };

	if (argc != 5 || (disk.file = open(argv[3], O_RDWR)) < 0)
		err(1, "tinyvm BZIMAGE INITRAMFS DISK WORDS");
	disk.bytes = (uint64_t)lseek(disk.file, 0, SEEK_END);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.userspace_addr = (uintptr_t)memory;
	REQUEST(vm, KVM_SET_USER_MEMORY_REGION, &region);
	REQUEST(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	REQUEST(vm, KVM_CREATE_IRQCHIP, 0);
	REQUEST(vm, KVM_CREATE_PIT2, (&(struct kvm_pit_config){ KVM_PIT_SPEAKER_DUMMY, { 0 } }));
	REQUEST(vm, KVM_IOEVENTFD, &notify);
	serial.irq = eventfd(0, 0), disk.irq = eventfd(0, 0);
	REQUEST(vm, KVM_IRQFD, (&(struct kvm_irqfd){ .fd = (uint32_t)serial.irq, .gsi = SERIAL_IRQ }));
	REQUEST(vm, KVM_IRQFD, (&(struct kvm_irqfd){ .fd = (uint32_t)disk.irq, .gsi = DISK_IRQ }));
	vcpu = REQUEST(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)REQUEST(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	REQUEST(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	REQUEST(vcpu, KVM_SET_CPUID2, &cpuid);
	load_linux(argv[1], argv[2], argv[4]);
	if (pthread_create(&(pthread_t){ 0 }, NULL, run_vcpu, NULL) != 0)
		errx(1, "no thread");
	for (;;) {
		bool room = serial.last - serial.first < sizeof(serial.input);

		poll(from, room ? 2 : 1, room ? -1 : 10);
		if (from[0].revents && eventfd_read(kick, &(eventfd_t){ 0 }) == 0)
			disk_serve();
		if (!room || !from[1].revents)
			continue;
		if (read(STDIN_FILENO, &serial.input[serial.last % sizeof(serial.input)], 1) != 1)
			from[1].fd = -1; /* there will be no more */
		else
			serial.last++;
		eventfd_write(serial.irq, 1);
	}
}
