/* SPDX-License-Identifier: MIT
 *
 * Drives one stream with LTTng's own libraries, a command a line on stdin:
 *
 *   CLOCK w EVENT_ID LENGTH BYTE   write an event      CLOCK r ... reserve and write only
 *   CLOCK k                        commit the last reservation that is open
 *   CLOCK b COUNT LENGTH           write COUNT events as fast as can be, each its number
 *                                  (u32) and then LENGTH bytes of it; returns how many
 *                                  were recorded
 *   CLOCK f ACTIVE                 flush               CLOCK c     clear
 *   CLOCK n | N                    get next, put next
 *   CLOCK g POSITION | G           get, put
 *   CLOCK s | S                    snapshot, sample positions
 *   CLOCK p                        print the positions of the last snapshot
 *   CLOCK h                        print what the library says of the held packet
 *
 * CLOCK 0 is the real clock. Every answer is one line; its first number is what the library returned, its second
 * the number of wake-up bytes in the stream's pipe.
 *
 * The reader's side is the public control library. Its channels have no public way to
 * write events, but the clients behind them are the tracer's own: the event functions
 * are reached through the public struct lttng_ust_channel_buffer, with an event made
 * here. Two private structures are touched for that, by the offsets below; main() checks
 * them against what it knows to stand there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <lttng/ust-abi.h>
#include <lttng/ust-clock.h>
#include <lttng/ust-events.h>
#include <lttng/ust-getcpu.h>
#include <lttng/ust-ringbuffer-context.h>
#include <lttng/ust-sigbus.h>
#include <lttng/ust-ctl.h>

DEFINE_LTTNG_UST_SIGBUS_STATE();

enum {
	CHANNEL_HEADER_TYPE = 40,	/* lttng_ust_channel_buffer_private, 2.13, 64-bit */
	CHANNEL_ID = 44,
	CHANNEL_UUID = 72,
	EVENT_ID = 120,			/* lttng_ust_event_recorder_private, 2.13, 64-bit */
	EVENT_SIZE = 128,
	MAX_STREAMS = 1024,
	MAX_OPEN = 4,
	MAX_EVENT = 1 << 21,
};

static uint64_t clock_value;
static int current_cpu;

static uint64_t read_clock(void)
{
	struct timespec now;

	if (clock_value)
		return clock_value;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint64_t clock_frequency(void)
{
	return 1000000000;
}

static int clock_uuid(char *uuid)
{
	strcpy(uuid, "83ce8e7c-0b5b-4d0b-a4ef-3c0ba4e2b7ad");
	return 0;
}

static const char *clock_text(void)
{
	return "test";
}

static int get_cpu(void)
{
	return current_cpu;
}

static void fail(const char *what)
{
	fprintf(stderr, "ust_ctl_twin: %s\n", what);
	exit(1);
}

static struct lttng_ust_channel_buffer *buffer;
static struct lttng_ust_ctl_consumer_stream *stream;
static struct lttng_ust_ring_buffer_ctx open_events[MAX_OPEN];
static int nr_open;
static char event_private[EVENT_SIZE];
static char payload[MAX_EVENT];

static int reserve(uint32_t id, size_t length, int byte)
{
	/* Outlives the reservation, as the ring buffer keeps the pointer. */
	static struct lttng_ust_event_recorder event;
	struct lttng_ust_ring_buffer_ctx *ctx = &open_events[nr_open];
	int ret;

	if (nr_open == MAX_OPEN || length > sizeof(payload))
		fail("too many or too large reservations");
	event.struct_size = sizeof(event);
	event.priv = (void *) event_private;
	event.chan = buffer;
	memcpy(event_private + EVENT_ID, &id, sizeof(id));
	lttng_ust_ring_buffer_ctx_init(ctx, &event, length, 1, NULL);
	ret = buffer->ops->event_reserve(ctx);
	if (ret)
		return ret;
	memset(payload, byte, length);
	buffer->ops->event_write(ctx, payload, length, 1);
	nr_open++;
	return 0;
}

static int commit(void)
{
	if (!nr_open)
		fail("nothing is reserved");
	buffer->ops->event_commit(&open_events[--nr_open]);
	return 0;
}

static int burst(uint32_t count, size_t length)
{
	static struct lttng_ust_event_recorder event;
	struct lttng_ust_ring_buffer_ctx ctx;
	uint32_t number, id = 1;
	int recorded = 0;

	event.struct_size = sizeof(event);
	event.priv = (void *) event_private;
	event.chan = buffer;
	memcpy(event_private + EVENT_ID, &id, sizeof(id));
	for (number = 0; number < count; number++) {
		lttng_ust_ring_buffer_ctx_init(&ctx, &event, sizeof(number) + length, 1, NULL);
		if (buffer->ops->event_reserve(&ctx))
			continue;
		memset(payload, number, length);
		buffer->ops->event_write(&ctx, &number, sizeof(number), 1);
		buffer->ops->event_write(&ctx, payload, length, 1);
		buffer->ops->event_commit(&ctx);
		recorded++;
	}
	return recorded;
}

static void say_packet(void)
{
	unsigned long data_size = 0, padded = 0, mmap_offset = 0;
	uint64_t begin = 0, end = 0, discarded = 0, content = 0, packet = 0, seq = 0, id = 0,
		 instance = 0;
	int ret = 0;

	ret |= lttng_ust_ctl_get_subbuf_size(stream, &data_size);
	ret |= lttng_ust_ctl_get_padded_subbuf_size(stream, &padded);
	ret |= lttng_ust_ctl_get_mmap_read_offset(stream, &mmap_offset);
	ret |= lttng_ust_ctl_get_timestamp_begin(stream, &begin);
	ret |= lttng_ust_ctl_get_timestamp_end(stream, &end);
	ret |= lttng_ust_ctl_get_events_discarded(stream, &discarded);
	ret |= lttng_ust_ctl_get_content_size(stream, &content);
	ret |= lttng_ust_ctl_get_packet_size(stream, &packet);
	ret |= lttng_ust_ctl_get_sequence_number(stream, &seq);
	ret |= lttng_ust_ctl_get_stream_id(stream, &id);
	ret |= lttng_ust_ctl_get_instance_id(stream, &instance);
	printf("%d 0 %lu %lu %lu %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
	       " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	       ret, data_size, padded, mmap_offset, begin, end, discarded, content, packet, seq,
	       id, instance);
}

static void run_command(const char *line)
{
	unsigned long consumed = 0, produced = 0;
	unsigned long long first = 0, second = 0, third = 0;
	char command;
	int ret = 0, wakeups = -1;

	if (sscanf(line, "%" SCNu64 " %c %llu %llu %llu", &clock_value, &command, &first, &second,
		   &third) < 2)
		fail("cannot read the command");
	switch (command) {
	case 'w':
		ret = reserve(first, second, third);
		if (!ret)
			ret = commit();
		break;
	case 'r':
		ret = reserve(first, second, third);
		break;
	case 'k':
		ret = commit();
		break;
	case 'b':
		ret = burst(first, second);
		break;
	case 'f':
		ret = lttng_ust_ctl_flush_buffer(stream, first);
		break;
	case 'c':
		ret = lttng_ust_ctl_clear_buffer(stream);
		break;
	case 'n':
		ret = lttng_ust_ctl_get_next_subbuf(stream);
		break;
	case 'N':
		ret = lttng_ust_ctl_put_next_subbuf(stream);
		break;
	case 'g':
		consumed = first;
		ret = lttng_ust_ctl_get_subbuf(stream, &consumed);
		break;
	case 'G':
		ret = lttng_ust_ctl_put_subbuf(stream);
		break;
	case 's':
		ret = lttng_ust_ctl_snapshot(stream);
		break;
	case 'S':
		ret = lttng_ust_ctl_snapshot_sample_positions(stream);
		break;
	case 'p':
		ret = lttng_ust_ctl_snapshot_get_consumed(stream, &consumed);
		ret |= lttng_ust_ctl_snapshot_get_produced(stream, &produced);
		printf("%d 0 %lu %lu\n", ret, consumed, produced);
		return;
	case 'h':
		say_packet();
		return;
	default:
		fail("unknown command");
	}
	if (ioctl(lttng_ust_ctl_stream_get_wait_fd(stream), FIONREAD, &wakeups))
		fail("cannot count wake-ups");
	printf("%d %d\n", ret, wakeups);
}

static void use_own_clock_and_cpu(void)
{
	if (lttng_ust_trace_clock_set_read64_cb(read_clock)
	    || lttng_ust_trace_clock_set_freq_cb(clock_frequency)
	    || lttng_ust_trace_clock_set_uuid_cb(clock_uuid)
	    || lttng_ust_trace_clock_set_name_cb(clock_text)
	    || lttng_ust_trace_clock_set_description_cb(clock_text)
	    || lttng_ust_enable_trace_clock_override() || lttng_ust_getcpu_override(get_cpu))
		fail("cannot replace clock and CPU");
}

/* ust_ctl_twin CLOCK SUBBUF_SIZE NUM_SUBBUF OVERWRITE SWITCH_US READ_US BLOCKING_US ID UUID
 *              CPU HEADER_TYPE SOCKET FD... */
int main(int argc, char **argv)
{
	struct lttng_ust_ctl_consumer_channel_attr attr = { .type = LTTNG_UST_ABI_CHAN_PER_CPU };
	struct lttng_ust_ctl_consumer_channel *channel;
	int fds[MAX_STREAMS], nr_fds = argc - 13, cpu, i, socket;
	char line[256], *private;

	if (nr_fds < 1 || nr_fds > MAX_STREAMS || strlen(argv[9]) != 32)
		fail("usage");
	use_own_clock_and_cpu();
	clock_value = strtoull(argv[1], NULL, 0);
	attr.subbuf_size = strtoull(argv[2], NULL, 0);
	attr.num_subbuf = strtoull(argv[3], NULL, 0);
	attr.overwrite = atoi(argv[4]);
	attr.switch_timer_interval = strtoul(argv[5], NULL, 0);
	attr.read_timer_interval = strtoul(argv[6], NULL, 0);
	attr.blocking_timeout = strtoll(argv[7], NULL, 0);
	attr.chan_id = strtoul(argv[8], NULL, 0);
	attr.output = LTTNG_UST_ABI_MMAP;
	for (i = 0; i < 16; i++)
		sscanf(argv[9] + 2 * i, "%2hhx", &attr.uuid[i]);
	current_cpu = atoi(argv[10]);
	socket = atoi(argv[12]);
	for (i = 0; i < nr_fds; i++)
		fds[i] = atoi(argv[13 + i]);

	if (nr_fds != lttng_ust_ctl_get_nr_stream_per_channel())
		fail("one stream per possible CPU is needed");
	channel = lttng_ust_ctl_create_channel(&attr, fds, nr_fds);
	if (!channel)
		fail("cannot create the channel");
	for (cpu = 0; cpu < nr_fds; cpu++) {
		struct lttng_ust_ctl_consumer_stream *one;

		one = lttng_ust_ctl_create_stream(channel, cpu);
		if (!one)
			fail("cannot create a stream");
		if (cpu == current_cpu)
			stream = one;
	}
	if (lttng_ust_ctl_send_channel_to_sessiond(socket, channel))
		fail("cannot send the channel");

	buffer = *(struct lttng_ust_channel_buffer **) channel;
	private = (char *) buffer->priv;
	if (*(uint32_t *) (private + CHANNEL_ID) != attr.chan_id
	    || memcmp(private + CHANNEL_UUID, attr.uuid, sizeof(attr.uuid)))
		fail("private structures differ from those of lttng-ust 2.13");
	*(int *) (private + CHANNEL_HEADER_TYPE) = atoi(argv[11]);

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("0 0\n");
	while (fgets(line, sizeof(line), stdin))
		run_command(line);
	return 0;
}
