# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Walk the event records of a data stream file. Readable definition: ``ustconsumer.ctf.count``."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy

from ustconsumer.abi.event import COMPACT_EVENT, EXTENDED_EVENT, EXTENDED_ID
from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE, STRING, problem, records

__all__ = ["EventCounter"]

cdef enum:
    OK = 0
    HEADER_CUT_OFF = 1
    WRONG_MAGIC = 2
    PACKET_SIZE = 3
    CONTENT_SIZE = 4
    UNKNOWN_STREAM = 5
    EVENT_HEADER_CUT_OFF = 6
    UNKNOWN_EVENT = 7
    EVENT_CUT_OFF = 8
    OPAQUE_EVENT = 9


cdef struct Step:
    uint64_t argument
    uint8_t operation


cdef struct Event:
    # ``first`` points into the array of all steps; count is -1 for an id without description
    Step *first
    int64_t count


cdef struct Stream:
    Event *events
    uint64_t count
    bint known


cdef struct Places:
    # From the rows of ``abi``, in bytes.
    uint64_t magic, stream_id, content_size, packet_size, discarded, header
    uint64_t compact_id, compact, extended_id, extended
    uint32_t ctf_magic, marker


cdef struct Counted:
    uint64_t events, packets, discarded
    int status
    # where the walk ended: start of the packet, of the record
    uint64_t packet, offset


# Operations as constants of C: checked against ``ctf.skip`` when the module is imported.
cdef enum:
    OP_FIXED = 0
    OP_STRING = 1
    OP_SEQUENCE = 2
    OP_OPAQUE = 6

if (FIXED, STRING, SEQUENCE, OPAQUE) != (OP_FIXED, OP_STRING, OP_SEQUENCE, OP_OPAQUE):
    raise ImportError("the operations of ustconsumer.ctf.skip changed: rebuild")


cdef inline uint16_t load16(const uint8_t *at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, sizeof(value))
    return value


cdef inline uint32_t load32(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, sizeof(value))
    return value


cdef inline uint64_t load64(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, sizeof(value))
    return value


cdef inline int64_t step_size(const uint8_t *at, uint64_t rest, const Step *step) noexcept nogil:
    """Return the bytes a step goes over, -1 if they are not all there."""
    cdef const void *nul
    cdef uint64_t width, length
    if step.operation == OP_FIXED:
        return <int64_t>step.argument if step.argument <= rest else -1
    if step.operation == OP_STRING:
        nul = memchr(at, 0, rest)
        return <int64_t>(<const uint8_t *>nul - at) + 1 if nul != NULL else -1
    width = <uint64_t>1 << (step.operation - OP_SEQUENCE)
    if rest < width:
        return -1
    if width == 1:
        length = at[0]
    elif width == 2:
        length = load16(at)
    elif width == 4:
        length = load32(at)
    else:
        length = load64(at)
    # Divided, not multiplied: the product of hostile lengths wraps.
    if step.argument and length > (rest - width) // step.argument:
        return -1
    return <int64_t>(width + length * step.argument)


cdef int walk_packet(
    const uint8_t *data, uint64_t at, uint64_t end, const Stream *stream,
    const Places *places, Counted *counted,
) noexcept nogil:
    """Count the records of a packet from ``at`` to ``end``; return a problem's number."""
    cdef uint64_t event_id
    cdef int64_t size, index
    cdef Event *event
    while at < end:
        counted.offset = at
        if end - at < places.compact:
            return EVENT_HEADER_CUT_OFF
        event_id = load16(data + at + places.compact_id)
        if event_id != places.marker:
            at += places.compact
        elif end - at < places.extended:
            return EVENT_HEADER_CUT_OFF
        else:
            event_id = load32(data + at + places.extended_id)
            at += places.extended
        if event_id >= stream.count or stream.events[event_id].count < 0:
            return UNKNOWN_EVENT
        event = &stream.events[event_id]
        for index in range(event.count):
            if event.first[index].operation == OP_OPAQUE:
                return OPAQUE_EVENT
            size = step_size(data + at, end - at, &event.first[index])
            if size < 0:
                return EVENT_CUT_OFF
            at += <uint64_t>size
        counted.events += 1
    return OK


cdef int walk(
    const uint8_t *data, uint64_t length, const Stream *streams, uint64_t stream_count,
    const Places *places, Counted *counted,
) noexcept nogil:
    """Count everything in ``length`` bytes of packets; return a problem's number."""
    cdef uint64_t at = 0, content, size, stream_id
    cdef int status
    cdef const Stream *stream
    cdef Stream nothing
    nothing.events = NULL
    nothing.count = 0
    while at < length:
        counted.packet = counted.offset = at
        if length - at < places.header:
            return HEADER_CUT_OFF
        if load32(data + at + places.magic) != places.ctf_magic:
            return WRONG_MAGIC
        size = load64(data + at + places.packet_size)
        if size % 8 or size // 8 < places.header or size // 8 > length - at:
            return PACKET_SIZE
        content = load64(data + at + places.content_size)
        if content % 8 or content // 8 < places.header or content > size:
            return CONTENT_SIZE
        content //= 8
        stream_id = load32(data + at + places.stream_id)
        stream = &nothing
        if stream_id < stream_count and streams[stream_id].known:
            stream = &streams[stream_id]
        elif content != places.header:
            return UNKNOWN_STREAM
        status = walk_packet(data, at + places.header, at + content, stream, places, counted)
        if status:
            return status
        counted.packets += 1
        counted.discarded = load64(data + at + places.discarded)
        at += size // 8
    return OK


cdef class EventCounter:
    """Counts the events of stream files of one trace without decoding them.

    Parameters
    ----------
    contexts : mapping of stream class id to steps
        Of the stream event contexts.
    events : mapping of stream class id to mapping of event id to steps
        Of the payloads. A stream class may be missing while it has no events.
    """

    cdef Step *_steps
    cdef Event *_events
    cdef Stream *_streams
    cdef uint64_t _stream_count
    cdef Places _places

    def __cinit__(self, contexts, events):
        self._places.magic = DATA_PACKET.offset("magic")
        self._places.stream_id = DATA_PACKET.offset("stream_id")
        self._places.content_size = DATA_PACKET.offset("content_size")
        self._places.packet_size = DATA_PACKET.offset("packet_size")
        self._places.discarded = DATA_PACKET.offset("events_discarded")
        self._places.header = DATA_PACKET.size
        self._places.compact_id = COMPACT_EVENT.offset("id")
        self._places.compact = COMPACT_EVENT.size
        self._places.extended_id = EXTENDED_EVENT.offset("id")
        self._places.extended = EXTENDED_EVENT.size
        self._places.ctf_magic = CTF_MAGIC
        self._places.marker = EXTENDED_ID
        described = records(contexts, events)
        self._allocate(described)
        self._fill(described)

    def __dealloc__(self):
        free(self._steps)
        free(self._events)
        free(self._streams)

    cdef int _allocate(self, dict described) except -1:
        total_events = total_steps = 0
        for payloads in described.values():
            total_events += _table_length(payloads)
            total_steps += sum(len(steps) for steps in payloads.values())
        self._stream_count = _table_length(described)
        # Never of size 0: calloc may return NULL for it.
        self._steps = <Step *>calloc(total_steps + 1, sizeof(Step))
        self._events = <Event *>calloc(total_events + 1, sizeof(Event))
        self._streams = <Stream *>calloc(self._stream_count + 1, sizeof(Stream))
        if self._steps == NULL or self._events == NULL or self._streams == NULL:
            raise MemoryError
        return 0

    cdef int _fill(self, dict described) except -1:
        cdef Step *step = self._steps
        cdef Event *event = self._events
        cdef Stream *stream
        cdef uint64_t index
        for stream_id, payloads in described.items():
            stream = &self._streams[<uint64_t>stream_id]
            stream.known = True
            stream.events = event
            stream.count = _table_length(payloads)
            event += stream.count
            for index in range(stream.count):
                stream.events[index].count = -1
            for event_id, steps in payloads.items():
                stream.events[<uint64_t>event_id].first = step
                stream.events[<uint64_t>event_id].count = len(steps)
                for operation, argument in steps:
                    step.operation = operation
                    step.argument = argument
                    step += 1
        return 0

    def count(self, data):
        """Return (events, packets, discarded events as the last packet says).

        Parameters
        ----------
        data : contiguous buffer of bytes
            Whole packets. The GIL is released meanwhile.

        Raises
        ------
        DecodeError
            The bytes contradict themselves or the description.
        """
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef uint64_t length = <uint64_t>view.shape[0]
        cdef Counted counted
        if length == 0:
            return 0, 0, 0
        counted.events = counted.packets = counted.discarded = 0
        counted.packet = counted.offset = 0
        with nogil:
            counted.status = walk(
                &view[0], length, self._streams, self._stream_count, &self._places, &counted
            )
        if counted.status:
            raise problem(counted.status, counted.packet, counted.offset)
        return counted.events, counted.packets, counted.discarded


def _table_length(table):
    """Return the length of an array indexed by the keys of ``table``, checked by `records`."""
    return max(table, default=-1) + 1
