# SPDX-License-Identifier: MIT
"""Read a running session from a program of your own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, overload

from ustconsumer.client.connection import Connection
from ustconsumer.consumer.holes import Holes
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.observer import Observer
from ustconsumer.consumer.packet import Packet, Trace
from ustconsumer.consumer.streams import take_packet
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.protocol.control import ConsumerStats

__all__ = ["Attachment", "attach"]


@overload
def attach(
    session: str,
    *,
    consume: Literal[False] = ...,
    rundir: str | os.PathLike[str] | None = ...,
) -> Observer: ...
@overload
def attach(
    session: str, *, consume: Literal[True], rundir: str | os.PathLike[str] | None = ...
) -> Attachment: ...
def attach(
    session: str,
    *,
    consume: bool = False,
    rundir: str | os.PathLike[str] | None = None,
) -> Attachment | Observer:
    """Attach to a session of the registry.

    Parameters
    ----------
    session : str
        Its name.
    consume : bool
        Take the lease: packets read here are gone for everybody else. Without it this
        program reads along, and nobody notices.
    rundir : path, optional
        Run directory of the registry; default as ``drtrace``.

    Raises
    ------
    BrokenResourceError
        No registry answers.
    CommandError
        No such session, or a consumer has its lease.
    """
    connection = Connection.connect(rundir, role="consumer" if consume else "observer")
    try:
        if not consume:
            return Observer(connection, session)
        return Attachment(connection, session)
    except BaseException:
        connection.close()
        raise


class Attachment:
    """A session whose packets this program consumes; a context manager.

    Attributes
    ----------
    session : str
    output : str
        Where a disk consumer would have written.
    """

    def __init__(self, connection: Connection, session: str) -> None:
        self._subscription = Subscription(connection, session, "library", lambda mapped: None)
        self.session = self._subscription.session
        self.output = self._subscription.output
        self._stats = ConsumerStats()
        self._holes = Holes(
            self._subscription,
            lambda: self._subscription.streams.values(),
            self._stats.problems.append,
            lambda line: None,
        )

    def metadata(self) -> Iterator[tuple[Trace, bytes]]:
        """Yield metadata text (TSDL) appended since the last call, per trace."""
        yield from self._subscription.metadata()

    def packets(self, timeout: float | None = None) -> Iterator[Packet]:
        """Yield packets as they are delivered, until the session is destroyed.

        Parameters
        ----------
        timeout : float, optional
            Also end after this many seconds without a packet.

        Yields
        ------
        Packet
            Valid until the next one is asked for; then it is given back to the tracer.

        Raises
        ------
        RingBufferError
            A view of the last packet was kept, or a stream contradicts itself.
        """
        subscription = self._subscription
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            before = self._stats.packets
            yield from self._readable()
            self._holes.look()
            self._stats.repaired = self._holes.repaired
            if timeout is not None and self._stats.packets != before:
                deadline = time.monotonic() + timeout
            if subscription.drains:
                for drain in subscription.drains:
                    if drain.final:
                        for ring in subscription.streams:
                            ring.switch(True)
                    yield from self._readable()
                    subscription.drained(drain, self._stats)
                subscription.drains.clear()
                continue
            if subscription.ended or (subscription.orphaned and subscription.writers_gone):
                return
            subscription.rings.set_active(1)
            if subscription.rings.scan():
                # What says it is readable, but cannot be taken, must not keep us from sleeping.
                before = self._stats.packets
                yield from self._readable()
                if self._stats.packets != before:
                    continue
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            subscription.wait(min(left, 1.0, self._holes.wait_s))
            subscription.rings.set_active(0)

    def close(self) -> None:
        """Give the lease back; what was not read stays in the buffers for the next consumer."""
        self._subscription.release()
        self._subscription.close()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _readable(self) -> Iterator[Packet]:
        taken = -1
        while taken != self._stats.packets:
            taken = self._stats.packets
            for ring in self._subscription.rings.scan():
                yield from self._take_all(self._subscription.streams[ring])

    def _take_all(self, mapped: MappedStream) -> Iterator[Packet]:
        while (packet := take_packet(mapped)) is not None:
            given_back = False
            try:
                yield packet
                packet.release()
                mapped.ring.put_next()
                given_back = True
            finally:
                # Left in the middle of an iteration: the packet was not taken.
                if not given_back:
                    mapped.ring.put()
            self._stats.packets += 1
            self._stats.bytes += packet.packet_size
