# SPDX-License-Identifier: MIT
"""What a consumer needs from the place packets go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ustconsumer._native.ring import Ring
from ustconsumer.consumer.packet import Packet, Stream, Trace

if TYPE_CHECKING:
    from ustconsumer.consumer.chunkchange import ChunkChange
    from ustconsumer.protocol.control import Rotate

__all__ = [
    "ChunkedLink",
    "ComputingSink",
    "DrainingWriter",
    "LinkedSink",
    "LiveWriter",
    "ResumingWriter",
    "RotatingSink",
    "Sink",
    "Writer",
]


class Writer(Protocol):
    """Receives the packets of one stream, in order, from one thread at a time."""

    def write(self, packets: Sequence[Packet]) -> None:
        """Take packets; they are given back to the tracer when this returns.

        Raises
        ------
        OSError
            Not now: the same packets come again later.
        """

    def close(self) -> None:
        """The stream ended."""


@runtime_checkable
class ResumingWriter(Writer, Protocol):
    """A writer that goes on where an earlier consumer stopped."""

    def attach(self, ring: Ring) -> None:
        """Take the ring before the first packet: tell it what was written already."""


@runtime_checkable
class DrainingWriter(ResumingWriter, Protocol):
    """A writer that moves packets natively, without Python per packet.

    It also does `Ring.assign` when it is attached.
    """

    def drain(self, ring: Ring, max_bytes: int) -> int:
        """Move readable packets; return a ``DRAIN_*`` value of `ustconsumer._native.ring`."""

    def settle(self) -> None:
        """Packets were moved, or not: called between passes, at least every few megabytes."""


@runtime_checkable
class LiveWriter(Writer, Protocol):
    """A writer whose readers follow it while it goes on."""

    @property
    def declared(self) -> bool:
        """Whether readers of the trace know of this stream's class yet."""

    def say_idle(self, timestamp: int) -> None:
        """Tell readers that nothing older than this (CLOCK_MONOTONIC, ns) comes."""


class Sink(Protocol):
    """Where a session's packets go."""

    def open(self, stream: Stream) -> Writer:
        """Return the writer of a stream.

        Raises
        ------
        OSError, UstConsumerError
            The stream cannot be written; the message reaches the session's owner.
        """

    def metadata(self, trace: Trace, text: bytes) -> None:
        """Take more metadata text of a trace, whole declarations, before packets that need it.

        A text that begins with ``/* CTF 1.8 */`` (`ustconsumer.ctf.packets.begins`) is all of
        it: it takes the place of what came before (``drtrace regenerate metadata``).
        """

    def end(self, trace: Trace) -> None:
        """A trace ended before its session: all its writers were closed, no more text comes."""

    def close(self) -> None:
        """The session ended; every writer was closed before."""


@runtime_checkable
class LinkedSink(Sink, Protocol):
    """A sink at the other end of a link: packets are taken now and arrive later.

    Its writers are `DrainingWriter`: they read ahead (`Ring.ahead`), and give back in
    ``settle`` what has arrived.
    """

    @property
    def fd(self) -> int:
        """An eventfd: readable when packets arrived or there is room again."""

    @property
    def place(self) -> str:
        """Where the trace is at the other end; empty while it is not known."""

    @property
    def live_us(self) -> int:
        """Microseconds after which readers are told how far an idle stream is; 0: never."""


@runtime_checkable
class RotatingSink(Sink, Protocol):
    """A sink whose trace can go on in another chunk, or be cleared."""

    def begin_chunk(self, following: str) -> None:
        """Have streams opened in the next chunk from now on.

        Metadata goes to both, and comes again from its beginning.

        Raises
        ------
        UsageError
            The directory's name leaves the output.
        """

    def behind(self, stream: Stream) -> bool:
        """Return whether a stream's writer is still that of the old chunk."""

    def advance(self, stream: Stream) -> Writer:
        """Return the writer of a stream in the next chunk; the old one was closed before.

        Raises
        ------
        OSError, UstConsumerError
            As `Sink.open`.
        """

    def end_chunk(self, archive: str) -> None:
        """Move the old chunk to its archive: no stream is behind any more.

        Raises
        ------
        OSError
            It stays where it is.
        """

    def clear(self, stream: Stream) -> None:
        """Forget what was written of a stream; its writer was closed before.

        Raises
        ------
        OSError
            It cannot be removed.
        """

    def clear_ended(self) -> None:
        """Forget the traces that nobody writes any more."""


@runtime_checkable
class ChunkedLink(LinkedSink, Protocol):
    """A sink at the other end of a link, where the trace can go on in another chunk."""

    def change_chunk(self, message: Rotate) -> ChunkChange:
        """Have what was read so far in this chunk, and what is read from now on in the next."""

    def go_on(self, change: ChunkChange) -> None:
        """Say that what has arrived was given back to its buffers."""

    def give_up(self, change: ChunkChange) -> str:
        """Let a change be that takes too long; return why it does."""

    def archive_last(self) -> None:
        """Have the last chunk with the others, when the session has ended."""


@runtime_checkable
class ComputingSink(Sink, Protocol):
    """A sink whose writers compute, without the GIL: several do more than one."""

    @property
    def workers(self) -> int:
        """Most threads that move packets at a time, where nobody asks for a number."""
