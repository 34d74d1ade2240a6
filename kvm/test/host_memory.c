/* SPDX-License-Identifier: MIT */
/*
 * What a guest sees of `vmmu run --host-memory` when the swap file fails. KVM_RUN fails with EFAULT on a lost page,
 * the log says why, and the vCPU can go on with every other page. This is an ordinary client, except that it knows
 * how to spoil the swap file of its own process.
 *
 *     host_memory full | corrupt | read-error      under --host-memory 1M --host-swap FILE:SIZE
 */
#include "check.h"

#include <sys/syscall.h>

#define PAGES 4096u    /* 16 MiB */
#define DATA  0x100000u

/* Real mode: mov ax, [0]; out 0x11, ax; jmp. And: mov [0], ax; out 0x11, ax; jmp */
static const uint8_t reader[] = { 0xa1, 0x00, 0x00, 0xe7, 0x11, 0xeb, 0xf9 };
static const uint8_t writer[] = { 0xa3, 0x00, 0x00, 0xe7, 0x11, 0xeb, 0xf9 };

static struct machine m;
static uint8_t *memory; /* the guest's memory from DATA on */

/* Run the code at `rip` on a page. Returns: AX, -1 for EFAULT, -2 for anything else. */
static int guest_on(uint64_t rip, unsigned page, unsigned ax)
{
	struct kvm_regs regs = { .rip = rip, .rflags = 2, .rax = ax };
	struct kvm_sregs sregs;

	NEED(ioctl(m.vcpu[0], KVM_GET_SREGS, &sregs) == 0);
	sregs.ds.base = DATA + page * PAGE;
	NEED(ioctl(m.vcpu[0], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m.vcpu[0], KVM_SET_REGS, &regs) == 0);
	if (ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO)
		return *(uint16_t *)((char *)m.run[0] + m.run[0]->io.data_offset);
	return errno == EFAULT ? -1 : -2;
}

static int guest_reads(unsigned page)
{
	return guest_on(0x1000, page, 0);
}

static int guest_writes(unsigned page, unsigned value)
{
	return guest_on(0x1100, page, value);
}

/* Fill each page with noise, so that it cannot be compressed into the pool, and put its number in the first 16 bits. */
static void memory_fill(void)
{
	uint64_t x = 88172645463325252u;

	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t *word = (uint64_t *)(memory + page * PAGE);

		for (unsigned i = 0; i < 512; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			word[i] = x;
		}
		*(uint16_t *)word = (uint16_t)page;
	}
}

/*
 * Spoil the swap file, which is unlinked and open in this process, as a bad disk would. With `deaf`, the descriptor
 * is replaced by one that can be written and not read; without it, noise overwrites the file. (Truncation would not
 * do: the file would grow again, with holes that can be read.) Returns: how many files were spoilt.
 */
static unsigned swap_spoil(const char *name, bool deaf)
{
	char link[64], target[4096], noise[PAGE];
	unsigned files = 0;

	memset(noise, 0x5a, sizeof(noise));
	for (int fd = 0; fd < 256; fd++) {
		ssize_t bytes;
		off_t end;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		bytes = readlink(link, target, sizeof(target) - 1);
		target[bytes > 0 ? bytes : 0] = 0;
		if (!strstr(target, name))
			continue;
		files++;
		/* Wait until the manager has taken a page away: its threads may have to wait for a processor. */
		for (unsigned i = 0; (end = lseek(fd, 0, SEEK_END)) == 0 && i < 20000; i++)
			usleep(1000);
		NEED(end > 0);
		if (deaf) {
			int none = open("/dev/null", O_WRONLY | O_CLOEXEC);

			NEED(none >= 0 && dup2(none, fd) == fd && close(none) == 0);
		}
		for (off_t at = 0; !deaf && at < end; at += PAGE)
			NEED(pwrite(fd, noise, PAGE, at) == (ssize_t)PAGE);
	}
	return files;
}

/* Send stderr to a file, so that the test can read the log. Sets `kept` to the old stderr. */
static FILE *log_keep(int *kept)
{
	FILE *log = tmpfile();

	NEED(log);
	*kept = dup(2);
	NEED(*kept >= 0 && dup2(fileno(log), 2) == 2);
	return log;
}

/* Does the log have the text? Waits up to 20 s, since the manager may write it later. */
static bool log_has(FILE *log, const char *text)
{
	static char all[1 << 20];

	for (unsigned i = 0; i < 2000; i++) {
		ssize_t bytes = pread(fileno(log), all, sizeof(all) - 1, 0);

		all[bytes > 0 ? bytes : 0] = 0;
		if (strstr(all, text))
			return true;
		usleep(10000);
	}
	return false;
}

/* When the swap file is full, the budget cannot be kept, and no page is lost. */
static void test_full(void)
{
	unsigned wrong = 0;

	for (unsigned page = 0; page < PAGES; page++)
		wrong += guest_reads(page) != (int)page;
	for (unsigned page = 0; page < PAGES; page++)
		wrong += guest_writes(page, page ^ 0x5555) != (int)(page ^ 0x5555);
	for (unsigned page = 0; page < PAGES; page++)
		wrong += guest_reads(page) != (int)(page ^ 0x5555);
	CHECK(wrong == 0);
}

static void test_lost(const char *swap_name, bool deaf)
{
	unsigned lost = 0, good = 0, other = 0, first_lost = 0;

	CHECK(swap_spoil(swap_name, deaf) == 1);
	for (unsigned page = PAGES; page-- > 0;) {
		int got = guest_reads(page);

		if (got == -1) {
			lost++;
			first_lost = page;
		} else if (got == (int)page) {
			good++;
		} else {
			other++;
		}
	}
	CHECK(lost > 0);
	CHECK(good > 0);
	CHECK(other == 0);
	/* A lost page stays lost, for writes, too. The vCPU, which has failed so often, works on pages that exist. */
	CHECK(guest_reads(first_lost) == -1);
	CHECK(guest_writes(first_lost, 1) == -1);
	for (unsigned page = 0; page < 8; page++) {
		CHECK(mmap(memory + page * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		           -1, 0) != MAP_FAILED);
		CHECK(guest_writes(page, page + 7) == (int)page + 7);
		CHECK(*(uint16_t *)(memory + page * PAGE) == page + 7);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
	const char *says = !strcmp(what, "full")      ? "the swap file is full"
	                   : !strcmp(what, "corrupt") ? "a page in the swap file is corrupt"
	                                              : "the swap file cannot be read";
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), kept;
	FILE *log;
	bool said;

	if (fd < 0)
		return 77; /* skipped: this machine does not allow --host-memory */
	close(fd);
	log = log_keep(&kept);
	machine_make(&m, 1, DATA);
	memcpy(m.memory + 0x1000, reader, sizeof(reader));
	memcpy(m.memory + 0x1100, writer, sizeof(writer));
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(memory != MAP_FAILED);
	NEED(machine_slot(m.vm, 1, 0, DATA, PAGES * PAGE, memory) == 0);
	memory_fill();
	if (!strcmp(what, "full"))
		test_full();
	else
		test_lost(name, !strcmp(what, "read-error"));
	said = log_has(log, says);
	machine_free(&m, 1);
	munmap(memory, PAGES * PAGE);
	NEED(dup2(kept, 2) == 2);
	CHECK(said);
	return check_end();
}
