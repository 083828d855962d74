/* SPDX-License-Identifier: MIT */
/*
 * crasher N -SIGNAL|STATUS
 *
 * Emits N flood:tick events, and dies at once of the signal (a negative number), or ends
 * with the status.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "flood_tp.h"
#include "common.h"

#include <signal.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return usage("crasher N -SIGNAL|STATUS");
	int count = atoi(argv[1]), how = atoi(argv[2]);
	for (int seq = 0; seq < count; seq++)
		lttng_ust_tracepoint(flood, tick, seq, 0, "crash");
	if (how < 0)
		raise(-how);
	_exit(how);
}
