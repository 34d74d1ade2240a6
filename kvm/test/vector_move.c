/* SPDX-License-Identifier: MIT */
/*
 * A guest works in all of its vector, mask and x87 registers. The client stops it at random places, and
 * all of its state goes into a fresh VM, over and over. The result is bit for bit that of a run that nobody disturbed.
 *
 *     vector_move [MOVES [any-kvm]]    any-kvm: a KVM that may not step programs, as one that runs guests unprivileged
 */
#include "check.h"
#include "vector_guest.h"
#include <signal.h>

#define MOVES 100u

static bool steps = true;

/* ---- moving ---------------------------------------------------------------------------------------------------- */

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_debugregs debug;
	union {
		struct kvm_xsave xsave;
		uint8_t bytes[16384];
	} area;
};

static void get_state(struct machine *m, struct state *s, bool xsave2)
{
	int vcpu = m->vcpu[0];

	memset(s, 0, sizeof(*s));
	NEED(ioctl(vcpu, KVM_GET_REGS, &s->regs) == 0);
	NEED(ioctl(vcpu, KVM_GET_SREGS, &s->sregs) == 0);
	NEED(!vector_guest_xcr0() || ioctl(vcpu, KVM_GET_XCRS, &s->xcrs) == 0);
	NEED(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &s->events) == 0);
	NEED(ioctl(vcpu, KVM_GET_MP_STATE, &s->mp) == 0);
	NEED(ioctl(vcpu, KVM_GET_DEBUGREGS, &s->debug) == 0);
	NEED(ioctl(vcpu, xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, &s->area) == 0);
}

static void set_state(struct machine *m, struct state *s)
{
	int vcpu = m->vcpu[0];

	vector_guest_set_cpuid(vcpu);
	NEED(ioctl(vcpu, KVM_SET_SREGS, &s->sregs) == 0);
	NEED(ioctl(vcpu, KVM_SET_REGS, &s->regs) == 0);
	NEED(!vector_guest_xcr0() || ioctl(vcpu, KVM_SET_XCRS, &s->xcrs) == 0);
	NEED(ioctl(vcpu, KVM_SET_XSAVE, &s->area) == 0);
	NEED(ioctl(vcpu, KVM_SET_DEBUGREGS, &s->debug) == 0);
	NEED(ioctl(vcpu, KVM_SET_MP_STATE, &s->mp) == 0);
	NEED(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &s->events) == 0);
}

/* All state, and a fresh VM with the same memory. */
static void move(struct machine *m)
{
	static struct state before, after;
	struct machine fresh;
	bool xsave2 = rand() & 1;

	machine_settle(m, 1);
	get_state(m, &before, xsave2);
	machine_make(&fresh, 1, m->bytes);
	munmap(fresh.memory, fresh.bytes);
	fresh.memory = m->memory;
	NEED(machine_slot(fresh.vm, 0, 0, 0, 0, NULL) == 0);
	NEED(machine_slot(fresh.vm, 0, 0, 0, m->bytes, m->memory) == 0);
	machine_close(m, 1);
	*m = fresh;
	set_state(m, &before);
	get_state(m, &after, !xsave2);
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
}

static void on_alarm(int number)
{
	(void)number;
	vector_guest_stop();
}

/* So that each instruction of the loop is a place to stop. Returns: as vector_guest_run. */
static bool step(struct machine *m, unsigned instructions)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };

	NEED(ioctl(m->vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	for (unsigned i = 0; i < instructions; i++) {
		NEED(ioctl(m->vcpu[0], KVM_RUN, 0) == 0);
		if (m->run[0]->exit_reason == KVM_EXIT_IO)
			return false;
		NEED(m->run[0]->exit_reason == KVM_EXIT_DEBUG);
	}
	debug.control = 0;
	NEED(ioctl(m->vcpu[0], KVM_SET_GUEST_DEBUG, &debug) == 0);
	return true;
}

/* To a random place. Returns: as vector_guest_run. */
static bool run_some(struct machine *m)
{
	if (!vector_guest_run(m, 1 + (unsigned)rand() % 3000))
		return false;
	return !steps || rand() & 1 || step(m, 1 + (unsigned)rand() % 80);
}

/* ---- results --------------------------------------------------------------------------------------------------- */

struct result {
	struct vector_work work;
	struct state state;
};

static void end(struct machine *m, struct result *r)
{
	get_state(m, &r->state, true);
	memcpy(&r->work, m->memory + VECTOR_GUEST_WORK, sizeof(r->work));
	machine_free(m, 1);
}

/* Every component was in use, and no map has come to an end. */
static void expect_use(const struct state *s, uint64_t have)
{
	uint64_t used;
	double x;

	memcpy(&used, s->area.bytes + 512, sizeof(used));
	CHECK((used & have) == have);
	for (unsigned n = 8; n < 16; n++) {
		memcpy(&x, s->area.bytes + 160 + 16 * n, sizeof(x));
		CHECK(x > 0 && x < 1);
	}
}

static void test(const struct vector_guest *guest, unsigned moves)
{
	static struct result alone, moved;
	struct machine m;
	unsigned done = 0, runs = 0;

	vector_guest_make(&m, guest);
	NEED(ioctl(m.vcpu[0], KVM_RUN, 0) == 0 && m.run[0]->exit_reason == KVM_EXIT_IO);
	end(&m, &alone);
	expect_use(&alone.state, guest->components);
	for (unsigned seed = 2; done < moves; runs++) {
		vector_guest_make(&m, guest);
		srand(seed++);
		for (; run_some(&m); done++)
			move(&m);
		end(&m, &moved);
		CHECK(memcmp(&alone.work, &moved.work, sizeof(alone.work)) == 0);
		CHECK(memcmp(&alone.state, &moved.state, sizeof(alone.state)) == 0);
	}
	printf("%s: %u moves in %u runs\n", guest->name, done, runs);
}

int main(int argc, char **argv)
{
	unsigned moves = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : MOVES;
	struct vector_guest list[3];
	unsigned count = vector_guest_list(list);

	steps = argc <= 2;
	NEED(signal(SIGALRM, on_alarm) != SIG_ERR);
	for (unsigned i = 0; i < count; i++)
		test(&list[i], moves);
	return check_end();
}
