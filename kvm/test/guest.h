/* SPDX-License-Identifier: MIT */
/*
 * Guests for the tests of the interrupt chips. The client gives a vCPU one step after the other: a routine of
 * guest_text.S with its registers, which ends with an OUT. Interrupts append their vectors to the vCPU's log in guest
 * memory. So a test reads as a list of what guest and client do, and of what the log then says.
 *
 * Each test runs twice. The second time, the machine moves before each step of the guest: all its state goes into a
 * fresh VM, as in a live migration, and the results must stay the same (guest_tests).
 */
#ifndef VMMU_KVM_TEST_GUEST_H
#define VMMU_KVM_TEST_GUEST_H

#include "check.h"
#include <pthread.h>

#define GUEST_VCPUS   3u
#define GUEST_TEXT    0x1000u
#define GUEST_STUBS   0x2000u
#define GUEST_ACTIONS 0x3000u /* a byte for each vector: GUEST_EOI ... */
#define GUEST_REAL    0x6000u /* and 0x7000: where SIPIs start vCPUs, in real mode */
#define GUEST_OWN     0x8000u /* a page for each vCPU: the count, the flags, the log, and the stack below its end */
#define GUEST_TABLES  0x10000u
#define GUEST_BYTES   0x20000u

/* In the vCPU's own page. */
#define GUEST_COUNT 0u     /* entries of the log */
#define GUEST_READY 4u     /* steps that have begun to wait */
#define GUEST_GO    8u     /* ends guest_spin */
#define GUEST_LOG   0x100u /* 0x400 bytes, a ring */

/* What the handler of a vector does after it has written the log, in this order. */
#define GUEST_NEST       0x20 /* let other interrupts in */
#define GUEST_EOI_SLAVE  0x04
#define GUEST_EOI_MASTER 0x08
#define GUEST_EOI        0x01
#define GUEST_EOI_X2APIC 0x02
#define GUEST_MARK       0x40 /* write GUEST_END to the log */
#define GUEST_EXIT       0x10 /* OUT to GUEST_PORT_EXIT */
#define GUEST_END        "\xff"

/* The port of the OUT that ended a step. */
#define GUEST_DONE      0xaa
#define GUEST_PORT_OPEN 0xab /* guest_go_on() and threads go on by themselves */
#define GUEST_PORT_EXIT 0xbb
#define GUEST_PORT_GP   13
#define GUEST_PORT_REAL 0xcc /* guest_real runs, after a SIPI */
#define GUEST_PORT_WOKE 0xcd /* guest_real was woken from HLT */

extern const uint8_t guest_text[], guest_text_end[], guest_common[], guest_fault[], guest_real[], guest_real_end[];
extern const uint8_t guest_out[], guest_in[], guest_in16[], guest_write[], guest_read[], guest_write8[], guest_read8[];
extern const uint8_t guest_write_late[], guest_wrmsr[], guest_rdmsr[], guest_write_cr8[], guest_read_cr8[];
extern const uint8_t guest_window[], guest_halt[], guest_halt_off[], guest_halt_until[];
extern const uint8_t guest_spin_until[], guest_spin[], guest_ping[], guest_pong[], guest_ping_spin[], guest_pong_spin[];

enum chips {
	CHIPS_FULL,  /* KVM_CREATE_IRQCHIP */
	CHIPS_PIT,   /* and KVM_CREATE_PIT2 */
	CHIPS_SPLIT, /* KVM_CAP_SPLIT_IRQCHIP with 24 pins */
};

struct guest {
	struct machine m;
	enum chips chips;
	unsigned vcpus;
	bool moves;                     /* move before each step */
	struct kvm_irq_routing *routes; /* what guest_routes set last, or NULL */
	struct guest_thread {
		pthread_t thread;
		bool stop, stopped; /* atomic */
		int port;
	} thread[GUEST_VCPUS];
};

/** The machine of the running test. */
extern struct guest g;

struct guest_test {
	const char *name;
	void (*run)(void);
	enum chips chips;
	unsigned flags;
};

#define GUEST_STAYS     1u /* the test is about threads, or moves the machine itself: it runs only once */
#define GUEST_NEEDS_ISR 2u /* an interrupt must stay in service until its EOI */

/**
 * Run each test, twice; see above. `arguments`: names of tests to run (none: all). "any-kvm" before them allows for a
 * KVM whose local APIC never has an interrupt in service, as one that runs guest kernels unprivileged may be: tests
 * with GUEST_NEEDS_ISR are left out there, and this says so. Returns: 1 when a check of guest.c failed, else 0.
 */
int guest_tests(const struct guest_test *tests, unsigned count, char **arguments);

/** All state into a fresh VM, which then is the machine. */
void guest_move(void);

/* ---- steps of a vCPU. Returns: the port of the OUT that ended the step, -1 for any other exit. */
int guest_step(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
/** Go on without new registers. */
int guest_go_on(unsigned v);
/** Take what is pending. */
void take(unsigned v);
void out(unsigned v, uint16_t port, uint8_t value);
uint8_t in(unsigned v, uint16_t port);
void write32(unsigned v, uint32_t address, uint32_t value);
uint32_t read32(unsigned v, uint32_t address);
/** Returns: the port, so GUEST_PORT_GP for #GP. */
int wrmsr(unsigned v, uint32_t index, uint64_t value);
uint64_t rdmsr(unsigned v, uint32_t index);

/* ---- the log. */
uint32_t guest_word(unsigned v, uint32_t offset);
/** Is that what the log says since the last call? Then it is empty. Prints what differs. */
bool log_is(unsigned v, const char *vectors, unsigned count);
#define LOGGED(v, vectors) CHECK(log_is(v, vectors, sizeof(vectors) - 1))
/** What the handlers of vectors first .. last do. */
void guest_action(unsigned first, unsigned last, uint8_t action);

/* ---- a vCPU on a thread of its own. */
/** Begin a step, and wait until it waits (for a routine that counts GUEST_READY). */
void guest_begin(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
/** Set the registers for a step, and no more. */
void guest_prepare(unsigned v, const uint8_t *routine, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
/** Go on with the registers that the vCPU has. */
void guest_begin_as_is(unsigned v);
/** Wait until it ends. Returns: the port. */
int guest_end(unsigned v);
/** Take the vCPU out of KVM_RUN, if it has not ended. Returns: did it end by itself? */
bool guest_interrupt(unsigned v);
/** Has the step ended? Does not wait. */
bool guest_has_ended(unsigned v);
/** Wait until the log of the vCPU has so many entries. */
void guest_wait_log(unsigned v, uint32_t count);

/* ---- what a client does. */
void line(unsigned gsi, int level);
/** KVM_IRQ_LINE_STATUS. */
int line_status(unsigned gsi, int level);
/** KVM_SIGNAL_MSI. */
int msi(uint32_t address, uint32_t data);
/** Set the routes, which also move. The list is `count` entries of the caller's. */
int guest_routes(const struct kvm_irq_routing_entry *entries, unsigned count);
unsigned mp_state(unsigned v);
void set_mp_state(unsigned v, unsigned state);
uint32_t lapic_get(unsigned v, uint32_t offset);
struct kvm_irqchip irqchip(unsigned id);

/* ---- the local APIC through memory. */
#define LAPIC 0xfee00000u
void lapic_write(unsigned v, uint32_t offset, uint32_t value);
uint32_t lapic_read(unsigned v, uint32_t offset);
/** Software-enable the APIC of every vCPU, with spurious vector 0xef. */
void lapics_on(void);

#endif
