/* SPDX-License-Identifier: MIT */
/*
 * System management mode beside other events: what it holds back, SMIs of the local APIC, HLT, and two vCPUs that take
 * SMIs while slots of both address spaces change.
 */
#include "smm.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

/* An NMI and another SMI wait until RSM. The SMI comes first. */
static void test_held_back(void)
{
	struct kvm_vcpu_events e;
	struct vm v;

	vm_make(&v, 1, false);
	memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
	mode_enter(&v, 0, REAL);
	memcpy(v.ram + 0x3000, real_stub, (size_t)(real_stub_end - real_stub));
	vector_set(&v, 2, 0x3000);
	CHECK(msr_set(v.vcpu[0], MSR_SMBASE, SMBASE));
	CHECK(run(&v, 0) == 0x10 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80);
	CHECK(ioctl(v.vcpu[0], KVM_NMI, 0) == 0 && ioctl(v.vcpu[0], KVM_SMI, 0) == 0);
	e = events_of(v.vcpu[0]);
	CHECK(e.smi.smm && e.smi.pending && e.nmi.pending == 1);
	CHECK(run(&v, 0) == 0x80 && in_smm(&v, 0));
	CHECK(smram64(&v, SMBASE + 0xff78) == CODE + 2); /* not one instruction between RSM and the second SMI */
	CHECK(!events_of(v.vcpu[0]).smi.pending && events_of(v.vcpu[0]).nmi.pending == 1);
	CHECK(run(&v, 0) == 0x66 && !in_smm(&v, 0) && events_of(v.vcpu[0]).nmi.masked);
	/* An SMI in the NMI's handler: the NMI stays masked after RSM. */
	CHECK(ioctl(v.vcpu[0], KVM_SMI, 0) == 0 && run(&v, 0) == 0x80);
	CHECK(events_of(v.vcpu[0]).smi.smm_inside_nmi == 1);
	settle(&v, 0);
	memcpy(v.ram + 0x3002, program, (size_t)(program_end - program));
	CHECK(run(&v, 0) == 0x10 && events_of(v.vcpu[0]).nmi.masked && !events_of(v.vcpu[0]).smi.smm_inside_nmi);
	CHECK(msr_get(v.vcpu[0], MSR_SMI_COUNT) == 3);
	vm_free(&v, 1);
}

/* ---- the local APIC -------------------------------------------------------------------------------------- */

CODE16(smi_sender, ".code32\n movl $0x01000000, 0xfee00310\n movl $0x4200, 0xfee00300\n out %al, $0x10\n 1: jmp 1b")
CODE16(halter, ".code32\n out %al, $0x30\n hlt\n out %al, $0x31\n 1: jmp 1b")
CODE16(unhalter, "out %al, $0x80\n movb $0, %cs:0xfec9\n rsm")

static atomic_int runner; /* the number of the thread that runs vCPU 1 */

static void *halter_thread(void *argument)
{
	struct vm *v = argument;

	atomic_store(&runner, (int)syscall(SYS_gettid));
	return (void *)(intptr_t)run(v, 1);
}

/* Run vCPU 1 on a thread of its own, until that sleeps. */
static void halter_start(pthread_t *thread, struct vm *v)
{
	unsigned asleep = 0;
	char name[64], text[256];

	atomic_store(&runner, 0);
	NEED(pthread_create(thread, NULL, halter_thread, v) == 0);
	for (unsigned i = 0; i < 2000 && asleep < 3; i++) {
		FILE *stat;

		usleep(5000);
		snprintf(name, sizeof(name), "/proc/self/task/%d/stat", atomic_load(&runner));
		stat = atomic_load(&runner) ? fopen(name, "r") : NULL;
		if (stat == NULL)
			continue;
		asleep = fgets(text, sizeof(text), stat) && strstr(text, ") S ") ? asleep + 1 : 0;
		fclose(stat);
	}
	CHECK(asleep == 3);
}

/* An SMI from one APIC to a vCPU in HLT. RSM goes back to the HLT, unless the handler says otherwise. */
static void test_apic_and_halt(void)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE }, state;
	pthread_t thread;
	void *port;
	struct vm v;

	vm_make(&v, 2, true);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(ioctl(v.vcpu[i], KVM_SET_MP_STATE, &runnable) == 0);
		mode_enter(&v, i, PROTECTED);
		CHECK(msr_set(v.vcpu[i], MSR_SMBASE, SMBASE));
	}
	memcpy(v.ram + CODE, smi_sender, (size_t)(smi_sender_end - smi_sender));
	memcpy(v.ram + 0x4000, halter, (size_t)(halter_end - halter));
	memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
	{
		struct kvm_regs r = regs_of(v.vcpu[1]);

		r.rip = 0x4000;
		NEED(ioctl(v.vcpu[1], KVM_SET_REGS, &r) == 0);
	}
	CHECK(run(&v, 1) == 0x30);
	halter_start(&thread, &v);
	CHECK(run(&v, 0) == 0x10);
	CHECK(pthread_join(thread, &port) == 0 && (intptr_t)port == 0x80 && in_smm(&v, 1));
	CHECK(v.smram[SMBASE + 0xfec9 - SMRAM] == 1);
	halter_start(&thread, &v); /* in the HLT again */
	memcpy(v.smram + (HANDLER - SMRAM), unhalter, (size_t)(unhalter_end - unhalter));
	mode_enter(&v, 0, PROTECTED);
	memcpy(v.ram + CODE, smi_sender, (size_t)(smi_sender_end - smi_sender));
	CHECK(run(&v, 0) == 0x10);
	CHECK(pthread_join(thread, &port) == 0 && (intptr_t)port == 0x80);
	CHECK(ioctl(v.vcpu[1], KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_RUNNABLE);
	CHECK(run(&v, 1) == 0x31 && !in_smm(&v, 1));
	vm_free(&v, 2);
}

CODE16(init_sender, ".code32\n movl $0x01000000, 0xfee00310\n movl $0x4500, 0xfee00300\n out %al, $0x10\n 1: jmp 1b")

/* An INIT waits in SMM, and is taken after RSM. */
static void test_init_is_latched(void)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE }, init = { KVM_MP_STATE_INIT_RECEIVED }, state;
	struct kvm_vcpu_events e;
	struct vm v;

	vm_make(&v, 2, true);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(ioctl(v.vcpu[i], KVM_SET_MP_STATE, &runnable) == 0);
		mode_enter(&v, i, PROTECTED);
		CHECK(msr_set(v.vcpu[i], MSR_SMBASE, SMBASE));
	}
	memcpy(v.smram + (HANDLER - SMRAM), handler, (size_t)(handler_end - handler));
	CHECK(run(&v, 1) == 0x10 && ioctl(v.vcpu[1], KVM_SMI, 0) == 0 && run(&v, 1) == 0x80 && in_smm(&v, 1));
	CHECK(ioctl(v.vcpu[1], KVM_SET_MP_STATE, &init) < 0 && errno == EINVAL);
	memcpy(v.ram + CODE, init_sender, (size_t)(init_sender_end - init_sender));
	CHECK(run(&v, 0) == 0x10);
	settle(&v, 1);
	e = events_of(v.vcpu[1]);
	CHECK(e.smi.smm == 1 && e.smi.latched_init == 1);
	CHECK(ioctl(v.vcpu[1], KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_RUNNABLE);
	/* The client can take the INIT away and put it back. */
	e.smi.latched_init = 0;
	CHECK(ioctl(v.vcpu[1], KVM_SET_VCPU_EVENTS, &e) == 0 && events_of(v.vcpu[1]).smi.latched_init == 0);
	e.smi.latched_init = 1;
	CHECK(ioctl(v.vcpu[1], KVM_SET_VCPU_EVENTS, &e) == 0 && events_of(v.vcpu[1]).smi.latched_init == 1);
	{
		pthread_t thread;
		void *result;

		halter_start(&thread, &v);
		pthread_kill(thread, SIGUSR1);
		CHECK(pthread_join(thread, &result) == 0 && (intptr_t)result == -EINTR);
	}
	CHECK(ioctl(v.vcpu[1], KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_INIT_RECEIVED);
	CHECK(events_of(v.vcpu[1]).smi.smm == 0 && sregs_of(v.vcpu[1]).cs.base == 0xffff0000);
	CHECK(msr_get(v.vcpu[1], MSR_SMBASE) == SMBASE);
	e.smi.smm = 1;
	CHECK(ioctl(v.vcpu[1], KVM_SET_VCPU_EVENTS, &e) < 0 && errno == EINVAL);
	vm_free(&v, 2);
}

/* ---- two vCPUs at once ----------------------------------------------------------------------------------- */

#define ROUNDS 400u

CODE16(looping, "1: out %al, $0x10\n jmp 1b")
CODE16(counting, "mov $0x9000, %bx\n incl %cs:(%bx)\n mov $0x2000, %ebx\n lock incl %ds:(%ebx)\n rsm")

struct worker {
	struct vm *v;
	unsigned i;
	bool good;
};

static void *worker_run(void *argument)
{
	struct worker *w = argument;

	w->good = true;
	for (unsigned round = 0; round < ROUNDS && w->good; round++)
		w->good = run(w->v, w->i) == 0x10 && !in_smm(w->v, w->i) && ioctl(w->v->vcpu[w->i], KVM_SMI, 0) == 0;
	w->good = w->good && run(w->v, w->i) == 0x10;
	return NULL;
}

/* Each has an SMBASE of its own. Meanwhile slots of both address spaces change, and host pages go. */
static void test_two_vcpus(void)
{
	struct worker w[2];
	pthread_t thread[2];
	uint8_t *spare = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vm v;

	NEED(spare != MAP_FAILED);
	vm_make(&v, 2, false);
	for (unsigned i = 0; i < 2; i++) {
		mode_enter(&v, i, i ? PAE : LONG);
		CHECK(msr_set(v.vcpu[i], MSR_SMBASE, SMBASE + i * 0x10000));
		memcpy(v.smram + i * 0x10000 + 0x8000, counting, (size_t)(counting_end - counting));
		w[i] = (struct worker){ &v, i, false };
	}
	/* Tables for both modes at once: PAE's elsewhere. */
	tables_write(&v, LONG);
	memcpy(v.ram + TABLES + 0x4000, (uint64_t[]){ (TABLES + 0x5000) | 1 }, 8);
	memcpy(v.ram + TABLES + 0x5000, (uint64_t[]){ 0xe7, 0x2000e7 }, 16);
	{
		struct kvm_sregs s = sregs_of(v.vcpu[1]);

		s.cr3 = TABLES + 0x4000;
		NEED(ioctl(v.vcpu[1], KVM_SET_SREGS, &s) == 0);
	}
	memcpy(v.ram + CODE, looping, (size_t)(looping_end - looping));
	for (unsigned i = 0; i < 2; i++)
		NEED(pthread_create(&thread[i], NULL, worker_run, &w[i]) == 0);
	for (unsigned round = 0; round < 60; round++) {
		unsigned log = round & 1 ? KVM_MEM_LOG_DIRTY_PAGES : 0;

		CHECK(machine_slot(v.vm, SLOT_AS1(1), log, SMRAM, SMRAM_BYTES, v.smram) == 0);
		CHECK(machine_slot(v.vm, SLOT_AS1(5), 0, 0x400000, PAGE, spare) == 0);
		CHECK(machine_slot(v.vm, 5, 0, 0x400000, PAGE, spare) == 0);
		CHECK(madvise(spare, PAGE, MADV_DONTNEED) == 0);
		CHECK(machine_slot(v.vm, SLOT_AS1(5), 0, 0x400000, 0, NULL) == 0);
		CHECK(machine_slot(v.vm, 5, 0, 0x400000, 0, NULL) == 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		CHECK(w[i].good && smram32(&v, SMRAM + i * 0x10000 + 0x9000) == ROUNDS);
		CHECK(msr_get(v.vcpu[i], MSR_SMI_COUNT) == ROUNDS);
	}
	CHECK(*(uint32_t *)(void *)(v.ram + 0x2000) == 2 * ROUNDS);
	vm_free(&v, 2);
	munmap(spare, PAGE);
}

static void nothing(int signal)
{
	(void)signal;
}

int main(void)
{
	struct sigaction action = { .sa_handler = nothing };

	if (!smm_is_there())
		return 77;
	sigaction(SIGUSR1, &action, NULL);
	test_held_back();
	test_apic_and_halt();
	test_init_is_latched();
	test_two_vcpus();
	return check_end();
}
