/* SPDX-License-Identifier: MIT */
/*
 * daemonise N READY GO
 *
 * Becomes a daemon as of old: forks, starts a session, forks again, and both parents end
 * with status 0. The daemon writes its pid to READY, waits until GO exists, emits N
 * daemonise:tick events and ends.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "daemonise_tp.h"
#include "common.h"

#include <sys/types.h>

static void become_child(void)
{
	pid_t child = fork();

	if (child)
		_exit(child < 0);
}

static void write_pid(const char *path)
{
	char unfinished[4096];
	FILE *file;

	snprintf(unfinished, sizeof(unfinished), "%s.new", path);
	file = fopen(unfinished, "w");
	if (!file || fprintf(file, "%d\n", (int) getpid()) < 0 || fclose(file) ||
	    rename(unfinished, path))
		_exit(1);
}

int main(int argc, char **argv)
{
	int count;

	if (argc != 4)
		return usage("daemonise N READY GO");
	count = atoi(argv[1]);
	become_child();
	if (setsid() < 0)
		_exit(1);
	become_child();
	/* Whoever reads our output must not wait for us. */
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	write_pid(argv[2]);
	await(argv[3]);
	for (int seq = 0; seq < count; seq++)
		lttng_ust_tracepoint(daemonise, tick, seq);
	/* No destructor: in a bare fork's child it would wait for threads that are not there. */
	_exit(0);
}
