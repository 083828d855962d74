/* SPDX-License-Identifier: MIT */
/*
 * sleeper PERIOD_MS [COUNT] [--ready FILE]
 *
 * Emits sleeper:beat with n = 0, 1, ... every PERIOD_MS until COUNT events (0: no
 * limit) or SIGTERM, which ends it with status 0. --ready creates FILE once the
 * program runs (so it is registered).
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "sleeper_tp.h"
#include "common.h"

#include <signal.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
	(void) signal;
	ended = 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = end };
	int at = 2, count = 0;
	long period;

	if (argc < 2)
		return usage("sleeper PERIOD_MS [COUNT] [--ready FILE]");
	period = atol(argv[1]);
	if (at < argc && argv[at][0] != '-')
		count = atoi(argv[at++]);
	sigaction(SIGTERM, &action, NULL);
	if (at + 1 < argc && !strcmp(argv[at], "--ready")) {
		touch(argv[at + 1]);
		at += 2;
	}
	if (at != argc)
		return usage("sleeper PERIOD_MS [COUNT] [--ready FILE]");
	for (int n = 0; !ended && (!count || n < count); n++) {
		lttng_ust_tracepoint(sleeper, beat, n);
		pause_ms(period);
	}
	return 0;
}
