# SPDX-License-Identifier: MIT
"""Streams as a relay receives them: packets and their indexes meet, chunks change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET, METADATA_PACKET
from ustconsumer.consumer.sinks.layout import write_all
from ustconsumer.ctf.packets import PACKET_SIZE, metadata_text
from ustconsumer.errors import DecodeError, RemoteProtocolError
from ustconsumer.protocol.relay import NO_SEQUENCE, DataHeader, Index
from ustconsumer.relay.names import Directory
from ustconsumer.relay.store import PacketStore
from ustconsumer.relay.views import Entry

__all__ = ["Incoming", "MetadataStream", "RelayStream"]

#: Packets without their index, or indexes without their packet: more is no producer.
_MAX_UNMATCHED = 4096
#: Bytes of the metadata of one trace.
_MAX_METADATA = 256 << 20

_Opener = Callable[[Directory, int], PacketStore]


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
        Opens its files in a chunk's directory, the so-manieth of a tracefile rotation.
    chunk : Directory
    indexed : bool
        Its packets come with indexes.
    tracefile_size, tracefile_count : int
        See ``ADD_STREAM``; 0: no limit.
    """

    is_metadata = False

    def __init__(
        self,
        handle: int,
        trace_id: int,
        name: str,
        path: str,
        open_store: _Opener,
        chunk: Directory,
        *,
        indexed: bool = True,
        tracefile_size: int = 0,
        tracefile_count: int = 0,
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
        self._open = open_store
        self._chunk = chunk
        self._indexed = indexed
        self._file_size = tracefile_size
        self._file_count = tracefile_count
        self._file = 0
        self._packets = open_store(chunk, 0)
        #: packets in files before this one
        self._base = 0
        self._retired: list[PacketStore] = []
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
        self._turns: list[tuple[int, Directory | None]] = []

    # -- what viewers see -----------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a rotation waits for packets."""
        return bool(self._turns)

    @property
    def first(self) -> int:
        return self._base

    @property
    def count(self) -> int:
        return self._base + self._packets.count

    def entry(self, number: int) -> Entry:
        return self._packets.entry(number - self._base)

    def read(self, number: int, offset: int, size: int) -> bytes:
        entry = self.entry(number)
        left = entry.packet_size // 8 - offset
        return self._packets.read(entry.offset + offset, max(0, min(size, left)))

    @property
    def metadata_size(self) -> int:
        return 0

    def read_metadata(self, position: int) -> bytes:
        return b""

    # -- what the producer says -------------------------------------------------------

    @property
    def last(self) -> Entry | None:
        """The newest entry of its index."""
        return self._packets.last()

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
        if self._next_data is None:
            self._next = self._next_data = header.net
        if header.net != self._next_data or self.closed:
            raise RemoteProtocolError(
                f"stream {self.path}/{self.name}: packet {header.net} instead of {self._next_data}"
            )
        if len(self._whole) >= _MAX_UNMATCHED:
            raise RemoteProtocolError(
                f"stream {self.path}/{self.name}: {len(self._whole)} packets without an index"
            )
        self._turn(self._sequence_of(header, head))
        size = header.size + header.padding
        self._turn_file(size)
        return Incoming(self, header, self._packets, self._packets.begin(size))

    def add_index(self, index: Index) -> None:
        """Take what an index says of a packet, or a beacon."""
        self.class_id = index.class_id
        if index.is_beacon:
            if self.count and not self._indexes and not self._whole:
                self.beacon = index.end
            return
        if index.net < self._next or index.net in self._indexes:
            raise RemoteProtocolError(
                f"stream {self.path}/{self.name}: another index of packet {index.net}"
            )
        if len(self._indexes) >= _MAX_UNMATCHED:
            raise RemoteProtocolError(
                f"stream {self.path}/{self.name}: {len(self._indexes)} indexes without a packet"
            )
        self.beacon = None
        self._indexes[index.net] = index
        self._pair()

    def is_pending(self, net: int) -> bool:
        """Return whether something up to a net sequence number has not arrived."""
        return net != NO_SEQUENCE and (self._next_data is None or net >= self._next)

    def rotate(self, at: int, chunk: Directory | None) -> None:
        """Write packets from a packet sequence number on to another chunk, or to none."""
        if len(self._turns) >= 2:
            raise RemoteProtocolError(f"stream {self.path}/{self.name}: a third rotation")
        self._turns.append((at, chunk))
        last = self.last
        if chunk is None or (last is not None and last.sequence + 1 >= at) or at == 0:
            self._turn(at)

    def close(self, last: int) -> None:
        """End behind a packet."""
        self._closing, self._last_net = True, last
        self._check_closed()

    def end(self) -> None:
        """End now: the producer is gone."""
        self.closed = True
        self._turns.clear()

    def release(self) -> None:
        """Close the files."""
        for packets in (*self._retired, self._packets):
            packets.close()
        self._retired.clear()

    def reopen(self) -> None:
        """Begin again behind the last packet that is whole: the producer is back."""
        self.generation += 1
        self._packets.cut()
        self._whole.clear()
        self._indexes.clear()
        self._next, self._next_data = 0, None
        self._closing = self.closed = False
        self._turns.clear()

    def stored(self, header: DataHeader, packets: PacketStore, offset: int) -> None:
        """A packet is whole; see `Incoming`."""
        self._next_data = header.net + 1
        size = header.size + header.padding
        if not self._indexed:
            self._next = self._next_data
            self._check_closed()
            return
        self._whole[header.net] = _Whole(packets, offset, size)
        self._pair()

    def _pair(self) -> None:
        while self._next in self._whole and self._next in self._indexes:
            whole, index = self._whole.pop(self._next), self._indexes.pop(self._next)
            if index.packet_size != whole.size * 8 or index.content_size > index.packet_size:
                raise RemoteProtocolError(
                    f"stream {self.path}/{self.name}: packet {self._next} has {whole.size} bytes, "
                    f"its index says {index.packet_size} bits"
                )
            whole.packets.index(
                Entry(
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
            )
            if index.sequence != NO_SEQUENCE:
                self._shift = index.sequence - index.net
            self._next += 1
        for packets in self._retired[:]:
            if not any(whole.packets is packets for whole in self._whole.values()):
                packets.close()
                self._retired.remove(packets)
        self._check_closed()

    def _check_closed(self) -> None:
        if self._closing and not self.is_pending(self._last_net):
            self.closed = True

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
            if chunk is not None:
                self._chunk = chunk
                self._file = 0
                self._replace(self._open(chunk, 0))

    def _turn_file(self, size: int) -> None:
        """Change the file if a packet would make it too large."""
        used = getattr(self._packets, "size", 0)
        if self._file_size and used and used + size > self._file_size:
            self._file += 1
            number = self._file % self._file_count if self._file_count else self._file
            self._replace(self._open(self._chunk, number))

    def _replace(self, packets: PacketStore) -> None:
        self._base += self._packets.count
        self._retired.append(self._packets)
        self._packets = packets


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
            self._packets.abort()


class MetadataStream:
    """A trace's metadata."""

    is_metadata = True
    name = "metadata"
    beacon: int | None = None
    class_id = 0
    first = 0
    count = 0
    busy = False

    def __init__(
        self,
        handle: int,
        trace_id: int,
        path: str,
        steps: Sequence[str],
        chunk: Directory,
        *,
        resume: bytes = b"",
    ) -> None:
        self.handle = handle
        self.trace_id = trace_id
        self.path = path
        self.published = False
        self.closed = False
        self._steps = steps
        #: what viewers get, the text once
        self._packets = bytearray()
        #: bytes of the file, and of those that viewers know already
        self._size = 0
        self._fd = -1
        self._open(chunk, resume)

    @property
    def text_size(self) -> int:
        """Bytes of text in what there is.

        Raises
        ------
        RemoteProtocolError
            It is no metadata.
        """
        try:
            return len(metadata_text(bytes(self._packets))) if self._packets else 0
        except DecodeError:
            raise RemoteProtocolError(f"{self.path}: its metadata makes no sense") from None

    @property
    def metadata_size(self) -> int:
        return len(self._packets)

    def read_metadata(self, position: int) -> bytes:
        return bytes(self._packets[position:])

    def entry(self, number: int) -> Entry:
        raise IndexError(number)

    def read(self, number: int, offset: int, size: int) -> bytes:
        return b""

    def append(self, packets: bytes, padding: int) -> None:
        """Take metadata packets."""
        if self._size + len(packets) + padding > _MAX_METADATA:
            raise RemoteProtocolError(f"metadata of {self.path}: more than {_MAX_METADATA} bytes")
        raw = packets + bytes(padding)
        write_all(self._fd, raw, self._size)
        before, self._size = self._size, self._size + len(raw)
        # After a rotation or a reset the same comes again.
        if self._size > len(self._packets):
            self._packets += raw[max(0, len(self._packets) - before) :]

    def restart(self, chunk: Directory | None = None) -> None:
        """Begin the file again, here or in another chunk; viewers know what they know."""
        self._size = 0
        if chunk is not None:
            self._open(chunk, b"")
        else:
            os.ftruncate(self._fd, 0)

    def close(self, last: int) -> None:
        self.closed = True

    def end(self) -> None:
        self.closed = True

    def reopen(self) -> None:
        """The producer is back and goes on behind the text that is there."""
        self.closed = False

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, chunk: Directory, resume: bytes) -> None:
        with chunk.open(self._steps) as directory:
            fd = directory.open_file("metadata", new=not resume)
        self.release()
        self._fd = fd
        if resume:
            self._continue(resume)

    def _continue(self, uuid: bytes) -> None:
        """Go on behind the text that is there, if it is of this trace."""
        size = min(os.fstat(self._fd).st_size, _MAX_METADATA)
        raw = os.pread(self._fd, size, 0)
        if raw and (len(raw) < METADATA_PACKET.size or METADATA_PACKET.get(raw, 0, "uuid") != uuid):
            raise RemoteProtocolError(f"{self.path}: there is another trace")
        # The last packet may be torn: whole ones only.
        raw = raw[: len(raw) // PACKET_SIZE * PACKET_SIZE]
        os.ftruncate(self._fd, len(raw))
        self._size = len(raw)
        self._packets = bytearray(raw)


def _known(value: int) -> int:
    return 0 if value == NO_SEQUENCE else value
