/* SPDX-License-Identifier: MIT */
/*
 * steps
 *
 * For each line of its input emits one steps:tick and one steps:tock, numbered through, and
 * answers with the line.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "steps_tp.h"
#include "common.h"

int main(int argc, char **argv)
{
	char line[256];
	int seq = 0;

	(void) argv;
	if (argc != 1)
		return usage("steps");
	while (fgets(line, sizeof(line), stdin)) {
		lttng_ust_tracepoint(steps, tick, seq);
		lttng_ust_tracepoint(steps, tock, seq);
		seq++;
		fputs(line, stdout);
		fflush(stdout);
	}
	return 0;
}
