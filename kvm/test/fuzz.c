/* SPDX-License-Identifier: MIT */
/*
 * Random ioctls with random arguments from several threads. Nothing may crash or hang. A slot only ever gets memory
 * of the arena, since a guest may write to the memory of its slots.
 *
 *     fuzz [SECONDS [SEED]]
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define THREADS 3
#define FDS     12
#define ARENA   (64 * PAGE)
#define DATA    16384u

static int fds[FDS]; /* shared on purpose: a thread closes and replaces descriptors that others use */
static uint8_t *arena;
static _Atomic bool stop;
static unsigned long seed;

static const unsigned long requests[] = {
	KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_GET_MSR_INDEX_LIST, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE,
	KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID, KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_CREATE_VCPU,
	KVM_GET_DIRTY_LOG, KVM_SET_NR_MMU_PAGES, KVM_GET_NR_MMU_PAGES, KVM_SET_USER_MEMORY_REGION, KVM_SET_TSS_ADDR,
	KVM_SET_IDENTITY_MAP_ADDR, KVM_CREATE_IRQCHIP, KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SET_GSI_ROUTING,
	KVM_SET_BOOT_CPU_ID, KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_SIGNAL_MSI, KVM_RUN, KVM_RUN, KVM_RUN, KVM_GET_REGS,
	KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_TRANSLATE, KVM_INTERRUPT, KVM_GET_MSRS, KVM_SET_MSRS,
	KVM_SET_CPUID, KVM_GET_FPU, KVM_SET_FPU, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_SET_CPUID2, KVM_GET_CPUID2,
	KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_NMI, KVM_SET_GUEST_DEBUG, KVM_X86_SETUP_MCE,
	KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_X86_SET_MCE, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_DEBUGREGS,
	KVM_SET_DEBUGREGS, KVM_ENABLE_CAP, KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XCRS, KVM_SET_XCRS,
	KVM_KVMCLOCK_CTRL, KVM_CLEAR_DIRTY_LOG, KVM_X86_SET_MSR_FILTER, KVM_RESET_DIRTY_RINGS, KVM_GET_SREGS2,
	KVM_SET_SREGS2, KVM_GET_STATS_FD, KVM_GET_XSAVE2, KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ, KVM_CREATE_DEVICE,
	KVM_IOEVENTFD, KVM_IRQFD, KVM_CREATE_PIT, KVM_CREATE_PIT2, KVM_GET_PIT, KVM_SET_PIT, KVM_GET_PIT2, KVM_SET_PIT2,
	KVM_REINJECT_CONTROL, KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE, KVM_SMI, KVM_MEMORY_ENCRYPT_OP,
	0xae00fful, 0x4008aeeful, 0xc0ffeeul,
};

static unsigned long next(unsigned long *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Random bytes, mostly small numbers, so that some of it is legal. */
static void fill(uint8_t *data, unsigned long *state)
{
	unsigned long kind = next(state) % 4;

	memset(data, kind == 1 ? 0xff : 0, DATA);
	if (kind == 0)
		for (unsigned i = 0; i < DATA; i += 8) {
			unsigned long value = next(state);

			memcpy(data + i, &value, 8);
		}
	for (unsigned i = 0; i < 16; i++) {
		uint32_t value = (uint32_t)next(state) % 70;

		memcpy(data + next(state) % 32 * 4, &value, 4);
	}
}

static unsigned long argument_for(unsigned long request, uint8_t *data, unsigned long *state)
{
	switch (next(state) % 8) {
	case 0: return 0;
	case 1: return next(state) % 100;
	case 2: return next(state);
	case 3: return (unsigned long)arena + ARENA - next(state) % 64; /* ends inside the argument */
	default: break;
	}
	fill(data, state);
	if (request == KVM_SET_USER_MEMORY_REGION) {
		struct kvm_userspace_memory_region region = {
			.slot = (uint32_t)(next(state) % 5),
			.flags = (uint32_t)(next(state) % 5),
			.guest_phys_addr = next(state) % 128 * PAGE,
			.memory_size = next(state) % 16 * PAGE,
		};
		uint64_t most = ARENA / PAGE - region.memory_size / PAGE;

		region.userspace_addr = (uint64_t)arena + next(state) % (most + 1) * PAGE;
		memcpy(data, &region, sizeof(region));
	}
	if (request == KVM_GET_DIRTY_LOG || request == KVM_CLEAR_DIRTY_LOG) {
		/* KVM writes the bitmap, so it must lie in `data`. */
		uint64_t bitmap = (uint64_t)(data + 4096);

		memcpy(data + (request == KVM_GET_DIRTY_LOG ? 8 : 16), &bitmap, 8);
	}
	return (unsigned long)data;
}

/*
 * The kernel may give the number of a descriptor that one thread closes to the next that another thread opens. That is
 * an order which ThreadSanitizer does not see: so call this before a close, and after what opens. (It looks at dup
 * itself, too early for that: so descriptors are duplicated by fcntl.)
 */
static void number_changes_hands(void)
{
	static unsigned turns;

	__atomic_fetch_add(&turns, 1, __ATOMIC_SEQ_CST);
}

static void one(uint8_t *data, unsigned long *state)
{
	unsigned i = (unsigned)(next(state) % FDS);
	unsigned long request = requests[next(state) % (sizeof(requests) / sizeof(*requests))];
	unsigned long argument;
	int fd = __atomic_load_n(&fds[i], __ATOMIC_SEQ_CST), result;

	switch (next(state) % 200) {
	case 0:
		number_changes_hands();
		if (i > 1) /* /dev/kvm and one VM stay open */
			close(__atomic_exchange_n(&fds[i], -1, __ATOMIC_SEQ_CST));
		return;
	case 1:
		result = fcntl(fd, F_DUPFD, 0);
		goto keep;
	case 2:
		madvise(arena + next(state) % 64 * PAGE, PAGE, MADV_DONTNEED);
		return;
	case 3:
		mprotect(arena, ARENA, PROT_READ);
		mprotect(arena, ARENA, PROT_READ | PROT_WRITE);
		return;
	default:
		break;
	}
	/*
	 * The descriptor is random, so it may be of the wrong kind for the request, as is wanted. Most descriptors
	 * should be vCPUs: of eight requests for a VM, about seven ask for a vCPU instead.
	 */
	if (request == KVM_CREATE_VM && next(state) % 8)
		request = KVM_CREATE_VCPU;
	argument = request == KVM_RUN && next(state) % 16 ? 0 : argument_for(request, data, state);
	if (request == KVM_CREATE_VM)
		argument = 0;
	if (request == KVM_SET_USER_MEMORY_REGION && argument != (unsigned long)data)
		return;
	if ((request == KVM_GET_DIRTY_LOG || request == KVM_CLEAR_DIRTY_LOG) && argument != (unsigned long)data)
		return;
	/* The kernel may write only to `data` and the arena: a write elsewhere would damage this program. */
	if (argument > 4096 && argument != (unsigned long)data &&
	    !(argument >= (unsigned long)arena && argument < (unsigned long)arena + ARENA) && argument >> 47 == 0)
		return;
	result = ioctl(fd, request, argument);
	/* Chips come before the first vCPU or not at all. */
	if (request == KVM_CREATE_VM && result >= 0 && next(state) % 2 && ioctl(result, KVM_CREATE_IRQCHIP, 0) == 0) {
		fill(data, state);
		ioctl(result, KVM_CREATE_PIT2, data);
	}
	if (request != KVM_CREATE_VM && request != KVM_CREATE_VCPU && request != KVM_GET_STATS_FD)
		return;
keep:
	number_changes_hands();
	if (result < 3)
		return;
	i = 2 + (unsigned)(next(state) % (FDS - 2));
	result = __atomic_exchange_n(&fds[i], result, __ATOMIC_SEQ_CST);
	if (result >= 0)
		close(result);
}

static void *worker(void *argument)
{
	unsigned long state = seed * 1000003 + (unsigned long)argument * 7919 + 1;
	uint8_t *data = malloc(DATA);

	while (!stop)
		one(data, &state);
	free(data);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct timespec begin, now;
	pthread_t threads[THREADS];
	double limit = argc > 1 ? atof(argv[1]) : 5;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	seed = argc > 2 ? strtoul(argv[2], NULL, 0) : (unsigned long)begin.tv_nsec;
	printf("seed %lu\n", seed);
	fflush(stdout);
	sigaction(SIGUSR1, &action, NULL);
	arena = mmap(NULL, ARENA + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(arena != MAP_FAILED && mprotect(arena + ARENA, PAGE, PROT_NONE) == 0);
	for (int i = 0; i < FDS; i++)
		fds[i] = -1;
	fds[0] = open("/dev/kvm", O_RDWR);
	fds[1] = ioctl(fds[0], KVM_CREATE_VM, 0);
	fds[2] = ioctl(fds[1], KVM_CREATE_VCPU, 0ul);
	NEED(fds[2] >= 0);
	for (unsigned long i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
	do {
		usleep(1000);
		for (int i = 0; i < THREADS; i++)
			pthread_kill(threads[i], SIGUSR1); /* so that it leaves KVM_RUN */
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 < limit);
	stop = true;
	for (int i = 0; i < THREADS; i++) {
		struct timespec until;
		int left;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += 60;
		do {
			struct timespec soon;

			/* Not this one alone: it may wait for a vCPU that another thread runs. */
			for (int other = i; other < THREADS; other++)
				pthread_kill(threads[other], SIGUSR1);
			clock_gettime(CLOCK_REALTIME, &soon);
			soon.tv_nsec += 5000000;
			if (soon.tv_nsec >= 1000000000) {
				soon.tv_nsec -= 1000000000;
				soon.tv_sec++;
			}
			left = pthread_timedjoin_np(threads[i], NULL, &soon);
			clock_gettime(CLOCK_REALTIME, &now);
		} while (left && now.tv_sec < until.tv_sec);
		CHECK(left == 0);
	}
	return check_end();
}
