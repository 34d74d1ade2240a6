/* SPDX-License-Identifier: MIT */
#include "kvm/process/sys.h"
#include <errno.h>

long sys_result(long result)
{
	if (result >= 0 || result < -4095)
		return result;
	errno = (int)-result;
	return -1;
}
