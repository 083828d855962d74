# SPDX-License-Identifier: MIT
"""Sizes and places of one stream's memory, and the arithmetic of its positions."""

from __future__ import annotations

from functools import cached_property

from ustconsumer.abi.ring import RingLayout
from ustconsumer.errors import UsageError
from ustconsumer.units import ByteOffset, Position, SubbufIndex

__all__ = ["Geometry", "nearest_power_of_two"]

_WORD = 1 << 64
#: A buffer (all sub-buffers of one stream) larger than this is a mistake.
_MAX_BUFFER = 1 << 46


def nearest_power_of_two(value: int) -> int:
    """Return the power of two nearest to ``value``, the larger one of two equally near."""
    if value <= 1:
        return 1
    below = 1 << (value.bit_length() - 1)
    return below if value - below < 2 * below - value else 2 * below


def _round_up(value: int, align: int) -> int:
    return (value + align - 1) & -align


def _check_size(what: str, value: int, least: int, reason: str) -> None:
    nearest = max(nearest_power_of_two(value), least)
    if value < least:
        raise UsageError(f"{what} {value} is too small: at least {least} {reason}; use {nearest}")
    if value & (value - 1):
        raise UsageError(f"{what} {value} is not a power of two; the nearest is {nearest}")


class Geometry:
    """Where everything is in the memory of one stream.

    Parameters
    ----------
    layout : RingLayout
    subbuf_size : int
        Bytes, a power of two of at least a page.
    num_subbuf : int
        A power of two; at least 2 in overwrite mode.
    overwrite : bool
        The oldest packets give way to new events; otherwise new events are discarded.
    by_writer : bool
        Writers wake the reader up. False if a read timer polls instead.

    Attributes
    ----------
    file_size : int
        Bytes of memory; not rounded to a page.
    nr_pages : int
        Data pages ("page": memory of one sub-buffer), with the reader's spare one in
        overwrite mode.
    hot, cold, ts_end, array, data, pages, wsb, cnt : ByteOffset
        Byte offsets of the tables.
    buf_size : int
        Bytes of all writer sub-buffers, one turn.

    Raises
    ------
    UsageError
        A size is not possible; names the nearest valid one.

    Notes
    -----
    Source: lttng-ust ``src/common/ringbuffer/ring_buffer_backend.c`` (order of
    allocation) and ``shm.c``.
    """

    def __init__(
        self,
        layout: RingLayout,
        subbuf_size: int,
        num_subbuf: int,
        overwrite: bool = False,
        by_writer: bool = True,
    ):
        _check_size("sub-buffer size", subbuf_size, layout.page_size, "(one page)")
        _check_size(
            "number of sub-buffers",
            num_subbuf,
            2 if overwrite else 1,
            "in overwrite mode" if overwrite else "is needed",
        )
        if subbuf_size * num_subbuf > _MAX_BUFFER:
            raise UsageError(
                f"{num_subbuf} sub-buffers of {subbuf_size} bytes are too much: at most "
                f"{_MAX_BUFFER} bytes per stream; use {_MAX_BUFFER // num_subbuf} or less"
            )
        self.layout = layout
        self.subbuf_size = subbuf_size
        self.num_subbuf = num_subbuf
        self.overwrite = overwrite
        self.by_writer = by_writer
        self.buf_size = subbuf_size * num_subbuf
        self.nr_pages = num_subbuf + overwrite
        self.header_size = layout.packet.size
        self._place()

    def _place(self) -> None:
        """Lay the tables out in the order of the tracer's allocations."""
        layout, n = self.layout, self.num_subbuf
        self.hot = ByteOffset(layout.control.size)
        self.cold = ByteOffset(self.hot + n * layout.hot.size)
        self.ts_end = ByteOffset(self.cold + n * layout.cold.size)
        self.array = ByteOffset(self.ts_end + n * layout.word)
        self.data = ByteOffset(_round_up(self.array + self.nr_pages * layout.ref, layout.page_size))
        self.pages = ByteOffset(self.data + self.nr_pages * self.subbuf_size)
        self.wsb = ByteOffset(self.pages + self.nr_pages * layout.page.size)
        self.cnt = ByteOffset(self.wsb + n * layout.word)
        # The length is computed for n + 1 pages whatever the mode: in discard mode the
        # file has an unused tail.
        tables = self.array + (n + 1) * layout.ref
        self.file_size = (
            _round_up(tables, layout.page_size)
            + (n + 1) * (self.subbuf_size + layout.page.size)
            + 2 * n * layout.word
        )

    def __repr__(self) -> str:
        mode = "overwrite" if self.overwrite else "discard"
        return f"Geometry({self.layout.name}, {self.subbuf_size} x {self.num_subbuf}, {mode})"

    # -- positions: words that wrap; compared through a signed difference ----------

    @cached_property
    def commit_count_mask(self) -> int:
        """All ones shifted right by the order of ``num_subbuf``."""
        return (_WORD - 1) >> (self.num_subbuf.bit_length() - 1)

    def subbuf_offset(self, position: int) -> int:
        """Return the offset of a position in its sub-buffer."""
        return position & (self.subbuf_size - 1)

    def subbuf_trunc(self, position: int) -> Position:
        """Return the start of a position's sub-buffer."""
        return Position(position & -self.subbuf_size & (_WORD - 1))

    def subbuf_align(self, position: int) -> Position:
        """Return the start of the *next* sub-buffer, never ``position`` itself."""
        return self.subbuf_trunc(position + self.subbuf_size)

    def index(self, position: int) -> SubbufIndex:
        """Return the index of a position's sub-buffer."""
        return SubbufIndex((position & (self.buf_size - 1)) // self.subbuf_size)

    def turn(self, position: int) -> int:
        """Return how many times the whole buffer was filled before ``position``."""
        return (position & (_WORD - 1)) // self.buf_size

    def commit_base(self, position: int) -> int:
        """Return the value of a commit counter at the beginning of ``position``'s turn."""
        return (position & (_WORD - 1) & -self.buf_size) // self.num_subbuf

    # -- places -------------------------------------------------------------------

    def hot_at(self, index: int) -> ByteOffset:
        """Return the place of the hot commit counters of a sub-buffer."""
        return ByteOffset(self.hot + index * self.layout.hot.size)

    def cc_sb_at(self, index: int) -> ByteOffset:
        """Return the place of the cold commit counter of a sub-buffer."""
        cold = self.layout.cold
        return ByteOffset(self.cold + index * cold.size + cold.offset("cc_sb"))

    def page_at(self, page: int) -> ByteOffset:
        """Return the place of a page descriptor."""
        return ByteOffset(self.pages + page * self.layout.page.size)

    def data_at(self, page: int) -> ByteOffset:
        """Return the place of a page's data."""
        return ByteOffset(self.data + page * self.subbuf_size)

    def places(self) -> dict[str, int]:
        """Return every place and size native code needs, as plain integers."""
        layout = self.layout
        control = (
            *("offset", "consumed", "record_disabled", "last_tsc", "rsb_id", "active_readers"),
            *("lost_full", "lost_wrap", "lost_big", "get_subbuf_consumed", "prod_snapshot"),
            *("cons_snapshot", "get_subbuf"),
        )
        header = {
            "magic": "magic",
            "uuid": "uuid",
            "stream_id": "stream_id",
            "instance": "stream_instance_id",
            "ts_begin": "timestamp_begin",
            "ts_end": "timestamp_end",
            "content": "content_size",
            "packet": "packet_size",
            "seq": "packet_seq_num",
            "discarded": "events_discarded",
            "cpu": "cpu_id",
        }
        return {
            **{name: layout.control.offset(name) for name in control},
            "hot": self.hot,
            "hot_stride": layout.hot.size,
            "hot_cc": layout.hot.offset("cc"),
            "hot_seq": layout.hot.offset("seq"),
            "cold": self.cold,
            "cold_stride": layout.cold.size,
            "cc_sb": layout.cold.offset("cc_sb"),
            "ts_end": self.ts_end,
            "wsb": self.wsb,
            "cnt": self.cnt,
            "pages": self.pages,
            "page_stride": layout.page.size,
            "page_data_size": layout.page.offset("data_size"),
            "page_mmap_offset": layout.page.offset("mmap_offset"),
            "data": self.data,
            "file_size": self.file_size,
            "subbuf_size": self.subbuf_size,
            "num_subbuf": self.num_subbuf,
            "overwrite": int(self.overwrite),
            "header_size": self.header_size,
            "by_writer": int(self.by_writer),
            **{f"h_{key}": layout.packet.offset(name) for key, name in header.items()},
        }
