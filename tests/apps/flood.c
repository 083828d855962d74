/* SPDX-License-Identifier: MIT */
/*
 * flood N [THREADS] [--from FIRST] [--text BYTES] [--ready FILE] [--wait-start FILE...]
 *
 * Emits exactly N flood:tick events per thread at full speed (for ever if N is
 * negative), numbered from FIRST or 0, with a text of so many bytes, the zero at its end
 * included. --ready creates FILE once the program runs (so it is registered);
 * --wait-start holds every event back until all the files exist.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "flood_tp.h"
#include "common.h"

#include <limits.h>
#include <pthread.h>

static int count, first;
static const char *text = "flood";

static void *run(void *argument)
{
	int thread = (int) (long) argument;

	for (int seq = first; count < 0 || seq < first + count; seq = seq == INT_MAX ? 0 : seq + 1)
		lttng_ust_tracepoint(flood, tick, seq, thread, text);
	return NULL;
}

#define USAGE "flood N [THREADS] [--from FIRST] [--text BYTES] [--ready FILE] [--wait-start FILE...]"

int main(int argc, char **argv)
{
	int threads = 1, at = 2;

	if (argc < 2)
		return usage(USAGE);
	count = atoi(argv[1]);
	if (at < argc && argv[at][0] != '-')
		threads = atoi(argv[at++]);
	if (at + 1 < argc && !strcmp(argv[at], "--from")) {
		first = atoi(argv[at + 1]);
		at += 2;
	}
	if (at + 1 < argc && !strcmp(argv[at], "--text")) {
		text = letters(atol(argv[at + 1]));
		at += 2;
	}
	if (at + 1 < argc && !strcmp(argv[at], "--ready")) {
		touch(argv[at + 1]);
		at += 2;
	}
	if (at < argc && !strcmp(argv[at], "--wait-start")) {
		for (at++; at < argc; at++)
			await(argv[at]);
	}
	if (at != argc || threads < 1 || !text)
		return usage(USAGE);

	/* The main thread is one of them, so that one thread means a single-threaded program. */
	pthread_t others[threads];
	for (long thread = 1; thread < threads; thread++) {
		if (pthread_create(&others[thread], NULL, run, (void *) thread))
			return 1;
	}
	run((void *) 0L);
	for (int thread = 1; thread < threads; thread++)
		pthread_join(others[thread], NULL);
	return 0;
}
