/* SPDX-License-Identifier: MIT */
/*
 * vmmu-host: the process in which the front end hosts a program that it cannot be preloaded into. All of it is in the
 * front end, which is preloaded here.
 */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv, char **environment)
{
	int (*host)(int, char **, char **) = (int (*)(int, char **, char **))dlsym(RTLD_DEFAULT, "vmmu_host");

	if (host)
		return host(argc, argv, environment);
	fprintf(stderr, "vmmu-host: this is run by vmmu, not by hand\n");
	return 125;
}
