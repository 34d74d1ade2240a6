/* SPDX-License-Identifier: MIT */
/*
 * A small fake host for scenarios: a few pages of memory at fake addresses, whose frames can move.
 *
 *     host address HOST_HVA + n * 4096   page n, 0 .. HOST_PAGES - 1
 *     frame number HOST_PFN + n          frame n, 0 .. HOST_FRAMES - 1; page n begins in frame n
 *
 * A frame is a few words, because the checker's tables have few entries. Guests and the library read and write `word`,
 * atomically. `data` stands for the rest of the frame. It is read and written plainly, so that an access to a frame
 * that was given away is a data race.
 */
#ifndef PORT_CHECK_HOST_H
#define PORT_CHECK_HOST_H

#include <vmmu/host.h>

#define HOST_PAGES  8u
#define HOST_FRAMES 12u
#define HOST_WORDS  4u
#define HOST_HVA    UINT64_C(0x200000000)
#define HOST_PFN    UINT64_C(0x100)

struct host_frame {
	uint64_t word[HOST_WORDS]; /* atomic: the first words of the frame */
	uint64_t data;             /* plain */
};

struct host {
	struct host_frame frame[HOST_FRAMES];
	uint32_t frame_of[HOST_PAGES]; /* a: the frame of each page now; changes only within an invalidation */
	bool read_only[HOST_PAGES];    /* constant: the guest gets no write access */
	enum vmmu_level max_level;     /* a */
	bool neighbours;               /* constant */
	bool small[HOST_PAGES];        /* constant: such a page has neither */
};

extern struct host host;            /* the scenario's; its setup sets what it starts from */
extern const struct vmmu_host host_ops;

/** Put each page in its first frame; blocks are 4 KiB. */
void host_init(void);

static inline struct vmmu_hva host_hva(unsigned page)
{
	return (struct vmmu_hva){ HOST_HVA + page * VMMU_PAGE_SIZE };
}

/** The frame that a page is in now, and the frame with a number. */
unsigned host_frame_of(uint64_t hva);
struct host_frame *host_frame_at(uint64_t pfn);

/** Move a page to a frame. Call it within an invalidation. */
void host_move(unsigned page, unsigned frame);

#endif
