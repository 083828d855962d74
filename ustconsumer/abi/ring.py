# SPDX-License-Identifier: MIT
"""The shared-memory ring buffer of LTTng-UST, one row set per ABI version and machine.

Structure offsets are relative to the structure; a nested structure's fields appear in
its holder at their absolute offsets. Stream and channel are separate objects: the
channel is never shared, each process has its own copy (the "blob").
"""

from __future__ import annotations

from typing import NamedTuple

from ustconsumer.abi.packet import DATA_PACKET
from ustconsumer.abi.rows import Layout, Row, embed

__all__ = [
    "CRASH_MAGIC",
    "MODE_DISCARD",
    "MODE_OVERWRITE",
    "OUTPUT_MMAP",
    "RING_LAYOUTS",
    "TRANSPORTS",
    "WAKEUP_BY_TIMER",
    "WAKEUP_BY_WRITER",
    "RingLayout",
    "Transport",
    "compatible",
]

MODE_OVERWRITE, MODE_DISCARD = 0, 1
OUTPUT_MMAP = 1
WAKEUP_BY_TIMER, WAKEUP_BY_WRITER = 0, 1
CRASH_MAGIC = bytes.fromhex("177bf177bf" * 3 + "17")

_UST = "lttng-ust de624c20 (v2.13.5) src/common/"
_FRONTEND = _UST + "ringbuffer/frontend_types.h"
_BACKEND = _UST + "ringbuffer/backend_types.h"
#: A reference: object index in the local table of the process, byte offset in the object.
_REF = "(2,)<i8"


class Transport(NamedTuple):
    """What the client code of the tracer calls one kind of data channel."""

    name: str
    client_type: int
    mode: int
    wakeup: int


#: By (overwrite, woken by the writer).
TRANSPORTS = {
    (False, True): Transport("relay-discard-mmap", 1, MODE_DISCARD, WAKEUP_BY_WRITER),
    (True, True): Transport("relay-overwrite-mmap", 2, MODE_OVERWRITE, WAKEUP_BY_WRITER),
    (False, False): Transport("relay-discard-rt-mmap", 3, MODE_DISCARD, WAKEUP_BY_TIMER),
    (True, False): Transport("relay-overwrite-rt-mmap", 4, MODE_OVERWRITE, WAKEUP_BY_TIMER),
}


class RingLayout(NamedTuple):
    """All structures of one ring-buffer ABI on one machine.

    Attributes
    ----------
    name : str
        Key in `RING_LAYOUTS`: ``ust-<ABI major>-<machine>``.
    page_size : int
        Alignment of the data area and of packet sizes on disk, bytes.
    control, hot, cold, page, crash : Layout
        In the stream object; ``crash`` is the head of ``control``.
    ref, word : int
        Bytes of one reference and of one table entry (end timestamp, sub-buffer id,
        packet counter).
    channel, client_config : Layout
        In the channel object. ``channel.buf`` is where the references to the streams
        begin: *inside* the tail padding of the structure, while the object's size
        counts them from ``channel.size``.
    packet : Layout
        Header of a data packet.
    id_noref, id_index_mask, id_turn_shift : int
        Sub-buffer id in overwrite mode: page index, "no writer" flag, turn.
    """

    name: str
    page_size: int
    control: Layout
    hot: Layout
    cold: Layout
    page: Layout
    crash: Layout
    ref: int
    word: int
    channel: Layout
    channel_buf: int
    client_config: Layout
    packet: Layout
    id_noref: int
    id_index_mask: int
    id_turn_shift: int


_CRASH_OFFSETS = (
    *("prod_offset", "consumed_offset", "commit_hot_array", "commit_hot_seq"),
    *("buf_wsb_array", "buf_wsb_id", "sb_array", "sb_array_shmp_offset"),
    *("sb_backend_p_offset", "content_size", "packet_size"),
)
_CRASH_LENGTHS = (
    *("prod_offset", "consumed_offset", "commit_hot_seq", "buf_wsb_id"),
    *("sb_array_shmp_offset", "sb_backend_p_offset", "content_size", "packet_size"),
)

#: Lets a stranger read the buffer of a dead process: packed, the same on all machines.
_CRASH_0 = Layout(
    "crash record",
    124,
    1,
    _FRONTEND,
    [
        Row("magic", "V16", 0, "lttng_crash_abi.magic"),
        Row("mmap_length", "<u8", 16, "lttng_crash_abi.mmap_length"),
        Row("endian", "<u2", 24, "lttng_crash_abi.endian"),
        Row("major", "<u2", 26, "lttng_crash_abi.major"),
        Row("minor", "<u2", 28, "lttng_crash_abi.minor"),
        Row("word_size", "u1", 30, "lttng_crash_abi.word_size"),
        Row("layout_type", "u1", 31, "lttng_crash_abi.layout_type"),
        *(
            Row(f"offset_{name}", "<u4", 32 + 4 * i, f"lttng_crash_abi.offset.{name}")
            for i, name in enumerate(_CRASH_OFFSETS)
        ),
        *(
            Row(f"length_{name}", "u1", 76 + i, f"lttng_crash_abi.length.{name}")
            for i, name in enumerate(_CRASH_LENGTHS)
        ),
        Row("stride_commit_hot_array", "<u4", 84, "lttng_crash_abi.stride.commit_hot_array"),
        Row("stride_buf_wsb_array", "<u4", 88, "lttng_crash_abi.stride.buf_wsb_array"),
        Row("stride_sb_array", "<u4", 92, "lttng_crash_abi.stride.sb_array"),
        Row("buf_size", "<u8", 96, "lttng_crash_abi.buf_size"),
        Row("subbuf_size", "<u8", 104, "lttng_crash_abi.subbuf_size"),
        Row("num_subbuf", "<u8", 112, "lttng_crash_abi.num_subbuf"),
        Row("mode", "<u4", 120, "lttng_crash_abi.mode"),
    ],
)

_BUFFER_BACKEND = [
    Row("buf_wsb", _REF, 0, "lttng_ust_ring_buffer_backend.buf_wsb"),
    Row("rsb_id", "<u8", 16, "lttng_ust_ring_buffer_backend.buf_rsb.id"),
    Row("buf_cnt", _REF, 24, "lttng_ust_ring_buffer_backend.buf_cnt"),
    Row("array", _REF, 40, "lttng_ust_ring_buffer_backend.array"),
    Row("memory_map", _REF, 56, "lttng_ust_ring_buffer_backend.memory_map"),
    Row("chan", _REF, 72, "lttng_ust_ring_buffer_backend.chan"),
    Row("cpu", "<i4", 88, "lttng_ust_ring_buffer_backend.cpu"),
    Row("records_read", "<i8", 96, "lttng_ust_ring_buffer_backend.records_read"),
    Row("allocated", "<u4", 104, "lttng_ust_ring_buffer_backend.allocated (bit 0)"),
]

_CONTROL_9 = Layout(
    "ring buffer control block",
    640,
    128,
    _FRONTEND,
    [
        *embed(_CRASH_0.rows, 0, "crash_"),
        Row("offset", "<u8", 128, "lttng_ust_ring_buffer.offset"),
        Row("commit_hot", _REF, 136, "lttng_ust_ring_buffer.commit_hot"),
        Row("consumed", "<u8", 152, "lttng_ust_ring_buffer.consumed"),
        Row("record_disabled", "<i4", 160, "lttng_ust_ring_buffer.record_disabled"),
        Row("last_tsc", "<u8", 168, "lttng_ust_ring_buffer.last_tsc"),
        *embed(_BUFFER_BACKEND, 176),
        Row("commit_cold", _REF, 352, "lttng_ust_ring_buffer.commit_cold"),
        Row("ts_end", _REF, 368, "lttng_ust_ring_buffer.ts_end"),
        Row("active_readers", "<u8", 384, "lttng_ust_ring_buffer.active_readers"),
        Row("lost_full", "<u8", 392, "lttng_ust_ring_buffer.records_lost_full"),
        Row("lost_wrap", "<u8", 400, "lttng_ust_ring_buffer.records_lost_wrap"),
        Row("lost_big", "<u8", 408, "lttng_ust_ring_buffer.records_lost_big"),
        Row("records_count", "<u8", 416, "lttng_ust_ring_buffer.records_count"),
        Row("records_overrun", "<u8", 424, "lttng_ust_ring_buffer.records_overrun"),
        Row("finalized", "<i4", 432, "lttng_ust_ring_buffer.finalized"),
        Row("get_subbuf_consumed", "<u8", 440, "lttng_ust_ring_buffer.get_subbuf_consumed"),
        Row("prod_snapshot", "<u8", 448, "lttng_ust_ring_buffer.prod_snapshot"),
        Row("cons_snapshot", "<u8", 456, "lttng_ust_ring_buffer.cons_snapshot"),
        Row("get_subbuf", "<u4", 464, "lttng_ust_ring_buffer.get_subbuf (bit 0)"),
        Row("self", _REF, 472, "lttng_ust_ring_buffer.self"),
    ],
)

_HOT_9 = Layout(
    "hot commit counters",
    128,
    128,
    _FRONTEND,
    [
        Row("cc", "<u8", 0, "commit_counters_hot.cc"),
        Row("seq", "<u8", 8, "commit_counters_hot.seq"),
    ],
)

_COLD_9 = Layout(
    "cold commit counters",
    128,
    128,
    _FRONTEND,
    [Row("cc_sb", "<u8", 0, "commit_counters_cold.cc_sb")],
)

_PAGE_9 = Layout(
    "page descriptor",
    64,
    8,
    _BACKEND,
    [
        Row("mmap_offset", "<u8", 0, "lttng_ust_ring_buffer_backend_pages.mmap_offset"),
        Row("records_commit", "<u8", 8, "lttng_ust_ring_buffer_backend_pages.records_commit"),
        Row("records_unread", "<u8", 16, "lttng_ust_ring_buffer_backend_pages.records_unread"),
        Row("data_size", "<u8", 24, "lttng_ust_ring_buffer_backend_pages.data_size"),
        Row("p", _REF, 32, "lttng_ust_ring_buffer_backend_pages.p"),
    ],
)

_CONFIG = [
    Row(name, "<u4", 4 * i, f"lttng_ust_ring_buffer_config.{name}")
    for i, name in enumerate(
        ("alloc", "sync", "mode", "output", "backend", "oops", "ipi", "wakeup", "tsc_bits")
    )
] + [
    Row("cb", "(10,)<u8", 40, "lttng_ust_ring_buffer_config.cb"),
    Row("client_type", "<i4", 120, "lttng_ust_ring_buffer_config.client_type"),
    Row("cb_ptr", "<u8", 128, "lttng_ust_ring_buffer_config.cb_ptr"),
]

_CHANNEL_BACKEND = [
    Row("buf_size", "<u8", 0, "channel_backend.buf_size"),
    Row("subbuf_size", "<u8", 8, "channel_backend.subbuf_size"),
    Row("subbuf_size_order", "<u4", 16, "channel_backend.subbuf_size_order"),
    Row("num_subbuf_order", "<u4", 20, "channel_backend.num_subbuf_order"),
    Row("buf_size_order", "<u4", 24, "channel_backend.buf_size_order"),
    Row("extra_reader_sb", "<u4", 28, "channel_backend.extra_reader_sb (bit 0)"),
    Row("num_subbuf", "<u8", 32, "channel_backend.num_subbuf"),
    Row("start_tsc", "<u8", 40, "channel_backend.start_tsc"),
    Row("priv_data", _REF, 48, "channel_backend.priv_data"),
    *embed(_CONFIG, 64, "config_"),
    Row("name", "S255", 224, "channel_backend.name"),
]

_CHANNEL_9 = Layout(
    "channel",
    768,
    128,
    _FRONTEND,
    [
        Row("record_disabled", "<i4", 0, "lttng_ust_ring_buffer_channel.record_disabled"),
        Row("commit_count_mask", "<u8", 8, "lttng_ust_ring_buffer_channel.commit_count_mask"),
        Row("switch_timer_us", "<u8", 16, "lttng_ust_ring_buffer_channel.switch_timer_interval"),
        Row("switch_timer", "<u8", 24, "lttng_ust_ring_buffer_channel.switch_timer"),
        Row(
            "switch_timer_enabled", "<i4", 32, "lttng_ust_ring_buffer_channel.switch_timer_enabled"
        ),
        Row("read_timer_us", "<u8", 40, "lttng_ust_ring_buffer_channel.read_timer_interval"),
        Row("read_timer", "<u8", 48, "lttng_ust_ring_buffer_channel.read_timer"),
        Row("read_timer_enabled", "<i4", 56, "lttng_ust_ring_buffer_channel.read_timer_enabled"),
        Row("finalized", "<i4", 60, "lttng_ust_ring_buffer_channel.finalized"),
        Row("priv_data_offset", "<u8", 64, "lttng_ust_ring_buffer_channel.priv_data_offset"),
        Row("nr_streams", "<u4", 72, "lttng_ust_ring_buffer_channel.nr_streams"),
        Row("handle", "<u8", 80, "lttng_ust_ring_buffer_channel.handle"),
        Row(
            "blocking_timeout_ms",
            "<i4",
            88,
            "lttng_ust_ring_buffer_channel.u.s.blocking_timeout_ms",
        ),
        Row("priv", "<u8", 96, "lttng_ust_ring_buffer_channel.u.s.priv"),
        *embed(_CHANNEL_BACKEND, 120),
    ],
)

_CLIENT_CONFIG_9 = Layout(
    "client configuration",
    120,
    8,
    _UST + "events.h",
    [
        Row("id", "<u4", 92, "lttng_ust_abi_channel_config.id"),
        Row("uuid", "V16", 100, "lttng_ust_abi_channel_config.uuid"),
    ],
)

_UST_9_X86_64 = RingLayout(
    name="ust-9-x86_64",
    page_size=4096,
    control=_CONTROL_9,
    hot=_HOT_9,
    cold=_COLD_9,
    page=_PAGE_9,
    crash=_CRASH_0,
    ref=16,
    word=8,
    channel=_CHANNEL_9,
    channel_buf=664,
    client_config=_CLIENT_CONFIG_9,
    packet=DATA_PACKET,
    id_noref=1 << 32,
    id_index_mask=(1 << 32) - 1,
    id_turn_shift=33,
)

#: 2.12: the same memory.
_UST_8_X86_64 = _UST_9_X86_64._replace(name="ust-8-x86_64")

#: 2.14: whoever fills a sub-buffer leaves what it knows of losses to whoever delivers it,
#: in padding that older tracers neither read nor write. A sub-buffer filled by one of them
#: and delivered by a newer one may therefore carry an old value: readers take the largest.
_UST_10_X86_64 = _UST_9_X86_64._replace(
    name="ust-10-x86_64",
    cold=Layout(
        "cold commit counters",
        128,
        128,
        "lttng-ust b2432c55 (v2.14.2) src/common/ringbuffer/frontend_types.h",
        [
            Row("cc_sb", "<u8", 0, "commit_counters_cold.cc_sb"),
            Row("end_events_discarded", "<u8", 8, "commit_counters_cold.end_events_discarded"),
        ],
    ),
)

RING_LAYOUTS: dict[str, RingLayout] = {
    layout.name: layout for layout in (_UST_8_X86_64, _UST_9_X86_64, _UST_10_X86_64)
}


def compatible(one: str, other: str) -> bool:
    """Return whether applications of two layouts can write into one buffer.

    They can if their tracers meet at one socket: ABI 8 to 10 do, as the tracer's
    "oldest compatible ABI" is 8 in all of them.
    """
    return one == other or {one, other} <= _SHARED


_SHARED = frozenset(RING_LAYOUTS)
