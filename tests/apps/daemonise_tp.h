/* SPDX-License-Identifier: MIT */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER daemonise

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "daemonise_tp.h"

#if !defined(DAEMONISE_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define DAEMONISE_TP_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(daemonise, tick,
	LTTNG_UST_TP_ARGS(int, seq),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, seq, seq)
	)
)

#endif

#include <lttng/tracepoint-event.h>
