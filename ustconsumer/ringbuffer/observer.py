# SPDX-License-Identifier: MIT
"""Reading along without a lock, readable. `_native.observer` does the same and is what runs.

An observer stores nothing, so nobody waits for it: it copies a packet and judges the copy.

*Gone.* A store to a packet's memory after its delivery belongs to a reservation of the
next turn, which first moves the write position more than a turn beyond the packet. If the
write position, loaded after the copy, is not so far, no such store is in the copy.

*Whose.* While a reader holds a packet, the writers' table shows the reader's spare page
with the packet's own turn. A packet's bytes are on one page only, so magic and sequence
number in the copy tell whether it was that page; if not, it may be the reader's.

Notes
-----
Source: lttng-ust ``src/common/ringbuffer/ring_buffer_frontend.c``: order of the stores.
"""

from __future__ import annotations

from ustconsumer._native.atomics import fence
from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.ringbuffer.memory import MASK, StreamMemory

__all__ = ["Header", "find", "gone", "prefix", "take", "take_open"]

Header = dict[str, int]

_PAGE = 4096


def gone(memory: StreamMemory, position: int) -> bool:
    """Return whether a writer may have stored to a packet's memory before now."""
    # The copy's loads before this one.
    fence()
    return (memory.load("offset") - position) & MASK > memory.geometry.buf_size


def find(
    memory: StreamMemory, position: int, uuid: bytes, stream_id: int, delivered: bool
) -> tuple[int, Header] | None:
    """Return the page of a packet and its header.

    Parameters
    ----------
    position : int
    uuid : bytes, length 16
    stream_id : int
        What the header has to say.
    delivered : bool
        The id in the writers' table has to say that the packet was delivered.

    Returns
    -------
    (int, dict) or None
        None if no page has that packet now.
    """
    geometry = memory.geometry
    index = geometry.index(position)
    pages: list[int] = [index]
    if geometry.overwrite:
        layout = geometry.layout
        subbuf_id = memory.load_id(index)
        turn = subbuf_id >> layout.id_turn_shift << layout.id_turn_shift
        pages = []
        if not delivered or (subbuf_id & layout.id_noref and turn == memory.turn_tag(position)):
            pages.append(subbuf_id & layout.id_index_mask)
        pages.append(memory.load("rsb_id") & layout.id_index_mask)
    for page in pages:
        if page >= geometry.nr_pages:
            continue
        start = geometry.data_at(page)
        raw = bytes(memory.view[start : start + geometry.header_size])
        header = geometry.layout.packet.get_all(raw)
        number = (position & MASK) // geometry.subbuf_size
        if header["magic"] == CTF_MAGIC and header["packet_seq_num"] == number:
            same = header["uuid"] == uuid and header["stream_id"] == stream_id
            return (page, header) if same else None
    return None


def prefix(memory: StreamMemory, position: int) -> int:
    """Return how many bytes of a sub-buffer are committed from its beginning on.

    ``seq`` says it, but lags: the last of several commits out of order does not see that
    it closes a gap. What is committed in all, compared with what was reserved, does.
    """
    geometry = memory.geometry
    index, base = geometry.index(position), geometry.commit_base(position)
    mask = geometry.commit_count_mask
    counted = (memory.load_cc(index) - base) & mask
    reserved = min((memory.load("offset") - position) & MASK, geometry.subbuf_size)
    if counted == reserved:
        return counted
    contiguous = (memory.load_seq(index) - base) & mask
    return contiguous if contiguous <= reserved else 0


def take(memory: StreamMemory, position: int, uuid: bytes, stream_id: int) -> bytes | None:
    """Return a copy of the packet at a position, None if it cannot be had.

    Content, then zeros up to a page.
    """
    if not memory.committed(position):
        return None
    found = find(memory, position, uuid, stream_id, delivered=True)
    if found is None:
        return None
    page, header = found
    size, odd = divmod(header["content_size"], 8)
    geometry = memory.geometry
    whole = not odd and geometry.header_size <= size <= geometry.subbuf_size
    ordered = header["timestamp_begin"] <= header["timestamp_end"]
    if not whole or not ordered or header["packet_size"] != 8 * _padded(size):
        return None
    return _copy(memory, position, page, header, size)


def take_open(
    memory: StreamMemory, position: int, uuid: bytes, stream_id: int, timestamp_end: int
) -> bytes | None:
    """Return what is committed of the packet at a position, as a packet, None if nothing is."""
    geometry = memory.geometry
    size = prefix(memory, position)
    if size < geometry.header_size:
        return None
    found = find(memory, position, uuid, stream_id, delivered=False)
    if found is None:
        return None
    page, header = found
    if size == geometry.subbuf_size:
        # All of it is committed, its deliverer was killed: who filled it said how far.
        size = memory.load_data_size(page)
        if not geometry.header_size <= size <= geometry.subbuf_size:
            return None
    if header["timestamp_begin"] > timestamp_end:
        return None
    header["timestamp_end"] = timestamp_end
    header["content_size"], header["packet_size"] = 8 * size, 8 * _padded(size)
    header["events_discarded"] = memory.lost()
    return _copy(memory, position, page, header, size)


def _padded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _copy(
    memory: StreamMemory, position: int, page: int, header: Header, size: int
) -> bytes | None:
    geometry = memory.geometry
    start = geometry.data_at(page)
    head = geometry.layout.packet.pack(header)
    rest = bytes(memory.view[start + len(head) : start + size])
    packet = head + rest + bytes(_padded(size) - size)
    return None if gone(memory, position) else packet
