/* SPDX-License-Identifier: MIT */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER filters

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "filters_tp.h"

#if !defined(FILTERS_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define FILTERS_TP_H

#include <stddef.h>
#include <stdint.h>
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_ENUM(filters, color,
	LTTNG_UST_TP_ENUM_VALUES(
		lttng_ust_field_enum_value("red", 0)
		lttng_ust_field_enum_range("green", 2, 9)
		lttng_ust_field_enum_value("none", -1)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(filters, event,
	LTTNG_UST_TP_ARGS(uint32_t, n, int64_t, v, double, d, const char *, s,
		const uint8_t *, bytes, uint32_t, length),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(uint32_t, n, n)
		lttng_ust_field_integer(int8_t, i8, v)
		lttng_ust_field_integer(int16_t, i16, v)
		lttng_ust_field_integer(int32_t, i32, v)
		lttng_ust_field_integer(int64_t, i64, v)
		lttng_ust_field_integer(uint8_t, u8, v)
		lttng_ust_field_integer(uint16_t, u16, v)
		lttng_ust_field_integer(uint32_t, u32, v)
		lttng_ust_field_integer(uint64_t, u64, v)
		lttng_ust_field_float(float, f32, d)
		lttng_ust_field_float(double, f64, d)
		lttng_ust_field_string(s, s)
		lttng_ust_field_sequence(uint8_t, bytes, bytes, uint32_t, length)
		lttng_ust_field_enum(filters, color, int, color, v)
	)
)

#endif

#include <lttng/tracepoint-event.h>
