/* SPDX-License-Identifier: MIT */
/*
 * The front end's stack in a thread of the program. Calls may nest: a call is interrupted, and a signal handler of the
 * program makes another one. The handler runs on the alternate stack of the program, or on ours.
 */
#include "kvm/process/sys.h"
#include "kvm/trap/trap.h"
#include <string.h>
#include <unistd.h>

#define CHUNK     (UINT64_C(1) << 17) /* what one call may use */
#define RED_ZONE  256u
#define HANDLER_ROOM 16384u /* what calls that are made in handlers need */
#define UNWOUND   (UINT64_C(1) << 20)

uint64_t trap_xsave_bytes;

void trap_thread_begin(uintptr_t low, uintptr_t high, uintptr_t room)
{
	uint64_t fs;

	__asm__("mov %%fs:0, %0" : "=r"(fs)); /* the thread-local storage begins with its own address */
	hosted_self.fs = fs;
	hosted_self.frame = NULL;
	hosted_self.stack_low = low;
	hosted_self.stack_high = high;
	hosted_self.stack_first = room;
}

static bool is_within(uintptr_t at, uintptr_t low, size_t bytes)
{
	return at > low && at - low <= bytes;
}

static bool is_ours(const struct hosted_thread *self, uintptr_t at)
{
	return is_within(at, self->stack_low, self->stack_high - self->stack_low);
}

/*
 * Is this call over, because the program left it by longjmp out of a handler, or since a child of vfork made it? Then
 * the stack is used from above where it was then. A call on the alternate stack is over when it is made elsewhere.
 */
static bool is_over(const struct hosted_thread *self, const struct trap_frame *frame, uint64_t rsp)
{
	return !is_ours(self, (uintptr_t)frame) || (rsp >= frame->rsp && rsp - frame->rsp < UNWOUND);
}

static struct trap_frame *place(uintptr_t top)
{
	return (struct trap_frame *)((top - sizeof(struct trap_frame)) & ~(uintptr_t)63); // NOLINT: on a stack
}

/*
 * A handler on the alternate stack keeps it for its calls, when it is large enough. On another stack the kernel would
 * not know that the alternate one is in use, and the next signal would destroy the handler's part of it.
 */
struct trap_frame *trap_place(struct hosted_thread *self, uint64_t rsp, const stack_t *alternate)
{
	static const char text[] = "vmmu: signal handlers of the program interrupt each other too deeply\n";
	bool on_alternate = is_within(rsp, (uintptr_t)alternate->ss_sp, alternate->ss_size);
	const struct trap_frame *live;
	uintptr_t top;

	if (is_ours(self, rsp)) {
		top = rsp - RED_ZONE;
	} else if (on_alternate && rsp - (uintptr_t)alternate->ss_sp >= HANDLER_ROOM + trap_xsave_bytes) {
		return place(rsp - RED_ZONE);
	} else {
		while (self->frame && !on_alternate && is_over(self, self->frame, rsp))
			self->frame = self->frame->previous;
		for (live = self->frame; live && !is_ours(self, (uintptr_t)live);)
			live = live->previous;
		top = live ? (uintptr_t)live - CHUNK : self->stack_first;
	}
	if (top < self->stack_low || top - self->stack_low < CHUNK / 2) {
		SYS3(SYS_write, STDERR_FILENO, text, sizeof(text) - 1);
		SYS1(SYS_exit_group, 125);
	}
	return place(top);
}
