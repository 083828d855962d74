/* SPDX-License-Identifier: MIT */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER steps

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "steps_tp.h"

#if !defined(STEPS_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define STEPS_TP_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(steps, tick,
	LTTNG_UST_TP_ARGS(int, seq),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(int, seq, seq))
)
LTTNG_UST_TRACEPOINT_LOGLEVEL(steps, tick, LTTNG_UST_TRACEPOINT_LOGLEVEL_INFO)

LTTNG_UST_TRACEPOINT_EVENT(steps, tock,
	LTTNG_UST_TP_ARGS(int, seq),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(int, seq, seq))
)
LTTNG_UST_TRACEPOINT_LOGLEVEL(steps, tock, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG)

#endif

#include <lttng/tracepoint-event.h>
