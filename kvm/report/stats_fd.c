/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_STATS_FD: a memfd with the layout of KVM's binary statistics (header, name, descriptors, data). The
 * data is brought up to date before each read: our read and pread call stats_refresh.
 */
#include "kvm/report/ioctls.h"
#include "kvm/process/file.h"
#include "kvm/process/signals.h"
#include "kvm/report/stats.h"
#include "kvm/process/sys.h"
#include "kvm/vm/vm.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <stdlib.h>

#define NAME_SIZE 48u

enum stat_kind { STAT_CUMULATIVE, STAT_INSTANT };

struct stat_field {
	const char *name;
	size_t offset; /* in struct vmmu_stats */
	enum stat_kind kind;
	bool bytes;
};

#define VM_FIELD(name, kind, bytes) { #name, offsetof(struct vmmu_stats, name), kind, bytes }
static const struct stat_field vm_fields[] = {
	VM_FIELD(faults_fixed, STAT_CUMULATIVE, false),
	VM_FIELD(faults_fast, STAT_CUMULATIVE, false),
	VM_FIELD(faults_spurious, STAT_CUMULATIVE, false),
	VM_FIELD(faults_retried, STAT_CUMULATIVE, false),
	VM_FIELD(faults_mmio, STAT_CUMULATIVE, false),
	VM_FIELD(faults_host, STAT_CUMULATIVE, false),
	VM_FIELD(pages_4k, STAT_INSTANT, false),
	VM_FIELD(pages_2m, STAT_INSTANT, false),
	VM_FIELD(pages_1g, STAT_INSTANT, false),
	VM_FIELD(tables, STAT_INSTANT, false),
	VM_FIELD(tables_allocated, STAT_CUMULATIVE, false),
	VM_FIELD(splits, STAT_CUMULATIVE, false),
	VM_FIELD(recovered, STAT_CUMULATIVE, false),
	VM_FIELD(tlb_flushes, STAT_CUMULATIVE, false),
	VM_FIELD(requests, STAT_CUMULATIVE, false),
	VM_FIELD(kicks, STAT_CUMULATIVE, false),
	VM_FIELD(slot_changes, STAT_CUMULATIVE, false),
	VM_FIELD(invalidations, STAT_CUMULATIVE, false),
	VM_FIELD(invalidations_hit, STAT_CUMULATIVE, false),
	VM_FIELD(ages, STAT_CUMULATIVE, false),
	VM_FIELD(ages_young, STAT_CUMULATIVE, false),
	VM_FIELD(dirty_pages, STAT_CUMULATIVE, false),
	VM_FIELD(rmap_bytes, STAT_INSTANT, true),
	VM_FIELD(slot_bytes, STAT_INSTANT, true),
	VM_FIELD(nested_faults, STAT_CUMULATIVE, false),
	VM_FIELD(nested_faults_guest, STAT_CUMULATIVE, false),
	VM_FIELD(nested_tables, STAT_INSTANT, false),
	VM_FIELD(nested_tables_allocated, STAT_CUMULATIVE, false),
};
#define VM_FIELDS (sizeof(vm_fields) / sizeof(*vm_fields))

#define VCPU_EXTRA 2u /* runs, halt_wakeup */
#define VCPU_FIELDS (EXITS_COUNT + VCPU_EXTRA)

/* The object of a statistics file. */
struct stats_file {
	struct kvm *kvm;
	struct kvm_vcpu *vcpu; /* NULL: the VM's */
	int memory;        /* our own descriptor of the memfd */
};

static size_t desc_size(void)
{
	return sizeof(struct kvm_stats_desc) + NAME_SIZE;
}

static size_t field_count(const struct stats_file *s)
{
	return s->vcpu ? VCPU_FIELDS : VM_FIELDS;
}

static size_t data_offset(const struct stats_file *s)
{
	return sizeof(struct kvm_stats_header) + NAME_SIZE + field_count(s) * desc_size();
}

static void put(const struct stats_file *s, const void *from, size_t bytes, size_t offset)
{
	SYS4(SYS_pwrite64, s->memory, from, bytes, offset);
}

static void put_descriptor(const struct stats_file *s, size_t i)
{
	union {
		struct kvm_stats_desc d;
		char bytes[sizeof(struct kvm_stats_desc) + NAME_SIZE];
	} u;
	char *name = u.bytes + sizeof(struct kvm_stats_desc);
	bool instant = !s->vcpu && vm_fields[i].kind == STAT_INSTANT;
	bool bytes = !s->vcpu && vm_fields[i].bytes;

	memset(&u, 0, sizeof(u));
	u.d.flags = (instant ? KVM_STATS_TYPE_INSTANT : KVM_STATS_TYPE_CUMULATIVE) |
	            (bytes ? KVM_STATS_UNIT_BYTES : KVM_STATS_UNIT_NONE) | KVM_STATS_BASE_POW10;
	u.d.size = 1;
	u.d.offset = (uint32_t)(i * sizeof(uint64_t));
	if (!s->vcpu)
		snprintf(name, NAME_SIZE, "%s", vm_fields[i].name);
	else if (i < EXITS_COUNT)
		snprintf(name, NAME_SIZE, "%s_exits", exit_counter_names[i]);
	else
		snprintf(name, NAME_SIZE, "%s", i == EXITS_COUNT ? "runs" : "halt_wakeup");
	put(s, &u, desc_size(), sizeof(struct kvm_stats_header) + NAME_SIZE + i * desc_size());
}

static void put_layout(const struct stats_file *s)
{
	struct kvm_stats_header header = {
		.name_size = NAME_SIZE,
		.num_desc = (uint32_t)field_count(s),
		.id_offset = sizeof(header),
		.desc_offset = sizeof(header) + NAME_SIZE,
		.data_offset = (uint32_t)data_offset(s),
	};
	char id[NAME_SIZE] = { 0 };

	if (s->vcpu)
		snprintf(id, sizeof(id), "kvm-%ld/vcpu-%u", SYS0(SYS_getpid), s->vcpu->id);
	else
		snprintf(id, sizeof(id), "kvm-%ld", SYS0(SYS_getpid));
	put(s, &header, sizeof(header), 0);
	put(s, id, sizeof(id), sizeof(header));
	for (size_t i = 0; i < field_count(s); i++)
		put_descriptor(s, i);
}

static void put_data(const struct stats_file *s)
{
	uint64_t data[VM_FIELDS > VCPU_FIELDS ? VM_FIELDS : VCPU_FIELDS];

	if (s->vcpu) {
		for (size_t i = 0; i < EXITS_COUNT; i++)
			data[i] = __atomic_load_n(&s->vcpu->exits[i], __ATOMIC_RELAXED);
		data[EXITS_COUNT] = __atomic_load_n(&s->vcpu->runs, __ATOMIC_RELAXED);
		data[EXITS_COUNT + 1] = __atomic_load_n(&s->vcpu->halt_wakeups, __ATOMIC_RELAXED);
	} else {
		struct vmmu_stats stats;

		vmmu_stats_get(s->kvm->mmu, &stats, sizeof(stats));
		for (size_t i = 0; i < VM_FIELDS; i++)
			memcpy(&data[i], (char *)&stats + vm_fields[i].offset, sizeof(data[i]));
	}
	put(s, data, field_count(s) * sizeof(*data), data_offset(s));
}

void stats_refresh(int descriptor)
{
	struct file *file = file_get(descriptor);
	int saved = errno;

	if (!file)
		return;
	signals_hold();
	if (file->kind == FILE_STATS && !file->foreign)
		put_data(file->object);
	file_put(file);
	signals_release();
	errno = saved;
}

static void stats_release(struct file *file)
{
	struct stats_file *s = file->object;

	SYS1(SYS_close, s->memory);
	vm_put(s->kvm);
	free(s);
}

static long stats_fd(struct kvm *kvm, struct kvm_vcpu *vcpu)
{
	struct stats_file *s = calloc(1, sizeof(*s));
	char name[40] = "anon_inode:kvm-vm-stats";
	long fd = -ENOMEM;

	if (!s)
		return -ENOMEM;
	if (vcpu)
		snprintf(name, sizeof(name), "anon_inode:kvm-vcpu-stats:%u", vcpu->id);
	s->kvm = kvm;
	s->vcpu = vcpu;
	fd = file_memory(name, true);
	if (fd < 0)
		goto no_fd;
	/* Keep a descriptor of our own: the client may close its number. */
	s->memory = (int)SYS3(SYS_fcntl, fd, 1030 /* F_DUPFD_CLOEXEC */, 0);
	if (s->memory < 0)
		goto no_memory;
	put_layout(s);
	put_data(s);
	if (!file_install((int)fd, FILE_STATS, s, stats_release))
		goto no_file;
	atomic_fetch_add(&kvm->refs, 1);
	return fd;

no_file:
	SYS1(SYS_close, s->memory);
no_memory:
	SYS1(SYS_close, fd);
	fd = -ENOMEM;
no_fd:
	free(s);
	return fd;
}

long vm_stats_fd(struct kvm *kvm, unsigned long argument)
{
	(void)argument;
	return stats_fd(kvm, NULL);
}

long vcpu_stats_fd(struct kvm_vcpu *vcpu, unsigned long argument)
{
	(void)argument;
	return stats_fd(vcpu->kvm, vcpu);
}
