/* SPDX-License-Identifier: MIT */
/*
 * The table of the interface (kvm/report/surface.c) is true: a request that it calls refused fails with ENOTTY, any
 * other is answered, and each capability has the value in the table. doc/kvm-conformance.md has the same table.
 *
 *     surface DOC            check
 *     surface --markdown     print the tables for the document
 */
#include "check.h"
#include "kvm/report/surface.h"

static const char *const words[] = { "done", "partial", "refused" };

static const char *text(const char *may_be_null)
{
	return may_be_null ? may_be_null : "";
}

static void print_tables(FILE *out)
{
	fprintf(out, "| ioctl | here | note | tests |\n|---|---|---|---|\n");
	for (const struct surface_ioctl *i = surface_ioctls; i->name; i++)
		fprintf(out, "| %s | %s | %s | %s |\n", i->name, words[i->status], text(i->note), text(i->test));
	fprintf(out, "\n| capability | number | here | value | note | tests |\n|---|---|---|---|---|---|\n");
	for (const struct surface_cap *c = surface_caps; c->name; c++) {
		char value[16] = "by machine";

		if (c->value != SURFACE_COMPUTED)
			snprintf(value, sizeof(value), "%d", c->value);
		fprintf(out, "| %s | %u | %s | %s | %s | %s |\n", c->name, c->number, words[c->status], value,
		        text(c->note), text(c->test));
	}
}

/* Is the answer to the request anything but "no such ioctl"? */
static bool is_answered(int fd, uint32_t request)
{
	static uint8_t argument[16384];

	memset(argument, 0xff, sizeof(argument)); /* an illegal argument to every request, so none does anything */
	errno = 0;
	return ioctl(fd, (unsigned long)request, argument) >= 0 || errno != ENOTTY;
}

static void check_ioctls(void)
{
	struct machine m;

	machine_make(&m, 1, 16 * PAGE);
	for (const struct surface_ioctl *i = surface_ioctls; i->name; i++) {
		bool answered = is_answered(m.vm, i->request) && is_answered(m.vcpu[0], i->request) &&
		                is_answered(m.kvm, i->request);

		if (i->status == SURFACE_REFUSED ? answered : 0) {
			fprintf(stderr, "%s is answered and the table says refused\n", i->name);
			check_failures++;
		}
		/*
		 * Do not ask the VM: it answers ENOTTY to any request that KVM does not have for a VM. A vCPU and
		 * /dev/kvm answer EINVAL in that case.
		 */
		if (i->status != SURFACE_REFUSED && !is_answered(m.vcpu[0], i->request) &&
		    !is_answered(m.kvm, i->request)) {
			fprintf(stderr, "%s is refused and the table says that it is not\n", i->name);
			check_failures++;
		}
		check_count += 2;
	}
	machine_free(&m, 1);
}

static void check_caps(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	NEED(kvm >= 0);
	for (const struct surface_cap *c = surface_caps; c->name; c++) {
		int value = ioctl(kvm, KVM_CHECK_EXTENSION, (unsigned long)c->number);

		CHECK(c->value == SURFACE_COMPUTED ? value >= 0 : value == c->value);
		CHECK((c->status == SURFACE_REFUSED) == (c->value == 0));
	}
	for (unsigned long n = 0; n < 400; n++)
		if (!surface_cap_find((unsigned)n))
			CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, n) == 0);
	close(kvm);
}

static void check_document(const char *path)
{
	char *tables = NULL, *document = NULL;
	size_t size, length = 0;
	FILE *out = open_memstream(&tables, &size), *in = fopen(path, "r");

	NEED(out && in);
	print_tables(out);
	fclose(out);
	NEED(getdelim(&document, &length, '\0', in) > 0);
	fclose(in);
	for (char *line = strtok(tables, "\n"); line; line = strtok(NULL, "\n")) {
		check_count++;
		if (!strstr(document, line)) {
			fprintf(stderr, "%s lacks: %s\n", path, line);
			check_failures++;
		}
	}
	free(tables);
	free(document);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--markdown") == 0) {
		print_tables(stdout);
		return 0;
	}
	check_ioctls();
	check_caps();
	if (argc > 1)
		check_document(argv[1]);
	return check_end();
}
