/* SPDX-License-Identifier: MIT */
/*
 * sized BYTES|+MS...
 *
 * Emits one sized:event per argument, with a payload of exactly BYTES (5 at least: a
 * number and a text); +MS pauses for so many milliseconds instead.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "sized_tp.h"
#include "common.h"

int main(int argc, char **argv)
{
	char **texts = calloc(argc, sizeof(*texts));

	if (argc < 2 || !texts)
		return usage("sized BYTES|+MS...");
	/* All texts first: nothing slow comes between two events. */
	for (int at = 1; at < argc; at++) {
		if (argv[at][0] == '+')
			continue;
		texts[at] = letters(atol(argv[at]) - (long) sizeof(int));
		if (!texts[at])
			return usage("sized BYTES|+MS...");
	}
	for (int at = 1; at < argc; at++) {
		if (texts[at])
			lttng_ust_tracepoint(sized, event, at - 1, texts[at]);
		else
			pause_ms(atol(argv[at] + 1));
	}
	return 0;
}
