# SPDX-License-Identifier: MIT
"""A trace on disk and at a relay: packets are read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ustconsumer._native.ring import Ring
from ustconsumer._native.window import Window
from ustconsumer.consumer.flow import Keeper, Outgoing
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.sender import Sender
from ustconsumer.consumer.sink import Sink, Writer
from ustconsumer.consumer.sinks.network import NetworkSink, NetworkWriter
from ustconsumer.errors import RingBufferError
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Credentials

__all__ = ["BothSink", "BothWriter", "FileSink", "FileWriter"]

_WORD = 1 << 64


class FileWriter(Writer, Protocol):
    """Writes the files of a stream, each packet whole or not at all."""

    @property
    def ends(self) -> tuple[int | None, int]:
        """Where the files ended when they were opened: see `DiskWriter.ends`."""


class FileSink(Sink, Protocol):
    """A sink with such writers."""

    def open(self, stream: Stream) -> FileWriter:
        """Create or continue the stream's files."""


class BothSink(NetworkSink):
    """Send a session to a relay, and write it to files.

    Parameters
    ----------
    files : FileSink
    url, identity, credentials, report, keeper
        As of `NetworkSink`.

    Notes
    -----
    A packet is written when it is first read, before it is on its way. Files keep what is in
    the buffers also while the relay takes nothing; then the buffers fill as those of a
    session that has the relay alone, and events are missing in both places.
    """

    def __init__(
        self,
        files: FileSink,
        url: RelayUrl,
        identity: Identity,
        credentials: Credentials | None = None,
        *,
        report: Callable[[str], None] = lambda line: None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(url, identity, credentials, report=report, keeper=keeper)
        self._files = files

    def open(self, stream: Stream) -> BothWriter:
        """Open the files and announce the stream."""
        return BothWriter(self._sender, stream, self._files.open(stream))

    def metadata(self, trace: Trace, text: bytes) -> None:
        """Write text, then send it."""
        # The one that may fail first: the text comes again then.
        self._files.metadata(trace, text)
        super().metadata(trace, text)

    def end(self, trace: Trace) -> None:
        """Close a trace in both places."""
        super().end(trace)
        self._files.end(trace)

    def close(self) -> None:
        """End the session in both places."""
        try:
            super().close()
        finally:
            self._files.close()


class BothWriter(NetworkWriter):
    """One stream on its way to the files and to the relay."""

    def __init__(self, sender: Sender, stream: Stream, files: FileWriter) -> None:
        super().__init__(sender, stream)
        self._files = files
        #: what the files get next; what comes before it is in them
        self._following, self._discarded = files.ends
        #: position behind what was written
        self._written = 0

    def attach(self, ring: Ring) -> None:
        """Read from the consumed position on; files may be ahead of it."""
        super().attach(ring)
        self._written = self._cursor
        ring.last_discarded = self._discarded

    def keep(self, packet: Outgoing) -> None:
        """Write a packet to the files, unless it is there."""
        if self._following is not None and packet.sequence < self._following:
            return
        raw = packet.content.ljust(packet.packet_size, b"\0")
        window = Window(raw, 0, len(raw))
        content_size = len(packet.content)
        self._files.write((Packet(self._stream, window, content_size, packet.sequence),))
        self._following = packet.sequence + 1

    def close(self) -> None:
        """The stream ended in both places."""
        try:
            super().close()
        finally:
            self._files.close()

    def _check_room(self) -> None:
        try:
            super()._check_room()
        except OSError:
            self._keep_ahead()
            raise

    def _keep_ahead(self) -> None:
        """Write what is in the buffer, though the relay does not take it now."""
        ring = self._ring
        # What may be overwritten is read once, when it is given back.
        if ring is None or self._overwrite:
            return
        ahead = (self._written - self._cursor) % _WORD
        if ahead > self._stream.geometry.buf_size:
            self._written = self._cursor
        while ring.get(self._written):
            try:
                self.keep(Outgoing(*ring.copy_held()))
            except RingBufferError:
                # The one who sends it finds the same, and says so.
                return
            finally:
                ring.put()
            self._written = (self._written + ring.subbuf_size) % _WORD
