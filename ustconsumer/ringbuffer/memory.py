# SPDX-License-Identifier: MIT
"""The shared words of one stream by name, every access atomic.

What the algorithms in ``reader``, ``commit`` and ``switch`` share: loads acquire,
stores release, `cas` and `add` are full barriers. Positions and counters are unsigned
words that wrap; `before` compares them.
"""

from __future__ import annotations

from typing import Any

from ustconsumer._native.atomics import (
    cas_u64,
    fetch_add_u64,
    load_u32,
    load_u64,
    store_u32,
    store_u64,
)
from ustconsumer.errors import LayoutError, RingBufferError
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["MASK", "StreamMemory", "before"]

MASK = (1 << 64) - 1
_SIGN = 1 << 63


def before(left: int, right: int) -> bool:
    """Return whether ``left`` is before ``right``, as a signed difference of words."""
    return (left - right) & MASK >= _SIGN


class StreamMemory:
    """One stream's memory and the words in it.

    Parameters
    ----------
    buf : buffer
        The whole memory of the stream. A read-only one can be loaded from.
    geometry : Geometry
        Trusted: never taken from the memory itself.
    """

    def __init__(self, buf: Any, geometry: Geometry):
        view = memoryview(buf).cast("B")
        if len(view) < geometry.file_size:
            raise LayoutError("stream memory", f"{geometry.file_size} bytes", len(view))
        self.view = view
        self.geometry = geometry
        self._control = geometry.layout.control
        self._cc = geometry.layout.hot.offset("cc")
        self._seq = geometry.layout.hot.offset("seq")

    def release(self) -> None:
        """Give the buffer back; nothing else works afterwards."""
        self.view.release()

    # -- control block ------------------------------------------------------------

    def load(self, name: str) -> int:
        """Load a word of the control block."""
        return load_u64(self.view, self._control.offset(name))

    def store(self, name: str, value: int) -> None:
        """Store a word of the control block."""
        store_u64(self.view, self._control.offset(name), value & MASK)

    def cas(self, name: str, expected: int, desired: int) -> bool:
        """Replace a word of the control block if it is ``expected``; full barrier."""
        at = self._control.offset(name)
        return cas_u64(self.view, at, expected, desired & MASK) == expected

    def add(self, name: str, delta: int) -> None:
        """Add to a word of the control block; full barrier."""
        fetch_add_u64(self.view, self._control.offset(name), delta)

    @property
    def held(self) -> bool:
        """Whether a reader holds a sub-buffer (also one that died holding it)."""
        return bool(load_u32(self.view, self._control.offset("get_subbuf")) & 1)

    @held.setter
    def held(self, value: bool) -> None:
        at = self._control.offset("get_subbuf")
        store_u32(self.view, at, load_u32(self.view, at) & ~1 | value)

    def lost(self) -> int:
        """Return the events lost since creation, all causes together."""
        return (self.load("lost_full") + self.load("lost_wrap") + self.load("lost_big")) & MASK

    # -- commit counters ----------------------------------------------------------

    def load_seq(self, index: int) -> int:
        """Load how far a sub-buffer is committed without a gap."""
        return load_u64(self.view, self.geometry.hot_at(index) + self._seq)

    def store_seq(self, index: int, value: int) -> None:
        """Store how far a sub-buffer is committed without a gap."""
        store_u64(self.view, self.geometry.hot_at(index) + self._seq, value)

    def load_cc(self, index: int) -> int:
        """Load how much of a sub-buffer is committed, in any order."""
        return load_u64(self.view, self.geometry.hot_at(index) + self._cc)

    def add_cc(self, index: int, delta: int) -> int:
        """Add to a commit count, then load it: the sum may contain later additions."""
        at = self.geometry.hot_at(index) + self._cc
        fetch_add_u64(self.view, at, delta & MASK)
        return load_u64(self.view, at)

    def load_cc_sb(self, index: int) -> int:
        """Load the commit count at the last delivery of a sub-buffer."""
        return load_u64(self.view, self.geometry.cc_sb_at(index))

    def store_cc_sb(self, index: int, value: int) -> None:
        """Publish a delivery: what was stored before is visible to who loads this."""
        store_u64(self.view, self.geometry.cc_sb_at(index), value)

    def cas_cc_sb(self, index: int, expected: int, desired: int) -> bool:
        """Become the one who delivers."""
        at = self.geometry.cc_sb_at(index)
        return cas_u64(self.view, at, expected & MASK, desired & MASK) == expected & MASK

    def free_to_enter(self, position: int) -> bool:
        """Return whether everything of the previous turn is delivered."""
        geometry = self.geometry
        delivered = self.load_cc_sb(geometry.index(position)) & geometry.commit_count_mask
        return delivered == geometry.commit_base(position)

    def committed(self, position: int) -> bool:
        """Return whether the sub-buffer of this position, in its turn, is delivered."""
        geometry = self.geometry
        begun = self.load_cc_sb(geometry.index(position)) - geometry.subbuf_size
        return begun & geometry.commit_count_mask == geometry.commit_base(position)

    # -- tables -------------------------------------------------------------------

    def load_id(self, index: int) -> int:
        """Load a sub-buffer id from the writer's table."""
        return load_u64(self.view, self.geometry.wsb + index * self.geometry.layout.word)

    def store_id(self, index: int, value: int) -> None:
        """Store a sub-buffer id in the writer's table."""
        store_u64(self.view, self.geometry.wsb + index * self.geometry.layout.word, value)

    def cas_id(self, index: int, expected: int, desired: int) -> bool:
        """Replace a sub-buffer id in the writer's table; full barrier."""
        at = self.geometry.wsb + index * self.geometry.layout.word
        return cas_u64(self.view, at, expected, desired) == expected

    def page_of(self, subbuf_id: int) -> int:
        """Return the page an id selects.

        Raises
        ------
        RingBufferError
            There is no such page.
        """
        geometry = self.geometry
        page = subbuf_id & geometry.layout.id_index_mask if geometry.overwrite else subbuf_id
        if page >= geometry.nr_pages:
            raise RingBufferError(f"a sub-buffer id selects no page: {page} of {geometry.nr_pages}")
        return page

    def turn_tag(self, position: int) -> int:
        """Return the turn of a position as it stands in an id (its high bits are lost)."""
        return self.geometry.turn(position) << self.geometry.layout.id_turn_shift & MASK

    def load_count(self, index: int) -> int:
        """Load how many packets a sub-buffer has delivered."""
        return load_u64(self.view, self.geometry.cnt + index * self.geometry.layout.word)

    def store_count(self, index: int, value: int) -> None:
        """Store how many packets a sub-buffer has delivered."""
        store_u64(self.view, self.geometry.cnt + index * self.geometry.layout.word, value & MASK)

    def load_ts_end(self, index: int) -> int:
        """Load the time of the last reservation in a sub-buffer."""
        return load_u64(self.view, self.geometry.ts_end + index * self.geometry.layout.word)

    def store_ts_end(self, index: int, value: int) -> None:
        """Store the time of the last reservation in a sub-buffer."""
        store_u64(self.view, self.geometry.ts_end + index * self.geometry.layout.word, value)

    def load_data_size(self, page: int) -> int:
        """Load the bytes of content of a page."""
        offset = self.geometry.layout.page.offset("data_size")
        return load_u64(self.view, self.geometry.page_at(page) + offset)

    def store_data_size(self, page: int, value: int) -> None:
        """Store the bytes of content of a page."""
        offset = self.geometry.layout.page.offset("data_size")
        store_u64(self.view, self.geometry.page_at(page) + offset, value)
