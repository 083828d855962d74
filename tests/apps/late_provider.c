/* SPDX-License-Identifier: MIT */
/* A library with a tracepoint provider of its own, for late.c to load. */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "late_provider_tp.h"

void emit(int first, int count);

void emit(int first, int count)
{
	for (int seq = first; seq < first + count; seq++)
		lttng_ust_tracepoint(late, tick, seq);
}
