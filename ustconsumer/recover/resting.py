# SPDX-License-Identifier: MIT
"""Pages that no writer was in when everything died: each has a whole packet, however old.

In overwrite mode a reader exchanges a page of its own for the one it takes, and the writers
fill that only a turn later. So there may be packets that are older than all in their place:
on a page that waits in the writers' table, or on the one that is not in it, a reader's.
"""

from __future__ import annotations

import mmap

from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["RestingPackets"]

_PAGE = 4096


class RestingPackets:
    """Whole packets by their sequence numbers, wherever they are.

    Parameters
    ----------
    memory : mmap
        A copy: nobody writes to it.
    geometry : Geometry
    uuid, stream_id : bytes, int
        Of the trace and the stream class: packets of others are none.
    """

    def __init__(
        self, memory: mmap.mmap, geometry: Geometry, *, uuid: bytes, stream_id: int
    ) -> None:
        self._memory = memory
        self._geometry = geometry
        self._identity = (CTF_MAGIC, uuid, stream_id)
        #: (page, bytes of content) by sequence number
        self._found: dict[int, tuple[int, int]] = {}
        for page in self._pages():
            self._look(page)

    def before(self, sequence: int) -> list[int]:
        """Return the numbers of older packets, in order."""
        return sorted(number for number in self._found if number < sequence)

    def take(self, sequence: int) -> bytes | None:
        """Return a packet: content and zeros up to a page; None if it is nowhere."""
        found = self._found.get(sequence)
        if found is None:
            return None
        page, content = found
        at = self._geometry.data_at(page)
        return self._memory[at : at + content].ljust(-(-content // _PAGE) * _PAGE, b"\0")

    def _pages(self) -> set[int]:
        """Return the pages without a writer: whoever enters one says so before it writes."""
        geometry = self._geometry
        if not geometry.overwrite:
            # No page ever leaves its place.
            return set()
        layout, count = geometry.layout, geometry.num_subbuf
        table = self._memory[geometry.wsb : geometry.wsb + count * layout.word]
        written = {
            entry & layout.id_index_mask
            for entry in memoryview(table).cast("Q")
            if not entry & layout.id_noref
        }
        return set(range(geometry.nr_pages)) - written

    def _look(self, page: int) -> None:
        geometry = self._geometry
        at = geometry.data_at(page)
        raw = self._memory[at : at + geometry.header_size]
        header = geometry.layout.packet.get_all(raw)
        if (header["magic"], header["uuid"], header["stream_id"]) != self._identity:
            return
        content, rest = divmod(header["content_size"], 8)
        if rest or not geometry.header_size <= content <= geometry.subbuf_size:
            return
        if header["packet_size"] == -(-content // _PAGE) * _PAGE * 8:
            self._found[header["packet_seq_num"]] = page, content
