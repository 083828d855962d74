# SPDX-License-Identifier: MIT
"""Received packets kept in memory, for live viewers; nothing is on disk.

There is one limit for all of a relay: the oldest packets go when it is reached.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.relay.names import Directory
from ustconsumer.relay.views import Entry

__all__ = ["Budget", "MemoryDirectory", "MemoryMetadata", "MemoryPackets", "MemoryStores"]

#: Bytes that a packet costs beside its own: many small ones are bounded too.
_OVERHEAD = 1024


class _Kept:
    """A packet that is whole; its entry comes with its index."""

    __slots__ = ("data", "entry", "offset", "store")

    def __init__(self, store: MemoryPackets, offset: int, data: bytes) -> None:
        self.store = store
        self.offset = offset
        self.data = data
        self.entry: Entry | None = None

    @property
    def cost(self) -> int:
        return len(self.data) + _OVERHEAD


class Budget:
    """Memory that all streams of a relay share.

    Parameters
    ----------
    limit : int
        Bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: bytes in use
        self.used = 0
        self._packets: OrderedDict[_Kept, None] = OrderedDict()

    def take(self, size: int) -> None:
        """Make room, at the cost of the oldest packets.

        Raises
        ------
        RemoteProtocolError
            There is none: what is kept is no packet, or not whole yet.
        """
        while self.used + size > self.limit and self._packets:
            oldest, _ = self._packets.popitem(last=False)
            self.used -= oldest.cost
            oldest.store.drop_oldest()
        if self.used + size > self.limit:
            raise RemoteProtocolError(
                f"{size} bytes more than the {self.limit} that are kept in memory: "
                f"{self.used} are in use and no packets"
            )
        self.used += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.used -= size

    def keep(self, packet: _Kept) -> None:
        """Know a packet whose cost was taken: from now on it can go."""
        self._packets[packet] = None

    def forget(self, packet: _Kept) -> None:
        """Give back a packet that is still known."""
        del self._packets[packet]
        self.used -= packet.cost


class MemoryPackets:
    """The packets of a stream: a `ustconsumer.relay.store.PacketStore`.

    Parameters
    ----------
    budget : Budget
    """

    volatile = True

    def __init__(self, budget: Budget) -> None:
        self.count = 0
        self.size = 0
        self._budget = budget
        #: whole packets that are there, and how many were there before them
        self._kept: list[_Kept] = []
        self._gone = 0
        self._last: Entry | None = None
        self._incoming = bytearray()
        self._taken = 0
        self._closed = False

    @property
    def first(self) -> int:
        """Number of the oldest packet that is there."""
        return min(self._gone, self.count)

    def begin(self, size: int) -> int:
        """Return where the packet begins: behind the last one.

        Raises
        ------
        RemoteProtocolError
            It is larger than all that is kept.
        """
        if size + _OVERHEAD > self._budget.limit:
            raise RemoteProtocolError(
                f"a packet of {size} bytes, and {self._budget.limit} are kept in memory"
            )
        self.abort()
        self._take(_OVERHEAD)
        return self.size

    def write(self, data: bytes) -> None:
        """Take a part of the packet."""
        self._take(len(data))
        self._incoming += data

    def finish(self, padding: int) -> None:
        """Keep the packet, with zeros behind it."""
        self._take(padding)
        self._incoming += bytes(padding)
        packet = _Kept(self, self.size, bytes(self._incoming))
        self.size += len(self._incoming)
        self._kept.append(packet)
        self._budget.keep(packet)
        self._taken = 0
        self._incoming = bytearray()

    def abort(self) -> None:
        """Forget the packet that was begun."""
        self._budget.give(self._taken)
        self._taken = 0
        self._incoming = bytearray()

    def cut(self) -> None:
        """Forget packets without an entry."""
        self.abort()
        while self._kept and self._kept[-1].entry is None:
            self._budget.forget(self._kept.pop())
        self._gone = min(self._gone, self.count)
        self.size = 0 if self._last is None else self._last.offset + self._last.packet_size // 8

    def index(self, entry: Entry) -> None:
        """Take what the index says of the next packet, also of one that went meanwhile."""
        if self.count >= self._gone:
            self._kept[self.count - self._gone].entry = entry
        self._last = entry
        self.count += 1

    def entry(self, number: int) -> Entry:
        """Return an entry.

        Raises
        ------
        IndexError
            It is not there, or no more.
        """
        if not self.first <= number < self.count:
            raise IndexError(number)
        entry = self._kept[number - self._gone].entry
        assert entry is not None
        return entry

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of one packet; of a whole one no copy."""
        place = bisect_right(self._kept, offset, key=lambda packet: packet.offset) - 1
        if place < 0:
            return b""
        at = offset - self._kept[place].offset
        return self._kept[place].data[at : at + size]

    def last(self) -> Entry | None:
        """Return the newest entry, also if its packet is gone."""
        return self._last

    def drop_oldest(self) -> None:
        """The oldest packet is gone; see `Budget`."""
        del self._kept[0]
        self._gone += 1

    def close(self) -> None:
        """Forget everything."""
        self.abort()
        for packet in self._kept:
            self._budget.forget(packet)
        self._gone += len(self._kept)
        self._kept.clear()
        self._closed = True

    def _take(self, size: int) -> None:
        if self._closed:
            raise RemoteProtocolError("a packet of a session that is over")
        self._budget.take(size)
        self._taken += size


class MemoryMetadata:
    """The metadata of a trace: a `ustconsumer.relay.store.MetadataStore`.

    It does not go while its trace is there: packets cannot be read without it.

    Parameters
    ----------
    budget : Budget
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._text = bytearray()
        self._closed = False

    def size(self) -> int:
        """Return how many bytes there are."""
        return len(self._text)

    def write(self, data: bytes, at: int) -> None:
        """Put bytes at a place, at most at the end."""
        if self._closed:
            raise RemoteProtocolError("metadata of a session that is over")
        self._budget.take(max(0, at + len(data) - len(self._text)))
        self._text[at : at + len(data)] = data

    def read(self, at: int, size: int) -> bytes:
        """Return bytes from a place on, fewer at the end."""
        return bytes(self._text[at : at + size])

    def cut(self, size: int) -> None:
        """Keep so many bytes."""
        self._budget.give(max(0, len(self._text) - size))
        del self._text[size:]

    def close(self) -> None:
        """Forget everything."""
        self.cut(0)
        self._closed = True


class MemoryDirectory(Directory):
    """A directory of which nothing is there: what is made has room, what is removed is gone."""

    def __init__(self) -> None:
        super().__init__(-1)

    def open(self, steps: Sequence[str], *, create: bool = True) -> Directory:
        return self

    def become(self, other: Directory) -> None:
        pass

    def make(self, step: str) -> bool:
        return True

    def exists(self, name: str) -> bool:
        return False

    def names(self) -> list[str]:
        return []

    def rename(self, name: str, to: Directory, new: str) -> None:
        pass

    def unlink(self, name: str) -> None:
        pass

    def remove_tree(self, name: str) -> None:
        pass


class MemoryStores:
    """Memory instead of files: `Stores` of a relay.

    Parameters
    ----------
    limit : int
        Bytes, for all sessions together.
    """

    def __init__(self, limit: int) -> None:
        self.budget = Budget(limit)

    def packets(
        self,
        chunk: Directory,
        path: Sequence[str],
        name: str,
        *,
        indexed: bool,
        minor: int,
        uuid: bytes = b"",
        again: bool = False,
    ) -> MemoryPackets:
        """Return an empty stream."""
        return MemoryPackets(self.budget)

    def metadata(self, chunk: Directory, path: Sequence[str], *, resume: bool) -> MemoryMetadata:
        """Return empty metadata."""
        return MemoryMetadata(self.budget)
