# SPDX-License-Identifier: MIT
"""A trace's metadata as a relay receives it; nothing of it is kept in memory."""

from __future__ import annotations

from collections.abc import Callable

from ustconsumer.abi.packet import METADATA_MAGIC, METADATA_PACKET
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relay import METADATA
from ustconsumer.relay.chunks import Chunk
from ustconsumer.relay.store import MetadataStore
from ustconsumer.relay.views import Entry

__all__ = ["IncomingMetadata", "MetadataStream"]

#: Bytes of the metadata of one trace.
_MAX_METADATA = 256 << 20
_MAX_PADDING = 1 << 20
_ZEROS = bytes(1 << 16)


class MetadataStream:
    """A trace's metadata.

    Parameters
    ----------
    handle, trace_id : int
    path : str
    open_store : callable
        Opens its file in a chunk.
    chunk : Chunk
    uuid : bytes
        Of the trace, if the file may be there; else empty.

    Raises
    ------
    OSError, RemoteProtocolError
        The file cannot be made, or continued.
    """

    is_metadata = True
    name = METADATA
    beacon: int | None = None
    class_id = 0
    first = 0
    count = 0
    busy = False
    volatile = False

    def __init__(
        self,
        handle: int,
        trace_id: int,
        path: str,
        open_store: Callable[[Chunk], MetadataStore],
        chunk: Chunk,
        uuid: bytes = b"",
    ) -> None:
        self.handle = handle
        self.trace_id = trace_id
        self.path = path
        self.published = False
        self.closed = False
        #: bytes of text in whole packets, of a file that was there
        self.text_size = 0
        #: bytes that came, of which viewers know; after a rotation the same comes again
        self.metadata_size = 0
        self._open = open_store
        self._uuid = uuid
        self._size = 0
        self._incoming: IncomingMetadata | None = None
        self._chunk = chunk
        self._store = open_store(chunk)
        try:
            if uuid:
                self._continue()
        except BaseException:
            self._store.close()
            raise
        chunk.join(self)

    def read_metadata(self, position: int) -> bytes:
        """Return what is behind a position."""
        if self._size <= position:
            return b""
        return self._store.read(position, self._size - position)

    def entry(self, number: int) -> Entry:
        raise IndexError(number)

    def read(self, number: int, offset: int, size: int) -> bytes:
        return b""

    def begin(self, size: int, padding: int) -> IncomingMetadata:
        """Take the beginning of metadata packets.

        Raises
        ------
        RemoteProtocolError
            There would be too much of it, or the stream is closed.
        """
        if self.closed or padding > _MAX_PADDING or self._size + size + padding > _MAX_METADATA:
            raise RemoteProtocolError(
                f"{self.path}: metadata behind its end, or too much: {self._size} bytes are there, "
                f"{size} and {padding} of padding come"
            )
        self._incoming = IncomingMetadata(self, self._store, self._size, size, padding)
        return self._incoming

    def is_coming(self, incoming: IncomingMetadata) -> bool:
        """Return whether it is what the producer sends now, and not what it sent before."""
        return incoming is self._incoming

    def stored(self, incoming: IncomingMetadata, size: int) -> None:
        """Packets are whole; see `IncomingMetadata`."""
        if self.is_coming(incoming):
            self._size = size
            self.metadata_size = max(self.metadata_size, size)
            self._incoming = None

    def restart(self, chunk: Chunk | None = None) -> None:
        """Begin the file again, here or in another chunk; viewers know what they know."""
        self._incoming = None
        if chunk is None:
            self._store.cut(0)
        else:
            store, before = self._open(chunk), self._chunk
            self._store.close()
            self._store, self._chunk = store, chunk
            chunk.join(self)
            before.leave(self)
        self._size = 0

    def leave(self, chunk: Chunk | None = None) -> None:
        """Need a chunk no more, or whichever it is in; what there is can be read."""
        if chunk in (None, self._chunk):
            self._chunk.leave(self)

    def close(self, last: int) -> None:
        """Nothing more comes."""
        self.end()

    def end(self) -> None:
        """Nothing more comes."""
        self.closed = True
        self._chunk.leave(self)

    def reopen(self) -> None:
        """Go on behind the packets that are whole: the producer is back.

        Raises
        ------
        RemoteProtocolError
            They make no sense.
        """
        self.closed = False
        self._incoming = None
        self._chunk.join(self)
        self._continue()

    def release(self) -> None:
        """Close the file."""
        self.end()
        self._store.close()
        self._size = 0

    def _continue(self) -> None:
        """Go on behind the packets that are there, if they are of this trace."""
        self._size = self.text_size = 0
        size = min(self._store.size(), _MAX_METADATA)
        while True:
            head = self._store.read(self._size, METADATA_PACKET.size)
            if len(head) < METADATA_PACKET.size:
                break
            known = METADATA_PACKET.get_all(head)
            if known["magic"] != METADATA_MAGIC or known["uuid"] != self._uuid:
                raise RemoteProtocolError(f"{self.path}: there is another trace")
            content, whole = known["content_size"] // 8, known["packet_size"] // 8
            if not METADATA_PACKET.size <= content <= whole:
                raise RemoteProtocolError(f"{self.path}: its metadata makes no sense")
            if self._size + whole > size:
                break
            self._size += whole
            self.text_size += content - METADATA_PACKET.size
        # The last packet may be torn.
        self._store.cut(self._size)
        self.metadata_size = max(self.metadata_size, self._size)


class IncomingMetadata:
    """Metadata packets that come in parts.

    Attributes
    ----------
    left : int
        Bytes still to come.
    """

    def __init__(
        self, stream: MetadataStream, store: MetadataStore, at: int, size: int, padding: int
    ) -> None:
        self._stream = stream
        self._store = store
        self._begin = self._at = at
        self._padding = padding
        self.left = size

    def write(self, data: bytes) -> None:
        """Take the next part, at most `left` bytes."""
        self._put(data)
        self.left -= len(data)

    def finish(self) -> None:
        """They are whole."""
        padding = self._padding
        while padding > 0:
            self._put(_ZEROS[:padding])
            padding -= len(_ZEROS)
        self._stream.stored(self, self._at)

    def abort(self) -> None:
        """They will never be."""
        if self._stream.is_coming(self):
            self._store.cut(self._begin)

    def _put(self, data: bytes) -> None:
        if not self._stream.is_coming(self):
            raise RemoteProtocolError("its producer sends it again elsewhere")
        self._store.write(data, self._at)
        self._at += len(data)
