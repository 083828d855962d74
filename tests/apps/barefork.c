/* SPDX-License-Identifier: MIT */
/*
 * barefork N [--orphan] [--until FILE]
 *
 * Emits N fork:tick events with who = 0, forks without exec; the child emits N with
 * who = 1 into the buffers it inherited. The parent waits for the child, or with
 * --orphan ends at once, and the child emits only after the parent is gone. With
 * --until the child then waits for FILE and emits N more.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "barefork_tp.h"
#include "common.h"

#include <sys/wait.h>

static void emit(int who, int first, int count)
{
	for (int seq = first; seq < first + count; seq++)
		lttng_ust_tracepoint(fork, tick, who, seq);
}

int main(int argc, char **argv)
{
	int orphan = argc > 2 && !strcmp(argv[2], "--orphan");
	int at = 2 + orphan;
	const char *until = argc == at + 2 && !strcmp(argv[at], "--until") ? argv[at + 1] : NULL;
	int ends[2], status, count;
	pid_t child;
	char byte;

	if (argc != at + (until ? 2 : 0))
		return usage("barefork N [--orphan] [--until FILE]");
	count = atoi(argv[1]);
	emit(0, 0, count);
	if (pipe(ends))
		return 1;
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0) {
		close(ends[1]);
		/* End of file: the parent, the only other writer, is gone. */
		if (orphan && read(ends[0], &byte, 1) != 0)
			_exit(1);
		emit(1, 0, count);
		if (until) {
			await(until);
			emit(1, count, count);
		}
		/* No destructor: liblttng-ust's would wait for threads that fork did not copy. */
		_exit(0);
	}
	if (orphan)
		_exit(0);
	if (waitpid(child, &status, 0) != child)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
