# SPDX-License-Identifier: MIT
"""The page that is not in the writers' table: a reader's, with the packet it held last.

In overwrite mode a reader exchanges a page of its own for the one it takes. Nobody writes to
it, so what it has is whole, however old: the packet that is being read, also if its reader
died before it noted that it has it, or the one it had read before.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["SparePacket", "spare_packet"]

_PAGE = 4096


class SparePacket(NamedTuple):
    """A packet on the reader's page."""

    sequence: int
    #: content and zeros up to a page
    raw: bytes


def spare_packet(
    memory: mmap.mmap, geometry: Geometry, *, uuid: bytes, stream_id: int
) -> SparePacket | None:
    """Return the packet on the reader's page, None if there is none.

    Parameters
    ----------
    memory : mmap
        A copy: nobody writes to it.
    uuid, stream_id : bytes, int
        Of the trace and the stream class.
    """
    if not geometry.overwrite:
        return None
    mask = geometry.layout.id_index_mask
    table = memory[geometry.wsb : geometry.wsb + geometry.num_subbuf * geometry.layout.word]
    writers = {word & mask for word in memoryview(table).cast("Q")}
    spare = set(range(geometry.nr_pages)) - writers
    if len(spare) != 1:
        return None
    at = geometry.data_at(spare.pop())
    page = memory[at : at + geometry.subbuf_size]
    header = geometry.layout.packet.get_all(page)
    if (header["magic"], header["uuid"], header["stream_id"]) != (CTF_MAGIC, uuid, stream_id):
        return None
    content, rest = divmod(header["content_size"], 8)
    size = -(-content // _PAGE) * _PAGE
    if rest or not geometry.header_size <= content <= len(page):
        return None
    if header["packet_size"] != size * 8:
        return None
    return SparePacket(header["packet_seq_num"], page[:content].ljust(size, b"\0"))
