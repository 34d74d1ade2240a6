/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults. The MSRs, here and on a real KVM:
 *
 *     async_pf
 *
 * And a guest that runs something else while its memory comes back, under --host-memory 1M --host-swap FILE:64M:
 *
 *     async_pf absent
 */
#include "check.h"

#include <linux/kvm_para.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define PAGES  4096u     /* 16 MiB of memory that does not fit in the budget */
#define DATA   0x200000u
#define LOW    0x20000u  /* bytes of memory that no manager touches */
#define AREA   0x5000u
#define VARS   0x6000u
#define VECTOR 0x40u
#define OTHER  0x41u     /* of a device */
#define DONE   1
#define TOLD   2

/* At VARS, by the guest and the client. */
struct vars {
	uint32_t touched, wrong, told, ready, other_work, last_ready, bad_flags, stop_when_told, all, others;
};

/*
 * Real mode, with data segments of 4 GiB. The guest reads a word of each page from ESI to EDI; the word is the page's
 * number, from EBX on. "Page not present": it counts until the token, or one after it, is said to be ready.
 */
extern const uint8_t code[], code_end[], on_fault[], on_ready[], on_other[];
__asm__(".pushsection .rodata\n.code16\n"
        "code:\n"
        " cmp %edi, %esi\n jae 8f\n"
        "1: mov (%esi), %eax\n"
        " cmp %eax, %ebx\n je 2f\n incl 0x6004\n"
        "2: incl 0x6000\n inc %ebx\n add $4096, %esi\n cmp %edi, %esi\n jb 1b\n"
        "8: out %al, $1\n"
        "on_fault:\n"
        " push %eax\n push %edx\n"
        " mov %cr2, %edx\n"
        " incl 0x6008\n"
        " cmpl $1, 0x5000\n je 3f\n incl 0x6018\n"
        "3: movl $0, 0x5000\n"
        " cmpl $0, 0x601c\n je 4f\n out %al, $2\n"
        "4: sti\n"
        "5: incl 0x6010\n mov 0x6014, %eax\n cmp %edx, %eax\n jb 5b\n"
        " pop %edx\n pop %eax\n iret\n"
        "on_ready:\n"
        " push %eax\n push %ecx\n push %edx\n"
        " mov 0x5004, %eax\n"
        " cmp $-1, %eax\n jne 6f\n incl 0x6020\n jmp 7f\n"
        "6: mov %eax, 0x6014\n incl 0x600c\n"
        "7: movl $0, 0x5004\n"
        " mov $0x4b564d07, %ecx\n mov $1, %eax\n xor %edx, %edx\n wrmsr\n"
        " mov $0xfee000b0, %eax\n movl $0, (%eax)\n"
        " pop %edx\n pop %ecx\n pop %eax\n iret\n"
        "on_other:\n"
        " push %eax\n incl 0x6024\n"
        " mov $0xfee000b0, %eax\n movl $0, (%eax)\n"
        " pop %eax\n iret\n"
        "code_end:\n.code64\n.popsection\n");

static struct machine m;
static volatile struct vars *vars;
static uint8_t *data;

static bool msr_write(uint32_t index, uint64_t value)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } msr = { { .nmsrs = 1 }, { index, 0, value } };

	return ioctl(m.vcpu[0], KVM_SET_MSRS, &msr) == 1;
}

static uint64_t msr_read(uint32_t index)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } msr = { { .nmsrs = 1 }, { index, 0, 0 } };

	CHECK(ioctl(m.vcpu[0], KVM_GET_MSRS, &msr) == 1);
	return msr.entry.data;
}

static void vector_set(unsigned vector, const uint8_t *handler)
{
	const uint16_t far[2] = { (uint16_t)(0x1000 + (handler - code)), 0 };

	memcpy(m.memory + vector * 4, far, sizeof(far));
}

static void lapic_on(void)
{
	struct kvm_lapic_state lapic;
	uint32_t svr = 0x1ff;

	NEED(ioctl(m.vcpu[0], KVM_GET_LAPIC, &lapic) == 0);
	memcpy(lapic.regs + 0xf0, &svr, sizeof(svr));
	NEED(ioctl(m.vcpu[0], KVM_SET_LAPIC, &lapic) == 0);
}

/* As machine_make, with local APICs of KVM's, and memory at 0 that --host-memory leaves alone, as it is shared. */
static void make(bool irqchip)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
	int size;

	memset(&m, 0, sizeof(m));
	m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	NEED(m.kvm >= 0);
	m.vm = ioctl(m.kvm, KVM_CREATE_VM, 0);
	NEED(m.vm >= 0);
	size = ioctl(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	m.bytes = LOW;
	m.memory = mmap(NULL, LOW, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(m.memory != MAP_FAILED);
	NEED(machine_slot(m.vm, 0, 0, 0, LOW, m.memory) == 0);
	if (irqchip)
		NEED(ioctl(m.vm, KVM_ENABLE_CAP, &split) == 0);
	m.vcpu[0] = ioctl(m.vm, KVM_CREATE_VCPU, 0ul);
	NEED(m.vcpu[0] >= 0);
	m.run[0] = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu[0], 0);
	NEED(m.run[0] != MAP_FAILED);
	memcpy(m.memory + 0x1000, code, (size_t)(code_end - code));
	vector_set(14, on_fault);
	vector_set(VECTOR, on_ready);
	vector_set(OTHER, on_other);
	vars = (struct vars *)(m.memory + VARS);
	if (irqchip)
		lapic_on();
}

/* Touch the pages [first, first + count). Returns: the port that the guest wrote to at its end. */
static unsigned touch(unsigned first, unsigned count, bool interrupts)
{
	struct kvm_regs regs = { .rip = 0x1000, .rflags = interrupts ? 0x202 : 2, .rsp = 0x8000, .rbx = first };
	struct kvm_sregs sregs;

	regs.rsi = DATA + first * PAGE;
	regs.rdi = regs.rsi + count * PAGE;
	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.ds.limit = UINT32_MAX;
	sregs.ds.g = 1;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
	NEED(m.run[0]->exit_reason == KVM_EXIT_IO);
	return m.run[0]->io.port;
}

/* ---- MSRs ------------------------------------------------------------------------------------------------------- */

static void test_msrs(void)
{
	const uint64_t on = AREA | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT;
	uint32_t *token = (uint32_t *)(m.memory + AREA + 4);

	make(true);
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF) == 1);
	CHECK(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF_INT) == 1);
	CHECK(msr_read(MSR_KVM_ASYNC_PF_EN) == 0 && msr_read(MSR_KVM_ASYNC_PF_INT) == 0);
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_INT, 0x100 | VECTOR));
	CHECK(msr_write(MSR_KVM_ASYNC_PF_INT, VECTOR));
	CHECK(msr_read(MSR_KVM_ASYNC_PF_INT) == VECTOR);
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_EN, on | 0x10));
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_EN, on | 0x20));
	CHECK(msr_read(MSR_KVM_ASYNC_PF_EN) == 0);
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_EN, on + 0x40000000)); /* no memory there */
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, 0));
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, AREA | KVM_ASYNC_PF_ENABLED)); /* without interrupts: nothing happens */
	CHECK(msr_read(MSR_KVM_ASYNC_PF_EN) == (AREA | KVM_ASYNC_PF_ENABLED));
	CHECK(msr_write(MSR_KVM_ASYNC_PF_ACK, 1) && msr_read(MSR_KVM_ASYNC_PF_ACK) == 0);
	CHECK(touch(0, 0, true) == DONE && vars->all == 0);
	/* A guest that is switched on is told to wake whatever waits. */
	token = (uint32_t *)(m.memory + AREA + 4);
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, on | KVM_ASYNC_PF_SEND_ALWAYS));
	CHECK(touch(0, 0, true) == DONE);
	CHECK(vars->all == 1 && vars->ready == 0 && *token == 0);
	/* Not while the last token is there; once the guest has taken it, and says so. */
	*token = 5;
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, on));
	CHECK(touch(0, 0, true) == DONE && vars->all == 1 && *token == 5);
	*token = 0;
	CHECK(msr_write(MSR_KVM_ASYNC_PF_ACK, 1));
	CHECK(touch(0, 0, true) == DONE && vars->all == 2);
	machine_free(&m, 1);
}

static void test_no_local_apic(void)
{
	make(false);
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_INT, VECTOR));
	CHECK(!msr_write(MSR_KVM_ASYNC_PF_EN, AREA | KVM_ASYNC_PF_ENABLED));
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, 0));
	machine_free(&m, 1);
}

/* ---- pages that are away ---------------------------------------------------------------------------------------- */

/* Fill each page with noise, so that it cannot be compressed into the pool, but for its number in the first word. */
static void data_make(void)
{
	uint64_t x = 88172645463325252u;

	data = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(data != MAP_FAILED);
	NEED(machine_slot(m.vm, 1, 0, DATA, PAGES * PAGE, data) == 0);
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t *word = (uint64_t *)(data + page * PAGE);

		for (unsigned i = 0; i < 512; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			word[i] = x;
		}
		*(uint32_t *)word = page;
	}
}

static void enable(uint64_t more)
{
	CHECK(msr_write(MSR_KVM_ASYNC_PF_INT, VECTOR));
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, AREA | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT | more));
}

static void touch_all(bool interrupts)
{
	memset((void *)vars, 0, sizeof(*vars));
	CHECK(touch(0, PAGES, interrupts) == DONE);
	CHECK(vars->touched == PAGES);
	CHECK(vars->wrong == 0);
	CHECK(vars->bad_flags == 0);
}

/* Go on until the guest is done. */
static void go_on(void)
{
	do {
		CHECK(ioctl(m.vcpu[0], KVM_RUN, 0) == 0);
		NEED(m.run[0]->exit_reason == KVM_EXIT_IO);
	} while (m.run[0]->io.port != DONE);
}

/*
 * Touch pages until the guest is told of one that is not there yet. Where the manager's threads wait for a processor,
 * all pages may be there for a while. Returns: false if there is none.
 */
static bool tell_one(void)
{
	for (unsigned i = 0; i < 100 * PAGES; i++) {
		if (i % PAGES == PAGES - 1)
			usleep(20000);
		if (touch(i % PAGES, 1, true) == DONE)
			continue;
		if (*(volatile uint32_t *)(m.memory + AREA + 4) == 0)
			return true;
		go_on();
	}
	return false;
}

/* The guest is told of a page, and switches all off and on before the page is there: it hears of that page no more. */
static void test_cancelled(void)
{
	memset((void *)vars, 0, sizeof(*vars));
	vars->stop_when_told = 1;
	NEED(tell_one());
	CHECK(vars->told == vars->ready + 1);
	CHECK(msr_write(MSR_KVM_ASYNC_PF_EN, 0));
	enable(KVM_ASYNC_PF_SEND_ALWAYS);
	vars->stop_when_told = 0;
	vars->last_ready = UINT32_MAX; /* the handler waits for nothing */
	go_on();
	usleep(100000);
	CHECK(touch(0, 0, true) == DONE);
	CHECK(vars->wrong == 0 && vars->all == 1);
	CHECK(vars->told == vars->ready + 1); /* of others it does hear */
	CHECK(*(uint32_t *)(m.memory + AREA + 4) == 0);
}

static atomic_bool stop;

static void *device(void *arg)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000u, .data = OTHER };

	(void)arg;
	while (!atomic_load(&stop)) {
		if (ioctl(m.vm, KVM_SIGNAL_MSI, &msi) < 0)
			abort();
		usleep(20);
	}
	return NULL;
}

/* Interrupts of a device come all the while: a vCPU that sleeps for a page takes them, and goes on to sleep. */
static void test_interrupts(void)
{
	pthread_t thread;

	atomic_store(&stop, false);
	NEED(pthread_create(&thread, NULL, device, NULL) == 0);
	do
		touch_all(true);
	while (vars->others < 10);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

static void test_absent(void)
{
	make(true);
	data_make();
	/* A guest that did not switch it on sees nothing of it. */
	touch_all(true);
	CHECK(vars->told == 0 && vars->ready == 0);
	test_interrupts();
	CHECK(vars->told == 0 && vars->ready == 0);
	enable(KVM_ASYNC_PF_SEND_ALWAYS);
	CHECK(touch(0, 0, true) == DONE && vars->all == 1);
	for (unsigned round = 0; round == 0 || (vars->told <= 100 && round < 100); round++)
		touch_all(true); /* again, if the manager's threads had no processor */
	CHECK(vars->told > 100);
	CHECK(vars->ready == vars->told);
	CHECK(vars->other_work > vars->told);
	printf("told of %u pages, counted to %u meanwhile\n", vars->told, vars->other_work);
	test_interrupts();
	CHECK(vars->ready == vars->told);
	/* With interrupts off it cannot be told, and the vCPU waits. */
	touch_all(false);
	CHECK(vars->told == 0 && vars->ready == 0);
	test_cancelled();
	/* Only at CPL 3, if it did not ask for more. */
	enable(0);
	CHECK(touch(0, 0, true) == DONE && vars->all == 2);
	touch_all(true);
	CHECK(vars->told == 0 && vars->ready == 0);
	machine_free(&m, 1);
	munmap(data, PAGES * PAGE);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "absent")) {
		int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

		if (fd < 0)
			return 77; /* skipped: this machine does not allow --host-memory */
		close(fd);
		test_absent();
	} else {
		test_msrs();
		test_no_local_apic();
	}
	return check_end();
}
