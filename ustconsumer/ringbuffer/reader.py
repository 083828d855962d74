# SPDX-License-Identifier: MIT
"""The reader's operations, readable. `_native.ring` does the same and is what runs.

There is no lock: one reader per stream at a time is the caller's duty. A reader
*takes* the sub-buffer at a position, uses its bytes, *gives it back*, then moves
``consumed``, which lets writers reuse the memory.

Notes
-----
Source: lttng-ust ``src/common/ringbuffer/ring_buffer_frontend.c`` and ``backend.h``.
"""

from __future__ import annotations

from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.memory import StreamMemory, before
from ustconsumer.units import Position

__all__ = [
    "exchange",
    "get",
    "get_next",
    "move_consumer",
    "put",
    "put_next",
    "readable",
    "sample_positions",
    "snapshot",
]


def readable(memory: StreamMemory, ahead: int = 0) -> bool:
    """Return whether the sub-buffer at ``consumed``, or so many bytes behind it, can be read."""
    trunc = memory.geometry.subbuf_trunc
    position = (memory.load("consumed") + ahead) % (1 << 64)
    return memory.committed(position) and trunc(memory.load("offset")) != trunc(position)


def snapshot(memory: StreamMemory) -> bool:
    """Note where reading can begin and end; False if nothing was produced."""
    trunc = memory.geometry.subbuf_trunc
    consumed = memory.load("consumed")
    produced = trunc(memory.load("offset"))
    if produced == trunc(consumed):
        return False
    memory.store("cons_snapshot", consumed)
    memory.store("prod_snapshot", produced)
    return True


def sample_positions(memory: StreamMemory) -> tuple[Position, Position]:
    """Note and return ``(consumed, produced)`` as they are, the latter not truncated."""
    consumed, produced = Position(memory.load("consumed")), Position(memory.load("offset"))
    memory.store("cons_snapshot", consumed)
    memory.store("prod_snapshot", produced)
    return consumed, produced


def exchange(memory: StreamMemory, position: int) -> bool:
    """Swap the page at ``position`` with the reader's own.

    Taking a sub-buffer and giving it back are the same exchange: in overwrite mode the
    reader owns one spare page, and puts it where it takes one out. In discard mode
    writers stay away from what is not consumed, so there is nothing to swap.

    Returns
    -------
    bool
        False if a writer is in this sub-buffer, or it belongs to another turn.
    """
    geometry = memory.geometry
    index = geometry.index(position)
    theirs = memory.load_id(index)
    if not geometry.overwrite:
        memory.store("rsb_id", theirs)
        return True
    layout, tag = geometry.layout, memory.turn_tag(position)
    if (
        not theirs & layout.id_noref
        or theirs >> layout.id_turn_shift != tag >> layout.id_turn_shift
    ):
        return False
    ours = memory.load("rsb_id") & layout.id_index_mask | layout.id_noref | tag
    memory.store("rsb_id", ours)
    # A writer that enters clears noref by CAS on the same word: of the two, one wins.
    if not memory.cas_id(index, theirs, ours):
        return False
    memory.store("rsb_id", theirs)
    return True


def get(memory: StreamMemory, position: int) -> bool:
    """Take the sub-buffer at ``position``; False if it cannot be read now.

    It is consumed already, not fully committed, still being written, or overwritten.
    One attempt: unlike the tracer's own reader this does not sleep and try again.

    Raises
    ------
    RingBufferError
        A sub-buffer is held already.
    """
    if memory.held:
        raise RingBufferError("a sub-buffer is held already: put it first")
    trunc = memory.geometry.subbuf_trunc
    consumed = memory.load("consumed")
    committed = memory.committed(position)
    # cc_sb before the bytes and the write offset: pairs with the writer's barrier between
    # them and the store of cc_sb at delivery.
    produced = memory.load("offset")
    if before(trunc(position), trunc(consumed)):
        return False
    if not committed or trunc(produced) == trunc(position):
        return False
    if not exchange(memory, position):
        return False
    if memory.geometry.overwrite:
        memory.store("rsb_id", memory.load("rsb_id") & ~memory.geometry.layout.id_noref)
    memory.store("get_subbuf_consumed", position)
    memory.held = True
    return True


def put(memory: StreamMemory) -> None:
    """Give the held sub-buffer back. Does not move ``consumed``.

    Raises
    ------
    RingBufferError
        None is held.
    """
    if not memory.held:
        raise RingBufferError("no sub-buffer is held")
    memory.held = False
    if memory.geometry.overwrite:
        memory.store("rsb_id", memory.load("rsb_id") | memory.geometry.layout.id_noref)
    # It may fail: a writer has overtaken us and writes to the page we lent it. Then the
    # page we hold is the spare from now on.
    exchange(memory, memory.load("get_subbuf_consumed"))


def move_consumer(memory: StreamMemory, position: int) -> None:
    """Move ``consumed`` forward to ``position``, never backward.

    The CAS is a full barrier: our reads of the bytes come before their reuse. Writers
    move ``consumed`` too, in overwrite mode.
    """
    consumed = memory.load("consumed")
    while before(consumed, position) and not memory.cas("consumed", consumed, position):
        consumed = memory.load("consumed")


def get_next(memory: StreamMemory) -> bool:
    """Take the sub-buffer at ``consumed``; False if there is none to read."""
    return snapshot(memory) and get(memory, memory.load("cons_snapshot"))


def put_next(memory: StreamMemory) -> None:
    """Give the held sub-buffer back and move ``consumed`` past it."""
    put(memory)
    move_consumer(memory, memory.geometry.subbuf_align(memory.load("cons_snapshot")))
