/* SPDX-License-Identifier: MIT */
/* Every field class, log level and event form of lttng/tracepoint.h. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER fields

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "fields_tp.h"

#if !defined(FIELDS_TP_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define FIELDS_TP_H

#include <lttng/tracepoint.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef FIELDS_SAMPLE
#define FIELDS_SAMPLE
struct sample {
	int8_t s8;
	int16_t s16;
	int32_t s32;
	int64_t s64;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	float f32;
	double f64;
	const char *text;
	/* elements of the arrays and sequences, and how many the sequences show */
	const int8_t *a8;
	const uint16_t *a16;
	const int32_t *a32;
	const uint64_t *a64;
	const char *letters;
	int length;
};
#endif

LTTNG_UST_TRACEPOINT_EVENT(fields, integers,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int8_t, s8, s->s8)
		lttng_ust_field_integer(int16_t, s16, s->s16)
		lttng_ust_field_integer(int32_t, s32, s->s32)
		lttng_ust_field_integer(int64_t, s64, s->s64)
		lttng_ust_field_integer(uint8_t, u8, s->u8)
		lttng_ust_field_integer(uint16_t, u16, s->u16)
		lttng_ust_field_integer(uint32_t, u32, s->u32)
		lttng_ust_field_integer(uint64_t, u64, s->u64)
		lttng_ust_field_integer(long, l, (long) s->s64)
		lttng_ust_field_integer(char, c, s->letters[0])
		lttng_ust_field_integer(bool, b, s->s32 > 0)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, hex,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer_hex(int8_t, s8, s->s8)
		lttng_ust_field_integer_hex(int16_t, s16, s->s16)
		lttng_ust_field_integer_hex(int32_t, s32, s->s32)
		lttng_ust_field_integer_hex(int64_t, s64, s->s64)
		lttng_ust_field_integer_hex(uint8_t, u8, s->u8)
		lttng_ust_field_integer_hex(uint16_t, u16, s->u16)
		lttng_ust_field_integer_hex(uint32_t, u32, s->u32)
		lttng_ust_field_integer_hex(uint64_t, u64, s->u64)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, network,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer_network(int16_t, s16, s->s16)
		lttng_ust_field_integer_network(int32_t, s32, s->s32)
		lttng_ust_field_integer_network(int64_t, s64, s->s64)
		lttng_ust_field_integer_network(uint16_t, u16, s->u16)
		lttng_ust_field_integer_network(uint32_t, u32, s->u32)
		lttng_ust_field_integer_network(uint64_t, u64, s->u64)
		lttng_ust_field_integer_network_hex(int16_t, s16_hex, s->s16)
		lttng_ust_field_integer_network_hex(uint32_t, u32_hex, s->u32)
		lttng_ust_field_integer_network_hex(uint64_t, u64_hex, s->u64)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, reals,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_float(float, f32, s->f32)
		lttng_ust_field_float(double, f64, s->f64)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, strings,
	LTTNG_UST_TP_ARGS(const struct sample *, s, const char *, none),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_string(text, s->text)
		lttng_ust_field_string(none, none)
		lttng_ust_field_string(after, "after")
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, arrays,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_array(int8_t, a8, s->a8, 4)
		lttng_ust_field_array(uint16_t, a16, s->a16, 3)
		lttng_ust_field_array(int32_t, a32, s->a32, 2)
		lttng_ust_field_array(uint64_t, a64, s->a64, 1)
		lttng_ust_field_array_hex(int8_t, a8_hex, s->a8, 2)
		lttng_ust_field_array_hex(uint64_t, a64_hex, s->a64, 2)
		lttng_ust_field_array_network(uint16_t, a16_net, s->a16, 2)
		lttng_ust_field_array_network(int32_t, a32_net, s->a32, 3)
		lttng_ust_field_array_network_hex(uint64_t, a64_net_hex, s->a64, 2)
		lttng_ust_field_array_text(char, letters, s->letters, 6)
	)
)

/* Elements of every size, lengths of every type. */
LTTNG_UST_TRACEPOINT_EVENT(fields, sequences,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_sequence(int8_t, a8, s->a8, unsigned char, s->length)
		lttng_ust_field_sequence(uint16_t, a16, s->a16, uint16_t, s->length)
		lttng_ust_field_sequence(int32_t, a32, s->a32, unsigned int, s->length)
		lttng_ust_field_sequence(uint64_t, a64, s->a64, size_t, s->length)
		lttng_ust_field_sequence_hex(int8_t, a8_hex, s->a8, uint16_t, s->length)
		lttng_ust_field_sequence_hex(uint64_t, a64_hex, s->a64, uint8_t, s->length)
		lttng_ust_field_sequence_network(uint16_t, a16_net, s->a16, uint64_t, s->length)
		lttng_ust_field_sequence_network_hex(int32_t, a32_net, s->a32, uint32_t, s->length)
		lttng_ust_field_sequence_text(char, text8, s->letters, uint8_t, s->length)
		lttng_ust_field_sequence_text(char, text64, s->letters, unsigned long, s->length)
	)
)

LTTNG_UST_TRACEPOINT_ENUM(fields, plain,
	LTTNG_UST_TP_ENUM_VALUES(
		lttng_ust_field_enum_value("zero", 0)
		lttng_ust_field_enum_value("one", 1)
		lttng_ust_field_enum_range("two to nine", 2, 9)
		lttng_ust_field_enum_value("minus three", -3)
		lttng_ust_field_enum_range("far below", -100, -50)
		lttng_ust_field_enum_value("\"quoted\\", 77)
	)
)

LTTNG_UST_TRACEPOINT_ENUM(fields, automatic,
	LTTNG_UST_TP_ENUM_VALUES(
		lttng_ust_field_enum_auto("A")
		lttng_ust_field_enum_auto("B")
		lttng_ust_field_enum_value("J", 10)
		lttng_ust_field_enum_auto("K")
		lttng_ust_field_enum_range("R", 20, 29)
		lttng_ust_field_enum_auto("S")
	)
)

LTTNG_UST_TRACEPOINT_ENUM(fields, large,
	LTTNG_UST_TP_ENUM_VALUES(
		lttng_ust_field_enum_value("small", 1ULL)
		lttng_ust_field_enum_range("huge", 0x8000000000000000ULL, 0xfffffffffffffffeULL)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, enumerations,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_enum(fields, plain, int8_t, e_s8, s->s8)
		lttng_ust_field_enum(fields, plain, short, e_s16, s->s16)
		lttng_ust_field_enum(fields, plain, int, e_s32, s->s32)
		lttng_ust_field_enum(fields, plain, int64_t, e_s64, s->s64)
		lttng_ust_field_enum(fields, automatic, uint8_t, e_u8, s->u8)
		lttng_ust_field_enum(fields, automatic, uint16_t, e_u16, s->u16)
		lttng_ust_field_enum(fields, automatic, unsigned int, e_u32, s->u32)
		lttng_ust_field_enum(fields, large, uint64_t, e_u64, s->u64)
	)
)

/* Nothing of a nowrite field is recorded: it exists for filters only. */
LTTNG_UST_TRACEPOINT_EVENT(fields, nowrite,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, before, s->s32)
		lttng_ust_field_integer_nowrite(int, hidden_integer, s->s32)
		lttng_ust_field_float_nowrite(double, hidden_float, s->f64)
		lttng_ust_field_string_nowrite(hidden_string, s->text)
		lttng_ust_field_array_nowrite(int8_t, hidden_array, s->a8, 2)
		lttng_ust_field_array_text_nowrite(char, hidden_text, s->letters, 4)
		lttng_ust_field_sequence_nowrite(int8_t, hidden_sequence, s->a8, uint8_t, s->length)
		lttng_ust_field_sequence_text_nowrite(char, hidden_letters, s->letters, uint8_t, s->length)
		lttng_ust_field_enum_nowrite(fields, plain, int, hidden_enum, s->s32)
		lttng_ust_field_integer(int, after, s->s32)
	)
)

/* Names a reader must not confuse with its own words. */
LTTNG_UST_TRACEPOINT_EVENT(fields, names,
	LTTNG_UST_TP_ARGS(const struct sample *, s),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, event, s->s32)
		lttng_ust_field_integer(int, stream, s->s32)
		lttng_ust_field_integer(int, _under, s->s32)
		lttng_ust_field_integer(int, __twice, s->s32)
		lttng_ust_field_string(string, s->text)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(fields, empty, LTTNG_UST_TP_ARGS(), LTTNG_UST_TP_FIELDS())

LTTNG_UST_TRACEPOINT_EVENT_CLASS(fields, shape,
	LTTNG_UST_TP_ARGS(int, width, const char *, name),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, width, width)
		lttng_ust_field_string(name, name)
	)
)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, shape, fields, circle,
	LTTNG_UST_TP_ARGS(int, width, const char *, name))
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, shape, fields, square,
	LTTNG_UST_TP_ARGS(int, width, const char *, name))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, square, LTTNG_UST_TRACEPOINT_LOGLEVEL_NOTICE)
LTTNG_UST_TRACEPOINT_MODEL_EMF_URI(fields, circle, "http://example.com/model?shape=circle")
LTTNG_UST_TRACEPOINT_MODEL_EMF_URI(fields, square, "http://example.com/model?shape=square")

LTTNG_UST_TRACEPOINT_EVENT_CLASS(fields, level,
	LTTNG_UST_TP_ARGS(int, n),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(int, n, n)
	)
)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, emerg, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, emerg, LTTNG_UST_TRACEPOINT_LOGLEVEL_EMERG)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, alert, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, alert, LTTNG_UST_TRACEPOINT_LOGLEVEL_ALERT)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, crit, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, crit, LTTNG_UST_TRACEPOINT_LOGLEVEL_CRIT)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, err, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, err, LTTNG_UST_TRACEPOINT_LOGLEVEL_ERR)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, warning, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, warning, LTTNG_UST_TRACEPOINT_LOGLEVEL_WARNING)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, notice, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, notice, LTTNG_UST_TRACEPOINT_LOGLEVEL_NOTICE)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, info, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, info, LTTNG_UST_TRACEPOINT_LOGLEVEL_INFO)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_system, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_system, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_SYSTEM)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_program, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_program, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_PROGRAM)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_process, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_process, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_PROCESS)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_module, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_module, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_MODULE)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_unit, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_unit, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_UNIT)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_function, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_function, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_FUNCTION)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug_line, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug_line, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG_LINE)
LTTNG_UST_TRACEPOINT_EVENT_INSTANCE(fields, level, fields, debug, LTTNG_UST_TP_ARGS(int, n))
LTTNG_UST_TRACEPOINT_LOGLEVEL(fields, debug, LTTNG_UST_TRACEPOINT_LOGLEVEL_DEBUG)

#endif

#include <lttng/tracepoint-event.h>
