# SPDX-License-Identifier: MIT
"""What a consumer needs from the place packets go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ustconsumer._native.ring import Ring
from ustconsumer.consumer.packet import Packet, Stream, Trace

__all__ = [
    "ComputingSink",
    "DrainingWriter",
    "LinkedSink",
    "LiveWriter",
    "ResumingWriter",
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
class ComputingSink(Sink, Protocol):
    """A sink whose writers compute, without the GIL: several do more than one."""

    @property
    def workers(self) -> int:
        """Most threads that move packets at a time, where nobody asks for a number."""
