/* SPDX-License-Identifier: MIT */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER flood

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "flood_tp.h"

#if !defined(FLOOD_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define FLOOD_TP_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(flood, tick,
	LTTNG_UST_TP_ARGS(int, seq, int, thread, const char *, text),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, seq, seq)
		lttng_ust_field_integer(int, thread, thread)
		lttng_ust_field_string(text, text)
	)
)

#endif

#include <lttng/tracepoint-event.h>
