/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the front end share. The tests are ordinary KVM clients. Each runs under `vmmu run`, and with the
 * same result on a real /dev/kvm where the machine has one.
 */
#ifndef VMMU_KVM_TEST_CHECK_H
#define VMMU_KVM_TEST_CHECK_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul

/*
 * Does the program run with a sanitizer's runtime, which `symbol` ("__asan_init", "__tsan_init") names? Such a
 * runtime does not support all that libc and the kernel do.
 */
__attribute__((unused)) static bool under_runtime(const char *symbol)
{
	return dlsym(RTLD_DEFAULT, symbol) != NULL;
}

static unsigned check_failures, check_count;

__attribute__((unused)) static void check(bool good, const char *what, const char *file, int line)
{
	__atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED); /* threads may check, too */
	if (good)
		return;
	__atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED);
	fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", file, line, what, errno, strerror(errno));
}
#define CHECK(condition) check(condition, #condition, __FILE__, __LINE__)

/* Like CHECK, but a failure ends the test: the rest makes no sense without it. */
#define NEED(condition)                                                                                            \
	do {                                                                                                       \
		if (!(condition)) {                                                                                \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));       \
			exit(1);                                                                                   \
		}                                                                                                  \
	} while (0)

__attribute__((unused)) static int check_end(void)
{
	printf("%u checks, %u failed\n", check_count, check_failures);
	return check_failures != 0;
}

/* A VM with one slot of memory at guest address 0 and vCPUs that begin in real mode at 0x1000. */
struct machine {
	int kvm, vm, vcpu[8];
	struct kvm_run *run[8];
	uint8_t *memory;
	size_t bytes;
};

__attribute__((unused)) static int machine_slot(int vm, unsigned slot, unsigned flags, uint64_t gpa, uint64_t bytes,
                                                const void *memory)
{
	struct kvm_userspace_memory_region region = { slot, flags, gpa, bytes, (uintptr_t)memory };

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

__attribute__((unused)) static void machine_start(struct machine *m, unsigned i, uint64_t rip)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = rip, .rflags = 2, .rsp = 0x8000 };

	NEED(ioctl(m->vcpu[i], KVM_GET_SREGS, &sregs) == 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	NEED(ioctl(m->vcpu[i], KVM_SET_SREGS, &sregs) == 0);
	NEED(ioctl(m->vcpu[i], KVM_SET_REGS, &regs) == 0);
}

/* A VM with memory at 0 and no vCPU. Returns: the bytes of a vCPU's mapping. */
__attribute__((unused)) static size_t machine_begin(struct machine *m, size_t bytes)
{
	int size;

	memset(m, 0, sizeof(*m));
	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	NEED(m->kvm >= 0);
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	NEED(m->vm >= 0);
	size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	NEED(size >= (int)sizeof(struct kvm_run));
	m->bytes = bytes;
	m->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(m->memory != MAP_FAILED);
	NEED(machine_slot(m->vm, 0, 0, 0, bytes, m->memory) == 0);
	return (size_t)size;
}

__attribute__((unused)) static void machine_make(struct machine *m, unsigned vcpus, size_t bytes)
{
	size_t size = machine_begin(m, bytes);

	for (unsigned i = 0; i < vcpus; i++) {
		m->vcpu[i] = ioctl(m->vm, KVM_CREATE_VCPU, (unsigned long)i);
		NEED(m->vcpu[i] >= 0);
		m->run[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu[i], 0);
		NEED(m->run[i] != MAP_FAILED);
		machine_start(m, i, 0x1000);
	}
}

/* A counter of KVM_GET_STATS_FD. */
__attribute__((unused)) static uint64_t vm_statistic(int vm, const char *name)
{
	int fd = ioctl(vm, KVM_GET_STATS_FD, 0);
	struct kvm_stats_header head;
	union {
		struct kvm_stats_desc desc;
		char bytes[sizeof(struct kvm_stats_desc) + 256];
	} d;
	uint64_t value = UINT64_MAX;

	NEED(fd >= 0 && pread(fd, &head, sizeof(head), 0) == sizeof(head) && head.name_size <= 255);
	for (uint32_t i = 0; i < head.num_desc && value == UINT64_MAX; i++) {
		size_t size = sizeof(d.desc) + head.name_size;

		memset(&d, 0, sizeof(d));
		NEED(pread(fd, &d, size, head.desc_offset + (off_t)(i * size)) == (ssize_t)size);
		if (strcmp(d.bytes + sizeof(d.desc), name) == 0)
			NEED(pread(fd, &value, sizeof(value), head.data_offset + d.desc.offset) == sizeof(value));
	}
	close(fd);
	return value;
}

/* Without its memory, which another machine may have now. */
__attribute__((unused)) static void machine_close(struct machine *m, unsigned vcpus)
{
	for (unsigned i = 0; i < vcpus; i++) {
		munmap(m->run[i], 3 * PAGE);
		close(m->vcpu[i]);
	}
	close(m->vm);
	close(m->kvm);
}

__attribute__((unused)) static void machine_free(struct machine *m, unsigned vcpus)
{
	machine_close(m, vcpus);
	munmap(m->memory, m->bytes);
}

/* Before the state is read: an access that has been carried out is completed at the next entry. */
__attribute__((unused)) static void machine_settle(struct machine *m, unsigned vcpus)
{
	for (unsigned i = 0; i < vcpus; i++) {
		m->run[i]->immediate_exit = 1;
		NEED(ioctl(m->vcpu[i], KVM_RUN, 0) == -1 && (errno == EINTR || errno == EAGAIN));
		m->run[i]->immediate_exit = 0;
	}
}

#endif
