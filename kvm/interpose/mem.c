/* SPDX-License-Identifier: MIT */
/*
 * The client's memory calls as MMU notifier events: begin, the system call, end. When a call has returned, no
 * vCPU sees what was there before. Without a VM in the process each costs one load.
 */
#include "kvm/interpose/advice.h"
#include "kvm/process/file.h"
#include "kvm/vm/host_memory.h"
#include "kvm/interpose/hostmap.h"
#include "kvm/interpose/interpose.h"
#include "kvm/vm/machines.h"
#include "kvm/process/signals.h"
#include "kvm/process/sys.h"
#include "kvm/process/user.h"
#include "kvm/vm/vm.h"
#include "port/posix/hint.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FILE_RANGES 32 /* mappings of one file to invalidate separately; with more, everything is invalidated */

/* Is there a VM, or memory under a budget? The latter may outlive its VM. */
static bool anybody_cares(void)
{
	return machines_any() || host_memory_any();
}

static bool failed(long result)
{
	return result < 0 && result >= -4095;
}

/*
 * [address, address + length) in whole pages. Empty if it has no bytes or wraps: then the kernel refuses the
 * call, or it does nothing.
 */
static struct host_range range_of(const void *address, size_t length)
{
	uintptr_t start = (uintptr_t)address & ~(uintptr_t)4095;
	uintptr_t end = ((uintptr_t)address + length + 4095) & ~(uintptr_t)4095;

	return (struct host_range){ start, end > start ? end : start };
}

/* What a call does to the first of its ranges, for the host memory manager. */
enum effect {
	MOVES,    /* moves it elsewhere, or to a place that is not known: the manager gives all of it back first */
	UNMAPS,
	PROTECTS,
	DISCARDS, /* contents are lost, by madvise */
	FREES,    /* contents may be lost later, by madvise */
	KEEPS,
};

static long call_with_effect(struct host_range range, enum effect effect, long number, const long a[6])
{
	if (host_memory_any() && range.start < range.end) {
		switch (effect) {
		case UNMAPS:
			return host_memory_unmap(range.start, range.end, number, a);
		case PROTECTS:
			return host_memory_protect(range.start, range.end, number, a);
		case DISCARDS:
		case FREES:
			return host_memory_discard(range.start, range.end, (int)a[2], effect == FREES);
		case MOVES:
			host_memory_give_up(range.start, range.end);
			break;
		case KEEPS:
			break;
		}
	}
	return SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/*
 * Note what the client said about huge pages, unless the kernel refused it. Also while there is no VM, since one
 * may map this range later. A kernel without huge pages knows neither advice, but our guests see small pages then
 * all the same.
 */
static void advice_note(struct host_range range, int advice, long result)
{
	if (advice != MADV_NOHUGEPAGE && advice != MADV_HUGEPAGE)
		return;
	if (failed(result) && result != -ENOMEM && advice_is_known(advice))
		return;
	if (advice == MADV_NOHUGEPAGE)
		posix_hint_set(range.start, range.end, POSIX_HINT_SMALL);
	else
		posix_hint_clear(range.start, range.end, POSIX_HINT_SMALL);
}

static long call_invalidating(const struct host_range *ranges, size_t count, enum effect effect, long number,
                              const long a[6])
{
	long result;

	/* Client handlers wait: one that made such a call itself must not run between begin and end. */
	signals_hold();
	invalidate_begin(ranges, count);
	result = call_with_effect(ranges[0], effect, number, a);
	if (number == SYS_madvise)
		advice_note(ranges[0], (int)a[2], result); /* before end, after which a fault may ask for the hint */
	invalidate_end(ranges, count);
	signals_release();
	return result;
}

/*
 * Forget what was said about huge pages at [address, address + length): other memory will be mapped there.
 * Returns: true when something had been said.
 */
static bool hints_forget(const void *address, size_t length)
{
	struct host_range range = range_of(address, length);

	if (range.start != (uintptr_t)address || range.start >= range.end || !posix_hint_any(range.start, range.end))
		return false;
	posix_hint_clear(range.start, range.end, POSIX_HINT_ALONE | POSIX_HINT_SMALL);
	return true;
}

/* KVM refuses a mapping of a vCPU's dirty ring that is executable, or in which writes would not be shared. */
static bool ring_map_refused(const struct kvm_vcpu *vcpu, size_t length, int protection, int flags, off_t offset)
{
	uint64_t first = (uint64_t)offset / VMMU_PAGE_SIZE;
	uint64_t last = first + (length + VMMU_PAGE_SIZE - 1) / VMMU_PAGE_SIZE - 1;
	uint64_t end = RUN_RING_PAGE + vcpu->kvm->ring_bytes / VMMU_PAGE_SIZE;

	if (!vcpu->ring)
		return false;
	if ((first < RUN_RING_PAGE || first >= end) && (last < RUN_RING_PAGE || last >= end))
		return false;
	return (protection & PROT_EXEC) || !(flags & MAP_SHARED);
}

static long map(struct host_range range, const long a[6])
{
	long result;

	if (!((int)a[3] & MAP_FIXED))
		return SYS6(SYS_mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (anybody_cares() && range.start == (uintptr_t)a[0])
		result = call_invalidating(&range, 1, UNMAPS, SYS_mmap, a);
	else
		result = SYS6(SYS_mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
	/*
	 * After the call, since the kernel may refuse it. No other thread uses this memory before the caller gets
	 * it.
	 */
	if (!failed(result))
		hints_forget((void *)a[0], (size_t)a[1]); // NOLINT: an address
	return result;
}

/*
 * The client has mapped a vCPU at `at`. If the page for coalesced writes is in the mapping, show the VM's one there.
 * A private mapping that may be written keeps the vCPU's own page, which is empty: what is written there must not
 * reach the VM.
 */
static long coalesced_show(struct kvm *kvm, long at, size_t length, int protection, int flags, off_t offset)
{
	const uint64_t page = RUN_COALESCED_PAGE * VMMU_PAGE_SIZE;
	long error;

	if ((uint64_t)offset > page || page - (uint64_t)offset >= length)
		return at;
	if ((flags & MAP_TYPE) == MAP_PRIVATE && (protection & PROT_WRITE))
		return at;
	error = coalesced_map(kvm, (char *)at + (page - (uint64_t)offset), protection); // NOLINT: an address
	if (!error)
		return at;
	SYS2(SYS_munmap, at, length);
	return error;
}

/* mmap of one of KVM's files: of those, only a vCPU can be mapped. */
static long map_kvm(struct file *file, struct host_range range, const long a[6])
{
	const size_t length = (size_t)a[1];
	const int protection = (int)a[2], flags = (int)a[3];
	const off_t offset = a[5];
	struct kvm_vcpu *vcpu = file->object;
	long result;

	if (file->kind != FILE_VCPU)
		return -ENODEV;
	if (length && !file->foreign && ring_map_refused(vcpu, length, protection, flags, offset))
		return -EINVAL;
	result = map(range, a);
	if (failed(result) || file->foreign)
		return result;
	return coalesced_show(vcpu->kvm, result, length, protection, flags, offset);
}

long mem_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	const long a[6] = { (long)address, (long)length, protection, flags, fd, offset };
	struct host_range range = range_of(address, length);
	struct file *file = fd >= 0 && !(flags & MAP_ANONYMOUS) ? file_get(fd) : NULL;
	long result;

	if (!file)
		return map(range, a);
	result = map_kvm(file, range, a);
	file_put(file);
	return result;
}

long mem_munmap(void *address, size_t length)
{
	const long a[6] = { (long)address, (long)length };
	struct host_range range = range_of(address, length);
	/* Before the call: after it, the memory may have another owner already, whose hints must not be forgotten. */
	bool forgotten = hints_forget(address, length);
	long result;

	if (anybody_cares() && range.start == (uintptr_t)address)
		result = call_invalidating(&range, 1, UNMAPS, SYS_munmap, a);
	else
		result = SYS2(SYS_munmap, address, length);
	/* The memory is still there. Of what had been said, apply the strictest to all of it. */
	if (forgotten && failed(result))
		posix_hint_set(range.start, range.end, POSIX_HINT_ALONE);
	return result;
}

long mem_mremap(void *address, size_t old_length, size_t length, int flags, void *wanted)
{
	const long a[6] = { (long)address, (long)old_length, (long)length, flags, (long)wanted };
	struct host_range old = range_of(address, old_length), ranges[2];

	if (!anybody_cares() || old.start != (uintptr_t)address)
		return SYS5(SYS_mremap, address, old_length, length, flags, wanted);
	if (!(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && length && length <= old_length) {
		/* It shrinks in place: only its end goes. */
		ranges[0] = (struct host_range){ range_of(address, length).end, old.end };
		return call_invalidating(ranges, 1, UNMAPS, SYS_mremap, a);
	}
	/*
	 * An old length of 0 copies a shared mapping and takes nothing away. Memory that moves is brought back
	 * first.
	 */
	ranges[0] = flags & MREMAP_FIXED ? range_of(wanted, length) : range_of(NULL, 0);
	ranges[1] = old;
	host_memory_give_up(old.start, old.end);
	return call_invalidating(ranges, 2, UNMAPS, SYS_mremap, a);
}

static enum effect effect_of(enum advice_contents contents)
{
	switch (contents) {
	case ADVICE_KEEPS:
	case ADVICE_REFUSED:
		return KEEPS;
	case ADVICE_LOSES:
		return DISCARDS;
	case ADVICE_FREES:
		return FREES;
	case ADVICE_POISONS:
	case ADVICE_UNKNOWN:
		break;
	}
	return MOVES;
}

long mem_madvise(void *address, size_t length, int advice)
{
	const long a[6] = { (long)address, (long)length, advice };
	struct host_range range = range_of(address, length);
	struct advice known;
	long result;

	if (range.start != (uintptr_t)address || range.start >= range.end)
		return SYS3(SYS_madvise, address, length, advice); /* the kernel refuses it, or does nothing */
	known = advice_of(advice);
	if (known.takes_away && anybody_cares())
		return call_invalidating(&range, 1, effect_of(known.contents), SYS_madvise, a);
	result = SYS3(SYS_madvise, address, length, advice);
	advice_note(range, advice, result);
	return result;
}

long mem_mprotect(void *address, size_t length, int protection, int key)
{
	const long a[6] = { (long)address, (long)length, protection, key };
	long number = key == -1 ? SYS_mprotect : SYS_pkey_mprotect;
	struct host_range range;

	if (!anybody_cares())
		return SYS4(number, a[0], a[1], a[2], a[3]);
	range = range_of(address, length);
	return call_invalidating(&range, 1, PROTECTS, number, a);
}

/* A call that changes a file: invalidate wherever the file is mapped now. */
static long call_on_file(int fd, off_t offset, off_t length, long number, const long a[6])
{
	struct host_range ranges[FILE_RANGES];
	size_t count = hostmap_of_file(fd, offset, length, ranges, FILE_RANGES);

	if (count == 0)
		return SYS6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return call_invalidating(ranges, count, KEEPS, number, a);
}

long mem_fallocate(int fd, int mode, off_t offset, off_t length)
{
	const long a[6] = { fd, mode, offset, length };
	const int moves = FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;

	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | moves)) || !anybody_cares() || offset < 0 ||
	    length <= 0)
		return SYS4(SYS_fallocate, fd, mode, offset, length);
	return call_on_file(fd, offset, mode & moves ? INT64_MAX : length, SYS_fallocate, a);
}

long mem_ftruncate(int fd, off_t length)
{
	const long a[6] = { fd, length };
	struct file *file = file_get(fd);

	if (file) {
		/* KVM's files have no size. Shrinking our memfd would take the run page away from a vCPU. */
		file_put(file);
		return -EINVAL;
	}
	if (!anybody_cares() || length < 0)
		return SYS2(SYS_ftruncate, fd, length);
	return call_on_file(fd, length, INT64_MAX, SYS_ftruncate, a);
}

/*
 * Memory under userfaultfd is mapped in single pages. page_get touches each page outside the guest, so
 * userfaultfd sees each one. In a larger block the guest would reach pages that nobody asked for.
 */
long mem_userfaultfd_ioctl(int fd, unsigned long request, unsigned long argument)
{
	struct uffdio_register reg;
	struct uffdio_range uffd_range;
	struct host_range range;
	long result;

	if (request == UFFDIO_REGISTER && user_read(&reg, argument, sizeof(reg)) == 0)
		uffd_range = reg.range;
	else if ((request != UFFDIO_WRITEPROTECT && request != UFFDIO_UNREGISTER) ||
	         user_read(&uffd_range, argument, sizeof(uffd_range)) != 0)
		return SYS3(SYS_ioctl, fd, request, argument);

	range = range_of((void *)(uintptr_t)uffd_range.start, uffd_range.len); // NOLINT: an address
	if (request == UFFDIO_REGISTER && range.start < range.end &&
	    !posix_hint_set(range.start, range.end, POSIX_HINT_ALONE))
		return -ENOMEM;
	if (!anybody_cares()) {
		result = SYS3(SYS_ioctl, fd, request, argument);
	} else {
		const long a[6] = { fd, (long)request, (long)argument };

		/* From here on the program manages registered memory itself. */
		result = call_invalidating(&range, 1, request == UFFDIO_REGISTER ? MOVES : KEEPS, SYS_ioctl, a);
	}
	if (request == UFFDIO_UNREGISTER && result == 0)
		posix_hint_clear(range.start, range.end, POSIX_HINT_ALONE);
	return result;
}
