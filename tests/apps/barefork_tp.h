/* SPDX-License-Identifier: MIT */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER fork

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "barefork_tp.h"

#if !defined(BAREFORK_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BAREFORK_TP_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(fork, tick,
	LTTNG_UST_TP_ARGS(int, who, int, seq),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, who, who)
		lttng_ust_field_integer(int, seq, seq)
	)
)

#endif

#include <lttng/tracepoint-event.h>
