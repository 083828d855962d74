# SPDX-License-Identifier: MIT
"""Streams as a relay receives them: packets and their indexes meet, chunks change."""

from __future__ import annotations

from collections.abc import Callable

from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import NO_SEQUENCE, DataHeader, Index
from ustconsumer.relay.chunks import Chunk
from ustconsumer.relay.store import PacketStore
from ustconsumer.relay.views import Entry

__all__ = ["Incoming", "RelayStream"]

#: Packets without their index, or indexes without their packet: more is no producer.
_MAX_UNMATCHED = 4096
_MAX_TURNS = 2
#: Bytes of padding of a packet: what fills a page, and more.
_MAX_PADDING = 1 << 20

_Opener = Callable[[Chunk, int, bool], PacketStore]


class _Whole:
    """A packet that is stored, waiting for its index."""

    __slots__ = ("offset", "packets", "size")

    def __init__(self, packets: PacketStore, offset: int, size: int) -> None:
        self.packets = packets
        self.offset = offset
        self.size = size


class RelayStream:
    """A stream with packets.

    Parameters
    ----------
    handle, trace_id : int
    name, path : str
    open_store : callable
        Opens its files in a chunk, the so-manieth of a tracefile rotation; True: in the place of
        one that was there before.
    chunk : Chunk
    indexed : bool
        Its packets come with indexes.
    tracefile_size, tracefile_count : int
        See ``ADD_STREAM``; 0: no limit.
    tracefile : int
        File of the rotation that is the newest.
    resumed : bool
        What else is there is older, and goes when its turn comes.
    keep : int
        So many files before the newest one can still be read.
    """

    is_metadata = False

    def __init__(
        self,
        handle: int,
        trace_id: int,
        name: str,
        path: str,
        open_store: _Opener,
        chunk: Chunk,
        *,
        indexed: bool = True,
        tracefile_size: int = 0,
        tracefile_count: int = 0,
        tracefile: int = 0,
        resumed: bool = False,
        keep: int = 0,
    ) -> None:
        self.handle = handle
        self.trace_id = trace_id
        self.name = name
        self.path = path
        self.published = False
        self.closed = False
        self.class_id = 0
        self.beacon: int | None = None
        #: a packet of an earlier one is nobody's any more
        self.generation = 0
        self._incoming = False
        self._open = open_store
        self._chunk = chunk
        self._indexed = indexed
        self._file_size = tracefile_size
        self._file_count = tracefile_count
        self._file = tracefile
        self._resumed = resumed
        self._packets = open_store(chunk, tracefile, False)
        chunk.join(self)
        self._keep = keep
        #: files before this one: somebody reads them, or packets in them wait for their index
        self._retired: list[PacketStore] = []
        #: packets in files before those
        self._gone = 0
        self.last = self._packets.last()
        #: packet sequence number behind the last packet that is whole
        self._after = 0 if self.last is None else self.last.sequence + 1
        self._whole: dict[int, _Whole] = {}
        self._indexes: dict[int, Index] = {}
        #: net sequence number of the next packet, and of the next pair; LTTng's snapshots begin
        #: where the one before them ended
        self._next_data: int | None = None
        self._next = 0
        self._last_net = NO_SEQUENCE
        self._closing = False
        #: packet sequence number minus net sequence number, as far as is known
        self._shift = 0
        self._turns: list[tuple[int, Chunk | None]] = []
        self._released = False

    # -- what viewers see -----------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a rotation waits for packets."""
        return bool(self._turns)

    @property
    def first(self) -> int:
        if self._released:
            return self.count
        number = self._gone
        for packets in (*self._retired, self._packets):
            number += packets.first
            if packets.first < packets.count:
                break
        return number

    @property
    def volatile(self) -> bool:
        """Whether packets may go at any time."""
        return self._packets.volatile

    @property
    def count(self) -> int:
        return self._gone + sum(packets.count for packets in (*self._retired, self._packets))

    def entry(self, number: int) -> Entry:
        packets, place = self._find(number)
        return packets.entry(place)

    def read(self, number: int, offset: int, size: int) -> bytes:
        packets, place = self._find(number)
        entry = packets.entry(place)
        left = entry.packet_size // 8 - offset
        return packets.read(entry.offset + offset, max(0, min(size, left)))

    def _find(self, number: int) -> tuple[PacketStore, int]:
        """Return which file has a packet, and its place there."""
        place = number - self._gone
        for packets in (*self._retired, self._packets):
            if 0 <= place < packets.count:
                return packets, place
            place -= packets.count
        raise IndexError(number)

    @property
    def metadata_size(self) -> int:
        return 0

    def read_metadata(self, position: int) -> bytes:
        return b""

    # -- what the producer says -------------------------------------------------------

    def begin(self, header: DataHeader, head: bytes) -> Incoming:
        """Take the beginning of a packet.

        Parameters
        ----------
        header : DataHeader
        head : bytes
            Its first bytes, as many as there are of a packet's header.

        Raises
        ------
        RemoteProtocolError
            It is not the next one, or there is no place for it.
        """
        if self.closed:
            raise RemoteProtocolError(f"{self}: packet {header.net} behind its end")
        if self._incoming:
            raise RemoteProtocolError(f"{self}: a packet within a packet")
        if self._next_data is None:
            self._next = self._next_data = header.net
        if header.net != self._next_data:
            raise RemoteProtocolError(f"{self}: packet {header.net} instead of {self._next_data}")
        if len(self._whole) >= _MAX_UNMATCHED:
            raise RemoteProtocolError(f"{self}: {len(self._whole)} packets without an index")
        self._turn(self._sequence_of(header, head))
        if header.padding > _MAX_PADDING:
            raise RemoteProtocolError(f"{self}: a packet with {header.padding} bytes of padding")
        size = header.size + header.padding
        self._turn_file(header.size)
        self._incoming = True
        return Incoming(self, header, self._packets, self._packets.begin(size))

    def add_index(self, index: Index) -> None:
        """Take what an index says of a packet, or a beacon."""
        self.class_id = index.class_id
        if index.is_beacon:
            if self.count and not self._indexes and not self._whole:
                self.beacon = index.end
            return
        if index.net < self._next or index.net in self._indexes:
            raise RemoteProtocolError(f"{self}: another index of packet {index.net}")
        if len(self._indexes) >= _MAX_UNMATCHED:
            raise RemoteProtocolError(f"{self}: {len(self._indexes)} indexes without a packet")
        self.beacon = None
        self._indexes[index.net] = index
        self._pair()

    def is_pending(self, net: int) -> bool:
        """Return whether something up to a net sequence number has not arrived."""
        return net != NO_SEQUENCE and (self._next_data is None or net >= self._next)

    def rotate(self, at: int, chunk: Chunk | None) -> None:
        """Write packets from a packet sequence number on to another chunk, or to none."""
        if len(self._turns) >= _MAX_TURNS:
            raise RemoteProtocolError(f"{self}: a third rotation")
        if chunk is not None:
            chunk.join(self)
        self._turns.append((at, chunk))
        self._turn_behind()

    def close(self, last: int) -> None:
        """End behind a packet."""
        self._closing, self._last_net = True, last
        self._check_closed()

    def end(self) -> None:
        """End now: the producer is gone."""
        self.closed = True
        self._leave_all()

    @property
    def is_waiting(self) -> bool:
        """Whether packets are missing of which it has the index."""
        return bool(self._indexes)

    def leave(self, chunk: Chunk) -> None:
        """Need a chunk no more, unless packets are to come that belong there."""
        if self._chunk is chunk and not self._turns:
            chunk.leave(self)

    def release(self) -> None:
        """Close the files: nothing can be had any more."""
        self.end()
        self._released = True
        for packets in (*self._retired, self._packets):
            packets.close()
        self._retired.clear()

    def reopen(self) -> None:
        """Begin again behind the last packet that is whole: the producer is back."""
        self.generation += 1
        for packets in (*self._retired, self._packets):
            packets.cut()
        self.last = self._packets.last() or self.last
        self._whole.clear()
        self._indexes.clear()
        self._next, self._next_data = 0, None
        self._incoming = self._closing = self.closed = False
        self._leave_all()
        self._chunk.join(self)

    def aborted(self) -> None:
        """A packet will never be whole; see `Incoming`."""
        self._incoming = False

    def stored(self, header: DataHeader, packets: PacketStore, offset: int) -> None:
        """A packet is whole; see `Incoming`."""
        self._incoming = False
        self._next_data = header.net + 1
        size = header.size + header.padding
        if not self._indexed:
            self._next = self._next_data
            self._check_closed()
            return
        self._whole[header.net] = _Whole(packets, offset, size)
        self._pair()

    def __str__(self) -> str:
        return f"stream {self.path}/{self.name}"

    def _pair(self) -> None:
        while self._next in self._whole and self._next in self._indexes:
            whole, index = self._whole.pop(self._next), self._indexes.pop(self._next)
            if index.packet_size != whole.size * 8 or index.content_size > index.packet_size:
                raise RemoteProtocolError(
                    f"{self}: packet {self._next} has {whole.size} bytes, "
                    f"its index says {index.packet_size} bits"
                )
            self.last = Entry(
                whole.offset,
                index.packet_size,
                index.content_size,
                index.begin,
                index.end,
                index.discarded,
                index.class_id,
                _known(index.instance),
                _known(index.sequence),
            )
            whole.packets.index(self.last)
            if index.sequence != NO_SEQUENCE:
                self._shift = index.sequence - index.net
                self._after = index.sequence + 1
            self._next += 1
        self._turn_behind()
        self._retire()
        self._check_closed()

    def _check_closed(self) -> None:
        if self._closing and not self.is_pending(self._last_net):
            self.end()

    def _leave_all(self) -> None:
        self._chunk.leave(self)
        for _, chunk in self._turns:
            if chunk is not None:
                chunk.leave(self)
        self._turns.clear()

    def _sequence_of(self, header: DataHeader, head: bytes) -> int:
        """Return a packet's sequence number, which its index will say."""
        if len(head) >= DATA_PACKET.size and DATA_PACKET.get(head, 0, "magic") == CTF_MAGIC:
            sequence: int = DATA_PACKET.get(head, 0, "packet_seq_num")
            return sequence
        return header.net + self._shift

    def _turn(self, sequence: int) -> None:
        """Change the chunk if the time has come for a packet of this number."""
        while self._turns and sequence >= self._turns[0][0]:
            _, chunk = self._turns.pop(0)
            before = self._chunk
            if chunk is not None:
                self._replace(self._open(chunk, 0, False))
                self._chunk, self._file = chunk, 0
            if before is not chunk:
                before.leave(self)

    def _turn_behind(self) -> None:
        """Change the chunk if everything that belongs to the one before has come."""
        if not self._whole and not self._incoming:
            self._turn(self._after)

    def _turn_file(self, size: int) -> None:
        """Change the file if a packet would make it too large."""
        used = self._packets.size
        if self._file_size and used and used + size > self._file_size:
            self._file += 1
            number = self._file % self._file_count if self._file_count else self._file
            again = self._resumed or number < self._file
            self._replace(self._open(self._chunk, number, again))

    def _replace(self, packets: PacketStore) -> None:
        self._retired.append(self._packets)
        self._packets = packets
        self._retire()

    def _retire(self) -> None:
        """Close files that nobody reads, the oldest first."""
        while len(self._retired) > self._keep:
            packets = self._retired[0]
            if any(whole.packets is packets for whole in self._whole.values()):
                break
            packets.close()
            self._gone += packets.count
            del self._retired[0]


class Incoming:
    """A packet that comes in parts."""

    def __init__(
        self, stream: RelayStream, header: DataHeader, packets: PacketStore, offset: int
    ) -> None:
        self._stream = stream
        self._header = header
        self._packets = packets
        self._offset = offset
        self._generation = stream.generation
        self.left = header.size

    def write(self, data: bytes) -> None:
        """Take the next part, at most `left` bytes."""
        if self._generation != self._stream.generation:
            raise RemoteProtocolError("its producer sends it again elsewhere")
        self._packets.write(data)
        self.left -= len(data)

    def finish(self) -> None:
        """The packet is whole."""
        self._packets.finish(self._header.padding)
        self._stream.stored(self._header, self._packets, self._offset)

    def abort(self) -> None:
        """It will never be."""
        if self._generation == self._stream.generation:
            self._stream.aborted()
            self._packets.abort()


def _known(value: int) -> int:
    return 0 if value == NO_SEQUENCE else value
