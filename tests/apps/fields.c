/* SPDX-License-Identifier: MIT */
/*
 * fields [ROUNDS]
 *
 * Emits every event of fields_tp.h with the same values in each run: extremes,
 * ordinary values and nothing at all. Single-threaded; prints nothing.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "fields_tp.h"
#include "common.h"

static const int8_t a8[] = { INT8_MIN, -1, 0, INT8_MAX };
static const uint16_t a16[] = { 0, 0x1234, UINT16_MAX, 7 };
static const int32_t a32[] = { INT32_MIN, -1, 0x12345678, INT32_MAX };
static const uint64_t a64[] = { UINT64_MAX, 0x123456789abcdef0, 1, 0 };

static const struct sample samples[] = {
	{
		.s8 = INT8_MIN, .s16 = INT16_MIN, .s32 = INT32_MIN, .s64 = INT64_MIN,
		.u8 = 0, .u16 = 0, .u32 = 0, .u64 = 0,
		.f32 = -1.5f, .f64 = 1e300,
		.text = "", .a8 = a8, .a16 = a16, .a32 = a32, .a64 = a64,
		.letters = "\0bcdef", .length = 0,
	},
	{
		.s8 = INT8_MAX, .s16 = INT16_MAX, .s32 = INT32_MAX, .s64 = INT64_MAX,
		.u8 = UINT8_MAX, .u16 = UINT16_MAX, .u32 = UINT32_MAX, .u64 = UINT64_MAX,
		.f32 = 3.4028235e38f, .f64 = -0.0,
		.text = "\"quotes\", \\back, tab\t, h\xc3\xa9llo", .a8 = a8, .a16 = a16, .a32 = a32,
		.a64 = a64, .letters = "abcdef", .length = 4,
	},
	{
		.s8 = -3, .s16 = 5, .s32 = 77, .s64 = -60,
		.u8 = 11, .u16 = 25, .u32 = 30, .u64 = 0x8000000000000001,
		.f32 = 0.1f, .f64 = 3.141592653589793,
		.text = "a string of some length, to see that nothing depends on it being short",
		.a8 = a8, .a16 = a16, .a32 = a32, .a64 = a64, .letters = "ab\0def", .length = 3,
	},
};

static void emit(const struct sample *s)
{
	lttng_ust_tracepoint(fields, integers, s);
	lttng_ust_tracepoint(fields, hex, s);
	lttng_ust_tracepoint(fields, network, s);
	lttng_ust_tracepoint(fields, reals, s);
	lttng_ust_tracepoint(fields, strings, s, NULL);
	lttng_ust_tracepoint(fields, arrays, s);
	lttng_ust_tracepoint(fields, sequences, s);
	lttng_ust_tracepoint(fields, enumerations, s);
	lttng_ust_tracepoint(fields, nowrite, s);
	lttng_ust_tracepoint(fields, names, s);
	lttng_ust_tracepoint(fields, empty);
	lttng_ust_tracepoint(fields, circle, s->u8, s->text);
	lttng_ust_tracepoint(fields, square, s->u16, s->text);
	lttng_ust_tracepoint(fields, emerg, 0);
	lttng_ust_tracepoint(fields, alert, 1);
	lttng_ust_tracepoint(fields, crit, 2);
	lttng_ust_tracepoint(fields, err, 3);
	lttng_ust_tracepoint(fields, warning, 4);
	lttng_ust_tracepoint(fields, notice, 5);
	lttng_ust_tracepoint(fields, info, 6);
	lttng_ust_tracepoint(fields, debug_system, 7);
	lttng_ust_tracepoint(fields, debug_program, 8);
	lttng_ust_tracepoint(fields, debug_process, 9);
	lttng_ust_tracepoint(fields, debug_module, 10);
	lttng_ust_tracepoint(fields, debug_unit, 11);
	lttng_ust_tracepoint(fields, debug_function, 12);
	lttng_ust_tracepoint(fields, debug_line, 13);
	lttng_ust_tracepoint(fields, debug, 14);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;

	for (int round = 0; round < rounds; round++) {
		for (size_t at = 0; at < sizeof(samples) / sizeof(*samples); at++)
			emit(&samples[at]);
	}
	return 0;
}
