/* SPDX-License-Identifier: MIT */
/*
 * filters INTEGER REAL HEX...
 *
 * Emits one filters:event for each three arguments: integers of every type that are the
 * low bits of INTEGER, reals, and a text and a sequence that are the bytes in HEX.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "filters_tp.h"
#include "common.h"

#include <string.h>

int main(int argc, char **argv)
{
	for (int at = 1; at + 2 < argc; at += 3) {
		char text[64] = "";
		size_t length = strlen(argv[at + 2]) / 2;

		if (length >= sizeof(text))
			return usage("filters INTEGER REAL HEX...");
		for (size_t byte = 0; byte < length; byte++) {
			unsigned int value = 0;

			sscanf(argv[at + 2] + 2 * byte, "%2x", &value);
			text[byte] = (char) value;
		}
		lttng_ust_tracepoint(filters, event, at / 3,
			(int64_t) strtoull(argv[at], NULL, 0), strtod(argv[at + 1], NULL),
			text, (const uint8_t *) text, (uint32_t) length);
	}
	return 0;
}
