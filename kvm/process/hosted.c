/* SPDX-License-Identifier: MIT */
#include "kvm/process/hosted.h"
#include <stddef.h>

_Static_assert(offsetof(struct hosted_thread, fs) == HOSTED_FS, "as the entries believe");
_Static_assert(offsetof(struct hosted_thread, client_fs) == HOSTED_CLIENT_FS, "as the entries believe");
_Static_assert(offsetof(struct hosted_thread, frame) == HOSTED_FRAME, "as the entries believe");

__thread struct hosted_thread hosted_self;
bool hosted_on;
